/* The way of log lines to stderr. Before log_writer_start and after a complete stop each caller
 * writes by itself, as programs without threads do; between them callers put lines into a ring
 * (base/log_ring.h), and one thread writes them. That thread may wait for the reader of stderr as
 * long as it likes: nobody waits for it. stderr is often shared with other processes, so that it
 * must not be set to non-blocking. Any thread, unless said. */
#ifndef MQFLEET_TELEMETRY_LOG_WRITER_H
#define MQFLEET_TELEMETRY_LOG_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/telemetry/log.h"
#include "base/telemetry/log_ring.h"

/* buffer_bytes: of the ring. lost: called on the writer's thread, at most once a second, when there
 * is room again after lines were dropped; it logs. ERR_MEMORY, ERR_UNAVAILABLE: no thread. */
enum err log_writer_start(size_t buffer_bytes,
                          void (*lost)(const struct log_lost *lost)) MUST_CHECK;

/* line[len], with its newline: 1 to LOG_LINE_LEN_MAX bytes. Never waits while the thread runs. */
void log_writer_write(enum log_level level, const char *line, size_t len);

/* Waits until every line is written, as long as the writer makes progress, at most timeout_ms.
 * True: all are. Async-signal-safe. */
bool log_writer_flush(int64_t timeout_ms);

/* Settles and ends the thread. If nobody reads stderr, the thread stays, and lines go on to be
 * dropped: the process is to exit then. */
void log_writer_stop(int64_t timeout_ms);

#endif
