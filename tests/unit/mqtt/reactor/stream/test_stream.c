/* Streams over each combination of TCP, TLS and WebSocket: with a real mosquitto, directly and
 * through a relay that passes few bytes at a time or cuts the connection, and with peers simulated
 * by the test. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include "mqtt/stream_fixture.h"

#define SCHEMES 4 /* of enum client_scheme */

static struct fixture_broker broker;
static int ports[SCHEMES];
static struct identity authority, server;
static struct tls_contexts *contexts;
static struct client client;

static void environment_setup(void) {
    char extra[2048];
    signal(SIGPIPE, SIG_IGN);
    broker_prepare(&broker);
    ports[SCHEME_MQTT] = broker.port;
    for (int i = SCHEME_MQTT + 1; i < SCHEMES; i++) {
        ports[i] = fixture_free_port();
    }
    authority = identity_make(broker.folder, "ca", NULL, NULL, -DAY_S, 90 * DAY_S);
    server = identity_make(broker.folder, "server", &authority, "DNS:localhost", -DAY_S, DAY_S);
    snprintf(extra, sizeof(extra),
             "allow_anonymous true\n"
             "listener %d 127.0.0.1\ncertfile %s\nkeyfile %s\n"
             "listener %d 127.0.0.1\nprotocol websockets\n"
             "listener %d 127.0.0.1\nprotocol websockets\ncertfile %s\nkeyfile %s\n",
             ports[SCHEME_MQTTS], server.cert, server.key, ports[SCHEME_WS], ports[SCHEME_WSS],
             server.cert, server.key);
    broker_configure(&broker, extra);
    broker_run(&broker);
}

static void environment_teardown(void) {
    identity_free(&authority);
    identity_free(&server);
    broker_end(&broker);
}

static void prepare(enum client_scheme scheme, int port) {
    client_init(&client, scheme, port);
    client.config.tls->ca = authority.cert;
}

static void setup(void) {
    static struct conf conf;
    conf.secrets_files_allow = broker.folder;
    contexts = tls_contexts_create(&conf);
    prepare(SCHEME_MQTT, broker.port);
}

static void teardown(void) {
    client_close(&client);
    tls_contexts_destroy(contexts);
}

static void assert_fault(const char *code, const char *says) {
    ck_assert_str_eq(client_error_code(client.fault.error), code);
    ck_assert_msg(strstr(client.fault.message, says) != NULL, "%s", client.fault.message);
}

/* ---- a relay between client and broker, driven by the test's loop ---- */

struct relay {
    int listener, port, near, far; /* near: towards the client */
    size_t step;                   /* bytes passed at a time */
    size_t budget;                 /* bytes passed until the connection is cut */
    bool reset;                    /* how it is cut */
};

static struct relay relay;

