/* Token buckets as points in time: a bucket that is full at F has lost F - now of its capacity, and
 * is empty when that is all of it. Pure. */
#include "message/rate_limit.h"

#define NS_PER_S  INT64_C(1000000000)
#define BURST_MIN RATE_LIMIT_BURST_MIN

static uint32_t rate_limit_value(const _Atomic uint32_t *value) {
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void rate_limit_put_value(_Atomic uint32_t *value, uint32_t to) {
    atomic_store_explicit(value, to, memory_order_relaxed);
}

void rate_limit_set(struct rate_limit *limit, const struct rate_limit_values *values) {
    rate_limit_put_value(&limit->messages_per_s, values ? values->messages_per_s : 0);
    rate_limit_put_value(&limit->bytes_per_s, values ? values->bytes_per_s : 0);
    rate_limit_put_value(&limit->burst, values ? values->burst : 0);
}

bool rate_limit_is_set(const struct rate_limit *limit) {
    return rate_limit_value(&limit->messages_per_s) > 0 ||
           rate_limit_value(&limit->bytes_per_s) > 0;
}

static int64_t rate_limit_later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* There must be a whole message in it. */
static int64_t rate_limit_messages_wait_ns(const struct rate_limit *limit, int64_t now_ns) {
    uint32_t per_s = rate_limit_value(&limit->messages_per_s);
    uint32_t burst = rate_limit_value(&limit->burst);
    if (per_s == 0) {
        return 0;
    }
    int64_t cost_ns = NS_PER_S / per_s;
    int64_t capacity_ns = rate_limit_later(burst > 0 ? burst : per_s, BURST_MIN) * cost_ns;
    int64_t full_at_ns = atomic_load_explicit(&limit->messages_full_at_ns, memory_order_relaxed);
    return full_at_ns - now_ns + cost_ns - capacity_ns;
}

/* There must be a byte in it. */
static int64_t rate_limit_bytes_wait_ns(const struct rate_limit *limit, int64_t now_ns) {
    if (rate_limit_value(&limit->bytes_per_s) == 0) {
        return 0;
    }
    int64_t full_at_ns = atomic_load_explicit(&limit->bytes_full_at_ns, memory_order_relaxed);
    return full_at_ns - now_ns + 1 - NS_PER_S;
}

int64_t rate_limit_wait_ns(const struct rate_limit *limit, int64_t now_ns) {
    int64_t wait_ns = rate_limit_later(rate_limit_messages_wait_ns(limit, now_ns),
                                       rate_limit_bytes_wait_ns(limit, now_ns));
    return rate_limit_later(wait_ns, 0);
}

static void rate_limit_drain(_Atomic int64_t *full_at_ns, int64_t cost_ns, int64_t now_ns) {
    int64_t before_ns = atomic_load_explicit(full_at_ns, memory_order_relaxed);
    atomic_store_explicit(full_at_ns, rate_limit_later(before_ns, now_ns) + cost_ns,
                          memory_order_relaxed);
}

void rate_limit_take(struct rate_limit *limit, size_t bytes, int64_t now_ns) {
    uint32_t messages_per_s = rate_limit_value(&limit->messages_per_s);
    uint32_t bytes_per_s = rate_limit_value(&limit->bytes_per_s);
    if (rate_limit_wait_ns(limit, now_ns) > 0) {
        return;
    }
    if (messages_per_s > 0) {
        rate_limit_drain(&limit->messages_full_at_ns, NS_PER_S / messages_per_s, now_ns);
    }
    if (bytes_per_s > 0) {
        rate_limit_drain(&limit->bytes_full_at_ns, (int64_t)bytes * NS_PER_S / bytes_per_s, now_ns);
    }
}
