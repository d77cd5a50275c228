/* Tests of base/telemetry/metrics and exposition: counters, histograms, and their text. */
#include "base/telemetry/metrics.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/telemetry/exposition.h"

static void *count(void *unused) {
    (void)unused;
    for (int i = 0; i < 10000; i++) {
        metric_add(METRIC_RECEIVED_QOS1, 1);
        histogram_add(HISTOGRAM_PUBLISH, 100, 1);
    }
    return NULL;
}

START_TEST(nothing_is_lost_between_threads) {
    pthread_t threads[12];
    for (size_t i = 0; i < 12; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, count, NULL), 0);
    }
    for (size_t i = 0; i < 12; i++) {
        pthread_join(threads[i], NULL);
    }
    struct histogram_values values;
    histogram_get(HISTOGRAM_PUBLISH, &values);
    ck_assert_int_eq(metric_get(METRIC_RECEIVED_QOS1), 120000);
    ck_assert_int_eq(values.counts[0], 120000);
    ck_assert_int_eq(values.sum_us, 12000000);
}
END_TEST

START_TEST(a_bound_belongs_to_its_bucket) {
    struct histogram_values values;
    histogram_add(HISTOGRAM_REHOME, -5, 1);
    histogram_add(HISTOGRAM_REHOME, 0, 1);
    histogram_add(HISTOGRAM_REHOME, histogram_bounds_us[0], 1);
    histogram_add(HISTOGRAM_REHOME, histogram_bounds_us[0] + 1, 2);
    histogram_add(HISTOGRAM_REHOME, INT64_C(1) << 40, 1);
    histogram_get(HISTOGRAM_REHOME, &values);
    ck_assert_int_eq(values.counts[0], 3);
    ck_assert_int_eq(values.counts[1], 2);
    ck_assert_int_eq(values.counts[HISTOGRAM_BUCKETS - 1], 1);
}
END_TEST

START_TEST(quantiles_are_interpolated) {
    struct histogram_values values = {.sum_us = 0};
    ck_assert_int_eq(histogram_values_quantile(&values, 0.5), -1);
    for (int i = 0; i < 100; i++) {
        histogram_values_add(&values, i < 50 ? 200 : 2000); /* 100 to 250, 1,000 to 2,500 */
    }
    ck_assert_int_eq(histogram_values_count(&values), 100);
    ck_assert_int_eq(values.sum_us, 110000);
    ck_assert_int_eq(histogram_values_quantile(&values, 0.25), 175);
    ck_assert_int_eq(histogram_values_quantile(&values, 0.5), 250);
    ck_assert_int_eq(histogram_values_quantile(&values, 1), 2500);
    histogram_values_add(&values, INT64_MAX / 2);
    ck_assert_int_eq(histogram_values_quantile(&values, 1), 30000000);
}
END_TEST

START_TEST(many_values_are_added_at_once) {
    struct histogram_values values = {.sum_us = 0}, before, after;
    histogram_values_add(&values, 50);
    histogram_values_add(&values, 300);
    histogram_get(HISTOGRAM_HTTP, &before);
    histogram_add_values(HISTOGRAM_HTTP, &values);
    histogram_get(HISTOGRAM_HTTP, &after);
    ck_assert_int_eq(after.counts[0] - before.counts[0], 1);
    ck_assert_int_eq(after.counts[2] - before.counts[2], 1);
    ck_assert_int_eq(after.sum_us - before.sum_us, 350);
}
END_TEST

START_TEST(the_bounds_ascend) {
    for (size_t i = 1; i < HISTOGRAM_BUCKETS - 1; i++) {
        ck_assert_int_gt(histogram_bounds_us[i], histogram_bounds_us[i - 1]);
    }
}
END_TEST

/* Each family is written exactly once. */
START_TEST(rows_of_one_name_stand_together) {
    for (enum metric metric = 0; metric < METRIC_COUNT; metric++) {
        const struct metric_description *description = metric_describe(metric);
        bool first =
            metric == 0 || strcmp(metric_describe(metric - 1)->name, description->name) != 0;
        ck_assert_msg(first == (description->help[0] != '\0'), "%s{%s}", description->name,
                      description->labels);
        for (enum metric other = 0; first && other + 1 < metric; other++) {
            ck_assert_str_ne(metric_describe(other)->name, description->name);
        }
    }
}
END_TEST

START_TEST(histograms_are_shown_added_up) {
    struct buffer out;
    buffer_init(&out);
    histogram_add(HISTOGRAM_PEER, 200, 3);
    histogram_add(HISTOGRAM_PEER, 400, 1);
    exposition_metrics(&out);
    static const char *const lines[] = {
        "# TYPE mqfleet_peer_call_duration_seconds histogram\n",
        "mqfleet_peer_call_duration_seconds_bucket{le=\"0.0001\"} 0\n",
        "mqfleet_peer_call_duration_seconds_bucket{le=\"0.00025\"} 3\n",
        "mqfleet_peer_call_duration_seconds_bucket{le=\"0.0005\"} 4\n",
        "mqfleet_peer_call_duration_seconds_bucket{le=\"+Inf\"} 4\n",
        "mqfleet_peer_call_duration_seconds_sum 0.001000\n",
        "mqfleet_peer_call_duration_seconds_count 4\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        ck_assert_msg(strstr(out.data, lines[i]) != NULL, "%s", lines[i]);
    }
    buffer_fini(&out);
}
END_TEST

START_TEST(labels_are_escaped_and_cut) {
    char out[16];
    ck_assert_str_eq(exposition_escape("a\"b\\c\nd", out, sizeof(out)), "a\\\"b\\\\c\\nd");
    ck_assert_uint_lt(strlen(exposition_escape("\"\"\"\"\"\"\"\"\"\"\"\"", out, sizeof(out))), 16);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("metrics");
    TCase *all = tcase_create("all");
    tcase_add_test(all, nothing_is_lost_between_threads);
    tcase_add_test(all, a_bound_belongs_to_its_bucket);
    tcase_add_test(all, quantiles_are_interpolated);
    tcase_add_test(all, many_values_are_added_at_once);
    tcase_add_test(all, the_bounds_ascend);
    tcase_add_test(all, rows_of_one_name_stand_together);
    tcase_add_test(all, histograms_are_shown_added_up);
    tcase_add_test(all, labels_are_escaped_and_cut);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
