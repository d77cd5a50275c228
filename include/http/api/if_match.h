/* If-Match: the version of a stored document that a request expects. Any thread. */
#ifndef MQFLEET_API_IF_MATCH_H
#define MQFLEET_API_IF_MATCH_H

#include <stdbool.h>
#include <stdint.h>
#include "http/server/request.h"
#include "http/server/response.h"

/* Reads the expected version; 0: any. what: "sink", for the error. False: answered with 400. */
bool if_match_read(const struct http_request *request, const char *what, int64_t *version,
                   struct http_response *response);
/* The same for a document of which the fleet has only one: 0 means that it was never set, and
 * STORE_VERSION_ANY any version. */
bool if_match_read_single(const struct http_request *request, const char *what, int64_t *version,
                          struct http_response *response);
/* Answers with 412: the document that the path names has another version. */
void if_match_answer_changed(const struct http_request *request, const char *what,
                             struct http_response *response);

#endif
