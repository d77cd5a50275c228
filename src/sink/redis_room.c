/* Owns the measuring of a Redis and the decision to pause.
 *
 *   0 ......................... limit ............ maxmemory
 *   [ clients, beats, the stream  |  kept for the fleet  ]
 *
 * Between two looks the sink writes at most a sixteenth of what is left, so that at any rate it
 * stops in time, and sixteen nodes with it. A stream at its sink.maxlen only replaces what it has,
 * and is not paused. */
#include "redis_room.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#define LOOK_MS    250
#define IDLE_MS    5000
#define REFUSED_MS 60000 /* then it may be permitted */
#define NODES_MAX  16    /* may fill one Redis at the same time */

void redis_room_init(struct redis_room *room, const struct sink_config *config) {
    *room = (struct redis_room){.key = config->stream_key,
                                .shared = config->redis_shared,
                                .bytes_max = config->redis_bytes_max,
                                .entries_max = config->stream_maxlen,
                                .used_bytes = -1,
                                .limit_bytes = -1,
                                .entries = -1};
}

bool redis_room_judge(struct redis_room *room, int64_t used_bytes, int64_t max_bytes,
                      int64_t entries) {
    int64_t limit = room->bytes_max > 0 ? room->bytes_max : max_bytes / 4 * 3;
    int64_t resume = limit - limit / 16; /* not on and off around the limit */
    bool grows = room->entries_max == 0 || entries < room->entries_max;
    bool was_paused = room->paused;
    room->used_bytes = used_bytes;
    room->limit_bytes = room->shared ? limit : max_bytes;
    room->entries = entries;
    room->paused = room->shared && limit > 0 && grows && used_bytes > (was_paused ? resume : limit);
    int64_t left = limit > used_bytes ? limit - used_bytes : 0;
    room->allowed_bytes = room->shared && limit > 0 && grows ? left / NODES_MAX : INT64_MAX;
    if (room->paused && !was_paused) {
        metric_add(METRIC_SINK_PAUSES, 1);
    }
    return room->paused;
}

/* Something that the user may not do shows in the log of Redis each time: not asked again soon. */
static bool is_refused(int64_t refused_ms, int64_t now_ms) {
    return refused_ms > 0 && now_ms - refused_ms < REFUSED_MS;
}

/* *out: -1: not permitted, or the key holds something else. */
static enum err ask_entries(struct redis_room *room, struct redis *redis, int64_t now_ms,
                            int64_t *out) {
    struct redis_reply *reply = NULL;
    const char *argv[] = {"XLEN", room->key};
    *out = -1;
    if (is_refused(room->no_entries_ms, now_ms)) {
        return ERR_OK;
    }
    enum err err = redis_command(redis, 2, argv, NULL, &reply);
    if (err == ERR_OK && redis_reply_type(reply) == REDIS_INTEGER) {
        *out = redis_reply_int(reply);
        room->no_entries_ms = 0;
    } else if (err == ERR_UNAVAILABLE && redis_fd(redis) >= 0) {
        room->no_entries_ms = now_ms;
        err = ERR_OK;
    }
    redis_reply_free(reply);
    return err;
}

static void note_unknown(struct redis_room *room, struct redis *redis, int64_t now_ms) {
    if (room->no_facts_ms == 0) {
        log_event(LOG_WARN, "sink_room_unknown", KS("sink", "redis_stream"),
                  KS("detail", redis_error(redis)),
                  KS("effect", "the sink does not stop before Redis is full"));
    }
    room->no_facts_ms = now_ms;
    room->paused = false;
    room->used_bytes = room->limit_bytes = -1;
}

/* ERR_REFUSED is none: then the room is not known, and nothing is held back. */
static enum err measure(struct redis_room *room, struct redis *redis) {
    struct redis_facts facts;
    int64_t entries, now_ms = clock_ms();
    room->measured_ms = now_ms;
    room->allowed_bytes = INT64_MAX;
    enum err err = ask_entries(room, redis, now_ms, &entries);
    if (err != ERR_OK) {
        return err;
    }
    room->entries = entries;
    if (is_refused(room->no_facts_ms, now_ms)) {
        return ERR_OK;
    }
    err = redis_facts_ask(redis, "memory", &facts);
    if (err == ERR_REFUSED) {
        note_unknown(room, redis, now_ms);
        return ERR_OK;
    }
    if (err == ERR_OK) {
        room->no_facts_ms = 0;
        redis_room_judge(room, facts.used_bytes, facts.max_bytes, entries);
    }
    return err;
}

enum err redis_room_check(struct redis_room *room, struct redis *redis,
                          char error[REDIS_ROOM_TEXT_LEN]) {
    bool due = room->measured_ms == 0 || room->paused || !redis_room_may_write(room) ||
               clock_ms() - room->measured_ms >= LOOK_MS;
    enum err err = due ? measure(room, redis) : ERR_OK;
    if (err != ERR_OK) {
        snprintf(error, REDIS_ROOM_TEXT_LEN, "%s", redis_error(redis));
        return err;
    }
    if (room->paused) {
        char memory[48];
        redis_facts_memory(room->used_bytes, room->limit_bytes, memory, sizeof memory);
        snprintf(error, REDIS_ROOM_TEXT_LEN,
                 "paused: Redis uses %s (sink.redis_bytes_max), the rest is the fleet's; trim the "
                 "stream",
                 memory);
        return ERR_FULL;
    }
    return ERR_OK;
}

bool redis_room_may_write(const struct redis_room *room) {
    return room->allowed_bytes > 0;
}

void redis_room_wrote(struct redis_room *room, size_t bytes) {
    room->allowed_bytes -= room->allowed_bytes == INT64_MAX ? 0 : (int64_t)bytes;
}

void redis_room_look(struct redis_room *room, struct redis *redis) {
    if (room->measured_ms > 0 && clock_ms() - room->measured_ms >= IDLE_MS) {
        enum err ignored = measure(room, redis); /* the next write meets the same */
        (void)ignored;
    }
}

void redis_room_status(const struct redis_room *room, struct sink_status *out) {
    out->paused = room->paused;
    out->store_bytes = room->used_bytes;
    out->store_bytes_max = room->limit_bytes;
    out->store_entries = room->entries;
}
