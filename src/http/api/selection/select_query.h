/* Selectors in a request, and errors about them. Handler threads. */
#ifndef MQFLEET_SELECTION_SELECT_QUERY_H
#define MQFLEET_SELECTION_SELECT_QUERY_H

#include "http/api/selection/selection.h"
#include "http/server/request.h"
#include "http/server/response.h"

/* The selector among the parameters of the request, and the scope of the caller. All other
 * parameters must be in the table of the route (its flag ROUTE_SELECTOR), and none may be repeated.
 * False: answered, with 422 if the query is at fault. *out: selection_query_fini, in any case. */
bool select_query_parse(const struct http_request *request, struct http_response *response,
                        struct selection_query *out);
/* The query that another node sends as the body. False: answered. *out: as above. */
bool select_query_read(struct http_request *request, struct http_response *response,
                       struct selection_query *out);
/* The scope as a selector. *out NULL: the whole fleet. ERR_MEMORY. */
enum err select_query_scope(const struct scope *scope, struct client_selector **out) MUST_CHECK;

#endif
