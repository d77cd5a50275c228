/* The limits of a client: how many messages and bytes pass, and how long the next one waits. */
#include "message/rate_limit.h"

#include <check.h>
#include <stdlib.h>

#define SECOND     INT64_C(1000000000)
#define PASSED_MAX 1000000

static struct rate_limit limit;
static int64_t now;

static void setup(void) {
    limit = (struct rate_limit){0};
    now = 1000 * SECOND;
}

static void set(uint32_t messages_per_s, uint32_t bytes_per_s, uint32_t burst) {
    rate_limit_set(&limit, &(struct rate_limit_values){messages_per_s, bytes_per_s, burst});
}

/* How many messages of that size pass at once. */
static int pass(size_t bytes) {
    int n = 0;
    while (n < PASSED_MAX && rate_limit_wait_ns(&limit, now) == 0) {
        rate_limit_take(&limit, bytes, now);
        n++;
    }
    return n;
}

START_TEST(without_limits_everything_passes) {
    ck_assert(!rate_limit_is_set(&limit));
    ck_assert_int_eq(pass(1000000), PASSED_MAX);
    set(5, 0, 0);
    pass(1);
    ck_assert(rate_limit_is_set(&limit) && rate_limit_wait_ns(&limit, now) > 0);
    rate_limit_set(&limit, NULL);
    ck_assert(!rate_limit_is_set(&limit));
    ck_assert_int_eq(rate_limit_wait_ns(&limit, now), 0);
}
END_TEST

START_TEST(a_burst_passes_and_then_the_rate) {
    static const struct {
        uint32_t per_s, burst;
        int at_once;
    } cases[] = {{10, 0, 10}, {10, 50, 50}, {1, 0, 2}, {1000, 0, 1000}};
    set(cases[_i].per_s, 0, cases[_i].burst);
    ck_assert_int_eq(pass(1), cases[_i].at_once);
    ck_assert_int_eq(rate_limit_wait_ns(&limit, now), SECOND / cases[_i].per_s);
    now += SECOND;
    ck_assert_int_eq(pass(1), (int)cases[_i].per_s);
    now += 1000 * SECOND; /* the bucket holds no more than the burst */
    ck_assert_int_eq(pass(1), cases[_i].at_once);
}
END_TEST

START_TEST(a_rate_that_divides_no_second_is_kept) {
    int n = 0;
    set(300000, 0, 0);
    pass(1);
    for (int i = 0; i < 100; i++) {
        now += SECOND / 100;
        n += pass(1);
    }
    ck_assert_int_ge(n, 299000);
    ck_assert_int_le(n, 301000);
}
END_TEST

/* Waits end up to half a second late. */
START_TEST(a_wait_that_ends_late_does_not_lower_the_rate) {
    int64_t begin = now;
    int n = 0;
    set(1, 0, 0);
    pass(1);
    while (n < 100) {
        now += rate_limit_wait_ns(&limit, now) + SECOND / 2;
        n += pass(1);
    }
    ck_assert_int_le(now - begin, 102 * SECOND);
    ck_assert_int_ge(now - begin, 98 * SECOND);
}
END_TEST

START_TEST(bytes_are_limited_and_any_size_passes) {
    set(0, 1000, 0);
    ck_assert_int_eq(pass(100), 10);
    now += SECOND;
    ck_assert_int_eq(pass(5000), 1); /* the next ones wait for it */
    ck_assert_int_ge(rate_limit_wait_ns(&limit, now), 4 * SECOND);
    now += 4 * SECOND + 1;
    ck_assert_int_eq(pass(1), 1);
}
END_TEST

START_TEST(the_stricter_limit_counts) {
    set(10, 1000, 0);
    ck_assert_int_eq(pass(500), 2);
    now += 10 * SECOND;
    ck_assert_int_eq(pass(1), 10);
}
END_TEST

START_TEST(what_passes_although_it_should_wait_costs_nothing) {
    set(10, 0, 0);
    pass(1);
    for (int i = 0; i < 1000; i++) {
        rate_limit_take(&limit, 1, now);
    }
    ck_assert_int_eq(rate_limit_wait_ns(&limit, now), SECOND / 10);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("rate_limit");
    TCase *tcase = tcase_create("rate_limit");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, without_limits_everything_passes);
    tcase_add_loop_test(tcase, a_burst_passes_and_then_the_rate, 0, 4);
    tcase_add_test(tcase, a_rate_that_divides_no_second_is_kept);
    tcase_add_test(tcase, a_wait_that_ends_late_does_not_lower_the_rate);
    tcase_add_test(tcase, bytes_are_limited_and_any_size_passes);
    tcase_add_test(tcase, the_stricter_limit_counts);
    tcase_add_test(tcase, what_passes_although_it_should_wait_costs_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
