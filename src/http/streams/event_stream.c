/* Owns the open streams and their rings. Any thread. Lock order: the list, a stream, the locks that
 * a reader takes to sleep and wake. No reader is woken under the lock of the list. */
#include "http/streams/event_stream.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"

#define QUIET_MS    15000
#define DROPPED_LEN 96 /* of the event about dropped events */

enum event_stream_state {
    EVENT_STREAM_OPEN,
    EVENT_STREAM_ENDED,   /* the ring is still read */
    EVENT_STREAM_DETACHED /* the reader has gone */
};

struct event_stream {
    struct event_streams *streams;
    struct event_stream *prev, *next; /* in streams->all until the reader detaches */

    pthread_mutex_t lock; /* guards all below */
    unsigned refs;
    enum event_stream_state state;
    char *ring;
    size_t size, head, len;
    int64_t dropped_count;                    /* not reported to the reader yet */
    int64_t last_put_ms;                      /* time of the last put */
    const struct event_stream_reader *reader; /* NULL: not attached yet */
    void *connection;
    int fd;
    bool is_asleep;
};

struct event_streams {
    size_t max;
    pthread_mutex_t lock; /* guards the rest */
    struct event_stream *all;
    size_t count;
    bool closed;
};

/* ---- all of them ----------------------------------------------------------------------------- */

struct event_streams *event_streams_create(size_t max) {
    struct event_streams *streams = calloc(1, sizeof *streams);
    if (streams) {
        streams->max = max;
        pthread_mutex_init(&streams->lock, NULL);
    }
    return streams;
}

void event_streams_destroy(struct event_streams *streams) {
    if (streams) {
        assert(streams->count == 0);
        pthread_mutex_destroy(&streams->lock);
        free(streams);
    }
}

size_t event_streams_count(struct event_streams *streams) {
    pthread_mutex_lock(&streams->lock);
    size_t count = streams->count;
    pthread_mutex_unlock(&streams->lock);
    return count;
}

/* ---- one ------------------------------------------------------------------------------------- */

static void event_stream_unref(struct event_stream *stream) {
    pthread_mutex_lock(&stream->lock);
    bool last = --stream->refs == 0;
    pthread_mutex_unlock(&stream->lock);
    if (last) {
        pthread_mutex_destroy(&stream->lock);
        free(stream->ring);
        free(stream);
    }
}

static struct event_stream *event_stream_create(struct event_streams *streams, size_t ring_bytes) {
    struct event_stream *stream = calloc(1, sizeof *stream);
    char *ring = malloc(ring_bytes);
    if (!stream || !ring) {
        free(stream);
        free(ring);
        return NULL;
    }
    stream->streams = streams;
    stream->refs = 2;
    stream->ring = ring;
    stream->size = ring_bytes;
    stream->last_put_ms = clock_ms();
    stream->fd = -1;
    pthread_mutex_init(&stream->lock, NULL);
    return stream;
}

enum err event_stream_open(struct event_streams *streams, size_t ring_bytes,
                           struct event_stream **out) {
    assert(ring_bytes > DROPPED_LEN);
    struct event_stream *stream = event_stream_create(streams, ring_bytes);
    enum err err = stream ? ERR_OK : ERR_MEMORY;
    pthread_mutex_lock(&streams->lock);
    if (err == ERR_OK && streams->closed) {
        err = ERR_WRONG_STATE;
    } else if (err == ERR_OK && streams->count >= streams->max) {
        err = ERR_FULL;
    } else if (err == ERR_OK) {
        streams->count++;
        DL_APPEND(streams->all, stream);
    }
    pthread_mutex_unlock(&streams->lock);
    if (err != ERR_OK && stream) {
        stream->refs = 1;
        event_stream_unref(stream);
        stream = NULL;
    }
    *out = stream;
    return err;
}

/* ---- putting --------------------------------------------------------------------------------- */

