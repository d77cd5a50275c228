/* Tests of net/redis with a real redis-server that fails, stops, restarts or is silent. */
#include "net/redis/redis.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "redis_fixture.h"

#define TIMEOUT_MS 500

static const char *url;
static struct redis *redis;

static void setup(void) {
    url = redis_fixture_start();
    redis = redis_create(url, TIMEOUT_MS);
    ck_assert_ptr_nonnull(redis);
}

static void teardown(void) {
    redis_destroy(redis);
    redis_fixture_stop();
}

#define CALL(connection, out, ...)                                                                 \
    redis_command((connection),                                                                    \
                  (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *)),             \
                  (const char *[]){__VA_ARGS__}, NULL, (out))

static enum err call_int(struct redis *connection, int64_t *out, const char *verb,
                         const char *key) {
    struct redis_reply *reply = NULL;
    enum err err = CALL(connection, &reply, verb, key);
    if (err == ERR_OK) {
        *out = redis_reply_int(reply);
        redis_reply_free(reply);
    }
    return err;
}

/* A command whose answer does not matter. */
#define DO(connection, ...)                                                                        \
    do {                                                                                           \
        struct redis_reply *do_reply = NULL;                                                       \
        ck_assert_int_eq(CALL((connection), &do_reply, __VA_ARGS__), ERR_OK);                      \
        redis_reply_free(do_reply);                                                                \
    } while (0)

static int free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

START_TEST(a_value_with_nul_bytes_comes_back_untouched) {
    const char *set[] = {"SET", "key", "a\0b"};
    struct redis_reply *reply = NULL;
    size_t len = 0;
    ck_assert_int_eq(redis_command(redis, 3, set, (size_t[]){3, 3, 3}, &reply), ERR_OK);
    ck_assert_int_eq(redis_reply_type(reply), REDIS_STATUS);
    redis_reply_free(reply);
    ck_assert_int_eq(CALL(redis, &reply, "GET", "key"), ERR_OK);
    ck_assert_mem_eq(redis_reply_str(reply, &len), "a\0b", 4);
    ck_assert_uint_eq(len, 3);
    redis_reply_free(reply);
}
END_TEST

START_TEST(replies_of_every_type_are_read) {
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(CALL(redis, &reply, "EVAL", "return {1, '-7', false, 'x', {2}}", "0"), ERR_OK);
    ck_assert_int_eq(redis_reply_type(reply), REDIS_ARRAY);
    ck_assert_uint_eq(redis_reply_count(reply), 5);
    ck_assert_int_eq(redis_reply_int(redis_reply_at(reply, 0)), 1);
    ck_assert_int_eq(redis_reply_int(redis_reply_at(reply, 1)), -7);
    ck_assert_int_eq(redis_reply_type(redis_reply_at(reply, 2)), REDIS_NIL);
    ck_assert_int_eq(redis_reply_int(redis_reply_at(reply, 3)), 0);
    ck_assert_int_eq(redis_reply_int(redis_reply_at(redis_reply_at(reply, 4), 0)), 2);
    ck_assert_int_eq(redis_reply_type(redis_reply_at(reply, 5)), REDIS_NIL);
    ck_assert_ptr_null(redis_reply_str(reply, NULL));
    redis_reply_free(reply);
}
END_TEST

START_TEST(an_error_about_the_data_is_a_reply) {
    struct redis_reply *reply = NULL;
    DO(redis, "SET", "key", "value");
    ck_assert_int_eq(CALL(redis, &reply, "LPUSH", "key", "x"), ERR_OK);
    ck_assert_int_eq(redis_reply_type(reply), REDIS_ERROR);
    ck_assert_int_eq(strncmp(redis_reply_str(reply, NULL), "WRONGTYPE", 9), 0);
    redis_reply_free(reply);
}
END_TEST

