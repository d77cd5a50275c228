/* Tests of routes when memory runs out: nothing is lost, sent elsewhere or held for ever. */
#include "message/router.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "failing_malloc.h"
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
    tcase_add_test(tcase, a_route_without_memory_is_as_before);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
