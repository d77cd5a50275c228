/* Whether a rejection is believed. A broken target may reject every message; then none must
 * become a dead letter. A rejection is believed while the target works for others: another
 * message was accepted in the same write, or since the last other error something was accepted
 * and, after it, fewer than VERDICT_REJECTIONS_MAX messages were rejected. The sink's thread. */
#ifndef MQFLEET_SINK_VERDICT_H
#define MQFLEET_SINK_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include "sink/sink_type.h"

#define VERDICT_REJECTIONS_MAX 100

struct verdict {       /* of one sink; zero at first */
    bool works;        /* the sink has accepted something since its last other error */
    size_t rejections; /* believed since then, with nothing accepted between them */
    bool doubts;       /* the last write had a rejection that was not believed */
};

/* Of one write: a rejection that is not believed becomes SINK_RETRY, and its reason the error of
 * the batch. may_reject false: none is believed. Returns how many are. */
size_t verdict_judge(struct verdict *verdict, struct sink_batch *batch, bool may_reject);

#endif
