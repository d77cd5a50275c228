/* Owns what few clients need besides a queue: their limits, and the counters of dropped messages.
 * See router.h for the threads. */
#include <stdlib.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "message/router.h"
#include "router_internal.h"

#define NS_PER_US        1000
#define NS_PER_MS        1000000
#define US_PER_MS        1000
#define LIMITED_SHOWN_MS 5000 /* after the last message over the limits */

/* The worker sets limits while, with Paho, another thread drops. */
struct route_record *route_make_record(struct route *route) {
    struct route_record *record = route_find_record(route);
    if (!record) {
        struct route_record *made = calloc(1, sizeof *made);
        if (made && atomic_compare_exchange_strong(&route->record, &record, made)) {
            return made;
        }
        free(made);
    }
    return record;
}

/* There is one writer, who needs no atomic addition. */
static void route_add(_Atomic int64_t *count, int64_t n) {
    int64_t before = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, before + n, memory_order_relaxed);
}

/* ---- the next message ---- */

bool route_await_message(struct route *route, route_heard *heard, void *context) {
    struct route_record *record = heard ? route_make_record(route) : route_find_record(route);
    if (record) {
        record->heard_context = heard ? context : record->heard_context;
        atomic_store_explicit(&record->heard, heard, memory_order_release);
    }
    return record || !heard;
}

static void route_report_message(const struct route *route) {
    struct route_record *record = route_find_record(route);
    if (!record || !atomic_load_explicit(&record->heard, memory_order_relaxed)) {
        return;
    }
    route_heard *heard = atomic_exchange(&record->heard, NULL);
    if (heard && !heard(record->heard_context)) {
        atomic_store_explicit(&record->heard, heard, memory_order_release);
    }
}

/* ---- counters ---- */

void route_count_received(struct route *route, uint8_t qos, size_t payload_len,
                          int64_t received_us) {
    route_add(&route->messages, 1);
    route_add(&route->bytes, (int64_t)payload_len);
    atomic_store_explicit(&route->last_message_at_ms, received_us / US_PER_MS,
                          memory_order_relaxed);
    route_report_message(route);
    metric_add(METRIC_RECEIVED_QOS0 + qos, 1);
    metric_add(METRIC_BYTES_RECEIVED, (int64_t)payload_len);
}

void route_count_dropped(struct route *route, enum message_drop reason) {
    static const enum metric metrics[MESSAGE_DROP_COUNT] = {
#define ROUTE_DROP_METRIC(symbol, metric, name) [symbol] = metric,
        MESSAGE_DROP_TABLE(ROUTE_DROP_METRIC)
#undef ROUTE_DROP_METRIC
    };
    struct route_record *record = route_make_record(route);
    metric_add(metrics[reason], 1);
    if (record) { /* out of memory: only the node counts it */
        route_add(&record->dropped[reason], 1);
    }
}

void route_restore_counts(struct route *route, int64_t messages, int64_t bytes,
                          const int64_t dropped[MESSAGE_DROP_COUNT]) {
    route->messages = messages;
    route->bytes = bytes;
    for (size_t i = 0; i < MESSAGE_DROP_COUNT; i++) {
        struct route_record *record =
            dropped[i] > 0 ? route_make_record(route) : route_find_record(route);
        if (record) {
            record->dropped[i] = dropped[i];
        }
    }
}

int64_t route_get_dropped(const struct route *route, int64_t out[MESSAGE_DROP_COUNT]) {
    const struct route_record *record = route_find_record(route);
    int64_t sum = 0;
    for (size_t i = 0; i < MESSAGE_DROP_COUNT; i++) {
        out[i] = record ? atomic_load_explicit(&record->dropped[i], memory_order_relaxed) : 0;
        sum += out[i];
    }
    return sum;
}

const char *message_drop_name(enum message_drop reason) {
    static const char *const names[MESSAGE_DROP_COUNT] = {
#define MESSAGE_DROP_NAME(symbol, metric, name) [symbol] = name,
        MESSAGE_DROP_TABLE(MESSAGE_DROP_NAME)
#undef MESSAGE_DROP_NAME
    };
    return names[reason];
}

void route_note_held(struct route *route, bool held) {
    struct route_record *record = held ? route_make_record(route) : route_find_record(route);
    bool before = record && atomic_load_explicit(&record->held_since_ms, memory_order_relaxed) != 0;
    if (record && held != before) {
        atomic_store_explicit(&record->held_since_ms, held ? clock_ms() : 0, memory_order_relaxed);
    }
}

/* ---- limits and the quota ---- */

bool route_set_limits(struct route *route, const struct rate_limit_values *limits) {
    struct route_record *record = limits ? route_make_record(route) : route_find_record(route);
    if (record) {
        rate_limit_set(&record->limit, limits);
    }
    return record || !limits;
}

bool route_set_quota(struct route *route, struct rate_quota *quota) {
    struct route_record *record = quota ? route_make_record(route) : route_find_record(route);
    if (!record) {
        rate_quota_release(quota);
        return !quota;
    }
    rate_quota_release(atomic_exchange(&record->quota, quota));
    return true;
}

static struct rate_quota *route_record_quota(const struct route_record *record) {
    return atomic_load_explicit(&record->quota, memory_order_acquire);
}