static void relay_open(int broker_port, size_t step, size_t budget, bool reset) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)broker_port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    relay = (struct relay){.near = -1, .step = step, .budget = budget, .reset = reset};
    relay.listener = peer_listen(&relay.port);
    relay.far = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(relay.far, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void relay_end(int *fd, bool reset) {
    struct linger linger = {.l_onoff = reset};
    if (*fd >= 0) {
        setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(*fd);
    }
    *fd = -1;
}

static void relay_close(void) {
    relay_end(&relay.near, relay.reset);
    relay_end(&relay.far, true);
    relay_end(&relay.listener, false);
}

static void relay_pass(int from, int to) {
    uint8_t data[65536];
    size_t most = relay.step < relay.budget ? relay.step : relay.budget;
    ssize_t n = recv(from, data, most, MSG_DONTWAIT);
    if (n > 0) {
        ck_assert_int_eq(send(to, data, (size_t)n, MSG_NOSIGNAL), n);
        relay.budget -= (size_t)n;
    }
}

static void relay_work(void) {
    if (relay.near < 0 && relay.budget > 0) {
        struct pollfd wait = {.fd = relay.listener, .events = POLLIN};
        if (poll(&wait, 1, 0) == 1) {
            int on = 1;
            relay.near = accept(relay.listener, NULL, NULL);
            setsockopt(relay.near, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        }
        return;
    }
    relay_pass(relay.near, relay.far);
    if (relay.budget > 0) {
        relay_pass(relay.far, relay.near);
    }
    if (relay.budget == 0) {
        relay_end(&relay.near, relay.reset);
    }
}

/* Connects, sends CONNECT and reads CONNACK through the relay, as far as that goes. */
static bool relayed_greeting(void) {
    uint8_t connack[1024];
    size_t sent = 0, len = sizeof(CONNECT_PACKET) - 1;
    int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
    enum err err = client_open(&client, contexts);
    ssize_t n = 0;
    ck_assert_int_eq(err, ERR_OK);
    for (err = ERR_TIMEOUT; n == 0 && fixture_now_ms() < until_ms;) {
        relay_work();
        if (client.stream.step != STREAM_READY) {
            err = stream_advance(&client.stream, &client.config, &client.fault);
            if (err != ERR_OK && err != ERR_TIMEOUT) {
                return false;
            }
            continue;
        }
        if (sent < len || client.stream.wants_write) {
            n = stream_write(&client.stream, (const uint8_t *)CONNECT_PACKET + sent, len - sent,
                             &client.fault);
            sent += n > 0 ? (size_t)n : 0;
            n = n < 0 ? n : 0;
        }
        if (n == 0) {
            n = stream_read(&client.stream, connack, sizeof(connack), &client.fault);
        }
    }
    ck_assert_int_ne(n, 0); /* else it hangs */
    return n > 0 && connack[0] == 0x20;
}

START_TEST(each_scheme_works_however_few_bytes_come_at_a_time) {
    static const size_t steps[] = {1, 3, 65536};
    int scheme = _i / (int)COUNT(steps);
    relay_open(ports[scheme], steps[_i % (int)COUNT(steps)], SIZE_MAX, false);
    prepare((enum client_scheme)scheme, relay.port);
    ck_assert_msg(relayed_greeting(), "%s", client.fault.message);
    relay_close();
}
END_TEST

/* Cuts after a varying number of bytes: within the TLS hello, the answer of the WebSocket, CONNACK
 * ... */
START_TEST(a_line_cut_at_any_point_is_reported_as_such) {
    static const enum client_error errors[] = {
        CLIENT_ERROR_CONNECTION_LOST, CLIENT_ERROR_CONNECTION_REFUSED, CLIENT_ERROR_TLS_CLOSED,
        CLIENT_ERROR_TLS_CLOSED_AT_ONCE, CLIENT_ERROR_WEBSOCKET_CLOSED};
    int scheme = _i / 2;
    bool greeted = false;
    size_t cuts = 0;
    for (size_t budget = 1; !greeted; budget += budget < 40 ? 1 : 97, cuts++) {
        relay_open(ports[scheme], 65536, budget, _i % 2);
        prepare((enum client_scheme)scheme, relay.port);
        greeted = relayed_greeting();
        bool known = greeted;
        for (size_t i = 0; i < COUNT(errors); i++) {
            known |= client.fault.error == errors[i];
        }
        ck_assert_msg(known, "%d: %s", (int)client.fault.error, client.fault.message);
        ck_assert(greeted || client.fault.message[0] != '\0');
        stream_close(&client.stream, cuts % 2);
        relay_close();
        ck_assert_uint_lt(budget, 20000);
    }
    ck_assert_uint_gt(cuts, 10);
}
END_TEST

/* ---- much data ---- */

#define PAYLOAD_LEN           300000
#define WEBSOCKET_PAYLOAD_LEN 20000 /* mosquitto 2.0 takes 4 KB of a WebSocket every 100 ms */

/* SUBSCRIBE to "t", and the response to a PUBLISH to it. */
START_TEST(large_packets_pass_both_ways) {
    static const uint8_t subscribe[] = {0x82, 6, 0, 1, 0, 1, 't', 0};
    static uint8_t publish[PAYLOAD_LEN + 7], back[sizeof(publish)];
    bool websocket = _i == SCHEME_WS || _i == SCHEME_WSS;
    size_t remaining = (websocket ? WEBSOCKET_PAYLOAD_LEN : PAYLOAD_LEN) + 3, len = remaining + 4;
    uint8_t suback[5];
    prepare((enum client_scheme)_i, ports[_i]);
    ck_assert_msg(client_connect(&client, contexts) == ERR_OK, "%s", client.fault.message);
    ck_assert(client_greets(&client));
    client_write_all(&client, subscribe, sizeof(subscribe));
    ck_assert_int_eq(client_read_all(&client, suback, sizeof(suback)), sizeof(suback));
    memcpy(publish,
           (uint8_t[]){0x30, (uint8_t)(remaining | 0x80), (uint8_t)(remaining >> 7 | 0x80),
                       (uint8_t)(remaining >> 14), 0, 1, 't'},
           7);
    for (size_t i = 7; i < len; i++) {
        publish[i] = (uint8_t)(i * 7 + i / 251);
    }
    for (int round = 0; round < 3; round++) {
        memset(back, 0, sizeof(back));
        client_write_all(&client, publish, len);
        ck_assert_int_eq(client_read_all(&client, back, len), (ssize_t)len);
        ck_assert_int_eq(memcmp(back, publish, len), 0);
    }
}
END_TEST

/* The owner keeps what is not accepted; nothing is lost or sent twice. */
START_TEST(a_peer_that_does_not_read_stops_the_writer) {
    static uint8_t chunk[65536];
    size_t taken = 0;
    ssize_t n;
    int port, listener = peer_listen(&port);
    prepare(SCHEME_MQTT, port);
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    int fd = accept(listener, NULL, NULL);
    for (int i = 0; i < 10000 && !client.stream.wants_write; i++) {
        n = stream_write(&client.stream, chunk, sizeof(chunk), &client.fault);
        ck_assert_int_ge(n, 0);
        taken += (size_t)n;
    }
    ck_assert(client.stream.wants_write);
    size_t got = 0;
    for (int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
         got < taken && fixture_now_ms() < until_ms;) {
        ssize_t m = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
        got += m > 0 ? (size_t)m : 0;
    }
    ck_assert_uint_eq(got, taken);
    ck_assert_int_eq(stream_write(&client.stream, NULL, 0, &client.fault), 0);
    ck_assert(!client.stream.wants_write);
    close(fd);
    close(listener);
}
END_TEST

/* ---- ends ---- */

START_TEST(a_refused_connection_says_so) {
    prepare((enum client_scheme)_i, fixture_free_port());
    ck_assert_int_eq(client_connect(&client, contexts), ERR_IO);
    assert_fault("connection_refused", "Connection refused");
}
END_TEST

START_TEST(a_broker_that_goes_away_is_noticed) {
    uint8_t data[1024];
    struct fixture_broker other;
    broker_start(&other);
    prepare(SCHEME_MQTT, other.port);
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    ck_assert(client_greets(&client));
    ck_assert_int_eq(stream_read(&client.stream, data, sizeof(data), &client.fault), 0);
    broker_end(&other);
    ck_assert(client_fails(&client));
    assert_fault("connection_lost", "");
}
END_TEST

START_TEST(an_end_shows_the_peer_an_end_or_a_reset) {
    int port, listener = peer_listen(&port);
    uint8_t byte;
    prepare(SCHEME_MQTT, port);
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    int fd = accept(listener, NULL, NULL);
    ck_assert_int_eq(send(fd, "unread", 6, 0), 6);
    client_wait(&client, 10000);
    stream_close(&client.stream, _i == 1);
    ck_assert_int_eq(recv(fd, &byte, 1, 0), _i == 1 ? -1 : 0);
    ck_assert(_i == 0 || errno == ECONNRESET);
    close(fd);
    close(listener);
}
END_TEST

START_TEST(closing_what_is_closed_does_nothing) {
    struct stream zeros = {0};
    stream_close(&zeros, false);
    ck_assert_int_ge(fcntl(0, F_GETFD), 0); /* descriptor 0 must not be closed */
    client_close(&client);
    client_close(&client);
}
END_TEST

START_TEST(a_source_address_is_used_and_a_foreign_one_refused) {
    struct sockaddr_storage source = {0}, local;
    socklen_t len = sizeof(local);
    struct sockaddr_in *in = (struct sockaddr_in *)&source;
    in->sin_family = AF_INET;
    inet_pton(AF_INET, _i == 0 ? "127.0.0.77" : "192.0.2.1", &in->sin_addr);
    enum err err =
        stream_open(&client.stream, contexts, &client.config, (struct sockaddr *)&client.address,
                    sizeof(client.address), &source, &client.fault);
    if (_i == 1) {
        ck_assert_int_eq(err, ERR_IO);
        assert_fault("source_address_unusable", "source_addresses");
        return;
    }
    ck_assert_int_eq(err, ERR_OK);
    ck_assert_int_eq(getsockname(client.stream.fd, (struct sockaddr *)&local, &len), 0);
    ck_assert_uint_eq(((struct sockaddr_in *)&local)->sin_addr.s_addr, in->sin_addr.s_addr);
}
END_TEST

START_TEST(without_descriptors_it_is_unavailable) {
    struct rlimit before, low;
    int fds[64];
    size_t count = 0;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){.rlim_cur = 32, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (count < COUNT(fds) && (fds[count] = dup(0)) >= 0) {
        count++;
    }
    ck_assert_int_eq(client_open(&client, contexts), ERR_UNAVAILABLE);
    assert_fault("out_of_descriptors", "open files");
    while (count > 0) {
        close(fds[--count]);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
}
END_TEST

/* ---- simulated WebSocket peers ---- */

static const struct peer_case {
    const char *answer; /* to the handshake */
    size_t len;
    const char *says;
} peer_cases[] = {
#define PEER(text, says)                                                                           \
    { text, sizeof(text) - 1, says }
    PEER("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"),
    PEER("HTTP/1.1 403 Forbidden\r\n\r\n", "403"),
    PEER("HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "redirects to another URL"),
    PEER("HTTP/1.1 101 Switching Protocols\r\n\r\n", "not an upgrade"),
    PEER("\x20\x02\x00\x00", "not HTTP"),
    PEER("", "closed the connection during the WebSocket handshake"),
    PEER("HTTP/1.1 101 Switch", "closed the connection during the WebSocket handshake"),
};

START_TEST(a_web_server_that_refuses_is_understood) {
    const struct peer_case *test = &peer_cases[_i];
    int port, listener = peer_listen(&port);
    char request[2048];
    prepare(SCHEME_WS, port);
    ck_assert_int_eq(client_open(&client, contexts), ERR_OK);
    int fd = accept(listener, NULL, NULL);
    enum err err = stream_advance(&client.stream, &client.config, &client.fault);
    ck_assert_int_eq(err, ERR_TIMEOUT);
    ck_assert_int_gt(recv(fd, request, sizeof(request), 0), 0);
    for (size_t i = 0; i < test->len && err == ERR_TIMEOUT; i++) {
        ck_assert_int_eq(send(fd, test->answer + i, 1, MSG_NOSIGNAL), 1);
        client_wait(&client, 10000);
        err = stream_advance(&client.stream, &client.config, &client.fault);
    }
    close(fd);
    while (err == ERR_TIMEOUT) {
        client_wait(&client, 10000);
        err = stream_advance(&client.stream, &client.config, &client.fault);
    }
    ck_assert_int_ne(err, ERR_OK);
    assert_fault("websocket_refused", test->says);
    close(listener);
}
END_TEST

START_TEST(a_plain_broker_on_the_port_for_websockets_is_understood) {
    prepare(SCHEME_WS, broker.port);
    ck_assert_int_ne(client_connect(&client, contexts), ERR_OK);
    assert_fault("websocket_refused", "is there a WebSocket");
}
END_TEST

START_TEST(a_wrong_path_is_reported_with_its_status_or_works) {
    prepare(SCHEME_WS, ports[SCHEME_WS]);
    client.config.path = "/nothing/here";
    if (client_connect(&client, contexts) !=
        ERR_OK) { /* without http_dir, mosquitto accepts any path */
        assert_fault("websocket_refused", "HTTP status");
    }
}
END_TEST

/* A ready stream whose peer is a simulated WebSocket server: *fd is its end. */
static void open_against_peer(const char *behind_answer, size_t behind_len, int *fd) {
    int port, listener = peer_listen(&port);
    char request[2048], text[128], answer[512], accept_key[32];
    unsigned char digest[20];
    prepare(SCHEME_WS, port);
    ck_assert_int_eq(client_open(&client, contexts), ERR_OK);
    *fd = accept(listener, NULL, NULL);
    close(listener);
    ck_assert_int_eq(stream_advance(&client.stream, &client.config, &client.fault), ERR_TIMEOUT);
    ssize_t n = recv(*fd, request, sizeof(request) - 1, 0);
    ck_assert_int_gt(n, 0);
    request[n] = '\0';
    const char *key = strstr(request, "Sec-WebSocket-Key: ");
    ck_assert_ptr_nonnull(key);
    snprintf(text, sizeof(text), "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)accept_key, digest, sizeof(digest));
    n = snprintf(answer, sizeof(answer),
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n\r\n",
                 accept_key);
    memcpy(answer + n, behind_answer, behind_len);
    ck_assert_int_eq(send(*fd, answer, (size_t)n + behind_len, 0), n + (ssize_t)behind_len);
    client_wait(&client, 10000);
    ck_assert_int_eq(stream_advance(&client.stream, &client.config, &client.fault), ERR_OK);
}

START_TEST(frames_behind_the_answer_are_read_and_a_close_comes_after_its_data) {
    uint8_t data[1024];
    int fd;
    open_against_peer("\x82\x02hi\x88\x06\x03\xE9late", 12, &fd);
    ck_assert_int_eq(stream_read(&client.stream, data, sizeof(data), &client.fault), 2);
    ck_assert_int_eq(memcmp(data, "hi", 2), 0);
    ck_assert(client.stream.has_more);
    ck_assert_int_eq(stream_read(&client.stream, data, sizeof(data), &client.fault), -1);
    assert_fault("connection_lost", "going away (1001): late");
    ck_assert_int_eq(recv(fd, data, 8, MSG_WAITALL), 8); /* the close, answered */
    ck_assert_uint_eq(data[0], 0x88);
    close(fd);
}
END_TEST

START_TEST(a_breach_of_the_protocol_is_named_and_told_to_the_server) {
    uint8_t data[1024];
    int fd;
    open_against_peer("\x81\x02hi", 4, &fd);
    ck_assert_int_eq(stream_read(&client.stream, data, sizeof(data), &client.fault), -1);
    assert_fault("protocol_error", "text frame");
    ck_assert_int_eq(recv(fd, data, 8, MSG_WAITALL), 8);
    ck_assert_uint_eq(data[0], 0x88);
    close(fd);
}
END_TEST

START_TEST(a_ping_is_answered_by_reading_alone) {
    uint8_t data[1024];
    int fd;
    open_against_peer("\x89\x01p", 3, &fd);
    ck_assert_int_eq(stream_read(&client.stream, data, sizeof(data), &client.fault), 0);
    ck_assert_int_eq(recv(fd, data, 7, MSG_WAITALL), 7);
    ck_assert_uint_eq(data[0], 0x8A);
    close(fd);
}
END_TEST

/* The pong is sent during the read; what the owner still has to write must not be forgotten. */
START_TEST(an_unfinished_write_stays_wanted_while_pongs_go_out) {
    static uint8_t chunk[65536];
    uint8_t data[65536];
    int fd;
    open_against_peer("", 0, &fd);
    for (int i = 0; i < 10000 && !client.stream.wants_write; i++) {
        ck_assert_int_ge(stream_write(&client.stream, chunk, sizeof(chunk), &client.fault), 0);
    }
    ck_assert(client.stream.wants_write);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(send(fd, "\x89\x01p", 3, MSG_NOSIGNAL), 3);
        client_wait(&client, 1000);
        ck_assert_int_eq(stream_read(&client.stream, data, sizeof(data), &client.fault), 0);
        ck_assert(client.stream.wants_write);
        for (int j = 0; j < 1000; j++) {
            ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
            (void)n;
        }
    }
    ck_assert_int_eq(stream_write(&client.stream, NULL, 0, &client.fault), 0);
    close(fd);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("stream");
    TCase *tcase = tcase_create("stream");
    tcase_add_unchecked_fixture(tcase, environment_setup, environment_teardown);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, each_scheme_works_however_few_bytes_come_at_a_time, 0, SCHEMES * 3);
    tcase_add_loop_test(tcase, a_line_cut_at_any_point_is_reported_as_such, 0, SCHEMES * 2);
    tcase_add_loop_test(tcase, large_packets_pass_both_ways, 0, SCHEMES);
    tcase_add_test(tcase, a_peer_that_does_not_read_stops_the_writer);
    tcase_add_loop_test(tcase, a_refused_connection_says_so, 0, SCHEMES);
    tcase_add_test(tcase, a_broker_that_goes_away_is_noticed);
    tcase_add_loop_test(tcase, an_end_shows_the_peer_an_end_or_a_reset, 0, 2);
    tcase_add_test(tcase, closing_what_is_closed_does_nothing);
    tcase_add_loop_test(tcase, a_source_address_is_used_and_a_foreign_one_refused, 0, 2);
    tcase_add_test(tcase, without_descriptors_it_is_unavailable);
    tcase_add_loop_test(tcase, a_web_server_that_refuses_is_understood, 0, (int)COUNT(peer_cases));
    tcase_add_test(tcase, a_plain_broker_on_the_port_for_websockets_is_understood);
    tcase_add_test(tcase, a_wrong_path_is_reported_with_its_status_or_works);
    tcase_add_test(tcase, frames_behind_the_answer_are_read_and_a_close_comes_after_its_data);
    tcase_add_test(tcase, a_breach_of_the_protocol_is_named_and_told_to_the_server);
    tcase_add_test(tcase, a_ping_is_answered_by_reading_alone);
    tcase_add_test(tcase, an_unfinished_write_stays_wanted_while_pongs_go_out);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
