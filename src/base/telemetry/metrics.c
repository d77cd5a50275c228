/* Owns the process-wide counters and histograms. Any thread. */
#include "base/telemetry/metrics.h"

#include <assert.h>
#include <stdatomic.h>

/* Threads use counters in different cache lines, because the busiest change with every message. */
#define SHARDS 8

static struct {
    _Alignas(64) _Atomic int64_t values[METRIC_COUNT];
    _Atomic int64_t buckets[HISTOGRAM_COUNT][HISTOGRAM_BUCKETS];
    _Atomic int64_t sums_us[HISTOGRAM_COUNT];
} shards[SHARDS];

static _Atomic unsigned thread_count;
static _Thread_local unsigned own_shard = SHARDS; /* not chosen yet */

#define METRIC_ROW(symbol, name, labels, help) [symbol] = {name, labels, help},
static const struct metric_description metrics[] = {METRICS_TABLE(METRIC_ROW)};
static const struct metric_description histograms[] = {METRICS_HISTOGRAMS(METRIC_ROW)};
#undef METRIC_ROW

const int64_t histogram_bounds_us[HISTOGRAM_BUCKETS - 1] = {
    100,   250,    500,    1000,   2500,    5000,    10000,    25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 10000000, 30000000};

static unsigned metrics_shard_of_thread(void) {
    if (own_shard == SHARDS) {
        own_shard = atomic_fetch_add(&thread_count, 1) % SHARDS;
    }
    return own_shard;
}

void metric_add(enum metric metric, int64_t amount) {
    assert(metric < METRIC_COUNT);
    atomic_fetch_add_explicit(&shards[metrics_shard_of_thread()].values[metric], amount,
                              memory_order_relaxed);
}

int64_t metric_get(enum metric metric) {
    assert(metric < METRIC_COUNT);
    int64_t sum = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        sum += atomic_load_explicit(&shards[i].values[metric], memory_order_relaxed);
    }
    return sum;
}

const struct metric_description *metric_describe(enum metric metric) {
    assert(metric < METRIC_COUNT);
    return &metrics[metric];
}

/* ---- histograms ------------------------------------------------------------------------------ */

static size_t metrics_bucket_of(int64_t us) {
    size_t bucket = 0;
    while (bucket < HISTOGRAM_BUCKETS - 1 && us > histogram_bounds_us[bucket]) {
        bucket++;
    }
    return bucket;
}

void histogram_values_add(struct histogram_values *values, int64_t us) {
    us = us > 0 ? us : 0;
    values->counts[metrics_bucket_of(us)]++;
    values->sum_us += us;
}

int64_t histogram_values_count(const struct histogram_values *values) {
    int64_t count = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        count += values->counts[i];
    }
    return count;
}

int64_t histogram_values_quantile(const struct histogram_values *values, double part) {
    double rank = part * (double)histogram_values_count(values), below = 0;
    int64_t lower_us = 0;
    if (rank <= 0) {
        return -1;
    }
    for (size_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        double count = (double)values->counts[i], upper_us = (double)histogram_bounds_us[i];
        if (below + count >= rank) {
            return lower_us + (int64_t)((upper_us - (double)lower_us) * (rank - below) / count);
        }
        below += count;
        lower_us = histogram_bounds_us[i];
    }
    return lower_us;
}

void histogram_add_values(enum histogram histogram, const struct histogram_values *values) {
    assert(histogram < HISTOGRAM_COUNT);
    unsigned shard = metrics_shard_of_thread();
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (values->counts[i] > 0) {
            atomic_fetch_add_explicit(&shards[shard].buckets[histogram][i], values->counts[i],
                                      memory_order_relaxed);
        }
    }
    atomic_fetch_add_explicit(&shards[shard].sums_us[histogram], values->sum_us,
                              memory_order_relaxed);
}

void histogram_add(enum histogram histogram, int64_t us, int64_t count) {
    assert(histogram < HISTOGRAM_COUNT);
    unsigned shard = metrics_shard_of_thread();
    us = us > 0 ? us : 0;
    atomic_fetch_add_explicit(&shards[shard].buckets[histogram][metrics_bucket_of(us)], count,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&shards[shard].sums_us[histogram], us * count, memory_order_relaxed);
}

void histogram_get(enum histogram histogram, struct histogram_values *out) {
    assert(histogram < HISTOGRAM_COUNT);
    *out = (struct histogram_values){0};
    for (unsigned shard = 0; shard < SHARDS; shard++) {
        for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
            out->counts[i] +=
                atomic_load_explicit(&shards[shard].buckets[histogram][i], memory_order_relaxed);
        }
        out->sum_us +=
            atomic_load_explicit(&shards[shard].sums_us[histogram], memory_order_relaxed);
    }
}

const struct metric_description *histogram_describe(enum histogram histogram) {
    assert(histogram < HISTOGRAM_COUNT);
    return &histograms[histogram];
}
