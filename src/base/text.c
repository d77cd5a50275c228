/* Pure functions over text and bytes, and random numbers. Any thread. */
#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MQTT_STRING_LEN_MAX 65535

static bool text_is_continuation(uint8_t byte) {
    return (byte & 0xC0) == 0x80;
}

/* The length of a sequence by its lead byte, and the bounds of the second byte. They exclude
 * overlong forms, surrogates and code points above U+10FFFF (RFC 3629 section 4). */
static size_t text_utf8_lead_len(uint8_t lead, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) {
        return 2;
    }
    if (lead >= 0xE0 && lead <= 0xEF) {
        *low = lead == 0xE0 ? 0xA0 : 0x80;
        *high = lead == 0xED ? 0x9F : 0xBF;
        return 3;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        *low = lead == 0xF0 ? 0x90 : 0x80;
        *high = lead == 0xF4 ? 0x8F : 0xBF;
        return 4;
    }
    return 0;
}

size_t text_utf8_char_len(const void *data, size_t len) {
    const uint8_t *bytes = data;
    if (len == 0) {
        return 0;
    }
    if (bytes[0] < 0x80) {
        return 1;
    }
    uint8_t low;
    uint8_t high;
    size_t char_len = text_utf8_lead_len(bytes[0], &low, &high);
    if (char_len == 0 || char_len > len || bytes[1] < low || bytes[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < char_len; i++) {
        if (!text_is_continuation(bytes[i])) {
            return 0;
        }
    }
    return char_len;
}

bool text_is_utf8(const void *data, size_t len) {
    const uint8_t *bytes = data;
    for (size_t at = 0; at < len;) {
        uint64_t word;
        if (len - at >= sizeof(word)) { /* eight ASCII bytes at once: most payloads are ASCII */
            memcpy(&word, bytes + at, sizeof(word));
            if ((word & 0x8080808080808080U) == 0) {
                at += sizeof(word);
                continue;
            }
        }
        size_t char_len = text_utf8_char_len(bytes + at, len - at);
        if (char_len == 0) {
            return false;
        }
        at += char_len;
    }
    return true;
}

int text_truncated_len(const void *text, size_t len, int max) {
    const unsigned char *bytes = text;
    assert(max >= 0);
    if (len <= (size_t)max) {
        return (int)len;
    }
    while (max > 0 && (bytes[max] & 0xC0) == 0x80) {
        max--;
    }
    return max;
}

size_t text_bom_len(const void *data, size_t len) {
    static const char bom[] = "\xEF\xBB\xBF";
    return len >= sizeof(bom) - 1 && memcmp(data, bom, sizeof(bom) - 1) == 0 ? sizeof(bom) - 1 : 0;
}

bool text_is_mqtt_string(const void *data, size_t len) {
    return len <= MQTT_STRING_LEN_MAX && (len == 0 || !memchr(data, '\0', len)) &&
           text_is_utf8(data, len);
}

bool text_has_control(const void *data, size_t len) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        uint8_t next = i + 1 < len ? bytes[i + 1] : 0;
        uint8_t third = i + 2 < len ? bytes[i + 2] : 0;
        uint8_t fourth = i + 3 < len ? bytes[i + 3] : 0;
        bool c1 = bytes[i] == 0xc2 && next >= 0x80 && next <= 0x9f;
        bool fdd0 = bytes[i] == 0xef && next == 0xb7 && third >= 0x90 && third <= 0xaf;
        bool fffe = bytes[i] == 0xef && next == 0xbf && third >= 0xbe;
        bool plane_end =
            bytes[i] >= 0xf0 && (next & 0x0f) == 0x0f && third == 0xbf && fourth >= 0xbe;
        if (bytes[i] < 0x20 || bytes[i] == 0x7f || c1 || fdd0 || fffe || plane_end) {
            return true;
        }
    }
    return false;
}

char *text_base64_encode(const void *data, size_t len) {
    if (len > INT_MAX / 4 * 3 - 3) { /* the maximum for EVP_EncodeBlock */
        return NULL;
    }
    char *text = malloc((len + 2) / 3 * 4 + 1);
    if (text) {
        text[0] = '\0';
        if (len > 0) {
            EVP_EncodeBlock((unsigned char *)text, data, (int)len);
        }
    }
    return text;
}

/* The value of a base64 digit, or -1. */
static int text_base64_digit_value(char digit) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = digit != '\0' ? strchr(DIGITS, digit) : NULL;
    return found ? (int)(found - DIGITS) : -1;
}

/* EVP_DecodeBlock tolerates blanks at both ends, padding in the middle and stray bits before the
 * padding. If these were accepted, one payload would have many encodings. */
static bool text_base64_is_strict(const char *text, size_t len, size_t padding) {
    for (size_t i = 0; i < len - padding; i++) {
        if (text_base64_digit_value(text[i]) < 0) {
            return false;
        }
    }
    if (padding == 0) {
        return true;
    }
    int unused_bits = padding == 1 ? 0x03 : 0x0F;
    return (text_base64_digit_value(text[len - padding - 1]) & unused_bits) == 0;
}

