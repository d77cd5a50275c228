/* Tests of several streams in one sink: templates, shards, and what is trimmed and measured. */
#include "sink/type_fixture.h"

#include <check.h>
#include <stdarg.h>
#include <stdlib.h>
#include "base/system/clock.h"
#include "net/redis/redis.h"
#include "redis_fixture.h"

extern const struct sink_type sink_type_redis_stream;

#define BATCH_MAX   1000
#define STREAMS_MAX 1024

static struct redis *redis;
static bool is_open;
static struct message *batch[BATCH_MAX];
static size_t batch_len;

static void open_sink(json_t *settings) {
    type_open(&sink_type_redis_stream, settings);
    is_open = true;
}

#define OPEN(format, ...)                                                                          \
    open_sink(type_complete(&sink_type_redis_stream, "{" format "}" __VA_OPT__(, ) __VA_ARGS__))

static void setup(void) {
    type_environment.redis_url = redis_fixture_start();
    type_environment.redis_timeout_ms = 5000;
    type_environment.key_prefix = "p:";
    redis = redis_create(type_environment.redis_url, 5000);
    is_open = false;
}

static void clear_batch(void) {
    while (batch_len > 0) {
        message_destroy(batch[--batch_len]);
    }
}

static void teardown(void) {
    if (is_open) {
        type_close(&sink_type_redis_stream);
    }
    clear_batch();
    redis_destroy(redis);
    redis_fixture_stop();
}

/* Words of one command, separated by spaces. */
static struct redis_reply *ask(const char *format, ...) {
    char line[512];
    const char *argv[32];
    int argc = 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    char *rest = NULL;
    for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        argv[argc++] = word;
    }
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_command(redis, argc, argv, NULL, &reply), ERR_OK);
    ck_assert_msg(redis_reply_type(reply) != REDIS_ERROR, "%s", redis_reply_str(reply, NULL));
    return reply;
}

static int64_t stream_len(const char *key) {
    struct redis_reply *reply = ask("XLEN %s", key);
    int64_t len = redis_reply_int(reply);
    redis_reply_free(reply);
    return len;
}

/* The payload is the number. site: of the label; NULL: none. */
static void add_message(const char *id, const char *site, int number) {
    char payload[16];
    int len = snprintf(payload, sizeof payload, "%d", number);
    struct message_label label = {"site", site ? site : ""};
    struct message_origin *origin = message_origin_create("b:1883", &label, site ? 1 : 0);
    struct message from = {.id = id,
                           .client_id = id,
                           .topic = "t",
                           .payload = (uint8_t *)payload,
                           .payload_len = (size_t)len,
                           .origin = origin,
                           .qos = 1};
    batch[batch_len++] = message_create(&from);
    message_origin_release(origin);
}

static enum err write_batch(void) {
    size_t written;
    return type_write(&sink_type_redis_stream, batch, batch_len, &written);
}

/* Writes and empties the batch; all must be accepted. */
static void write_ok(void) {
    enum err err = write_batch();
    ck_assert_msg(err == ERR_OK, "%s", type_error);
    for (size_t i = 0; i < batch_len; i++) {
        ck_assert_int_eq(type_outcomes[i], SINK_ACCEPTED);
    }
    clear_batch();
}

static void write_for_site(const char *site, int count) {
    for (int i = 0; i < count; i++) {
        add_message("c", site, i);
    }
    write_ok();
}

static struct sink_status status(void) {
    struct sink_status out = {.store_entries = -1};
    sink_type_redis_stream.status(type_state, &out);
    return out;
}

static void refresh(void) {
    clock_sleep_ms(1000);
    sink_type_redis_stream.maintain(type_state);
}

/* --- shards --- */

START_TEST(shards_distribute_the_clients_and_keep_the_order_of_each) {
    enum { CLIENTS = 199, EACH = 20, SHARDS = 4 };
    int seen[CLIENTS] = {0}, shard_of[CLIENTS];
    OPEN("s:s, s:i, s:i", "key", "k", "shards", SHARDS, "maxlen", 0);
    for (int n = 0; n < CLIENTS * EACH; n++) {
        char id[16];
        snprintf(id, sizeof id, "client-%d", n % CLIENTS);
        add_message(id, NULL, n / CLIENTS);
        if (batch_len == 500 || n == CLIENTS * EACH - 1) {
            write_ok();
        }
    }
    for (int shard = 0; shard < SHARDS; shard++) {
        struct redis_reply *all = ask("XRANGE p:k:%d - +", shard);
        ck_assert_uint_ge(redis_reply_count(all), CLIENTS * EACH / SHARDS / 2);
        for (size_t i = 0; i < redis_reply_count(all); i++) {
            const struct redis_reply *fields = redis_reply_at(redis_reply_at(all, i), 1);
            int client = atoi(redis_reply_str(redis_reply_at(fields, 1), NULL) + 7);
            ck_assert_int_eq(atoi(redis_reply_str(redis_reply_at(fields, 7), NULL)),
                             seen[client]++);
            ck_assert(seen[client] == 1 || shard_of[client] == shard);
            shard_of[client] = shard;
        }
        redis_reply_free(all);
    }
    for (int client = 0; client < CLIENTS; client++) {
        ck_assert_int_eq(seen[client], EACH);
    }
}
END_TEST

