/* For tests of the engine `reactor`: one engine, one client, and a simulated broker on 127.0.0.1.
 * Everything runs on the test's thread. */
#ifndef MQFLEET_TEST_REACTOR_FIXTURE_H
#define MQFLEET_TEST_REACTOR_FIXTURE_H

#include <check.h>
#include <time.h>
#include "base/telemetry/log.h"
#include "doubles/queue_double.h"
#include "message/router.h"
#include "mqtt/engine.h"
#include "mqtt/reactor/packet/packet.h"
#include "broker_fixture.h"

#define TOKENS_MAX   512
#define MESSAGES_MAX 64
#define SEEN_LEN     262144

/* A packet of the client. */
struct seen {
    uint8_t type, flags;
    uint16_t packet_id;  /* of those that begin with one; of PUBLISH */
    size_t body_at, len; /* in bench.got */
    uint8_t qos;
};

static struct bench {
    struct conf conf;
    struct engine *engine;
    struct router *router;
    struct route route;
    struct client_config config;
    struct engine_session *session;
    struct engine_connection *connection;
    struct sockaddr_in address;
    int listener, peer;
    uint8_t got[SEEN_LEN];
    size_t got_len;
    /* What the worker was notified of. */
    int connected, closed, subscribed;
    char code[64], closed_message[256];
    uint8_t workarounds; /* the next connection is opened with them */
    int skipped;
    enum engine_skip skip_reason;
    char skipped_topic[300];
    size_t skipped_bytes;
    struct engine_suspects suspects; /* of the last loss */
    int answers[TOKENS_MAX];         /* how often */
    struct publish_result results[TOKENS_MAX];
    struct receipt *receipts[MESSAGES_MAX];
    int message_count;
    /* How the worker behaves. */
    enum err takes_messages;
    bool has_room;
    bool subscribes; /* calls resume_publications itself */
    void (*on_connected)(void);
    void (*on_published)(void);
    enum err (*on_message)(struct message *message, struct receipt *receipt);
} bench;

/* Runs the engine until the condition holds. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        int64_t until_ms_ = fixture_now_ms() + FIXTURE_WAIT_MS;                                    \
        while (!(condition)) {                                                                     \
            ck_assert_msg(fixture_now_ms() < until_ms_, "never: %s", #condition);                  \
            engine_reactor.poll(bench.engine, 10);                                                 \
        }                                                                                          \
    } while (0)

/* ---- the worker ---- */

static void bench_on_connected(void *client, const struct engine_connack *connack) {
    (void)client;
    (void)connack;
    bench.connected++;
    if (bench.on_connected) {
        bench.on_connected();
    }
    if (!bench.subscribes) { /* nothing to wait for */
        engine_reactor.resume_publications(bench.connection);
    }
}

static void bench_on_closed(void *client, const struct engine_closed *closed) {
    (void)client;
    bench.closed++;
    bench.suspects = closed->suspects ? *closed->suspects : (struct engine_suspects){0};
    bench.connection = NULL;
    bench.workarounds = closed->workarounds;
    snprintf(bench.code, sizeof(bench.code), "%s", client_error_code(closed->error));
    snprintf(bench.closed_message, sizeof(bench.closed_message), "%s",
             closed->message ? closed->message : client_error_text(closed->error));
}

static void bench_on_skipped(void *client, const struct engine_skipped *skipped) {
    (void)client;
    bench.skipped++;
    bench.skip_reason = skipped->reason;
    bench.skipped_bytes = skipped->bytes;
    snprintf(bench.skipped_topic, sizeof(bench.skipped_topic), "%s", skipped->topic);
}

static void bench_on_subscribed(void *client, const uint8_t *codes, size_t n) {
    (void)client;
    (void)codes;
    (void)n;
    bench.subscribed++;
}

static void bench_on_unsubscribed(void *client, const uint8_t *codes, size_t n) {
    (void)codes;
    (void)n;
    (void)client;
}

