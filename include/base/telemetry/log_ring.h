/* A bounded ring of log lines: many threads write, one thread reads. A line that does not fit is
 * dropped and counted by its level. Levels have different shares of the ring, so a burst of
 * informational lines does not displace errors, and errors do not displace the audit trail.
 *
 * Any thread may put lines; one thread takes, releases and resets. A put holds a lock while it
 * copies one line; a take needs no lock. */
#ifndef MQFLEET_TELEMETRY_LOG_RING_H
#define MQFLEET_TELEMETRY_LOG_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/telemetry/log.h"

#define LOG_LINE_LEN_MAX 4096 /* PIPE_BUF: writes up to this size are atomic */

/* Lines dropped since the last call. */
struct log_lost {
    int64_t lines[LOG_LEVEL_COUNT];
    int64_t first_ms, last_ms; /* wall clock */
};

struct log_ring;

/* bytes: 65536 or more. Unused parts of the memory are never touched. */
enum err log_ring_create(struct log_ring **out, size_t bytes) MUST_CHECK;
void log_ring_destroy(struct log_ring *ring);

/* len: 1 to LOG_LINE_LEN_MAX. False: dropped and counted. */
bool log_ring_put(struct log_ring *ring, enum log_level level, const char *line, size_t len);

/* Copies as many whole lines as fit from the front into out[room] (room: LOG_LINE_LEN_MAX or more).
 * Returns the number of bytes. The lines stay in the ring until log_ring_release. */
size_t log_ring_take(struct log_ring *ring, char *out, size_t room);
/* Removes the lines that were taken last. */
void log_ring_release(struct log_ring *ring);

/* The following two: any thread; async-signal-safe. */
bool log_ring_is_empty(const struct log_ring *ring);
bool log_ring_has_lost(const struct log_ring *ring);
/* Returns the counts of lost lines and sets them to 0. Any thread. */
void log_ring_take_lost(struct log_ring *ring, struct log_lost *out);

/* Moves an empty ring back to its first byte, so that a quiet log keeps using the same page.
 * Reading thread only. */
void log_ring_reset(struct log_ring *ring);

#endif
