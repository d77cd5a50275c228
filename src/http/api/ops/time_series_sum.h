/* The last hour of a fleet: the sums of what its nodes sampled. Pure; one thread at a time. */
#ifndef MQFLEET_OPS_TIME_SERIES_SUM_H
#define MQFLEET_OPS_TIME_SERIES_SUM_H

#include <jansson.h>
#include "base/err.h"
#include "base/telemetry/time_series.h"

struct time_series_sum {
    int64_t now_ms;                     /* wall clock of the node that sums */
    int64_t nodes[TIME_SERIES_SAMPLES]; /* how many have a sample */
    int64_t values[SERIES_COUNT][TIME_SERIES_SAMPLES];
};

/* The document of one node (docs/protocol.md). now_ms: its wall clock. NULL: out of memory. */
json_t *time_series_to_json(struct time_series *series, int64_t now_ms);

void time_series_sum_init(struct time_series_sum *sum, int64_t now_ms);
/* Series that this version does not know, or that the other node does not send, are left out.
 * ERR_ARGUMENT: not such a document. */
enum err time_series_sum_merge(struct time_series_sum *sum, const json_t *json) MUST_CHECK;
/* For users, without "incomplete". NULL: out of memory. */
json_t *time_series_sum_to_json(const struct time_series_sum *sum);

#endif