struct rate_quota *route_quota(const struct route *route) {
    const struct route_record *record = route_find_record(route);
    return record ? route_record_quota(record) : NULL;
}

static int64_t route_limits_wait_ns(const struct route_record *record, int64_t now_ns) {
    return rate_limit_is_set(&record->limit) ? rate_limit_wait_ns(&record->limit, now_ns) : 0;
}

/* The node's share stays small unless others know that someone waits. */
static int64_t route_quota_wait_ns(struct route_record *record, struct rate_quota *quota,
                                   int64_t now_ns) {
    int64_t wait_ns = rate_quota_look_again_ns(quota, RATE_MESSAGES, now_ns);
    if (wait_ns > 0) {
        rate_quota_note_waiting(quota, RATE_MESSAGES);
        atomic_store_explicit(&record->over_quota_at_ms, now_ns / NS_PER_MS, memory_order_relaxed);
    }
    return wait_ns;
}

int64_t route_limit_wait_ms(struct route *route) {
    struct route_record *record = route_find_record(route);
    struct rate_quota *quota = record ? route_record_quota(record) : NULL;
    if (!record || (!quota && !rate_limit_is_set(&record->limit))) {
        return 0;
    }
    int64_t now_ns = clock_us() * NS_PER_US;
    int64_t wait_ns = route_limits_wait_ns(record, now_ns);
    int64_t quota_ns = quota ? route_quota_wait_ns(record, quota, now_ns) : 0;
    wait_ns = quota_ns > wait_ns ? quota_ns : wait_ns;
    return (wait_ns + NS_PER_MS - 1) / NS_PER_MS;
}

static bool route_was_limited(const _Atomic int64_t *limited_at_ms, bool waits) {
    int64_t at_ms = atomic_load_explicit(limited_at_ms, memory_order_relaxed);
    return at_ms != 0 && (waits || clock_ms() - at_ms < LIMITED_SHOWN_MS);
}

bool route_is_limited(const struct route *route) {
    const struct route_record *record = route_find_record(route);
    return record && rate_limit_is_set(&record->limit) &&
           route_was_limited(&record->limited_at_ms,
                             rate_limit_wait_ns(&record->limit, clock_us() * NS_PER_US) > 0);
}

bool route_is_over_quota(const struct route *route) {
    const struct route_record *record = route_find_record(route);
    const struct rate_quota *quota = record ? route_record_quota(record) : NULL;
    return quota && rate_quota_per_s(quota, RATE_MESSAGES) > 0 &&
           route_was_limited(&record->over_quota_at_ms, false);
}

bool route_is_held_back(const struct route *route) {
    const struct route_record *record = route_find_record(route);
    return record &&
           (route_limits_wait_ns(record, clock_us() * NS_PER_US) > 0 || route_is_over_quota(route));
}

/* A message found no room: it is dropped, or waits. */
static void route_note_over_limit(struct route *route, uint8_t qos, size_t payload_len,
                                  int64_t now_us) {
    atomic_store_explicit(&route_find_record(route)->limited_at_ms, now_us / US_PER_MS,
                          memory_order_relaxed);
    if (qos == 0) {
        route_count_received(route, qos, payload_len, now_us);
        route_count_dropped(route, DROP_OVER_LIMIT);
    } else {
        metric_add(METRIC_LIMIT_PAUSES, 1);
    }
}

static void route_note_over_quota(struct route *route, uint8_t qos, size_t payload_len,
                                  int64_t now_us) {
    struct route_record *record = route_find_record(route);
    struct rate_quota *quota = route_record_quota(record);
    atomic_store_explicit(&record->over_quota_at_ms, now_us / US_PER_MS, memory_order_relaxed);
    if (qos == 0) {
        route_count_received(route, qos, payload_len, now_us);
        route_count_dropped(route, DROP_OVER_QUOTA);
        rate_quota_note_refused(quota, RATE_MESSAGES);
    } else {
        rate_quota_note_delayed(quota, RATE_MESSAGES);
    }
}

bool route_admits(struct route *route, uint8_t qos, size_t payload_len) {
    const struct route_record *record = route_find_record(route);
    const struct rate_quota *quota = record ? route_record_quota(record) : NULL;
    if (!record || (!quota && !rate_limit_is_set(&record->limit))) {
        return true;
    }
    int64_t now_us = clock_us();
    if (route_limits_wait_ns(record, now_us * NS_PER_US) > 0) {
        route_note_over_limit(route, qos, payload_len, now_us);
        return false;
    }
    if (quota && rate_quota_wait_ns(quota, RATE_MESSAGES, now_us * NS_PER_US) > 0) {
        route_note_over_quota(route, qos, payload_len, now_us);
        return false;
    }
    return true;
}

void route_charge(struct route *route, size_t payload_len) {
    struct route_record *record = route_find_record(route);
    struct rate_quota *quota = record ? route_record_quota(record) : NULL;
    if (record && (quota || rate_limit_is_set(&record->limit))) {
        int64_t now_ns = clock_us() * NS_PER_US;
        rate_limit_take(&record->limit, payload_len, now_ns);
        if (quota) {
            rate_quota_charge(quota, RATE_MESSAGES, now_ns);
        }
    }
}
