/* Owns the way from bytes to packets, and the effect of each packet on the connection. Bytes are
 * read into the engine's one input buffer. The connection keeps only an incomplete packet, or
 * messages that no sink has room for (read_ahead.c). Worker thread. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "mqtt/reason_codes.h"
#include "reactor.h"

#define TEXT_LEN 512
/* Fewer bytes within a packet are no sign of life: the packet may never end, and the answer to
 * PINGREQ would be read as a part of it. */
#define LIFE_BYTES 64

/* ---- reasons given by the server ---- */

static int receive_slice_len(struct packet_slice slice) {
    return text_truncated_len(slice.data, slice.len, 200);
}

/* The text of the reason, the server's own words, and the server that it refers to. */
static void receive_explain(const struct packet *packet, enum client_error error,
                            char out[TEXT_LEN]) {
    struct packet_property said = {0};
    struct packet_property other = {0};
    bool has_said = packet_property_find(packet->properties, PROPERTY_REASON_STRING, &said);
    bool has_other = packet_property_find(packet->properties, PROPERTY_SERVER_REFERENCE, &other);
    snprintf(out, TEXT_LEN, "%s%s%.*s%s%.*s", client_error_text(error), has_said ? ": " : "",
             receive_slice_len(said.text), has_said ? (const char *)said.text.data : "",
             has_other ? "; it names the server " : "", receive_slice_len(other.text),
             has_other ? (const char *)other.text.data : "");
}

static void receive_end_for_reason(struct engine_connection *connection,
                                   const struct packet *packet, enum client_error error) {
    char text[TEXT_LEN];
    receive_explain(packet, error, text);
    connection_abort(connection, &(struct engine_closed){.error = error,
                                                         .message = text,
                                                         .reason_code = packet->reason_code});
}

static bool receive_take_disconnect(struct engine_connection *connection,
                                    const struct packet *packet) {
    receive_end_for_reason(connection, packet, reason_error_disconnect(packet->reason_code));
    return true;
}

/* ---- CONNACK ---- */

static void receive_take_limit(struct engine_connection *connection, struct engine_connack *connack,
                               const struct packet_property *property) {
    switch (property->id) {
    case PROPERTY_RECEIVE_MAXIMUM:
        connection->send_maximum = (uint16_t)property->number;
        break;
    case PROPERTY_MAXIMUM_PACKET_SIZE:
        connection->server_packet_max = property->number;
        break;
    case PROPERTY_MAXIMUM_QOS:
        connection->server_maximum_qos = (uint8_t)property->number;
        break;
    case PROPERTY_RETAIN_AVAILABLE:
        connection->server_has_retain = property->number != 0;
        break;
    case PROPERTY_SERVER_KEEPALIVE:
        connack->server_keepalive_s = (uint16_t)property->number;
        connection->keepalive_s = (uint16_t)property->number;
        break;
    case PROPERTY_SESSION_EXPIRY:
        connack->session_expiry_s = property->number;
        break;
    case PROPERTY_ASSIGNED_CLIENT_ID:
        free(connection->assigned_client_id);
        connection->assigned_client_id =
            strndup((const char *)property->text.data, property->text.len);
        break;
    default:
        break;
    }
}

static void receive_take_limits(struct engine_connection *connection, const struct packet *packet,
                                struct engine_connack *connack) {
    struct packet_property property;
    size_t offset = 0;
    while (packet_property_next(packet->properties, &offset, &property)) {
        receive_take_limit(connection, connack, &property);
    }
    connack->address = connection->address;
    connack->maximum_qos = connection->server_maximum_qos;
    connack->receive_maximum = connection->send_maximum;
    connack->assigned_client_id = connection->assigned_client_id;
    connack->certificate_expires_at_s = stream_certificate_expires_at_s(&connection->stream);
}

/* Section 4.12: AUTH requires an authentication method in CONNECT, which we never send. */
static bool receive_has_authentication(const struct packet *packet) {
    struct packet_property property;
    return packet_property_find(packet->properties, PROPERTY_AUTH_METHOD, &property) ||
           packet_property_find(packet->properties, PROPERTY_AUTH_DATA, &property);
}

