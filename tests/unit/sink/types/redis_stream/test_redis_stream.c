/* Tests of the Redis stream sink: the form of an entry, and `written` after errors. */
#include "sink/type_fixture.h"

#include <check.h>
#include "base/system/clock.h"
#include "net/redis/redis.h"
#include "redis_fixture.h"

extern const struct sink_type sink_type_redis_stream;

static struct redis *redis;

/* "key" comes first. */
#define OPEN(format, ...)                                                                          \
    type_open(&sink_type_redis_stream,                                                             \
              type_complete(&sink_type_redis_stream, "{s:s" format "}", "key",                     \
                            "mqtt_msg" __VA_OPT__(, ) __VA_ARGS__))

static void setup(void) {
    type_environment.redis_url = redis_fixture_start();
    type_environment.key_prefix = "prefix:";
    redis = redis_create(type_environment.redis_url, 5000);
    OPEN(", s:i", "maxlen", 0);
}

static void teardown(void) {
    type_close(&sink_type_redis_stream);
    redis_destroy(redis);
    redis_fixture_stop();
}

static struct redis_reply *ask(int argc, const char *const *argv) {
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_command(redis, argc, argv, NULL, &reply), ERR_OK);
    return reply;
}

static int64_t stream_len(void) {
    struct redis_reply *reply = ask(2, (const char *[]){"XLEN", "prefix:mqtt_msg"});
    int64_t len = redis_reply_int(reply);
    redis_reply_free(reply);
    return len;
}

/* Text that is no string literal with its NUL counted. */
#define BYTES(literal) literal, sizeof literal - 1

static struct message *full_message(void) {
    static const struct message_property properties[] = {
        {"content_type", NULL, BYTES("text/plain")},
        {"subscription_identifier", NULL, BYTES("1")},
        {"user_property", "a", BYTES("x\"y")},
        {"correlation_data", NULL, BYTES("\0\xff\0")},
        {"subscription_identifier", NULL, BYTES("700")},
        {"user_property", "a", BYTES("bad\xff")},
    };
    struct message from = {.id = "id 1",
                           .client_id = "client 1",
                           .topic = "a/\xc3\xa9",
                           .payload = (const uint8_t *)"\0\r\n\xff\0",
                           .payload_len = 5,
                           .properties = properties,
                           .property_count = sizeof properties / sizeof properties[0],
                           .received_at_ms = 1700000000123,
                           .qos = 2,
                           .retain = true};
    return message_create(&from);
}

static struct message *plain_message(uint8_t qos) {
    struct message from = {
        .id = "i", .client_id = "c", .topic = "t", .payload = (const uint8_t *)"", .qos = qos};
    return message_create(&from);
}

static const struct {
    const char *name, *value;
    size_t len;
} FIELDS[] = {
    {"id", BYTES("id 1")},
    {"client_id", BYTES("client 1")},
    {"topic", BYTES("a/\xc3\xa9")},
    {"payload", BYTES("\0\r\n\xff\0")},
    {"qos", BYTES("2")},
    {"retain", BYTES("1")},
    {"node", BYTES("node-1")},
    {"received_at_ms", BYTES("1700000000123")},
    {"content_type", BYTES("text/plain")},
    {"correlation_data", BYTES("\0\xff\0")},
    {"subscription_identifier", BYTES("1,700")},
    {"user_properties", BYTES("[[\"a\",\"x\\\"y\"],[\"a\",\"bad?\"]]")},
};

static enum err write_all(struct message *const *messages, size_t n, size_t *written) {
    return type_write(&sink_type_redis_stream, messages, n, written);
}

START_TEST(known_failure_23_an_entry_holds_all_fields_and_the_payload_untouched) {
    struct message *message = full_message();
    size_t written = 0;
    ck_assert_int_eq(write_all(&message, 1, &written), ERR_OK);
    ck_assert_uint_eq(written, 1);
    struct redis_reply *all = ask(4, (const char *[]){"XRANGE", "prefix:mqtt_msg", "-", "+"});
    const struct redis_reply *fields = redis_reply_at(redis_reply_at(all, 0), 1);
    size_t count = sizeof FIELDS / sizeof FIELDS[0];
    ck_assert_uint_eq(redis_reply_count(fields), 2 * count);
    for (size_t i = 0; i < count; i++) {
        size_t len = 0;
        ck_assert_str_eq(redis_reply_str(redis_reply_at(fields, 2 * i), NULL), FIELDS[i].name);
        const char *value = redis_reply_str(redis_reply_at(fields, 2 * i + 1), &len);
        ck_assert_msg(len == FIELDS[i].len && memcmp(value, FIELDS[i].value, len) == 0, "%s is %s",
                      FIELDS[i].name, value);
    }
    redis_reply_free(all);
    message_destroy(message);
}
END_TEST

