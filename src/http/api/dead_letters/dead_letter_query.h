/* The query of a request for dead letters: which ones, and where to continue. Handler threads. */
#ifndef MQFLEET_API_DEAD_LETTER_QUERY_H
#define MQFLEET_API_DEAD_LETTER_QUERY_H

#include <jansson.h>
#include <stdbool.h>
#include "http/server/request.h"
#include "http/server/response.h"
#include "store/dead_letters.h"

struct dead_letter_query {
    struct dead_letters_selector selector; /* borrows from the request */
    char after[DEAD_LETTER_ID_LEN];
    bool dry_run;
};

/* False: answered. changes: the request changes dead letters, so it must select some, or all=true.
 */
bool dead_letter_query_parse(const struct http_request *request, bool changes,
                             struct dead_letter_query *out, struct http_response *response);

/* Takes over where to continue after a page. What is stored after the first page of the first
 * request is not looked at, so that a message that is rejected again comes up once. */
void dead_letter_query_advance(struct dead_letter_query *query,
                               const struct dead_letters_page *page);
bool dead_letter_query_is_over(const struct dead_letter_query *query);
/* next_cursor: null at the end. */
/* What the caller may know of the length of the stream: with a scope, only what this request has
 * matched. */
int64_t dead_letter_query_total(const struct dead_letter_query *query, int64_t total,
                                int64_t matched);
json_t *dead_letter_query_cursor(const struct dead_letter_query *query);

#endif
