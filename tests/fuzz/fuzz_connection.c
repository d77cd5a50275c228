/* Fuzzes the engine `reactor` as a whole: two clients of one engine, a peer for each that acts as
 * the broker, and a worker that does everything that workers may do at any time, even within
 * events. The input is a program for all of them. Each client speaks plain MQTT, over TLS,
 * WebSocket, or both. The sockets are of AF_UNIX, which the engine does not notice, and its timer
 * is a descriptor of ours, so that no time passes but what the program says.
 *
 * Invariants: each publication is answered exactly once; no event follows closed, and after close
 * only pending events follow; only messages that a sink accepted are acknowledged; all output is
 * valid MQTT; the engine is idle after each turn; at the end nothing remains. */
#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>
#include "mqtt/reactor/reactor.h"
#include "peer.h"
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "doubles/queue_double.h"

#define COUNT(array)     (sizeof(array) / sizeof((array)[0]))
#define CLIENTS          2
#define PUBLICATIONS_MAX 64
#define HELD_MAX         64
#define IDS              16 /* packet identifiers that the peer uses */
#define ROUNDS_MAX       3000
#define TICK_MS          250
#define BINARY           0x82
#define BUFFER_BYTES     400000
#define BEYOND_MAX       (1 << 20) /* the excess found in the next check of memory */
#define LAST_TICKS_MAX   40        /* sinks are waited for, then the server: a few seconds */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct client {
    struct client_config config;
    struct engine_session *session;
    struct engine_connection *connection;
    struct route route;
    struct peer peer;
    bool closing;
    size_t requested;   /* codes to come; 0: no request is under way */
    bool accepted[IDS]; /* messages with that identifier, at least once */
    uint8_t lessons;
    bool old_tls;        /* 1.2 */
    bool sent_raw_bytes; /* then nobody knows which identifiers there were */
};

struct held {
    struct receipt *receipt;
    struct client *client;
    uint16_t packet_id;
};

static struct {
    const uint8_t *at, *end;
    struct conf conf;
    struct engine *engine;
    struct router *router;
    struct client clients[CLIENTS];
    struct held held[HELD_MAX];
    size_t held_count;
    struct client *publishers[PUBLICATIONS_MAX]; /* NULL: was answered */
    size_t publication_count;
    bool has_room;
} world;

static int listener = -1;
static int timer = -1;
static struct sockaddr_un address;
static socklen_t address_len;
static const struct engine_ops *const ops = &engine_reactor;

/* In place of the system's: time passes by tick(). */
int timerfd_create(int clock, int flags) {
    (void)clock;
    (void)flags;
    return timer = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *now, struct itimerspec *before) {
    (void)fd;
    (void)flags;
    (void)now;
    (void)before;
    return 0;
}

static uint8_t next(void) {
    return world.at < world.end ? *world.at++ : 0;
}

static struct client *pick(uint8_t byte) {
    return &world.clients[byte % CLIENTS];
}

/* ---- the peer ---- */

static void look_at_packet(struct client *client, const uint8_t *packet, size_t header_len) {
    struct peer *peer = &client->peer;
    enum packet_type type = (enum packet_type)(packet[0] >> 4);
    assert(peer->greeted == (type != PACKET_CONNECT) && !peer->said_goodbye);
    assert(type != PACKET_CONNACK && type != PACKET_SUBACK && type != PACKET_UNSUBACK &&
           type != PACKET_PINGRESP && type != PACKET_AUTH && type != 0);
    peer->greeted = true;
    peer->said_goodbye = type == PACKET_DISCONNECT;
    if ((type == PACKET_PUBACK || type == PACKET_PUBREC) && !client->sent_raw_bytes) {
        unsigned packet_id = (unsigned)packet[header_len] << 8 | packet[header_len + 1];
        assert(packet_id < IDS && client->accepted[packet_id]);
    }
}

