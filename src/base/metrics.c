/* Owns the process-wide counters. Any thread. Must not know how they are shown. */
#include "base/metrics.h"

#include <assert.h>
#include <stdatomic.h>

/* Threads count in different cache lines: the busiest counters change with every message. */
#define SHARDS 8

static struct { _Alignas(64) _Atomic int64_t values[METRIC_COUNT]; } shards[SHARDS];

static _Atomic unsigned thread_count;
static _Thread_local unsigned own_shard = SHARDS; /* not chosen yet */

static const char *const NAMES[] = {
#define METRIC_NAME(symbol, name, help) [symbol] = name,
    METRICS_TABLE(METRIC_NAME)
#undef METRIC_NAME
};

static const char *const HELPS[] = {
#define METRIC_HELP(symbol, name, help) [symbol] = help,
    METRICS_TABLE(METRIC_HELP)
#undef METRIC_HELP
};

void metric_add(enum metric metric, int64_t amount) {
    assert(metric < METRIC_COUNT);
    if (own_shard == SHARDS) {
        own_shard = atomic_fetch_add(&thread_count, 1) % SHARDS;
    }
    atomic_fetch_add_explicit(&shards[own_shard].values[metric], amount, memory_order_relaxed);
}

int64_t metric_get(enum metric metric) {
    assert(metric < METRIC_COUNT);
    int64_t sum = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        sum += atomic_load_explicit(&shards[i].values[metric], memory_order_relaxed);
    }
    return sum;
}

const char *metric_name(enum metric metric) {
    assert(metric < METRIC_COUNT);
    return NAMES[metric];
}

const char *metric_help(enum metric metric) {
    assert(metric < METRIC_COUNT);
    return HELPS[metric];
}
