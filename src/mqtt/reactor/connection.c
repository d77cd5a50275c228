/* Owns the states of a connection: from open through CONNECT, CONNACK and keepalive to the closed
 * event. Worker thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "mqtt/reason_codes.h"
#include "reactor.h"

#define CONNECTION_DRAIN_MS      2000 /* for sinks to accept received messages */
#define CONNECTION_DISCONNECT_MS 1000 /* for the server to close after DISCONNECT */
#define PING_MARGIN_MS           5000 /* PINGREQ is sent at most this long before the keepalive expires */
#define PING_ANSWER_MS           2000 /* PINGRESP may take at least this long */
#define SEND_MAXIMUM             65535
#define TEXT_LEN                 512

/* The allocator's next size is 448. */
_Static_assert(sizeof(struct engine_connection) <= 384, "a connection stays small");

/* ---- end ---- */

/* all: unsent publications stay with the session. False: already detached. */
static bool connection_detach_session(struct engine_connection *connection, bool all) {
    if (connection->session->connection != connection) {
        return false;
    }
    outbound_interrupt(connection, all);
    connection->session->connection = NULL;
    return true;
}

static void connection_release_buffers(struct engine_connection *connection) {
    buffer_fini(&connection->in);
    buffer_fini(&connection->out);
    connection->out_sent = 0;
    alias_forget_all(connection);
    skip_forget(connection);
    connection->engine->buffered -= connection->held;
    connection->held = 0;
}

void connection_abort(struct engine_connection *connection, const struct engine_closed *closed) {
    if (connection->state == CONNECTION_ENDED) {
        return;
    }
    connection->closed_error = closed->error;
    connection->closed_reason_code = closed->reason_code;
    connection->closed_message = closed->message ? strdup(closed->message) : NULL;
    if (connection->stream.fd >= 0) {
        /* Not left to close(): a process that was just forked may hold the socket a moment longer.
         */
        epoll_ctl(connection->engine->epoll_fd, EPOLL_CTL_DEL, connection->stream.fd, NULL);
    }
    if (connection->race) {
        race_end(connection, -1);
    }
    connection->end_step = connection->stream.step;
    stream_close(&connection->stream, false);
    connection->state = CONNECTION_ENDED;
    if (connection_detach_session(connection, false)) {
        suspects_end(connection, closed->reason_code);
        connection->reports_suspects = true;
    }
    timer_wheel_clear(&connection->check_timer);
    read_ahead_end(connection);
    if (connection->reading != READING_ALL) {
        reactor_resume(connection);
    }
    connection_release_buffers(connection);
    reactor_task(connection, TASK_END);
}

/* Sends acknowledgements and, in MQTT 5, the reason if there is one (section 3.14): no DISCONNECT
 * before CONNACK, and none with a reason in 3.1.1. */
static void connection_send_final(struct engine_connection *connection, uint8_t reason_code) {
    bool up = connection->state == CONNECTION_UP || connection->state == CONNECTION_DRAINING;
    if (!up || connection->out.failed) {
        return;
    }
    answers_collect(connection->engine);
    answers_acknowledge(connection);
    if (reason_code != 0 && connection->version == 5 && connection->state == CONNECTION_UP) {
        packet_write_disconnect(&connection->out, connection->version, reason_code);
    }
    if (!connection->out.failed) {
        output_flush_final(connection);
    }
}

void connection_end(struct engine_connection *connection, const struct engine_closed *closed) {
    connection_send_final(connection, 0);
    connection_abort(connection, closed);
}

static void connection_end_by_us(struct engine_connection *connection) {
    connection_abort(
        connection, &(struct engine_closed){.error = CLIENT_ERROR_CLOSED_BY_US, .reason_code = -1});
}

void connection_lost(struct engine_connection *connection, const struct stream_fault *fault) {
    bool greeting = connection->state == CONNECTION_AWAITING_CONNACK;
    if (connection->state == CONNECTION_DISCONNECTING) {
        connection_end_by_us(connection);
    } else if (greeting && fault->error == CLIENT_ERROR_CONNECTION_LOST) {
        connection_abort(connection, &(struct engine_closed){.error = greeting_closed(connection),
                                                             .reason_code = -1});
    } else {
        enum client_error error = greeting_fault(connection, fault->error);
        const char *message = error == fault->error ? fault->message : NULL;
        connection_abort(connection, &(struct engine_closed){
                                         .error = error, .message = message, .reason_code = -1});
    }
}

static void connection_send_disconnect(struct engine_connection *connection, uint8_t reason_code) {
    packet_write_disconnect(&connection->out, connection->version, reason_code);
    output_flush(connection);
}

