/* Parsing of JSON bodies and making of JSON strings. Pure functions; any thread. */
#include "http/server/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/text.h"

/* U+FDD0, a noncharacter: replaces invalid text in a repaired body. */
#define INVALID_TEXT_MARK        "\xEF\xB7\x90"
#define INVALID_TEXT_MARK_ESCAPE "\\ufdd0"
#define REPLACEMENT_CHARACTER    "\xEF\xBF\xBD" /* U+FFFD */
#define UNICODE_ESCAPE_LEN       6              /* of an escape: \u and four digits */
#define POINTER_MAX              sizeof(((struct client_fault *)0)->pointer)

/* The code unit of the escape that begins at text[at], or -1. */
static long http_json_escape_unit(const char *text, size_t len, size_t at) {
    if (at + UNICODE_ESCAPE_LEN > len || text[at] != '\\' || text[at + 1] != 'u') {
        return -1;
    }
    long unit = 0;
    for (size_t i = at + 2; i < at + UNICODE_ESCAPE_LEN; i++) {
        static const char DIGITS[] = "0123456789abcdefABCDEF";
        const char *digit = text[i] != '\0' ? strchr(DIGITS, text[i]) : NULL;
        if (!digit) {
            return -1;
        }
        long value = digit - DIGITS;
        unit = unit * 16 + (value > 15 ? value - 6 : value);
    }
    return unit;
}