/* Whole packets out of what came; what a client sends is framed as what a server does. */
static void look_at_packets(struct client *client) {
    struct buffer *got = &client->peer.got;
    size_t at = 0;
    while (got->len - at >= 2) {
        const uint8_t *packet = (const uint8_t *)got->data + at;
        size_t header_len = 1, body_len = 0;
        do {
            assert(header_len < 5);
            body_len |= (size_t)(packet[header_len] & 0x7F) << (7 * (header_len - 1));
        } while (packet[header_len++] >= 0x80 && at + header_len < got->len);
        if (packet[header_len - 1] >= 0x80 || got->len - at < header_len + body_len) {
            break;
        }
        look_at_packet(client, packet, header_len);
        at += header_len + body_len;
    }
    if (at > 0) {
        memmove(got->data, got->data + at, got->len - at);
        got->len -= at;
    }
}

static void hear(struct client *client) {
    peer_hear(&client->peer);
    look_at_packets(client);
}

/* ---- turns of the engine ---- */

/* The host's turns, as long as the engine has something to do. */
static void settle(void) {
    struct pollfd wait = {.fd = world.engine->epoll_fd, .events = POLLIN};
    struct receipts *receipts = &world.engine->receipts;
    int rounds = 0;
    while (world.engine->tasks || atomic_load(&receipts->answered) || poll(&wait, 1, 0) > 0) {
        assert(rounds++ < ROUNDS_MAX);
        ops->poll(world.engine, 0);
        assert(world.engine->buffered < BUFFER_BYTES + BEYOND_MAX);
        for (size_t i = 0; i < CLIENTS; i++) {
            if (!world.clients[i].peer.deaf) {
                hear(&world.clients[i]);
            }
        }
    }
}

static void tick(int64_t ms) {
    clock_advance_ms(ms);
    eventfd_write(timer, 1);
    settle();
}

static void say(struct client *client, const void *data, size_t len) {
    struct peer *peer = &client->peer;
    size_t step = peer->one_by_one ? 1 + len / 64 : len; /* what is long, in chunks */
    for (size_t at = 0; at < len && peer->fd >= 0; at += step) {
        peer_say_frame(peer, BINARY, (const uint8_t *)data + at, len - at < step ? len - at : step);
        if (peer->one_by_one) {
            settle();
        }
    }
}

/* ---- actions of the worker ---- */

static void open_client(struct client *client) {
    struct engine_open open = {.config = &client->config,
                               .address_len = address_len,
                               .connect_timeout_ms = 10000,
                               .keepalive_s = client->config.keepalive_s,
                               .session = &client->session,
                               .workarounds = client->lessons,
                               .route = &client->route,
                               .client = client};
    if (client->connection) {
        return;
    }
    peer_hang_up(&client->peer);
    memcpy(&open.address, &address, sizeof(address));
    enum err err = ops->open(world.engine, &open, &client->connection);
    assert(err == ERR_OK);
    enum client_scheme scheme = client->config.scheme;
    peer_take(&client->peer, accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC),
              scheme == SCHEME_MQTTS || scheme == SCHEME_WSS, client->old_tls,
              scheme == SCHEME_WS || scheme == SCHEME_WSS);
    client->closing = false;
    client->requested = 0;
}

static void close_client(struct client *client, bool with_will) {
    if (client->connection) {
        client->closing = true;
        ops->close(client->connection, with_will);
    }
}

static void publish_some(struct client *client, uint8_t how) {
    static const uint8_t payload[70000];
    static const size_t lens[] = {0, 10, 5000, sizeof(payload)};
    struct engine_publication publication = {.topic = "p",
                                             .payload = payload,
                                             .payload_len = lens[how >> 2 & 3],
                                             .qos = (how & 3) % 3,
                                             .retain = (how & 16) != 0};
    size_t token = world.publication_count;
    if (!client->connection || client->closing || token == PUBLICATIONS_MAX) {
        return;
    }
    world.publishers[token] = client;
    world.publication_count++;
    if (ops->publish(client->connection, &publication, token) != ERR_OK) {
        assert(world.publishers[token] == client);
        world.publishers[token] = NULL;
    }
}

static void request(struct client *client, uint8_t how) {
    struct client_subscription subscriptions[] = {{.filter = "a"}, {.filter = "b/#", .qos = 2}};
    char *filters[] = {"a", "b/#"};
    size_t n = 1 + (how >> 1 & 1);
    if (!client->connection || client->closing || client->requested > 0) {
        return;
    }
    client->requested = n;
    enum err err = how & 1 ? ops->unsubscribe(client->connection, filters, &n)
                           : ops->subscribe(client->connection, subscriptions, &n);
    client->requested = err == ERR_OK ? n : 0;
}

