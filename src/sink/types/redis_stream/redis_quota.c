/* Owns the measurement of a Redis and the decision to pause.
 *
 *   0 ............................. limit ........ maxmemory
 *   [ clients, heartbeats, the stream | kept for the fleet ]
 *
 * Between two measurements the sink writes at most a sixteenth of the remaining room. It therefore
 * stops in time at any rate, even if sixteen nodes write. A stream at its maxlen only replaces
 * entries, and is not paused. */
#include "redis_quota.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"

#define QUOTA_CHECK_MS 250
#define IDLE_MS        5000
#define REFUSED_MS     60000 /* the permission may have been granted by then */
#define NODES_MAX      16    /* nodes that may fill one Redis at the same time */

void redis_quota_init(struct redis_quota *quota, const char *key, bool shared,
                      const json_t *settings) {
    bool replaces = strcmp(sink_settings_text(settings, "trim"), "maxlen") == 0;
    *quota = (struct redis_quota){.key = key,
                                  .shared = shared,
                                  .replaces = replaces,
                                  .bytes_max = sink_settings_integer(settings, "redis_bytes_max"),
                                  .entries_max =
                                      replaces ? sink_settings_integer(settings, "maxlen") : 0,
                                  .used_bytes = -1,
                                  .limit_bytes = -1,
                                  .entries = -1};
}

void redis_quota_set_entries(struct redis_quota *quota, int64_t entries, int64_t entries_max) {
    quota->entries = entries;
    quota->entries_max = quota->replaces ? entries_max : 0;
}

bool redis_quota_evaluate(struct redis_quota *quota, int64_t used_bytes, int64_t max_bytes,
                          int64_t entries) {
    int64_t limit = quota->bytes_max > 0 ? quota->bytes_max : max_bytes / 4 * 3;
    int64_t resume = limit - limit / 16; /* avoids frequent changes around the limit */
    bool grows = quota->entries_max == 0 || entries < quota->entries_max;
    bool was_paused = quota->paused;
    quota->used_bytes = used_bytes;
    quota->limit_bytes = quota->shared ? limit : max_bytes;
    quota->entries = entries;
    quota->paused =
        quota->shared && limit > 0 && grows && used_bytes > (was_paused ? resume : limit);
    int64_t left = limit > used_bytes ? limit - used_bytes : 0;
    quota->writable_bytes = quota->shared && limit > 0 && grows ? left / NODES_MAX : INT64_MAX;
    if (quota->paused && !was_paused) {
        metric_add(METRIC_SINK_PAUSES, 1);
    }
    return quota->paused;
}

/* A denied command is logged by Redis each time, so it is not repeated soon. */
static bool redis_quota_was_refused(int64_t refused_ms, int64_t now_ms) {
    return refused_ms > 0 && now_ms - refused_ms < REFUSED_MS;
}

/* *out: -1: not permitted, or the key has another type. */
static enum err redis_quota_fetch_entries(struct redis_quota *quota, struct redis *redis,
                                          int64_t now_ms, int64_t *out) {
    struct redis_reply *reply = NULL;
    const char *argv[] = {"XLEN", quota->key};
    *out = quota->key ? -1 : quota->entries;
    if (!quota->key || redis_quota_was_refused(quota->entries_refused_ms, now_ms)) {
        return ERR_OK;
    }
    enum err err = redis_command(redis, 2, argv, NULL, &reply);
    if (err == ERR_OK && redis_reply_type(reply) == REDIS_INTEGER) {
        *out = redis_reply_int(reply);
        quota->entries_refused_ms = 0;
    } else if (err == ERR_UNAVAILABLE && redis_fd(redis) >= 0) {
        quota->entries_refused_ms = now_ms;
        err = ERR_OK;
    }
    redis_reply_free(reply);
    return err;
}

static void redis_quota_set_unknown(struct redis_quota *quota, struct redis *redis,
                                    int64_t now_ms) {
    if (quota->info_refused_ms == 0) {
        log_event(LOG_WARN, "sink_room_unknown", KS("sink", quota->sink),
                  KS("detail", redis_error(redis)),
                  KS("effect", "the sink does not pause before Redis is full"));
    }
    quota->info_refused_ms = now_ms;
    quota->paused = false;
    quota->used_bytes = quota->limit_bytes = -1;
}

/* After ERR_REFUSED the room is unknown, and the sink does not pause. */
static enum err redis_quota_measure(struct redis_quota *quota, struct redis *redis) {
    struct redis_info info;
    int64_t entries, now_ms = clock_ms();
    quota->measured_ms = now_ms;
    quota->writable_bytes = INT64_MAX;
    enum err err = redis_quota_fetch_entries(quota, redis, now_ms, &entries);
    if (err != ERR_OK) {
        return err;
    }
    quota->entries = entries;
    if (redis_quota_was_refused(quota->info_refused_ms, now_ms)) {
        return ERR_OK;
    }
    err = redis_info_fetch(redis, "memory", &info);
    if (err == ERR_REFUSED) {
        redis_quota_set_unknown(quota, redis, now_ms);
        return ERR_OK;
    }
    if (err == ERR_OK) {
        quota->info_refused_ms = 0;
        redis_quota_evaluate(quota, info.used_bytes, info.max_bytes, entries);
    }
    return err;
}

enum err redis_quota_check(struct redis_quota *quota, struct redis *redis,
                           char error[REDIS_QUOTA_ERROR_LEN]) {
    bool due = quota->measured_ms == 0 || quota->paused || !redis_quota_may_write(quota) ||
               clock_ms() - quota->measured_ms >= QUOTA_CHECK_MS;
    enum err err = due ? redis_quota_measure(quota, redis) : ERR_OK;
    if (err != ERR_OK) {
        snprintf(error, REDIS_QUOTA_ERROR_LEN, "%s", redis_error(redis));
        return err;
    }
    if (quota->paused) {
        char memory[48];
        redis_info_format_memory(quota->used_bytes, quota->limit_bytes, memory, sizeof memory);
        snprintf(
            error, REDIS_QUOTA_ERROR_LEN,
            "paused: Redis uses %s (redis_bytes_max), the rest is reserved for the fleet; trim "
            "the stream",
            memory);
        return ERR_FULL;
    }
    return ERR_OK;
}

bool redis_quota_may_write(const struct redis_quota *quota) {
    return quota->writable_bytes > 0;
}

void redis_quota_consume(struct redis_quota *quota, size_t bytes) {
    quota->writable_bytes -= quota->writable_bytes == INT64_MAX ? 0 : (int64_t)bytes;
}

void redis_quota_refresh(struct redis_quota *quota, struct redis *redis) {
    if (quota->measured_ms > 0 && clock_ms() - quota->measured_ms >= IDLE_MS) {
        enum err err = redis_quota_measure(quota, redis); /* the next write reports it */
        (void)err;
    }
}

void redis_quota_status(const struct redis_quota *quota, struct sink_status *out) {
    out->paused = quota->paused;
    out->store_bytes = quota->used_bytes;
    out->store_bytes_max = quota->limit_bytes;
    out->store_entries = quota->entries;
}
