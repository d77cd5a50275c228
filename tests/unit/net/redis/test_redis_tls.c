/* Tests of net/redis over TLS with a real redis-server. */
#include "net/redis/redis.h"
#include "net/redis/redis_tls.h"

#include <check.h>
#include "redis_servers.h"

#define TIMEOUT_MS 2000

enum { CERT, KEY, CA, OTHER, FILES };

static struct server *server;
static int tls_port;
static char path[FILES][96];
static char fault[REDIS_TLS_FAULT_LEN];

/* A CA, and a certificate for 127.0.0.1. */
static void setup_with(const char *clients) {
    char command[2048], port[8];
    const char *const names[] = {"cert.pem", "key.pem", "ca.pem", "other.pem"};
    servers_begin();
    for (size_t i = 0; i < FILES; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", servers.folder, names[i]);
    }
    snprintf(
        command, sizeof command,
        "cd %s && exec > openssl.log 2>&1 && "
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 "
        "-subj /CN=authority && openssl req -newkey rsa:2048 -nodes -keyout key.pem -out req "
        "-subj /CN=redis && printf 'subjectAltName=IP:127.0.0.1' > ext && openssl x509 -req "
        "-in req -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile ext && "
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 "
        "-subj /CN=other",
        servers.folder);
    ck_assert_int_eq(system(command), 0);
    tls_port = server_free_port();
    snprintf(port, sizeof port, "%d", tls_port);
    ck_assert_msg(redis_tls_load(path[CA], "", "", fault) == ERR_OK, "%s", fault);
    server = SERVER_START("--tls-port", port, "--tls-auth-clients", clients, "--tls-cert-file",
                          path[CERT], "--tls-key-file", path[KEY], "--tls-ca-cert-file", path[CA]);
}

static void setup(void) {
    setup_with("no");
}

static void setup_for_known_clients(void) {
    setup_with("yes");
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

/* Redis answers and closes, while the rest of the value is being sent. */
START_TEST(the_reason_for_which_the_server_closes_is_read) {
    enum { LEN = 16000000 };
    struct redis *redis = connection("127.0.0.1");
    struct redis_reply *reply = NULL;
    char *value = malloc(LEN + 1);
    memset(value, 'v', LEN);
    value[LEN] = '\0';
    SERVER_TELL(server, "CONFIG", "SET", "proto-max-bulk-len", "1048576");
    ck_assert_int_eq(redis_append(redis, 2, (const char *[]){"ECHO", "small"}, NULL), ERR_OK);
    ck_assert_int_eq(redis_append(redis, 2, (const char *[]){"ECHO", value}, NULL), ERR_OK);
    ck_assert_int_eq(redis_read(redis, &reply), ERR_OK);
    ck_assert_str_eq(redis_reply_str(reply, NULL), "small");
    redis_reply_free(reply);
    ck_assert_msg(redis_read(redis, &reply) == ERR_OK, "%s", redis_error(redis));
    ck_assert_str_eq(redis_reply_str(reply, NULL), "ERR Protocol error: invalid bulk length");
    redis_reply_free(reply);
    redis_destroy(redis);
    free(value);
}
END_TEST

START_TEST(messages_come_over_tls_and_a_stalled_server_is_a_timeout) {
    char *text = NULL;
    struct redis *listener = connection("127.0.0.1");
    struct redis *redis = connection("127.0.0.1");
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_next_message(listener, "wake", 20, &text), ERR_TIMEOUT);
    EVENTUALLY(SERVER_SAYS(server, "pubsub_channels:1", "INFO", "stats"));
    ck_assert_int_eq(
        redis_command(redis, 3, (const char *[]){"PUBLISH", "wake", "up"}, NULL, &reply), ERR_OK);
    redis_reply_free(reply);
    ck_assert_int_eq(redis_next_message(listener, "wake", 2000, &text), ERR_OK);
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
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(redis_command(redis, 1, (const char *[]){"PING"}, NULL, &reply),
                     ERR_UNAVAILABLE);
    ck_assert_msg(strstr(redis_error(redis), why), "%s", redis_error(redis));
    ck_assert_int_lt(clock_ms() - begin_ms, TIMEOUT_MS * 2);
    redis_destroy(redis);
}

