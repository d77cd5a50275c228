/* Owns the number of body bytes that all requests together hold in memory. Runs on MHD threads,
 * except where the header names another thread. */
#include "request_reader.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/percent.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "http/server/problem.h"
#include "http/api/routes.h"
#include "http/auth/auth_filter.h"
#include "request_head.h"

/* How much of a refused body is read. A connection that is closed earlier is reset, and the caller
 * may lose the answer. */
#define DISCARD_BYTES_MAX           ((size_t)64 * 1024 * 1024)
#define DISCARD_ANONYMOUS_BYTES_MAX ((size_t)1024 * 1024)
/* The limit for bodies held at once: BODIES_MAX bodies of full size, but at least BODIES_BYTES_MIN.
 */
#define BODIES_MAX       4
#define BODIES_BYTES_MIN ((size_t)64 * 1024 * 1024)
/* The memory of a larger body is returned to the system at once. */
#define BODY_BYTES_TRIM ((size_t)256 * 1024)

static const char *request_reader_header(const struct transaction *transaction, const char *name) {
    return MHD_lookup_connection_value(transaction->connection, MHD_HEADER_KIND, name);
}

/* ---- head ------------------------------------------------------------------------------------ */

static void request_reader_refuse_size(struct transaction *transaction) {
    http_problem(&transaction->response, PROBLEM_TOO_LARGE,
                 "the body is larger than http.body_max_bytes, %lld bytes",
                 (long long)transaction->server->api.context.conf->http_body_max_bytes);
}

/* RFC 9110 section 8.4. */
static void request_reader_refuse_coding(struct transaction *transaction, const char *coding) {
    http_problem(&transaction->response, PROBLEM_CODING,
                 "Content-Encoding %.64s is not supported; send the body without an encoding "
                 "(identity)",
                 coding);
    http_answer_header(&transaction->response, "Accept-Encoding", "identity");
}

/* Unknown and repeated parameters are refused rather than silently ignored. */
static void request_reader_query(struct transaction *transaction) {
    struct http_request *request = &transaction->request;
    const struct http_route *route = transaction->request.route;
    const char *unknown = http_route_unknown_parameter(route, &request->query);
    const char *repeated = http_route_repeated_parameter(route, &request->query);
    if (unknown) {
        http_problem(&transaction->response, PROBLEM_BAD_REQUEST, "%s: unknown parameter; %s%s",
                     unknown, route->query[0] != '\0' ? "allowed: " : "none is allowed",
                     route->query);
    } else if (repeated) {
        http_problem(&transaction->response, PROBLEM_BAD_REQUEST, "%s: is given twice", repeated);
    } else if ((route->flags & ROUTE_MAY_WAIT) != 0 &&
               http_query_int(&request->query, "wait_ms", 0, HTTP_WAIT_MS_MAX, 0,
                              &request->wait_ms) != ERR_OK) {
        http_problem(&transaction->response, PROBLEM_BAD_REQUEST,
                     "wait_ms: must be a number from 0 to %d", HTTP_WAIT_MS_MAX);
    }
}

/* Routes for operations are served at ops.port only, if it is set. */
static bool request_reader_is_served_by_port(const struct transaction *transaction) {
    unsigned flags = transaction->request.route->flags;
    bool apart = transaction->server->frontends[FRONTEND_OPS].listener >= 0;
    return !apart || (flags & ROUTE_PUBLIC) != 0 ||
           (transaction->frontend->kind == FRONTEND_OPS) == ((flags & ROUTE_OPS) != 0);
}

/* Finds the route, or answers 404 or 405. */
static void request_reader_route(struct transaction *transaction) {
    struct http_request *request = &transaction->request;
    char allow[HTTP_ALLOW_LEN];
    const char *parameter;
    size_t parameter_len;
    switch (http_route_find(request->method, request->path, &transaction->request.route, &parameter,
                            &parameter_len, allow)) {
    case HTTP_ROUTE_NO_PATH:
        http_problem(
            &transaction->response, PROBLEM_NOT_FOUND, "there is nothing at this path%s",
            transaction->frontend->kind == FRONTEND_OPS ? "" : "; see /console and /openapi.json");
        return;
    case HTTP_ROUTE_NO_METHOD:
        http_problem(&transaction->response, PROBLEM_METHOD, "allowed here: %s", allow);
        http_answer_header(&transaction->response, "Allow", "%s", allow);
        return;
    case HTTP_ROUTE_FOUND:
        break;
    }
    if (!request_reader_is_served_by_port(transaction)) {
        transaction->request.route = NULL;
        http_problem(&transaction->response, PROBLEM_NOT_FOUND,
                     transaction->frontend->kind == FRONTEND_OPS
                         ? "there is nothing at this path; the API is at "
                           "node_info.port"
                         : "served at ops.port only");
        return;
    }
    enum err err =
        !parameter ? ERR_OK : percent_decode(parameter, parameter_len, false, &request->parameter);
    if (err == ERR_OK) {
        const char *query = strpbrk(transaction->target, "?#");
        err = http_query_parse(query && *query == '?' ? query + 1 : "", &request->query);
    }
    if (err == ERR_MEMORY) {
        http_problem_memory(&transaction->response);
    } else if (err != ERR_OK) {
        http_problem(&transaction->response, PROBLEM_BAD_REQUEST,
                     "path and query must be percent-encoded UTF-8 without U+0000, with at most %d "
                     "parameters",
                     HTTP_QUERY_MAX);
    } else {
        request_reader_query(transaction);
    }
}

