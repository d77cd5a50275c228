/* Owns the form of log lines. Any thread; a line is built on the caller's stack. */
#include "base/telemetry/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/system/clock.h"
#include "base/telemetry/log_writer.h"
#include "base/text.h"

#define TAIL_LEN                                                                                   \
    32 /* reserved for the closing quote, the mark of a truncated line, and the newline */

struct log_line {
    char data[LOG_LINE_LEN_MAX];
    size_t len;
    bool cut;
};

static const char *const LEVELS[] = {[LOG_DEBUG] = "debug",
                                     [LOG_INFO] = "info",
                                     [LOG_WARN] = "warn",
                                     [LOG_ERROR] = "error",
                                     [LOG_AUDIT] = "audit"};
static const char *const FORMATS[] = {[LOG_LOGFMT] = "logfmt", [LOG_JSON] = "json"};

static _Atomic int least_level = LOG_INFO;
static _Atomic int line_format = LOG_LOGFMT;

static _Thread_local struct log_field context; /* str NULL: none */

void log_set_context(const char *key, const char *value) {
    context = KS(key, value);
}

void log_setup(enum log_level least, enum log_format format) {
    atomic_store(&least_level, (int)least);
    atomic_store(&line_format, (int)format);
}

bool log_enabled(enum log_level level) {
    return (int)level >= atomic_load_explicit(&least_level, memory_order_relaxed);
}

/* Appends all of it. If that would use the reserved tail, appends nothing and marks the line as
 * truncated. */
static void log_put(struct log_line *line, const char *data, size_t len) {
    if (line->cut || line->len + len > sizeof(line->data) - TAIL_LEN) {
        line->cut = true;
        return;
    }
    memcpy(line->data + line->len, data, len);
    line->len += len;
}

static void log_put_str(struct log_line *line, const char *text) {
    log_put(line, text, strlen(text));
}

/* May use the reserved tail: only for the end of a value or the line. */
static void log_put_tail(struct log_line *line, const char *text) {
    size_t len = strlen(text);
    memcpy(line->data + line->len, text, len);
    line->len += len;
}

/* C0, DEL, and C1 in its UTF-8 form: terminals interpret all of them. */
static bool log_is_control(const uint8_t *at, size_t char_len) {
    if (char_len == 2) {
        return at[0] == 0xC2 && at[1] < 0xA0;
    }
    return char_len == 1 && (at[0] < 0x20 || at[0] == 0x7F);
}

static void log_put_escape(struct log_line *line, unsigned code) {
    char escape[8];
    snprintf(escape, sizeof(escape), "\\u%04x", code);
    log_put(line, escape, 6);
}

/* The inside of a JSON string (RFC 8259 section 7), also used for quoted logfmt values. Bytes that
 * are not UTF-8 become U+FFFD. */
static void log_put_escaped(struct log_line *line, const char *text) {
    const uint8_t *at = (const uint8_t *)text;
    const uint8_t *end = at + strlen(text);
    while (at < end && !line->cut) {
        size_t char_len = text_utf8_char_len(at, (size_t)(end - at));
        if (char_len == 0) {
            log_put_escape(line, 0xFFFD);
            char_len = 1;
        } else if (*at == '"' || *at == '\\') {
            log_put(line, *at == '"' ? "\\\"" : "\\\\", 2);
        } else if (*at == '\n') {
            log_put(line, "\\n", 2);
        } else if (log_is_control(at, char_len)) {
            log_put_escape(line, at[char_len - 1]);
        } else {
            log_put(line, (const char *)at, char_len);
        }
        at += char_len;
    }
}

static void log_put_quoted(struct log_line *line, const char *text) {
    log_put_str(line, "\"");
    bool opened = !line->cut;
    log_put_escaped(line, text);
    if (opened) {
        log_put_tail(line, "\"");
    }
}

static bool log_needs_no_quotes(const char *text) {
    for (const char *at = text; *at != '\0'; at++) {
        if (*at <= ' ' || *at >= 0x7F || *at == '"' || *at == '=' || *at == '\\') {
            return false; /* a char above 0x7F is negative here or at least that: quoted as well */
        }
    }
    return text[0] != '\0';
}

