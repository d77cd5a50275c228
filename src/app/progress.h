/* What is left to do while the node stops, said every second. */
#ifndef MQFLEET_PROGRESS_H
#define MQFLEET_PROGRESS_H

#include <stdint.h>
#include "cluster/agent.h"
#include "mqtt/hosts.h"
#include "sink/sink.h"

struct progress;

/* All borrowed; sinks NULL-terminated. NULL: out of memory. */
struct progress *progress_create(struct hosts *hosts, struct sink *const *sinks,
                                 struct agent *agent);
void progress_destroy(struct progress *progress); /* after the run returned */

/* The thread; argument: the progress. Sleeps until the stop begins; returns when it ends. */
void *progress_run(void *argument);
void progress_begin(struct progress *progress);
void progress_end(struct progress *progress);

struct progress_left {
    int64_t clients;  /* not closed yet */
    int64_t messages; /* in the queues of sinks, or given up there */
    int64_t releases; /* clients that Redis still has as this node's */
};
void progress_left(struct progress *progress, struct progress_left *out);

#endif
