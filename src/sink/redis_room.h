/* How much of a Redis its stream may fill: messages must not take the room that the fleet needs.
 * For one sink's thread, but for redis_room_status. */
#ifndef MQFLEET_SINK_REDIS_ROOM_H
#define MQFLEET_SINK_REDIS_ROOM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "net/redis_facts.h"
#include "sink/sink.h"

#define REDIS_ROOM_TEXT_LEN 160

struct redis_room {
    const char *key;       /* of the stream; borrowed */
    bool shared;           /* with the fleet: else only measured */
    int64_t bytes_max;     /* of used memory; 0: three quarters of maxmemory */
    int64_t entries_max;   /* sink.maxlen; 0: none */
    int64_t measured_ms;   /* clock_ms; 0: never */
    int64_t no_facts_ms;   /* when INFO was last refused; 0: it is answered */
    int64_t no_entries_ms; /* when XLEN was */
    int64_t allowed_bytes; /* may be written before the next look */
    _Atomic int64_t used_bytes, limit_bytes, entries; /* -1: not known. Any thread */
    atomic_bool paused;                               /* any thread */
};

void redis_room_init(struct redis_room *room, const struct sink_config *config);
/* Before writing. Looks again when it is time to. ERR_OK: one message may be written, and more as
 * long as redis_room_may_write; ERR_FULL: not now, `error` says why; else Redis does not answer. */
enum err redis_room_check(struct redis_room *room, struct redis *redis,
                          char error[REDIS_ROOM_TEXT_LEN]) MUST_CHECK;
bool redis_room_may_write(const struct redis_room *room);
void redis_room_wrote(struct redis_room *room, size_t bytes);
/* Looks, if a look is due and there ever was one: for the metrics, while nothing comes. */
void redis_room_look(struct redis_room *room, struct redis *redis);
/* Decides by what was measured. Pure, but for the room. */
bool redis_room_judge(struct redis_room *room, int64_t used_bytes, int64_t max_bytes,
                      int64_t entries);
void redis_room_status(const struct redis_room *room, struct sink_status *out); /* any thread */

#endif
