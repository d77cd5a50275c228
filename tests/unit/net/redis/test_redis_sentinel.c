/* Tests of net/redis with real sentinels: discovery, failover, and servers that are not the
 * master. */
#include "net/redis/redis.h"

#include <check.h>
#include "redis_servers.h"

#define TIMEOUT_MS 1000
#define SENTINELS  3

static struct server *master, *replica, *sentinels[SENTINELS];
static char url[256];
static struct redis *redis;

static void setup(void) {
    servers_begin();
    master = SERVER_START("--repl-diskless-sync-delay", "0");
    replica = server_start_replica(master);
    for (size_t i = 0; i < SENTINELS; i++) {
        sentinels[i] = server_start_sentinel(master, 2);
    }
    for (size_t i = 0; i < SENTINELS; i++) {
        EVENTUALLY(SERVER_SAYS(sentinels[i], "sentinels=3", "INFO", "sentinel"));
        EVENTUALLY(SERVER_SAYS(sentinels[i], "slaves=1", "INFO", "sentinel"));
    }
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d/fleet/2",
             sentinels[0]->port, sentinels[1]->port, sentinels[2]->port);
    redis = redis_create(url, TIMEOUT_MS);
    ck_assert_ptr_nonnull(redis);
}

static void teardown(void) {
    redis_destroy(redis);
    servers_end();
}

static enum err call(struct redis *connection, const char *verb, const char *key,
                     const char *value) {
    struct redis_reply *reply = NULL;
    enum err err =
        redis_command(connection, value ? 3 : 2, (const char *[]){verb, key, value}, NULL, &reply);
    if (err == ERR_OK) {
        ck_assert_int_ne(redis_reply_type(reply), REDIS_ERROR);
        redis_reply_free(reply);
    }
    return err;
}

/* Whether `key` has `value` in database 2 of that server. */
static bool holds(struct server *server, const char *key, const char *value) {
    SERVER_TELL(server, "SELECT", "2");
    return SERVER_SAYS(server, value, "GET", key);
}

START_TEST(the_master_is_found_through_any_sentinel_that_answers) {
    ck_assert_int_eq(call(redis, "SET", "a", "1"), ERR_OK);
    ck_assert(holds(master, "a", "1"));
    kill(sentinels[0]->pid, SIGSTOP); /* accepts, and never answers */
    server_kill(sentinels[1]);
    struct redis *second = redis_create(url, TIMEOUT_MS);
    ck_assert_int_eq(call(second, "SET", "b", "2"), ERR_OK);
    ck_assert(holds(master, "b", "2"));
    redis_destroy(second);
    kill(sentinels[0]->pid, SIGCONT);
}
END_TEST

START_TEST(without_a_sentinel_or_with_an_unknown_name_it_is_unavailable_in_time) {
    char text[256];
    snprintf(text, sizeof text, "redis+sentinel://127.0.0.1:%d/nobody", sentinels[0]->port);
    struct redis *unknown = redis_create(text, TIMEOUT_MS);
    ck_assert_int_eq(call(unknown, "GET", "a", NULL), ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(unknown), "name"));
    redis_destroy(unknown);
    for (size_t i = 0; i < SENTINELS; i++) {
        kill(sentinels[i]->pid, SIGSTOP);
    }
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(call(redis, "GET", "a", NULL), ERR_UNAVAILABLE);
    ck_assert_int_lt(clock_ms() - begin_ms, TIMEOUT_MS + 500);
}
END_TEST

/* The sentinels demote the old master after ten seconds. Until then it accepts writes that are
 * lost. */
START_TEST(after_an_ordered_failover_calls_go_to_the_new_master_though_the_old_one_takes_writes) {
    struct redis *idle = redis_create(url, TIMEOUT_MS);
    ck_assert_int_eq(call(redis, "SET", "a", "1"), ERR_OK);
    ck_assert_int_eq(call(idle, "SET", "a", "1"), ERR_OK);
    EVENTUALLY(holds(replica, "a", "1"));
    SERVER_TELL(sentinels[0], "SENTINEL", "FAILOVER", "fleet");
    EVENTUALLY(SERVER_SAYS(replica, "role:master", "INFO", "replication"));
    int64_t begin_ms = clock_ms();
    EVENTUALLY(call(redis, "SET", "b", "2") == ERR_OK && holds(replica, "b", "2"));
    ck_assert_int_lt(clock_ms() - begin_ms, 5000);
    ck_assert(SERVER_SAYS(master, "role:master", "INFO", "replication"));
    ck_assert_int_eq(call(idle, "SET", "c", "3"), ERR_OK);
    ck_assert(holds(replica, "a", "1"));
    ck_assert(holds(replica, "c", "3"));
    redis_destroy(idle);
}
END_TEST

START_TEST(a_master_that_was_made_a_replica_is_left_at_the_first_write) {
    ck_assert_int_eq(call(redis, "SET", "a", "1"), ERR_OK);
    EVENTUALLY(holds(replica, "a", "1"));
    SERVER_TELL(sentinels[0], "SENTINEL", "FAILOVER", "fleet");
    EVENTUALLY(SERVER_SAYS(master, "role:slave", "INFO", "replication"));
    EVENTUALLY(call(redis, "SET", "b", "2") == ERR_OK);
    ck_assert(holds(replica, "b", "2"));
}
END_TEST