/* From within an event, or at any other time. */
static void react(struct client *client) {
    uint8_t how = next();
    switch (how & 15) {
    case 10:
    case 11:
        close_client(client, how & 1);
        break;
    case 12:
        close_client(pick(how >> 4), how & 128);
        break;
    case 13:
        publish_some(client, how >> 4);
        break;
    case 14:
        publish_some(pick(how >> 4), how >> 3);
        break;
    case 15:
        request(client, how >> 4);
        break;
    default:
        break;
    }
}

static void answer(size_t at, enum err err) {
    struct held held = world.held[at];
    world.held[at] = world.held[--world.held_count];
    if (err == ERR_OK && held.packet_id < IDS) {
        held.client->accepted[held.packet_id] = true;
    }
    receipt_answer(held.receipt, err);
    receipts_wake(&world.engine->receipts);
}

/* ---- events ---- */

static void on_connected(void *context, const struct engine_connack *connack) {
    struct client *client = context;
    assert(client->connection && !client->closing && connack->maximum_qos <= 2);
    react(client);
}

static void on_closed(void *context, const struct engine_closed *closed) {
    struct client *client = context;
    assert(client->connection && closed->error != CLIENT_ERROR_NONE);
    client->connection = NULL;
    client->lessons = closed->workarounds;
    client->closing = false;
    client->requested = 0;
    if (next() == 1) {
        open_client(client);
    }
}

static void on_subscribed(void *context, const uint8_t *codes, size_t n) {
    struct client *client = context;
    assert(client->connection && !client->closing);
    assert(n == client->requested && codes[n - 1] <= 0xA2);
    client->requested = 0;
    react(client);
}

static void on_unsubscribed(void *context, const uint8_t *codes, size_t n) {
    (void)codes;
    (void)n;
    struct client *client = context;
    assert(client->connection && !client->closing && client->requested > 0);
    client->requested = 0;
    react(client);
}

static void on_published(void *context, uint64_t token, const struct publish_result *result) {
    struct client *client = context;
    assert(token < world.publication_count && world.publishers[token] == client);
    assert(result->err == ERR_OK || result->reason_code == 0);
    world.publishers[token] = NULL;
    react(client);
}

/* The messages of say_publish() have their identifier as payload. */
static uint16_t packet_id_of(const struct message *message) {
    const uint8_t *payload = message->payload;
    return message->payload_len == 2 ? (uint16_t)(payload[0] << 8 | payload[1]) : IDS;
}

/* The queue of a client is no more than its name. */
static enum err on_message(struct message_queue *queue, struct message *message,
                           struct receipt *receipt) {
    struct client *client = (struct client *)queue;
    assert(client->connection);
    assert(!receipt || (message->qos > 0 && !client->closing));
    uint8_t how = next();
    react(client);
    if (how % 8 == 6 || world.held_count == HELD_MAX) {
        world.has_room = false;
        return ERR_FULL;
    }
    if (how % 32 == 7) {
        return ERR_WRONG_STATE;
    }
    if (receipt) {
        world.held[world.held_count++] = (struct held){receipt, client, packet_id_of(message)};
    }
    message_destroy(message);
    if (receipt && how % 8 >= 4) {
        answer(world.held_count - 1, how % 8 == 4 ? ERR_OK : ERR_UNAVAILABLE);
    }
    return ERR_OK;
}

static void on_skipped(void *context, const struct engine_skipped *skipped) {
    struct client *client = context;
    assert(client->connection && !client->closing);
    assert(skipped->reason < ENGINE_SKIP_COUNT && strlen(skipped->topic) < 260);
    react(client);
}

static bool on_has_room(const struct message_queue *queue) {
    (void)queue;
    return world.has_room;
}

static const struct engine_events events = {.connected = on_connected,
                                            .closed = on_closed,
                                            .subscribed = on_subscribed,
                                            .unsubscribed = on_unsubscribed,
                                            .published = on_published,
                                            .skipped = on_skipped};

/* ---- output of the peer ---- */

