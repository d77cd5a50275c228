/* Tests of base/telemetry/latency: what was added lately. */
#include "base/telemetry/latency.h"

#include <check.h>
#include <stdlib.h>

static void add(struct latency *latency, int64_t count) {
    struct histogram_values values = {.sum_us = 0};
    for (int64_t i = 0; i < count; i++) {
        histogram_values_add(&values, 400);
    }
    latency_add(latency, &values);
}

static int64_t recent_at(struct latency *latency, int64_t now_ms) {
    struct histogram_values values = latency_recent(latency, now_ms);
    ck_assert_int_eq(values.sum_us, 400 * histogram_values_count(&values));
    return histogram_values_count(&values);
}

START_TEST(the_last_turn_and_this_one_are_recent) {
    struct latency latency = {.next_turn_at_ms = 0};
    int64_t now_ms = 1000;
    latency_turn(&latency, now_ms);
    add(&latency, 1);
    latency_turn(&latency, now_ms + 1); /* not due */
    ck_assert_int_eq(recent_at(&latency, now_ms + 1), 1);
    now_ms += LATENCY_TURN_MS;
    latency_turn(&latency, now_ms);
    add(&latency, 2);
    ck_assert_int_eq(recent_at(&latency, now_ms), 3);
    now_ms += LATENCY_TURN_MS;
    latency_turn(&latency, now_ms);
    add(&latency, 4);
    ck_assert_int_eq(recent_at(&latency, now_ms), 6);
    struct histogram_values total = latency_total(&latency);
    ck_assert_int_eq(histogram_values_count(&total), 7);
}
END_TEST

START_TEST(after_an_idle_time_only_what_came_then_is_recent) {
    struct latency latency = {.next_turn_at_ms = 0};
    latency_turn(&latency, 1000);
    add(&latency, 5);
    ck_assert_int_eq(recent_at(&latency, 1000 + LATENCY_TURN_MS), 5);
    ck_assert_int_eq(recent_at(&latency, 1000 + 2 * LATENCY_TURN_MS), 0);
    latency_turn(&latency, 1000 + 10 * LATENCY_TURN_MS);
    add(&latency, 1);
    ck_assert_int_eq(recent_at(&latency, 1000 + 10 * LATENCY_TURN_MS), 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("latency");
    TCase *all = tcase_create("all");
    tcase_add_test(all, the_last_turn_and_this_one_are_recent);
    tcase_add_test(all, after_an_idle_time_only_what_came_then_is_recent);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
