/* Streams of server-sent events. Any thread puts text into a stream, and one connection reads it. A
 * put never blocks:
 *
 *   event_stream_put --> [ ring of bytes ] --> event_stream_read (thread of the connection)
 *
 * If the ring is full, the event is dropped and counted. When there is room, the reader gets
 * `event: dropped` with the count. A silent stream sends a keep-alive comment. */
#ifndef MQFLEET_STREAMS_EVENT_STREAM_H
#define MQFLEET_STREAMS_EVENT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct event_streams; /* all streams of a node */
struct event_stream;

/* Suspends and resumes the connection of a stream. Called under the lock of the stream; wake only
 * after sleep. */
struct event_stream_reader {
    void (*sleep)(void *connection);
    void (*wake)(void *connection);
};

/* max: streams at once. NULL: out of memory. */
struct event_streams *event_streams_create(size_t max);
void event_streams_destroy(struct event_streams *streams); /* after all streams are detached */
/* Sends keep-alive comments, and ends streams whose reader has gone. About once a second, by one
 * thread. */
void event_streams_tick(struct event_streams *streams);
/* Ends all open streams. */
void event_streams_end_open(struct event_streams *streams);
/* Ends all open streams, and prevents new ones. */
void event_streams_close(struct event_streams *streams);
size_t event_streams_count(struct event_streams *streams);

/* Opens a stream with two references: of the writing and the reading side. ERR_FULL: too many
 * streams; ERR_WRONG_STATE: closed; ERR_MEMORY. */
enum err event_stream_open(struct event_streams *streams, size_t ring_bytes,
                           struct event_stream **out) MUST_CHECK;

/* ---- writing side: any thread ---------------------------------------------------------------- */

/* Puts the whole text or nothing. ERR_FULL: dropped and counted; ERR_WRONG_STATE: the stream has
 * ended. */
enum err event_stream_put(struct event_stream *stream, const char *text, size_t len);
/* Puts one comment line. A dropped comment is not counted. */
void event_stream_comment(struct event_stream *stream, const char *text);
/* Adds events that were lost elsewhere to the number of dropped ones. */
void event_stream_count_lost(struct event_stream *stream, int64_t events);
/* Ends the stream. The content of the ring is still sent. */
void event_stream_end(struct event_stream *stream);
/* Bytes that can be put now. */
size_t event_stream_room(struct event_stream *stream);
/* The stream was ended, or its reader has gone. */
bool event_stream_is_ended(struct event_stream *stream);
/* Ends the stream and drops the reference of the writing side. NULL is legal. */
void event_stream_release(struct event_stream *stream);

/* ---- reading side ---------------------------------------------------------------------------- */

/* fd: of the connection, to notice when the peer closes it. Borrowed until event_stream_detach. */
void event_stream_attach(struct event_stream *stream, const struct event_stream_reader *reader,
                         void *connection, int fd);
/* Returns the number of bytes; 0: none, and the connection is suspended; -1: end of the stream. */
ssize_t event_stream_read(struct event_stream *stream, char *out, size_t size);
/* Drops the reference of the reading side. NULL is legal. */
void event_stream_detach(struct event_stream *stream);

#endif