START_TEST(an_error_about_the_server_is_unavailable) {
    struct redis_reply *reply = NULL;
    DO(redis, "CONFIG", "SET", "maxmemory", "1");
    int fd = redis_fd(redis);
    ck_assert_int_eq(CALL(redis, &reply, "SET", "key", "value"), ERR_FULL);
    ck_assert_ptr_nonnull(strstr(redis_error(redis), "out of memory: OOM"));
    DO(redis, "CONFIG", "SET", "maxmemory", "0");
    ck_assert_int_eq(redis_fd(redis), fd); /* a new one would change nothing */
    DO(redis, "REPLICAOF", "127.0.0.1", "1");
    ck_assert_int_eq(CALL(redis, &reply, "SET", "key", "value"), ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(redis), "READONLY"));
}
END_TEST

START_TEST(connects_again_after_the_server_was_restarted) {
    int64_t value = 0;
    DO(redis, "SET", "key", "42");
    redis_fixture_restart();
    ck_assert_int_eq(call_int(redis, &value, "GET", "key"), ERR_OK);
    ck_assert_int_eq(value, 42);
}
END_TEST

START_TEST(a_server_that_is_gone_is_unavailable) {
    struct redis_reply *reply = NULL;
    DO(redis, "PING");
    redis_fixture_kill();
    ck_assert_int_eq(CALL(redis, &reply, "PING"), ERR_UNAVAILABLE);
    ck_assert_int_eq(redis_fd(redis), -1);
    ck_assert_str_ne(redis_error(redis), "");
}
END_TEST

START_TEST(a_stalled_server_is_a_timeout_and_its_late_reply_is_never_taken_for_another) {
    struct redis_reply *reply = NULL;
    int64_t value = 0;
    DO(redis, "SET", "a", "1");
    DO(redis, "SET", "b", "2");
    kill(redis_fixture_pid(), SIGSTOP);
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(CALL(redis, &reply, "GET", "a"), ERR_TIMEOUT);
    int64_t took_ms = clock_ms() - begin_ms;
    kill(redis_fixture_pid(), SIGCONT);
    ck_assert_int_ge(took_ms, TIMEOUT_MS - 20);
    ck_assert_int_lt(took_ms, TIMEOUT_MS * 4);
    ck_assert_int_eq(call_int(redis, &value, "GET", "b"), ERR_OK);
    ck_assert_int_eq(value, 2);
}
END_TEST

START_TEST(a_pipeline_larger_than_all_socket_buffers_comes_back_in_order) {
    enum { COUNT = 400, LEN = 100000 };
    static char value[LEN + 1];
    memset(value, 'v', LEN);
    for (int i = 0; i < COUNT; i++) {
        int digits = snprintf(value, LEN, "%d", i);
        value[digits] = 'v';
        ck_assert_int_eq(redis_append(redis, 2, (const char *[]){"ECHO", value}, NULL), ERR_OK);
    }
    for (int i = 0; i < COUNT; i++) {
        struct redis_reply *reply = NULL;
        size_t len = 0;
        ck_assert_int_eq(redis_read(redis, &reply), ERR_OK);
        ck_assert_int_eq(atoi(redis_reply_str(reply, &len)), i);
        ck_assert_uint_eq(len, LEN);
        redis_reply_free(reply);
    }
}
END_TEST

START_TEST(a_pipeline_that_breaks_fails_for_all_replies_that_are_left) {
    struct redis_reply *reply = NULL;
    const char *ping[] = {"PING"};
    const char *quit[] = {"QUIT"};
    ck_assert_int_eq(redis_append(redis, 1, ping, NULL), ERR_OK);
    ck_assert_int_eq(redis_append(redis, 1, quit, NULL), ERR_OK);
    ck_assert_int_eq(redis_append(redis, 1, ping, NULL), ERR_OK);
    ck_assert_int_eq(redis_append(redis, 1, ping, NULL), ERR_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(redis_read(redis, &reply), ERR_OK);
        redis_reply_free(reply);
    }
    ck_assert_int_eq(redis_read(redis, &reply), ERR_UNAVAILABLE);
    ck_assert_int_eq(redis_read(redis, &reply), ERR_UNAVAILABLE);
    DO(redis, "PING");
}
END_TEST