static bool receive_take_connack(struct engine_connection *connection,
                                 const struct packet *packet) {
    static const struct packet_fault no_such_session = {
        .reason_code = REASON_PROTOCOL_ERROR,
        .message = "the broker resumed a session although a new one was requested"};
    static const struct packet_fault unasked = {
        .reason_code = REASON_PROTOCOL_ERROR,
        .message = "the broker began an authentication that was not requested"};
    if (packet->reason_code != 0) {
        receive_end_for_reason(connection, packet, reason_error_connack(packet->reason_code));
        return true;
    }
    if (packet->session_present && connection->config->clean_start) {
        connection_refuse(connection, &no_such_session);
        return true;
    }
    if (receive_has_authentication(packet)) {
        connection_refuse(connection, &unasked);
        return true;
    }
    struct engine_connack connack = {.session_present = packet->session_present};
    receive_take_limits(connection, packet, &connack);
    outbound_begin(connection, packet->session_present);
    if (!packet->session_present) {
        session_forget_inbound(connection->engine, connection->session);
    }
    if (connection->state ==
        CONNECTION_AWAITING_CONNACK) { /* the worker may have closed it meanwhile */
        connection_up(connection);
        connection->engine->events->connected(connection->session->client, &connack);
    }
    return true;
}

/* ---- other packets ---- */

/* The answer to the SUBSCRIBE or UNSUBSCRIBE in flight, with a code for each filter. */
static bool receive_answers_request(struct engine_connection *connection,
                                    const struct packet *packet) {
    static const struct packet_fault unasked = {
        .reason_code = REASON_PROTOCOL_ERROR,
        .message = "the broker acknowledged a subscription that was not requested"};
    static const struct packet_fault miscounted = {
        .reason_code = REASON_PROTOCOL_ERROR,
        .message = "the broker did not acknowledge each filter of a subscription",
        .error = CLIENT_ERROR_ANSWER_UNFIT};
    if (connection->request.packet_id != packet->packet_id ||
        connection->request.answer != packet->type) {
        connection_refuse(connection, &unasked);
        return false;
    }
    bool has_codes = packet->type == PACKET_SUBACK || connection->version == 5;
    if (has_codes && packet->codes.len != connection->request.count) {
        connection_refuse(connection, &miscounted);
        return false;
    }
    connection->request.packet_id = 0;
    return true;
}

static bool receive_take_suback(struct engine_connection *connection, const struct packet *packet) {
    if (receive_answers_request(connection, packet)) {
        connection->engine->events->subscribed(connection->session->client, packet->codes.data,
                                               packet->codes.len);
    }
    return true;
}

static bool receive_take_unsuback(struct engine_connection *connection,
                                  const struct packet *packet) {
    if (receive_answers_request(connection, packet)) {
        connection->engine->events->unsubscribed(connection->session->client, packet->codes.data,
                                                 packet->codes.len);
    }
    return true;
}

static bool receive_take_acknowledgement(struct engine_connection *connection,
                                         const struct packet *packet) {
    publish_acknowledged(connection, packet);
    return true;
}

static bool receive_take_release(struct engine_connection *connection,
                                 const struct packet *packet) {
    deliver_release(connection, packet);
    return true;
}

static bool receive_take_pingresp(struct engine_connection *connection,
                                  const struct packet *packet) {
    const struct engine_events *events = connection->engine->events;
    (void)packet;
    if (connection->ping_at_ms != 0 && events->pinged) {
        events->pinged(connection->session->client, (uint32_t)clock_us() - connection->ping_at_us);
    }
    connection->ping_at_ms = 0;
    return true;
}

static bool receive_take_auth(struct engine_connection *connection, const struct packet *packet) {
    static const struct packet_fault unasked = {
        .reason_code = REASON_PROTOCOL_ERROR,
        .message = "the broker began an authentication that was not requested"};
    (void)packet;
    connection_refuse(connection, &unasked);
    return true;
}

/* False: not accepted, offer it again. */
static bool (*const receive_handlers[PACKET_AUTH + 1])(struct engine_connection *connection,
                                                       const struct packet *packet) = {
    [PACKET_CONNACK] = receive_take_connack,
    [PACKET_PUBLISH] = deliver_publish,
    [PACKET_PUBACK] = receive_take_acknowledgement,
    [PACKET_PUBREC] = receive_take_acknowledgement,
    [PACKET_PUBREL] = receive_take_release,
    [PACKET_PUBCOMP] = receive_take_acknowledgement,
    [PACKET_SUBACK] = receive_take_suback,
    [PACKET_UNSUBACK] = receive_take_unsuback,
    [PACKET_PINGRESP] = receive_take_pingresp,
    [PACKET_DISCONNECT] = receive_take_disconnect,
    [PACKET_AUTH] = receive_take_auth,
};

