/* Owns the queued and running calls to other nodes, and the loop of the thread that runs them. */
#include "cluster/peers/peer_calls.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "base/system/thread_watchdog.h"
#include "base/secrets/secret_file.h"
#include "base/text.h"
#include "net/http_client.h"

#define ANSWER_BYTES_MAX ((size_t)16 * 1024 * 1024)

/* A node with running calls. */
struct peer_node {
    char *name; /* "host:port" */
    size_t running;
    UT_hash_handle hh;
};

struct peer_task {
    struct http_client_request request;
    struct peer_calls *calls;
    struct peer_call call; /* points to the strings below */
    char *host, *method, *path, *body, *caller, *request_id, *scope, *incarnation;
    char *name; /* of the node */
    int64_t deadline_ms, begun_us;
    peer_call_done *done;
    void *context;
    struct peer_node *node; /* NULL: it is queued, or exempt from the limits */
    struct peer_task *prev, *next;
};

struct peer_calls {
    const struct conf *conf;
    const struct peers *peers;
    struct http_client *client;
    peer_calls_turn *turn;
    void *turn_context;

    pthread_mutex_t lock; /* guards the next three */
    struct peer_task *posted;
    size_t count; /* of all tasks */
    bool stopping;

    /* Used by the thread only. */
    struct peer_task *waiting, *running;
    size_t running_count;
    struct peer_node *nodes;
};

/* ---- life ------------------------------------------------------------------------------------ */

struct peer_calls *peer_calls_create(const struct conf *conf, const struct peers *peers) {
    struct peer_calls *calls = calloc(1, sizeof *calls);
    if (!calls) {
        return NULL;
    }
    pthread_mutex_init(&calls->lock, NULL);
    calls->conf = conf;
    calls->peers = peers;
    calls->client =
        http_client_create(&(struct http_client_options){.timeout_ms = conf->peer_timeout_ms,
                                                         .response_bytes_max = ANSWER_BYTES_MAX,
                                                         .ca = conf->fleet_ca_file});
    if (!calls->client) {
        peer_calls_destroy(calls);
        return NULL;
    }
    return calls;
}

static void peer_calls_task_free(struct peer_task *task) {
    if (!task) {
        return;
    }
    buffer_fini(&task->call.answer);
    free(task->host);
    free(task->method);
    free(task->path);
    free(task->body);
    free(task->caller);
    free(task->request_id);
    free(task->scope);
    free(task->incarnation);
    free(task->name);
    free(task);
}

void peer_calls_destroy(struct peer_calls *calls) {
    if (!calls) {
        return;
    }
    assert(calls->count == 0);
    http_client_destroy(calls->client);
    pthread_mutex_destroy(&calls->lock);
    free(calls);
}

void peer_calls_set_turn(struct peer_calls *calls, peer_calls_turn *turn, void *context) {
    calls->turn = turn;
    calls->turn_context = context;
}

void peer_calls_wake(struct peer_calls *calls) {
    http_client_wake(calls->client);
}

/* ---- any thread ------------------------------------------------------------------------------ */

/* NULL: out of memory. */
static struct peer_task *peer_calls_task_create(const struct peer_call *call) {
    struct peer_task *task = calloc(1, sizeof *task);
    if (!task) {
        return NULL;
    }
    buffer_init(&task->call.answer);
    task->host = text_dup(call->host);
    task->method = text_dup(call->method);
    task->path = text_dup(call->path);
    task->body = call->body ? text_copy(call->body, call->body_len) : NULL;
    task->caller = text_dup(call->caller);
    task->request_id = text_dup(call->request_id);
    task->scope = text_dup(call->scope);
    task->incarnation = text_dup(call->incarnation);
    if (asprintf(&task->name, "%s:%lld", call->host, (long long)call->port) < 0) {
        task->name = NULL;
    }
    if (!task->host || !task->method || !task->path || !task->name || (call->body && !task->body) ||
        (call->caller && !task->caller) || (call->request_id && !task->request_id) ||
        (call->scope && !task->scope) || (call->incarnation && !task->incarnation)) {
        peer_calls_task_free(task);
        return NULL;
    }
    task->call = (struct peer_call){.host = task->host,
                                    .port = call->port,
                                    .method = task->method,
                                    .path = task->path,
                                    .body = task->body,
                                    .body_len = call->body_len,
                                    .caller = task->caller,
                                    .request_id = task->request_id,
                                    .scope = task->scope,
                                    .incarnation = task->incarnation,
                                    .limit_exempt = call->limit_exempt,
                                    .unsent = true};
    return task;
}