START_TEST(a_script_is_loaded_when_the_server_does_not_know_it) {
    const char *text = "return {KEYS[1], ARGV[1]}";
    const char *argv[] = {"key", "x\0y"};
    const size_t lens[] = {3, 3};
    char sha[41];
    redis_script_sha(text, sha);
    for (int i = 0; i < 4; i++) {
        struct redis_reply *reply = NULL;
        size_t len = 0;
        ck_assert_int_eq(redis_script(redis, sha, text, 1, 2, argv, lens, &reply), ERR_OK);
        ck_assert_str_eq(redis_reply_str(redis_reply_at(reply, 0), NULL), "key");
        ck_assert_mem_eq(redis_reply_str(redis_reply_at(reply, 1), &len), "x\0y", 4);
        ck_assert_uint_eq(len, 3);
        redis_reply_free(reply);
        if (i == 1) {
            DO(redis, "SCRIPT", "FLUSH");
        }
        if (i == 2) {
            redis_fixture_restart();
        }
    }
}
END_TEST

START_TEST(the_digest_is_the_one_redis_uses) {
    char sha[41];
    struct redis_reply *reply = NULL;
    redis_script_sha("return 1", sha);
    ck_assert_str_eq(sha, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    ck_assert_int_eq(CALL(redis, &reply, "SCRIPT", "LOAD", "return 1"), ERR_OK);
    ck_assert_str_eq(redis_reply_str(reply, NULL), sha);
    redis_reply_free(reply);
}
END_TEST

START_TEST(a_script_that_fails_is_a_protocol_error) {
    const char *text = "return redis.call('GET')";
    char sha[41];
    struct redis_reply *reply = NULL;
    redis_script_sha(text, sha);
    ck_assert_int_eq(redis_script(redis, sha, text, 0, 0, NULL, NULL, &reply), ERR_PROTOCOL);
    ck_assert_str_ne(redis_error(redis), "");
    DO(redis, "PING");
}
END_TEST

START_TEST(authenticates_and_selects_over_tcp) {
    char port[8];
    char text[128];
    int64_t value = 0;
    snprintf(port, sizeof port, "%d", free_port());
    const char *options[] = {"--port",        port,     "--bind", "127.0.0.1",
                             "--requirepass", "p@ss:/", NULL};
    redis_fixture_stop();
    redis_fixture_start_with(options);

    snprintf(text, sizeof text, "redis://:p%%40ss%%3a%%2F@127.0.0.1:%s/3", port);
    struct redis *plain = redis_create(text, TIMEOUT_MS);
    DO(plain, "SET", "in_three", "3");
    DO(plain, "ACL", "SETUSER", "fleet", "on", ">s%cret", "~*", "+@all");
    redis_destroy(plain);

    snprintf(text, sizeof text, "redis://fleet:s%%25cret@localhost:%s/3", port);
    struct redis *user = redis_create(text, TIMEOUT_MS);
    ck_assert_int_eq(call_int(user, &value, "GET", "in_three"), ERR_OK);
    ck_assert_int_eq(value, 3);
    redis_destroy(user);

    snprintf(text, sizeof text, "redis://fleet:wrong-secret@127.0.0.1:%s", port);
    struct redis *wrong = redis_create(text, TIMEOUT_MS);
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(CALL(wrong, &reply, "PING"), ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(wrong), "WRONGPASS"));
    ck_assert_ptr_null(strstr(redis_error(wrong), "secret"));
    redis_destroy(wrong);

    snprintf(text, sizeof text, "redis://127.0.0.1:%s", port);
    struct redis *nobody = redis_create(text, TIMEOUT_MS);
    ck_assert_int_eq(CALL(nobody, &reply, "PING"), ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(nobody), "NOAUTH"));
    redis_destroy(nobody);
}
END_TEST

START_TEST(a_published_message_is_received) {
    struct redis *listener = redis_create(url, TIMEOUT_MS);
    char *text = NULL;
    ck_assert_int_eq(redis_next_message(listener, "wake", 0, &text), ERR_TIMEOUT);
    ck_assert_int_ge(redis_fd(listener), 0);
    int64_t heard = 0; /* PUBLISH answers the number of listeners: wait until it is one */
    int64_t deadline_ms = clock_ms() + 5000;
    while (heard == 0 && clock_ms() < deadline_ms) {
        struct redis_reply *reply = NULL;
        ck_assert_int_eq(CALL(redis, &reply, "PUBLISH", "wake", "first"), ERR_OK);
        heard = redis_reply_int(reply);
        redis_reply_free(reply);
    }
    DO(redis, "PUBLISH", "wake", "second");
    ck_assert_int_eq(redis_next_message(listener, "wake", 5000, &text), ERR_OK);
    ck_assert_str_eq(text, "first");
    free(text);
    ck_assert_int_eq(redis_next_message(listener, "wake", 5000, &text), ERR_OK);
    ck_assert_str_eq(text, "second");
    free(text);
    ck_assert_int_eq(redis_next_message(listener, "wake", 30, &text), ERR_TIMEOUT);
    redis_destroy(listener);
}
END_TEST

