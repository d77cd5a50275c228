/* Owns the way of one request through the server, from its first line to the last byte of its
 * answer. Its callbacks run on the MHD threads. Must not know what any route means, nor where
 * connections come from.
 *
 * The phases of an exchange. Exactly one thread owns it at a time: the MHD thread until its
 * connection is suspended, then a worker or whoever ends its wait, until the connection is resumed,
 * then the MHD thread again. While it waits nobody does.
 *
 *   HEADERS -> BODY -> HANDLED -> ANSWERED -> SENT
 *                 \_______________^  (refused, or answered without waiting) */
#include <assert.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/out_of_memory.h"
#include "base/text.h"
#include "http/event_stream.h"
#include "http/problem.h"
#include "http/routes.h"
#include "admission.h"
#include "request_head.h"
#include "server_internal.h"
#include "stream_answer.h"

/* Of a refused body, read so that the answer is not lost in a reset. */
#define DISCARD_BYTES_MAX      ((size_t)64 * 1024 * 1024)
#define DISCARD_STRANGER_BYTES ((size_t)1024 * 1024)
/* Bodies of full size held at once, but at least so many bytes. */
#define BODIES_MAX         4
#define BODIES_BYTES_LEAST ((size_t)64 * 1024 * 1024)
/* A body from this size on leaves so much free memory behind that it is given back at once. */
#define BODY_BYTES_TRIM ((size_t)256 * 1024)
#define QUEUED_MS_MAX   10000
/* A larger body is not parsed on an MHD thread. */
#define QUICK_BODY_BYTES_MAX ((size_t)16 * 1024)

enum phase { PHASE_HEADERS, PHASE_BODY, PHASE_HANDLED, PHASE_ANSWERED, PHASE_SENT };

struct exchange {
    struct http_task task; /* first: found by it */
    const struct http_front *front;
    struct http_server *server;
    struct MHD_Connection *connection;
    enum phase phase;
    struct http_request request;
    struct pending *ended;         /* the wait it goes on from; NULL: none */
    struct http_response response; /* status set while the body still comes: refused */
    char *target;                  /* as sent */
    bool closes;                   /* after the answer */
    size_t discarded;              /* bytes of the body not kept */
    size_t counted;                /* bytes of the body in server->body_bytes */
    int64_t begun_us;
    int64_t queued_ms;
    bool starved; /* memory ran out while it was handled */
    bool streams; /* SENT, and goes on until its stream ends */
};

static struct guest *guest_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

void *exchange_create(void *context, const char *target, struct MHD_Connection *connection) {
    const struct http_front *front = context;
    struct http_server *server = front->server;
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    if (exchange == NULL) {
        return NULL;
    }
    exchange->front = front;
    http_request_init(&exchange->request, &server->api);
    exchange->server = server;
    exchange->connection = connection;
    exchange->begun_us = clock_us();
    size_t path_len = strcspn(target, "?#");
    exchange->request.path = text_copy(target, path_len);
    exchange->target = text_dup(target);
    atomic_fetch_add(&server->exchanges, 1);
    return exchange;
}

/* Until then others may bring so much less. */
static void exchange_uncount_body(struct exchange *exchange) {
    atomic_fetch_sub(&exchange->server->body_bytes, exchange->counted);
    exchange->counted = 0;
}

void exchange_completed(void *context, struct MHD_Connection *connection, void **slot,
                        enum MHD_RequestTerminationCode code) {
    (void)context;
    (void)code;
    struct exchange *exchange = *slot;
    *slot = NULL;
    if (exchange == NULL) {
        return;
    }
    assert(exchange->phase != PHASE_HANDLED);
    struct http_server *server = exchange->server;
    crowd_waits(server->crowd, guest_of(connection));
    exchange_uncount_body(exchange);
    http_request_fini(&exchange->request);
    http_response_fini(&exchange->response);
    free(exchange->target);
    if (!exchange->streams) {
        atomic_fetch_sub(&server->exchanges, 1);
    }
    free(exchange);
}

