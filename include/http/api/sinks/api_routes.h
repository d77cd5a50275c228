/* Routes in request bodies. The handler threads. */
#ifndef MQFLEET_SINKS_API_ROUTES_H
#define MQFLEET_SINKS_API_ROUTES_H

#include <jansson.h>
#include "http/api/api.h"
#include "http/server/request.h"
#include "http/server/response.h"
#include "message/routes/route_table.h"

/* A sink that a route names: /ROUTE/FIELD/INDEX. */
struct api_routes_use {
    const char *sink, *field;
    size_t route, index;
};

/* Calls visit for each sink that the routes of a list name. */
void api_routes_each_use(const json_t *list,
                         void (*visit)(void *context, const struct api_routes_use *use),
                         void *context);
/* Adds a fault for each that this node does not know. list: valid, the value of /routes. */
void api_routes_check_sinks(const struct http_api *api, const json_t *list,
                            struct client_faults *faults);

/* The compiled list of a body {"routes": [...]}; the caller releases it. NULL: answered with all
 * faults. */
struct route_table *api_routes_compile(const struct http_request *request, const json_t *body,
                                       struct http_response *response);

#endif