START_TEST(a_lost_subscription_is_reported_once_and_made_again) {
    struct redis *listener = redis_create(url, TIMEOUT_MS);
    char *text = NULL;
    ck_assert_int_eq(redis_next_message(listener, "wake", 50, &text), ERR_TIMEOUT);
    redis_fixture_restart();
    ck_assert_int_eq(redis_next_message(listener, "wake", 5000, &text), ERR_UNAVAILABLE);
    ck_assert_int_eq(redis_next_message(listener, "wake", 50, &text), ERR_TIMEOUT);
    DO(redis, "PUBLISH", "wake", "again");
    ck_assert_int_eq(redis_next_message(listener, "wake", 5000, &text), ERR_OK);
    ck_assert_str_eq(text, "again");
    free(text);
    redis_destroy(listener);
}
END_TEST

START_TEST(a_silent_subscribed_connection_stays_while_pings_are_answered) {
    struct redis *listener = redis_create(url, TIMEOUT_MS);
    char *text = NULL;
    ck_assert_int_eq(redis_next_message(listener, "wake", 4500, &text), ERR_TIMEOUT);
    ck_assert_int_ge(redis_fd(listener), 0);
    redis_destroy(listener);
}
END_TEST

START_TEST(a_half_open_subscribed_connection_is_found_out) {
    struct redis *listener = redis_create(url, TIMEOUT_MS);
    char *text = NULL;
    ck_assert_int_eq(redis_next_message(listener, "wake", 50, &text), ERR_TIMEOUT);
    kill(redis_fixture_pid(), SIGSTOP);
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(redis_next_message(listener, "wake", 60000, &text), ERR_UNAVAILABLE);
    ck_assert_int_lt(clock_ms() - begin_ms, 10000);
    kill(redis_fixture_pid(), SIGCONT);
    redis_destroy(listener);
}
END_TEST

static enum err ping(struct redis *connection) {
    struct redis_reply *reply = NULL;
    enum err err = CALL(connection, &reply, "PING");
    if (err == ERR_OK) {
        redis_reply_free(reply);
    }
    return err;
}

static void *reload(void *argument) {
    struct redis *other = argument;
    DO(other, "DEBUG", "RELOAD");
    return NULL;
}

START_TEST(a_server_that_loads_its_data_is_unavailable_until_it_has) {
    static const char *const options[] = {"--enable-debug-command", "local", NULL};
    redis_fixture_stop();
    url = redis_fixture_start_with(options);
    struct redis *other = redis_create(url, 20000);
    struct redis *caller = redis_create(url, 5000);
    int64_t value = 0;
    enum err err = ERR_OK;
    pthread_t thread;
    DO(other, "DEBUG", "POPULATE", "2000");
    DO(other, "SET", "answer", "42");
    DO(other, "CONFIG", "SET", "key-load-delay", "500"); /* us for each key */
    DO(other, "CONFIG", "SET", "loading-process-events-interval-bytes", "1024");
    ck_assert_int_eq(pthread_create(&thread, NULL, reload, other), 0);
    int64_t deadline_ms = clock_ms() + 10000;
    while (err == ERR_OK && clock_ms() < deadline_ms) {
        err = call_int(caller, &value, "GET", "answer");
    }
    ck_assert_int_eq(err, ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(caller), "LOADING"));
    while (err != ERR_OK && clock_ms() < deadline_ms) {
        clock_sleep_ms(5);
        err = call_int(caller, &value, "GET", "answer");
    }
    ck_assert_int_eq(err, ERR_OK);
    ck_assert_int_eq(value, 42);
    pthread_join(thread, NULL);
    redis_destroy(other);
    redis_destroy(caller);
}
END_TEST

