/* JSON parsing, writing and copying with jansson that is safe when memory runs out. Any thread. */
#ifndef MQFLEET_SYSTEM_JSON_MEMORY_H
#define MQFLEET_SYSTEM_JSON_MEMORY_H

#include <jansson.h>
#include <stddef.h>
#include "base/err.h"

/* As json_loadb. ERR_ARGUMENT: *error (may be NULL) describes the error in the text. ERR_MEMORY:
 * out of memory; the text may be valid. *out is NULL on an error, otherwise the caller calls
 * json_decref. */
enum err json_parse(json_t **out, const char *data, size_t len, size_t flags,
                    json_error_t *error) MUST_CHECK;

/* The same without a description. NULL: ERR_ARGUMENT or ERR_MEMORY. */
json_t *json_from_text(const char *data, size_t len, size_t flags);

/* As json_dumps. NULL when memory runs out or the value cannot be written; the text is never
 * incomplete. The caller frees it. */
char *json_to_text(const json_t *json, size_t flags);
/* As json_deep_copy. NULL when memory runs out; the copy is never incomplete. */
json_t *json_whole_copy(const json_t *json);

/* Applies a JSON merge patch (RFC 7396) to an object: null removes a member, an object is merged,
 * anything else replaces. patch: an object, not deeper than a parsed body. ERR_MEMORY: target may
 * be partly patched. */
enum err json_merge_patch(json_t *target, const json_t *patch) MUST_CHECK;

#endif
