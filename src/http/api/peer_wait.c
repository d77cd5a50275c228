/* Owns the results of several calls to other nodes until the last call has ended. The peer calls
 * thread stores results, a handler thread takes them. */
#include "http/api/peer_wait.h"

#include <pthread.h>
#include <stdlib.h>
#include "http/api/api.h"
#include "http/server/problem.h"

#define GRACE_MS     1000 /* lets the calls reach their own timeout first */
#define SHORT_MS_MAX 2000

/* Shared by the request and its calls; the last reference frees it. */
struct peer_wait {
    struct peer_wait_plan plan;
    struct pending *pending;
    size_t call_count;
    struct peer_call *calls; /* results; owned by the request after the wait */
    struct peer_slot *slots; /* contexts of the calls */
    pthread_mutex_t lock;    /* guards the rest, and the calls during the wait */
    size_t calls_left, refs;
    bool ended;
};

struct peer_slot {
    struct peer_wait *wait;
    size_t index;
};

static struct peer_wait *peer_wait_create(const struct peer_wait_plan *plan, size_t n) {
    struct peer_wait *wait = calloc(1, sizeof *wait);
    if (!wait) {
        return NULL;
    }
    wait->calls = calloc(n, sizeof *wait->calls);
    wait->slots = calloc(n, sizeof *wait->slots);
    if (!wait->calls || !wait->slots) {
        free(wait->calls);
        free(wait->slots);
        free(wait);
        return NULL;
    }
    pthread_mutex_init(&wait->lock, NULL);
    wait->plan = *plan;
    wait->call_count = wait->calls_left = n;
    wait->refs = 1;
    for (size_t i = 0; i < n; i++) {
        buffer_init(&wait->calls[i].answer);
        wait->calls[i].result = ERR_CANCELED;
        wait->slots[i] = (struct peer_slot){wait, i};
    }
    return wait;
}

static void peer_wait_free_context(struct peer_wait *wait) {
    if (wait->plan.free_context && wait->plan.context) {
        wait->plan.free_context(wait->plan.context);
    }
    wait->plan.context = NULL;
}

static void peer_wait_unref(void *data) {
    struct peer_wait *wait = data;
    pthread_mutex_lock(&wait->lock);
    bool last = --wait->refs == 0;
    pthread_mutex_unlock(&wait->lock);
    if (!last) {
        return;
    }
    for (size_t i = 0; i < wait->call_count; i++) {
        buffer_fini(&wait->calls[i].answer);
    }
    peer_wait_free_context(wait);
    pthread_mutex_destroy(&wait->lock);
    free(wait->calls);
    free(wait->slots);
    free(wait);
}

/* The last call ends the wait. call NULL: it was not sent. */
static void peer_wait_record(struct peer_wait *wait, size_t index, struct peer_call *call,
                             enum err err) {
    pthread_mutex_lock(&wait->lock);
    if (!wait->ended) {
        struct peer_call *slot = &wait->calls[index];
        slot->result = err;
        slot->unsent = !call || call->unsent;
        if (call) {
            slot->status = call->status;
            slot->answer = call->answer;
            buffer_init(&call->answer);
        }
    }
    bool last = --wait->calls_left == 0;
    pthread_mutex_unlock(&wait->lock);
    if (last) {
        if (pending_claim(wait->pending)) {
            pending_resume(wait->pending);
        } else {
            pending_drop(wait->pending);
        }
    }
    peer_wait_unref(wait);
}

static void peer_wait_done(struct peer_call *call, void *context) {
    struct peer_slot *slot = context;
    peer_wait_record(slot->wait, slot->index, call, call->result);
}

static void peer_wait_continue(struct http_request *request, struct http_response *response,
                               enum pending_end end, void *data) {
    struct peer_wait *wait = data;
    (void)end;
    pthread_mutex_lock(&wait->lock);
    wait->ended = true;
    pthread_mutex_unlock(&wait->lock);
    wait->plan.then(request, response, wait->calls, wait->call_count, wait->plan.context);
    peer_wait_free_context(wait); /* freed on this thread, not on that of the last call */
}

int64_t peer_wait_short_ms(const struct conf *conf) {
    return conf->peer_timeout_ms < SHORT_MS_MAX ? conf->peer_timeout_ms : SHORT_MS_MAX;
}

struct peer_call peer_wait_call(const struct http_request *request, const struct store_node *node,
                                const char *method, const char *path) {
    return (struct peer_call){.host = node->host,
                              .port = node->port,
                              .incarnation = node->incarnation,
                              .method = method,
                              .path = path,
                              .request_id = request->id};
}

void peer_wait_begin(struct http_request *request, struct http_response *response,
                     const struct peer_call *calls, size_t n, const struct peer_wait_plan *plan) {
    const struct http_context *context = &request->api->context;
    int64_t timeout_ms = plan->timeout_ms > 0 ? plan->timeout_ms : context->conf->peer_timeout_ms;
    struct peer_wait *wait = peer_wait_create(plan, n);
    if (!wait) {
        if (plan->free_context && plan->context) {
            plan->free_context(plan->context);
        }
        http_problem_memory(response);
        return;
    }
    wait->refs += n + 1; /* the last reference is for this function */
    wait->pending = pending_begin(request, response,
                                  &(struct pending_plan){.timeout_ms = timeout_ms + GRACE_MS,
                                                         .flags = PENDING_OUTLIVES_CALLER,
                                                         .then = peer_wait_continue,
                                                         .data = wait,
                                                         .free_data = peer_wait_unref});
    for (size_t i = 0; i < n; i++) {
        if (!wait->pending) {
            peer_wait_unref(wait);
            continue;
        }
        enum err err = peer_calls_post(context->peer_calls, &calls[i], timeout_ms, peer_wait_done,
                                       &wait->slots[i]);
        if (err != ERR_OK) {
            peer_wait_record(wait, i, NULL, err);
        }
    }
    peer_wait_unref(wait);
}