START_TEST(after_the_master_was_killed_calls_go_to_the_new_master) {
    char *text = NULL;
    struct redis *listener = redis_create(url, TIMEOUT_MS);
    ck_assert_int_eq(call(redis, "SET", "a", "1"), ERR_OK);
    ck_assert_int_eq(redis_next_message(listener, "wake", 10, &text), ERR_TIMEOUT);
    EVENTUALLY(holds(replica, "a", "1"));
    server_kill(master);
    EVENTUALLY(call(redis, "SET", "b", "2") == ERR_OK);
    ck_assert(holds(replica, "a", "1"));
    ck_assert(holds(replica, "b", "2"));
    EVENTUALLY(redis_next_message(listener, "wake", 10, &text) == ERR_TIMEOUT);
    ck_assert_int_eq(call(redis, "PUBLISH", "wake", "up"), ERR_OK);
    EVENTUALLY(redis_next_message(listener, "wake", 10, &text) == ERR_OK);
    ck_assert_str_eq(text, "up");
    free(text);
    redis_destroy(listener);
}
END_TEST

/* The old master still accepts writes when it wakes, and its connections are still open. */
START_TEST(no_idle_connection_writes_to_a_master_that_was_replaced_while_it_slept) {
    char *text = NULL;
    struct redis *idle = redis_create(url, TIMEOUT_MS);
    struct redis *listener = redis_create(url, TIMEOUT_MS);
    ck_assert_int_eq(call(redis, "SET", "a", "1"), ERR_OK);
    ck_assert_int_eq(call(idle, "SET", "a", "1"), ERR_OK);
    ck_assert_int_eq(redis_next_message(listener, "wake", 10, &text), ERR_TIMEOUT);
    EVENTUALLY(holds(replica, "a", "1"));
    kill(master->pid, SIGSTOP);
    EVENTUALLY(call(redis, "SET", "b", "2") == ERR_OK);
    for (size_t i = 0; i < SENTINELS; i++) {
        kill(sentinels[i]->pid, SIGSTOP); /* the old master is not demoted */
    }
    kill(master->pid, SIGCONT);
    EVENTUALLY(SERVER_SAYS(master, "role:master", "INFO", "replication"));
    for (size_t i = 0; i < SENTINELS; i++) {
        kill(sentinels[i]->pid, SIGCONT);
    }
    EVENTUALLY(call(idle, "SET", "c", "3") == ERR_OK);
    ck_assert(holds(replica, "c", "3"));
    ck_assert_int_eq(redis_next_message(listener, "wake", 0, &text), ERR_UNAVAILABLE);
    redis_destroy(idle);
    redis_destroy(listener);
}
END_TEST

START_TEST(a_server_that_is_no_master_is_not_believed) {
    /* The sentinels still name it, because each is stopped before it would correct it. */
    for (size_t i = 1; i < SENTINELS; i++) {
        server_kill(sentinels[i]);
    }
    char port[8];
    snprintf(port, sizeof port, "%d", replica->port);
    SERVER_TELL(replica, "REPLICAOF", "NO", "ONE");
    SERVER_TELL(master, "REPLICAOF", "127.0.0.1", port);
    enum err err = call(redis, "GET", "a", NULL);
    ck_assert_int_eq(err, ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(redis), "not a master"));
}
END_TEST

START_TEST(a_sentinel_that_wants_a_password_gets_that_of_the_url) {
    char text[256];
    for (size_t i = 0; i < SENTINELS; i++) {
        SERVER_TELL(sentinels[i], "ACL", "SETUSER", "default", "on", "resetpass", ">secret");
    }
    SERVER_TELL(master, "CONFIG", "SET", "requirepass", "secret");
    snprintf(text, sizeof text, "redis+sentinel://:secret@127.0.0.1:%d/fleet/2",
             sentinels[0]->port);
    struct redis *known = redis_create(text, TIMEOUT_MS);
    ck_assert_int_eq(call(known, "SET", "a", "1"), ERR_OK);
    redis_destroy(known);
    ck_assert_int_eq(call(redis, "GET", "a", NULL), ERR_UNAVAILABLE);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis_sentinel");
    TCase *tcase = tcase_create("redis_sentinel");
    tcase_set_timeout(tcase, 200);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_master_is_found_through_any_sentinel_that_answers);
    tcase_add_test(tcase, without_a_sentinel_or_with_an_unknown_name_it_is_unavailable_in_time);
    tcase_add_test(
        tcase,
        after_an_ordered_failover_calls_go_to_the_new_master_though_the_old_one_takes_writes);
    tcase_add_test(tcase, a_master_that_was_made_a_replica_is_left_at_the_first_write);
    tcase_add_test(tcase, after_the_master_was_killed_calls_go_to_the_new_master);
    tcase_add_test(tcase, no_idle_connection_writes_to_a_master_that_was_replaced_while_it_slept);
    tcase_add_test(tcase, a_server_that_is_no_master_is_not_believed);
    tcase_add_test(tcase, a_sentinel_that_wants_a_password_gets_that_of_the_url);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