void connection_refuse(struct engine_connection *connection, const struct packet_fault *fault) {
    enum client_error error =
        fault->error != CLIENT_ERROR_NONE ? fault->error : reason_error_own(fault->reason_code);
    connection_send_final(connection, fault->reason_code);
    connection_abort(connection, &(struct engine_closed){
                                     .error = error, .message = fault->message, .reason_code = -1});
}

void connection_refuse_with_workaround(struct engine_connection *connection,
                                       const struct packet_fault *fault, unsigned workaround) {
    char text[TEXT_LEN];
    struct packet_fault learnt = *fault;
    snprintf(text, sizeof(text), "%s%s", fault->message,
             workaround == ENGINE_WORKAROUND_NO_ALIASES ? "; the next connections offer no aliases"
             : workaround == ENGINE_WORKAROUND_SKIP_MALFORMED
                 ? "; from now on such messages are skipped"
                 : "");
    learnt.message = text;
    connection->workarounds |= (uint8_t)workaround;
    connection_refuse(connection, &learnt);
}

void connection_finish(struct engine_connection *connection) {
    struct engine *engine = connection->engine;
    void *client = connection->session->client;
    publish_report(connection);
    publish_fail_unwritten(connection);
    if (!client_config_keeps_session(connection->config)) {
        session_end(engine, connection->session);
        *connection->session_slot = NULL;
    }
    engine->connection_count--;
    engine->events->closed(
        client, &(struct engine_closed){
                    .error = connection->closed_error,
                    .message = connection->closed_message,
                    .reason_code = connection->closed_reason_code,
                    .address = connection->address,
                    .workarounds = connection->workarounds,
                    .suspects = connection->reports_suspects ? connection->suspects : NULL});
    free(connection->assigned_client_id);
    free(connection->closed_message);
    free(connection->last_unacknowledged);
    free(connection->suspects);
    free(connection);
}

/* ---- open ---- */

const struct sockaddr_storage *connection_source_address(struct engine *engine, int family) {
    for (size_t i = 0; i < engine->source_count; i++) {
        const struct sockaddr_storage *source =
            &engine->sources[engine->source_turn++ % engine->source_count];
        if (source->ss_family == family) {
            return source;
        }
    }
    return NULL;
}

static void connection_set_packet_max(struct engine_connection *connection) {
    const struct conf *conf = connection->engine->conf;
    uint32_t own = connection->config->max_packet_size;
    uint32_t most = (uint32_t)conf->max_packet_bytes;
    connection->packet_max = own > 0 && own < most ? own : most;
    connection->skips_oversize = connection->config->oversize == OVERSIZE_DEFAULT
                                     ? strcmp(conf->oversize, "skip") == 0
                                     : connection->config->oversize == OVERSIZE_SKIP;
}

static struct engine_connection *connection_create(struct engine *engine,
                                                   const struct engine_open *open) {
    struct engine_connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        return NULL;
    }
    if (!*open->session) {
        *open->session = session_create(open->client);
    }
    if (!*open->session) {
        free(connection);
        return NULL;
    }
    connection->engine = engine;
    connection->route = open->route;
    connection->config = open->config;
    connection->session = *open->session;
    connection->session_slot = open->session;
    connection->version = (uint8_t)open->config->protocol_version;
    connection->keepalive_s = open->keepalive_s;
    connection->workarounds = open->workarounds;
    connection_set_packet_max(connection);
    connection->connect_timeout_ms = (uint32_t)open->connect_timeout_ms;
    connection->opened_at_ms = clock_ms();
    connection->send_maximum = SEND_MAXIMUM;
    connection->server_maximum_qos = 2;
    connection->server_has_retain = true;
    connection->stream.fd = -1;
    connection->address = -1;
    session_attach(connection->session, connection);
    return connection;
}

static void connection_begin_single(struct engine_connection *connection,
                                    const struct engine_open *open) {
    struct engine *engine = connection->engine;
    struct stream_fault fault;
    const struct sockaddr_storage *source =
        connection_source_address(engine, open->address.ss_family);
    enum err err =
        stream_open(&connection->stream, engine->tls, open->config,
                    (const struct sockaddr *)&open->address, open->address_len, source, &fault);
    if (err != ERR_OK) {
        connection_lost(connection, &fault);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
    epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, connection->stream.fd, &event);
    connection->epoll_events = (uint8_t)event.events;
}

