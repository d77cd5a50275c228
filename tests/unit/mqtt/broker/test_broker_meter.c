#include <check.h>
#include <stdlib.h>
#include "mqtt/broker/broker_meter.h"

static struct broker_rates read_at(const struct broker_meter *meter, int64_t now_ms) {
    struct broker_rates rates;
    broker_meter_read(meter, now_ms, &rates);
    return rates;
}

START_TEST(nothing_was_noted) {
    struct broker_meter meter = {0};
    struct broker_rates rates = read_at(&meter, 1000000);
    ck_assert_int_eq(histogram_values_quantile(&rates.pings, 0.5), -1);
    ck_assert_double_eq(rates.connects_per_s, 0);
}
END_TEST

START_TEST(round_trips_of_two_minutes_make_the_percentiles) {
    struct broker_meter meter = {0};
    for (int i = 0; i < 98; i++) {
        broker_meter_note_ping(&meter, 900, 1000000);
    }
    broker_meter_note_ping(&meter, 40000, 1070000); /* in the next minute */
    broker_meter_note_ping(&meter, 60000000, 1070000);
    struct broker_rates rates = read_at(&meter, 1119999);
    ck_assert_int_eq(histogram_values_count(&rates.pings), 100);
    ck_assert_int_gt(histogram_values_quantile(&rates.pings, 0.5), 500);
    ck_assert_int_le(histogram_values_quantile(&rates.pings, 0.5), 1000);
    ck_assert_int_eq(histogram_values_quantile(&rates.pings, 0.99), 50000);
    rates = read_at(&meter, 1120000); /* the first minute is no longer recent */
    ck_assert_int_eq(histogram_values_count(&rates.pings), 2);
    rates = read_at(&meter, 1190000);
    ck_assert_int_eq(histogram_values_count(&rates.pings), 0);
}
END_TEST

START_TEST(the_rate_is_that_of_the_time_that_was_counted) {
    struct broker_meter meter = {0};
    for (int i = 0; i < 10; i++) {
        broker_meter_note_connect(&meter, 1000000 + i);
    }
    ck_assert_double_eq(read_at(&meter, 1000010).connects_per_s, 10);
    ck_assert_double_eq(read_at(&meter, 1020000).connects_per_s, 0.5);
    ck_assert_double_eq_tol(read_at(&meter, 1080000).connects_per_s, 10.0 / 80, 0.0001);
    ck_assert_double_eq(read_at(&meter, 2000000).connects_per_s, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("broker_meter");
    TCase *tcase = tcase_create("broker_meter");
    tcase_add_test(tcase, nothing_was_noted);
    tcase_add_test(tcase, round_trips_of_two_minutes_make_the_percentiles);
    tcase_add_test(tcase, the_rate_is_that_of_the_time_that_was_counted);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
