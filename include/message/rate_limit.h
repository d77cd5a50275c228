/* How many messages and bytes a client may receive: two token buckets, for messages and for bytes.
 * A message passes while neither is empty. A message that is larger than the rest of the bytes
 * bucket passes too, and the next messages wait longer. So any size passes, and the rate is kept.
 *
 * One thread takes; meanwhile another one may set, and any thread may read. */
#ifndef MQFLEET_MESSAGE_RATE_LIMIT_H
#define MQFLEET_MESSAGE_RATE_LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rate_limit_values {
    uint32_t messages_per_s; /* 0: no limit; at most RATE_LIMIT_MESSAGES_MAX */
    uint32_t bytes_per_s;    /* of payloads; 0: no limit. A second's worth may come at once */
    uint32_t burst; /* messages that may come at once; 0: as many as in a second, at least 2 */
};

#define RATE_LIMIT_MESSAGES_MAX 1000000
#define RATE_LIMIT_BURST_MIN    2 /* so that a wait that ends late costs nothing */
#define RATE_LIMIT_BURST_MAX    100000000

struct rate_limit { /* zero: no limits */
    _Atomic uint32_t messages_per_s, bytes_per_s, burst;
    /* Monotonic: when the bucket would be full, had nothing been taken since. */
    _Atomic int64_t messages_full_at_ns, bytes_full_at_ns;
};

/* NULL: no limits from now on. What was taken stays taken. */
void rate_limit_set(struct rate_limit *limit, const struct rate_limit_values *values);
bool rate_limit_is_set(const struct rate_limit *limit);
/* Until a message may pass; 0: now. */
int64_t rate_limit_wait_ns(const struct rate_limit *limit, int64_t now_ns);
/* A message passes; one that passes although it should wait costs nothing. */
void rate_limit_take(struct rate_limit *limit, size_t bytes, int64_t now_ns);

#endif
