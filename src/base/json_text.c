/* Owns the escapes of JSON strings. */
#include "base/json_text.h"

#include <stdbool.h>
#include <stdio.h>
#include "base/text.h"

/* RFC 8259 section 7: the escape of a character that must not stand as it is; else NULL. */
static const char *json_text_escape(unsigned char byte, char escape[8]) {
    switch (byte) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        if (byte >= ' ') {
            return NULL;
        }
        snprintf(escape, 8, "\\u%04x", byte);
        return escape;
    }
}

/* Appends runs of ordinary characters at once. ascii: bytes from 0x80 become '?'. */
static void json_text_append_escaped(struct buffer *out, const char *text, size_t len, bool ascii) {
    size_t run = 0;
    for (size_t i = 0; i < len; i++) {
        char room[8];
        unsigned char byte = (unsigned char)text[i];
        const char *escape = ascii && byte >= 0x80 ? "?" : json_text_escape(byte, room);
        if (escape) {
            buffer_append(out, text + run, i - run);
            buffer_append_str(out, escape);
            run = i + 1;
        }
    }
    buffer_append(out, text + run, len - run);
}

void json_text_append(struct buffer *out, const char *text, size_t len) {
    buffer_append(out, "\"", 1);
    json_text_append_escaped(out, text, len, !text_is_utf8(text, len));
    buffer_append(out, "\"", 1);
}

void json_text_append_contents(struct buffer *out, const char *text, size_t len) {
    json_text_append_escaped(out, text, len, false);
}
