/* Answers that go on and on (server-sent events): any thread puts text in, one connection takes it
 * out. Nobody who puts ever waits:
 *
 *   event_stream_put --> [ ring of bytes ] --> event_stream_read (the connection's thread)
 *
 * Full: the event is dropped and counted, and once there is room the reader is told how many, by
 * `event: dropped`. A stream that has been silent for long says so in a comment, which also finds
 * out that the other end is gone. Knows neither libmicrohttpd nor what the events say. */
#ifndef MQFLEET_STREAMS_EVENT_STREAM_H
#define MQFLEET_STREAMS_EVENT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct event_streams; /* all of a node */
struct event_stream;

/* How the connection of a stream sleeps and is woken. Called under the stream's lock; wake only
 * after sleep. */
struct event_stream_reader {
    void (*sleep)(void *connection);
    void (*wake)(void *connection);
};

/* max: streams at once. NULL: out of memory. */
struct event_streams *event_streams_create(size_t max);
void event_streams_destroy(struct event_streams *streams); /* after all streams were left */
/* Says the comments that are due and looks whether readers are still there; about once a second,
 * by one thread. */
void event_streams_tick(struct event_streams *streams);
/* Ends those that are open now. */
void event_streams_end_open(struct event_streams *streams);
/* Ends all; none can be opened any more. */
void event_streams_close(struct event_streams *streams);
size_t event_streams_count(struct event_streams *streams);

/* A stream with two holders: who puts, and who answers with it. ERR_FULL: too many;
 * ERR_WRONG_STATE: ended; ERR_MEMORY. */
enum err event_stream_open(struct event_streams *streams, size_t ring_bytes,
                           struct event_stream **out) MUST_CHECK;

/* ---- who puts: any thread -------------------------------------------------------------------- */

/* All of the text or nothing. ERR_FULL: dropped, and counted; ERR_WRONG_STATE: it has ended. */
enum err event_stream_put(struct event_stream *stream, const char *text, size_t len);
/* One comment line; a comment that finds no room is not counted. */
void event_stream_comment(struct event_stream *stream, const char *text);
/* Counts what was dropped before it came here. */
void event_stream_count_lost(struct event_stream *stream, int64_t events);
/* What is in the ring is still sent. */
void event_stream_end(struct event_stream *stream);
/* Nothing that is put will be read: the reader has left, or it was ended. */
bool event_stream_is_ended(struct event_stream *stream);
/* The putting side lets go; ends the stream. NULL is legal. */
void event_stream_release(struct event_stream *stream);

/* ---- who reads ------------------------------------------------------------------------------- */

/* fd: of the connection, to notice that the other end closed it. Borrowed until
 * event_stream_detach.
 */
void event_stream_attach(struct event_stream *stream, const struct event_stream_reader *reader,
                         void *connection, int fd);
/* Bytes; 0: none for now, and the connection was told to sleep; -1: the end. */
ssize_t event_stream_read(struct event_stream *stream, char *out, size_t size);
/* The reading side lets go. NULL is legal. */
void event_stream_detach(struct event_stream *stream);

#endif
