/* Tests of the store, the wake-up channel and the sink's stream with the ACL user of docs/redis.md:
 * what that page allows is sufficient, and everything else is denied. */
#include <check.h>
#include "redis_servers.h"
#include "whole_life.h"

/* The rules after "ACL SETUSER mqfleet" in docs/redis.md, which tests/e2e/redis reads there. */
static const char *const RULES[] = {"on",
                                    ">secret",
                                    "resetkeys",
                                    "~fleet:*",
                                    "resetchannels",
                                    "&fleet:mqtt_fleet:wake",
                                    "&fleet:mqtt_fleet:wake:*",
                                    "&fleet:mqtt_fleet:events",
                                    "&fleet:mqtt_fleet:listen",
                                    "-@all",
                                    "+ping",
                                    "+select",
                                    "+evalsha",
                                    "+eval",
                                    "+subscribe",
                                    "+publish",
                                    "+time",
                                    "+xadd",
                                    "+xlen",
                                    "+xtrim",
                                    "+xdel",
                                    "+xrange",
                                    "+xpending",
                                    "+xinfo|groups",
                                    "+hincrby",
                                    "+memory|usage",
                                    "+info",
                                    "+wait",
                                    "+role",
                                    "+scan",
                                    "+cluster|info",
                                    "+get",
                                    "+mget",
                                    "+set",
                                    "+del",
                                    "+exists",
                                    "+type",
                                    "+pttl",
                                    "+hget",
                                    "+hmget",
                                    "+hset",
                                    "+hdel",
                                    "+hexists",
                                    "+hlen",
                                    "+hscan",
                                    "+hgetall",
                                    "+llen",
                                    "+lrange",
                                    "+lrem",
                                    "+ltrim",
                                    "+rpush",
                                    "+zadd",
                                    "+zcard",
                                    "+zcount",
                                    "+zrevrangebyscore",
                                    "+zrem",
                                    "+zscore",
                                    "+zrangebyscore",
                                    "+zremrangebyscore"};

#define RULE_COUNT (sizeof RULES / sizeof RULES[0])

static struct server *server;
static char url[128];

static void setup(void) {
    const char *argv[RULE_COUNT + 3] = {"ACL", "SETUSER", "mqfleet"};
    struct redis_reply *reply = NULL;
    servers_begin();
    server = SERVER_START("--appendonly", "no");
    memcpy(argv + 3, RULES, sizeof RULES);
    SERVER_TELL(server, "PING");
    ck_assert_int_eq(redis_command(server->admin, RULE_COUNT + 3, argv, NULL, &reply), ERR_OK);
    ck_assert_msg(redis_reply_type(reply) == REDIS_STATUS, "%s", redis_reply_str(reply, NULL));
    redis_reply_free(reply);
    snprintf(url, sizeof url, "redis://mqfleet:secret@127.0.0.1:%d/0", server->port);
    store = store_open(url, "fleet:", 2000, 2);
}

static void teardown(void) {
    store_close(store);
    servers_end();
}

/* The answer as that user. */
static enum err call(struct redis *redis, const char *verb, const char *key, const char *value) {
    struct redis_reply *reply = NULL;
    enum err err =
        redis_command(redis, value ? 3 : 2, (const char *[]){verb, key, value}, NULL, &reply);
    redis_reply_free(reply);
    return err;
}

START_TEST(the_documented_user_may_do_all_that_a_node_does) {
    struct redis *redis = redis_create(url, 2000);
    struct redis *listener = redis_create(url, 2000);
    struct redis_reply *reply = NULL;
    char *text = NULL, *channel = store_wake_channel("fleet:", NULL);
    ck_assert_int_eq(redis_next_message(listener, channel, 20, &text), ERR_TIMEOUT);
    EVENTUALLY(SERVER_SAYS(server, "pubsub_channels:1", "INFO", "stats"));
    live_a_whole_life();
    ck_assert_int_eq(redis_next_message(listener, channel, 2000, &text), ERR_OK);
    free(text);
    const char *add[] = {"XADD", "fleet:mqtt_msg", "MAXLEN", "~", "10", "*", "id", "a"};
    ck_assert_int_eq(redis_command(redis, 8, add, NULL, &reply), ERR_OK);
    ck_assert_int_eq(redis_reply_type(reply), REDIS_STRING);
    redis_reply_free(reply);
    ck_assert_int_eq(redis_wait_replicas(redis, 0, 10), ERR_OK);
    free(channel);
    redis_destroy(redis);
    redis_destroy(listener);
}
END_TEST

START_TEST(other_keys_commands_and_channels_are_refused_to_that_user) {
    static const char *const CALLS[][3] = {{"GET", "other:key", NULL},
                                           {"KEYS", "*", NULL},
                                           {"CONFIG", "GET", "dir"},
                                           {"PUBLISH", "other", "x"},
                                           {"FLUSHALL", "SYNC", NULL}};
    struct redis *redis = redis_create(url, 2000);
    for (size_t i = 0; i < sizeof CALLS / sizeof CALLS[0]; i++) {
        EVENTUALLY(call(redis, "GET", "fleet:x", NULL) == ERR_OK);
        ck_assert_int_eq(call(redis, CALLS[i][0], CALLS[i][1], CALLS[i][2]), ERR_UNAVAILABLE);
        ck_assert_ptr_nonnull(strstr(redis_error(redis), "NOPERM"));
        ck_assert_ptr_null(strstr(redis_error(redis), "secret"));
    }
    redis_destroy(redis);
}
END_TEST

START_TEST(a_user_without_a_command_of_the_scripts_is_told_so_in_the_log) {
    char path[96], line[1024];
    bool said = false;
    struct store_counts counts;
    SERVER_TELL(server, "ACL", "SETUSER", "mqfleet", "-hlen");
    snprintf(path, sizeof path, "%s/stderr", servers.folder);
    ck_assert_ptr_nonnull(freopen(path, "w", stderr));
    ck_assert_int_ne(store_counts(store, &counts), ERR_OK);
    FILE *log = fopen(path, "r");
    while (fgets(line, sizeof line, log)) {
        said = said || strstr(line, "user");
    }
    fclose(log);
    ck_assert(said);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("store_acl");
    TCase *tcase = tcase_create("store_acl");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_documented_user_may_do_all_that_a_node_does);
    tcase_add_test(tcase, other_keys_commands_and_channels_are_refused_to_that_user);
    tcase_add_test(tcase, a_user_without_a_command_of_the_scripts_is_told_so_in_the_log);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