START_TEST(a_replica_without_its_master_is_unavailable) {
    int64_t value = 0;
    DO(redis, "SET", "key", "1");
    DO(redis, "CONFIG", "SET", "replica-serve-stale-data", "no");
    DO(redis, "REPLICAOF", "127.0.0.1", "1");
    ck_assert_int_eq(call_int(redis, &value, "GET", "key"), ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(redis), "MASTERDOWN"));
    ck_assert_int_eq(redis_fd(redis), -1);
}
END_TEST

START_TEST(a_script_on_a_server_that_became_a_replica_is_unavailable_and_wrote_nothing) {
    const char *text = "redis.call('SET', KEYS[1], '2') return 1";
    const char *argv[] = {"key"};
    char sha[41];
    int64_t value = 0;
    struct redis_reply *reply = NULL;
    redis_script_sha(text, sha);
    DO(redis, "SET", "key", "1");
    DO(redis, "REPLICAOF", "127.0.0.1", "1");
    ck_assert_int_eq(redis_script(redis, sha, text, 1, 1, argv, NULL, &reply), ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(redis), "READONLY"));
    ck_assert_int_eq(redis_fd(redis), -1); /* the next call searches for the master again */
    DO(redis, "REPLICAOF", "NO", "ONE");
    ck_assert_int_eq(call_int(redis, &value, "GET", "key"), ERR_OK);
    ck_assert_int_eq(value, 1);
    ck_assert_int_eq(redis_script(redis, sha, text, 1, 1, argv, NULL, &reply), ERR_OK);
    redis_reply_free(reply);
}
END_TEST

START_TEST(a_script_that_timed_out_may_have_run) {
    const char *text = "return redis.call('INCR', KEYS[1])";
    const char *argv[] = {"counter"};
    char sha[41];
    int64_t value = 0;
    struct redis_reply *reply = NULL;
    redis_script_sha(text, sha);
    ck_assert_int_eq(redis_script(redis, sha, text, 1, 1, argv, NULL, &reply), ERR_OK);
    redis_reply_free(reply);
    kill(redis_fixture_pid(), SIGSTOP);
    ck_assert_int_eq(redis_script(redis, sha, text, 1, 1, argv, NULL, &reply), ERR_TIMEOUT);
    kill(redis_fixture_pid(), SIGCONT);
    int64_t deadline_ms = clock_ms() + 10000;
    while (value != 2 && clock_ms() < deadline_ms) {
        ck_assert_int_eq(call_int(redis, &value, "GET", "counter"), ERR_OK);
    }
    ck_assert_int_eq(value, 2);
}
END_TEST

START_TEST(while_the_server_is_gone_calls_fail_at_once_and_connects_are_paced) {
    ck_assert_int_eq(ping(redis), ERR_OK);
    redis_fixture_kill();
    int64_t errors = metric_get(METRIC_REDIS_ERRORS); /* one for each attempt, none in between */
    int64_t begin_ms = clock_ms();
    int64_t calls = 0;
    while (clock_ms() - begin_ms < 2000) {
        ck_assert_int_eq(ping(redis), ERR_UNAVAILABLE);
        ck_assert_str_ne(redis_error(redis), "");
        calls++;
    }
    errors = metric_get(METRIC_REDIS_ERRORS) - errors;
    ck_assert_int_gt(calls, 20 * errors); /* would be as many if calls waited for a connect */
    ck_assert_int_ge(errors, 8);
    ck_assert_int_le(errors, 40);
}
END_TEST

START_TEST(a_server_that_is_back_is_used_again_within_300_ms) {
    ck_assert_int_eq(ping(redis), ERR_OK);
    redis_fixture_kill();
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(ping(redis), ERR_UNAVAILABLE);
        clock_sleep_ms(10);
    }
    redis_fixture_continue();
    int64_t begin_ms = clock_ms();
    while (ping(redis) != ERR_OK) {
        ck_assert_int_lt(clock_ms() - begin_ms, 300);
        clock_sleep_ms(1);
    }
}
END_TEST

