/* Writes log lines to stderr. Before log_writer_start and after a complete stop, each caller writes
 * its own lines. In between, callers put lines into a ring (base/telemetry/log_ring.h) and one
 * thread writes them. Only that thread waits for the reader of stderr. stderr is not set to
 * non-blocking because other processes may share it. Any thread, unless stated otherwise. */
#ifndef MQFLEET_TELEMETRY_LOG_WRITER_H
#define MQFLEET_TELEMETRY_LOG_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/telemetry/log.h"
#include "base/telemetry/log_ring.h"

/* buffer_bytes: size of the ring. lost: called on the writer's thread, at most once a second, when
 * there is room again after lines were dropped; it logs the losses. ERR_MEMORY, ERR_UNAVAILABLE: no
 * thread. */
enum err log_writer_start(size_t buffer_bytes,
                          void (*lost)(const struct log_lost *lost)) MUST_CHECK;

/* line[len], with its newline: 1 to LOG_LINE_LEN_MAX bytes. Never blocks while the thread runs. */
void log_writer_write(enum log_level level, const char *line, size_t len);

/* Waits until every line is written, for at most timeout_ms and only while the writer makes
 * progress. True: all lines are written. Async-signal-safe. */
bool log_writer_flush(int64_t timeout_ms);

/* Writes the remaining lines and ends the thread. If stderr blocks, the thread stays and further
 * lines are dropped; the process should exit then. */
void log_writer_stop(int64_t timeout_ms);

#endif
