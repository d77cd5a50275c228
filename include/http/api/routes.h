/* The table of routes: method, path, handler. Pure functions; any thread. */
#ifndef MQFLEET_API_ROUTES_H
#define MQFLEET_API_ROUTES_H

#include <stddef.h>
#include "http/server/request.h"
#include "http/server/response.h"

typedef void http_handler(struct http_request *request, struct http_response *response);

enum {
    ROUTE_INLINE = 1, /* answered on the MHD thread; must never block */
    ROUTE_QUICK = 2,  /* the handler does not block: it runs on the MHD thread if the body is small,
                       * and leaves the rest to a wait or to `later` */
    ROUTE_MAY_WAIT = 4, /* the query may have wait_ms, see request->wait_ms */
    ROUTE_FLEET = 8,    /* from node to node */
    /* Who may call. With none of these flags: any caller with a token. */
    ROUTE_PUBLIC = 16,   /* public: shows only that there is a node */
    ROUTE_OPERATOR = 32, /* changes clients or nodes; written to the audit log */
    ROUTE_ADMIN = 64,
    ROUTE_CONTENTS = 128, /* shows messages of clients: for operators; changes nothing */
    ROUTE_OPS = 256,      /* on the listener at ops.port, if there is one */
    ROUTE_SELECTOR = 512, /* the query has a selector: select_query_parse checks the parameters */
    ROUTE_LINKED = 1024   /* a page of another site may link to it */
};

/* What a token with a scope (http/auth/scope.h) gets. Each row of the table needs one: a row
 * without does not compile, and SCOPE_UNDECIDED is refused. */
enum route_scope {
    SCOPE_UNDECIDED,
    SCOPE_REFUSED,  /* 403: about the whole fleet, or only between nodes */
    SCOPE_CLIENT,   /* {id} is a client: 404 unless it is in the scope (scope_gate.h) */
    SCOPE_FILTERED, /* the handler shows and changes only what is in request->caller.scope */
    SCOPE_EVERYONE  /* the answer has nothing about clients, nodes or sinks */
};

struct http_route {
    const char *method;
    const char *pattern; /* segments; "{name}" matches any one segment, at most once per
                            pattern; "{name}:verb" one with this end */
    http_handler *handler;
    unsigned flags;
    const char *query; /* the accepted parameters, separated by blanks; "x.*" accepts all with this
                          prefix; NULL: parameters are not checked */
    enum route_scope scope;
};

#define HTTP_ALLOW_LEN 64

enum http_route_result { HTTP_ROUTE_FOUND, HTTP_ROUTE_NO_PATH, HTTP_ROUTE_NO_METHOD };

/* path: as sent. GET also answers HEAD. Found: *parameter points into path, not decoded (NULL: the
 * pattern has none). No method: `allow` lists the methods of the path. */
enum http_route_result http_route_find(const char *method, const char *path,
                                       const struct http_route **route, const char **parameter,
                                       size_t *parameter_len, char allow[HTTP_ALLOW_LEN]);

/* Whether the parameter is in the table; the route must have one. */
bool http_route_knows_parameter(const struct http_route *route, const char *name);
/* The first query parameter that the route does not know; NULL: none, or it is not checked here.
 * Borrowed. */
const char *http_route_unknown_parameter(const struct http_route *route,
                                         const struct http_query *query);
/* The same for the first that is given twice: only one of its values would count. */
const char *http_route_repeated_parameter(const struct http_route *route,
                                          const struct http_query *query);

/* The whole table, for documents and tests. */
const struct http_route *http_routes(size_t *count);

#endif
