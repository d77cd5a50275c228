#include "http/api/ops/time_series_sum.h"

#include <check.h>
#include <stdlib.h>

#define SLOT_MS TIME_SERIES_INTERVAL_MS
#define NOW_MS  (1000 * (int64_t)SLOT_MS + 2000)

static struct time_series_sum *sum;

static void setup(void) {
    sum = malloc(sizeof *sum);
    ck_assert_ptr_nonnull(sum);
    time_series_sum_init(sum, NOW_MS);
}

static void teardown(void) {
    free(sum);
}

/* A node whose clock shows now_ms, with samples up to that slot. */
static void merge(int64_t now_ms, int64_t slot, const char *series) {
    json_t *json = json_pack("{s:I, s:I, s:I, s:o}", "now_ms", (json_int_t)now_ms, "interval_ms",
                             (json_int_t)SLOT_MS, "slot", (json_int_t)slot, "series",
                             json_loads(series, 0, NULL));
    ck_assert_int_eq(time_series_sum_merge(sum, json), ERR_OK);
    json_decref(json);
}

static void check(const char *group, const char *name, const char *expected) {
    json_t *answer = time_series_sum_to_json(sum), *wanted = json_loads(expected, 0, NULL);
    const json_t *values = json_object_get(group ? json_object_get(answer, group) : answer, name);
    char *text = json_dumps(values, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    ck_assert_msg(json_equal(values, wanted), "%s: %s", name, text);
    free(text);
    json_decref(wanted);
    json_decref(answer);
}

START_TEST(samples_of_the_same_moment_are_added) {
    merge(NOW_MS, 1000, "{\"online\":[1,2,3],\"messages_in\":[1000,2500,0]}");
    merge(NOW_MS + 900, 1000, "{\"online\":[10,20],\"messages_in\":[500,1000]}");
    check(NULL, "nodes", "[1,2,2]");
    check("clients", "online", "[1,12,23]");
    check("clients", "backoff", "[0,0,0]"); /* which the nodes did not send */
    check("per_s", "messages_in", "[1.0,3.0,1.0]");
    json_t *answer = time_series_sum_to_json(sum);
    ck_assert_str_eq(json_string_value(json_object_get(answer, "from")),
                     "1970-01-01T02:46:20.000Z");
    json_decref(answer);
}
END_TEST

START_TEST(a_clock_that_is_wrong_moves_no_sample) {
    merge(NOW_MS, 1000, "{\"online\":[1,2,3]}");
    merge(NOW_MS - 3600000, 1000 - 360, "{\"online\":[10,20,30]}");
    merge(NOW_MS + 3600000, 1000 + 360, "{\"online\":[100,200,300]}");
    check("clients", "online", "[111,222,333]");
}
END_TEST

START_TEST(the_newest_sample_waits_for_all_nodes) {
    merge(NOW_MS, 1000, "{\"online\":[1,2,3]}");
    merge(NOW_MS, 999, "{\"online\":[10,20]}");
    check("clients", "online", "[11,22]");
}
END_TEST

START_TEST(what_no_node_sampled_is_null) {
    merge(NOW_MS, 1000, "{\"online\":[1,null,3],\"messages_in\":[0,null,0]}");
    check(NULL, "nodes", "[1,0,1]");
    check("clients", "online", "[1,null,3]");
    check("per_s", "messages_in", "[0.0,null,0.0]");
}
END_TEST

START_TEST(values_that_cannot_be_are_left_out) {
    merge(NOW_MS, 1000, "{\"online\":[1,9223372036854775807,3],\"paused\":[2,-5,\"x\"]}");
    merge(NOW_MS, 1000, "{\"online\":[1,1,1]}");
    check("clients", "online", "[2,1,4]");
    check("clients", "paused", "[2,0,0]");
}
END_TEST

START_TEST(a_fleet_that_has_just_started_has_none) {
    merge(NOW_MS, 1000, "{\"online\":[],\"messages_in\":[]}");
    check(NULL, "nodes", "[]");
    json_t *answer = time_series_sum_to_json(sum);
    ck_assert(json_is_null(json_object_get(answer, "from")));
    json_decref(answer);
}
END_TEST

START_TEST(samples_outside_the_hour_and_unknown_series_are_left_out) {
    merge(NOW_MS, 1000 - 359, "{\"online\":[7,8],\"moon\":[1,2]}");
    merge(NOW_MS, 1001, "{\"online\":[9]}");
    json_t *answer = time_series_sum_to_json(sum);
    const json_t *online = json_object_get(json_object_get(answer, "clients"), "online");
    ck_assert_uint_eq(json_array_size(online), TIME_SERIES_SAMPLES);
    ck_assert_int_eq(json_integer_value(json_array_get(online, 0)), 8);
    ck_assert(json_is_null(json_array_get(online, 1)));
    json_decref(answer);
}
END_TEST

START_TEST(a_document_of_another_kind_is_refused) {
    static const char *const texts[] = {
        "{}",
        "[]",
        "{\"now_ms\":1,\"interval_ms\":5000,\"slot\":1,\"series\":{}}",
        "{\"now_ms\":1,\"interval_ms\":10000,\"slot\":1,\"series\":[]}",
        "{\"now_ms\":1,\"interval_ms\":10000,\"slot\":1,\"series\":{\"online\":5}}",
        "{\"now_ms\":-1,\"interval_ms\":10000,\"slot\":1,\"series\":{}}",
        "{\"now_ms\":1,\"interval_ms\":10000,\"slot\":9223372036854775807,\"series\":{}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *json = json_loads(texts[i], 0, NULL);
        ck_assert_msg(time_series_sum_merge(sum, json) == ERR_ARGUMENT, "%s", texts[i]);
        json_decref(json);
    }
}
END_TEST

START_TEST(a_node_answers_what_another_one_adds) {
    struct time_series *series = time_series_create();
    for (int64_t i = 0; i < 3; i++) {
        int64_t values[SERIES_COUNT] = {[SERIES_PAUSED] = i, [SERIES_BYTES_OUT] = i * 50};
        time_series_add(series, (998 + i) * SLOT_MS, i * SLOT_MS, values);
    }
    json_t *json = time_series_to_json(series, NOW_MS);
    ck_assert_int_eq(time_series_sum_merge(sum, json), ERR_OK);
    json_decref(json);
    time_series_destroy(series);
    check("clients", "paused", "[1,2]");
    check("per_s", "bytes_out", "[5.0,5.0]");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("time_series_sum");
    TCase *tcase = tcase_create("time_series_sum");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, samples_of_the_same_moment_are_added);
    tcase_add_test(tcase, a_clock_that_is_wrong_moves_no_sample);
    tcase_add_test(tcase, the_newest_sample_waits_for_all_nodes);
    tcase_add_test(tcase, what_no_node_sampled_is_null);
    tcase_add_test(tcase, values_that_cannot_be_are_left_out);
    tcase_add_test(tcase, a_fleet_that_has_just_started_has_none);
    tcase_add_test(tcase, samples_outside_the_hour_and_unknown_series_are_left_out);
    tcase_add_test(tcase, a_document_of_another_kind_is_refused);
    tcase_add_test(tcase, a_node_answers_what_another_one_adds);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
