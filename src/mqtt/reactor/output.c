/* Owns the unsent bytes of a connection, and the bound on the memory of all connections. Worker
 * thread. */
#include <string.h>
#include <sys/epoll.h>
#include "base/system/clock.h"
#include "reactor.h"

#define OUTPUT_BEHIND_BYTES    65536
#define OUTPUT_FINAL_READS_MAX 64

void output_count(struct engine_connection *connection) {
    size_t before = connection->held;
    connection->held = connection->in.capacity + connection->out.capacity +
                       stream_buffered_bytes(&connection->stream) + connection->alias_bytes;
    connection->engine->buffered += connection->held - before;
}

bool output_account(struct engine_connection *connection) {
    struct engine *engine = connection->engine;
    size_t before = connection->held;
    output_count(connection);
    if (connection->in.failed || connection->out.failed) {
        connection_end(connection, &(struct engine_closed){.error = CLIENT_ERROR_OUT_OF_MEMORY,
                                                           .reason_code = -1});
        return false;
    }
    if (connection->held > before && engine->buffered > engine->buffered_max) {
        connection_end(connection, &(struct engine_closed){.error = CLIENT_ERROR_BUFFERS_FULL,
                                                           .reason_code = -1});
        return false;
    }
    return true;
}

bool output_is_behind(const struct engine_connection *connection) {
    return connection->out.len - connection->out_sent > OUTPUT_BEHIND_BYTES;
}

void output_watch(struct engine_connection *connection) {
    bool ignores_input =
        connection->reading == READING_NOTHING || connection->state == CONNECTION_DRAINING;
    uint32_t wanted =
        (ignores_input ? 0 : EPOLLIN) | (connection->stream.wants_write ? EPOLLOUT : 0);
    if (wanted != connection->epoll_events) {
        struct epoll_event event = {.events = wanted, .data.ptr = connection};
        epoll_ctl(connection->engine->epoll_fd, EPOLL_CTL_MOD, connection->stream.fd, &event);
        connection->epoll_events = (uint8_t)wanted;
    }
}

/* Removes sent bytes from the buffer, and frees an empty buffer. */
static void output_trim(struct engine_connection *connection) {
    struct buffer *out = &connection->out;
    if (out->failed) {
        return; /* data is missing: output_account ends the connection */
    }
    if (connection->out_sent == out->len) {
        buffer_fini(out);
        connection->out_sent = 0;
    } else if (connection->out_sent > out->len / 2) {
        memmove(out->data, out->data + connection->out_sent, out->len - connection->out_sent);
        out->len -= connection->out_sent;
        connection->out_sent = 0;
    }
}

/* A write failed: the broker may have given a reason before it closed. */
static void output_read_final(struct engine_connection *connection) {
    for (int i = 0; i < OUTPUT_FINAL_READS_MAX && connection->state == CONNECTION_UP; i++) {
        receive_available(connection);
        if (!connection->stream.has_more) {
            return;
        }
    }
}

/* False: the stream failed. */
static bool output_send_some(struct engine_connection *connection, bool *more) {
    struct stream_fault fault;
    size_t left = connection->out.len - connection->out_sent;
    const uint8_t *data =
        left > 0 ? (const uint8_t *)connection->out.data + connection->out_sent : NULL;
    ssize_t sent = stream_write(&connection->stream, data, left, &fault);
    if (sent < 0) {
        output_read_final(connection);
        connection_lost(connection, &fault);
        return false;
    }
    connection->out_sent += (size_t)sent;
    connection->out_total += (size_t)sent;
    *more = sent > 0 && (size_t)sent < left;
    if (sent > 0) {
        connection->sent_at_ms = connection->written_at_ms = clock_ms();
    }
    return true;
}

void output_flush_final(struct engine_connection *connection) {
    struct stream_fault ignored;
    struct buffer *out = &connection->out;
    ssize_t sent = 1;
    while (sent > 0 && connection->out_sent < out->len) {
        sent = stream_write(&connection->stream, (const uint8_t *)out->data + connection->out_sent,
                            out->len - connection->out_sent, &ignored);
        connection->out_sent += sent > 0 ? (size_t)sent : 0;
        connection->out_total += sent > 0 ? (uint64_t)sent : 0;
    }
}

void output_flush(struct engine_connection *connection) {
    if (connection->state == CONNECTION_ENDED || connection->state == CONNECTION_OPENING) {
        return;
    }
    bool more = true;
    while (more) { /* ends when the socket is full or everything is sent */
        if (!output_send_some(connection, &more)) {
            return;
        }
    }
    output_trim(connection);
    publish_note_written(connection);
    if (output_account(connection)) {
        output_watch(connection);
    }
}
