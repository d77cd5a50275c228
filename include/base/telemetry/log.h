/* Structured log lines on stderr, logfmt or JSON: time, level, event, then key=value. Any thread.
 * Lines are whole and in order, and no caller waits for who reads them (base/log_writer.h): what
 * finds no room is dropped, counted, and told as event=log_dropped. Values are escaped; a secret is
 * never passed in: callers log names, not contents. */
#ifndef MQFLEET_TELEMETRY_LOG_H
#define MQFLEET_TELEMETRY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

/* LOG_AUDIT: who changed what; written whatever the least level. */
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_AUDIT, LOG_LEVEL_COUNT };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_field {
    const char *key;
    enum { LOG_FIELD_STR, LOG_FIELD_INT } type;
    const char *str; /* NULL: the field is left out */
    int64_t integer;
};

#define KS(name, value) ((struct log_field){.key = (name), .type = LOG_FIELD_STR, .str = (value)})
#define KI(name, value)                                                                            \
    ((struct log_field){.key = (name), .type = LOG_FIELD_INT, .integer = (int64_t)(value)})

/* log_event(LOG_INFO, "client_state", KS("client", id), KI("attempt", 3)); at least one field. */
#define log_event(level, event, ...)                                                               \
    log_write((level), (event), (const struct log_field[]){__VA_ARGS__},                           \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* Sets the least level that is written and the format. Before other threads start. Default:
 * LOG_INFO, LOG_LOGFMT. */
void log_setup(enum log_level least, enum log_format format);

bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n);

/* From here on a thread writes the lines, from a buffer of that many bytes (65536 and more);
 * before, each caller does. ERR_MEMORY, ERR_UNAVAILABLE: no thread. */
enum err log_start(size_t buffer_bytes) MUST_CHECK;
/* Writes what is left, unless stderr takes nothing. Once no other thread logs, or before exit. */
void log_stop(int64_t timeout_ms);

/* Adds one more field to every line that this thread writes from now on; value NULL: no more.
 * Borrowed until then. */
void log_set_context(const char *key, const char *value);

/* Parse "debug info warn error", "logfmt json". False: unknown. */
bool log_level_parse(const char *text, enum log_level *out);
bool log_format_parse(const char *text, enum log_format *out);

#endif
