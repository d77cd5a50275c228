/* Where received messages go. A sink has a bounded queue in messages and bytes and one thread:
 *
 *   engine --sink_submit--> [ queue: messages and bytes ] --batch--> backend --> accepted(context)
 *
 * Full: QoS 0 is dropped and counted; QoS 1 and 2 are answered ERR_FULL and not taken, so that the
 * engine holds them and with them their acknowledgement. Within the last eighth of the room only
 * QoS 1 and 2 are taken. A backend that fails is tried again with backoff, for ever, in order;
 * nothing taken is given up except at stop. */
#ifndef MQFLEET_SINK_SINK_H
#define MQFLEET_SINK_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "message/message.h"

struct sink;

/* Called once for every message taken, on the sink's thread: result ERR_OK: the backend has it;
 * ERR_CANCELED: the sink stopped before it had it. Must not block nor call into the sink. */
typedef void sink_accepted(void *context, enum err err);

struct sink_config {  /* all borrowed for the sink's life */
    const char *type; /* a name of the backend table */
    const char *node; /* this node's name, written with each message */
    const char *redis_url;
    int64_t redis_timeout_ms;
    bool redis_shared;       /* with the fleet, which must keep room there */
    int64_t redis_bytes_max; /* of its used memory; 0: three quarters of its maxmemory */
    const char *stream_key;  /* with key_prefix already in front */
    int64_t stream_maxlen;
    const char *file_path;
    size_t queue_messages, queue_bytes, batch_messages;
    /* On the sink's thread, after some messages were answered: a moment to wake who has not found
     * the answers by himself. May be NULL. */
    void (*answered)(void *context);
    void *context;
};

bool sink_type_known(const char *type);
/* ERR_ARGUMENT: fault (256 bytes) says which setting is missing or wrong. */
enum err sink_create(struct sink **out, const struct sink_config *config, char *fault) MUST_CHECK;
void sink_destroy(struct sink *sink); /* after sink_run returned */

const char *sink_type(const struct sink *sink);

/* The sink's thread; returns once stopped. argument: the sink. */
void *sink_run(void *argument);
/* Takes no more; what is queued is still written for up to timeout_ms from now, then canceled. */
void sink_stop(struct sink *sink, int64_t timeout_ms);

/* Takes ownership of message on ERR_OK; then `accepted` (may be NULL) will be called once.
 * ERR_REFUSED: no room for QoS 0: the message was dropped (freed) and counted. ERR_FULL: QoS 1 or
 * 2, not taken, wait with sink_wait_room. ERR_WRONG_STATE: stopped, not taken. Written after
 * the next sink_flush, or before it once there is a full batch or half of the room is taken. Any
 * thread. */
enum err sink_submit(struct sink *sink, struct message *message, sink_accepted *accepted,
                     void *context) MUST_CHECK;
/* Wakes the sink's thread if it sleeps on what was submitted: once for many messages, as a wake-up
 * for each would cost more than the rest of their way. Any thread. */
void sink_flush(struct sink *sink);
/* Whether something left the queue since a message was last answered ERR_FULL. */
bool sink_has_room(struct sink *sink);
/* Blocks until there may be room, at most timeout_ms. Any thread. */
void sink_wait_room(struct sink *sink, int64_t timeout_ms);

struct sink_status {
    const char *type;
    size_t queued_messages, queued_bytes;
    size_t messages_max, bytes_max;
    bool failing;       /* the last write failed */
    int64_t failing_ms; /* for so long none has succeeded; 0 while all is well */
    char error[160];    /* of the last failed write, "" if none */
    int64_t accepted;   /* messages, since the start */
    int64_t dropped;
    int64_t canceled; /* given up at the stop */
    bool paused;      /* failing, since the sink leaves its store the room that is left */
    int64_t store_bytes, store_bytes_max; /* memory used, and the most; -1: not known */
    int64_t store_entries;                /* what is there for consumers; -1: not known */
};
void sink_status(struct sink *sink, struct sink_status *out);

#endif
