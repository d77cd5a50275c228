/* How long the messages of a sink take from their reception to their outcome: a histogram since
 * the start, and its state at the last two turns of a minute, which give the recent part. */
#ifndef MQFLEET_TELEMETRY_LATENCY_H
#define MQFLEET_TELEMETRY_LATENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/telemetry/metrics.h"

#define LATENCY_TURN_MS 60000

struct latency_counts {
    _Atomic int64_t counts[HISTOGRAM_BUCKETS], sum_us;
};

struct latency { /* zero at first */
    struct latency_counts total;
    struct latency_counts marks[2];  /* the total at the last turn, and at the one before */
    _Atomic int64_t next_turn_at_ms; /* clock_ms; 0: there was none */
};

/* The sink's thread: the first before each write, the second after it. */
void latency_turn(struct latency *latency, int64_t now_ms);
void latency_add(struct latency *latency, const struct histogram_values *values);

/* Any thread. */
struct histogram_values latency_total(const struct latency *latency);
/* Of the last one to two minutes. During a turn it may be of one minute more or less. */
struct histogram_values latency_recent(const struct latency *latency, int64_t now_ms);

#endif
