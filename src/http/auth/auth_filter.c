/* Decides from the headers of a request whether it is handled, and writes the audit log. No state;
 * MHD threads. */
#include "auth_filter.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "http/server/problem.h"
#include "http/api/routes.h"

static const char *auth_filter_header(struct MHD_Connection *connection, const char *name) {
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static const struct sockaddr *auth_filter_peer_address(struct MHD_Connection *connection) {
    static const struct sockaddr unknown = {.sa_family = AF_UNSPEC};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info && info->client_addr ? info->client_addr : &unknown;
}

static void auth_filter_address_text(const struct sockaddr *address, char out[INET6_ADDRSTRLEN]) {
    const void *bytes =
        address->sa_family == AF_INET
            ? (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr
            : (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    bool known = address->sa_family == AF_INET || address->sa_family == AF_INET6;
    if (!known || !inet_ntop(address->sa_family, bytes, out, INET6_ADDRSTRLEN)) {
        snprintf(out, INET6_ADDRSTRLEN, "unknown");
    }
}

/* Logs neither body nor query, because they may contain secrets. Unauthenticated callers are not
 * logged, because they could fill the log. */
void auth_filter_audit(const struct http_request *request, int status) {
    const char *subject =
        request->audit_subject[0] != '\0' ? request->audit_subject : request->parameter;
    if (!request->route || (request->route->flags & ROUTE_OPERATOR) == 0 ||
        request->caller.role == ROLE_NONE) {
        return;
    }
    log_event(LOG_AUDIT, "audit", KS("caller", request->caller.name),
              KS("role", role_name(request->caller.role)),
              KS("via", request->caller.is_node ? "node" : NULL), KS("address", request->address),
              KS("method", request->method), KS("path", request->route->pattern),
              KS("subject", subject ? subject : http_query_get(&request->query, "id")),
              KI("status", status));
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* The origin of the page, if it may use the API; otherwise NULL. */
static const char *auth_filter_allowed_origin(const struct http_server *server,
                                              struct MHD_Connection *connection) {
    const struct access *access = server->api.context.access;
    const char *origin = auth_filter_header(connection, "Origin");
    return origin && access && access_origin_is_allowed(access, origin) ? origin : NULL;
}

void auth_filter_add_cors_headers(const struct http_server *server,
                                  struct MHD_Connection *connection, struct MHD_Response *answer) {
    const char *origin = auth_filter_allowed_origin(server, connection);
    if (origin) {
        MHD_add_response_header(answer, "Access-Control-Allow-Origin", origin);
        MHD_add_response_header(answer, "Access-Control-Expose-Headers",
                                "ETag, Location, Retry-After, X-Request-Id");
        MHD_add_response_header(answer, "Vary", "Origin");
    }
}

/* One request to check. */
struct auth_check {
    const struct http_server *server;
    struct MHD_Connection *connection;
    struct http_request *request;
    struct http_response *response;
};

static bool auth_filter_header_is(const struct auth_check *auth_check, const char *name,
                                  const char *wanted) {
    const char *value = auth_filter_header(auth_check->connection, name);
    return value && strcmp(value, wanted) == 0;
}

/* Somebody follows a link: the answer is shown in a window of its own, and its sender cannot read
 * it. */
static bool auth_filter_follows_link(const struct auth_check *auth_check) {
    const struct http_route *route = auth_check->request->route;
    return route && (route->flags & ROUTE_LINKED) != 0 &&
           auth_filter_header_is(auth_check, "Sec-Fetch-Mode", "navigate") &&
           auth_filter_header_is(auth_check, "Sec-Fetch-Dest", "document");
}

/* Uses the Fetch metadata of the browser, because requests for images and links have no Origin. */
static bool auth_filter_fetch_is_cross_site(const struct auth_check *auth_check) {
    return auth_filter_header(auth_check->connection, "Sec-Fetch-Site") &&
           !auth_filter_header_is(auth_check, "Sec-Fetch-Site", "same-origin") &&
           !auth_filter_header_is(auth_check, "Sec-Fetch-Site", "none") &&
           !auth_filter_follows_link(auth_check);
}

/* Browsers send the origin of the page. A page of another site must not use an API that is
 * protected by its address only. */
static bool auth_filter_is_cross_site(const struct auth_check *auth_check) {
    const char *origin = auth_filter_header(auth_check->connection, "Origin");
    const char *host = auth_filter_header(auth_check->connection, "Host");
    const char *authority = origin ? strstr(origin, "://") : NULL;
    bool other = origin && (!authority || !host || strcasecmp(authority + 3, host) != 0);
    return (other || auth_filter_fetch_is_cross_site(auth_check)) &&
           !auth_filter_allowed_origin(auth_check->server, auth_check->connection);
}

static void auth_filter_check_origin(const struct auth_check *auth_check) {
    const struct access *access = auth_check->server->api.context.access;
    if (auth_filter_is_cross_site(auth_check)) {
        http_problem(auth_check->response, PROBLEM_ORIGIN,
                     "the Origin must be the Host, or be listed in http.cors_origins");
    } else if (access && !access_host_is_allowed(
                             access, auth_filter_header(auth_check->connection, "Host"))) {
        http_problem(
            auth_check->response, PROBLEM_ORIGIN,
            "without http.tokens_file the Host must be an address, or a name without a dot "
            "such as localhost");
    }
}

/* A CORS-preflight request (Fetch standard) for a page of a listed origin. It never has a token. */
static bool auth_filter_is_preflight(const struct auth_check *auth_check) {
    return strcmp(auth_check->request->method, "OPTIONS") == 0 &&
           auth_filter_allowed_origin(auth_check->server, auth_check->connection) &&
           auth_filter_header(auth_check->connection, "Access-Control-Request-Method");
}

static void auth_filter_answer_preflight(const struct auth_check *auth_check) {
    auth_check->request->route = NULL;
    http_answer_empty(auth_check->response, 204);
    http_answer_header(auth_check->response, "Access-Control-Allow-Methods",
                       "GET, HEAD, POST, PUT, PATCH, DELETE");
    http_answer_header(auth_check->response, "Access-Control-Allow-Headers",
                       "Authorization, Content-Type, If-Match, Last-Event-ID, X-Request-Id");
    http_answer_header(auth_check->response, "Access-Control-Max-Age", "600");
}

/* ---- callers --------------------------------------------------------------------------------- */

static enum role auth_filter_role_needed(const struct auth_check *auth_check) {
    unsigned flags = auth_check->request->route ? auth_check->request->route->flags : 0;
    if ((flags & ROUTE_ADMIN) != 0) {
        return ROLE_ADMIN;
    }
    return (flags & (ROUTE_OPERATOR | ROUTE_CONTENTS)) != 0 ? ROLE_OPERATOR : ROLE_VIEWER;
}

static void auth_filter_refuse_unauthenticated(const struct auth_check *auth_check,
                                               const char *detail, bool wrong) {
    http_problem(auth_check->response, PROBLEM_UNAUTHORIZED, "%s", detail);
    http_answer_header(auth_check->response, "WWW-Authenticate", "Bearer realm=\"mqfleet\"%s",
                       wrong ? ", error=\"invalid_token\"" : "");
    if (wrong) { /* few lines: the throttle limits wrong tokens */
        log_event(LOG_WARN, "wrong_token", KS("request", auth_check->request->id),
                  KS("address", auth_check->request->address));
    }
}

static void auth_filter_refuse_access(const struct auth_check *auth_check,
                                      enum access_result result, int64_t wait_ms) {
    const struct caller *caller = &auth_check->request->caller;
    switch (result) {
    case ACCESS_GRANTED:
        break;
    case ACCESS_NO_TOKEN:
        auth_filter_refuse_unauthenticated(
            auth_check, "send Authorization: Bearer, followed by a token in http.tokens_file",
            false);
        break;
    case ACCESS_WRONG_TOKEN:
        auth_filter_refuse_unauthenticated(auth_check, "the token is not in http.tokens_file",
                                           true);
        break;
    case ACCESS_TOO_MANY:
        http_problem(auth_check->response, PROBLEM_RATE,
                     "too many tokens that are not in http.tokens_file");
        http_answer_header(auth_check->response, "Retry-After", "%lld",
                           (long long)(wait_ms / 1000 + 1));
        break;
    case ACCESS_ROLE:
        http_problem(auth_check->response, PROBLEM_FORBIDDEN,
                     "%s has the role %s; this request requires %s", caller->name,
                     role_name(caller->role), role_name(auth_filter_role_needed(auth_check)));
        break;
    case ACCESS_NODE_ONLY:
        http_problem(
            auth_check->response, PROBLEM_FORBIDDEN,
            "only other nodes may send this request, with the secret in fleet.secret_file");
        break;
    case ACCESS_SCOPE:
        http_problem(auth_check->response, PROBLEM_FORBIDDEN,
                     PEERS_SCOPE_HEADER ": must be label.NAME=VALUE");
        break;
    }
}

/* An unauthenticated caller learns nothing, not even which paths exist. */
static void auth_filter_check_caller(const struct auth_check *auth_check) {
    struct http_request *request = auth_check->request;
    struct access *access = auth_check->server->api.context.access;
    unsigned flags = auth_check->request->route ? auth_check->request->route->flags : 0;
    bool forwarded = auth_filter_header(auth_check->connection, PEERS_FORWARDED_HEADER) != NULL;
    const char *caller = auth_filter_header(auth_check->connection, PEERS_CALLER_HEADER);
    int64_t wait_ms;
    if (!access || (flags & ROUTE_PUBLIC) != 0) {
        request->forwarded = forwarded && !access;
        return;
    }
    struct access_attempt attempt = {
        .needed = auth_filter_role_needed(auth_check),
        .node_only = (flags & ROUTE_FLEET) != 0,
        .authorization = auth_filter_header(auth_check->connection, "Authorization"),
        .forwarded_for = forwarded ? (caller ? caller : "") : NULL,
        .scope = auth_filter_header(auth_check->connection, PEERS_SCOPE_HEADER),
        .address = auth_filter_peer_address(auth_check->connection),
    };
    enum access_result result = access_check(access, &attempt, &request->caller, &wait_ms);
    request->forwarded = forwarded && request->caller.is_node;
    if (result != ACCESS_GRANTED) {
        metric_add(METRIC_HTTP_DENIED, 1);
        auth_filter_refuse_access(auth_check, result, wait_ms);
    }
}

/* A route without an entry in the table is refused, too. */
static void auth_filter_check_scope(const struct auth_check *auth_check) {
    const struct http_request *request = auth_check->request;
    enum route_scope treatment = request->route ? request->route->scope : SCOPE_EVERYONE;
    if (scope_is_set(&request->caller.scope) &&
        (treatment == SCOPE_REFUSED || treatment == SCOPE_UNDECIDED)) {
        metric_add(METRIC_HTTP_DENIED, 1);
        http_problem(auth_check->response, PROBLEM_SCOPE,
                     "the token of %s is limited to the clients with label %s; this request is "
                     "about the whole fleet and needs a token without a scope",
                     request->caller.name, request->caller.scope.label);
    }
}

/* If two nodes announce the same address, a request may reach the wrong one. */
static void auth_filter_check_target(const struct auth_check *auth_check) {
    const char *meant = auth_filter_header(auth_check->connection, PEERS_TARGET_HEADER);
    struct node *node = auth_check->server->api.context.node;
    char incarnation[TEXT_ID_LEN];
    if (!meant) {
        return;
    }
    node_incarnation(node, incarnation);
    if (strcmp(meant, incarnation) != 0) {
        http_problem(auth_check->response, PROBLEM_MISDIRECTED,
                     "this is node %s, but the request is for another incarnation",
                     node_name(node));
    }
}

void auth_filter_check(const struct http_server *server, struct MHD_Connection *connection,
                       struct http_request *request, struct http_response *response) {
    const struct auth_check auth_check = {server, connection, request, response};
    auth_filter_address_text(auth_filter_peer_address(connection), request->address);
    if (auth_filter_is_preflight(&auth_check)) {
        auth_filter_answer_preflight(&auth_check);
        return;
    }
    auth_filter_check_caller(&auth_check);
    if (response->status == 0) {
        auth_filter_check_scope(&auth_check);
    }
    if (response->status == 0) {
        auth_filter_check_target(&auth_check);
    }
    if (response->status == 0) {
        auth_filter_check_origin(&auth_check);
    }
}
