/* Cursors of lists as text. Pure functions; any thread. */
#include "http/api/cursor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const cursor_phase_names[] = {[CURSOR_OWNED] = "o", [CURSOR_WAITING] = "w"};

void http_cursor_format(const struct http_cursor *cursor, char out[HTTP_CURSOR_LEN]) {
    snprintf(out, HTTP_CURSOR_LEN, "%s-%" PRIx64 "-%" PRIx64, cursor_phase_names[cursor->phase],
             cursor->scan, cursor->after);
}

/* Hexadecimal digits as written above, then `end`; moves past both. */
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

uint64_t http_cursor_hash(const char *id) {
    uint64_t hash = 0xCBF29CE484222325U; /* FNV-1a */
    for (; *id != '\0'; id++) {
        hash = (hash ^ (unsigned char)*id) * 0x100000001B3U;
    }
    return hash != 0 ? hash : 1;
}