static size_t put_v5(const struct client *client, uint8_t *packet, const void *bytes, size_t len) {
    if (client->config.protocol_version == 4) {
        return 0;
    }
    memcpy(packet, bytes, len);
    return len;
}

static void say_packet(struct client *client, uint8_t *packet, size_t len) {
    packet[1] = (uint8_t)(len - 2);
    say(client, packet, len);
}

static void say_connack(struct client *client, uint8_t how) {
    static const uint8_t limits[][9] = {{0},
                                        {3, 0x21, 0, 1},
                                        {5, 0x27, 0, 0, 0, 9},
                                        {5, 0x24, 0, 0x13, 0, 1},
                                        {5, 0x25, 0, 0x21, 0, 2}};
    const uint8_t *limit = limits[how >> 1 & 7 ? (how >> 1 & 7) % COUNT(limits) : 0];
    uint8_t packet[16] = {0x20, 0, how & 1, how >= 250 ? 5 : 0};
    say_packet(client, packet, 4 + put_v5(client, packet + 4, limit, limit[0] + 1U));
}

static void say_publish(struct client *client, uint8_t how) {
    static const uint8_t alias[] = {3, 0x23, 0, 1};
    uint8_t qos = how & 3;
    uint8_t packet_id = (how >> 4) % IDS;
    uint8_t packet[32] = {(uint8_t)(0x30 | qos << 1 | (qos > 0 && how & 4 ? 8 : 0)), 0, 0, 1, 't'};
    size_t len = 5;
    if (qos > 0) {
        packet[len++] = 0;
        packet[len++] = packet_id;
    }
    len += put_v5(client, packet + len, how & 8 ? alias : (const uint8_t *)"", how & 8 ? 4 : 1);
    packet[len++] = 0;
    packet[len++] = packet_id;
    say_packet(client, packet, len);
}

static void say_acknowledgement(struct client *client, uint8_t how) {
    static const uint8_t types[] = {0x40, 0x50, 0x62, 0x70};
    uint8_t packet[8] = {types[how & 3], 0, 0, (how >> 3) % IDS};
    size_t len = 4;
    if (how & 4) {
        len += put_v5(client, packet + 4, how & 64 ? "\x92" : "\x97", 1);
    }
    say_packet(client, packet, len);
}

static void say_suback(struct client *client, uint8_t how) {
    uint8_t packet[8] = {how & 1 ? 0xB0 : 0x90, 0, 0, how >> 3};
    size_t len = 4 + put_v5(client, packet + 4, "", 1);
    bool has_codes = !(how & 1) || client->config.protocol_version == 5;
    say_packet(client, packet, len + (has_codes ? 1 + (how >> 1 & 1) : 0));
}

static void say_other(struct client *client, uint8_t how) {
    static const uint8_t pingresp[] = {0xD0, 0};
    static const uint8_t taken_over[] = {0xE0, 1, 0x8E};
    if (how & 7) {
        say(client, pingresp, sizeof(pingresp));
    } else {
        say(client, taken_over, sizeof(taken_over));
    }
}

/* how: also at which layer, where there are more than one. */
static void say_bytes(struct client *client, uint8_t how) {
    size_t left = (size_t)(world.end - world.at);
    size_t n = how < left ? how : left;
    client->sent_raw_bytes |= n > 0;
    if (how & 1) {
        say(client, world.at, n);
    } else {
        peer_transmit(&client->peer, world.at, n, how & 2);
    }
    world.at += n;
}

/* Control frames, fragments, and what no server may send. */
static void say_frame(struct client *client, uint8_t how) {
    static const uint8_t payload[2 + 125] = {0x03, 0xE8};
    static const uint8_t firsts[] = {0x89, 0x89, 0x89, 0x8A, 0x02, 0x00, 0x80, 0x88};
    if (client->peer.has_websocket) {
        peer_say_frame(&client->peer, firsts[how & 7], payload,
                       (firsts[how & 7] & 8) ? how >> 3 : 0);
    }
}

/* So many pings that their pongs do not fit. */
static void say_pings(struct client *client, uint8_t how) {
    for (int i = 0; i < how * 8 && client->peer.has_websocket; i++) {
        say_frame(client, 0xF8);
        if (i % 64 == 0) {
            settle();
        }
    }
}

