/* Owns one engine and its connection. Each connection has a new session: messages without an answer
 * are still in the queue of the sink, and are sent again from there. */
#include "mqtt_link.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"
#include "mqtt/broker/resolver.h"
#include "mqtt/reason_codes.h"
#include "mqtt_access.h"

#define POLL_MS        100  /* the longest wait of the engine */
#define CLOSE_MS       3500 /* the engine ends a closed connection within three seconds */
#define ABORT_TURNS    4    /* the engine ends an aborted connection in its next turn */
#define CONNECT_MS_MIN 1000 /* of the engine's own limit; that of the sink may end earlier */

static enum err mqtt_link_fail(struct mqtt_link *link, enum err err, const char *text) {
    snprintf(link->error, sizeof link->error, "%.159s", text);
    return err;
}

/* ---- events ---------------------------------------------------------------------------------- */

static void mqtt_link_on_connected(void *client, const struct engine_connack *connack) {
    struct mqtt_link *link = client;
    link->state = MQTT_LINK_UP;
    link->has_failed = false;
    link->receive_maximum = connack->receive_maximum;
    engine_reactor.resume_publications(link->connection);
}

/* Reasons that concern the connection or the broker, not what was sent last. */
static bool mqtt_link_is_neutral(int reason_code) {
    static const uint8_t neutral[] = {REASON_SERVER_UNAVAILABLE, REASON_SERVER_BUSY,
                                      REASON_SHUTTING_DOWN,      REASON_KEEP_ALIVE_TIMEOUT,
                                      REASON_TAKEN_OVER,         REASON_MESSAGE_RATE,
                                      REASON_QUOTA_EXCEEDED,     REASON_ADMINISTRATIVE_ACTION,
                                      REASON_USE_ANOTHER_SERVER, REASON_SERVER_MOVED,
                                      REASON_CONNECTION_RATE,    REASON_MAXIMUM_CONNECT_TIME};
    for (size_t i = 0; i < sizeof neutral; i++) {
        if (neutral[i] == reason_code) {
            return true;
        }
    }
    return false;
}

static void mqtt_link_on_closed(void *client, const struct engine_closed *closed) {
    struct mqtt_link *link = client;
    bool by_us = closed->error == CLIENT_ERROR_CLOSED_BY_US;
    if (closed->address >= 0 && link->state == MQTT_LINK_OPENING) {
        link->failed = link->addresses.items[closed->address];
        link->has_failed = true;
    }
    link->accuses = link->state == MQTT_LINK_UP && !by_us &&
                    closed->error != CLIENT_ERROR_KEEPALIVE_TIMEOUT &&
                    !mqtt_link_is_neutral(closed->reason_code);
    if (!by_us) {
        (void)mqtt_link_fail(link, ERR_IO,
                             closed->message ? closed->message : client_error_text(closed->error));
    }
    link->state = MQTT_LINK_DOWN;
    link->connection = NULL;
    client_config_destroy(link->config);
    link->config = NULL;
}

static void mqtt_link_on_published(void *client, uint64_t token,
                                   const struct publish_result *result) {
    struct mqtt_link *link = client;
    link->answered(link->context, (size_t)token, result);
}

/* Nothing is subscribed to. */
static void mqtt_link_on_codes(void *client, const uint8_t *codes, size_t n) {
    (void)client;
    (void)codes;
    (void)n;
}

static bool mqtt_link_may_connect(void *client) {
    (void)client;
    return true;
}

static void mqtt_link_socket_done(void *client) {
    (void)client;
}

static const struct engine_events mqtt_link_events = {
    .connected = mqtt_link_on_connected,
    .closed = mqtt_link_on_closed,
    .subscribed = mqtt_link_on_codes,
    .unsubscribed = mqtt_link_on_codes,
    .published = mqtt_link_on_published,
    .may_connect = mqtt_link_may_connect,
    .socket_done = mqtt_link_socket_done,
};

/* ---- addresses ------------------------------------------------------------------------------- */

static void mqtt_link_add_address(struct mqtt_link *link, const struct sockaddr_storage *from) {
    union socket_address *address = &link->addresses.items[link->addresses.count++];
    *address = (union socket_address){.any.sa_family = from->ss_family};
    in_port_t port = htons(link->config->port);
    if (from->ss_family == AF_INET6) {
        memcpy(&address->v6, from, sizeof address->v6);
        address->v6.sin6_port = port;
    } else {
        memcpy(&address->v4, from, sizeof address->v4);
        address->v4.sin_port = port;
    }
}

