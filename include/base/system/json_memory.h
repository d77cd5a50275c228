/* jansson from text and to text, when memory may run out. Any thread. */
#ifndef MQFLEET_SYSTEM_JSON_MEMORY_H
#define MQFLEET_SYSTEM_JSON_MEMORY_H

#include <jansson.h>
#include <stddef.h>
#include "base/err.h"

/* As json_loadb. ERR_ARGUMENT: *error (NULL: not wanted) says what is wrong with the text.
 * ERR_MEMORY: nothing is known of the text. *out is NULL then; else json_decref is the caller's. */
enum err json_parse(json_t **out, const char *data, size_t len, size_t flags,
                    json_error_t *error) MUST_CHECK;

/* The same, of what needs no explanation. NULL: ERR_ARGUMENT, ERR_MEMORY. */
json_t *json_from_text(const char *data, size_t len, size_t flags);

/* As json_dumps: NULL when memory ran out (or the value cannot be written), never a text with a
 * hole. Caller: free. */
char *json_to_text(const json_t *json, size_t flags);
/* As json_deep_copy: NULL when memory ran out, never a copy that lacks something. */
json_t *json_whole_copy(const json_t *json);

#endif