START_TEST(each_shard_is_trimmed_measured_and_summed) {
    OPEN("s:s, s:i, s:i", "key", "k", "shards", 3, "maxlen", 100);
    for (int shard = 0; shard < 3; shard++) {
        redis_reply_free(ask("XGROUP CREATE p:k:%d readers 0 MKSTREAM", shard));
    }
    for (int n = 0; n < 4000; n++) {
        char id[16];
        snprintf(id, sizeof id, "client-%d", n % 97);
        add_message(id, NULL, n);
        if (batch_len == 500) {
            write_ok();
        }
    }
    int64_t total = 0;
    for (int shard = 0; shard < 3; shard++) {
        char key[16];
        snprintf(key, sizeof key, "p:k:%d", shard);
        ck_assert_int_ge(stream_len(key), 100);
        ck_assert_int_le(stream_len(key), 320);
        total += stream_len(key);
    }
    type_close(&sink_type_redis_stream); /* a new one measures at once */
    OPEN("s:s, s:i, s:i", "key", "k", "shards", 3, "maxlen", 100);
    refresh();
    struct stream_status stream = status().stream;
    ck_assert(stream.measured);
    ck_assert_int_eq(stream.streams, 3);
    ck_assert_int_le(stream.entries, total);
    ck_assert_int_ge(stream.entries, 300);
    ck_assert_int_lt(stream.entries_most, stream.entries);
    ck_assert_uint_eq(stream.group_count, 1);
    ck_assert_str_eq(stream.groups[0].name, "readers");
    ck_assert_int_eq(stream.groups[0].trimmed_unread, 4000 - stream.entries);
    ck_assert_int_eq(stream.groups[0].lag, stream.entries);
}
END_TEST

/* --- templates --- */

START_TEST(the_key_is_a_template_and_a_missing_value_rejects_only_that_message) {
    OPEN("s:s", "key", "site-{label.site}");
    add_message("c", "a", 1);
    add_message("c", NULL, 2);
    add_message("c", "b", 3);
    ck_assert_int_eq(write_batch(), ERR_OK);
    ck_assert_int_eq(type_outcomes[0], SINK_ACCEPTED);
    ck_assert_int_eq(type_outcomes[1], SINK_REJECTED);
    ck_assert_int_eq(type_outcomes[2], SINK_ACCEPTED);
    ck_assert_str_eq(type_reasons[1], "key: the message has no label.site");
    ck_assert_int_eq(stream_len("p:site-a"), 1);
    ck_assert_int_eq(stream_len("p:site-b"), 1);
}
END_TEST

START_TEST(a_template_with_shards_and_a_default) {
    OPEN("s:s, s:i", "key", "site-{label.site|none}", "shards", 2);
    for (int i = 0; i < 50; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        add_message(id, NULL, i);
    }
    write_ok();
    ck_assert_int_gt(stream_len("p:site-none:0"), 10);
    ck_assert_int_gt(stream_len("p:site-none:1"), 10);
}
END_TEST

START_TEST(a_wrong_template_is_a_fault_of_the_field) {
    json_t *settings = type_complete(&sink_type_redis_stream, "{s:s}", "key", "a-{nothing}");
    enum err err =
        sink_type_redis_stream.open(&type_state, &type_environment, settings, type_fault);
    ck_assert_int_eq(err, ERR_ARGUMENT);
    ck_assert_msg(strncmp(type_fault, "key ", 4) == 0, "%s", type_fault);
    json_decref(settings);
}
END_TEST

START_TEST(each_stream_of_a_template_is_trimmed) {
    OPEN("s:s, s:i", "key", "{label.site}", "maxlen", 100);
    for (int i = 0; i < 5; i++) {
        write_for_site("a", 500);
        write_for_site("b", 300);
    }
    ck_assert_int_le(stream_len("p:a"), 320);
    ck_assert_int_le(stream_len("p:b"), 320);
    ck_assert_int_ge(stream_len("p:b"), 100);
}
END_TEST

/* With trim consumed, each stream waits for its own readers only. */
START_TEST(a_full_stream_holds_only_its_own_messages) {
    OPEN("s:s, s:i, s:s", "key", "{label.site}", "maxlen", 10, "trim", "consumed");
    write_for_site("a", 10);
    add_message("c", "a", 11);
    add_message("c", "b", 1);
    ck_assert_int_eq(write_batch(), ERR_FULL);
    ck_assert_int_eq(type_outcomes[0], SINK_RETRY);
    ck_assert_int_eq(type_outcomes[1], SINK_ACCEPTED);
    ck_assert_msg(strstr(type_error, "stream p:a") && strstr(type_error, "no consumer group"), "%s",
                  type_error);
    ck_assert(status().paused);
    ck_assert_int_eq(stream_len("p:a"), 10);
    clear_batch();
    redis_reply_free(ask("XGROUP CREATE p:a g $")); /* has read everything */
    write_for_site("a", 1);
    ck_assert_int_eq(stream_len("p:a"), 1);
}
END_TEST

