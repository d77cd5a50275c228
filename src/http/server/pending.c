/* Owns the open waits: their number, their deadlines and the checks for callers that have gone. Any
 * thread.
 *
 * A pending has up to three references: of the request, until pending_run; of the source; of a
 * thread that has collected it, until it is resumed. */
#include "http/server/pending.h"

#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "http/api/api.h"
#include "http/server/problem.h"
#include "mqtt/client/timers.h"

#define PENDING_CHECK_MS 1000 /* between two looks at callers */

enum { PENDING_STATE_PARKED = 1, PENDING_STATE_ENDED = 2 };

struct pending {
    struct timer timer; /* must be first: it is cast to the pending */
    struct pendings *pendings;
    struct http_request *request;
    struct pending_plan plan;
    atomic_int refs;
    atomic_int state; /* bits */
    enum pending_end end;
    atomic_bool is_open; /* written under the lock of pendings */
    struct pending *prev, *next;
};

struct pendings {
    size_t max;
    pending_continue *continue_request;
    void (*wake)(void *context);
    void *context;
    struct pollfd *poll_fds; /* max entries; used by the thread of pendings_turn only */
    struct pending **polled; /* the same */

    pthread_mutex_t lock; /* guards the rest */
    size_t count;
    struct timers timers;
    struct pending *list;
    int64_t turn_at_ms, check_at_ms;
    enum { PENDINGS_RUNNING, PENDINGS_STOPPING, PENDINGS_STOPPING_ALL } stage;
};

/* ---- life ------------------------------------------------------------------------------------ */

struct pendings *pendings_create(size_t max, pending_continue *continue_request,
                                 void (*wake)(void *context), void *context) {
    struct pendings *pendings = calloc(1, sizeof *pendings);
    if (!pendings) {
        return NULL;
    }
    pendings->max = max;
    pendings->continue_request = continue_request;
    pendings->wake = wake;
    pendings->context = context;
    pthread_mutex_init(&pendings->lock, NULL);
    timers_init(&pendings->timers);
    pendings->poll_fds = calloc(max, sizeof *pendings->poll_fds);
    pendings->polled = calloc(max, sizeof(struct pending *));
    if (!pendings->poll_fds || !pendings->polled ||
        timers_reserve(&pendings->timers, max) != ERR_OK) {
        pendings_destroy(pendings);
        return NULL;
    }
    return pendings;
}

void pendings_destroy(struct pendings *pendings) {
    if (!pendings) {
        return;
    }
    assert(pendings->count == 0);
    timers_fini(&pendings->timers);
    free(pendings->poll_fds);
    free(pendings->polled);
    pthread_mutex_destroy(&pendings->lock);
    free(pendings);
}

static void pending_free_plan(const struct pending_plan *plan) {
    if (plan->free_data && plan->data) {
        plan->free_data(plan->data);
    }
}

static void pending_unref(struct pending *pending) {
    if (atomic_fetch_sub(&pending->refs, 1) == 1) {
        pending_free_plan(&pending->plan);
        free(pending);
    }
}

/* ---- begin ----------------------------------------------------------------------------------- */

/* Under the lock. The node has already ended such waits, because it stops. */
static bool pending_is_late(const struct pendings *pendings, const struct pending *pending) {
    return pendings->stage == PENDINGS_STOPPING_ALL ||
           (pendings->stage == PENDINGS_STOPPING &&
            (pending->plan.flags & PENDING_ENDS_AT_STOP) != 0);
}

/* False: too many requests wait. *sooner: the next turn must come earlier than planned. */
static bool pending_open(struct pendings *pendings, struct pending *pending, bool *sooner) {
    int64_t at_ms = clock_ms() + pending->plan.timeout_ms;
    pthread_mutex_lock(&pendings->lock);
    at_ms = pending_is_late(pendings, pending) ? 0 : at_ms;
    bool room = pendings->count < pendings->max;
    if (room) {
        pendings->count++;
        pending->is_open = true;
        DL_APPEND(pendings->list, pending);
        if ((pending->plan.flags & PENDING_UNTIL_SOURCE) == 0) {
            timers_set(&pendings->timers, &pending->timer, at_ms);
        }
    }
    *sooner = room && at_ms < pendings->turn_at_ms;
    pthread_mutex_unlock(&pendings->lock);
    return room;
}

struct pending *pending_begin(struct http_request *request, struct http_response *response,
                              const struct pending_plan *plan) {
    struct pendings *pendings = request->api->pendings;
    struct pending *pending = calloc(1, sizeof *pending);
    bool sooner = false;
    assert(!request->pending);
    if (!pending) {
        pending_free_plan(plan);
        http_problem_memory(response);
        return NULL;
    }
    pending->pendings = pendings;
    pending->request = request;
    pending->plan = *plan;
    atomic_init(&pending->refs, 2);
    if (!pending_open(pendings, pending, &sooner)) {
        pending_free_plan(plan);
        free(pending);
        metric_add(METRIC_HTTP_REFUSED, 1);
        http_problem(response, PROBLEM_OVERLOAD,
                     "%zu requests are waiting, the limit of http.waiters", pendings->max);
        return NULL;
    }
    request->pending = pending;
    if (sooner) {
        pendings->wake(pendings->context);
    }
    return pending;
}

void pending_cancel(struct http_request *request, struct pending *pending) {
    assert(request->pending == pending);
    request->pending = NULL;
    (void)pending_claim(pending);
    pending_unref(pending);
    pending_unref(pending);
}

