/* The position at which a list continues. It is opaque to callers and safe in a URL. Pure
 * functions; any thread. */
#ifndef MQFLEET_API_CURSOR_H
#define MQFLEET_API_CURSOR_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

#define HTTP_CURSOR_LEN 64

enum http_cursor_phase { CURSOR_OWNED, CURSOR_WAITING, CURSOR_END };

/* HSCAN has no stable order. The rows of one of its pages are therefore sorted by the hashes of
 * their ids, so a list can continue in the middle of a page. */
struct http_cursor {
    enum http_cursor_phase phase;
    uint64_t scan;  /* HSCAN cursor of the page */
    uint64_t after; /* rows of the page up to this hash are done; 0: none */
};

void http_cursor_format(const struct http_cursor *cursor, char out[HTTP_CURSOR_LEN]);
enum err http_cursor_parse(const char *text, struct http_cursor *out) MUST_CHECK;
#define HTTP_KEY_CURSOR_BEGIN 'k' /* no other cursor begins so */

/* A position in a sorted list: behind the client with this sort key and id. */
struct http_key_cursor {
    unsigned order; /* below 256 */
    int64_t key;
    char *id; /* owned */
};
/* The caller frees the text. NULL: out of memory. */
char *http_key_cursor_format(const struct http_key_cursor *cursor);
/* ERR_ARGUMENT, ERR_MEMORY. */
enum err http_key_cursor_parse(const char *text, struct http_key_cursor *out) MUST_CHECK;
/* Never 0. */
uint64_t http_cursor_hash(const char *id);

#endif