/* Under the lock, from here to the end of the section. */
static void event_stream_wake_reader(struct event_stream *stream) {
    if (stream->is_asleep) {
        stream->is_asleep = false;
        stream->reader->wake(stream->connection);
    }
}

static void event_stream_append_text(struct event_stream *stream, const char *text, size_t len) {
    size_t at = (stream->head + stream->len) % stream->size;
    size_t part = len < stream->size - at ? len : stream->size - at;
    memcpy(stream->ring + at, text, part);
    memcpy(stream->ring, text + part, len - part);
    stream->len += len;
    stream->last_put_ms = clock_ms();
    event_stream_wake_reader(stream);
}

/* Appends the event about dropped events, if there are any. False: the ring has no room for it and
 * for `also_len` bytes. */
static bool event_stream_append_dropped(struct event_stream *stream, size_t also_len) {
    char text[DROPPED_LEN];
    size_t room = stream->size - stream->len;
    size_t len = 0;
    if (stream->dropped_count > 0) {
        len = (size_t)snprintf(text, sizeof(text), "event: dropped\ndata: {\"count\":%lld}\n\n",
                               (long long)stream->dropped_count);
    }
    if (len + also_len > room) {
        return false;
    }
    if (len > 0) {
        event_stream_append_text(stream, text, len);
        stream->dropped_count = 0;
    }
    return true;
}

enum err event_stream_put(struct event_stream *stream, const char *text, size_t len) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&stream->lock);
    if (stream->state != EVENT_STREAM_OPEN) {
        err = ERR_WRONG_STATE;
    } else if (event_stream_append_dropped(stream, len)) {
        event_stream_append_text(stream, text, len);
    } else {
        stream->dropped_count++;
        err = ERR_FULL;
    }
    pthread_mutex_unlock(&stream->lock);
    if (err == ERR_FULL) {
        metric_add(METRIC_STREAM_DROPPED, 1);
    }
    return err;
}

static void event_stream_append_comment(struct event_stream *stream, const char *text) {
    char line[256];
    size_t len = (size_t)snprintf(line, sizeof(line) - 2, ": %s", text);
    len = len < sizeof(line) - 3 ? len : sizeof(line) - 3;
    memcpy(line + len, "\n\n", 2);
    if (stream->state == EVENT_STREAM_OPEN && len + 2 <= stream->size - stream->len) {
        event_stream_append_text(stream, line, len + 2);
    }
}

void event_stream_comment(struct event_stream *stream, const char *text) {
    pthread_mutex_lock(&stream->lock);
    event_stream_append_comment(stream, text);
    pthread_mutex_unlock(&stream->lock);
}

void event_stream_count_lost(struct event_stream *stream, int64_t events) {
    pthread_mutex_lock(&stream->lock);
    stream->dropped_count += events;
    (void)event_stream_append_dropped(stream, 0);
    pthread_mutex_unlock(&stream->lock);
    metric_add(METRIC_STREAM_DROPPED, events);
}

void event_stream_end(struct event_stream *stream) {
    pthread_mutex_lock(&stream->lock);
    if (stream->state == EVENT_STREAM_OPEN) {
        stream->state = EVENT_STREAM_ENDED;
        event_stream_wake_reader(stream);
    }
    pthread_mutex_unlock(&stream->lock);
}

size_t event_stream_room(struct event_stream *stream) {
    pthread_mutex_lock(&stream->lock);
    size_t room = stream->size - stream->len;
    pthread_mutex_unlock(&stream->lock);
    return room;
}

bool event_stream_is_ended(struct event_stream *stream) {
    pthread_mutex_lock(&stream->lock);
    bool over = stream->state != EVENT_STREAM_OPEN;
    pthread_mutex_unlock(&stream->lock);
    return over;
}

