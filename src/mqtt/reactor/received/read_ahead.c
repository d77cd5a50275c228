/* Owns the data read from a connection while its sink has no room. Messages wait in `in`, in order.
 * Packets behind them are processed at once, so that a full sink does not delay PUBACK, SUBACK,
 * PINGRESP or DISCONNECT. PUBREL is processed if it completes an exchange: a message may wait for
 * exactly that. Worker thread.
 *
 *   in:  [ complete messages that wait: `held_back` bytes | the beginning of a packet ]
 *
 * Behind the first message, up to READ_AHEAD_BYTES_MAX are read as long as all connections of the
 * worker hold less than half of buffer_bytes, or three quarters for a connection that waits for an
 * answer of the broker. Beyond that, nothing is read. */
#include <string.h>
#include "base/system/clock.h"
#include "mqtt/reactor/reactor.h"

#define READ_AHEAD_BYTES_MAX 262144
#define READ_AHEAD_BYTES_MIN 4096

void read_ahead_note_waiting(struct engine_connection *connection, size_t waiting) {
    struct engine *engine = connection->engine;
    engine->held_back += waiting - connection->held_back;
    engine->held_back_count += waiting > 0;
    engine->held_back_count -= connection->held_back > 0;
    connection->held_back = (uint32_t)waiting;
}

/* ---- how much to read ---- */

static bool read_ahead_awaits_answer(const struct engine_connection *connection) {
    return connection->session->in_flight > 0 || connection->request.packet_id != 0;
}

static size_t read_ahead_limit(const struct engine_connection *connection) {
    size_t quarter = connection->engine->buffered_max / 4;
    return (read_ahead_awaits_answer(connection) ? 3 : 2) * quarter;
}

/* How much the buffer grows for `more` bytes: it doubles. */
static size_t read_ahead_growth(const struct buffer *in, size_t more) {
    size_t need = in->len + more + 1;
    size_t capacity = need > 2 * in->capacity ? need : 2 * in->capacity;
    return need <= in->capacity ? 0 : capacity - in->capacity;
}

static size_t read_ahead_first_len(const struct engine_connection *connection) {
    struct packet_frame frame;
    struct packet_fault fault;
    const uint8_t *in = (const uint8_t *)connection->in.data;
    return connection->held_back > 0 &&
                   packet_frame(in, connection->held_back, &frame, &fault) == PACKET_FRAMED
               ? frame.total_len
               : 0;
}

/* How much may be read now; 0: nothing. */
static size_t read_ahead_room(const struct engine_connection *connection) {
    const struct buffer *in = &connection->in;
    size_t behind = in->len - read_ahead_first_len(connection);
    size_t limit = read_ahead_limit(connection), held = connection->engine->buffered;
    if (behind >= READ_AHEAD_BYTES_MAX || output_is_behind(connection) || connection->skip) {
        return 0; /* skipped data is not packets: see receive_retry */
    }
    if (held + read_ahead_growth(in, REACTOR_INPUT_SIZE) <= limit) {
        return REACTOR_INPUT_SIZE;
    }
    return held + read_ahead_growth(in, READ_AHEAD_BYTES_MIN) <= limit ? READ_AHEAD_BYTES_MIN : 0;
}

bool read_ahead_may_read(const struct engine_connection *connection) {
    return read_ahead_room(connection) > 0;
}

bool read_ahead_is_blocked(struct engine_connection *connection) {
    return connection->reading == READING_NOTHING && !output_is_behind(connection);
}

/* ---- what to process ---- */

/* A PUBREL that completes nothing keeps its place: its message may be waiting before it. */
static bool read_ahead_must_wait(const struct engine_connection *connection, const uint8_t *data,
                                 const struct packet_frame *frame) {
    struct packet_fault fault;
    struct packet packet;
    if (frame->type == PACKET_PUBREL) {
        return !packet_decode(data, frame, connection->version, &packet, &fault) ||
               !deliver_may_release(connection, packet.packet_id);
    }
    return frame->type == PACKET_PUBLISH;
}

