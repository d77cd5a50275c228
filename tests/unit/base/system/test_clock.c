/* Tests of base/system/clock and condition: order, replacement, text, sleep, waits. */
#include "base/system/clock.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include "base/system/condition.h"

START_TEST(time_never_runs_backwards) {
    int64_t last = clock_us();
    for (int i = 0; i < 10000; i++) {
        int64_t now = clock_us();
        ck_assert_int_ge(now, last);
        last = now;
    }
    ck_assert_int_ge(clock_ms(), last / 1000);
}
END_TEST

START_TEST(tests_can_move_time_but_not_the_wall_clock) {
    int64_t wall = clock_wall_ms();
    int64_t before_ms = clock_ms();
    int64_t before_us = clock_us();
    clock_advance_ms(3600000);
    ck_assert_int_ge(clock_ms(), before_ms + 3600000);
    ck_assert_int_ge(clock_us(), before_us + 3600000000);
    ck_assert_int_lt(clock_wall_ms(), wall + 3600000);
    clock_advance_ms(-3600000);
    ck_assert_int_lt(clock_ms(), before_ms + 3600000);
}
END_TEST

START_TEST(rfc3339_shows_utc_with_milliseconds) {
    char text[CLOCK_RFC3339_LEN];
    ck_assert_str_eq(clock_rfc3339(0, text), "1970-01-01T00:00:00.000Z");
    ck_assert_str_eq(clock_rfc3339(1767323045678, text), "2026-01-02T03:04:05.678Z");
    ck_assert_str_eq(clock_rfc3339(951782400000, text), "2000-02-29T00:00:00.000Z");
    ck_assert_str_eq(clock_rfc3339(-1, text), "1969-12-31T23:59:59.999Z");
    ck_assert_str_eq(clock_rfc3339(253402300799999, text), "9999-12-31T23:59:59.999Z");
}
END_TEST

START_TEST(rfc3339_of_an_impossible_time_is_the_epoch) {
    char text[CLOCK_RFC3339_LEN];
    ck_assert_str_eq(clock_rfc3339(253402300800000, text), "1970-01-01T00:00:00.000Z");
    ck_assert_str_eq(clock_rfc3339(INT64_MAX, text), "1970-01-01T00:00:00.000Z");
    ck_assert_str_eq(clock_rfc3339(INT64_MIN, text), "1970-01-01T00:00:00.000Z");
}
END_TEST

static void ignore_signal(int number) {
    (void)number;
}

struct poker {
    pthread_t target;
    _Atomic bool stop;
};

static void *poke(void *argument) {
    struct poker *poker = argument;
    while (!atomic_load(&poker->stop)) {
        pthread_kill(poker->target, SIGUSR1);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return NULL;
}

START_TEST(sleep_lasts_its_time_although_signals_come) {
    struct sigaction action = {.sa_handler = ignore_signal};
    sigaction(SIGUSR1, &action, NULL);
    struct poker poker = {.target = pthread_self()};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, poke, &poker), 0);
    int64_t start = clock_us();
    clock_sleep_ms(30);
    int64_t slept_us = clock_us() - start;
    atomic_store(&poker.stop, true);
    pthread_join(thread, NULL);
    ck_assert_int_ge(slept_us, 30000);
    clock_sleep_ms(0);
    clock_sleep_ms(-1);
}
END_TEST

START_TEST(a_wait_ends_at_its_deadline_and_not_before) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition;
    condition_init(&condition);
    struct timespec deadline = condition_deadline(1100), before = condition_deadline(0), now;
    int result = 0;
    pthread_mutex_lock(&lock);
    while (result == 0) {
        result = pthread_cond_timedwait(&condition, &lock, &deadline);
    }
    pthread_mutex_unlock(&lock);
    clock_gettime(CLOCK_MONOTONIC, &now);
    ck_assert_int_eq(result, ETIMEDOUT);
    ck_assert_int_ge((now.tv_sec - before.tv_sec) * 1000 + (now.tv_nsec - before.tv_nsec) / 1000000,
                     1099);
    ck_assert_int_lt(deadline.tv_nsec, 1000000000);
    ck_assert_int_gt(condition_deadline(INT64_MAX).tv_sec, now.tv_sec); /* no overflow */
    pthread_cond_destroy(&condition);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("clock");
    tcase_add_test(cases, time_never_runs_backwards);
    tcase_add_test(cases, tests_can_move_time_but_not_the_wall_clock);
    tcase_add_test(cases, rfc3339_shows_utc_with_milliseconds);
    tcase_add_test(cases, rfc3339_of_an_impossible_time_is_the_epoch);
    tcase_add_test(cases, sleep_lasts_its_time_although_signals_come);
    tcase_add_test(cases, a_wait_ends_at_its_deadline_and_not_before);
    Suite *suite = suite_create("clock");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
