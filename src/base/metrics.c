/* Owns the process-wide counters. Any thread. Must not know how they are shown. */
#include "base/metrics.h"

#include <assert.h>
#include <stdatomic.h>

static _Atomic int64_t values[METRIC_COUNT];

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
    atomic_fetch_add_explicit(&values[metric], amount, memory_order_relaxed);
}

int64_t metric_get(enum metric metric) {
    assert(metric < METRIC_COUNT);
    return atomic_load_explicit(&values[metric], memory_order_relaxed);
}

const char *metric_name(enum metric metric) {
    assert(metric < METRIC_COUNT);
    return NAMES[metric];
}

const char *metric_help(enum metric metric) {
    assert(metric < METRIC_COUNT);
    return HELPS[metric];
}