START_TEST(wait_tells_whether_replicas_have_it) {
    ck_assert_int_eq(redis_wait_replicas(redis, 0, 10), ERR_UNAVAILABLE); /* nothing written here */
    DO(redis, "SET", "key", "1");
    ck_assert_int_eq(redis_wait_replicas(redis, 0, 10), ERR_OK);
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(redis_wait_replicas(redis, 1, TIMEOUT_MS + 200), ERR_TIMEOUT);
    ck_assert_int_ge(clock_ms() - begin_ms, TIMEOUT_MS + 150);
    ck_assert_int_ge(redis_fd(redis), 0);
    DO(redis, "PING");
}
END_TEST

/* ---- access ---------------------------------------------------------------------------------- */

static bool allows_all(const void *context, const char *host, const struct sockaddr *address,
                       const char **why) {
    return (void)context, (void)host, (void)address, (void)why, true;
}

/* The socket of a local service, such as the Redis of a node without a fleet. */
START_TEST(a_restricted_connection_sends_nothing_to_a_unix_socket) {
    char folder[] = "/tmp/mqfleet-test-redis-XXXXXX", byte;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct redis_reply *reply = NULL;
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    char text[sizeof address.sun_path + 8];
    snprintf(text, sizeof text, "unix://%s", address.sun_path);
    struct redis *local = redis_create(text, TIMEOUT_MS);
    redis_restrict(local, &(struct redis_access){.allowed = allows_all});
    ck_assert_int_eq(CALL(local, &reply, "PING"), ERR_UNAVAILABLE);
    ck_assert_msg(strstr(redis_error(local), "Unix socket"), "%s", redis_error(local));
    redis_destroy(local);
    int accepted = accept(listener, NULL, NULL);
    ck_assert_int_eq(recv(accepted, &byte, 1, 0), 0);
    close(accepted);
    close(listener);
    unlink(address.sun_path);
    rmdir(folder);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis");
    TCase *tcase = tcase_create("redis");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_value_with_nul_bytes_comes_back_untouched);
    tcase_add_test(tcase, replies_of_every_type_are_read);
    tcase_add_test(tcase, an_error_about_the_data_is_a_reply);
    tcase_add_test(tcase, an_error_about_the_server_is_unavailable);
    tcase_add_test(tcase, connects_again_after_the_server_was_restarted);
    tcase_add_test(tcase, a_server_that_is_gone_is_unavailable);
    tcase_add_test(tcase,
                   a_stalled_server_is_a_timeout_and_its_late_reply_is_never_taken_for_another);
    tcase_add_test(tcase, a_pipeline_larger_than_all_socket_buffers_comes_back_in_order);
    tcase_add_test(tcase, a_pipeline_that_breaks_fails_for_all_replies_that_are_left);
    tcase_add_test(tcase, a_script_is_loaded_when_the_server_does_not_know_it);
    tcase_add_test(tcase, the_digest_is_the_one_redis_uses);
    tcase_add_test(tcase, a_script_that_fails_is_a_protocol_error);
    tcase_add_test(tcase, authenticates_and_selects_over_tcp);
    tcase_add_test(tcase, a_published_message_is_received);
    tcase_add_test(tcase, a_lost_subscription_is_reported_once_and_made_again);
    tcase_add_test(tcase, a_silent_subscribed_connection_stays_while_pings_are_answered);
    tcase_add_test(tcase, a_half_open_subscribed_connection_is_found_out);
    tcase_add_test(tcase, a_server_that_loads_its_data_is_unavailable_until_it_has);
    tcase_add_test(tcase, a_replica_without_its_master_is_unavailable);
    tcase_add_test(tcase,
                   a_script_on_a_server_that_became_a_replica_is_unavailable_and_wrote_nothing);
    tcase_add_test(tcase, a_script_that_timed_out_may_have_run);
    tcase_add_test(tcase, while_the_server_is_gone_calls_fail_at_once_and_connects_are_paced);
    tcase_add_test(tcase, a_server_that_is_back_is_used_again_within_300_ms);
    tcase_add_test(tcase, wait_tells_whether_replicas_have_it);
    tcase_add_test(tcase, a_restricted_connection_sends_nothing_to_a_unix_socket);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