static void connection_begin(struct engine_connection *connection, const struct engine_open *open) {
    timer_wheel_set(&connection->engine->timer_wheel, &connection->check_timer,
                    connection->opened_at_ms + connection->connect_timeout_ms);
    if (open->addresses && open->addresses->count > 1) {
        race_begin(connection, open->addresses);
    } else {
        connection_begin_single(connection, open);
    }
}

enum err connection_open(struct engine *engine, const struct engine_open *open,
                         struct engine_connection **out) {
    struct engine_connection *connection = connection_create(engine, open);
    if (!connection) {
        return ERR_MEMORY;
    }
    engine->connection_count++;
    *out = connection;
    connection_begin(connection, open);
    return ERR_OK;
}

static void connection_send_connect(struct engine_connection *connection) {
    connection->state = CONNECTION_AWAITING_CONNACK;
    packet_write_connect(&connection->out, connection->config, connection->keepalive_s,
                         alias_maximum(connection));
    output_flush(connection);
    if (connection->stream.has_more) {
        reactor_task(connection, TASK_READ);
    }
}

static void connection_advance(struct engine_connection *connection) {
    struct stream_fault fault;
    if (connection->race && !race_ready(connection)) {
        return;
    }
    enum err err = stream_advance(&connection->stream, connection->config, &fault);
    if (connection->address < 0 && connection->stream.step > STREAM_CONNECTING) {
        connection->address = 0;
    }
    if (err == ERR_OK) {
        connection_send_connect(connection);
    } else if (err == ERR_TIMEOUT) {
        output_watch(connection);
    } else {
        connection_lost(connection, &fault);
    }
}

void connection_up(struct engine_connection *connection) {
    connection->state = CONNECTION_UP;
    connection->stream.established = true;
    timer_wheel_set(&connection->engine->timer_wheel, &connection->check_timer,
                    clock_ms()); /* for the keepalive */
}

void connection_ready(struct engine_connection *connection, uint32_t events) {
    static const struct stream_fault dead = {CLIENT_ERROR_CONNECTION_LOST,
                                             "the connection to the broker was lost"};
    if (connection->state == CONNECTION_ENDED) {
        return;
    }
    if (connection->state == CONNECTION_OPENING) {
        connection_advance(connection);
        return;
    }
    /* Reads first: if the broker closed, its reason can still be read, while a send fails. */
    bool ignores_input = (connection->epoll_events & EPOLLIN) == 0;
    if (ignores_input && (events & (EPOLLHUP | EPOLLERR))) {
        connection_lost(connection, &dead);
    } else if (!ignores_input && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        receive_available(connection);
    }
    if (events & EPOLLOUT) {
        output_flush(connection);
    }
}

/* ---- time ---- */

static void connection_check_opening(struct engine_connection *connection, int64_t now_ms) {
    int64_t end_ms = connection->opened_at_ms + connection->connect_timeout_ms;
    if (now_ms < end_ms) {
        timer_wheel_set(&connection->engine->timer_wheel, &connection->check_timer, end_ms);
        return;
    }
    char text[RACE_TEXT_LEN];
    if (connection->race) {
        race_describe(connection->race, text);
    }
    connection_end(connection, &(struct engine_closed){.error = greeting_timeout(connection),
                                                       .message = connection->race ? text : NULL,
                                                       .reason_code = -1});
}