static bool receive_dispatch(struct engine_connection *connection, const struct packet *packet) {
    static const struct packet_fault too_early = {
        .reason_code = REASON_PROTOCOL_ERROR,
        .message = "the broker sent another packet before CONNACK"};
    static const struct packet_fault twice = {.reason_code = REASON_PROTOCOL_ERROR,
                                              .message = "the broker sent a second CONNACK"};
    bool greeting = connection->state == CONNECTION_AWAITING_CONNACK;
    bool connack = packet->type == PACKET_CONNACK;
    if (greeting != connack && packet->type != PACKET_AUTH) {
        connection_refuse(connection, greeting ? &too_early : &twice);
        return true;
    }
    assert(receive_handlers[packet->type]);
    return receive_handlers[packet->type](connection, packet);
}

/* ---- packets from bytes ---- */

static bool receive_is_taking(const struct engine_connection *connection) {
    return connection->state == CONNECTION_UP || connection->state == CONNECTION_AWAITING_CONNACK;
}

static bool receive_takes_packets(const struct engine_connection *connection) {
    return receive_is_taking(connection) && connection->reading == READING_ALL;
}

/* A broker that answers a publication like this does so again when it is sent again. */
static size_t receive_refuse_packet(struct engine_connection *connection, const uint8_t *data,
                                    size_t len, const struct packet_frame *frame,
                                    const struct packet_fault *fault) {
    struct engine_session *session = connection->session;
    bool acknowledges = frame->type == PACKET_PUBACK || frame->type == PACKET_PUBREC ||
                        frame->type == PACKET_PUBCOMP;
    size_t used = skip_malformed(connection, data, len, fault);
    if (acknowledges) {
        outbound_blame_answer(connection->engine, session);
    }
    return used;
}

size_t receive_packet(struct engine_connection *connection, const uint8_t *data, size_t len) {
    struct packet_frame frame;
    struct packet_fault fault;
    struct packet packet;
    if (connection->state == CONNECTION_AWAITING_CONNACK && !greeting_may_be_mqtt(data, len)) {
        greeting_refuse(connection, data, len);
        return 0;
    }
    enum packet_framing framing = packet_frame(data, len, &frame, &fault);
    if (framing == PACKET_PARTIAL) {
        return 0;
    }
    if (framing == PACKET_MALFORMED) {
        return skip_malformed(connection, data, len, &fault);
    }
    if (frame.total_len > connection->packet_max) {
        return skip_oversize(connection, data, len, &frame);
    }
    if (frame.total_len > len) {
        return 0;
    }
    if (!packet_decode(data, &frame, connection->version, &packet, &fault)) {
        return receive_refuse_packet(connection, data, len, &frame, &fault);
    }
    if (!receive_dispatch(connection, &packet)) {
        reactor_pause(connection, READING_AHEAD);
        return 0;
    }
    return frame.total_len;
}

/* How many bytes were complete packets and are done with. */
static size_t receive_take_packets(struct engine_connection *connection, const uint8_t *data,
                                   size_t len) {
    size_t at =
        connection->skip && receive_takes_packets(connection) ? skip_go_on(connection, len) : 0;
    while (at < len && receive_takes_packets(connection)) {
        size_t used = receive_packet(connection, data + at, len - at);
        if (used == 0) {
            break;
        }
        at += used;
    }
    if (output_is_behind(connection) && receive_is_taking(connection)) {
        reactor_pause(connection, READING_NOTHING);
    }
    return at;
}

static void receive_keep(struct engine_connection *connection, const uint8_t *data, size_t len) {
    struct buffer *in = &connection->in;
    if (!receive_is_taking(connection)) {
        return; /* `data` may be freed */
    }
    if (len == 0) {
        buffer_fini(in);
    } else if (in->len > 0 && (const uint8_t *)in->data <= data &&
               data < (const uint8_t *)in->data + in->len) {
        if (data != (const uint8_t *)in->data) {
            memmove(in->data, data, len);
        }
        in->len = len;
    } else {
        buffer_clear(in);
        buffer_append(in, data, len);
    }
}

