/* The sinks of a node: names, what the router sends them, status, threads. */
#include "sink/sinks.h"

#include "message/sink_name.h"
#include "sink_fixture.h"

static struct router *router;
static struct sinks *sinks;
static struct route route;

static void setup(void) {
    router = router_create();
    sinks = sinks_create(&(struct sink_environment){.node = "n", .redis_url = ""}, router);
    route = (struct route){0};
    ck_assert(router && sinks && receipts_init(&answers));
}

static void teardown(void) {
    sinks_stop(sinks, WAIT_MS);
    sinks_join(sinks);
    collect_answers();
    sinks_destroy(sinks);
    router_destroy(router);
    receipts_fini(&answers);
}

static void add(const char *name, const char *label) {
    char fault[SINK_FAULT_LEN] = "";
    enum err err = sinks_add(
        sinks, &(struct sink_config){.name = name, .label = label, .type = "null"}, fault);
    ck_assert_msg(err == ERR_OK, "%s", fault);
}

static void start(void) {
    char fault[SINK_FAULT_LEN] = "";
    ck_assert_msg(sinks_start(sinks, fault) == ERR_OK, "%s", fault);
}

static struct sink_status status_of(const char *name) {
    struct sink_status status;
    size_t cursor = 0;
    while (sinks_next(sinks, &cursor, &status)) {
        if (strcmp(status.name, name) == 0) {
            return status;
        }
    }
    ck_abort_msg("no sink %s", name);
}

static void send_to(const char *name, int count) {
    route_set(&route, router, name);
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(route_submit(&route, numbered_message(i, 0), NULL), ERR_OK);
    }
    router_flush(router);
}

START_TEST(a_name_is_lowercase_letters_digits_and_two_signs) {
    static const char *const good[] = {"a", "0", "a-b_c9", "default"};
    static const char *const bad[] = {"", "-a", "_a", "A", "a.b", "a/b", "a b", "\xC3\xA4"};
    char longest[SINK_NAME_MAX + 2];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_msg(sink_name_is_valid(good[i]), "%s", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(!sink_name_is_valid(bad[i]), "%s", bad[i]);
    }
    memset(longest, 'a', sizeof longest);
    longest[SINK_NAME_MAX + 1] = '\0';
    ck_assert(!sink_name_is_valid(longest));
    longest[SINK_NAME_MAX] = '\0';
    ck_assert(sink_name_is_valid(longest));
}
END_TEST

START_TEST(messages_go_to_the_sink_that_is_named_and_else_to_the_first) {
    add("default", "null");
    add("other", NULL);
    start();
    send_to("other", 3);
    send_to(NULL, 5);
    send_to("default", 7);
    send_to("null", 11); /* the label of the default */
    AWAIT(status_of("other").accepted == 3 && status_of("default").accepted == 23);
}
END_TEST

START_TEST(the_default_has_its_type_as_a_second_name) {
    add("default", "null");
    add("other", NULL);
    ck_assert(sinks_has(sinks, "default") && sinks_has(sinks, "null") && sinks_has(sinks, "other"));
    ck_assert(!sinks_has(sinks, "file") && !sinks_has(NULL, "default"));
    ck_assert_str_eq(status_of("default").label, "null");
    ck_assert_str_eq(status_of("other").label, "other");
}
END_TEST

START_TEST(a_wrong_sink_is_not_added) {
    char fault[SINK_FAULT_LEN] = "";
    struct sink_status status;
    size_t cursor = 0;
    ck_assert_int_eq(sinks_add(sinks, &(struct sink_config){.name = "a", .type = "pigeon"}, fault),
                     ERR_ARGUMENT);
    ck_assert(strstr(fault, "pigeon") && !sinks_next(sinks, &cursor, &status));
    for (int i = 0; i < SINKS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        add(name, NULL);
    }
    ck_assert_int_eq(sinks_add(sinks, &(struct sink_config){.name = "a", .type = "null"}, fault),
                     ERR_FULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sinks");
    TCase *tcase = tcase_create("sinks");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_name_is_lowercase_letters_digits_and_two_signs);
    tcase_add_test(tcase, messages_go_to_the_sink_that_is_named_and_else_to_the_first);
    tcase_add_test(tcase, the_default_has_its_type_as_a_second_name);
    tcase_add_test(tcase, a_wrong_sink_is_not_added);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
