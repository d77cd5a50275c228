/* Parses JSON bodies, and makes JSON strings of any bytes. Pure functions; any thread. */
#ifndef MQFLEET_SERVER_JSON_H
#define MQFLEET_SERVER_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "mqtt/config/client_config.h"

#define HTTP_JSON_DEPTH_MAX  64
#define HTTP_JSON_VALUES_MAX 2000000 /* a short value can take a hundred bytes of memory */
#define HTTP_JSON_DETAIL_LEN 256

/* Parses a body (RFC 8259). Strings may contain U+0000 (see json_string_length). If a string
 * contains invalid UTF-8 or half of a surrogate pair, a mark replaces it and *repaired is set;
 * http_json_text_faults then names the field. ERR_ARGUMENT: invalid JSON, a duplicate field, or too
 * deep nesting; `detail` describes the error, with line and column. ERR_FULL: more than
 * HTTP_JSON_VALUES_MAX values. ERR_MEMORY. Caller: json_decref. */
enum err http_json_parse(const char *data, size_t len, json_t **out, bool *repaired,
                         char detail[HTTP_JSON_DETAIL_LEN]) MUST_CHECK;

/* Adds a fault for each string in `json` that contains U+0000 or, in a repaired body, a mark,
 * unless the string already has a fault. */
void http_json_text_faults(const json_t *json, bool repaired, struct client_faults *faults);

/* Adds a fault, unless there are CLIENT_FAULTS_MAX already. A long pointer is truncated. */
void http_fault_add(struct client_faults *faults, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define HTTP_FAULTS_MAX 4000 /* of all documents in one answer; of further ones only the first */

/* [{"pointer","detail"}]; each pointer begins with the prefix. left: how many the answer may still
 * have, reduced; with less, only the first fault; NULL: all. NULL: out of memory. */
json_t *http_faults_json(const struct client_faults *faults, const char *prefix, size_t *left);

/* A JSON string; bytes that are not UTF-8 become U+FFFD. text NULL: null. */
json_t *http_json_string(const char *text);
json_t *http_json_stringn(const char *text, size_t len);
/* A time as in RFC 3339; 0: null. */
json_t *http_json_time(int64_t wall_ms);

#endif
