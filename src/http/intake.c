/* Owns the count of bodies that are held. Must not know what any route means, nor how a request is
 * handled. */
#include "intake.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/metrics.h"
#include "base/text.h"
#include "http/problem.h"
#include "http/routes.h"
#include "admission.h"
#include "request_head.h"

/* Of a refused body, read so that the answer is not lost in a reset. */
#define DISCARD_BYTES_MAX      ((size_t)64 * 1024 * 1024)
#define DISCARD_STRANGER_BYTES ((size_t)1024 * 1024)
/* Bodies of full size held at once, but at least so many bytes. */
#define BODIES_MAX         4
#define BODIES_BYTES_LEAST ((size_t)64 * 1024 * 1024)
/* A body from this size on leaves so much free memory behind that it is given back at once. */
#define BODY_BYTES_TRIM ((size_t)256 * 1024)

static const char *header(const struct exchange *exchange, const char *name) {
    return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

/* ---- head ------------------------------------------------------------------------------------ */

static void refuse_size(struct exchange *exchange) {
    http_problem(&exchange->response, PROBLEM_TOO_LARGE,
                 "the body is larger than http.body_max_bytes, %lld bytes",
                 (long long)exchange->server->api.context.conf->http_body_max_bytes);
}

/* RFC 9110 section 8.4: the body is not what it seems. */
static void refuse_coding(struct exchange *exchange, const char *coding) {
    http_problem(&exchange->response, PROBLEM_CODING,
                 "Content-Encoding %.64s: only identity is taken; send the body as it is", coding);
    http_answer_header(&exchange->response, "Accept-Encoding", "identity");
}

/* A parameter that nobody reads would be a wish silently not granted. */
static void intake_query(struct exchange *exchange) {
    struct http_request *request = &exchange->request;
    const struct http_route *route = exchange->request.route;
    const char *unknown = http_route_unknown_parameter(route, &request->query);
    if (unknown != NULL) {
        http_problem(&exchange->response, PROBLEM_BAD_REQUEST, "%s: no such parameter here; %s%s",
                     unknown, route->query[0] != '\0' ? "there are: " : "there is none",
                     route->query);
    } else if ((route->flags & ROUTE_MAY_WAIT) != 0 &&
               http_query_int(&request->query, "wait_ms", 0, HTTP_WAIT_MS_MAX, 0,
                              &request->wait_ms) != ERR_OK) {
        http_problem(&exchange->response, PROBLEM_BAD_REQUEST,
                     "wait_ms: must be a number from 0 to %d", HTTP_WAIT_MS_MAX);
    }
}

/* On this front: what is for operations has one of its own when there is an ops.port. */
static bool is_served(const struct exchange *exchange) {
    unsigned flags = exchange->request.route->flags;
    bool apart = exchange->server->fronts[FRONT_OPS].listener >= 0;
    return !apart || (flags & ROUTE_PUBLIC) != 0 ||
           exchange->front->ops == ((flags & ROUTE_OPS) != 0);
}

/* Finds the route; 404 and 405 otherwise. */
static void intake_route(struct exchange *exchange) {
    struct http_request *request = &exchange->request;
    char allow[HTTP_ALLOW_LEN];
    const char *parameter;
    size_t parameter_len;
    switch (http_route_find(request->method, request->path, &exchange->request.route, &parameter,
                            &parameter_len, allow)) {
    case HTTP_ROUTE_NO_PATH:
        http_problem(&exchange->response, PROBLEM_NOT_FOUND, "there is nothing at this path");
        return;
    case HTTP_ROUTE_NO_METHOD:
        http_problem(&exchange->response, PROBLEM_METHOD, "allowed here: %s", allow);
        http_answer_header(&exchange->response, "Allow", "%s", allow);
        return;
    case HTTP_ROUTE_FOUND:
        break;
    }
    if (!is_served(exchange)) {
        exchange->request.route = NULL;
        http_problem(&exchange->response, PROBLEM_NOT_FOUND,
                     exchange->front->ops ? "there is nothing at this path; the API is at "
                                            "node_info.port"
                                          : "served at ops.port only");
        return;
    }
    enum err result = parameter == NULL ? ERR_OK
                                        : http_percent_decode(parameter, parameter_len, false,
                                                              &request->parameter);
    if (result == ERR_OK) {
        const char *query = strpbrk(exchange->target, "?#");
        result = http_query_parse(query != NULL && *query == '?' ? query + 1 : "", &request->query);
    }
    if (result == ERR_MEMORY) {
        http_problem_memory(&exchange->response);
    } else if (result != ERR_OK) {
        http_problem(&exchange->response, PROBLEM_BAD_REQUEST,
                     "path and query must be percent-encoded UTF-8 without U+0000, with at most %d "
                     "parameters",
                     HTTP_QUERY_MAX);
    } else {
        intake_query(exchange);
    }
}

/* Bytes of a refused body that are read; little of a stranger's. */
static size_t discard_max(const struct exchange *exchange) {
    bool stranger =
        exchange->request.caller.role == ROLE_NONE && exchange->server->api.context.access != NULL;
    return stranger ? DISCARD_STRANGER_BYTES
                    : DISCARD_BYTES_MAX +
                          (size_t)exchange->server->api.context.conf->http_body_max_bytes;
}

/* Without it a write would be another. */
static void take_condition(struct exchange *exchange) {
    const char *condition = header(exchange, "If-Match");
    exchange->request.if_match = text_dup(condition);
    if (condition != NULL && exchange->request.if_match == NULL && exchange->response.status == 0) {
        http_problem_memory(&exchange->response);
    }
}

/* Where it ends is not certain: nothing that follows on the connection is read as a request. */
static enum intake intake_refuse_head(struct exchange *exchange, const char *fault) {
    http_request_identify(&exchange->request, NULL);
    http_problem(&exchange->response, PROBLEM_BAD_REQUEST, "%s", fault);
    exchange->closes = true;
    return INTAKE_REFUSED;
}

enum intake intake_head(struct exchange *exchange, const char *method, const char *version) {
    struct http_request *request = &exchange->request;
    int64_t body_max = exchange->server->api.context.conf->http_body_max_bytes;
    snprintf(request->method, sizeof(request->method), "%s", method);
    if (request->path == NULL || exchange->target == NULL) {
        return INTAKE_CUT;
    }
    const char *fault = request_head_fault(exchange->connection, exchange->target, version);
    if (fault != NULL) {
        return intake_refuse_head(exchange, fault);
    }
    /* Some versions of libmicrohttpd end the lines of chunks at a bare LF, where a proxy reads on:
     * what follows such a body may have been meant as a part of it. */
    exchange->closes = header(exchange, "Transfer-Encoding") != NULL;
    http_request_identify(request, header(exchange, PEERS_REQUEST_HEADER));
    intake_route(exchange);
    admission_check(exchange->server, exchange->connection, request, &exchange->response);
    take_condition(exchange);
    const char *length = header(exchange, "Content-Length");
    int64_t body_len = 0;
    bool sized = length == NULL || http_int_parse(length, 0, INT64_MAX, &body_len);
    if (exchange->response.status == 0 && (!sized || body_len > body_max)) {
        refuse_size(exchange);
    }
    const char *coding = header(exchange, "Content-Encoding");
    if (exchange->response.status == 0 && coding != NULL && strcasecmp(coding, "identity") != 0) {
        refuse_coding(exchange, coding);
    }
    const char *expect = header(exchange, "Expect");
    bool asks_leave = expect != NULL && strcasecmp(expect, "100-continue") == 0;
    bool absurd = !sized || body_len > (int64_t)discard_max(exchange);
    if (exchange->response.status != 0 && (asks_leave || absurd)) {
        return INTAKE_REFUSED;
    }
    return INTAKE_READ_ON;
}

/* ---- body ------------------------------------------------------------------------------------ */

static bool takes_body(const struct exchange *exchange) {
    return exchange->response.status == 0 &&
           (strcmp(exchange->request.route->method, "POST") == 0 ||
            strcmp(exchange->request.route->method, "PUT") == 0);
}

static size_t bodies_max(const struct http_server *server) {
    size_t most = (size_t)server->api.context.conf->http_body_max_bytes * BODIES_MAX;
    return most > BODIES_BYTES_LEAST ? most : BODIES_BYTES_LEAST;
}

/* Keeps a part of the body, or refuses all of it. */
static void body_keep(struct exchange *exchange, const char *data, size_t len) {
    struct http_server *server = exchange->server;
    size_t body_max = (size_t)server->api.context.conf->http_body_max_bytes;
    struct buffer *body = &exchange->request.body;
    if (len > body_max - body->len) {
        refuse_size(exchange);
    } else if (atomic_fetch_add(&server->body_bytes, len) + len > bodies_max(server)) {
        atomic_fetch_sub(&server->body_bytes, len);
        metric_add(METRIC_HTTP_REFUSED, 1);
        http_problem(&exchange->response, PROBLEM_OVERLOAD, "too many large bodies at once");
    } else {
        exchange->counted += len;
        buffer_append(body, data, len);
        if (body->failed) {
            http_problem_memory(&exchange->response);
        }
    }
    if (exchange->response.status != 0) {
        buffer_fini(body);
    }
}

bool intake_body(struct exchange *exchange, const char *data, size_t len) {
    if (takes_body(exchange)) {
        body_keep(exchange, data, len);
    } else {
        exchange->discarded += len;
    }
    return exchange->discarded <= discard_max(exchange);
}

void intake_drop_body(struct exchange *exchange) {
    bool large = exchange->request.body.len >= BODY_BYTES_TRIM;
    buffer_fini(&exchange->request.body);
    if (large) {
        malloc_trim(0);
    }
}

void intake_uncount_body(struct exchange *exchange) {
    atomic_fetch_sub(&exchange->server->body_bytes, exchange->counted);
    exchange->counted = 0;
}
