/* Tests of the Redis stream sink with a real cluster: one batch for streams on all nodes. */
#include "sink/type_fixture.h"

#include <check.h>
#include "net/redis/redis_router.h"
#include "redis_cluster.h"

extern const struct sink_type sink_type_redis_stream;

#define SHARDS   12
#define MESSAGES 600

static char url[128];
static struct message *batch[MESSAGES];

static void setup(void) {
    servers_begin();
    cluster_start();
    snprintf(url, sizeof url, "redis://127.0.0.1:%d,127.0.0.1:%d/0", servers.list[0].port,
             servers.list[1].port);
    type_environment.redis_url = url;
    type_environment.redis_timeout_ms = 1000;
    type_environment.key_prefix = "";
    type_open(&sink_type_redis_stream, type_complete(&sink_type_redis_stream, "{s:s, s:i, s:i}",
                                                     "key", "k", "shards", SHARDS, "maxlen", 1000));
    for (int i = 0; i < MESSAGES; i++) {
        char id[16], payload[16];
        int len = snprintf(payload, sizeof payload, "%d", i / 100);
        snprintf(id, sizeof id, "c%d", i % 100);
        batch[i] = message_create(&(struct message){.id = id,
                                                    .client_id = id,
                                                    .topic = "t",
                                                    .payload = (uint8_t *)payload,
                                                    .payload_len = (size_t)len,
                                                    .qos = 1});
    }
}

static void teardown(void) {
    type_close(&sink_type_redis_stream);
    for (int i = 0; i < MESSAGES; i++) {
        message_destroy(batch[i]);
    }
    servers_end();
}

static const char *shard_key(int shard) {
    static char key[16];
    snprintf(key, sizeof key, "k:%d", shard);
    return key;
}

/* *seen: the number of the next message of each client. */
static size_t check_order(int shard, struct server *owner, int *seen) {
    struct redis_reply *all = server_ask(owner, "XRANGE", shard_key(shard), "-", "+", NULL);
    size_t count = redis_reply_count(all);
    for (size_t i = 0; i < count; i++) {
        const struct redis_reply *fields = redis_reply_at(redis_reply_at(all, i), 1);
        int client = atoi(redis_reply_str(redis_reply_at(fields, 1), NULL) + 1);
        ck_assert_int_eq(atoi(redis_reply_str(redis_reply_at(fields, 7), NULL)), seen[client]++);
    }
    redis_reply_free(all);
    return count;
}

START_TEST(the_slot_of_a_key_is_that_of_redis) {
    static const char *const keys[] = {"123456789", "k:0", "{a}b", "a{}b",
                                       "a{b}{c}",   "{",   "}{x}", "mqtt_msg"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        ck_assert_int_eq(redis_router_slot(keys[i]), cluster_slot(keys[i]));
    }
}
END_TEST

START_TEST(one_batch_reaches_the_streams_of_all_nodes_in_order) {
    size_t written, per_node[CLUSTER_NODES] = {0};
    int seen[100] = {0};
    enum err err = type_write(&sink_type_redis_stream, batch, MESSAGES, &written);
    ck_assert_msg(err == ERR_OK, "%s", type_error);
    ck_assert_uint_eq(written, MESSAGES);
    for (int shard = 0; shard < SHARDS; shard++) {
        struct server *owner = cluster_owner(shard_key(shard));
        per_node[owner - servers.list] += check_order(shard, owner, seen);
    }
    for (int client = 0; client < 100; client++) {
        ck_assert_int_eq(seen[client], MESSAGES / 100);
    }
    for (size_t i = 0; i < CLUSTER_NODES; i++) {
        ck_assert_uint_gt(per_node[i], 0);
    }
}
END_TEST

static size_t count_outcomes(enum sink_outcome outcome) {
    size_t count = 0;
    for (size_t i = 0; i < MESSAGES; i++) {
        count += type_outcomes[i] == outcome;
    }
    return count;
}

START_TEST(a_node_that_is_gone_holds_only_its_own_streams) {
    size_t written;
    ck_assert_int_eq(type_write(&sink_type_redis_stream, batch, MESSAGES, &written), ERR_OK);
    server_kill(&servers.list[2]);
    ck_assert_int_ne(type_write(&sink_type_redis_stream, batch, MESSAGES, &written), ERR_OK);
    ck_assert_uint_gt(count_outcomes(SINK_RETRY), 0);
    ck_assert_uint_gt(count_outcomes(SINK_ACCEPTED), MESSAGES / 3);
    ck_assert_uint_eq(count_outcomes(SINK_REJECTED), 0);
}
END_TEST

START_TEST(a_stream_that_moves_to_another_node_is_followed) {
    size_t written;
    int seen[100] = {0};
    const char *key = shard_key(0);
    struct server *from = cluster_owner(key), *to = cluster_other(from);
    ck_assert_int_eq(type_write(&sink_type_redis_stream, batch, MESSAGES / 2, &written), ERR_OK);
    cluster_move_slot(from, to, key);
    enum err err =
        type_write(&sink_type_redis_stream, batch + MESSAGES / 2, MESSAGES / 2, &written);
    ck_assert_msg(err == ERR_OK, "%s", type_error);
    ck_assert_uint_eq(written, MESSAGES / 2);
    ck_assert_uint_gt(check_order(0, to, seen), 0);
    for (int client = 0; client < 100; client++) {
        ck_assert(seen[client] == 0 || seen[client] == MESSAGES / 100);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("stream_cluster");
    TCase *tcase = tcase_create("stream_cluster");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_slot_of_a_key_is_that_of_redis);
    tcase_add_test(tcase, one_batch_reaches_the_streams_of_all_nodes_in_order);
    tcase_add_test(tcase, a_node_that_is_gone_holds_only_its_own_streams);
    tcase_add_test(tcase, a_stream_that_moves_to_another_node_is_followed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
