/* Percent-encoding (RFC 3986 section 2.1). Pure functions; any thread. */
#ifndef MQFLEET_BASE_PERCENT_H
#define MQFLEET_BASE_PERCENT_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

/* plus: "+" means a space, as in queries. ERR_ARGUMENT: an invalid escape, U+0000, or invalid
 * UTF-8. *out is new and NUL-terminated. */
enum err percent_decode(const char *text, size_t len, bool plus, char **out) MUST_CHECK;
/* Escapes all characters that are not unreserved. NULL: out of memory. free(). */
char *percent_encode(const char *text);

#endif