static void change_keys(struct client *client, uint8_t how) {
    SSL *tls = client->peer.tls;
    if (tls && SSL_is_init_finished(tls)) {
        if (SSL_version(tls) == TLS1_3_VERSION) {
            (void)SSL_key_update(tls,
                                 how & 1 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
        } else {
            (void)SSL_renegotiate(tls);
        }
        (void)SSL_do_handshake(tls);
    }
}

/* The header of something large, and a part of it. */
static void say_much(struct client *client, uint8_t how) {
    static uint8_t bytes[1 << 16] = {0x30, 0x80, 0x80, 0x04, 0, 1, 't'};
    client->sent_raw_bytes = true;
    say(client, bytes, (size_t)(how + 1) << 8);
}

/* A message above the bound, in pieces; the last of them may be left out. */
static void say_oversize(struct client *client, uint8_t how) {
    static uint8_t bytes[30000];
    uint8_t qos = how & 3, packet_id = (how >> 4) % IDS;
    uint8_t head[] = {(uint8_t)(0x30 | qos << 1), 0xC0, 0xA9, 0x07, 0, 1, 't', 0, packet_id, 0};
    client->accepted[packet_id] = true; /* acknowledged without a sink */
    say(client, head, sizeof(head));
    for (size_t left = 120000 + 4 - sizeof(head); left > 0;) {
        size_t n = left < sizeof(bytes) ? left : sizeof(bytes);
        if (left == n && (how & 8)) {
            return;
        }
        say(client, bytes, n);
        settle();
        left -= n;
    }
}

/* A topic that is none, or an alias without one. */
static void say_malformed(struct client *client, uint8_t how) {
    static const char topics[] = {'+', '\xFF', '\0'};
    static const uint8_t alias[] = {3, 0x23, 0, 1};
    uint8_t qos = how >> 2 & 3, packet_id = (how >> 4) % IDS;
    bool by_alias = (how & 3) == 3;
    uint8_t packet[16] = {(uint8_t)(0x30 | qos << 1), 0, 0, !by_alias};
    size_t len = 4;
    if (!by_alias) {
        packet[len++] = (uint8_t)topics[how & 3];
    }
    packet[len++] = 0;
    packet[len++] = packet_id;
    client->accepted[packet_id] = true;
    say_packet(client, packet,
               len + put_v5(client, packet + len, by_alias ? alias : (const uint8_t *)"",
                            by_alias ? sizeof(alias) : 1));
}

/* ---- the program ---- */

static void begin(struct client *client, uint8_t how) {
    (void)how;
    open_client(client);
}

static void end(struct client *client, uint8_t how) {
    close_client(client, how & 1);
}

static void do_react(struct client *client, uint8_t how) {
    (void)how;
    react(client);
}

static void accept_or_not(struct client *client, uint8_t how) {
    (void)client;
    if (world.held_count > 0) {
        answer((how >> 1) % world.held_count, how & 1 ? ERR_UNAVAILABLE : ERR_OK);
    }
}

static void accept_all(struct client *client, uint8_t how) {
    (void)client;
    (void)how;
    while (world.held_count > 0) {
        answer(0, ERR_OK);
    }
}

static void make_room(struct client *client, uint8_t how) {
    (void)client;
    world.has_room = !(how & 1);
    tick(1);
}

static void let_time_pass(struct client *client, uint8_t how) {
    (void)client;
    tick(how & 1 ? how * 100 : how);
}

static void peer_goes(struct client *client, uint8_t how) {
    if (client->peer.fd < 0) {
        return;
    }
    if (how & 1) {
        shutdown(client->peer.fd, SHUT_WR);
    } else {
        hear(client);
        peer_hang_up(&client->peer);
    }
}

static void peer_changes(struct client *client, uint8_t how) {
    client->peer.deaf = how & 1;
    client->peer.one_by_one = how & 2;
}

static void forget_session(struct client *client, uint8_t how) {
    (void)how;
    if (!client->connection) {
        ops->session_end(world.engine, client->session);
        client->session = NULL;
    }
}

static void (*const steps[])(struct client *client, uint8_t how) = {
    begin,         end,         do_react,      publish_some, request,        accept_or_not,
    accept_all,    make_room,   let_time_pass, say_connack,  say_publish,    say_acknowledgement,
    say_suback,    say_other,   say_bytes,     say_much,     peer_goes,      peer_changes,
    say_publish,   say_publish, begin,         say_connack,  forget_session, say_oversize,
    say_malformed, say_frame,   say_pings,     change_keys,
};

static void run_step(void) {
    uint8_t step = next();
    struct client *client = pick(step >> 5);
    steps[(step & 31) % COUNT(steps)](client, next());
    if (step & 64) {
        settle();
    }
}

/* ---- the whole ---- */

static void listen_once(void) {
    if (listener >= 0) {
        return;
    }
    log_setup(LOG_ERROR, LOG_LOGFMT);
    signal(SIGPIPE, SIG_IGN);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sun_family = AF_UNIX;
    address_len = sizeof(address);
    int failed = bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)) ||
                 getsockname(listener, (struct sockaddr *)&address, &address_len) ||
                 listen(listener, 16);
    assert(!failed);
}

