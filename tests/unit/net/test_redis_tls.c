/* net/redis over TLS to a real redis-server. Where hiredis has no TLS there is nothing to test: the
 * url is refused, see test_redis_url.c. */
#include "net/redis.h"

#include <check.h>
#include "redis_servers.h"

#ifdef HAVE_HIREDIS_SSL

#define TIMEOUT_MS 2000

static struct server *server;
static int tls_port;

/* An authority of our own, trusted through the environment, and a certificate for 127.0.0.1. */
static void setup(void) {
    char command[1024], port[8], path[3][96];
    const char *const names[] = {"cert.pem", "key.pem", "ca.pem"};
    servers_begin();
    for (size_t i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", servers.folder, names[i]);
    }
    snprintf(command, sizeof command,
             "cd %s && exec > openssl.log 2>&1 && "
             "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 "
             "-subj /CN=authority && openssl req -newkey rsa:2048 -nodes -keyout key.pem -out req "
             "-subj /CN=redis && printf 'subjectAltName=IP:127.0.0.1' > ext && openssl x509 -req "
             "-in req -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile ext",
             servers.folder);
    ck_assert_int_eq(system(command), 0);
    tls_port = server_free_port();
    snprintf(port, sizeof port, "%d", tls_port);
    setenv("SSL_CERT_FILE", path[2], 1);
    server = SERVER_START("--tls-port", port, "--tls-auth-clients", "no", "--tls-cert-file",
                          path[0], "--tls-key-file", path[1], "--tls-ca-cert-file", path[2]);
}

static struct redis *connection(const char *host) {
    char url[128];
    snprintf(url, sizeof url, "rediss://%s:%d/3", host, tls_port);
    return redis_create(url, TIMEOUT_MS);
}

START_TEST(large_pipelines_and_idle_connections_work_over_tls) {
    enum { COUNT = 200, LEN = 100000 };
    static char value[LEN + 1];
    struct redis *redis = connection("127.0.0.1");
    memset(value, 'v', LEN);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(redis_append(redis, 2, (const char *[]){"ECHO", value}, NULL), ERR_OK);
    }
    for (int i = 0; i < COUNT; i++) {
        struct redis_reply *reply = NULL;
        size_t len = 0;
        ck_assert_msg(redis_read(redis, &reply) == ERR_OK, "%s", redis_error(redis));
        ck_assert_ptr_nonnull(redis_reply_str(reply, &len));
        ck_assert_uint_eq(len, LEN);
        redis_reply_free(reply);
    }
    int fd = redis_fd(redis);
    for (int i = 0; i < 3; i++) {
        struct redis_reply *reply = NULL;
        clock_sleep_ms(20);
        ck_assert_int_eq(redis_command(redis, 1, (const char *[]){"PING"}, NULL, &reply), ERR_OK);
        redis_reply_free(reply);
        ck_assert_int_eq(redis_fd(redis), fd); /* no message of TLS itself was taken for an end */
    }
    redis_destroy(redis);
}
END_TEST

START_TEST(messages_come_over_tls_and_a_stalled_server_is_a_timeout) {
    char *text = NULL;
    struct redis *listener = connection("127.0.0.1");
    struct redis *redis = connection("127.0.0.1");
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_subscribed_message(listener, "wake", 20, &text), ERR_TIMEOUT);
    EVENTUALLY(SERVER_SAYS(server, "pubsub_channels:1", "INFO", "stats"));
    ck_assert_int_eq(
        redis_command(redis, 3, (const char *[]){"PUBLISH", "wake", "up"}, NULL, &reply), ERR_OK);
    redis_reply_free(reply);
    ck_assert_int_eq(redis_subscribed_message(listener, "wake", 2000, &text), ERR_OK);
    ck_assert_str_eq(text, "up");
    free(text);
    kill(server->pid, SIGSTOP);
    ck_assert_int_eq(redis_command(redis, 1, (const char *[]){"PING"}, NULL, &reply), ERR_TIMEOUT);
    int64_t begin_ms = clock_ms(); /* the handshake is bounded, too */
    ck_assert_int_eq(redis_command(redis, 1, (const char *[]){"PING"}, NULL, &reply),
                     ERR_UNAVAILABLE);
    ck_assert_int_lt(clock_ms() - begin_ms, TIMEOUT_MS * 2);
    kill(server->pid, SIGCONT);
    redis_destroy(listener);
    redis_destroy(redis);
}
END_TEST

static void expect_refused(const char *host, const char *why) {
    struct redis *redis = connection(host);
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_command(redis, 1, (const char *[]){"PING"}, NULL, &reply),
                     ERR_UNAVAILABLE);
    ck_assert_msg(strstr(redis_error(redis), why), "%s", redis_error(redis));
    redis_destroy(redis);
}

START_TEST(a_certificate_for_another_host_is_refused) {
    expect_refused("localhost", "hostname mismatch");
}
END_TEST

START_TEST(a_certificate_of_an_unknown_authority_is_refused) {
    setenv("SSL_CERT_FILE", "/nonexistent", 1);
    expect_refused("127.0.0.1", "certificate");
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_checked_fixture(tcase, setup, servers_end);
    tcase_add_test(tcase, large_pipelines_and_idle_connections_work_over_tls);
    tcase_add_test(tcase, messages_come_over_tls_and_a_stalled_server_is_a_timeout);
    tcase_add_test(tcase, a_certificate_for_another_host_is_refused);
    tcase_add_test(tcase, a_certificate_of_an_unknown_authority_is_refused);
}

#else

static void add(TCase *tcase) {
    (void)tcase;
}

#endif

int main(void) {
    Suite *suite = suite_create("redis_tls");
    TCase *tcase = tcase_create("redis_tls");
    tcase_set_timeout(tcase, 60);
    add(tcase);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
