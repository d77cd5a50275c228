/* Routes in request bodies. The handler threads. */
#ifndef MQFLEET_SINKS_API_ROUTES_H
#define MQFLEET_SINKS_API_ROUTES_H

#include <jansson.h>
#include "http/server/request.h"
#include "http/server/response.h"
#include "message/routes/route_table.h"

/* The compiled list of a body {"routes": [...]}; the caller releases it. NULL: answered with all
 * faults. */
struct route_table *api_routes_compile(const struct http_request *request, const json_t *body,
                                       struct http_response *response);

#endif