static void build_world(const uint8_t *data, size_t size) {
    memset(&world, 0, sizeof(world));
    world.at = data;
    world.end = data + size;
    world.has_room = true;
    static char skip[] = "skip";
    world.conf = (struct conf){.max_packet_bytes = 100000,
                               .oversize = skip,
                               .buffer_bytes = BUFFER_BYTES,
                               .source_addresses = ""};
    world.router = router_create();
    router_add_sink(world.router, "fuzz", (struct message_queue *)&world); /* never used */
    queue_double = (struct queue_double){.put = on_message, .has_room = on_has_room};
    world.engine = ops->create(&world.conf, &events);
    assert(world.engine);
    for (size_t i = 0; i < CLIENTS; i++) {
        static struct client_tls tls = {.insecure = true};
        uint8_t how = next();
        world.clients[i].old_tls = how & 128;
        world.clients[i].config = (struct client_config){.id = "id",
                                                         .client_id = "client",
                                                         .scheme = how >> 5 & 3,
                                                         .path = "/mqtt",
                                                         .tls = &tls,
                                                         .topic_alias_maximum = i == 0 ? 2 : 0,
                                                         .host = "localhost",
                                                         .protocol_version = how & 1 ? 4 : 5,
                                                         .clean_start = how & 2,
                                                         .session_expiry_s = how & 4 ? 0 : 100,
                                                         .keepalive_s = how & 8 ? 0 : 10,
                                                         .receive_maximum = how & 16 ? 2 : 0};
        world.clients[i].peer.fd = -1;
        route_set(&world.clients[i].route, world.router, NULL, NULL, NULL);
        world.clients[i].route.queue = (struct message_queue *)&world.clients[i];
    }
}

/* Sinks answer, peers read, and everything is completed. */
static void tear_down_world(void) {
    struct engine *engine = world.engine;
    world.at = world.end;
    world.has_room = true;
    for (size_t i = 0; i < CLIENTS; i++) {
        world.clients[i].peer.deaf = false;
        hear(&world.clients[i]);
    }
    settle();
    accept_all(NULL, 0);
    for (int i = 0; i < 3; i++) {
        tick(1);
    }
    assert(!engine->paused);
    for (size_t i = 0; i < CLIENTS; i++) {
        close_client(&world.clients[i], i & 1);
    }
    for (int i = 0; i < LAST_TICKS_MAX && engine->connection_count > 0; i++) {
        accept_all(NULL, 0);
        tick(TICK_MS);
    }
    accept_all(NULL, 0);
    assert(engine->connection_count == 0 && !engine->tasks);
    for (size_t i = 0; i < CLIENTS; i++) {
        peer_hang_up(&world.clients[i].peer);
        ops->session_end(engine, world.clients[i].session);
        route_fini(&world.clients[i].route);
    }
    for (size_t i = 0; i < world.publication_count; i++) {
        assert(!world.publishers[i]);
    }
    assert(engine->buffered == 0 && engine->inbound.count == 0);
    ops->destroy(engine);
    router_destroy(world.router);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    listen_once();
    build_world(data, size);
    while (world.at < world.end) {
        run_step();
    }
    tear_down_world();
    return 0;
}
