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
#include "exchange_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/out_of_memory.h"
#include "base/text.h"
#include "http/event_stream.h"
#include "http/problem.h"
#include "http/routes.h"
#include "admission.h"
#include "intake.h"
#include "stream_answer.h"

#define QUEUED_MS_MAX 10000
/* A larger body is not parsed on an MHD thread. */
#define QUICK_BODY_BYTES_MAX ((size_t)16 * 1024)

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
    intake_uncount_body(exchange);
    http_request_fini(&exchange->request);
    http_response_fini(&exchange->response);
    free(exchange->target);
    if (!exchange->streams) {
        atomic_fetch_sub(&server->exchanges, 1);
    }
    free(exchange);
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

/* ---- answering ------------------------------------------------------------------------------- */

/* From MHD_resume_connection on the exchange is the MHD thread's. */
static void exchange_answered(struct exchange *exchange) {
    struct http_server *server = exchange->server;
    exchange_decided(exchange);
    intake_drop_body(exchange);
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
        intake_drop_body(exchange);
        if (pending_is(pending, PENDING_FREES_BODY)) {
            intake_uncount_body(exchange);
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

static enum MHD_Result exchange_begin(struct exchange *exchange, const char *method,
                                      const char *version) {
    exchange->phase = PHASE_BODY;
    enum intake intake = intake_head(exchange, method, version);
    if (intake == INTAKE_REFUSED) {
        return exchange_finish(exchange);
    }
    return intake == INTAKE_READ_ON ? MHD_YES : MHD_NO;
}

static enum MHD_Result exchange_body(struct exchange *exchange, const char *data, size_t *len) {
    bool goes_on = intake_body(exchange, data, *len);
    *len = 0;
    return goes_on ? MHD_YES : MHD_NO;
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
