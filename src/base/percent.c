/* No state. */
#include "base/percent.h"

#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/text.h"

static int percent_hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Decodes the byte at text[*at] and moves past it; -1: an invalid escape, or U+0000. */
static int percent_decode_next_byte(const char *text, size_t len, bool plus, size_t *at) {
    char byte = text[(*at)++];
    if (byte == '+' && plus) {
        return ' ';
    }
    if (byte != '%') {
        return byte != '\0' ? (unsigned char)byte : -1;
    }
    if (*at + 2 > len) {
        return -1;
    }
    int high = percent_hex_digit(text[*at]);
    int low = percent_hex_digit(text[*at + 1]);
    *at += 2;
    return high >= 0 && low >= 0 && high + low > 0 ? high * 16 + low : -1;
}

enum err percent_decode(const char *text, size_t len, bool plus, char **out) {
    *out = NULL;
    char *decoded = malloc(len + 1);
    if (!decoded) {
        return ERR_MEMORY;
    }
    size_t decoded_len = 0;
    for (size_t at = 0; at < len;) {
        int byte = percent_decode_next_byte(text, len, plus, &at);
        if (byte < 0) {
            free(decoded);
            return ERR_ARGUMENT;
        }
        decoded[decoded_len++] = (char)byte;
    }
    decoded[decoded_len] = '\0';
    if (!text_is_utf8(decoded, decoded_len)) {
        free(decoded);
        return ERR_ARGUMENT;
    }
    *out = decoded;
    return ERR_OK;
}

static bool percent_is_unreserved(char byte) { /* RFC 3986 section 2.3 */
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || (byte != '\0' && strchr("-._~", byte));
}

char *percent_encode(const char *text) {
    struct buffer out;
    buffer_init(&out);
    buffer_append(&out, "", 0);
    for (; *text != '\0'; text++) {
        if (percent_is_unreserved(*text)) {
            buffer_append(&out, text, 1);
        } else {
            buffer_printf(&out, "%%%02X", (unsigned char)*text);
        }
    }
    return buffer_take(&out);
}
