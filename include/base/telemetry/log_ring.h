/* A bounded ring of log lines: many threads put, one takes. A line that does not fit is dropped and
 * counted by its level. Levels have different shares of the ring, so that a burst of informative
 * lines does not push out errors, nor these the audit trail.
 *
 * Any thread may put; one thread takes, releases and resets. Putting holds a lock for the time of
 * one copy; taking holds none. */
#ifndef MQFLEET_TELEMETRY_LOG_RING_H
#define MQFLEET_TELEMETRY_LOG_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/telemetry/log.h"

#define LOG_LINE_LEN_MAX 4096 /* PIPE_BUF: one write of it is never torn by those of others */

/* What was dropped since it was last asked for. */
struct log_lost {
    int64_t lines[LOG_LEVEL_COUNT];
    int64_t first_ms, last_ms; /* wall clock */
};

struct log_ring;

/* bytes: 65536 and more; memory is touched only as far as a burst needs it. */
enum err log_ring_create(struct log_ring **out, size_t bytes) MUST_CHECK;
void log_ring_destroy(struct log_ring *ring);

/* len: 1 to LOG_LINE_LEN_MAX. False: dropped and counted. */
bool log_ring_put(struct log_ring *ring, enum log_level level, const char *line, size_t len);

/* Copies whole lines from the front, as many as fit, into out[room] (room: LOG_LINE_LEN_MAX and
 * more); returns their bytes. They stay in the ring until they are released. */
size_t log_ring_take(struct log_ring *ring, char *out, size_t room);
/* Drops what was taken last from the ring. */
void log_ring_release(struct log_ring *ring);

/* Both any thread, and async-signal-safe. */
bool log_ring_is_empty(const struct log_ring *ring);
bool log_ring_has_lost(const struct log_ring *ring);
/* Hands over the counts of lost lines and sets them to 0. Any thread. */
void log_ring_take_lost(struct log_ring *ring, struct log_lost *out);

/* Starts again at the first byte if the ring is empty, so that a quiet log keeps using the same
 * page. The taking thread. */
void log_ring_reset(struct log_ring *ring);

#endif
