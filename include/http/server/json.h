/* JSON between HTTP and jansson: bodies in, foreign text out. Pure; any thread. */
#ifndef MQFLEET_SERVER_JSON_H
#define MQFLEET_SERVER_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "mqtt/config/client_config.h"

#define HTTP_JSON_DEPTH_MAX  64
#define HTTP_JSON_VALUES_MAX 2000000 /* a few bytes of text can cost a hundred of memory */
#define HTTP_JSON_DETAIL_LEN 256

/* Parses a body (RFC 8259). Strings may hold U+0000 (see json_string_length). Where a string is not
 * well-formed UTF-8, or has half a surrogate pair, the body is parsed with a mark in its place and
 * *repaired is set, so that http_json_text_faults can say which field it was.
 * ERR_ARGUMENT: no JSON, a field twice, or nested too deeply: `detail` says what, with line and
 * column. ERR_FULL: more than HTTP_JSON_VALUES_MAX values. ERR_MEMORY. Caller: json_decref. */
enum err http_json_parse(const char *data, size_t len, json_t **out, bool *repaired,
                         char detail[HTTP_JSON_DETAIL_LEN]) MUST_CHECK;

/* Adds a fault for every string under `json` that holds U+0000 or, in a repaired body, a mark, and
 * has no fault yet. */
void http_json_text_faults(const json_t *json, bool repaired, struct client_faults *faults);

/* Adds one fault; beyond CLIENT_FAULTS_MAX none. The pointer is cut when too long. */
void http_fault_add(struct client_faults *faults, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* [{"pointer","detail"}]; prefix ("" for none) is put before each pointer. NULL: out of memory. */
json_t *http_faults_json(const struct client_faults *faults, const char *prefix);

/* A string of bytes that may not be UTF-8: what is not becomes U+FFFD. NULL text: null. */
json_t *http_json_string(const char *text);
json_t *http_json_stringn(const char *text, size_t len);
/* RFC 3339, or null for 0. */
json_t *http_json_time(int64_t wall_ms);

#endif
