/* Tests of sink/types/redis_stream/redis_quota: when the sink pauses and when it continues. */
#include "sink/types/redis_stream/redis_quota.h"

#include <check.h>
#include <stdlib.h>
#include "base/telemetry/metrics.h"
#include "redis_fixture.h"
#include "sink/sink_fixture.h"

#define MB 1048576LL

static struct redis_quota room_of(int64_t bytes_max, int64_t maxlen, bool shared) {
    json_t *settings = json_pack("{s:s, s:I, s:I}", "trim", "maxlen", "maxlen", (json_int_t)maxlen,
                                 "redis_bytes_max", (json_int_t)bytes_max);
    struct redis_quota quota;
    redis_quota_init(&quota, "mqtt_msg", shared, settings);
    json_decref(settings);
    return quota;
}

START_TEST(case_F6_it_pauses_at_three_quarters_of_maxmemory_and_goes_on_a_little_below) {
    struct redis_quota quota = room_of(0, 0, true);
    int64_t pauses = metric_get(METRIC_SINK_PAUSES);
    ck_assert(!redis_quota_evaluate(&quota, 48 * MB, 64 * MB, 10));
    ck_assert(redis_quota_evaluate(&quota, 48 * MB + 1, 64 * MB, 10));
    ck_assert(redis_quota_evaluate(&quota, 46 * MB, 64 * MB, 10)); /* not on and off */
    ck_assert(!redis_quota_evaluate(&quota, 45 * MB, 64 * MB, 10));
    ck_assert_int_eq(metric_get(METRIC_SINK_PAUSES) - pauses, 1);
}
END_TEST

START_TEST(a_bound_of_its_own_counts_with_and_without_maxmemory) {
    struct redis_quota quota = room_of(10 * MB, 0, true);
    ck_assert(redis_quota_evaluate(&quota, 11 * MB, 0, 10));
    ck_assert(redis_quota_evaluate(&quota, 11 * MB, 64 * MB, 10));
    ck_assert(!redis_quota_evaluate(&quota, 9 * MB, 64 * MB, 10));
}
END_TEST

START_TEST(without_any_bound_or_in_a_redis_of_its_own_it_goes_on) {
    struct redis_quota quota = room_of(0, 0, true);
    ck_assert(!redis_quota_evaluate(&quota, 1000 * MB, 0, 10));
    quota = room_of(10 * MB, 0, false);
    ck_assert(!redis_quota_evaluate(&quota, 63 * MB, 64 * MB, 10));
}
END_TEST

START_TEST(a_stream_at_its_length_only_replaces_what_it_has) {
    struct redis_quota quota = room_of(0, 100, true);
    ck_assert(!redis_quota_evaluate(&quota, 60 * MB, 64 * MB, 100));
    ck_assert(redis_quota_evaluate(&quota, 60 * MB, 64 * MB, 99));
}
END_TEST

/* All measure at once, and write all they may before any measures again. */
START_TEST(case_F6_sixteen_nodes_of_one_redis_together_stay_below_its_limit) {
    struct redis_quota rooms[16];
    int64_t used = 0;
    for (int i = 0; i < 16; i++) {
        rooms[i] = room_of(0, 0, true);
    }
    for (int looks = 0; looks < 1000; looks++) {
        int64_t seen = used;
        for (int i = 0; i < 16; i++) {
            ck_assert(!redis_quota_evaluate(&rooms[i], seen, 64 * MB, 10));
            used += rooms[i].writable_bytes;
            redis_quota_consume(&rooms[i], (size_t)rooms[i].writable_bytes);
            ck_assert(!redis_quota_may_write(&rooms[i]));
        }
        ck_assert_int_le(used, 48 * MB);
    }
    ck_assert_int_ge(used, 47 * MB);
}
END_TEST

static void configure(struct redis *redis, const char *setting, const char *value) {
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(
        redis_command(redis, 4, (const char *[]){"CONFIG", "SET", setting, value}, NULL, &reply),
        ERR_OK);
    redis_reply_free(reply);
}

START_TEST(case_F6_a_sink_that_pauses_keeps_its_messages_and_tells_why) {
    struct sink_fixture fixture;
    struct sink_status status;
    const char *url = redis_fixture_start();
    struct redis *redis = redis_create(url, 5000);
    struct sink_environment environment = {
        .node = "node", .redis_url = url, .key_prefix = "", .redis_timeout_ms = 2000};
    json_t *settings = json_pack("{s:s, s:i, s:i, s:i}", "key", "mqtt_msg", "maxlen", 0,
                                 "queue_messages", 1000, "batch_messages", 50);
    struct sink_config config = {
        .name = "kept", .type = "redis_stream", .environment = &environment, .settings = settings};
    configure(redis, "maxmemory", "1000000"); /* less than an empty server uses */
    run_sink(&fixture, create_sink(&config));
    for (int i = 0; i < 10; i++) {
        submit_waiting(fixture.sink, i, 1);
    }
    AWAIT((sink_status(fixture.sink, &status), status.paused && status.failing));
    ck_assert_msg(strstr(status.error, "paused: ") && strstr(status.error, "redis_bytes_max"), "%s",
                  status.error);
    ck_assert_int_gt(status.store_bytes, status.store_bytes_max);
    ck_assert_int_eq(status.store_entries, 0);
    ck_assert_int_eq(atomic_load(&accepted_count), 0);
    configure(redis, "maxmemory", "0");
    AWAIT(atomic_load(&accepted_count) == 10);
    AWAIT((sink_status(fixture.sink, &status), !status.paused && !status.failing));
    AWAIT(
        (sink_status(fixture.sink, &status), status.store_entries == 10)); /* measured while idle */
    end_sink(&fixture, WAIT_MS);
    json_decref(settings);
    redis_destroy(redis);
    redis_fixture_stop();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis_quota");
    TCase *tcase = tcase_create("redis_room");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase,
                   case_F6_it_pauses_at_three_quarters_of_maxmemory_and_goes_on_a_little_below);
    tcase_add_test(tcase, a_bound_of_its_own_counts_with_and_without_maxmemory);
    tcase_add_test(tcase, without_any_bound_or_in_a_redis_of_its_own_it_goes_on);
    tcase_add_test(tcase, a_stream_at_its_length_only_replaces_what_it_has);
    tcase_add_test(tcase, case_F6_sixteen_nodes_of_one_redis_together_stay_below_its_limit);
    tcase_add_test(tcase, case_F6_a_sink_that_pauses_keeps_its_messages_and_tells_why);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
