/* Tests of base/system/thread_watchdog and base/config/system_limits. */
#include "base/system/thread_watchdog.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include "base/system/clock.h"
#include "base/config/system_limits.h"

START_TEST(a_watched_thread_that_stands_still_is_named) {
    int64_t still_ms;
    thread_watchdog_kick(); /* not watched: nothing */
    ck_assert_ptr_null(thread_watchdog_stalled(&still_ms));
    thread_watchdog_register("one", 1000);
    clock_advance_ms(900);
    ck_assert_ptr_null(thread_watchdog_stalled(&still_ms));
    clock_advance_ms(200);
    ck_assert_str_eq(thread_watchdog_stalled(&still_ms), "one");
    ck_assert_int_ge(still_ms, 1100);
    thread_watchdog_kick();
    ck_assert_ptr_null(thread_watchdog_stalled(&still_ms));
    clock_advance_ms(2000);
    thread_watchdog_unregister();
    ck_assert_ptr_null(thread_watchdog_stalled(&still_ms));
}
END_TEST

static void *stand_still(void *argument) {
    thread_watchdog_register(argument, 1000);
    clock_advance_ms(3000); /* ends without thread_watchdog_unregister, as if it hung */
    return NULL;
}

START_TEST(one_thread_does_not_speak_for_another) {
    int64_t still_ms;
    pthread_t thread;
    thread_watchdog_register("alive", 1000);
    ck_assert_int_eq(pthread_create(&thread, NULL, stand_still, "hung"), 0);
    pthread_join(thread, NULL);
    thread_watchdog_kick();
    ck_assert_str_eq(thread_watchdog_stalled(&still_ms), "hung");
}
END_TEST

START_TEST(the_size_is_lowered_to_what_fits_into_the_files) {
    struct conf conf = {.node_size = 10000, .http_workers = 8, .http_connections_max = 1000};
    int64_t beside = system_limits_files_reserved(&conf);
    ck_assert(!system_limits_fit_files(&conf, 10000 + beside));
    ck_assert_int_eq(conf.node_size, 10000);
    ck_assert(system_limits_fit_files(&conf, 9999 + beside));
    ck_assert_int_eq(conf.node_size, 9999);
    ck_assert_int_eq(conf.http_connections_max, 1000);
    ck_assert(system_limits_fit_files(&conf, 1024));
    ck_assert_int_eq(conf.http_connections_max, 256);
    ck_assert_int_eq(conf.node_size + system_limits_files_reserved(&conf), 1024);
    ck_assert(system_limits_fit_files(&conf, 100));
    ck_assert_int_eq(conf.node_size, 0);
    conf.node_size = 0; /* a node that only serves the API */
    ck_assert(!system_limits_fit_files(&conf, 100000));
    ck_assert_int_gt(system_limits_port_count(), 0);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {a_watched_thread_that_stands_still_is_named,
                                  one_thread_does_not_speak_for_another,
                                  the_size_is_lowered_to_what_fits_into_the_files};
    Suite *suite = suite_create("thread_watchdog");
    TCase *tcase = tcase_create("pulse");
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
