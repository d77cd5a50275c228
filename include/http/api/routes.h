/* Which handler answers which method and path: one table. Pure; any thread. */
#ifndef MQFLEET_API_ROUTES_H
#define MQFLEET_API_ROUTES_H

#include <stddef.h>
#include "http/server/request.h"
#include "http/server/response.h"

typedef void http_handler(struct http_request *request, struct http_response *response);

enum {
    ROUTE_INLINE = 1, /* answered on the MHD thread: must not block at all */
    ROUTE_QUICK = 2,  /* the handler does not block: it runs on the MHD thread if the body is small,
                       * and leaves the rest to a wait or to `later` */
    ROUTE_MAY_WAIT = 4, /* the query may have wait_ms, which is in the request then */
    ROUTE_FLEET = 8,    /* from node to node */
    /* Who may call; without any of these whoever has a token. */
    ROUTE_PUBLIC = 16,   /* everyone: shows nothing but that there is a node */
    ROUTE_OPERATOR = 32, /* changes clients or nodes; noted in the log */
    ROUTE_ADMIN = 64,
    ROUTE_CONTENTS = 128, /* shows what clients receive: for operators, but changes nothing */
    ROUTE_OPS = 256       /* on the listener at ops.port, if there is one */
};

struct http_route {
    const char *method;
    const char *pattern; /* segments; a segment "{name}" takes any one, at most one per pattern */
    http_handler *handler;
    unsigned flags;
    const char *query; /* parameters that mean something, a blank between two, "x.*" for all that
                        * begin so; NULL: others are left alone */
};

#define HTTP_ALLOW_LEN 64

enum http_route_result { HTTP_ROUTE_FOUND, HTTP_ROUTE_NO_PATH, HTTP_ROUTE_NO_METHOD };

/* path: as sent. HEAD is answered by GET. Found: *parameter points into path, raw, and its length
 * (NULL: the pattern has none). No method: `allow` lists those there are. */
enum http_route_result http_route_find(const char *method, const char *path,
                                       const struct http_route **route, const char **parameter,
                                       size_t *parameter_len, char allow[HTTP_ALLOW_LEN]);

/* The first parameter that means nothing to the route; NULL: none. Borrowed. */
const char *http_route_unknown_parameter(const struct http_route *route,
                                         const struct http_query *query);

/* The whole table, for documents and tests. */
const struct http_route *http_routes(size_t *count);

#endif