/* Those that sinks may connect to. */
static enum err mqtt_link_resolve(struct mqtt_link *link) {
    const struct sink_environment *environment = link->environment;
    const char *host = link->config->host;
    const char *why = "no address";
    struct resolver_answer answer;
    resolver_look_up(host, &answer);
    if (answer.result != ERR_OK) {
        return mqtt_link_fail(link, answer.result, answer.message);
    }
    link->addresses.count = 0;
    for (size_t i = 0; i < answer.count; i++) {
        const struct sockaddr *address = (const struct sockaddr *)&answer.addresses[i];
        if (!environment->address_allowed ||
            environment->address_allowed(environment->address_context, host, address, &why)) {
            mqtt_link_add_address(link, &answer.addresses[i]);
        }
    }
    if (link->has_failed) {
        address_list_move_last(&link->addresses, &link->failed);
    }
    return link->addresses.count > 0 ? ERR_OK : mqtt_link_fail(link, ERR_REFUSED, why);
}

/* ---- opening --------------------------------------------------------------------------------- */

static enum err mqtt_link_start(struct mqtt_link *link) {
    int64_t limit_ms = link->timeout_ms > CONNECT_MS_MIN ? link->timeout_ms : CONNECT_MS_MIN;
    const union socket_address *first = &link->addresses.items[0];
    struct engine_open open = {.config = link->config,
                               .address_len = socket_address_len(first),
                               .addresses = &link->addresses,
                               .connect_timeout_ms = limit_ms,
                               .keepalive_s = link->config->keepalive_s,
                               .session = &link->session,
                               .client = link};
    memcpy(&open.address, first, open.address_len);
    if (!link->engine) {
        link->engine = engine_reactor.create(link->environment->conf, &mqtt_link_events);
    }
    link->state = MQTT_LINK_OPENING;
    enum err err = link->engine ? engine_reactor.open(link->engine, &open, &link->connection)
                                : ERR_UNAVAILABLE;
    if (err != ERR_OK) {
        link->state = MQTT_LINK_DOWN;
        link->connection = NULL;
        return mqtt_link_fail(link, err, "out of memory or descriptors");
    }
    return ERR_OK;
}

static enum err mqtt_link_await_up(struct mqtt_link *link, const struct sink_batch *batch) {
    int64_t end_ms = clock_ms() + link->timeout_ms;
    while (link->state == MQTT_LINK_OPENING && clock_ms() < end_ms &&
           !(batch && sink_batch_is_over(batch))) {
        mqtt_link_poll(link, POLL_MS);
    }
    if (link->state == MQTT_LINK_OPENING) {
        mqtt_link_abort(link);
        return mqtt_link_fail(link, ERR_TIMEOUT, "the broker did not answer in time");
    }
    return link->state == MQTT_LINK_UP ? ERR_OK : ERR_UNAVAILABLE;
}

enum err mqtt_link_ensure_open(struct mqtt_link *link, const struct sink_batch *batch) {
    char fault[SINK_FAULT_LEN];
    mqtt_link_poll(link, 0); /* it may have ended in the meantime */
    if (link->state == MQTT_LINK_UP) {
        return ERR_OK;
    }
    link->accuses = false;
    enum err err = mqtt_access_load(link->settings, link->client_id, &link->config, fault);
    if (err != ERR_OK) {
        link->config = NULL;
        return mqtt_link_fail(link, err, *fault ? fault : "out of memory");
    }
    err = mqtt_link_resolve(link);
    if (err == ERR_OK) {
        err = mqtt_link_start(link);
    }
    if (err != ERR_OK) {
        client_config_destroy(link->config);
        link->config = NULL;
        return err;
    }
    return mqtt_link_await_up(link, batch);
}

/* ---- open ------------------------------------------------------------------------------------ */

enum err mqtt_link_publish(struct mqtt_link *link, const struct engine_publication *publication,
                           size_t index) {
    return link->state == MQTT_LINK_UP
               ? engine_reactor.publish(link->connection, publication, index)
               : ERR_WRONG_STATE;
}

void mqtt_link_poll(struct mqtt_link *link, int64_t wait_ms) {
    if (link->connection) {
        engine_reactor.poll(link->engine, wait_ms < POLL_MS ? wait_ms : POLL_MS);
    }
}

void mqtt_link_abort(struct mqtt_link *link) {
    if (!link->connection) {
        return;
    }
    engine_reactor.close(link->connection, true); /* there is no will: this only means at once */
    for (int i = 0; i < ABORT_TURNS && link->connection; i++) {
        engine_reactor.poll(link->engine, 0);
    }
    assert(!link->connection);
}

void mqtt_link_fini(struct mqtt_link *link) {
    if (!link->engine) {
        return;
    }
    if (link->connection) {
        engine_reactor.close(link->connection, false);
    }
    int64_t end_ms = clock_ms() + CLOSE_MS;
    while (link->connection && clock_ms() < end_ms) {
        engine_reactor.poll(link->engine, POLL_MS);
    }
    mqtt_link_abort(link);
    engine_reactor.session_end(link->engine, link->session);
    engine_reactor.destroy(link->engine);
    link->engine = NULL;
}
