/* Where a list goes on: opaque to callers, safe in a URL. Pure; any thread. */
#ifndef MQFLEET_API_CURSOR_H
#define MQFLEET_API_CURSOR_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

#define HTTP_CURSOR_LEN 64

enum http_cursor_phase { CURSOR_OWNED, CURSOR_WAITING, CURSOR_END };

/* The rows of one page of HSCAN are taken in the order of their ids' hashes, so that a page can be
 * left in its middle and entered again although HSCAN has no such order. */
struct http_cursor {
    enum http_cursor_phase phase;
    uint64_t scan;  /* of the page to read */
    uint64_t after; /* rows of that page with a hash up to this one were given; 0: none */
};

void http_cursor_format(const struct http_cursor *cursor, char out[HTTP_CURSOR_LEN]);
enum err http_cursor_parse(const char *text, struct http_cursor *out) MUST_CHECK;
/* Never 0. */
uint64_t http_cursor_hash(const char *id);

#endif
