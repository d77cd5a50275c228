/* Owns nothing: decides from a request's headers whether it is handled at all, and notes who
 * changed what. MHD threads. Must not know what a route does. */
#include "admission.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/log.h"
#include "base/metrics.h"
#include "http/problem.h"
#include "http/routes.h"

static const char *header(struct MHD_Connection *connection, const char *name) {
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static const struct sockaddr *address_of(struct MHD_Connection *connection) {
    static const struct sockaddr unknown = {.sa_family = AF_UNSPEC};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info != NULL && info->client_addr != NULL ? info->client_addr : &unknown;
}

static void address_text(const struct sockaddr *address, char out[INET6_ADDRSTRLEN]) {
    const void *bytes =
        address->sa_family == AF_INET
            ? (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr
            : (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    bool known = address->sa_family == AF_INET || address->sa_family == AF_INET6;
    if (!known || inet_ntop(address->sa_family, bytes, out, INET6_ADDRSTRLEN) == NULL) {
        snprintf(out, INET6_ADDRSTRLEN, "unknown");
    }
}

/* Never the body, nor the query: they may hold secrets. Strangers leave no line: each of them could
 * fill the log. */
void admission_audit(const struct http_request *request, int status) {
    const char *subject = request->subject[0] != '\0' ? request->subject : request->parameter;
    if (request->route == NULL || (request->route->flags & ROUTE_OPERATOR) == 0 ||
        request->caller.role == ROLE_NONE) {
        return;
    }
    log_event(LOG_AUDIT, "audit", KS("caller", request->caller.name),
              KS("role", role_name(request->caller.role)),
              KS("via", request->caller.node ? "node" : NULL), KS("address", request->address),
              KS("method", request->method), KS("path", request->route->pattern),
              KS("subject", subject != NULL ? subject : http_query_get(&request->query, "id")),
              KI("status", status));
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* The page's origin, when it may use the API. */
static const char *listed_origin(const struct http_server *server,
                                 struct MHD_Connection *connection) {
    const struct access *access = server->api.context.access;
    const char *origin = header(connection, "Origin");
    return origin != NULL && access != NULL && access_origin_listed(access, origin) ? origin : NULL;
}

void admission_mark(const struct http_server *server, struct MHD_Connection *connection,
                    struct MHD_Response *answer) {
    const char *origin = listed_origin(server, connection);
    if (origin != NULL) {
        MHD_add_response_header(answer, "Access-Control-Allow-Origin", origin);
        MHD_add_response_header(answer, "Access-Control-Expose-Headers",
                                "ETag, Location, Retry-After, X-Request-Id");
        MHD_add_response_header(answer, "Vary", "Origin");
    }
}

/* A request at the door. */
struct visit {
    const struct http_server *server;
    struct MHD_Connection *connection;
    struct http_request *request;
    struct http_response *response;
};

/* By the browser's Fetch metadata: an image or a link of another page has no Origin. */
static bool is_sent_from_elsewhere(const struct visit *visit) {
    const char *site = header(visit->connection, "Sec-Fetch-Site");
    return site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0;
}

/* A browser names the page that sends a request; one of another site must not drive an API that
 * only its address protects. */
static bool is_foreign(const struct visit *visit) {
    const char *origin = header(visit->connection, "Origin");
    const char *host = header(visit->connection, "Host");
    const char *authority = origin != NULL ? strstr(origin, "://") : NULL;
    bool other = origin != NULL &&
                 (authority == NULL || host == NULL || strcasecmp(authority + 3, host) != 0);
    return (other || is_sent_from_elsewhere(visit)) &&
           listed_origin(visit->server, visit->connection) == NULL;
}

static void check_page(const struct visit *visit) {
    const struct access *access = visit->server->api.context.access;
    if (is_foreign(visit)) {
        http_problem(visit->response, PROBLEM_ORIGIN,
                     "the Origin must be the Host, or be listed in http.cors_origins");
    } else if (access != NULL && !access_host_allowed(access, header(visit->connection, "Host"))) {
        http_problem(
            visit->response, PROBLEM_ORIGIN,
            "without http.tokens_file the Host must be an address, or a name without a dot, as "
            "localhost");
    }
}

/* What a browser asks before it lets a page of a listed origin send its request (Fetch standard,
 * "CORS-preflight request"). It never carries a token. */
static bool is_preflight(const struct visit *visit) {
    return strcmp(visit->request->method, "OPTIONS") == 0 &&
           listed_origin(visit->server, visit->connection) != NULL &&
           header(visit->connection, "Access-Control-Request-Method") != NULL;
}

static void answer_preflight(const struct visit *visit) {
    visit->request->route = NULL;
    http_answer_empty(visit->response, 204);
    http_answer_header(visit->response, "Access-Control-Allow-Methods",
                       "GET, HEAD, POST, PUT, DELETE");
    http_answer_header(visit->response, "Access-Control-Allow-Headers",
                       "Authorization, Content-Type, If-Match, X-Request-Id");
    http_answer_header(visit->response, "Access-Control-Max-Age", "600");
}

/* ---- who asks -------------------------------------------------------------------------------- */

static enum role role_needed(const struct visit *visit) {
    unsigned flags = visit->request->route != NULL ? visit->request->route->flags : 0;
    if ((flags & ROUTE_ADMIN) != 0) {
        return ROLE_ADMIN;
    }
    return (flags & (ROUTE_OPERATOR | ROUTE_CONTENTS)) != 0 ? ROLE_OPERATOR : ROLE_VIEWER;
}

static void refuse_unknown(const struct visit *visit, const char *detail, bool wrong) {
    http_problem(visit->response, PROBLEM_UNAUTHORIZED, "%s", detail);
    http_answer_header(visit->response, "WWW-Authenticate", "Bearer realm=\"mqfleet\"%s",
                       wrong ? ", error=\"invalid_token\"" : "");
    if (wrong) { /* few: the address is told to wait soon */
        log_event(LOG_WARN, "wrong_token", KS("request", visit->request->id),
                  KS("address", visit->request->address));
    }
}

static void refuse_access(const struct visit *visit, enum access_result result, int64_t wait_ms) {
    const struct caller *caller = &visit->request->caller;
    switch (result) {
    case ACCESS_GRANTED:
        break;
    case ACCESS_NO_TOKEN:
        refuse_unknown(visit, "send Authorization: Bearer and a token of http.tokens_file", false);
        break;
    case ACCESS_WRONG_TOKEN:
        refuse_unknown(visit, "the token is not in http.tokens_file", true);
        break;
    case ACCESS_TOO_MANY:
        http_problem(visit->response, PROBLEM_RATE,
                     "the token is not in http.tokens_file, like those before it");
        http_answer_header(visit->response, "Retry-After", "%lld", (long long)(wait_ms / 1000 + 1));
        break;
    case ACCESS_ROLE:
        http_problem(visit->response, PROBLEM_FORBIDDEN, "%s has the role %s; this needs %s",
                     caller->name, role_name(caller->role), role_name(role_needed(visit)));
        break;
    case ACCESS_NODE_ONLY:
        http_problem(visit->response, PROBLEM_FORBIDDEN,
                     "only other nodes may do this, with the secret of fleet.secret_file");
        break;
    }
}

/* Whoever has not shown who he is learns nothing, not even which paths there are. */
static void check_caller(const struct visit *visit) {
    struct http_request *request = visit->request;
    struct access *access = visit->server->api.context.access;
    unsigned flags = visit->request->route != NULL ? visit->request->route->flags : 0;
    bool forwarded = header(visit->connection, PEERS_FORWARDED_HEADER) != NULL;
    const char *caller = header(visit->connection, PEERS_CALLER_HEADER);
    int64_t wait_ms;
    if (access == NULL || (flags & ROUTE_PUBLIC) != 0) {
        request->forwarded = forwarded && access == NULL;
        return;
    }
    struct access_attempt attempt = {
        .needed = role_needed(visit),
        .node_only = (flags & ROUTE_FLEET) != 0,
        .authorization = header(visit->connection, "Authorization"),
        .forwarded_for = forwarded ? (caller != NULL ? caller : "") : NULL,
        .address = address_of(visit->connection),
    };
    enum access_result result = access_check(access, &attempt, &request->caller, &wait_ms);
    request->forwarded = forwarded && request->caller.node;
    if (result != ACCESS_GRANTED) {
        metric_add(METRIC_HTTP_DENIED, 1);
        refuse_access(visit, result, wait_ms);
    }
}

/* Another node's request may come to the wrong place: two nodes that tell the same host and port.
 */
static void check_meant(const struct visit *visit) {
    const char *meant = header(visit->connection, PEERS_MEANT_HEADER);
    struct node *node = visit->server->api.context.node;
    char incarnation[TEXT_ID_LEN];
    if (meant == NULL) {
        return;
    }
    node_incarnation(node, incarnation);
    if (strcmp(meant, incarnation) != 0) {
        http_problem(visit->response, PROBLEM_MISDIRECTED,
                     "this is node %s, and not the incarnation that is meant", node_name(node));
    }
}

void admission_check(const struct http_server *server, struct MHD_Connection *connection,
                     struct http_request *request, struct http_response *response) {
    const struct visit visit = {server, connection, request, response};
    address_text(address_of(connection), request->address);
    if (is_preflight(&visit)) {
        answer_preflight(&visit);
        return;
    }
    check_caller(&visit);
    if (response->status == 0) {
        check_meant(&visit);
    }
    if (response->status == 0) {
        check_page(&visit);
    }
}