static int64_t connection_min_ms(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void connection_ping(struct engine_connection *connection, int64_t now_ms) {
    packet_write_pingreq(&connection->out);
    connection->ping_at_ms = now_ms;
    connection->sent_at_ms = now_ms; /* counts from here, however long the socket stays full */
    output_flush(connection);
}

/* Since when nothing has arrived from the broker, counted from PINGREQ: PINGRESP may be queued
 * behind much other data. */
static int64_t connection_silent_since_ms(const struct engine_connection *connection) {
    return connection->ping_at_ms > connection->received_at_ms ? connection->ping_at_ms
                                                               : connection->received_at_ms;
}

/* The socket has been full for so long that the broker should have ended the connection for lack of
 * a packet. If we do not read, the broker may be waiting for that. */
static bool connection_is_stuck(struct engine_connection *connection, int64_t now_ms) {
    return connection->out_sent < connection->out.len && !read_ahead_is_blocked(connection) &&
           now_ms - connection->written_at_ms >= (int64_t)connection->keepalive_s * 1000;
}

static void connection_end_silent(struct engine_connection *connection, const char *message) {
    connection_end(connection, &(struct engine_closed){.error = CLIENT_ERROR_KEEPALIVE_TIMEOUT,
                                                       .message = message,
                                                       .reason_code = -1});
}

/* Sends PINGREQ in time (section 3.1.2.10). Ends the connection if nothing arrives then, or if the
 * broker does not read. While we do not read, nothing can arrive and nothing is expected. */
static void connection_check_up(struct engine_connection *connection, int64_t now_ms) {
    int64_t keepalive_ms = (int64_t)connection->keepalive_s * 1000;
    if (keepalive_ms == 0) {
        return;
    }
    int64_t answer_ms = keepalive_ms / 2 > PING_ANSWER_MS ? keepalive_ms / 2 : PING_ANSWER_MS;
    int64_t quiet_ms = keepalive_ms - connection_min_ms(keepalive_ms / 4, PING_MARGIN_MS);
    if (connection->reading == READING_NOTHING) {
        connection->ping_at_ms = 0;
        connection->received_at_ms = now_ms;
    }
    if (connection->ping_at_ms > 0 &&
        now_ms >= connection_silent_since_ms(connection) + answer_ms) {
        connection_end_silent(connection, NULL);
        return;
    }
    int64_t due_ms =
        connection_min_ms(connection->sent_at_ms, connection->received_at_ms) + quiet_ms;
    bool waiting = connection->ping_at_ms > 0;
    if (now_ms >= (waiting ? connection->sent_at_ms + quiet_ms : due_ms)) {
        int64_t asked_at_ms = connection->ping_at_ms;
        connection->ping_at_us = waiting ? connection->ping_at_us : (uint32_t)clock_us();
        connection_ping(connection, now_ms);
        connection->ping_at_ms = waiting ? asked_at_ms : now_ms;
        if (connection_is_stuck(connection, now_ms)) {
            connection_end_silent(connection, "the broker does not read from its connection");
        }
    }
    if (connection->state != CONNECTION_UP) {
        return;
    }
    int64_t next_ms = connection->sent_at_ms + quiet_ms;
    if (connection->ping_at_ms > 0) {
        next_ms = connection_min_ms(next_ms, connection_silent_since_ms(connection) + answer_ms);
    } else {
        next_ms = connection_min_ms(next_ms, connection->received_at_ms + quiet_ms);
    }
    timer_wheel_set(&connection->engine->timer_wheel, &connection->check_timer, next_ms);
}

/* ---- close ---- */

static void connection_disconnect(struct engine_connection *connection) {
    answers_collect(connection->engine);
    answers_acknowledge(connection);
    connection_detach_session(connection, true); /* nothing may follow DISCONNECT */
    connection->state = CONNECTION_DISCONNECTING;
    connection_send_disconnect(connection, REASON_SUCCESS);
    if (connection->state == CONNECTION_DISCONNECTING) {
        timer_wheel_set(&connection->engine->timer_wheel, &connection->check_timer,
                        clock_ms() + CONNECTION_DISCONNECT_MS);
        output_watch(connection);
    }
}

static void connection_drain_step(struct engine_connection *connection) {
    if (connection->state == CONNECTION_DRAINING && connection->session->offered == 0) {
        connection_disconnect(connection);
    }
}

void connection_acknowledge(struct engine_connection *connection) {
    if (answers_acknowledge(connection)) {
        output_flush(connection);
    }
    connection_drain_step(connection);
}

void connection_check(struct engine_connection *connection, int64_t now_ms) {
    switch (connection->state) {
    case CONNECTION_OPENING:
    case CONNECTION_AWAITING_CONNACK:
        connection_check_opening(connection, now_ms);
        break;
    case CONNECTION_UP:
        connection_check_up(connection, now_ms);
        break;
    case CONNECTION_DRAINING:
        connection_disconnect(connection);
        break;
    case CONNECTION_DISCONNECTING:
        connection_end_by_us(connection);
        break;
    default:
        break;
    }
}

static void connection_drain(struct engine_connection *connection) {
    connection->state = CONNECTION_DRAINING;
    timer_wheel_set(&connection->engine->timer_wheel, &connection->check_timer,
                    clock_ms() + CONNECTION_DRAIN_MS);
    if (connection->reading != READING_ALL) {
        reactor_resume(connection);
    }
    output_watch(connection);
    read_ahead_end(connection);
    connection_drain_step(connection);
}

void connection_close(struct engine_connection *connection, bool with_will) {
    if (connection->state == CONNECTION_UP && !with_will) {
        connection_drain(connection);
    } else if (connection->state == CONNECTION_UP && connection->version == 5) {
        connection_send_disconnect(connection, REASON_DISCONNECT_WITH_WILL);
        connection_end_by_us(connection);
    } else if (connection->state < CONNECTION_DRAINING || with_will) {
        connection_end_by_us(connection);
    }
}