static const char *header(const struct exchange *exchange, const char *name) {
    return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

static void log_answer(const struct exchange *exchange) {
    const struct http_response *response = &exchange->response;
    bool inlined =
        exchange->request.route != NULL && (exchange->request.route->flags & ROUTE_INLINE) != 0;
    log_event(response->status >= 500 && !inlined ? LOG_WARN : LOG_DEBUG, "http_request",
              KS("method", exchange->request.method), KS("path", exchange->request.path),
              KI("status", response->status), KI("bytes", response->body_len),
              KI("ms", (clock_us() - exchange->begun_us) / 1000));
}

static struct MHD_Response *answer_of_body(struct http_response *response) {
    struct MHD_Response *answer = MHD_create_response_from_buffer(
        response->body_len, response->body != NULL ? response->body : (char *)response->body_static,
        response->body != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (answer != NULL) {
        response->body = NULL;
    }
    return answer;
}

/* From here on nobody waits for the end of the exchange. */
static struct MHD_Response *answer_of_stream(struct exchange *exchange) {
    struct MHD_Response *answer = stream_answer(exchange->response.stream, exchange->connection);
    if (answer != NULL) {
        exchange->response.stream = NULL;
        exchange->streams = true;
        atomic_fetch_sub(&exchange->server->exchanges, 1);
    }
    return answer;
}

/* Gives the finished answer to MHD, which takes the body over. MHD thread. */
static enum MHD_Result exchange_send(struct exchange *exchange) {
    struct http_response *response = &exchange->response;
    struct MHD_Response *answer =
        response->stream != NULL ? answer_of_stream(exchange) : answer_of_body(response);
    if (answer == NULL) {
        return MHD_NO;
    }
    if (response->content_type != NULL) {
        MHD_add_response_header(answer, "Content-Type", response->content_type);
    }
    for (size_t i = 0; i < response->header_count; i++) {
        MHD_add_response_header(answer, response->headers[i].name, response->headers[i].value);
    }
    MHD_add_response_header(answer, "X-Request-Id", exchange->request.id);
    MHD_add_response_header(answer, "X-Content-Type-Options", "nosniff");
    admission_mark(exchange->server, exchange->connection, answer);
    if (exchange->closes || atomic_load(&exchange->server->api.stop) != HTTP_RUNNING) {
        MHD_add_response_header(answer, "Connection", "close");
    }
    enum MHD_Result result =
        MHD_queue_response(exchange->connection, (unsigned)response->status, answer);
    MHD_destroy_response(answer);
    exchange->phase = PHASE_SENT;
    log_context("request", exchange->request.id);
    log_answer(exchange);
    log_context(NULL, NULL);
    return result;
}

static enum metric metric_of_status(int status) {
    static const enum metric of_class[] = {METRIC_HTTP_2XX, METRIC_HTTP_3XX, METRIC_HTTP_4XX,
                                           METRIC_HTTP_5XX};
    return status >= 200 && status < 600 ? of_class[status / 100 - 2] : METRIC_HTTP_5XX;
}

/* The outcome is known, whether or not the caller still hears of it. */
static void exchange_decided(struct exchange *exchange) {
    if (exchange->request.reshape != NULL) {
        exchange->request.reshape(&exchange->request, &exchange->response);
    }
    http_response_finish(&exchange->response, &exchange->request);
    if (exchange->response.stream == NULL) {
        histogram_add(HISTOGRAM_HTTP, clock_us() - exchange->begun_us, 1);
    }
    metric_add(metric_of_status(exchange->response.status), 1);
    log_context("request", exchange->request.id);
    admission_audit(&exchange->request, exchange->response.status);
    log_context(NULL, NULL);
}

static enum MHD_Result exchange_finish(struct exchange *exchange) {
    exchange_decided(exchange);
    return exchange_send(exchange);
}

/* ---- headers --------------------------------------------------------------------------------- */

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
static void exchange_query(struct exchange *exchange) {
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
static void exchange_route(struct exchange *exchange) {
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
        exchange_query(exchange);
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
static enum MHD_Result exchange_refuse_head(struct exchange *exchange, const char *fault) {
    http_request_identify(&exchange->request, NULL);
    http_problem(&exchange->response, PROBLEM_BAD_REQUEST, "%s", fault);
    exchange->closes = true;
    return exchange_finish(exchange);
}

/* The first call: everything but the body is here. A refusal is sent after the body was read and
 * dropped, unless the caller waits for leave to send it, or it is out of all measure. */
static enum MHD_Result exchange_begin(struct exchange *exchange, const char *method,
                                      const char *version) {
    struct http_request *request = &exchange->request;
    int64_t body_max = exchange->server->api.context.conf->http_body_max_bytes;
    exchange->phase = PHASE_BODY;
    snprintf(request->method, sizeof(request->method), "%s", method);
    if (request->path == NULL || exchange->target == NULL) {
        return MHD_NO;
    }
    const char *fault = request_head_fault(exchange->connection, exchange->target, version);
    if (fault != NULL) {
        return exchange_refuse_head(exchange, fault);
    }
    http_request_identify(request, header(exchange, PEERS_REQUEST_HEADER));
    exchange_route(exchange);
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
        return exchange_finish(exchange);
    }
    return MHD_YES;
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

static enum MHD_Result exchange_body(struct exchange *exchange, const char *data, size_t *len) {
    if (takes_body(exchange)) {
        body_keep(exchange, data, *len);
    } else {
        exchange->discarded += *len;
    }
    *len = 0;
    return exchange->discarded <= discard_max(exchange) ? MHD_YES : MHD_NO;
}

/* ---- answering ------------------------------------------------------------------------------- */

/* No part of it is looked at any more. */
static void exchange_drop_body(struct exchange *exchange) {
    bool large = exchange->request.body.len >= BODY_BYTES_TRIM;
    buffer_fini(&exchange->request.body);
    if (large) {
        malloc_trim(0);
    }
}

/* From MHD_resume_connection on the exchange is the MHD thread's. */
static void exchange_answered(struct exchange *exchange) {
    struct http_server *server = exchange->server;
    exchange_decided(exchange);
    exchange_drop_body(exchange);
    exchange->phase = PHASE_ANSWERED;
    MHD_resume_connection(exchange->connection);
    atomic_fetch_sub(&server->handling, 1);
}

static void exchange_refuse(struct exchange *exchange, enum err why) {
    metric_add(METRIC_HTTP_REFUSED, 1);
    http_problem(&exchange->response, why == ERR_WRONG_STATE ? PROBLEM_STOPPING : PROBLEM_OVERLOAD,
                 "nothing was done; try again");
    exchange_answered(exchange);
}

/* A handler, or what goes on for it, has returned: it has answered, waits, or wants a worker. The
 * connection is suspended; the exchange may be gone when this returns. */
static void exchange_hand_on(struct exchange *exchange) {
    struct http_request *request = &exchange->request;
    struct pending *pending = request->pending;
    if (exchange->response.status != 0 || (pending == NULL && request->later == NULL)) {
        assert(pending == NULL);
        exchange_answered(exchange);
    } else if (pending != NULL) {
        request->pending = NULL;
        exchange_drop_body(exchange);
        if (pending_is(pending, PENDING_FREES_BODY)) {
            exchange_uncount_body(exchange);
        }
        pending_park(pending);
    } else if (http_workers_push_on(exchange->server->api.workers, &exchange->task) != ERR_OK) {
        exchange_refuse(exchange, ERR_WRONG_STATE);
    }
}

/* If memory ran out in one of its steps, its answer may have holes, or blame the caller. */
static void exchange_doubt(struct exchange *exchange) {
    exchange->starved |= out_of_memory_seen();
    if (exchange->starved && exchange->response.status != 0) {
        http_problem_memory(&exchange->response);
    }
}

/* One step of its handling: the handler first, then what it left for later or waited for. */
static void exchange_step(struct exchange *exchange) {
    struct http_request *request = &exchange->request;
    struct pending *ended = exchange->ended;
    http_handler *step = request->later != NULL ? request->later : request->route->handler;
    exchange->ended = NULL;
    log_context("request", request->id);
    out_of_memory_forget();
    if (ended != NULL) {
        pending_run(ended, request, &exchange->response);
    } else {
        request->later = NULL;
        step(request, &exchange->response);
    }
    exchange_doubt(exchange);
    log_context(NULL, NULL);
}

static void exchange_work(struct http_task *task) {
    struct exchange *exchange = (struct exchange *)task;
    if (task->is_new && atomic_load(&exchange->server->api.stop) == HTTP_ABORTING) {
        http_problem(&exchange->response, PROBLEM_STOPPING, "nothing was done");
    } else if (task->is_new && clock_ms() - exchange->queued_ms > QUEUED_MS_MAX) {
        metric_add(METRIC_HTTP_REFUSED, 1);
        http_problem(&exchange->response, PROBLEM_OVERLOAD, "nothing was done in %d ms",
                     QUEUED_MS_MAX);
    } else {
        exchange_step(exchange);
    }
    exchange_hand_on(exchange);
}

void exchange_go_on(struct http_request *request, struct pending *ended) {
    struct exchange *exchange =
        (struct exchange *)(void *)((char *)request - offsetof(struct exchange, request));
    exchange->ended = ended;
    if (pending_is(ended, PENDING_QUICK) ||
        http_workers_push_on(exchange->server->api.workers, &exchange->task) != ERR_OK) {
        exchange_step(exchange); /* without workers, which have ended: the server stops */
        exchange_hand_on(exchange);
    }
}

/* Gives the connection back. Before anybody else learns of the exchange, who may be done with it
 * before this thread goes on. */
static void exchange_suspend(struct exchange *exchange) {
    struct http_server *server = exchange->server;
    exchange->phase = PHASE_HANDLED;
    exchange->queued_ms = clock_ms();
    crowd_served(server->crowd, guest_of(exchange->connection));
    atomic_fetch_add(&server->handling, 1);
    MHD_suspend_connection(exchange->connection);
}

static enum MHD_Result exchange_queue(struct exchange *exchange) {
    exchange->task.run = exchange_work;
    exchange_suspend(exchange);
    enum err result = http_workers_push(exchange->server->api.workers, &exchange->task);
    if (result != ERR_OK) {
        exchange_refuse(exchange, result);
    }
    return MHD_YES;
}

/* The handler does not block, so it may run here; what it waits for takes no worker either. */
static enum MHD_Result exchange_try(struct exchange *exchange) {
    exchange->task.run = exchange_work;
    exchange_step(exchange);
    if (exchange->response.status != 0) {
        return exchange_finish(exchange);
    }
    exchange_suspend(exchange);
    exchange_hand_on(exchange);
    return MHD_YES;
}

static enum MHD_Result exchange_dispatch(struct exchange *exchange) {
    if (exchange->response.status != 0) { /* refused already */
        return exchange_finish(exchange);
    }
    if (exchange->request.route->flags & ROUTE_INLINE) {
        exchange_step(exchange);
        return exchange_finish(exchange);
    }
    if (atomic_load(&exchange->server->api.stop) != HTTP_RUNNING) {
        http_problem(&exchange->response, PROBLEM_STOPPING, "nothing was done");
        return exchange_finish(exchange);
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    exchange->request.socket = info != NULL ? info->connect_fd : -1;
    bool quick = (exchange->request.route->flags & ROUTE_QUICK) != 0 &&
                 exchange->request.body.len <= QUICK_BODY_BYTES_MAX;
    return quick ? exchange_try(exchange) : exchange_queue(exchange);
}

enum MHD_Result exchange_access(void *context, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *len, void **slot) {
    (void)context;
    (void)connection;
    (void)url;
    struct exchange *exchange = *slot;
    if (exchange == NULL) {
        return MHD_NO;
    }
    switch (exchange->phase) {
    case PHASE_HEADERS:
        return exchange_begin(exchange, method, version);
    case PHASE_BODY:
        return *len > 0 ? exchange_body(exchange, data, len) : exchange_dispatch(exchange);
    case PHASE_ANSWERED:
        return exchange_send(exchange);
    case PHASE_HANDLED: /* suspended: not called */
    case PHASE_SENT:
        break;
    }
    return MHD_NO;
}
