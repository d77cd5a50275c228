/* A sink stores received messages. It has a bounded queue (message/message_queue.h, which engines
 * reach through the routes of their clients) and one thread:
 *
 *   engine --route_submit--> [ queue: messages and bytes ] --batch--> backend --> receipt_answer
 *
 * A failed write is retried in order, with backoff and without a limit. Accepted messages are given
 * up only at the stop. Every accepted message is answered once: ERR_OK, the backend has stored it;
 * ERR_CANCELED, the sink stopped before. */
#ifndef MQFLEET_SINK_SINK_H
#define MQFLEET_SINK_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "message/message_queue.h"
#include "sink/stream_status.h"

struct sink;

struct sink_config {  /* all borrowed for the lifetime of the sink */
    const char *type; /* a name in the table of backends */
    const char *node; /* this node's name, written with each message */
    const char *redis_url;
    int64_t redis_timeout_ms;
    bool redis_shared;       /* the same Redis as the fleet, which needs some of its memory */
    int64_t redis_bytes_max; /* of its used memory; 0: three quarters of its maxmemory */
    const char *stream_key;  /* key_prefix included */
    int64_t stream_maxlen;
    int64_t stream_bytes_max;         /* 0: none */
    const char *stream_trim;          /* maxlen, bytes or consumed; NULL: maxlen */
    const char *stream_ignore_groups; /* names, separated by spaces or commas; NULL: none */
    bool stream_measured;             /* also before the first message */
    int64_t redis_replicas_min;       /* that have a message before it counts as stored */
    int64_t redis_replicas_timeout_ms;
    const char *file_path;
    size_t queue_messages, queue_bytes, batch_messages;
};

bool sink_type_known(const char *type);
/* ERR_ARGUMENT: fault (256 bytes) names the missing or invalid setting. */
enum err sink_create(struct sink **out, const struct sink_config *config, char *fault) MUST_CHECK;
void sink_destroy(struct sink *sink); /* after sink_run returned */

const char *sink_type(const struct sink *sink);
/* Of the sink; borrowed. */
struct message_queue *sink_queue(struct sink *sink);

/* The sink's thread; returns once stopped. argument: the sink. */
void *sink_run(void *argument);
/* Rejects new messages. Queued ones are written for up to timeout_ms from now, then canceled. */
void sink_stop(struct sink *sink, int64_t timeout_ms);

struct sink_status {
    const char *type;
    size_t queued_messages, queued_bytes;
    size_t messages_max, bytes_max;
    bool failing;       /* the last write failed */
    int64_t failing_ms; /* time since the last successful write; 0 while writes succeed */
    char error[160];    /* of the last failed write, "" if none */
    int64_t accepted;   /* messages, since the start */
    int64_t dropped;
    int64_t canceled;                     /* canceled at the stop */
    bool paused;                          /* failing, since its store has no room that it may use */
    int64_t store_bytes, store_bytes_max; /* memory used, and the maximum; -1: unknown */
    int64_t store_entries;                /* entries for consumers; -1: unknown */
    struct stream_status stream;          /* of redis_stream; else not measured */
};
void sink_status(struct sink *sink, struct sink_status *out);

#endif