enum err text_base64_decode(const char *text, size_t len, uint8_t **out, size_t *out_len) {
    *out = NULL;
    *out_len = 0;
    if (len % 4 != 0 || len > INT_MAX) {
        return ERR_ARGUMENT;
    }
    size_t padding = 0;
    if (len > 0 && text[len - 1] == '=') {
        padding = text[len - 2] == '=' ? 2 : 1;
    }
    if (!text_base64_is_strict(text, len, padding)) {
        return ERR_ARGUMENT;
    }
    uint8_t *bytes = malloc(len / 4 * 3 + 1);
    if (!bytes) {
        return ERR_MEMORY;
    }
    if (len > 0 && EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len) < 0) {
        free(bytes);
        return ERR_ARGUMENT;
    }
    *out = bytes;
    *out_len = len / 4 * 3 - padding;
    return ERR_OK;
}

/* The kernel returns up to 256 bytes at once after its pool is initialised. Without random bytes it
 * is not safe to continue. */
static void text_random_bytes(void *out, size_t len) {
    assert(len <= 256);
    ssize_t got;
    do {
        got = getrandom(out, len, 0);
    } while (got < 0 && errno == EINTR);
    if (got != (ssize_t)len) {
        abort();
    }
}

void text_random_id(char out[TEXT_ID_LEN]) {
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t bytes[(TEXT_ID_LEN - 1) / 2];
    text_random_bytes(bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        out[2 * i] = DIGITS[bytes[i] >> 4];
        out[2 * i + 1] = DIGITS[bytes[i] & 0x0F];
    }
    out[TEXT_ID_LEN - 1] = '\0';
}

/* SplitMix64 (Steele, Lea, Flood 2014), one state per thread, seeded from the kernel. */
static uint64_t text_random_next(void) {
    static _Thread_local uint64_t state;
    static _Thread_local bool seeded;
    if (!seeded) {
        text_random_bytes(&state, sizeof(state));
        seeded = true;
    }
    state += 0x9E3779B97F4A7C15U;
    uint64_t mixed = state;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9U;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBU;
    return mixed ^ (mixed >> 31);
}

int64_t text_random_between(int64_t low, int64_t high) {
    assert(low <= high);
    uint64_t span = (uint64_t)high - (uint64_t)low;
    if (span == UINT64_MAX) {
        return (int64_t)text_random_next();
    }
    /* The high word of the product; deviates from uniform by at most span / 2^64. */
    unsigned __int128 product = (unsigned __int128)text_random_next() * (span + 1);
    return (int64_t)((uint64_t)low + (uint64_t)(product >> 64));
}

static char text_ascii_lower(char letter) {
    return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

bool text_wildcard_match(const char *pattern, const char *name) {
    /* Backtracking to the last star is enough: it can match whatever an earlier star could. */
    const char *after_star = NULL;
    const char *star_name = NULL;
    while (*name != '\0') {
        if (*pattern == '*') {
            after_star = ++pattern;
            star_name = name;
        } else if (text_ascii_lower(*pattern) == text_ascii_lower(*name)) {
            pattern++;
            name++;
        } else if (after_star) {
            pattern = after_star;
            name = ++star_name;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

/* Row by row. */
size_t text_distance(const char *left, const char *right) {
    size_t rows[3][TEXT_DISTANCE_LEN + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    size_t left_len = strnlen(left, TEXT_DISTANCE_LEN);
    size_t right_len = strnlen(right, TEXT_DISTANCE_LEN);
    for (size_t j = 0; j <= right_len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= left_len; i++) {
        size_t *spare = before;
        before = above;
        above = row;
        row = spare;
        row[0] = i;
        for (size_t j = 1; j <= right_len; j++) {
            bool swapped = i > 1 && j > 1 &&
                           text_ascii_lower(left[i - 1]) == text_ascii_lower(right[j - 2]) &&
                           text_ascii_lower(left[i - 2]) == text_ascii_lower(right[j - 1]);
            size_t best = above[j - 1] +
                          (text_ascii_lower(left[i - 1]) == text_ascii_lower(right[j - 1]) ? 0 : 1);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = swapped && before[j - 2] + 1 < best ? before[j - 2] + 1 : best;
        }
    }
    return row[right_len];
}

uint64_t text_hash(const char *text, size_t most) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < most && text[i] != '\0'; i++) {
        hash = (hash ^ (uint8_t)text[i]) * 1099511628211u;
    }
    return hash;
}

char *text_copy(const void *data, size_t len) {
    char *copy = malloc(len + 1);
    if (!copy) {
        return NULL;
    }
    if (len > 0) {
        memcpy(copy, data, len);
    }
    copy[len] = '\0';
    return copy;
}

char *text_dup(const char *text) {
    return text ? text_copy(text, strlen(text)) : NULL;
}