START_TEST(a_message_without_properties_has_the_eight_fields_only) {
    struct message *message = plain_message(0);
    size_t written = 0;
    ck_assert_int_eq(write_all(&message, 1, &written), ERR_OK);
    struct redis_reply *all = ask(4, (const char *[]){"XRANGE", "prefix:mqtt_msg", "-", "+"});
    const struct redis_reply *fields = redis_reply_at(redis_reply_at(all, 0), 1);
    ck_assert_uint_eq(redis_reply_count(fields), 16);
    ck_assert_str_eq(redis_reply_str(redis_reply_at(fields, 7), NULL), "");
    redis_reply_free(all);
    message_destroy(message);
}
END_TEST

static void write_many(size_t count) {
    struct message *message = plain_message(0);
    struct message *batch[500];
    size_t written = 0;
    for (size_t i = 0; i < 500; i++) {
        batch[i] = message;
    }
    for (size_t i = 0; i < count / 500; i++) {
        ck_assert_int_eq(write_all(batch, 500, &written), ERR_OK);
        ck_assert_uint_eq(written, 500);
    }
    message_destroy(message);
}

START_TEST(the_stream_is_trimmed_to_about_its_maximum_and_not_at_all_without_one) {
    write_many(2000);
    ck_assert_int_eq(stream_len(), 2000);
    type_close(&sink_type_redis_stream);
    OPEN(", s:i", "maxlen", 300);
    write_many(2000);
    ck_assert_int_ge(stream_len(), 300);
    ck_assert_int_le(stream_len(), 500);
}
END_TEST

START_TEST(written_is_zero_when_redis_is_not_there) {
    struct message *message = plain_message(1);
    size_t written = 7;
    redis_fixture_kill();
    ck_assert_int_eq(write_all(&message, 1, &written), ERR_UNAVAILABLE);
    ck_assert_uint_eq(written, 0);
    redis_fixture_continue();
    ck_assert_int_eq(write_all(&message, 1, &written), ERR_OK);
    ck_assert_uint_eq(written, 1);
    ck_assert_int_eq(stream_len(), 1);
    message_destroy(message);
}
END_TEST

START_TEST(an_error_reply_is_an_error_of_the_write) {
    struct message *message = plain_message(1);
    struct message *batch[] = {message, message};
    size_t written = 7;
    redis_reply_free(ask(3, (const char *[]){"SET", "prefix:mqtt_msg", "in the way"}));
    ck_assert_int_eq(write_all(batch, 2, &written), ERR_PROTOCOL);
    ck_assert_uint_eq(written, 0);
    ck_assert_ptr_nonnull(strstr(type_error, "WRONGTYPE"));
    message_destroy(message);
}
END_TEST

/* Redis quotes the arguments of an unknown command. */
START_TEST(no_part_of_a_message_gets_into_an_error) {
    struct message *message = message_create(&(struct message){.id = "i",
                                                               .client_id = "c",
                                                               .topic = "t",
                                                               .payload = (uint8_t *)"hunter2",
                                                               .payload_len = 7});
    size_t written;
    redis_fixture.options[0] = "--rename-command";
    redis_fixture.options[1] = "XADD";
    redis_fixture.options[2] = "";
    redis_fixture_restart();
    ck_assert_int_eq(write_all(&message, 1, &written), ERR_PROTOCOL);
    ck_assert_ptr_nonnull(strstr(type_error, "unknown command"));
    ck_assert_msg(!strstr(type_error, "hunter2"), "%s", type_error);
    message_destroy(message);
}
END_TEST

enum { COUNT = 200, LEN = 20000 };

static struct message *batch[COUNT]; /* the same one */