static bool http_json_is_high_surrogate(long unit) {
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool http_json_is_low_surrogate(long unit) {
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* The length of the escape at text[at]; a surrogate pair is one escape. *half: it is half a pair.
 */
static size_t http_json_escape_len(const char *text, size_t len, size_t at, bool *half) {
    long unit = http_json_escape_unit(text, len, at);
    *half = false;
    if (unit < 0) {
        bool ascii = at + 1 < len && (unsigned char)text[at + 1] < 0x80;
        return ascii ? 2 : 1;
    }
    if (http_json_is_high_surrogate(unit) &&
        http_json_is_low_surrogate(http_json_escape_unit(text, len, at + UNICODE_ESCAPE_LEN))) {
        return (size_t)2 * UNICODE_ESCAPE_LEN;
    }
    *half = http_json_is_high_surrogate(unit) || http_json_is_low_surrogate(unit);
    return UNICODE_ESCAPE_LEN;
}

struct scan {
    size_t values;
    size_t depth_max;
    bool has_lone_surrogate;
};

/* Estimates the cost of parsing from the punctuation outside strings. May count too many values,
 * never too few. */
static struct scan http_json_scan_body(const char *data, size_t len) {
    struct scan scan = {.values = 1};
    size_t depth = 0;
    bool in_string = false;
    for (size_t at = 0; at < len;) {
        char byte = data[at];
        if (in_string && byte == '\\') {
            bool half;
            at += http_json_escape_len(data, len, at, &half);
            scan.has_lone_surrogate = scan.has_lone_surrogate || half;
            continue;
        }
        if (byte == '"') {
            in_string = !in_string;
        } else if (!in_string && (byte == '[' || byte == '{')) {
            depth++;
            scan.depth_max = depth > scan.depth_max ? depth : scan.depth_max;
            scan.values++;
        } else if (!in_string && (byte == ']' || byte == '}')) {
            depth -= depth > 0;
        } else if (!in_string && byte == ',') {
            scan.values++;
        }
        at++;
    }
    return scan;
}

/* Copies the body; a mark replaces each byte that is not UTF-8 and each half of a pair. */
static void http_json_repair_body(const char *data, size_t len, struct buffer *out) {
    for (size_t at = 0; at < len;) {
        bool half = false;
        size_t part = data[at] == '\\' ? http_json_escape_len(data, len, at, &half)
                                       : text_utf8_char_len(data + at, len - at);
        if (half) {
            buffer_append_str(out, INVALID_TEXT_MARK_ESCAPE);
        } else if (part == 0) {
            buffer_append_str(out, INVALID_TEXT_MARK);
            part = 1;
        } else {
            buffer_append(out, data + at, part);
        }
        at += part;
    }
}

static bool http_json_is_blank(const char *data, size_t len) {
    size_t at = 0;
    while (at < len && memchr(" \t\r\n", data[at], 4)) {
        at++;
    }
    return at == len;
}

static enum err http_json_load_body(const char *data, size_t len, json_t **out, char *detail) {
    json_error_t error;
    enum err err = json_parse(out, data, len,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (err != ERR_ARGUMENT) {
        return err;
    }
    if (http_json_is_blank(data, len)) {
        snprintf(detail, HTTP_JSON_DETAIL_LEN, "line 1, column 1: the body is empty");
        return ERR_ARGUMENT;
    }
    /* Removes what jansson quotes from the body: it may be a secret. */
    const char *quote = strstr(error.text, " near ");
    int text_len = quote ? (int)(quote - error.text) : (int)strlen(error.text);
    snprintf(detail, HTTP_JSON_DETAIL_LEN, "line %d, column %d: %.*s", error.line, error.column,
             text_len, error.text);
    return ERR_ARGUMENT;
}

enum err http_json_parse(const char *data, size_t len, json_t **out, bool *repaired,
                         char detail[HTTP_JSON_DETAIL_LEN]) {
    *out = NULL;
    *repaired = false;
    data = data ? data : "";
    size_t bom_len = text_bom_len(data, len); /* RFC 8259 section 8.1: may be ignored */
    data += bom_len;
    len -= bom_len;
    struct scan scan = http_json_scan_body(data, len);
    if (scan.values > HTTP_JSON_VALUES_MAX) {
        snprintf(detail, HTTP_JSON_DETAIL_LEN, "more than %d values", HTTP_JSON_VALUES_MAX);
        return ERR_FULL;
    }
    if (scan.depth_max > HTTP_JSON_DEPTH_MAX) {
        snprintf(detail, HTTP_JSON_DETAIL_LEN, "line 1, column 1: nested deeper than %d",
                 HTTP_JSON_DEPTH_MAX);
        return ERR_ARGUMENT;
    }
    if (!scan.has_lone_surrogate && text_is_utf8(data, len)) {
        return http_json_load_body(data, len, out, detail);
    }
    struct buffer body;
    buffer_init(&body);
    http_json_repair_body(data, len, &body);
    enum err err = body.failed ? ERR_MEMORY : http_json_load_body(body.data, body.len, out, detail);
    buffer_fini(&body);
    *repaired = err == ERR_OK;
    return err;
}

/* ---- faults ---------------------------------------------------------------------------------- */

void http_fault_add(struct client_faults *faults, const char *pointer, const char *format, ...) {
    if (faults->count == CLIENT_FAULTS_MAX) {
        return;
    }
    struct client_fault *fault = &faults->items[faults->count++];
    snprintf(fault->pointer, sizeof(fault->pointer), "%s", pointer);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->detail, sizeof(fault->detail), format, arguments);
    va_end(arguments);
}

json_t *http_faults_json(const struct client_faults *faults, const char *prefix, size_t *left) {
    json_t *list = json_array();
    bool all = !left || *left >= faults->count;
    if (left && all) {
        *left -= faults->count;
    }
    for (size_t i = 0; i < faults->count && (all || i == 0); i++) {
        char pointer[POINTER_MAX + 32];
        snprintf(pointer, sizeof(pointer), "%s%s", prefix, faults->items[i].pointer);
        json_array_append_new(list, json_pack("{s:o, s:o}", "pointer", http_json_string(pointer),
                                              "detail", http_json_string(faults->items[i].detail)));
    }
    return list;
}

/* Appends "/" and the escaped name (RFC 6901 section 3) to a pointer of at most POINTER_MAX. */
static void http_json_append_pointer(char *pointer, const char *name) {
    size_t len = strlen(pointer);
    if (len + 1 < POINTER_MAX) {
        pointer[len++] = '/';
    }
    for (; *name != '\0' && len + 2 < POINTER_MAX; name++) {
        if (*name == '~' || *name == '/') {
            pointer[len++] = '~';
            pointer[len++] = *name == '~' ? '0' : '1';
        } else {
            pointer[len++] = *name;
        }
    }
    pointer[len] = '\0';
}

static bool http_json_has_fault(const struct client_faults *faults, const char *pointer) {
    for (size_t i = 0; i < faults->count; i++) {
        if (strcmp(faults->items[i].pointer, pointer) == 0) {
            return true;
        }
    }
    return false;
}

static void http_json_check_string(const json_t *json, bool repaired, const char *pointer,
                                   struct client_faults *faults) {
    const char *text = json_string_value(json);
    if (http_json_has_fault(faults, pointer)) {
        return;
    }
    if (memchr(text, '\0', json_string_length(json))) {
        http_fault_add(faults, pointer, "must not contain U+0000");
    } else if (repaired && strstr(text, INVALID_TEXT_MARK)) {
        http_fault_add(faults, pointer, "must be well-formed UTF-8");
    }
}

/* Recursion is bounded by HTTP_JSON_DEPTH_MAX. */
static void http_json_collect_text_faults(const json_t *json, bool repaired, char *pointer,
                                          struct client_faults *faults) {
    size_t len = strlen(pointer);
    if (json_is_string(json)) {
        http_json_check_string(json, repaired, pointer, faults);
    } else if (json_is_array(json)) {
        size_t index;
        json_t *item;
        json_array_foreach(json, index, item) {
            char name[24];
            snprintf(name, sizeof(name), "%zu", index);
            http_json_append_pointer(pointer, name);
            http_json_collect_text_faults(item, repaired, pointer, faults);
            pointer[len] = '\0';
        }
    } else if (json_is_object(json)) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)json, key, value) {
            if (repaired && strstr(key, INVALID_TEXT_MARK)) {
                http_fault_add(faults, pointer, "a field name must be well-formed UTF-8");
            }
            http_json_append_pointer(pointer, key);
            http_json_collect_text_faults(value, repaired, pointer, faults);
            pointer[len] = '\0';
        }
    }
}

void http_json_text_faults(const json_t *json, bool repaired, struct client_faults *faults) {
    char pointer[POINTER_MAX] = "";
    http_json_collect_text_faults(json, repaired, pointer, faults);
}

/* ---- strings --------------------------------------------------------------------------------- */

json_t *http_json_stringn(const char *text, size_t len) {
    json_t *string = json_stringn(text, len); /* NULL when it is not UTF-8 */
    if (string) {
        return string;
    }
    struct buffer clean;
    buffer_init(&clean);
    for (size_t at = 0; at < len;) {
        size_t part = text_utf8_char_len(text + at, len - at);
        if (part == 0) {
            buffer_append_str(&clean, REPLACEMENT_CHARACTER);
            part = 1;
        } else {
            buffer_append(&clean, text + at, part);
        }
        at += part;
    }
    string = clean.failed ? NULL : json_stringn(clean.data ? clean.data : "", clean.len);
    buffer_fini(&clean);
    return string;
}

json_t *http_json_string(const char *text) {
    return text ? http_json_stringn(text, strlen(text)) : json_null();
}

json_t *http_json_time(int64_t wall_ms) {
    char text[CLOCK_RFC3339_LEN];
    return wall_ms > 0 ? json_string(clock_rfc3339(wall_ms, text)) : json_null();
}