/* ---- end ------------------------------------------------------------------------------------- */

/* Under the lock. */
static void pending_close(struct pending *pending) {
    struct pendings *pendings = pending->pendings;
    DL_DELETE(pendings->list, pending);
    timers_clear(&pendings->timers, &pending->timer);
    pendings->count--;
    pending->is_open = false; /* last: pending_claim reads it without the lock */
}

bool pending_claim(struct pending *pending) {
    if (!atomic_load(&pending->is_open)) {
        return false; /* the server may be destroyed already */
    }
    struct pendings *pendings = pending->pendings;
    pthread_mutex_lock(&pendings->lock);
    bool open = pending->is_open;
    if (open) {
        pending_close(pending);
    }
    pthread_mutex_unlock(&pendings->lock);
    return open;
}

/* A parked request keeps its reference until it continues below. If it is not parked, another
 * thread may continue or cancel it as soon as the state is set. */
void pending_resume(struct pending *pending) {
    bool parked =
        (atomic_fetch_or(&pending->state, PENDING_STATE_ENDED) & PENDING_STATE_PARKED) != 0;
    struct pendings *pendings = pending->pendings;
    struct http_request *request = pending->request;
    pending_unref(pending);
    if (parked) {
        pendings->continue_request(request, pending);
    }
}

void pending_drop(struct pending *pending) {
    pending_unref(pending);
}

void pending_park(struct pending *pending) {
    if (atomic_fetch_or(&pending->state, PENDING_STATE_PARKED) & PENDING_STATE_ENDED) {
        pending->pendings->continue_request(pending->request, pending);
    }
}

bool pending_has_flag(const struct pending *pending, unsigned flag) {
    return (pending->plan.flags & flag) != 0;
}

void pending_run(struct pending *pending, struct http_request *request,
                 struct http_response *response) {
    pending->plan.then(request, response, pending->end, pending->plan.data);
    pending_unref(pending);
}

/* Under the lock. Claims the pending for the thread that resumes the chain. */
static void pending_collect(struct pending **chain, struct pending *pending, enum pending_end end) {
    atomic_fetch_add(&pending->refs, 1); /* before others see that it is closed */
    pending_close(pending);
    pending->end = end;
    LL_PREPEND(*chain, pending); /* uses `next`, which is free after pending_close */
}

static void pending_resume_chain(struct pending *chain) {
    while (chain) {
        struct pending *pending = chain;
        chain = chain->next;
        pending_resume(pending);
    }
}

static void pending_collect_due(struct pendings *pendings, struct pending **chain, int64_t now_ms) {
    struct timer *timer;
    while ((timer = timers_due(&pendings->timers, now_ms))) {
        pending_collect(chain, (struct pending *)timer, PENDING_TIMEOUT);
    }
}

/* Under the lock, which keeps the waits open, and so their sockets. */
static void pending_collect_gone(struct pendings *pendings, struct pending **chain) {
    struct pending *pending;
    nfds_t n = 0;
    DL_FOREACH(pendings->list, pending) {
        if ((pending->plan.flags & (PENDING_UNTIL_SOURCE | PENDING_OUTLIVES_CALLER)) == 0 &&
            pending->request->socket >= 0) {
            pendings->poll_fds[n] =
                (struct pollfd){.fd = pending->request->socket, .events = POLLRDHUP};
            pendings->polled[n++] = pending;
        }
    }
    int gone = n > 0 ? poll(pendings->poll_fds, n, 0) : 0;
    for (nfds_t i = 0; gone > 0 && i < n; i++) {
        if (pendings->poll_fds[i].revents != 0) {
            pending_collect(chain, pendings->polled[i], PENDING_GONE);
        }
    }
}

int64_t pendings_turn(void *context, int64_t now_ms) {
    struct pendings *pendings = context;
    struct pending *chain = NULL;
    pthread_mutex_lock(&pendings->lock);
    pending_collect_due(pendings, &chain, now_ms);
    if (now_ms >= pendings->check_at_ms) {
        pendings->check_at_ms = now_ms + PENDING_CHECK_MS;
        pending_collect_gone(pendings, &chain);
    }
    int64_t wait_ms = timers_wait_ms(&pendings->timers, now_ms, pendings->check_at_ms - now_ms);
    pendings->turn_at_ms = now_ms + wait_ms;
    pthread_mutex_unlock(&pendings->lock);
    pending_resume_chain(chain);
    return wait_ms;
}

void pendings_stop(struct pendings *pendings, bool all) {
    struct pending *pending, *next, *chain = NULL;
    pthread_mutex_lock(&pendings->lock);
    pendings->stage = all ? PENDINGS_STOPPING_ALL : PENDINGS_STOPPING;
    DL_FOREACH_SAFE(pendings->list, pending, next) {
        if (pending_is_late(pendings, pending) &&
            (pending->plan.flags & PENDING_UNTIL_SOURCE) == 0) {
            pending_collect(&chain, pending, PENDING_STOPPING);
        }
    }
    pthread_mutex_unlock(&pendings->lock);
    pending_resume_chain(chain);
}

size_t pendings_count(struct pendings *pendings) {
    pthread_mutex_lock(&pendings->lock);
    size_t count = pendings->count;
    pthread_mutex_unlock(&pendings->lock);
    return count;
}