static void fill_batch(void) {
    static uint8_t payload[LEN];
    struct message from = {.id = "i",
                           .client_id = "c",
                           .topic = "t",
                           .payload = payload,
                           .payload_len = LEN,
                           .qos = 1};
    batch[0] = message_create(&from);
    for (size_t i = 1; i < COUNT; i++) {
        batch[i] = batch[0];
    }
}

static int64_t used_bytes(void) {
    struct redis_reply *info = ask(3, (const char *[]){"EVAL",
                                                       "local m = redis.call('INFO', 'memory') "
                                                       "return m:match('used_memory:(%d+)')",
                                                       "0"});
    int64_t used = redis_reply_int(info);
    redis_reply_free(info);
    return used;
}

/* Memory runs out during a batch. */
START_TEST(written_counts_what_was_taken_before_the_error) {
    size_t written = 0;
    char limit[32];
    fill_batch();
    snprintf(limit, sizeof limit, "%lld", (long long)used_bytes() + COUNT * LEN / 2);
    redis_reply_free(ask(4, (const char *[]){"CONFIG", "SET", "maxmemory", limit}));
    ck_assert_int_eq(write_all(batch, COUNT, &written), ERR_FULL);
    ck_assert_uint_lt(written, COUNT);
    redis_reply_free(ask(4, (const char *[]){"CONFIG", "SET", "maxmemory", "0"}));
    ck_assert_int_eq(stream_len(), (int64_t)written);
    size_t rest = 0;
    ck_assert_int_eq(write_all(batch + written, COUNT - written, &rest), ERR_OK);
    ck_assert_int_eq(stream_len(), COUNT);
    message_destroy(batch[0]);
}
END_TEST

START_TEST(case_F6_a_batch_ends_where_the_room_does) {
    size_t written = 0;
    fill_batch();
    type_close(&sink_type_redis_stream);
    OPEN(", s:i, s:I", "maxlen", 0, "redis_bytes_max", (json_int_t)used_bytes() + 50 * LEN);
    ck_assert_int_eq(write_all(batch, COUNT, &written), ERR_FULL);
    ck_assert_uint_ge(written, 10);
    ck_assert_uint_lt(written, 60);
    ck_assert_int_eq(stream_len(), (int64_t)written);
    message_destroy(batch[0]);
}
END_TEST

/* What the groups have read is trimmed also while Redis has no room, or there would never be any.
 */
START_TEST(a_sink_that_waits_for_room_still_trims_what_was_consumed) {
    size_t written = 0;
    fill_batch();
    type_close(&sink_type_redis_stream);
    OPEN(", s:I, s:s, s:i", "redis_bytes_max", (json_int_t)used_bytes() + 50 * LEN, "trim",
         "consumed", "batch_messages", COUNT);
    ck_assert_int_eq(write_all(batch, COUNT, &written), ERR_FULL);
    ck_assert_uint_ge(written, 10);
    redis_reply_free(
        ask(5, (const char *[]){"XGROUP", "CREATE", "prefix:mqtt_msg", "g", "$"})); /* all read */
    for (int i = 0; i < 100 && stream_len() > 0; i++) {
        enum err err = write_all(batch, 1, &written);
        (void)err;
        clock_sleep_ms(100);
    }
    ck_assert_int_lt(stream_len(), 10);
    message_destroy(batch[0]);
}
END_TEST

START_TEST(a_stalled_redis_ends_the_write_in_time) {
    struct message *message = plain_message(1);
    size_t written = 0;
    ck_assert_int_eq(write_all(&message, 1, &written), ERR_OK); /* the connection is open now */
    kill(redis_fixture_pid(), SIGSTOP);
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(write_all(&message, 1, &written), ERR_TIMEOUT);
    ck_assert_int_lt(clock_ms() - begin_ms, 3000);
    ck_assert_uint_eq(written, 0);
    kill(redis_fixture_pid(), SIGCONT);
    message_destroy(message);
}
END_TEST

#define LARGE_LEN 2000000

static struct message *sized_message(size_t len) {
    uint8_t *payload = calloc(1, len);
    struct message *message = message_create(&(struct message){
        .id = "i", .client_id = "c", .topic = "t", .payload = payload, .payload_len = len});
    ck_assert_ptr_nonnull(message);
    free(payload);
    return message;
}

static void restart_with_limit(void) {
    redis_fixture.options[0] = "--proto-max-bulk-len";
    redis_fixture.options[1] = "1048576";
    redis_fixture_restart();
}

