/* Cursors of lists as text. Pure functions; any thread. */
#include "http/api/cursor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/text.h"

static const char *const cursor_phase_names[] = {[CURSOR_OWNED] = "o", [CURSOR_WAITING] = "w"};

void http_cursor_format(const struct http_cursor *cursor, char out[HTTP_CURSOR_LEN]) {
    snprintf(out, HTTP_CURSOR_LEN, "%s-%" PRIx64 "-%" PRIx64, cursor_phase_names[cursor->phase],
             cursor->scan, cursor->after);
}

/* Reads a hexadecimal number that is followed by `end`, and moves *text past both. Returns 0 if
 * there is none. */
static int cursor_parse_hex(const char **text, char end, uint64_t *out) {
    uint64_t value = 0;
    size_t digits = strspn(*text, "0123456789abcdef");
    if (digits == 0 || digits > 16 || (*text)[digits] != end) {
        return 0;
    }
    for (size_t i = 0; i < digits; i++) {
        char digit = (*text)[i];
        value = value * 16 + (uint64_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    *text += digits + (end != '\0');
    *out = value;
    return 1;
}

enum err http_cursor_parse(const char *text, struct http_cursor *out) {
    *out = (struct http_cursor){0};
    if ((text[0] != 'o' && text[0] != 'w') || text[1] != '-') {
        return ERR_ARGUMENT;
    }
    out->phase = text[0] == 'o' ? CURSOR_OWNED : CURSOR_WAITING;
    text += 2;
    return cursor_parse_hex(&text, '-', &out->scan) && cursor_parse_hex(&text, '\0', &out->after)
               ? ERR_OK
               : ERR_ARGUMENT;
}

char *http_key_cursor_format(const struct http_key_cursor *cursor) {
    struct buffer text;
    buffer_init(&text);
    buffer_printf(&text, "%c%x-%" PRIx64 "-", HTTP_KEY_CURSOR_BEGIN, cursor->order,
                  (uint64_t)cursor->key);
    for (const char *at = cursor->id; *at != '\0'; at++) {
        buffer_printf(&text, "%02x", (unsigned char)*at);
    }
    return buffer_take(&text);
}

/* *out: the id, decoded from pairs of hexadecimal digits; the caller frees it. ERR_ARGUMENT: the
 * text is no such encoding; ERR_MEMORY. */
static enum err cursor_parse_id(const char *text, char **out) {
    size_t len = strlen(text);
    if (len == 0 || len % 2 != 0 || strspn(text, "0123456789abcdef") != len) {
        return ERR_ARGUMENT;
    }
    char *id = malloc(len / 2 + 1);
    for (size_t i = 0; id && i < len / 2; i++) {
        char pair[] = {text[2 * i], text[2 * i + 1], '\0'};
        id[i] = (char)strtoul(pair, NULL, 16);
    }
    if (id) {
        id[len / 2] = '\0';
    }
    *out = id;
    return id ? ERR_OK : ERR_MEMORY;
}

enum err http_key_cursor_parse(const char *text, struct http_key_cursor *out) {
    uint64_t order, key;
    *out = (struct http_key_cursor){0};
    if (text[0] != HTTP_KEY_CURSOR_BEGIN) {
        return ERR_ARGUMENT;
    }
    text++;
    if (!cursor_parse_hex(&text, '-', &order) || order > UINT8_MAX ||
        !cursor_parse_hex(&text, '-', &key)) {
        return ERR_ARGUMENT;
    }
    out->order = (unsigned)order;
    out->key = (int64_t)key;
    enum err err = cursor_parse_id(text, &out->id);
    if (err == ERR_OK && !text_is_utf8(out->id, strlen(out->id))) {
        free(out->id);
        out->id = NULL;
        err = ERR_ARGUMENT;
    }
    return err;
}

uint64_t http_cursor_hash(const char *id) {
    uint64_t hash = 0xCBF29CE484222325U; /* FNV-1a */
    for (; *id != '\0'; id++) {
        hash = (hash ^ (unsigned char)*id) * 0x100000001B3U;
    }
    return hash != 0 ? hash : 1;
}
