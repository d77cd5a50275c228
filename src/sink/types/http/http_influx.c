/* Owns the line protocol of InfluxDB. Pure. */
#include "http_influx.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/text.h"

#define NS_PER_MS 1000000

/* ---- names, tags, texts -----------------------------------------------------------------------
 */

/* Outside of texts there is no line end: it is written as two characters. */
static const char *http_influx_escape_control(char byte) {
    switch (byte) {
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\f':
        return "\\f";
    default:
        return NULL;
    }
}

/* Backslashes at the end, or before a character that gets one, are left out: they cannot be
 * escaped, and parsers differ about them. */
static size_t http_influx_skip_backslashes(const char *text, const char *special) {
    size_t len = strspn(text, "\\");
    bool kept = text[len] && !strchr(special, text[len]) && !http_influx_escape_control(text[len]);
    return kept ? 0 : len;
}

/* Names and tags. special: the characters that a backslash must precede. */
static void http_influx_append_name(struct buffer *out, const char *text, const char *special) {
    bool is_utf8 = text_is_utf8(text, strlen(text));
    for (text += http_influx_skip_backslashes(text, special); *text;
         text += 1 + http_influx_skip_backslashes(text + 1, special)) {
        const char *control = http_influx_escape_control(*text);
        bool strange = !is_utf8 && (unsigned char)*text >= 0x80;
        if (control) {
            buffer_append_str(out, control);
            continue;
        }
        if (strchr(special, *text)) {
            buffer_append(out, "\\", 1);
        }
        buffer_append(out, strange ? "?" : text, 1);
    }
}

void http_influx_append_measurement(struct buffer *out, const char *name) {
    http_influx_append_name(out, name, ", ");
}

/* A tag without a value is not legal, and is left out. */
void http_influx_append_tag(struct buffer *out, const char *name, const char *value) {
    if (value[strspn(value, "\\")] == '\0') {
        return;
    }
    buffer_append(out, ",", 1);
    http_influx_append_name(out, name, ",= ");
    buffer_append(out, "=", 1);
    http_influx_append_name(out, value, ",= ");
}

/* In quotes; a line end in it is legal. */
static void http_influx_append_text(struct buffer *out, const char *text, size_t len) {
    size_t run = 0;
    buffer_append(out, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"' || text[i] == '\\') {
            buffer_append(out, text + run, i - run);
            buffer_append(out, "\\", 1);
            run = i;
        }
    }
    buffer_append(out, text + run, len - run);
    buffer_append(out, "\"", 1);
}

/* ---- fields -----------------------------------------------------------------------------------
 */

/* A text with U+0000 cannot be written. */
static bool http_influx_is_value(const json_t *value) {
    return json_is_number(value) || json_is_boolean(value) ||
           (json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value));
}

static void http_influx_append_value(struct buffer *out, const json_t *value) {
    if (json_is_number(value)) {
        buffer_printf(out, "%.17g", json_number_value(value));
    } else if (json_is_boolean(value)) {
        buffer_append_str(out, json_is_true(value) ? "true" : "false");
    } else {
        http_influx_append_text(out, json_string_value(value), json_string_length(value));
    }
}

/* InfluxDB keeps the name `time` for itself. */
static void http_influx_append_field(struct buffer *out, size_t begin, const char *name,
                                     const json_t *value) {
    if (name[strspn(name, "\\")] == '\0' || !http_influx_is_value(value)) {
        return;
    }
    buffer_append(out, ",", out->len > begin ? 1 : 0);
    http_influx_append_name(out, name, ",= ");
    buffer_append_str(out, strcmp(name, "time") == 0 ? "_=" : "=");
    http_influx_append_value(out, value);
}

static void http_influx_append_json(struct buffer *out, const json_t *json) {
    size_t begin = out->len;
    const char *name;
    json_t *value;
    if (json_is_number(json)) {
        http_influx_append_field(out, begin, "value", json);
    }
    json_object_foreach((json_t *)json, name, value) {
        http_influx_append_field(out, begin, name, value);
    }
}

/* A cheap check before the payload is parsed. */
static bool http_influx_may_be_json(const char *payload, size_t len) {
    size_t i = 0;
    while (i < len && strchr(" \t\r\n", payload[i]) && payload[i]) {
        i++;
    }
    return i < len && strchr("{-0123456789", payload[i]) && payload[i];
}

static void http_influx_append_payload(struct buffer *out, const struct message *message) {
    const char *payload = (const char *)message->payload;
    size_t len = message->payload_len;
    if (text_is_utf8(payload, len) && (len == 0 || !memchr(payload, '\0', len))) {
        buffer_append_str(out, "payload=");
        http_influx_append_text(out, payload, len);
        return;
    }
    char *encoded = text_base64_encode(payload, len);
    buffer_append_str(out, "payload_base64=");
    http_influx_append_text(out, encoded ? encoded : "", encoded ? strlen(encoded) : 0);
    out->failed |= !encoded;
    free(encoded);
}

/* The mapping of a payload to fields. */
static void http_influx_append_fields(struct buffer *out, const struct message *message) {
    size_t before = out->len;
    const char *payload = (const char *)message->payload;
    if (http_influx_may_be_json(payload, message->payload_len)) {
        json_t *json = json_from_text(payload, message->payload_len,
                                      JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL);
        http_influx_append_json(out, json);
        json_decref(json);
    }
    if (out->len == before) {
        http_influx_append_payload(out, message);
    }
}

void http_influx_append(struct buffer *out, const struct message *message, const char *line_start) {
    int64_t below_ms = (int64_t)(message->number % NS_PER_MS);
    buffer_append_str(out, line_start);
    http_influx_append_tag(out, "id", message->id);
    http_influx_append_tag(out, "topic", message->topic);
    buffer_append(out, " ", 1);
    http_influx_append_fields(out, message);
    buffer_printf(out, " %lld\n", (long long)(message->received_at_ms * NS_PER_MS + below_ms));
}