void event_stream_release(struct event_stream *stream) {
    if (stream) {
        event_stream_end(stream);
        event_stream_unref(stream);
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

void event_stream_attach(struct event_stream *stream, const struct event_stream_reader *reader,
                         void *connection, int fd) {
    pthread_mutex_lock(&stream->lock);
    stream->reader = reader;
    stream->connection = connection;
    stream->fd = fd;
    pthread_mutex_unlock(&stream->lock);
}

ssize_t event_stream_read(struct event_stream *stream, char *out, size_t size) {
    ssize_t result = 0;
    pthread_mutex_lock(&stream->lock);
    if (stream->len == 0) {
        (void)event_stream_append_dropped(stream, 0);
    }
    if (stream->len > 0) {
        size_t whole = stream->size - stream->head;
        size_t len = stream->len < size ? stream->len : size;
        len = len < whole ? len : whole;
        memcpy(out, stream->ring + stream->head, len);
        stream->head = (stream->head + len) % stream->size;
        stream->len -= len;
        result = (ssize_t)len;
    } else if (stream->state != EVENT_STREAM_OPEN) {
        result = -1;
    } else {
        stream->is_asleep = true;
        stream->reader->sleep(stream->connection);
    }
    pthread_mutex_unlock(&stream->lock);
    return result;
}

void event_stream_detach(struct event_stream *stream) {
    if (!stream) {
        return;
    }
    struct event_streams *streams = stream->streams;
    pthread_mutex_lock(&stream->lock);
    stream->state = EVENT_STREAM_DETACHED;
    stream->len = 0;
    stream->dropped_count = 0;
    stream->is_asleep = false;
    pthread_mutex_unlock(&stream->lock);
    pthread_mutex_lock(&streams->lock);
    DL_DELETE(streams->all, stream);
    streams->count--;
    pthread_mutex_unlock(&streams->lock);
    event_stream_unref(stream);
}

/* ---- periodic checks ------------------------------------------------------------------------- */

/* While a connection is suspended, no other thread reads or closes its socket. */
static bool event_stream_reader_is_gone(const struct event_stream *stream) {
    char byte;
    return stream->is_asleep && stream->fd >= 0 &&
           recv(stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void event_stream_check_reader(struct event_stream *stream) {
    pthread_mutex_lock(&stream->lock);
    if (stream->state == EVENT_STREAM_OPEN && event_stream_reader_is_gone(stream)) {
        stream->state = EVENT_STREAM_ENDED;
        event_stream_wake_reader(stream);
    } else if (clock_ms() - stream->last_put_ms >= QUIET_MS) {
        event_stream_append_comment(stream, "keep-alive");
    }
    pthread_mutex_unlock(&stream->lock);
}

/* Takes a reference to each stream first, so no reader is woken under the lock of the list. */
static void event_stream_for_each(struct event_streams *streams,
                                  void (*visit)(struct event_stream *stream)) {
    pthread_mutex_lock(&streams->lock);
    struct event_stream **held = calloc(streams->count + 1, sizeof(struct event_stream *));
    struct event_stream *stream;
    size_t n = 0;
    DL_FOREACH(streams->all, stream) {
        if (held) {
            held[n++] = stream;
        }
    }
    for (size_t i = 0; i < n; i++) { /* in the list: its reader still has a reference */
        pthread_mutex_lock(&held[i]->lock);
        held[i]->refs++;
        pthread_mutex_unlock(&held[i]->lock);
    }
    pthread_mutex_unlock(&streams->lock);
    for (size_t i = 0; i < n; i++) {
        visit(held[i]);
        event_stream_unref(held[i]);
    }
    free(held);
}

void event_streams_tick(struct event_streams *streams) {
    event_stream_for_each(streams, event_stream_check_reader);
}

void event_streams_end_open(struct event_streams *streams) {
    event_stream_for_each(streams, event_stream_end);
}

void event_streams_close(struct event_streams *streams) {
    pthread_mutex_lock(&streams->lock);
    streams->closed = true;
    pthread_mutex_unlock(&streams->lock);
    event_stream_for_each(streams, event_stream_end);
}