/* How much of a refused body is read; less from an unauthenticated caller. */
static size_t request_reader_discard_bytes_max(const struct transaction *transaction) {
    bool anonymous =
        transaction->request.caller.role == ROLE_NONE && transaction->server->api.context.access;
    return anonymous ? DISCARD_ANONYMOUS_BYTES_MAX
                     : DISCARD_BYTES_MAX +
                           (size_t)transaction->server->api.context.conf->http_body_max_bytes;
}

/* Out of memory is an error: without the condition, a write could overwrite another one. */
static void request_reader_read_conditions(struct transaction *transaction) {
    const char *condition = request_reader_header(transaction, "If-Match");
    transaction->request.if_match = text_dup(condition);
    transaction->request.if_none_match =
        text_dup(request_reader_header(transaction, "If-None-Match"));
    transaction->request.last_event_id =
        text_dup(request_reader_header(transaction, "Last-Event-ID"));
    if (condition && !transaction->request.if_match && transaction->response.status == 0) {
        http_problem_memory(&transaction->response);
    }
}

/* The end of the request is uncertain, so the connection is closed after the answer. */
static enum request_reader_result request_reader_refuse_head(struct transaction *transaction,
                                                             const char *fault) {
    http_request_set_id(&transaction->request, NULL);
    http_problem(&transaction->response, PROBLEM_BAD_REQUEST, "%s", fault);
    transaction->close_after = true;
    return REQUEST_READER_REFUSED;
}

enum request_reader_result request_reader_head(struct transaction *transaction, const char *method,
                                               const char *version) {
    struct http_request *request = &transaction->request;
    int64_t body_max = transaction->server->api.context.conf->http_body_max_bytes;
    snprintf(request->method, sizeof(request->method), "%s", method);
    if (!request->path || !transaction->target) {
        return REQUEST_READER_CLOSE;
    }
    const char *fault = request_head_fault(transaction->connection, transaction->target, version);
    if (fault) {
        return request_reader_refuse_head(transaction, fault);
    }
    /* Some versions of libmicrohttpd end a chunk line at a bare LF, and a proxy may not. The next
     * bytes could be a part of this body, so the connection is closed after the answer. */
    transaction->close_after = request_reader_header(transaction, "Transfer-Encoding") != NULL;
    http_request_set_id(request, request_reader_header(transaction, PEERS_REQUEST_HEADER));
    request_reader_route(transaction);
    auth_filter_check(transaction->server, transaction->connection, request,
                      &transaction->response);
    request_reader_read_conditions(transaction);
    const char *length = request_reader_header(transaction, "Content-Length");
    int64_t body_len = 0;
    bool sized = !length || http_int_parse(length, 0, INT64_MAX, &body_len);
    if (transaction->response.status == 0 && (!sized || body_len > body_max)) {
        request_reader_refuse_size(transaction);
    }
    const char *coding = request_reader_header(transaction, "Content-Encoding");
    if (transaction->response.status == 0 && coding && strcasecmp(coding, "identity") != 0) {
        request_reader_refuse_coding(transaction, coding);
    }
    const char *expect = request_reader_header(transaction, "Expect");
    bool expects_continue = expect && strcasecmp(expect, "100-continue") == 0;
    bool too_long = !sized || body_len > (int64_t)request_reader_discard_bytes_max(transaction);
    if (transaction->response.status != 0 && (expects_continue || too_long)) {
        return REQUEST_READER_REFUSED;
    }
    return REQUEST_READER_READ_ON;
}

/* ---- body ------------------------------------------------------------------------------------ */

static bool request_reader_takes_body(const struct transaction *transaction) {
    return transaction->response.status == 0 &&
           (strcmp(transaction->request.route->method, "POST") == 0 ||
            strcmp(transaction->request.route->method, "PUT") == 0 ||
            strcmp(transaction->request.route->method, "PATCH") == 0);
}

static size_t request_reader_held_bytes_max(const struct http_server *server) {
    size_t most = (size_t)server->api.context.conf->http_body_max_bytes * BODIES_MAX;
    return most > BODIES_BYTES_MIN ? most : BODIES_BYTES_MIN;
}

/* Appends a part of the body, or refuses the whole body. */
static void request_reader_keep_body(struct transaction *transaction, const char *data,
                                     size_t len) {
    struct http_server *server = transaction->server;
    size_t body_max = (size_t)server->api.context.conf->http_body_max_bytes;
    struct buffer *body = &transaction->request.body;
    if (len > body_max - body->len) {
        request_reader_refuse_size(transaction);
    } else if (atomic_fetch_add(&server->body_bytes, len) + len >
               request_reader_held_bytes_max(server)) {
        atomic_fetch_sub(&server->body_bytes, len);
        metric_add(METRIC_HTTP_REFUSED, 1);
        http_problem(&transaction->response, PROBLEM_OVERLOAD,
                     "the node is processing too many large request bodies");
    } else {
        transaction->counted_bytes += len;
        buffer_append(body, data, len);
        if (body->failed) {
            http_problem_memory(&transaction->response);
        }
    }
    if (transaction->response.status != 0) {
        buffer_fini(body);
    }
}

bool request_reader_body(struct transaction *transaction, const char *data, size_t len) {
    if (request_reader_takes_body(transaction)) {
        request_reader_keep_body(transaction, data, len);
    } else {
        transaction->discarded_bytes += len;
    }
    return transaction->discarded_bytes <= request_reader_discard_bytes_max(transaction);
}

void request_reader_drop_body(struct transaction *transaction) {
    bool large = transaction->request.body.len >= BODY_BYTES_TRIM;
    buffer_fini(&transaction->request.body);
    if (large) {
        malloc_trim(0);
    }
}

void request_reader_uncount_body(struct transaction *transaction) {
    atomic_fetch_sub(&transaction->server->body_bytes, transaction->counted_bytes);
    transaction->counted_bytes = 0;
}