static bool read_ahead_is_whole(const uint8_t *data, size_t len, struct packet_frame *frame) {
    struct packet_fault fault;
    return packet_frame(data, len, frame, &fault) == PACKET_FRAMED && frame->total_len <= len;
}

/* At each moment, `in` starts with what waits, because processing a packet may end the connection.
 */
void read_ahead_sort(struct engine_connection *connection) {
    struct buffer *in = &connection->in;
    struct packet_frame frame;
    size_t at = connection->held_back, waiting = at;
    while (at < in->len && read_ahead_is_whole((uint8_t *)in->data + at, in->len - at, &frame)) {
        if (read_ahead_must_wait(connection, (uint8_t *)in->data + at, &frame)) {
            memmove(in->data + waiting, in->data + at, frame.total_len);
            waiting += frame.total_len;
            read_ahead_note_waiting(connection, waiting);
        } else if (receive_packet(connection, (uint8_t *)in->data + at, in->len - at) == 0 ||
                   connection->state != CONNECTION_UP) {
            return;
        }
        at += frame.total_len;
    }
    memmove(in->data + waiting, in->data + at, in->len - at);
    in->len -= at - waiting;
    if (in->len == 0) {
        buffer_fini(in);
    }
}

/* False: the stream failed. */
static bool read_ahead_fill(struct engine_connection *connection, size_t most) {
    struct engine *engine = connection->engine;
    struct stream_fault fault;
    ssize_t n = stream_read(&connection->stream, engine->input, most, &fault);
    if (n < 0) {
        connection_lost(connection, &fault);
        return false;
    }
    receive_note_life(connection, (size_t)n, connection->in.len - connection->held_back);
    buffer_append(&connection->in, engine->input, (size_t)n);
    if (!connection->in.failed) {
        read_ahead_sort(connection);
    }
    return true;
}

/* If nothing waits, the connection need not wait either. */
static void read_ahead_settle(struct engine_connection *connection, bool began) {
    if (output_is_behind(connection)) {
        reactor_pause(connection, READING_NOTHING);
    } else if (began && connection->held_back == 0) {
        reactor_resume(connection);
    }
    if (output_account(connection)) {
        output_watch(connection);
        if (connection->stream.has_more) {
            reactor_task(connection, TASK_READ);
        }
    }
}

void read_ahead_receive(struct engine_connection *connection) {
    bool begins = connection->reading == READING_ALL;
    size_t most = read_ahead_room(connection);
    if (connection->reading == READING_NOTHING && most > 0) {
        connection->received_at_ms = clock_ms(); /* it could not arrive while nothing was read */
    }
    reactor_pause(connection, most > 0 ? READING_AHEAD : READING_NOTHING);
    if (most == 0) {
        output_watch(connection);
    } else if (read_ahead_fill(connection, most) && connection->state == CONNECTION_UP) {
        read_ahead_settle(connection, begins);
    }
}

/* ---- end ---- */

/* A kept session still has the messages of QoS 1 and 2. The worker may end the connection for good
 * meanwhile. */
void read_ahead_end(struct engine_connection *connection) {
    bool kept = client_config_keeps_session(connection->config);
    struct buffer in = connection->in;
    const uint8_t *data = (const uint8_t *)in.data;
    size_t len = connection->held_back, at = 0;
    struct packet_frame frame;
    struct packet_fault fault;
    struct packet packet;
    read_ahead_note_waiting(connection, 0);
    buffer_init(&connection->in);
    while (at < len && read_ahead_is_whole(data + at, len - at, &frame)) {
        if (frame.type == PACKET_PUBLISH && frame.total_len <= connection->packet_max &&
            packet_decode(data + at, &frame, connection->version, &packet, &fault) &&
            (packet.qos == 0 || !kept)) {
            deliver_final(connection, &packet);
        }
        at += frame.total_len;
    }
    buffer_fini(&in);
}