static void bench_on_published(void *client, uint64_t token, const struct publish_result *result) {
    (void)client;
    ck_assert_uint_lt(token, TOKENS_MAX);
    bench.answers[token]++;
    bench.results[token] = *result;
    if (bench.on_published) {
        bench.on_published();
    }
}

static enum err bench_on_message(struct message_queue *queue, struct message *message,
                                 struct receipt *receipt) {
    (void)queue;
    if (bench.on_message) {
        return bench.on_message(message, receipt);
    }
    if (bench.takes_messages != ERR_OK) {
        bench.has_room = bench.takes_messages != ERR_FULL;
        return bench.takes_messages;
    }
    ck_assert_int_lt(bench.message_count, MESSAGES_MAX);
    bench.receipts[bench.message_count++] = receipt;
    message_destroy(message);
    return ERR_OK;
}

static bool bench_has_room(const struct message_queue *queue) {
    (void)queue;
    return bench.has_room;
}

static const struct engine_events bench_events = {.connected = bench_on_connected,
                                                  .closed = bench_on_closed,
                                                  .subscribed = bench_on_subscribed,
                                                  .unsubscribed = bench_on_unsubscribed,
                                                  .published = bench_on_published,
                                                  .skipped = bench_on_skipped};

static inline enum err bench_publish(uint64_t token, uint8_t qos, size_t payload_len) {
    uint8_t *payload = calloc(1, payload_len + 1);
    struct engine_publication publication = {
        .topic = "out", .payload = payload, .payload_len = payload_len, .qos = qos};
    enum err err = engine_reactor.publish(bench.connection, &publication, token);
    free(payload);
    return err;
}

/* As a sink does, and its thread at the end of a batch. */
static inline void bench_answer(struct receipt *receipt, enum err err) {
    struct receipts *owner = receipt->owner;
    receipt_answer(receipt, err);
    receipts_wake(owner);
}

static inline void bench_accept(int index) {
    bench_answer(bench.receipts[index], ERR_OK);
}

/* ---- the broker ---- */

static inline void bench_send(const void *bytes, size_t len) {
    ck_assert_int_eq(send(bench.peer, bytes, len, MSG_NOSIGNAL), len);
}

#define SEND(bytes) bench_send(bytes, sizeof(bytes) - 1)

static inline void bench_take_bytes(void) {
    ssize_t n = recv(bench.peer, bench.got + bench.got_len, SEEN_LEN - bench.got_len, MSG_DONTWAIT);
    bench.got_len += n > 0 ? (size_t)n : 0;
}

static inline void bench_forget(size_t len) {
    memmove(bench.got, bench.got + len, bench.got_len - len);
    bench.got_len -= len;
}

/* The length of the client's packet if it is complete; 0: not yet. */
static inline size_t bench_packet_len(size_t *header_len) {
    size_t len = 0;
    for (size_t i = 1; i < 5 && i < bench.got_len; i++) {
        len |= (size_t)(bench.got[i] & 0x7F) << (7 * (i - 1));
        if (bench.got[i] < 0x80) {
            *header_len = i + 1;
            return bench.got_len >= i + 1 + len ? i + 1 + len : 0;
        }
    }
    return 0;
}

/* The next packet of the client, which must have that type. */
static inline struct seen bench_expect(enum packet_type type) {
    size_t header_len = 0, len = 0;
    UNTIL((bench_take_bytes(), len = bench_packet_len(&header_len)) > 0 || bench.closed > 0);
    ck_assert_msg(len > 0, "closed: %s", bench.code);
    struct seen seen = {.type = bench.got[0] >> 4, .flags = bench.got[0] & 15, .len = len};
    const uint8_t *body = bench.got + header_len;
    seen.qos = seen.flags >> 1 & 3;
    if (seen.type == PACKET_PUBLISH) {
        body += 2 + (body[0] << 8 | body[1]);
    }
    if (len > header_len + 1) {
        seen.packet_id = (uint16_t)(body[0] << 8 | body[1]);
    }
    bench_forget(len);
    ck_assert_int_eq(seen.type, type);
    return seen;
}

