/* Tests of routes when memory runs out: nothing is lost, sent elsewhere or held for ever. */
#include "message/router.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "failing_malloc.h"
#include "message/shape/template.h"
#include "router_fixture.h"

static void setup(void) {
    setup_router();
    ck_assert(router_set_routes(
        router, table_of("[{\"match\":{\"topic\":\"s\"},\"to\":[\"second\"],\"lua\":"
                         "\"return function(m) return {m, m} end\"}, "
                         "{\"match\":{\"labels\":{\"site\":\"oslo\"}},\"to\":[\"second\"]}]")));
}

/* With the allocation of that number failing. */
static enum err submit_failing(struct message *message, long allocation) {
    left = allocation;
    enum err err = route_submit(&route, message, NULL);
    left = -1;
    return err;
}

START_TEST(a_message_without_memory_is_offered_again_soon) {
    route_set(&route, router, NULL, NULL, oslo());
    for (long allocation = 0; allocation < 40; allocation++) {
        struct message *message = message_to("s", 1);
        enum err err = submit_failing(message, allocation);
        if (err != ERR_OK) {
            ck_assert_int_eq(err, ERR_FULL);
            ck_assert(route_has_room(&route));
            ck_assert_int_eq(submit_failing(message, -1), ERR_OK);
        }
        size_t stored = drain(second); /* by script twice, and itself */
        ck_assert_msg(stored == 3, "%ld: %zu", allocation, stored);
        ck_assert_uint_eq(drain(first), 0);
    }
    ck_assert(!CAN_FAIL || failed > 0);
}
END_TEST

static struct message *message_with_json(void) {
    return message_create(&(struct message){.id = "i",
                                            .client_id = "c",
                                            .topic = "t",
                                            .payload = (const uint8_t *)"{\"b\":[2],\"a\":1}",
                                            .payload_len = 15,
                                            .qos = 1});
}

/* The payload cannot be read, so nobody knows whether the condition holds. */
START_TEST(a_message_whose_condition_has_no_memory_does_not_go_elsewhere) {
    ck_assert(
        router_set_routes(router, table_of("[{\"match\":{\"when\":{\"pointer\":\"/a\",\"eq\":1}},"
                                           "\"to\":[\"second\"]}]")));
    route_set(&route, router, NULL, NULL, NULL);
    for (long allocation = 0; allocation < 20; allocation++) {
        struct message *message = message_with_json();
        if (submit_failing(message, allocation) != ERR_OK) {
            ck_assert(route_has_room(&route));
            ck_assert_int_eq(submit_failing(message, -1), ERR_OK);
        }
        ck_assert_msg(drain(second) == 1, "%ld", allocation);
        ck_assert_uint_eq(drain(first), 0);
    }
    ck_assert(!CAN_FAIL || failed > 0);
}
END_TEST

/* What a message lacks is rejected for ever. */
START_TEST(a_template_without_memory_lacks_nothing) {
    static const char *const texts[] = {"{json./a}", "{json./a:json}"};
    char missing[MESSAGE_FAULT_LEN];
    struct message *message = message_with_json();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct template *template;
        ck_assert_int_eq(template_compile(&template, texts[i], missing), ERR_OK);
        for (long allocation = 0; allocation < 20; allocation++) {
            struct message_view view;
            struct buffer out;
            buffer_init(&out);
            message_view_init(&view, message, "n");
            left = allocation;
            enum err err = template_render(template, &view, &out, missing);
            left = -1;
            ck_assert_msg(err == ERR_MEMORY || (err == ERR_OK && memcmp(out.data, "1", 2) == 0),
                          "%s, %ld: %d", texts[i], allocation, err);
            message_view_fini(&view);
            buffer_fini(&out);
        }
        template_destroy(template);
    }
    message_destroy(message);
    ck_assert(!CAN_FAIL || failed > 0);
}
END_TEST

START_TEST(a_route_without_memory_is_as_before) {
    bool set = false;
    ck_assert(router_set_routes(router, NULL));
    ck_assert(route_set(&route, router, NULL, NULL, NULL));
    for (long allocation = 0; !set; allocation++) {
        struct message_origin *origin = oslo();
        left = allocation;
        set = route_set(&route, router, "second", NULL, origin);
        left = -1;
        ck_assert(set || CAN_FAIL);
        struct message *message = message_to("t", 1);
        ck_assert_int_eq(submit_failing(message, -1), ERR_OK);
        ck_assert_uint_eq(drain(set ? second : first), 1);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("route_memory");
    TCase *tcase = tcase_create("route_memory");
    tcase_add_checked_fixture(tcase, setup, teardown_router);
    tcase_add_test(tcase, a_message_without_memory_is_offered_again_soon);
    tcase_add_test(tcase, a_message_whose_condition_has_no_memory_does_not_go_elsewhere);
    tcase_add_test(tcase, a_template_without_memory_lacks_nothing);
    tcase_add_test(tcase, a_route_without_memory_is_as_before);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
