/* Tests of base/pulse and base/limits. */
#include "base/pulse.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/limits.h"

START_TEST(a_watched_thread_that_stands_still_is_named) {
    int64_t still_ms;
    pulse(); /* not watched: nothing */
    ck_assert_ptr_null(pulse_stalled(&still_ms));
    pulse_begin("one", 1000);
    clock_advance_ms(900);
    ck_assert_ptr_null(pulse_stalled(&still_ms));
    clock_advance_ms(200);
    ck_assert_str_eq(pulse_stalled(&still_ms), "one");
    ck_assert_int_ge(still_ms, 1100);
    pulse();
    ck_assert_ptr_null(pulse_stalled(&still_ms));
    clock_advance_ms(2000);
    pulse_end();
    ck_assert_ptr_null(pulse_stalled(&still_ms));
}
END_TEST

static void *stand_still(void *argument) {
    pulse_begin(argument, 1000);
    clock_advance_ms(3000); /* ends without pulse_end: as if it hung */
    return NULL;
}

START_TEST(one_thread_does_not_speak_for_another) {
    int64_t still_ms;
    pthread_t thread;
    pulse_begin("alive", 1000);
    ck_assert_int_eq(pthread_create(&thread, NULL, stand_still, "hung"), 0);
    pthread_join(thread, NULL);
    pulse();
    ck_assert_str_eq(pulse_stalled(&still_ms), "hung");
}
END_TEST

START_TEST(the_size_is_lowered_to_what_fits_into_the_files) {
    struct conf conf = {.node_size = 10000, .http_workers = 8, .http_connections_max = 1000};
    int64_t beside = limits_files_beside(&conf);
    ck_assert(!limits_fit_files(&conf, 10000 + beside));
    ck_assert_int_eq(conf.node_size, 10000);
    ck_assert(limits_fit_files(&conf, 9999 + beside));
    ck_assert_int_eq(conf.node_size, 9999);
    ck_assert_int_eq(conf.http_connections_max, 1000);
    ck_assert(limits_fit_files(&conf, 1024));
    ck_assert_int_eq(conf.http_connections_max, 256);
    ck_assert_int_eq(conf.node_size + limits_files_beside(&conf), 1024);
    ck_assert(limits_fit_files(&conf, 100));
    ck_assert_int_eq(conf.node_size, 0);
    conf.node_size = 0; /* a node that only serves the API */
    ck_assert(!limits_fit_files(&conf, 100000));
    ck_assert_int_gt(limits_ports(), 0);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {a_watched_thread_that_stands_still_is_named,
                                  one_thread_does_not_speak_for_another,
                                  the_size_is_lowered_to_what_fits_into_the_files};
    Suite *suite = suite_create("pulse");
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
