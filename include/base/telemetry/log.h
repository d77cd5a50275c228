/* Structured log lines on stderr, logfmt or JSON: time, level, event, then key=value. Any thread.
 * Lines are complete and in order, and callers never wait for the reader of stderr
 * (base/telemetry/log_writer.h). Lines that do not fit into the buffer are dropped, counted, and
 * reported as event=log_dropped. Values are escaped. Callers log names, never secrets. */
#ifndef MQFLEET_TELEMETRY_LOG_H
#define MQFLEET_TELEMETRY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

/* LOG_AUDIT: changes by users; written at every level. */
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_AUDIT, LOG_LEVEL_COUNT };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_field {
    const char *key;
    enum { LOG_FIELD_STR, LOG_FIELD_INT } type;
    const char *str; /* NULL: the field is omitted */
    int64_t integer;
};

#define KS(name, value) ((struct log_field){.key = (name), .type = LOG_FIELD_STR, .str = (value)})
#define KI(name, value)                                                                            \
    ((struct log_field){.key = (name), .type = LOG_FIELD_INT, .integer = (int64_t)(value)})

/* log_event(LOG_INFO, "client_state", KS("client", id), KI("attempt", 3)); at least one field. */
#define log_event(level, event, ...)                                                               \
    log_write((level), (event), (const struct log_field[]){__VA_ARGS__},                           \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* Sets the lowest level that is written and the format. Call before other threads start. Default:
 * LOG_INFO, LOG_LOGFMT. */
void log_setup(enum log_level least, enum log_format format);

bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n);

/* Starts a thread that writes the lines from a buffer of that many bytes (65536 or more). Before
 * that, each caller writes its own lines. ERR_MEMORY, ERR_UNAVAILABLE: no thread. */
enum err log_start(size_t buffer_bytes) MUST_CHECK;
/* Writes the remaining lines, unless stderr blocks. Call it when no other thread logs any more, or
 * before exit. */
void log_stop(int64_t timeout_ms);

/* Adds one more field to every line of this thread from now on; value NULL removes it. The value is
 * borrowed until then. */
void log_set_context(const char *key, const char *value);

/* Parses "debug info warn error", "logfmt json". False: unknown. */
bool log_level_parse(const char *text, enum log_level *out);
bool log_format_parse(const char *text, enum log_format *out);

#endif