START_TEST(an_error_of_a_stream_leaves_its_messages_in_order_and_the_others_go_on) {
    OPEN("s:s", "key", "{label.site}");
    redis_reply_free(ask("SET p:a text"));
    add_message("c", "a", 1);
    add_message("c", "b", 2);
    add_message("c", "a", 3);
    ck_assert_int_eq(write_batch(), ERR_PROTOCOL);
    ck_assert_int_eq(type_outcomes[0], SINK_RETRY);
    ck_assert_int_eq(type_outcomes[1], SINK_ACCEPTED);
    ck_assert_int_eq(type_outcomes[2], SINK_RETRY);
    ck_assert_msg(strstr(type_error, "p:a"), "%s", type_error);
}
END_TEST

/* --- many streams --- */

static void write_many_streams(int from, int count, int each) {
    char site[16];
    for (int n = 0; n < count; n++) {
        snprintf(site, sizeof site, "s%d", from + n);
        for (int i = 0; i < each; i++) {
            add_message("c", site, i);
        }
        if (batch_len + (size_t)each > BATCH_MAX || n == count - 1) {
            write_ok();
        }
    }
}

START_TEST(streams_beyond_the_measured_ones_are_trimmed_by_xadd_and_told) {
    OPEN("s:s, s:i", "key", "{label.site}", "maxlen", 100);
    write_many_streams(0, STREAMS_MAX, 1);
    ck_assert(!status().stream.untracked);
    write_many_streams(STREAMS_MAX, 1, 1000);
    ck_assert_int_le(stream_len("p:s1024"), 200);
    ck_assert_int_ge(stream_len("p:s1024"), 100);
    ck_assert_int_eq(status().stream.streams, STREAMS_MAX);
    ck_assert(status().stream.untracked);
}
END_TEST

/* XADD would trim what a group has not read. */
START_TEST(with_consumed_any_number_of_streams_is_kept_whole) {
    OPEN("s:s, s:i, s:s", "key", "{label.site}", "maxlen", 100, "trim", "consumed");
    for (int i = 0; i < 2; i++) {
        write_many_streams(0, STREAMS_MAX + 300, 2);
    }
    for (int n = 0; n < STREAMS_MAX + 300; n += 100) {
        char key[16];
        snprintf(key, sizeof key, "p:s%d", n);
        ck_assert_int_eq(stream_len(key), 4);
    }
    ck_assert_int_le(status().stream.streams, STREAMS_MAX);
    for (int i = 0; i < 300; i++) {
        add_message("c", "late", i);
    }
    ck_assert_int_eq(write_batch(), ERR_FULL);
    ck_assert_int_eq(stream_len("p:late"), 100);
}
END_TEST

/* Also those that no message comes for any more. */
START_TEST(streams_without_new_messages_are_trimmed_when_they_were_read) {
    OPEN("s:s, s:s", "key", "{label.site}", "trim", "consumed");
    write_for_site("a", 300);
    write_for_site("b", 300);
    redis_reply_free(ask("XGROUP CREATE p:a g $"));
    redis_reply_free(ask("XGROUP CREATE p:b g $"));
    for (int i = 0; i < 100 && stream_len("p:a") + stream_len("p:b") > 200; i++) {
        write_for_site("c", 1); /* others go on */
        clock_sleep_ms(200);
    }
    ck_assert_int_le(stream_len("p:a") + stream_len("p:b"), 200);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("streams");
    TCase *tcase = tcase_create("streams");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, shards_distribute_the_clients_and_keep_the_order_of_each);
    tcase_add_test(tcase, each_shard_is_trimmed_measured_and_summed);
    tcase_add_test(tcase, the_key_is_a_template_and_a_missing_value_rejects_only_that_message);
    tcase_add_test(tcase, a_template_with_shards_and_a_default);
    tcase_add_test(tcase, a_wrong_template_is_a_fault_of_the_field);
    tcase_add_test(tcase, each_stream_of_a_template_is_trimmed);
    tcase_add_test(tcase, a_full_stream_holds_only_its_own_messages);
    tcase_add_test(tcase, an_error_of_a_stream_leaves_its_messages_in_order_and_the_others_go_on);
    tcase_add_test(tcase, streams_beyond_the_measured_ones_are_trimmed_by_xadd_and_told);
    tcase_add_test(tcase, with_consumed_any_number_of_streams_is_kept_whole);
    tcase_add_test(tcase, streams_without_new_messages_are_trimmed_when_they_were_read);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