enum err peer_calls_post(struct peer_calls *calls, const struct peer_call *call, int64_t timeout_ms,
                         peer_call_done *done, void *context) {
    struct peer_task *task = peer_calls_task_create(call);
    if (!task) {
        return ERR_MEMORY;
    }
    task->calls = calls;
    task->begun_us = clock_us();
    task->deadline_ms = clock_ms() + (timeout_ms > 0 ? timeout_ms : calls->conf->peer_timeout_ms);
    task->done = done;
    task->context = context;
    enum err err = ERR_OK;
    pthread_mutex_lock(&calls->lock);
    if (calls->stopping) {
        err = ERR_WRONG_STATE;
    } else if (calls->count == PEER_CALLS_MAX) {
        err = ERR_FULL;
    } else {
        calls->count++;
        DL_APPEND(calls->posted, task);
    }
    pthread_mutex_unlock(&calls->lock);
    if (err == ERR_OK) {
        http_client_wake(calls->client);
    } else {
        peer_calls_task_free(task);
    }
    return err;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* The task must be in no list. */
static void peer_calls_task_end(struct peer_task *task, enum err err) {
    struct peer_calls *calls = task->calls;
    task->call.result = err;
    if (err != ERR_OK) {
        metric_add(METRIC_PEER_ERRORS, 1);
    }
    histogram_add(HISTOGRAM_PEER, clock_us() - task->begun_us, 1);
    task->done(&task->call, task->context);
    peer_calls_task_free(task);
    pthread_mutex_lock(&calls->lock);
    calls->count--;
    pthread_mutex_unlock(&calls->lock);
}

/* node NULL: does nothing. */
static void peer_calls_node_release(struct peer_calls *calls, struct peer_node *node) {
    if (!node) {
        return;
    }
    calls->running_count--;
    if (--node->running == 0) {
        HASH_DEL(calls->nodes, node);
        free(node->name);
        free(node);
    }
}

/* NULL: out of memory. */
static struct peer_node *peer_calls_node_acquire(struct peer_calls *calls, const char *name) {
    struct peer_node *node;
    HASH_FIND_STR(calls->nodes, name, node);
    if (!node) {
        node = calloc(1, sizeof *node);
        if (!node || !(node->name = text_dup(name))) {
            free(node);
            return NULL;
        }
        HASH_ADD_KEYPTR(hh, calls->nodes, node->name, strlen(node->name), node);
    }
    node->running++;
    calls->running_count++;
    return node;
}

static bool peer_calls_node_has_room(const struct peer_calls *calls, const char *name) {
    struct peer_node *node;
    HASH_FIND_STR(calls->nodes, name, node);
    return calls->running_count < PEER_CALLS_RUNNING_MAX &&
           (!node || node->running < PEER_CALLS_PER_NODE_MAX);
}

static void peer_calls_task_answered(struct http_client_request *request, void *context) {
    struct peer_task *task = context;
    struct peer_calls *calls = task->calls;
    DL_DELETE(calls->running, task);
    peer_calls_node_release(calls, task->node);
    task->call.unsent = request->unsent;
    task->call.status = request->status;
    task->call.answer = request->response;
    peer_calls_task_end(task, request->result);
}

/* The task must be in no list. */
static void peer_calls_task_start(struct peer_calls *calls, struct peer_task *task,
                                  int64_t now_ms) {
    struct peer_headers headers;
    char *url = peers_url(calls->peers, task->host, task->call.port, task->path);
    enum err err = ERR_MEMORY;
    peers_headers(calls->peers, &task->call, &headers);
    task->request = (struct http_client_request){.method = task->method,
                                                 .url = url,
                                                 .headers = headers.lines,
                                                 .body = task->body,
                                                 .body_len = task->call.body_len};
    task->node =
        url && !task->call.limit_exempt ? peer_calls_node_acquire(calls, task->name) : NULL;
    if (url && (task->node || task->call.limit_exempt)) {
        err = http_client_start_request(calls->client, &task->request, task->deadline_ms - now_ms,
                                        peer_calls_task_answered, task);
    }
    secret_wipe(&headers, sizeof headers);
    free(url);
    if (err == ERR_OK) {
        task->call.unsent = false; /* not known before the end of the call */
        DL_APPEND(calls->running, task);
        return;
    }
    peer_calls_node_release(calls, task->node);
    peer_calls_task_end(task, err);
}

static void peer_calls_take_added(struct peer_calls *calls) {
    pthread_mutex_lock(&calls->lock);
    DL_CONCAT(calls->waiting, calls->posted);
    calls->posted = NULL;
    pthread_mutex_unlock(&calls->lock);
}

static void peer_calls_start_ready(struct peer_calls *calls, int64_t now_ms) {
    struct peer_task *task, *next;
    DL_FOREACH_SAFE(calls->waiting, task, next) {
        if (task->deadline_ms <= now_ms) {
            DL_DELETE(calls->waiting, task);
            peer_calls_task_end(task, ERR_TIMEOUT);
        } else if (task->call.limit_exempt || peer_calls_node_has_room(calls, task->name)) {
            DL_DELETE(calls->waiting, task);
            peer_calls_task_start(calls, task, now_ms);
        }
    }
}

static bool peer_calls_is_stopping(struct peer_calls *calls) {
    pthread_mutex_lock(&calls->lock);
    bool stopping = calls->stopping;
    pthread_mutex_unlock(&calls->lock);
    return stopping;
}

static void peer_calls_cancel_all(struct peer_calls *calls) {
    struct peer_task *task, *next;
    peer_calls_take_added(calls);
    DL_FOREACH_SAFE(calls->waiting, task, next) {
        DL_DELETE(calls->waiting, task);
        peer_calls_task_end(task, ERR_CANCELED);
    }
    DL_FOREACH_SAFE(calls->running, task, next) {
        http_client_cancel_request(calls->client, &task->request);
        DL_DELETE(calls->running, task);
        peer_calls_node_release(calls, task->node);
        task->call.answer = task->request.response;
        peer_calls_task_end(task, ERR_CANCELED);
    }
}

void *peer_calls_run(void *argument) {
    struct peer_calls *calls = argument;
    while (!peer_calls_is_stopping(calls)) {
        int64_t now_ms = clock_ms();
        thread_watchdog_kick();
        int64_t wait_ms =
            calls->turn ? calls->turn(calls->turn_context, now_ms) : PEER_CALLS_TURN_MS_MAX;
        peer_calls_take_added(calls);
        peer_calls_start_ready(calls, now_ms);
        int64_t wait_ms_max = calls->waiting ? PEER_CALLS_TURN_MS_MAX / 10 /* checks deadlines */
                                             : PEER_CALLS_TURN_MS_MAX;
        wait_ms = wait_ms < wait_ms_max ? wait_ms : wait_ms_max;
        http_client_poll(calls->client, wait_ms);
    }
    peer_calls_cancel_all(calls);
    return NULL;
}

void peer_calls_stop(struct peer_calls *calls) {
    pthread_mutex_lock(&calls->lock);
    calls->stopping = true;
    pthread_mutex_unlock(&calls->lock);
    http_client_wake(calls->client);
}
