/* How much of a Redis its stream may fill: messages must not take the room that the fleet needs.
 * For one sink's thread, but for redis_quota_status. */
#ifndef MQFLEET_TYPES_REDIS_QUOTA_H
#define MQFLEET_TYPES_REDIS_QUOTA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "net/redis/redis_info.h"
#include "sink/sink.h"

#define REDIS_QUOTA_ERROR_LEN 160

struct redis_quota {
    const char *key;            /* of the stream; borrowed */
    bool shared;                /* with the fleet: else only measured */
    int64_t bytes_max;          /* of used memory; 0: three quarters of maxmemory */
    int64_t entries_max;        /* sink.maxlen; 0: none */
    int64_t measured_ms;        /* clock_ms; 0: never */
    int64_t info_refused_ms;    /* when INFO was last refused; 0: it is answered */
    int64_t entries_refused_ms; /* when XLEN was */
    int64_t writable_bytes;     /* may be written before the next look */
    _Atomic int64_t used_bytes, limit_bytes, entries; /* -1: not known. Any thread */
    atomic_bool paused;                               /* any thread */
};

void redis_quota_init(struct redis_quota *quota, const struct sink_config *config);
/* Before writing. Looks again when it is time to. ERR_OK: one message may be written, and more as
 * long as redis_quota_may_write; ERR_FULL: not now, `error` says why; else Redis does not answer.
 */
enum err redis_quota_check(struct redis_quota *quota, struct redis *redis,
                           char error[REDIS_QUOTA_ERROR_LEN]) MUST_CHECK;
bool redis_quota_may_write(const struct redis_quota *quota);
void redis_quota_consume(struct redis_quota *quota, size_t bytes);
/* Looks, if a look is due and there ever was one: for the metrics, while nothing comes. */
void redis_quota_refresh(struct redis_quota *quota, struct redis *redis);
/* Decides by what was measured. Pure, but for the room. */
bool redis_quota_evaluate(struct redis_quota *quota, int64_t used_bytes, int64_t max_bytes,
                          int64_t entries);
void redis_quota_status(const struct redis_quota *quota, struct sink_status *out); /* any thread */

#endif