static void log_put_value(struct log_line *line, const struct log_field *field, bool json) {
    if (field->type == LOG_FIELD_INT) {
        char number[24];
        snprintf(number, sizeof(number), "%lld", (long long)field->integer);
        log_put_str(line, number);
    } else if (!json && log_needs_no_quotes(field->str)) {
        log_put_escaped(line, field->str); /* needs no escaping, but may be truncated anywhere */
    } else {
        log_put_quoted(line, field->str);
    }
}

/* A key and its value belong together: a key without room for its value is removed again. */
static void log_put_field(struct log_line *line, const struct log_field *field, bool json) {
    if (line->cut || (field->type == LOG_FIELD_STR && !field->str)) {
        return;
    }
    size_t start = line->len;
    if (json) {
        log_put_str(line, start == 0 ? "{" : ",");
        log_put_quoted(line, field->key);
        log_put_str(line, ":");
    } else {
        log_put_str(line, start == 0 ? "" : " ");
        log_put_str(line, field->key);
        log_put_str(line, "=");
    }
    size_t value_start = line->len;
    log_put_value(line, field, json);
    if (line->cut && line->len == value_start) {
        line->len = start;
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n) {
    if (!log_enabled(level)) {
        return;
    }
    bool json = atomic_load_explicit(&line_format, memory_order_relaxed) == LOG_JSON;
    char now[CLOCK_RFC3339_LEN];
    const struct log_field head[] = {KS("time", clock_rfc3339(clock_wall_ms(), now)),
                                     KS("level", LEVELS[level]), KS("event", event)};
    struct log_line line;
    line.len = 0;
    line.cut = false;
    for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++) {
        log_put_field(&line, &head[i], json);
    }
    log_put_field(&line, &context, json);
    for (size_t i = 0; i < n; i++) {
        log_put_field(&line, &fields[i], json);
    }
    if (line.cut) {
        log_put_tail(&line, json ? ",\"cut\":true" : " cut=true");
    }
    log_put_tail(&line, json ? "}\n" : "\n");
    log_writer_write(level, line.data, line.len);
}

/* Written at every level. The audit trail may be read separately and has a line of its own. The
 * times show where lines are missing, because the report follows the lines that were kept. */
static void log_report_lost(const struct log_lost *lost) {
    int64_t audit = lost->lines[LOG_AUDIT], others = 0;
    char first[CLOCK_RFC3339_LEN], last[CLOCK_RFC3339_LEN];
    clock_rfc3339(lost->first_ms, first);
    clock_rfc3339(lost->last_ms, last);
    for (int level = 0; level < LOG_AUDIT; level++) {
        others += lost->lines[level];
    }
    if (others > 0) {
        log_event(LOG_ERROR, "log_dropped", KI("lines", others), KS("first_at", first),
                  KS("last_at", last),
                  KS("detail", "stderr was not read fast enough; see log.buffer_bytes"));
    }
    if (audit > 0) {
        log_event(LOG_AUDIT, "log_dropped", KI("lines", audit), KS("first_at", first),
                  KS("last_at", last), KS("detail", "lines of the audit trail are missing"));
    }
}

enum err log_start(size_t buffer_bytes) {
    return log_writer_start(buffer_bytes, log_report_lost);
}

void log_stop(int64_t timeout_ms) {
    log_writer_stop(timeout_ms);
}

static bool log_find_name(const char *const *names, size_t count, const char *text, size_t *out) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

bool log_level_parse(const char *text, enum log_level *out) {
    size_t index = 0;
    bool found = log_find_name(LEVELS, LOG_AUDIT, text, &index);
    if (found) {
        *out = (enum log_level)index;
    }
    return found;
}

bool log_format_parse(const char *text, enum log_format *out) {
    size_t index = 0;
    bool found = log_find_name(FORMATS, sizeof(FORMATS) / sizeof(FORMATS[0]), text, &index);
    if (found) {
        *out = (enum log_format)index;
    }
    return found;
}
