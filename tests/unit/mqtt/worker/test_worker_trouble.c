/* A host with the Paho engine against a real mosquitto: what goes wrong, and encryption. */
#include "base/telemetry/log.h"
#include "mqtt/owner_fixture.h"

static struct fixture_broker broker;
static struct fixture *f;

#define QUICK                                                                                      \
    "reconnect_min_ms=50", "reconnect_max_ms=400", "stable_ms=4000", "connect_timeout_ms=1500",    \
        "conflict_min_ms=200", "conflict_max_ms=60000", "publish_timeout_ms=2000",                 \
        "node_info.name=test"

static void setup_with(const char *const *sets, size_t n) {
    log_setup(LOG_ERROR, LOG_LOGFMT);
    broker_start(&broker);
    f = fixture_create(sets, n);
}

static void setup(void) {
    static const char *const sets[] = {QUICK};
    setup_with(sets, sizeof(sets) / sizeof(sets[0]));
}

static void teardown(void) {
    fixture_destroy(f);
    broker_end(&broker);
}

static void setup_impatient(void) {
    static const char *const sets[] = {QUICK, "release_after_ms=1000"};
    setup_with(sets, sizeof(sets) / sizeof(sets[0]));
}

static void setup_denying(void) {
    static const char *const sets[] = {QUICK, "broker_deny=127.0.0.0/8"};
    setup_with(sets, sizeof(sets) / sizeof(sets[0]));
}

static size_t release_count(void) {
    pthread_mutex_lock(&f->lock);
    size_t n = f->releases;
    pthread_mutex_unlock(&f->lock);
    return n;
}

#define SUB_ALL "\"subscriptions\":[{\"filter\":\"t/#\",\"qos\":1}]"

static void start_online(const char *id, const char *fields) {
    fixture_start(f, fixture_client(id, broker.port, fields), 1);
    EVENTUALLY(fixture_state(f, id) == CLIENT_ONLINE);
}

static void run_broker_with(const char *extra) {
    broker_stop(&broker);
    broker_configure(&broker, extra);
    broker_run(&broker);
}

/* ---- brokers that cannot be used ---- */

/* KNOWN-FAILURES 16 */
START_TEST(kf16_a_broker_that_is_away_is_tried_until_it_is_there) {
    broker_stop(&broker);
    fixture_start(f, fixture_client("a", broker.port, SUB_ALL), 1);
    EVENTUALLY(fixture_error_is(f, "a", "connection_refused"));
    EVENTUALLY(fixture_state(f, "a") == CLIENT_BACKOFF);
    broker_run(&broker);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
}
END_TEST

START_TEST(a_listener_that_never_answers_is_given_up_in_time) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(silent, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(silent, 10), 0);
    getsockname(silent, (struct sockaddr *)&address, &len);
    int64_t began_ms = fixture_now_ms();
    fixture_start(f, fixture_client("a", ntohs(address.sin_port), SUB_ALL), 1);
    EVENTUALLY(fixture_error_is(f, "a", "connect_timeout"));
    ck_assert_int_ge(fixture_now_ms() - began_ms, 1400);
    ck_assert_int_le(fixture_now_ms() - began_ms, 5000);
    start_online("b", SUB_ALL); /* nobody else is delayed */
    close(silent);
}
END_TEST

START_TEST(wrong_credentials_are_named) {
    char extra[256];
    fixture_run("mosquitto_passwd -b -c %s/passwords u right && chmod 600 %s/passwords",
                broker.folder, broker.folder);
    snprintf(extra, sizeof(extra), "allow_anonymous false\npassword_file %s/passwords\n",
             broker.folder);
    run_broker_with(extra);
    static const char *const versions[] = {"4", "5"};
    char fields[256];
    snprintf(fields, sizeof(fields),
             "\"username\":\"u\",\"password\":\"wrong\",\"protocol_version\":%s", versions[_i]);
    fixture_start(f, fixture_client("a", broker.port, fields), 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_BACKOFF);
    ck_assert(fixture_error_is(f, "a", "not_authorized"));
    snprintf(fields, sizeof(fields),
             "\"username\":\"u\",\"password\":\"right\",\"protocol_version\":%s", versions[_i]);
    fixture_start(f, fixture_client("a", broker.port, fields), 2);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
}
END_TEST

