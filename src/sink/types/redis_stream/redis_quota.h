/* Limits how much of a Redis its stream may fill, so that the fleet has enough memory. For one
 * sink's thread, except redis_quota_status. */
#ifndef MQFLEET_REDIS_STREAM_REDIS_QUOTA_H
#define MQFLEET_REDIS_STREAM_REDIS_QUOTA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "net/redis/redis_info.h"
#include "sink/sink.h"

#define REDIS_QUOTA_ERROR_LEN 160

struct redis_quota {
    const char *sink;           /* for the log; borrowed; set by the owner */
    const char *key;            /* of the stream; borrowed; NULL: redis_quota_set_entries */
    bool shared;                /* the same Redis as the fleet; otherwise only measured */
    bool replaces;              /* the oldest entries make room: trim maxlen */
    int64_t bytes_max;          /* of used memory; 0: three quarters of maxmemory */
    int64_t entries_max;        /* at which entries are replaced; 0: never */
    int64_t measured_ms;        /* clock_ms; 0: never */
    int64_t info_refused_ms;    /* time at which INFO was last refused; 0: it is permitted */
    int64_t entries_refused_ms; /* the same for XLEN */
    int64_t writable_bytes;     /* may be written before the next measurement */
    _Atomic int64_t used_bytes, limit_bytes, entries; /* -1: unknown. Any thread */
    atomic_bool paused;                               /* any thread */
};

/* key: borrowed; NULL: there are several streams. shared: the Redis of the fleet, which needs some
 * of its memory. */
void redis_quota_init(struct redis_quota *quota, const char *key, bool shared,
                      const json_t *settings);
/* Without a key: the entries of all streams, -1: not known, and the number at which they are
 * replaced, 0: never. */
void redis_quota_set_entries(struct redis_quota *quota, int64_t entries, int64_t entries_max);
/* Call it before writing. Measures again when due. ERR_OK: one message may be written, and more
 * while redis_quota_may_write; ERR_FULL: paused, `error` is the reason; other errors: Redis does
 * not answer. */
enum err redis_quota_check(struct redis_quota *quota, struct redis *redis,
                           char error[REDIS_QUOTA_ERROR_LEN]) MUST_CHECK;
bool redis_quota_may_write(const struct redis_quota *quota);
void redis_quota_consume(struct redis_quota *quota, size_t bytes);
/* Measures if it is due and was measured before: for the metrics, while no messages arrive. */
void redis_quota_refresh(struct redis_quota *quota, struct redis *redis);
/* Decides from the measured values. Pure, except for the room. */
bool redis_quota_evaluate(struct redis_quota *quota, int64_t used_bytes, int64_t max_bytes,
                          int64_t entries);
void redis_quota_status(const struct redis_quota *quota, struct sink_status *out); /* any thread */

#endif