/* known: how many of the first bytes are messages that already waited. */
static void receive_consume(struct engine_connection *connection, uint8_t *data, size_t len,
                            size_t known) {
    size_t used = receive_take_packets(connection, data, len);
    receive_keep(connection, data + used, len - used);
    if (connection->state == CONNECTION_UP && connection->reading != READING_ALL) {
        read_ahead_note_waiting(connection, used < known ? known - used : 0);
    }
    if (connection->state == CONNECTION_UP && connection->reading == READING_AHEAD) {
        read_ahead_sort(connection);
    }
    if (connection->state != CONNECTION_ENDED && output_account(connection)) {
        output_watch(connection);
    }
}

/* ---- bytes from the stream ---- */

static bool receive_is_within_large_packet(const struct engine_connection *connection) {
    return (connection->skip || connection->in.len >= REACTOR_INPUT_SIZE) &&
           connection->state == CONNECTION_UP;
}

void receive_note_life(struct engine_connection *connection, size_t n, size_t kept) {
    if (n >= LIFE_BYTES || (n > 0 && kept == 0 && !connection->skip)) {
        connection->received_at_ms = clock_ms();
    }
}

/* Joins the kept bytes with new ones: in the engine's input buffer if they fit well, otherwise with
 * the connection. */
static void receive_read_more(struct engine_connection *connection) {
    struct engine *engine = connection->engine;
    struct stream_fault fault;
    size_t kept = connection->in.len;
    bool small = kept <= REACTOR_INPUT_SIZE / 2;
    size_t offset = small ? kept : 0;
    if (small && kept > 0) {
        memcpy(engine->input, connection->in.data, kept);
    }
    ssize_t n = stream_read(&connection->stream, engine->input + offset,
                            REACTOR_INPUT_SIZE - offset, &fault);
    if (n < 0) {
        connection_lost(connection, &fault);
        return;
    }
    receive_note_life(connection, (size_t)n, kept);
    if (n == 0) { /* the stream may have to write something of its own */
        if (output_account(connection)) {
            output_watch(connection);
        }
    } else if (small) {
        receive_consume(connection, engine->input, kept + (size_t)n, 0);
    } else {
        buffer_append(&connection->in, engine->input, (size_t)n);
        receive_consume(connection, (uint8_t *)connection->in.data, connection->in.len, 0);
    }
    if (n > 0 && receive_is_within_large_packet(connection) && engine->events->receiving) {
        engine->events->receiving(connection->session->client);
    }
    if (connection->state != CONNECTION_ENDED && connection->stream.has_more) {
        reactor_task(connection, TASK_READ);
    }
}

/* DISCONNECT is sent: only the end counts. */
static void receive_discard(struct engine_connection *connection) {
    struct stream_fault fault;
    if (stream_read(&connection->stream, connection->engine->input, REACTOR_INPUT_SIZE, &fault) <
        0) {
        connection_lost(connection, &fault);
        return;
    }
    output_count(connection); /* the stream may have answered something */
    if (connection->stream.has_more) {
        reactor_task(connection, TASK_READ);
    }
}

/* The sink is only asked first while it has proved to be full. */
static bool receive_waits_for_sink(const struct engine_connection *connection) {
    return connection->state == CONNECTION_UP &&
           (connection->reading != READING_ALL ||
            (connection->engine->paused && !connection->skip && !deliver_has_room(connection)));
}

void receive_available(struct engine_connection *connection) {
    if (connection->state == CONNECTION_DISCONNECTING) {
        receive_discard(connection);
    } else if (receive_waits_for_sink(connection)) {
        read_ahead_receive(connection);
    } else if (receive_takes_packets(connection)) {
        receive_read_more(connection);
    }
}

bool receive_retry(struct engine_connection *connection) {
    if (output_is_behind(connection)) {
        return false;
    }
    if (!connection->skip && /* otherwise it needs no sink */
        (deliver_limit_wait_ms(connection) > 0 || !deliver_has_room(connection))) {
        if (connection->reading == READING_NOTHING && read_ahead_may_read(connection)) {
            reactor_task(connection, TASK_READ);
        }
        return false;
    }
    size_t waiting = connection->held_back;
    read_ahead_note_waiting(connection, 0);
    reactor_resume(connection);
    if (connection->in.len > 0) {
        receive_consume(connection, (uint8_t *)connection->in.data, connection->in.len, waiting);
    } else {
        output_watch(connection);
    }
    if (connection->state == CONNECTION_UP && connection->reading == READING_ALL) {
        connection->received_at_ms =
            clock_ms(); /* it may not have arrived while nothing was read */
        reactor_task(connection, TASK_READ);
    }
    return connection->state != CONNECTION_UP || connection->reading == READING_ALL;
}
