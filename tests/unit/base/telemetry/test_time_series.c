#include "base/telemetry/time_series.h"

#include <check.h>
#include <stdlib.h>

#define SLOT_MS TIME_SERIES_INTERVAL_MS

static struct time_series *series;
static struct time_series_sample samples[TIME_SERIES_SAMPLES];
static int64_t slot;

static void setup(void) {
    series = time_series_create();
    ck_assert_ptr_nonnull(series);
}

static void teardown(void) {
    time_series_destroy(series);
}

static void add(int64_t wall_ms, int64_t now_ms, int64_t online, int64_t received) {
    int64_t values[SERIES_COUNT] = {[SERIES_ONLINE] = online, [SERIES_MESSAGES_IN] = received};
    time_series_add(series, wall_ms, now_ms, values);
}

START_TEST(rates_are_those_since_the_sample_before) {
    ck_assert(time_series_is_due(series, 5 * SLOT_MS + 1));
    add(5 * SLOT_MS + 1, 100, 1, 700);
    ck_assert_uint_eq(time_series_copy(series, samples, &slot), 0);
    ck_assert(!time_series_is_due(series, 5 * SLOT_MS + 400));
    ck_assert(time_series_is_due(series, 6 * SLOT_MS));
    add(6 * SLOT_MS, 100 + 8000, 3, 740);
    add(6 * SLOT_MS + 300, 100 + 8300, 9, 900); /* not due */
    add(7 * SLOT_MS, 100 + 18000, 4, 741);
    ck_assert_uint_eq(time_series_copy(series, samples, &slot), 2);
    ck_assert_int_eq(slot, 7);
    ck_assert_int_eq(samples[0].values[SERIES_ONLINE], 3);
    ck_assert_int_eq(samples[0].values[SERIES_MESSAGES_IN], 5000);
    ck_assert_int_eq(samples[1].values[SERIES_ONLINE], 4);
    ck_assert_int_eq(samples[1].values[SERIES_MESSAGES_IN], 100);
}
END_TEST

START_TEST(slots_that_were_missed_are_empty) {
    add(0, 0, 1, 0);
    add(1 * SLOT_MS, 1 * SLOT_MS, 1, 10);
    add(4 * SLOT_MS, 4 * SLOT_MS, 1, 40);
    ck_assert_uint_eq(time_series_copy(series, samples, &slot), 4);
    ck_assert(samples[0].taken && !samples[1].taken && !samples[2].taken && samples[3].taken);
    ck_assert_int_eq(samples[3].values[SERIES_MESSAGES_IN], 1000);
}
END_TEST

START_TEST(an_hour_is_kept) {
    for (int64_t i = 0; i <= TIME_SERIES_SAMPLES + 5; i++) {
        add(i * SLOT_MS, i * SLOT_MS, i, 0);
    }
    ck_assert_uint_eq(time_series_copy(series, samples, &slot), TIME_SERIES_SAMPLES);
    ck_assert_int_eq(samples[0].values[SERIES_ONLINE], 6);
    ck_assert_int_eq(samples[TIME_SERIES_SAMPLES - 1].values[SERIES_ONLINE],
                     TIME_SERIES_SAMPLES + 5);
    add((3 * TIME_SERIES_SAMPLES) * SLOT_MS, (3 * TIME_SERIES_SAMPLES) * SLOT_MS, 1, 0);
    ck_assert_uint_eq(time_series_copy(series, samples, &slot), TIME_SERIES_SAMPLES);
    ck_assert(!samples[0].taken && samples[TIME_SERIES_SAMPLES - 1].taken);
}
END_TEST

START_TEST(a_step_of_the_wall_clock_begins_anew) {
    static const int64_t steps_ms[] = {-3600000, 3600000};
    for (size_t i = 0; i < sizeof steps_ms / sizeof *steps_ms; i++) {
        int64_t wall_ms = 1000 * SLOT_MS;
        teardown();
        setup();
        add(wall_ms, 0, 1, 0);
        add(wall_ms + SLOT_MS, SLOT_MS, 1, 10);
        wall_ms += steps_ms[i];
        add(wall_ms + 2 * SLOT_MS, 2 * SLOT_MS, 1, 20);
        ck_assert_uint_eq(time_series_copy(series, samples, &slot), 0);
        add(wall_ms + 3 * SLOT_MS, 3 * SLOT_MS, 1, 30);
        ck_assert_uint_eq(time_series_copy(series, samples, &slot), 1);
        ck_assert_int_eq(samples[0].values[SERIES_MESSAGES_IN], 1000);
    }
}
END_TEST

START_TEST(a_clock_that_is_set_back_a_little_keeps_the_samples) {
    add(0, 0, 1, 0);
    add(1 * SLOT_MS, 1 * SLOT_MS, 2, 10);
    add(1 * SLOT_MS - 300, 1 * SLOT_MS + 200, 9, 15);
    ck_assert(time_series_is_due(series, 1 * SLOT_MS - 100));
    add(1 * SLOT_MS + 100, 1 * SLOT_MS + 600, 9, 15);
    add(2 * SLOT_MS, 2 * SLOT_MS + 500, 3, 10 + 105);
    ck_assert_uint_eq(time_series_copy(series, samples, &slot), 2);
    ck_assert_int_eq(slot, 2);
    ck_assert_int_eq(samples[0].values[SERIES_ONLINE], 2);
    ck_assert_int_eq(samples[1].values[SERIES_ONLINE], 3);
    ck_assert_int_eq(samples[1].values[SERIES_MESSAGES_IN], 10000);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("time_series");
    TCase *tcase = tcase_create("time_series");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, rates_are_those_since_the_sample_before);
    tcase_add_test(tcase, slots_that_were_missed_are_empty);
    tcase_add_test(tcase, an_hour_is_kept);
    tcase_add_test(tcase, a_step_of_the_wall_clock_begins_anew);
    tcase_add_test(tcase, a_clock_that_is_set_back_a_little_keeps_the_samples);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