START_TEST(a_name_without_address_fails_and_delays_nobody) {
    fixture_start(f, fixture_config("{\"id\":\"a\",\"url\":\"mqtt://no-such.invalid:1883\"}"), 1);
    start_online("b", SUB_ALL);
    EVENTUALLY(fixture_error_is(f, "a", "dns_failed"));
}
END_TEST

START_TEST(a_name_is_resolved_and_connected) {
    char text[256];
    snprintf(text, sizeof(text), "{\"id\":\"a\",\"url\":\"mqtt://localhost:%d\"}", broker.port);
    fixture_start(f, fixture_config(text), 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
}
END_TEST

/* KNOWN-FAILURES 30 */
START_TEST(kf30_a_denied_broker_is_never_connected) {
    char text[256];
    fixture_start(f, fixture_client("literal", broker.port, SUB_ALL), 1);
    snprintf(text, sizeof(text), "{\"id\":\"name\",\"url\":\"mqtt://localhost:%d\"}", broker.port);
    fixture_start(f, fixture_config(text), 1);
    EVENTUALLY(fixture_error_is(f, "literal", "broker_denied"));
    EVENTUALLY(fixture_error_is(f, "name", "broker_denied"));
    ck_assert_int_eq(fixture_state(f, "literal"), CLIENT_BACKOFF);
    EVENTUALLY(release_count() >= 2); /* at once: another node may reach it (case F14) */
    ck_assert_int_eq(broker_logged(&broker, "New client connected"), 0);
}
END_TEST

/* KNOWN-FAILURES 17 */
START_TEST(kf17_a_broker_that_falls_silent_is_left_within_about_two_keepalives) {
    start_online("a", "\"keepalive_s\":6," SUB_ALL);
    kill(broker.pid, SIGSTOP);
    int64_t began_ms = fixture_now_ms();
    EVENTUALLY(fixture_state(f, "a") != CLIENT_ONLINE);
    ck_assert_int_le(fixture_now_ms() - began_ms, 17000);
    /* Paho alone would need 2.5, and give another code. */
    ck_assert(fixture_error_is(f, "a", "keepalive_timeout"));
    kill(broker.pid, SIGCONT);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
}
END_TEST

START_TEST(a_quiet_connection_stays_online) {
    /* The broker gives it half a keepalive more: on a busy machine a second would be too little. */
    start_online("short", "\"keepalive_s\":4," SUB_ALL);
    start_online("long", "\"keepalive_s\":600," SUB_ALL); /* slows Paho's looks */
    int64_t until_ms = fixture_now_ms() + 14000;
    while (fixture_now_ms() < until_ms) {
        ck_assert_int_eq(fixture_state(f, "short"), CLIENT_ONLINE);
        usleep(20000);
    }
    struct client_status status;
    ck_assert_int_eq(workers_status(f->hosts, "short", &status), ERR_OK);
    ck_assert_int_eq(status.reconnects, 0);
    client_status_fini(&status);
}
END_TEST

/* ---- lease and release ---- */

START_TEST(nothing_is_opened_without_the_lease_and_what_is_open_stays) {
    start_online("open", SUB_ALL);
    f->lease = false;
    fixture_start(f, fixture_client("new", broker.port, SUB_ALL), 1);
    EVENTUALLY(fixture_state(f, "new") == CLIENT_QUEUED);
    usleep(500000); /* time in which it would connect */
    ck_assert_int_eq(fixture_state(f, "new"), CLIENT_QUEUED);
    ck_assert_int_eq(fixture_state(f, "open"), CLIENT_ONLINE);
    f->lease = true;
    EVENTUALLY(fixture_state(f, "new") == CLIENT_ONLINE);
}
END_TEST

START_TEST(a_lapsed_lease_closes_connects_in_flight_without_counting_a_failure) {
    kill(broker.pid, SIGSTOP);
    fixture_start(f, fixture_client("a", broker.port, SUB_ALL), 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_OPENING);
    f->lease = false;
    EVENTUALLY(fixture_state(f, "a") == CLIENT_QUEUED);
    kill(broker.pid, SIGCONT);
    usleep(300000);
    ck_assert_int_eq(fixture_state(f, "a"), CLIENT_QUEUED);
    struct client_status status;
    ck_assert_int_eq(workers_status(f->hosts, "a", &status), ERR_OK);
    ck_assert_int_eq(status.error, CLIENT_ERROR_NONE);
    client_status_fini(&status);
    f->lease = true;
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
}
END_TEST

START_TEST(a_client_that_cannot_be_brought_online_asks_for_its_release) {
    broker_stop(&broker);
    fixture_start(f, fixture_client("a", broker.port, SUB_ALL), 1);
    EVENTUALLY(release_count() == 1);
    ck_assert_str_eq(f->release_id, "a");
    ck_assert_str_eq(f->release_code, "connection_refused");
    ck_assert_int_eq(fixture_state(f, "a"), CLIENT_BACKOFF);
    broker_run(&broker);
    usleep(600000); /* it opens nothing now */
    ck_assert_int_eq(fixture_state(f, "a"), CLIENT_BACKOFF);
    ck_assert_int_eq(workers_retry(f->hosts, "a", 1, 10), ERR_OK);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
}
END_TEST

/* ---- conflicts ---- */

/* From the first rest to the longest, each with a jitter of a quarter; the store doubles it. The
 * longest is returned. */
static int64_t assert_asked_for_a_rest(void) {
    pthread_mutex_lock(&f->lock);
    int64_t least_ms = f->release_delay_ms, most_ms = f->release_rest_ms_max;
    pthread_mutex_unlock(&f->lock);
    ck_assert_int_ge(least_ms, 200);
    ck_assert_int_le(least_ms, 250);
    ck_assert_int_ge(most_ms, 60000);
    ck_assert_int_le(most_ms, 75000);
    return most_ms;
}

static size_t stable_count(void) {
    pthread_mutex_lock(&f->lock);
    size_t n = f->stables;
    pthread_mutex_unlock(&f->lock);
    return n;
}

/* A foreign client that takes the identifier back after a second, for ever. */
static pid_t foreign_client(const char *id, const char *version) {
    char command[512];
    snprintf(command, sizeof(command),
             "exec mosquitto_sub -h 127.0.0.1 -p %d -i %s -t x -V %s >/dev/null 2>&1", broker.port,
             id, version);
    char *const argv[] = {"sh", "-c", command, NULL};
    pid_t pid = fixture_spawn(broker.folder, argv);
    return pid;
}

/* KNOWN-FAILURES 5, 20 */
START_TEST(kf05_a_foreign_client_with_the_identifier_ends_in_conflict) {
    static const char *const versions[] = {"\"protocol_version\":4," SUB_ALL,
                                           "\"protocol_version\":5," SUB_ALL};
    start_online("fought", versions[_i]);
    pid_t foreign = foreign_client("fought", "mqttv311");
    EVENTUALLY(fixture_state(f, "fought") == CLIENT_CONFLICT);
    EVENTUALLY(release_count() >= 1);
    ck_assert_str_eq(f->release_code, "taken_over");
    int64_t most_ms = assert_asked_for_a_rest();
    int connects = broker_logged(&broker, "as fought");
    usleep(700000);
    ck_assert_int_le(broker_logged(&broker, "as fought") - connects, 2); /* quiet */
    ck_assert_int_eq(workers_retry(f->hosts, "fought", 1, 10), ERR_OK);
    EVENTUALLY(release_count() >= 2);
    ck_assert_int_ne(assert_asked_for_a_rest(), most_ms); /* two of 15,001 values: not in step */
    fixture_kill(&foreign, SIGKILL);
    ck_assert_int_eq(workers_retry(f->hosts, "fought", 1, 10), ERR_OK);
    EVENTUALLY(fixture_state(f, "fought") == CLIENT_ONLINE);
    ck_assert_uint_eq(stable_count(), 0); /* online, but not for long enough */
    EVENTUALLY(stable_count() == 1);
    ck_assert_int_eq(fixture_state(f, "fought"), CLIENT_ONLINE);
}
END_TEST

START_TEST(a_broker_that_restarts_again_and_again_puts_nobody_into_conflict) {
    for (int i = 0; i < 40; i++) {
        char id[16];
        snprintf(id, sizeof(id), "c%d", i);
        fixture_start(f, fixture_client(id, broker.port, SUB_ALL), 1);
    }
    for (int i = 0; i < 4; i++) {
        EVENTUALLY(fixture_online_count(f) == 40);
        broker_stop(&broker);
        broker_run(&broker);
        EVENTUALLY(fixture_online_count(f) < 40);
    }
    EVENTUALLY(fixture_online_count(f) == 40);
    ck_assert_uint_eq(release_count(), 0);
}
END_TEST

/* A broker of one connection that lets in and then says DISCONNECT with a reason code. */
struct terse_broker {
    int fd, port;
    uint8_t reason_code;
    atomic_int connects;
    pthread_t thread;
};

static void *terse_broker_run(void *argument) {
    struct terse_broker *terse = argument;
    for (int fd; (fd = accept(terse->fd, NULL, NULL)) >= 0; close(fd)) {
        uint8_t packet[512];
        static const uint8_t connack[] = {0x20, 0x03, 0x00, 0x00, 0x00};
        uint8_t disconnect[] = {0xE0, 0x02, terse->reason_code, 0x00};
        terse->connects++;
        if (recv(fd, packet, sizeof(packet), 0) > 0) {
            send(fd, connack, sizeof(connack), MSG_NOSIGNAL);
            send(fd, disconnect, sizeof(disconnect), MSG_NOSIGNAL);
            while (recv(fd, packet, sizeof(packet), 0) > 0) {
            }
        }
    }
    return NULL;
}

static void terse_broker_start(struct terse_broker *terse, uint8_t reason_code) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    terse->fd = socket(AF_INET, SOCK_STREAM, 0);
    terse->reason_code = reason_code;
    ck_assert_int_eq(bind(terse->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(terse->fd, 10), 0);
    getsockname(terse->fd, (struct sockaddr *)&address, &len);
    terse->port = ntohs(address.sin_port);
    pthread_create(&terse->thread, NULL, terse_broker_run, terse);
}

static void terse_broker_end(struct terse_broker *terse) {
    shutdown(terse->fd, SHUT_RDWR);
    pthread_join(terse->thread, NULL);
    close(terse->fd);
}

START_TEST(disconnect_with_session_taken_over_is_a_conflict_at_once) {
    struct terse_broker terse = {0};
    terse_broker_start(&terse, 0x8E);
    fixture_start(f, fixture_client("a", terse.port, "\"protocol_version\":5"), 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_CONFLICT);
    EVENTUALLY(release_count() == 1);
    ck_assert(fixture_error_is(f, "a", "taken_over"));
    ck_assert_int_eq(terse.connects, 1);
    ck_assert_int_eq(workers_stop_all(f->hosts, "test", true, 10000), ERR_OK);
    terse_broker_end(&terse);
}
END_TEST

START_TEST(disconnect_with_another_reason_is_no_conflict) {
    struct terse_broker terse = {0};
    terse_broker_start(&terse, 0x8B);
    fixture_start(f, fixture_client("a", terse.port, "\"protocol_version\":5"), 1);
    EVENTUALLY(terse.connects >= 6);
    ck_assert(fixture_error_is(f, "a", "server_shutting_down"));
    ck_assert_uint_eq(release_count(), 0);
    ck_assert_int_eq(workers_stop_all(f->hosts, "test", true, 10000), ERR_OK);
    terse_broker_end(&terse);
}
END_TEST

START_TEST(the_keepalive_that_the_broker_asks_for_is_used_from_the_next_connect_on) {
    run_broker_with("allow_anonymous true\nmax_keepalive 11\n");
    start_online("a", "\"protocol_version\":5,\"keepalive_s\":60," SUB_ALL);
    ck_assert_int_eq(workers_restart(f->hosts, "a", "test"), ERR_OK);
    EVENTUALLY(broker_logged(&broker, "as a (p5, c1, k11)") == 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
}
END_TEST

/* ---- many ---- */

/* KNOWN-FAILURES 8 */
START_TEST(kf08_five_hundred_clients_come_online_beside_a_dead_broker) {
    int dead = fixture_free_port();
    for (int i = 0; i < 500; i++) {
        char id[16];
        snprintf(id, sizeof(id), "dead%d", i);
        fixture_start(f, fixture_client(id, dead, SUB_ALL), 1);
        snprintf(id, sizeof(id), "c%d", i);
        fixture_start(f, fixture_client(id, broker.port, SUB_ALL), 1);
    }
    EVENTUALLY(fixture_online_count(f) == 500);
    struct workers_client *rows;
    size_t n;
    ck_assert_int_eq(workers_list(f->hosts, &rows, &n), ERR_OK);
    ck_assert_uint_eq(n, 1000);
    workers_list_free(rows, n);
    fixture_run("mosquitto_pub -h 127.0.0.1 -p %d -t t/x -q 1 -m hello", broker.port);
    EVENTUALLY(fixture_kept_count(f) == 500);
}
END_TEST

/* ---- TLS ---- */

static void make_certificates(void) {
    const char *d = broker.folder;
    fixture_run("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt "
                "-subj /CN=test-ca -days 2 2>/dev/null",
                d);
    fixture_run("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -keyout bad.key -out bad.crt "
                "-subj /CN=other-ca -days 2 2>/dev/null",
                d);
    fixture_run("cd %s && openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr "
                "-subj /CN=localhost 2>/dev/null && printf 'subjectAltName=DNS:localhost,"
                "DNS:broker.test' > ext && openssl x509 -req -in server.csr -CA ca.crt -CAkey "
                "ca.key -CAcreateserial -out server.crt -days 2 -extfile ext 2>/dev/null",
                d);
    fixture_run("cd %s && openssl req -newkey rsa:2048 -nodes -keyout client.key -out client.csr "
                "-subj /CN=client 2>/dev/null && openssl x509 -req -in client.csr -CA ca.crt "
                "-CAkey ca.key -CAcreateserial -out client.crt -days 2 2>/dev/null",
                d);
}

static void run_tls_broker(bool want_client_certificate) {
    char extra[512];
    const char *d = broker.folder;
    snprintf(extra, sizeof(extra),
             "allow_anonymous true\ncafile %s/ca.crt\ncertfile %s/server.crt\nkeyfile "
             "%s/server.key\nrequire_certificate %s\n",
             d, d, d, want_client_certificate ? "true" : "false");
    make_certificates();
    run_broker_with(extra);
}

/* The PEM text as a JSON string. */
static char *pem(const char *name) {
    char path[128];
    char *text = calloc(1, 16384), *at = text;
    snprintf(path, sizeof(path), "%s/%s", broker.folder, name);
    FILE *file = fopen(path, "r");
    for (int c; (c = fgetc(file)) != EOF;) {
        if (c == '\n') {
            *at++ = '\\';
            c = 'n';
        }
        *at++ = (char)c;
    }
    fclose(file);
    return text;
}

static void start_tls(const char *id, const char *host, const char *tls_fields, int64_t version) {
    char *text = malloc(65536);
    snprintf(text, 65536, "{\"id\":\"%s\",\"url\":\"mqtts://%s:%d\",%s,\"tls\":{%s}}", id, host,
             broker.port, SUB_ALL, tls_fields);
    fixture_start(f, fixture_config(text), version);
    free(text);
}

START_TEST(tls_verifies_the_broker) {
    char fields[20000];
    run_tls_broker(false);
    free(f->conf->secrets_files_allow);
    f->conf->secrets_files_allow = strdup(broker.folder);
    char *ca = pem("ca.crt"), *bad = pem("bad.crt");
    snprintf(fields, sizeof(fields), "\"ca\":\"%s\"", ca);
    start_tls("inline", "localhost", fields, 1);
    EVENTUALLY(fixture_state(f, "inline") == CLIENT_ONLINE);
    snprintf(fields, sizeof(fields), "\"ca\":\"%s/ca.crt\"", broker.folder);
    start_tls("path", "localhost", fields, 1);
    EVENTUALLY(fixture_state(f, "path") == CLIENT_ONLINE);
    snprintf(fields, sizeof(fields), "\"ca\":\"%s\"", bad);
    start_tls("wrong-ca", "localhost", fields, 1);
    EVENTUALLY(fixture_error_is(f, "wrong-ca", "tls_failed"));
    struct client_status status;
    ck_assert_int_eq(workers_status(f->hosts, "wrong-ca", &status), ERR_OK);
    ck_assert_msg(strstr(status.error_message, "certificate") != NULL, "%s", status.error_message);
    client_status_fini(&status);
    snprintf(fields, sizeof(fields), "\"ca\":\"%s\"", ca);
    start_tls("wrong-name", "127.0.0.1", fields, 1);
    EVENTUALLY(fixture_error_is(f, "wrong-name", "tls_failed"));
    snprintf(fields, sizeof(fields), "\"ca\":\"%s\",\"server_name\":\"broker.test\"", ca);
    start_tls("server-name", "127.0.0.1", fields, 1);
    EVENTUALLY(fixture_state(f, "server-name") == CLIENT_ONLINE);
    start_tls("insecure", "127.0.0.1", "\"insecure\":true", 1);
    EVENTUALLY(fixture_state(f, "insecure") == CLIENT_ONLINE);
    fixture_run("mosquitto_pub --cafile %s/ca.crt -h localhost -p %d -t t/x -q 1 -m tls",
                broker.folder, broker.port);
    EVENTUALLY(fixture_kept_count(f) == 4);
    free(ca);
    free(bad);
}
END_TEST

/* With an RSA key exchange OpenSSL would take it at the security level that Paho sets. */
START_TEST(tls_older_than_1_2_is_refused) {
    static const char *const protocols[] = {"-tls1_1", "-tls1_2"};
    char port[16], text[256];
    run_tls_broker(false); /* for its certificate */
    broker_stop(&broker);
    snprintf(port, sizeof(port), "%d", broker.port);
    snprintf(text, sizeof(text), "%s/server.crt", broker.folder);
    char key[256];
    snprintf(key, sizeof(key), "%s/server.key", broker.folder);
    char *const argv[] = {"openssl",
                          "s_server",
                          "-accept",
                          port,
                          "-cert",
                          text,
                          "-key",
                          key,
                          (char *)(uintptr_t)protocols[_i],
                          "-cipher",
                          "AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0",
                          "-www",
                          NULL};
    broker.pid = fixture_spawn(broker.folder, argv);
    start_tls("a", "localhost", "\"insecure\":true", 1);
    EVENTUALLY(fixture_error_is(f, "a", _i == 0 ? "tls_failed" : "connect_timeout"));
}
END_TEST

START_TEST(tls_shows_its_own_certificate_when_asked) {
    char *fields = malloc(65536);
    run_tls_broker(true);
    char *ca = pem("ca.crt"), *cert = pem("client.crt"), *key = pem("client.key");
    snprintf(fields, 65536, "\"ca\":\"%s\"", ca);
    start_tls("none", "localhost", fields, 1);
    EVENTUALLY(fixture_state(f, "none") == CLIENT_BACKOFF);
    snprintf(fields, 65536, "\"ca\":\"%s\",\"cert\":\"%s\",\"key\":\"%s\"", ca, cert, key);
    start_tls("with", "localhost", fields, 1);
    EVENTUALLY(fixture_state(f, "with") == CLIENT_ONLINE);
    free(ca);
    free(cert);
    free(key);
    free(fields);
}
END_TEST

/* ---- will, WebSocket ---- */

START_TEST(the_will_is_published_when_the_hosts_are_ended_and_not_when_stopped) {
    char out[128];
    snprintf(out, sizeof(out), "%s/will", broker.folder);
    static const char will[] = "\"will\":{\"topic\":\"w/%s\",\"payload\":\"gone\",\"qos\":1,"
                               "\"retain\":true}";
    char fields[256];
    snprintf(fields, sizeof(fields), will, "stopped");
    start_online("stopped", fields);
    snprintf(fields, sizeof(fields), will, "dropped");
    start_online("dropped", fields);
    ck_assert_int_eq(workers_stop(f->hosts, "stopped", 0, "test", NULL, NULL), ERR_OK);
    EVENTUALLY(workers_count(f->hosts) == 1);
    ck_assert_int_eq(workers_stop_all(f->hosts, "test", false, 10000), ERR_OK);
    fixture_run("mosquitto_sub -h 127.0.0.1 -p %d -t 'w/#' -C 1 -W 10 -F %%t > %s", broker.port,
                out);
    fixture_run("test \"$(cat %s)\" = w/dropped", out);
}
END_TEST

START_TEST(websocket_connections_work) {
    char extra[256], text[512];
    int port = fixture_free_port();
    snprintf(extra, sizeof(extra),
             "allow_anonymous true\nlistener %d 127.0.0.1\nprotocol websockets\n", port);
    run_broker_with(extra);
    snprintf(text, sizeof(text), "{\"id\":\"a\",\"url\":\"ws://localhost:%d/a:b?c:d\"," SUB_ALL "}",
             port);
    fixture_start(f, fixture_config(text), 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
    fixture_run("mosquitto_pub -h 127.0.0.1 -p %d -t t/x -q 1 -m ws", broker.port);
    EVENTUALLY(fixture_kept(f, "t/x", "ws", 2));
}
END_TEST

static void add(Suite *suite, const char *name, void (*prepare)(void), const TTest *const *tests,
                size_t n) {
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, prepare, teardown);
    tcase_set_timeout(tcase, 120);
    for (size_t i = 0; i < n; i++) {
        bool twice = tests[i] == wrong_credentials_are_named ||
                     tests[i] == tls_older_than_1_2_is_refused ||
                     tests[i] == kf05_a_foreign_client_with_the_identifier_ends_in_conflict;
        tcase_add_loop_test(tcase, tests[i], 0, twice ? 2 : 1);
    }
    suite_add_tcase(suite, tcase);
}

int main(void) {
    Suite *suite = suite_create("worker_trouble");
    const TTest *const usual[] = {
        kf16_a_broker_that_is_away_is_tried_until_it_is_there,
        a_listener_that_never_answers_is_given_up_in_time,
        wrong_credentials_are_named,
        a_name_without_address_fails_and_delays_nobody,
        a_name_is_resolved_and_connected,
        kf17_a_broker_that_falls_silent_is_left_within_about_two_keepalives,
        a_quiet_connection_stays_online,
        nothing_is_opened_without_the_lease_and_what_is_open_stays,
        a_lapsed_lease_closes_connects_in_flight_without_counting_a_failure,
        kf05_a_foreign_client_with_the_identifier_ends_in_conflict,
        a_broker_that_restarts_again_and_again_puts_nobody_into_conflict,
        disconnect_with_session_taken_over_is_a_conflict_at_once,
        disconnect_with_another_reason_is_no_conflict,
        the_keepalive_that_the_broker_asks_for_is_used_from_the_next_connect_on,
        kf08_five_hundred_clients_come_online_beside_a_dead_broker,
        tls_verifies_the_broker,
        tls_older_than_1_2_is_refused,
        tls_shows_its_own_certificate_when_asked,
        the_will_is_published_when_the_hosts_are_ended_and_not_when_stopped,
        websocket_connections_work,
    };
    const TTest *const impatient[] = {a_client_that_cannot_be_brought_online_asks_for_its_release};
    const TTest *const denying[] = {kf30_a_denied_broker_is_never_connected};
    add(suite, "usual", setup, usual, sizeof(usual) / sizeof(usual[0]));
    add(suite, "impatient", setup_impatient, impatient, 1);
    add(suite, "denying", setup_denying, denying, 1);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
