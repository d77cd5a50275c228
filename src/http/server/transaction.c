/* Owns one request from its first line to the last byte of its answer. Callbacks run on the MHD
 * threads.
 *
 * At most one thread owns a transaction at a time: the MHD thread until the connection is
 * suspended; then a handler thread, or the thread that ends a wait, until the connection is
 * resumed; then the MHD thread again. While it waits, no thread owns it. The phases:
 *
 *   HEADERS -> BODY -> HANDLED -> ANSWERED -> SENT
 *                 \_______________^  (refused, or answered without waiting) */
#include "transaction_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/system/out_of_memory.h"
#include "base/text.h"
#include "http/streams/event_stream.h"
#include "http/server/problem.h"
#include "http/api/routes.h"
#include "http/api/scope_gate.h"
#include "http/auth/auth_filter.h"
#include "request_reader.h"
#include "stream_answer.h"

#define QUEUED_MS_MAX 10000
/* A larger body is not parsed on an MHD thread. */
#define QUICK_BODY_BYTES_MAX ((size_t)16 * 1024)

static struct connection_slot *transaction_connection_slot(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

void *transaction_create(void *context, const char *target, struct MHD_Connection *connection) {
    const struct http_frontend *frontend = context;
    struct http_server *server = frontend->server;
    struct transaction *transaction = calloc(1, sizeof *transaction);
    if (!transaction) {
        return NULL;
    }
    transaction->frontend = frontend;
    http_request_init(&transaction->request, &server->api);
    transaction->server = server;
    transaction->connection = connection;
    transaction->begun_us = clock_us();
    size_t path_len = strcspn(target, "?#");
    transaction->request.path = text_copy(target, path_len);
    transaction->target = text_dup(target);
    atomic_fetch_add(&server->transactions, 1);
    return transaction;
}

void transaction_completed(void *context, struct MHD_Connection *connection, void **slot,
                           enum MHD_RequestTerminationCode code) {
    (void)context;
    (void)code;
    struct transaction *transaction = *slot;
    *slot = NULL;
    if (!transaction) {
        return;
    }
    assert(transaction->phase != TRANSACTION_HANDLED);
    struct http_server *server = transaction->server;
    connection_limit_mark_waiting(server->connection_limit,
                                  transaction_connection_slot(connection));
    request_reader_uncount_body(transaction);
    http_request_fini(&transaction->request);
    http_response_fini(&transaction->response);
    free(transaction->target);
    if (transaction->phase != TRANSACTION_STREAMING) {
        atomic_fetch_sub(&server->transactions, 1);
    }
    free(transaction);
}

static void transaction_log_answer(const struct transaction *transaction) {
    const struct http_response *response = &transaction->response;
    bool inlined =
        transaction->request.route && (transaction->request.route->flags & ROUTE_INLINE) != 0;
    log_event(response->status >= 500 && !inlined ? LOG_WARN : LOG_DEBUG, "http_request",
              KS("method", transaction->request.method), KS("path", transaction->request.path),
              KI("status", response->status), KI("bytes", response->body_len),
              KI("ms", (clock_us() - transaction->begun_us) / 1000));
}

static struct MHD_Response *transaction_body_response(struct transaction *transaction) {
    struct http_response *response = &transaction->response;
    struct MHD_Response *answer = MHD_create_response_from_buffer(
        response->body_len, response->body ? response->body : (char *)response->body_static,
        response->body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (answer) {
        response->body = NULL;
        transaction->phase = TRANSACTION_SENT;
    }
    return answer;
}

/* From here on, the stop of the server does not wait for the end of the transaction. */
static struct MHD_Response *transaction_stream_response(struct transaction *transaction) {
    struct MHD_Response *answer =
        stream_answer_create(transaction->response.stream, transaction->connection);
    if (answer) {
        transaction->response.stream = NULL;
        transaction->phase = TRANSACTION_STREAMING;
        atomic_fetch_sub(&transaction->server->transactions, 1);
    }
    return answer;
}

/* Passes the finished answer to MHD, which takes over the body. MHD thread. */
static enum MHD_Result transaction_send(struct transaction *transaction) {
    struct http_response *response = &transaction->response;
    struct MHD_Response *answer = response->stream ? transaction_stream_response(transaction)
                                                   : transaction_body_response(transaction);
    if (!answer) {
        return MHD_NO;
    }
    if (response->content_type) {
        MHD_add_response_header(answer, "Content-Type", response->content_type);
    }
    for (size_t i = 0; i < response->header_count; i++) {
        MHD_add_response_header(answer, response->headers[i].name, response->headers[i].value);
    }
    MHD_add_response_header(answer, "X-Request-Id", transaction->request.id);
    MHD_add_response_header(answer, "X-Content-Type-Options", "nosniff");
    auth_filter_add_cors_headers(transaction->server, transaction->connection, answer);
    if (transaction->close_after ||
        atomic_load(&transaction->server->api.stop_stage) != HTTP_RUNNING) {
        MHD_add_response_header(answer, "Connection", "close");
    }
    enum MHD_Result result =
        MHD_queue_response(transaction->connection, (unsigned)response->status, answer);
    MHD_destroy_response(answer);
    log_set_context("request", transaction->request.id);
    transaction_log_answer(transaction);
    log_set_context(NULL, NULL);
    return result;
}

static enum metric transaction_status_metric(int status) {
    static const enum metric of_class[] = {METRIC_HTTP_2XX, METRIC_HTTP_3XX, METRIC_HTTP_4XX,
                                           METRIC_HTTP_5XX};
    return status >= 200 && status < 600 ? of_class[status / 100 - 2] : METRIC_HTTP_5XX;
}

/* The outcome is known. The caller may be gone already. */
static void transaction_finalize(struct transaction *transaction) {
    if (transaction->request.reshape_response) {
        transaction->request.reshape_response(&transaction->request, &transaction->response);
    }
    http_response_finish(&transaction->response, &transaction->request);
    if (!transaction->response.stream) {
        histogram_add(HISTOGRAM_HTTP, clock_us() - transaction->begun_us, 1);
    }
    metric_add(transaction_status_metric(transaction->response.status), 1);
    log_set_context("request", transaction->request.id);
    auth_filter_audit(&transaction->request, transaction->response.status);
    log_set_context(NULL, NULL);
}

static enum MHD_Result transaction_finish(struct transaction *transaction) {
    transaction_finalize(transaction);
    return transaction_send(transaction);
}

/* ---- answering ------------------------------------------------------------------------------- */

/* After MHD_resume_connection, the MHD thread owns the transaction. */
static void transaction_resume_connection(struct transaction *transaction) {
    struct http_server *server = transaction->server;
    transaction_finalize(transaction);
    request_reader_drop_body(transaction);
    transaction->phase = TRANSACTION_ANSWERED;
    MHD_resume_connection(transaction->connection);
    atomic_fetch_sub(&server->suspended, 1);
}

static void transaction_refuse(struct transaction *transaction, enum err err) {
    metric_add(METRIC_HTTP_REFUSED, 1);
    http_problem(&transaction->response,
                 err == ERR_WRONG_STATE ? PROBLEM_STOPPING : PROBLEM_OVERLOAD,
                 "nothing was done; try again");
    transaction_resume_connection(transaction);
}

/* A step has returned: the request is answered, waits, or needs a handler thread. The connection is
 * suspended. The transaction may be freed when this returns. */
static void transaction_proceed(struct transaction *transaction) {
    struct http_request *request = &transaction->request;
    struct pending *pending = request->pending;
    if (transaction->response.status != 0 || (!pending && !request->next_step)) {
        assert(!pending);
        transaction_resume_connection(transaction);
    } else if (pending) {
        request->pending = NULL;
        request_reader_drop_body(transaction);
        if (pending_has_flag(pending, PENDING_FREES_BODY)) {
            request_reader_uncount_body(transaction);
        }
        pending_park(pending);
    } else if (handler_pool_push_begun(transaction->server->api.handler_pool, &transaction->task) !=
               ERR_OK) {
        transaction_refuse(transaction, ERR_WRONG_STATE);
    }
}

/* If memory ran out in a step, the answer may be incomplete or blame the caller. */
static void transaction_check_memory(struct transaction *transaction) {
    transaction->out_of_memory |= out_of_memory_seen();
    if (transaction->out_of_memory && transaction->response.status != 0) {
        http_problem_memory(&transaction->response);
    }
}

/* Runs one step: first the handler, later the next step or the end of a wait. */
static void transaction_run_step(struct transaction *transaction) {
    struct http_request *request = &transaction->request;
    struct pending *ended = transaction->ended_wait;
    http_handler *step = request->next_step ? request->next_step : request->route->handler;
    transaction->ended_wait = NULL;
    log_set_context("request", request->id);
    out_of_memory_forget();
    if (ended) {
        pending_run(ended, request, &transaction->response);
    } else {
        request->next_step = NULL;
        step(request, &transaction->response);
    }
    transaction_check_memory(transaction);
    log_set_context(NULL, NULL);
}

static void transaction_run_task(struct handler_task *task) {
    struct transaction *transaction = (struct transaction *)task;
    if (task->is_new && atomic_load(&transaction->server->api.stop_stage) == HTTP_ABORTING) {
        http_problem(&transaction->response, PROBLEM_STOPPING, "nothing was done");
    } else if (task->is_new && clock_ms() - transaction->queued_ms > QUEUED_MS_MAX) {
        metric_add(METRIC_HTTP_REFUSED, 1);
        http_problem(&transaction->response, PROBLEM_OVERLOAD, "nothing was done in %d ms",
                     QUEUED_MS_MAX);
    } else {
        transaction_run_step(transaction);
    }
    transaction_proceed(transaction);
}

void transaction_continue(struct http_request *request, struct pending *ended) {
    struct transaction *transaction =
        (struct transaction *)(void *)((char *)request - offsetof(struct transaction, request));
    transaction->ended_wait = ended;
    if (pending_has_flag(ended, PENDING_QUICK) ||
        handler_pool_push_begun(transaction->server->api.handler_pool, &transaction->task) !=
            ERR_OK) {
        transaction_run_step(
            transaction); /* the server stops, and its handler threads have ended */
        transaction_proceed(transaction);
    }
}

/* Suspends the connection. Must come before another thread gets the transaction, because that
 * thread may finish it at once. */
static void transaction_suspend(struct transaction *transaction) {
    struct http_server *server = transaction->server;
    transaction->phase = TRANSACTION_HANDLED;
    transaction->queued_ms = clock_ms();
    connection_limit_mark_served(server->connection_limit,
                                 transaction_connection_slot(transaction->connection));
    atomic_fetch_add(&server->suspended, 1);
    MHD_suspend_connection(transaction->connection);
}

static enum MHD_Result transaction_enqueue(struct transaction *transaction) {
    transaction->task.run = transaction_run_task;
    transaction_suspend(transaction);
    enum err err = handler_pool_push(transaction->server->api.handler_pool, &transaction->task);
    if (err != ERR_OK) {
        transaction_refuse(transaction, err);
    }
    return MHD_YES;
}

/* The handler never blocks, so it may run on the MHD thread. */
static enum MHD_Result transaction_run_inline(struct transaction *transaction) {
    transaction->task.run = transaction_run_task;
    transaction_run_step(transaction);
    if (transaction->response.status != 0) {
        return transaction_finish(transaction);
    }
    transaction_suspend(transaction);
    transaction_proceed(transaction);
    return MHD_YES;
}

static enum MHD_Result transaction_dispatch(struct transaction *transaction) {
    if (transaction->response.status != 0) { /* refused already */
        return transaction_finish(transaction);
    }
    if (transaction->request.route->flags & ROUTE_INLINE) {
        transaction_run_step(transaction);
        return transaction_finish(transaction);
    }
    if (atomic_load(&transaction->server->api.stop_stage) != HTTP_RUNNING) {
        http_problem(&transaction->response, PROBLEM_STOPPING, "nothing was done");
        return transaction_finish(transaction);
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(transaction->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    transaction->request.socket = info ? info->connect_fd : -1;
    bool gated = scope_gate_is_needed(&transaction->request);
    if (gated) {
        transaction->request.next_step = scope_gate_run;
    }
    bool quick = !gated && (transaction->request.route->flags & ROUTE_QUICK) != 0 &&
                 transaction->request.body.len <= QUICK_BODY_BYTES_MAX;
    return quick ? transaction_run_inline(transaction) : transaction_enqueue(transaction);
}

static enum MHD_Result transaction_begin(struct transaction *transaction, const char *method,
                                         const char *version) {
    transaction->phase = TRANSACTION_BODY;
    enum request_reader_result result = request_reader_head(transaction, method, version);
    if (result == REQUEST_READER_REFUSED) {
        return transaction_finish(transaction);
    }
    return result == REQUEST_READER_READ_ON ? MHD_YES : MHD_NO;
}

static enum MHD_Result transaction_read_body(struct transaction *transaction, const char *data,
                                             size_t *len) {
    bool goes_on = request_reader_body(transaction, data, *len);
    *len = 0;
    return goes_on ? MHD_YES : MHD_NO;
}

enum MHD_Result transaction_handle(void *context, struct MHD_Connection *connection,
                                   const char *url, const char *method, const char *version,
                                   const char *data, size_t *len, void **slot) {
    (void)context;
    (void)connection;
    (void)url;
    struct transaction *transaction = *slot;
    if (!transaction) {
        return MHD_NO;
    }
    switch (transaction->phase) {
    case TRANSACTION_HEADERS:
        return transaction_begin(transaction, method, version);
    case TRANSACTION_BODY:
        return *len > 0 ? transaction_read_body(transaction, data, len)
                        : transaction_dispatch(transaction);
    case TRANSACTION_ANSWERED:
        return transaction_send(transaction);
    case TRANSACTION_HANDLED: /* suspended: not called */
    case TRANSACTION_SENT:
    case TRANSACTION_STREAMING:
        break;
    }
    return MHD_NO;
}