static void expect_answers(void) {
    struct redis *redis = connection("127.0.0.1");
    struct redis_reply *reply = NULL;
    ck_assert_msg(redis_command(redis, 1, (const char *[]){"PING"}, NULL, &reply) == ERR_OK, "%s",
                  redis_error(redis));
    redis_reply_free(reply);
    redis_destroy(redis);
}

START_TEST(a_certificate_for_another_host_is_refused) {
    expect_refused("localhost", "hostname mismatch");
}
END_TEST

START_TEST(a_certificate_of_an_unknown_authority_is_refused) {
    ck_assert_int_eq(redis_tls_load(path[OTHER], "", "", fault), ERR_OK);
    expect_refused("127.0.0.1", "self-signed certificate");
}
END_TEST

START_TEST(without_a_ca_file_the_authorities_of_the_system_count) {
    setenv("SSL_CERT_FILE", path[CA], 1);
    ck_assert_int_eq(redis_tls_load("", "", "", fault), ERR_OK);
    expect_answers();
    setenv("SSL_CERT_FILE", path[OTHER], 1);
    ck_assert_int_eq(redis_tls_load("", "", "", fault), ERR_OK);
    expect_refused("127.0.0.1", "self-signed certificate");
}
END_TEST

START_TEST(a_port_without_tls_is_named_as_such_and_a_silent_one_takes_no_longer_than_the_timeout) {
    tls_port = server->port;
    expect_refused("127.0.0.1", "TLS: ");
    struct sockaddr_in address = {.sin_family = AF_INET};
    tls_port = server_free_port();
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)tls_port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, 5), 0);
    expect_refused("127.0.0.1", "the handshake timed out");
    close(fd);
}
END_TEST

START_TEST(a_server_that_asks_for_a_certificate_gets_it) {
    expect_refused("127.0.0.1", "requests a certificate: redis_config.tls_cert_file");
    ck_assert_int_eq(redis_tls_load(path[CA], path[CERT], path[KEY], fault), ERR_OK);
    expect_answers();
}
END_TEST

START_TEST(a_file_that_cannot_be_used_is_named_and_what_was_loaded_stays) {
    static const struct {
        int ca, cert, key;
        const char *says;
    } BAD[] = {
        {KEY, CERT, KEY, "redis_config.tls_ca_file: "},
        {CA, KEY, KEY, "redis_config.tls_cert_file: "},
        {CA, CERT, CERT, "redis_config.tls_key_file: "},
        {CA, OTHER, KEY, "is not the key of redis_config.tls_cert_file"},
    };
    ck_assert_int_eq(redis_tls_load(path[CA], path[CERT], path[KEY], fault), ERR_OK);
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        ck_assert_int_eq(
            redis_tls_load(path[BAD[i].ca], path[BAD[i].cert], path[BAD[i].key], fault),
            ERR_ARGUMENT);
        ck_assert_msg(strstr(fault, BAD[i].says), "%s", fault);
        expect_answers();
    }
    ck_assert_int_eq(redis_tls_load("/nonexistent", "", "", fault), ERR_ARGUMENT);
    ck_assert_msg(strstr(fault, "/nonexistent: "), "%s", fault);
}
END_TEST

static void add(Suite *suite) {
    TCase *open = tcase_create("any client");
    tcase_set_timeout(open, 60);
    tcase_add_checked_fixture(open, setup, servers_end);
    tcase_add_test(open, large_pipelines_and_idle_connections_work_over_tls);
    tcase_add_test(open, the_reason_for_which_the_server_closes_is_read);
    tcase_add_test(open, messages_come_over_tls_and_a_stalled_server_is_a_timeout);
    tcase_add_test(open, a_certificate_for_another_host_is_refused);
    tcase_add_test(open, a_certificate_of_an_unknown_authority_is_refused);
    tcase_add_test(open, without_a_ca_file_the_authorities_of_the_system_count);
    tcase_add_test(
        open,
        a_port_without_tls_is_named_as_such_and_a_silent_one_takes_no_longer_than_the_timeout);
    suite_add_tcase(suite, open);
    TCase *known = tcase_create("known clients");
    tcase_set_timeout(known, 60);
    tcase_add_checked_fixture(known, setup_for_known_clients, servers_end);
    tcase_add_test(known, a_server_that_asks_for_a_certificate_gets_it);
    tcase_add_test(known, a_file_that_cannot_be_used_is_named_and_what_was_loaded_stays);
    suite_add_tcase(suite, known);
}

int main(void) {
    Suite *suite = suite_create("redis_tls");
    add(suite);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
