/* Owns the latency of a sink. The sink's thread is the only one that writes: it needs neither a
 * lock nor an atomic addition. */
#include "base/telemetry/latency.h"

static int64_t latency_load(const _Atomic int64_t *count) {
    return atomic_load_explicit(count, memory_order_relaxed);
}

static void latency_store(_Atomic int64_t *count, int64_t n) {
    atomic_store_explicit(count, n, memory_order_relaxed);
}

static void latency_copy(struct latency_counts *to, const struct latency_counts *from) {
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        latency_store(&to->counts[i], latency_load(&from->counts[i]));
    }
    latency_store(&to->sum_us, latency_load(&from->sum_us));
}

void latency_add(struct latency *latency, const struct histogram_values *values) {
    struct latency_counts *total = &latency->total;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        latency_store(&total->counts[i], latency_load(&total->counts[i]) + values->counts[i]);
    }
    latency_store(&total->sum_us, latency_load(&total->sum_us) + values->sum_us);
}

/* After a time without writes, nothing before it is recent. */
void latency_turn(struct latency *latency, int64_t now_ms) {
    int64_t turn_at_ms = latency_load(&latency->next_turn_at_ms);
    if (now_ms < turn_at_ms) {
        return;
    }
    bool idle = now_ms - turn_at_ms >= LATENCY_TURN_MS;
    latency_copy(&latency->marks[1], idle ? &latency->total : &latency->marks[0]);
    latency_copy(&latency->marks[0], &latency->total);
    latency_store(&latency->next_turn_at_ms, now_ms + LATENCY_TURN_MS);
}

static int64_t latency_difference(const _Atomic int64_t *total, const _Atomic int64_t *mark) {
    int64_t difference = latency_load(total) - latency_load(mark);
    return difference > 0 ? difference : 0; /* during a turn */
}

static struct histogram_values latency_since(const struct latency *latency,
                                             const struct latency_counts *mark) {
    struct histogram_values since;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        since.counts[i] = latency_difference(&latency->total.counts[i], &mark->counts[i]);
    }
    since.sum_us = latency_difference(&latency->total.sum_us, &mark->sum_us);
    return since;
}

struct histogram_values latency_total(const struct latency *latency) {
    static const struct latency_counts none;
    return latency_since(latency, &none);
}

/* No write has begun since a turn became due. */
struct histogram_values latency_recent(const struct latency *latency, int64_t now_ms) {
    int64_t due_ms = now_ms - latency_load(&latency->next_turn_at_ms);
    return latency_since(latency, due_ms >= LATENCY_TURN_MS ? &latency->total
                                  : due_ms >= 0             ? &latency->marks[0]
                                                            : &latency->marks[1]);
}
