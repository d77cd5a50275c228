/* The remaining work while the node stops, reported every second. */
#ifndef MQFLEET_WIRING_STOP_PROGRESS_H
#define MQFLEET_WIRING_STOP_PROGRESS_H

#include <stdint.h>
#include "cluster/membership/agent.h"
#include "mqtt/workers/workers.h"
#include "sink/sinks.h"

struct stop_progress;

/* All borrowed. NULL: out of memory. */
struct stop_progress *stop_progress_create(struct workers *workers, struct sinks *sinks,
                                           struct agent *agent);
void stop_progress_destroy(
    struct stop_progress *progress); /* after stop_progress_run has returned */

/* The thread; argument: the progress. Sleeps until the stop begins; returns when it ends. */
void *stop_progress_run(void *argument);
void stop_progress_begin(struct stop_progress *progress);
void stop_progress_end(struct stop_progress *progress);

struct stop_remaining {
    int64_t clients;    /* not closed yet */
    int64_t messages;   /* in the queues of sinks, or canceled there */
    int64_t unreleased; /* clients that this node still owns in Redis */
};
void stop_progress_remaining(struct stop_progress *progress, struct stop_remaining *out);

#endif