static inline void bench_hang_up(bool reset) {
    struct linger linger = {.l_onoff = 1};
    if (reset) {
        setsockopt(bench.peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    close(bench.peer);
    bench.peer = -1;
}

/* Up to CONNECT. */
static inline void bench_open(void) {
    struct engine_open open = {.config = &bench.config,
                               .address_len = sizeof(bench.address),
                               .connect_timeout_ms = 600000,
                               .keepalive_s = bench.config.keepalive_s,
                               .session = &bench.session,
                               .workarounds = bench.workarounds,
                               .route = &bench.route,
                               .client = &bench};
    memcpy(&open.address, &bench.address, sizeof(bench.address));
    bench.connected = bench.closed = 0;
    bench.got_len = 0;
    ck_assert_int_eq(engine_reactor.open(bench.engine, &open, &bench.connection), ERR_OK);
    UNTIL((bench.peer = accept4(bench.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    bench_expect(PACKET_CONNECT);
}

/* To the connected event. */
static inline void bench_accept_connection(bool session_present) {
    bool v5 = bench.config.protocol_version == 5;
    const uint8_t connack[] = {0x20, v5 ? 3 : 2, session_present, 0, 0};
    bench_send(connack, v5 ? 5 : 4);
    UNTIL(bench.connected == 1 || bench.closed == 1);
}

static inline void bench_up(bool session_present) {
    bench_open();
    bench_accept_connection(session_present);
    ck_assert_int_eq(bench.connected, 1);
}

/* The connection breaks. */
static inline void bench_break(void) {
    bench_hang_up(true);
    UNTIL(bench.closed == 1);
}

/* ---- life ---- */

static inline void bench_setup(int version, int64_t buffer_bytes) {
    static char skip[] = "skip";
    socklen_t len = sizeof(bench.address);
    log_setup(LOG_ERROR, LOG_LOGFMT);
    memset(&bench, 0, sizeof(bench));
    bench.peer = -1;
    bench.has_room = true;
    bench.conf = (struct conf){.max_packet_bytes = 16777216,
                               .oversize = skip,
                               .buffer_bytes = buffer_bytes,
                               .source_addresses = ""};
    bench.config = (struct client_config){.id = "a",
                                          .client_id = "a",
                                          .scheme = SCHEME_MQTT,
                                          .host = "127.0.0.1",
                                          .protocol_version = version,
                                          .session_expiry_s = 1000,
                                          .keepalive_s = 60};
    bench.address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bench.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(bench.listener, (struct sockaddr *)&bench.address, len), 0);
    ck_assert_int_eq(listen(bench.listener, 8), 0);
    getsockname(bench.listener, (struct sockaddr *)&bench.address, &len);
    bench.router = router_create();
    router_add_sink(bench.router, "bench", (struct message_queue *)&bench); /* never used */
    route_set(&bench.route, bench.router, NULL, NULL, NULL);
    queue_double = (struct queue_double){.put = bench_on_message, .has_room = bench_has_room};
    bench.engine = engine_reactor.create(&bench.conf, &bench_events);
    ck_assert_ptr_nonnull(bench.engine);
}

static inline void bench_teardown(void) {
    bench.on_connected = bench.on_published = NULL;
    if (bench.connection) {
        engine_reactor.close(bench.connection, true);
        UNTIL(bench.closed == 1);
    }
    engine_reactor.session_end(bench.engine, bench.session);
    engine_reactor.destroy(bench.engine);
    route_fini(&bench.route);
    router_destroy(bench.router);
    if (bench.peer >= 0) {
        close(bench.peer);
    }
    close(bench.listener);
}

#endif