/* Redis answers the large ones and closes the connection, while more is being sent. */
START_TEST(a_message_larger_than_redis_takes_is_rejected_and_the_others_are_accepted) {
    struct message *small = sized_message(10), *large = sized_message(LARGE_LEN);
    struct message *mixed[] = {small, small, large, small, large, large, small};
    size_t written = 0, n = sizeof mixed / sizeof mixed[0];
    restart_with_limit();
    ck_assert_int_eq(write_all(mixed, n, &written), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(type_outcomes[i], mixed[i] == large ? SINK_REJECTED : SINK_ACCEPTED);
    }
    ck_assert_str_eq(type_reasons[2],
                     "ERR Protocol error: invalid bulk length (payload of 2000000 bytes)");
    ck_assert_int_eq(stream_len(), 4);
    message_destroy(small);
    message_destroy(large);
}
END_TEST

/* Those behind it are in the stream and wait for the replicas, but it is not. */
START_TEST(a_rejected_message_is_not_taken_for_one_that_waits_for_replicas) {
    struct message *small = sized_message(10), *large = sized_message(LARGE_LEN);
    struct message *mixed[] = {large, small};
    size_t written = 0;
    restart_with_limit();
    type_close(&sink_type_redis_stream);
    type_environment.redis_replicas_timeout_ms = 50;
    OPEN(", s:i", "min_replicas", 1);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_ne(write_all(mixed, 2, &written), ERR_OK);
        ck_assert_int_eq(type_outcomes[0], SINK_REJECTED);
        ck_assert_int_eq(type_outcomes[1], SINK_RETRY);
    }
    message_destroy(small);
    message_destroy(large);
}
END_TEST

START_TEST(a_dead_letter_has_the_sink_the_reason_and_the_time) {
    struct message *message = plain_message(1);
    size_t written = 0;
    struct rejection *rejection = calloc(1, sizeof *rejection);
    ck_assert_ptr_nonnull(rejection);
    *rejection = (struct rejection){"kept", "too large", 1700000000456};
    message->rejection = rejection;
    message->origin = message_origin_create("b:1883", &(struct message_label){"site", "a"}, 1);
    ck_assert_int_eq(write_all(&message, 1, &written), ERR_OK);
    struct redis_reply *all = ask(4, (const char *[]){"XRANGE", "prefix:mqtt_msg", "-", "+"});
    const struct redis_reply *fields = redis_reply_at(redis_reply_at(all, 0), 1);
    static const char *const expected[] = {"dead_letter_sink",
                                           "kept",
                                           "dead_letter_reason",
                                           "too large",
                                           "dead_letter_at_ms",
                                           "1700000000456",
                                           "broker",
                                           "b:1883",
                                           "labels",
                                           "{\"site\":\"a\"}"};
    ck_assert_uint_eq(redis_reply_count(fields), 26);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        ck_assert_str_eq(redis_reply_str(redis_reply_at(fields, 16 + i), NULL), expected[i]);
    }
    redis_reply_free(all);
    message_destroy(message);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis_stream");
    TCase *tcase = tcase_create("redis_stream");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, known_failure_23_an_entry_holds_all_fields_and_the_payload_untouched);
    tcase_add_test(tcase, a_message_without_properties_has_the_eight_fields_only);
    tcase_add_test(tcase, the_stream_is_trimmed_to_about_its_maximum_and_not_at_all_without_one);
    tcase_add_test(tcase, written_is_zero_when_redis_is_not_there);
    tcase_add_test(tcase, an_error_reply_is_an_error_of_the_write);
    tcase_add_test(tcase, no_part_of_a_message_gets_into_an_error);
    tcase_add_test(tcase, written_counts_what_was_taken_before_the_error);
    tcase_add_test(tcase, case_F6_a_batch_ends_where_the_room_does);
    tcase_add_test(tcase, a_sink_that_waits_for_room_still_trims_what_was_consumed);
    tcase_add_test(tcase, a_stalled_redis_ends_the_write_in_time);
    tcase_add_test(tcase,
                   a_message_larger_than_redis_takes_is_rejected_and_the_others_are_accepted);
    tcase_add_test(tcase, a_rejected_message_is_not_taken_for_one_that_waits_for_replicas);
    tcase_add_test(tcase, a_dead_letter_has_the_sink_the_reason_and_the_time);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
