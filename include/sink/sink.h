/* A sink stores received messages. It has a bounded queue (message/message_queue.h, which engines
 * reach through the routes of their clients) and one thread:
 *
 *   engine --route_submit--> [ queue: messages and bytes ] --batch--> backend --> receipt_answer
 *
 * A failed write is retried in order, with backoff, forever or for retry_ms. A message that
 * the target rejects, or that was retried for too long, moves with its receipt to the queue of
 * the dead letter sink. Every message is answered once: ERR_OK if this sink or the dead letter
 * sink has stored it, ERR_CANCELED if the sink stopped before that. */
#ifndef MQFLEET_SINK_SINK_H
#define MQFLEET_SINK_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <jansson.h>
#include "base/err.h"
#include "base/telemetry/metrics.h"
#include "message/message_queue.h"
#include "message/sink_name.h"
#include "sink/sink_settings.h"
#include "sink/stream_status.h"

#define SINK_ERROR_LEN 160
#define SINK_NAME_LEN  (SINK_NAME_MAX + 1)

/* The name of the sink that takes what others reject, unless they name another. */

struct conf;
struct sink;

/* Whether a sink may connect to that address of a host, after it was resolved. False: *why is a
 * static text. The sinks' threads. */
typedef bool sink_address_allowed(const void *context, const char *host,
                                  const struct sockaddr *address, const char **why);

/* What a sink gets from its node: the same for all but its own name. Borrowed for the lifetime of
 * the sinks. */
struct sink_environment {
    const char *node;        /* this node's name, written with each message */
    const char *sink;        /* the label of the sink that gets the environment; "test" of a test */
    const struct conf *conf; /* of the node; NULL in tests that need none of it */
    const char *redis_url;   /* of the fleet: for sinks without an address of their own */
    const char *key_prefix;
    int64_t redis_timeout_ms;
    int64_t redis_replicas_timeout_ms;
    sink_address_allowed *address_allowed; /* NULL: all are */
    const void *address_context;
};

struct sink_config {
    const char *name;
    const char *label; /* NULL: the name. See sink_label */
    const char *type;
    const struct sink_environment *environment;
    const json_t *settings;      /* of the type, and those of every sink; NULL: defaults */
    struct message_queue *queue; /* to use instead of one of its own; borrowed. NULL: none */
    bool rarely_used; /* if the type needs no maintenance, its thread starts with the first message
                       */
};

/* The settings of every sink. */
extern const struct sink_field sink_common_fields[];

/* Copies the settings that it needs. ERR_ARGUMENT: fault (SINK_FAULT_LEN) names the first missing
 * or invalid field. */
enum err sink_create(struct sink **out, const struct sink_config *config, char *fault) MUST_CHECK;
void sink_destroy(struct sink *sink); /* after sink_run returned */

const char *sink_name(const struct sink *sink);
/* Its name in logs, metrics and /readyz. For the default sink this is its type. */
const char *sink_label(const struct sink *sink);
bool sink_needs_maintenance(const struct sink *sink);
const char *sink_type_name(const struct sink *sink); /* static */
/* From now on, rejected messages go to dead_letter, whose queue must outlive its thread. NULL,
 * as at first: it rejects nothing. A sink for dead letters rejects nothing itself, so there are
 * no loops. One thread at a time. */
void sink_set_dead_letter(struct sink *sink, struct sink *dead_letter);
bool sink_is_dead_letter(const struct sink *sink);
/* Of the sink; borrowed. */
struct message_queue *sink_queue(struct sink *sink);

/* Changes the settings before the next write: the sink's thread closes the old target and opens
 * the new one. Queued messages stay in order and are written to the new target. If that cannot
 * be opened, the old settings stay in effect, and sink_status says why. The same settings again
 * change nothing, unless the last change failed. Errors as of sink_create. Any thread. */
enum err sink_change(struct sink *sink, const json_t *settings, char *fault) MUST_CHECK;

/* The sink's thread; returns once stopped. argument: the sink. */
void *sink_run(void *argument);
/* Rejects new messages. Queued ones are written for up to timeout_ms from now, then canceled. */
void sink_stop(struct sink *sink, int64_t timeout_ms);
/* After sink_stop: waits until its thread has ended. A sink that takes dead letters is stopped
 * after those that send them. */
void sink_await_end(struct sink *sink);

struct sink_status {
    char name[SINK_NAME_LEN], label[SINK_NAME_LEN];
    const char *type;
    size_t queued_messages, queued_bytes;
    size_t messages_max, bytes_max;
    bool failing;               /* the last write failed */
    int64_t failing_ms;         /* time since the last successful write; 0 while writes succeed */
    char error[SINK_ERROR_LEN]; /* of the last failed write, "" if none */
    int64_t accepted;           /* messages, since the start */
    int64_t dropped;            /* of QoS 0 */
    int64_t dropped_over_share; /* of these: the client had its share of the queue */
    int64_t canceled;           /* canceled at the stop */
    int64_t rejected;           /* given up: the target refuses their content */
    int64_t expired;            /* given up: not accepted within retry_ms */
    int64_t retried;            /* failed attempts, of all messages */
    size_t in_flight;           /* messages of the write that is in progress */
    struct histogram_values latency,   /* from reception to outcome: accepted or given up; all */
        latency_recent;                /* the outcomes of the last one to two minutes */
    bool changing;                     /* sink_change was called and has no effect yet */
    char change_fault[SINK_FAULT_LEN]; /* why the last one has none; "": it has */
    bool paused;                       /* failing because its store has no room that it may use */
    int64_t store_bytes, store_bytes_max; /* memory used, and the maximum; -1: unknown */
    int64_t store_entries;                /* entries for consumers; -1: unknown */
    struct stream_status stream;          /* of redis_stream; else not measured */

    /* By sinks_next. */
    bool of_fleet;    /* else of the settings of this node */
    bool unavailable; /* this node cannot use it: `error` says why; nothing else is known */
    bool shadows;     /* the fleet has one of this name, which has no effect here */
    bool leaving;     /* removed; it writes what is queued */
    int64_t version;  /* of the document, of a sink of the fleet */
    char fault[SINK_FAULT_LEN]; /* why the newest document has no effect here; "": it has */
};
void sink_status(struct sink *sink, struct sink_status *out);

#endif
