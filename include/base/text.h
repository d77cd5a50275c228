/* Text and bytes: UTF-8 by the MQTT rules, base64, random identifiers, wildcards. Pure functions;
 * any thread. */
#ifndef MQFLEET_BASE_TEXT_H
#define MQFLEET_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define TEXT_ID_LEN 33 /* 32 hexadecimal digits and the NUL */

/* Well-formed UTF-8 (RFC 3629: no surrogates, nothing over U+10FFFF, no overlong form). */
bool text_is_utf8(const void *data, size_t len);
/* The length (1 to 4 bytes) of the well-formed character at the beginning of data; 0: none. */
size_t text_utf8_char_len(const void *data, size_t len);
/* The number of bytes of well-formed UTF-8 that fit into max without cutting a character. */
int text_truncated_len(const void *text, size_t len, int max);
/* The length of a byte order mark at the beginning: 3, or 0 for none. */
size_t text_bom_len(const void *data, size_t len);
/* A UTF-8 encoded string by MQTT 5.0 section 1.5.4: well-formed, no U+0000, at most 65,535 bytes.
 */
bool text_is_mqtt_string(const void *data, size_t len);

/* True for text with a control character (U+0000 to U+001F, U+007F to U+009F) or a non-character
 * (U+FFFE ...). MQTT 5.0 section 1.5.4 allows a receiver to close the connection on them. Expects
 * well-formed UTF-8. */
bool text_has_control(const void *data, size_t len);

/* base64 of RFC 4648 section 4. Encode: a new NUL-terminated string, NULL when out of memory.
 * Decode: a new block (never NULL on ERR_OK) of *out_len bytes; ERR_ARGUMENT for anything else. */
char *text_base64_encode(const void *data, size_t len);
enum err text_base64_decode(const char *text, size_t len, uint8_t **out,
                            size_t *out_len) MUST_CHECK;

/* 128 random bits from the kernel, as hexadecimal digits. */
void text_random_id(char out[TEXT_ID_LEN]);
/* Uniform in [low, high]; not for secrets. Any thread. */
int64_t text_random_between(int64_t low, int64_t high);

/* Shell-like match of name against pattern. * matches any run of characters; ASCII case is
 * ignored. */
bool text_wildcard_match(const char *pattern, const char *name);

/* Levenshtein distance of the first TEXT_DISTANCE_LEN bytes of each; ASCII case is ignored. */
#define TEXT_DISTANCE_LEN 127
size_t text_distance(const char *left, const char *right);

/* FNV-1a of at most the first `most` bytes. Not collision resistant. */
uint64_t text_hash(const char *text, size_t most);

/* Copies len bytes into a new NUL-terminated string; NULL when out of memory. */
char *text_copy(const void *data, size_t len);
/* Like strdup; NULL stays NULL. */
char *text_dup(const char *text);

#endif
