/* Owns the path from one client to its sinks.
 *
 * A client without an origin and without routes has a queue and nothing else. The plan of the
 * others is replaced by the worker when something changes. With Paho, another thread may submit
 * meanwhile, so the plan is used with the route's lock: one atomic exchange when it is free. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/telemetry/metrics.h"
#include "message/router.h"
#include "router_internal.h"

enum route_held { ROUTE_NOT_HELD, ROUTE_HELD_BY_QUEUE, ROUTE_HELD_BY_SINKS };

struct route_plan {
    struct routing *routing;       /* NULL: no routes */
    struct message_origin *origin; /* NULL: none */
    enum route_held held;          /* why a message was last rejected with ERR_FULL */
    struct message_queue *full;    /* of ROUTE_HELD_BY_QUEUE */
    struct message_queue_share *full_share;
    const char *missing;                 /* of ROUTE_HELD_BY_SINKS; NULL: the sink of the client */
    struct message_queue_share shares[]; /* of the sinks of the routes */
};

/* ---- lock ---- */

/* Readers lock, too. */
static atomic_flag *route_flag(const struct route *route) {
    return (atomic_flag *)(uintptr_t)&route->share.locked;
}

static void route_lock(const struct route *route) {
    while (atomic_flag_test_and_set_explicit(route_flag(route), memory_order_acquire)) {
        sched_yield(); /* held for microseconds; while a script runs, at most SCRIPT_CPU_MS_MAX */
    }
}

static void route_unlock(const struct route *route) {
    atomic_flag_clear_explicit(route_flag(route), memory_order_release);
}

/* With the lock, unless only NULL matters. */
static struct route_plan *route_get_plan(const struct route *route) {
    const struct route_record *record = route_find_record(route);
    return record ? atomic_load_explicit(&record->plan, memory_order_acquire) : NULL;
}

/* ---- set ---- */

static void route_free_plan(struct route_plan *plan) {
    if (plan) {
        routing_release(plan->routing);
        message_origin_release(plan->origin);
        free(plan);
    }
}

/* Takes over both. NULL: out of memory. */
static struct route_plan *route_make_plan(struct route *route, struct routing *routing,
                                          struct message_origin *origin) {
    size_t shares = routing ? routing_sink_count(routing) : 0;
    struct route_plan *plan = NULL;
    if (route_make_record(route)) {
        plan = calloc(1, sizeof *plan + shares * sizeof plan->shares[0]);
    }
    if (!plan) {
        routing_release(routing);
        message_origin_release(origin);
        return NULL;
    }
    plan->routing = routing;
    plan->origin = origin;
    return plan;
}

/* With the lock. plan NULL, or there is a record. Returns what was there, to be freed. */
static struct route_plan *route_replace(struct route *route, struct message_queue *queue,
                                        struct route_plan *plan) {
    struct route_plan *before = route_get_plan(route);
    struct route_record *record = route_find_record(route);
    if (record) {
        atomic_store_explicit(&record->plan, plan, memory_order_release);
    }
    if (atomic_load_explicit(&route->queue, memory_order_relaxed) != queue) {
        route->queue = queue;
        atomic_store_explicit(&route->share.wanted, 0, memory_order_relaxed);
    }
    return before;
}

bool route_set(struct route *route, struct router *router, const char *sink,
               struct route_table *routes, struct message_origin *origin) {
    if (route->router != router) { /* the first time: later, another thread may read it */
        route->router = router;
    }
    struct message_queue *queue = router ? router_find_queue(router, sink) : NULL;
    struct routing *routing = NULL;
    struct route_plan *plan = NULL;
    if (router && !router_take_routing(router, routes, &routing)) {
        message_origin_release(origin);
        return false;
    }
    if (routing || origin) {
        plan = route_make_plan(route, routing, origin);
        if (!plan) {
            return false;
        }
    }
    route_lock(route);
    struct route_plan *before = route_replace(route, queue, plan);
    route_unlock(route);
    route_free_plan(before);
    return true;
}

struct message_origin *route_origin(const struct route *route) {
    if (!route_get_plan(route)) {
        return NULL;
    }
    route_lock(route);
    const struct route_plan *plan = route_get_plan(route);
    struct message_origin *origin = message_origin_retain(plan ? plan->origin : NULL);
    route_unlock(route);
    return origin;
}

void route_fini(struct route *route) {
    route_free_plan(route_get_plan(route));
    rate_quota_release(route_quota(route));
    free(atomic_load_explicit(&route->record, memory_order_relaxed));
    *route = (struct route){0};
}

/* ---- submit ---- */

static enum err route_put_in_queue(struct route *route, struct message *message,
                                   struct receipt *receipt) {
    struct message_queue *queue = atomic_load_explicit(&route->queue, memory_order_acquire);
    return queue ? message_queue_put(queue, &route->share, message, receipt) : ERR_FULL;
}

static void route_set_origin(struct message *message, struct message_origin *origin) {
    if (message->origin != origin) {
        message_origin_release(message->origin);
        message->origin = message_origin_retain(origin);
    }
}

static void route_count_dropped_copies(struct route *route, enum message_drop reason,
                                       size_t count) {
    for (size_t i = 0; i < count; i++) { /* at most one for each sink */
        route_count_dropped(route, reason);
    }
}

/* With the lock. Not inlined: without routes, a message needs none of its variables. */
__attribute__((noinline)) static enum err route_put_by_routes(struct route *route,
                                                              struct route_plan *plan,
                                                              struct message *message,
                                                              struct receipt *receipt) {
    struct routing_client client = {.standard =
                                        atomic_load_explicit(&route->queue, memory_order_relaxed),
                                    .standard_share = &route->share,
                                    .shares = plan->shares};
    struct routing_result result;
    enum err err = routing_submit(plan->routing, &client, message, receipt, &result);
    plan->held = result.full           ? ROUTE_HELD_BY_QUEUE
                 : result.sink_missing ? ROUTE_HELD_BY_SINKS
                                       : ROUTE_NOT_HELD; /* if out of memory, it is tried again */
    plan->full = result.full;
    plan->full_share = result.full_share;
    plan->missing = result.missing;
    route_count_dropped_copies(route, DROP_SINK_FULL, result.dropped);
    route_count_dropped_copies(route, DROP_OVER_SHARE, result.dropped_over_share);
    route_count_dropped_copies(route, DROP_BEST_EFFORT, result.dropped_also);
    if (result.filtered) {
        metric_add(METRIC_MESSAGES_FILTERED, 1);
    }
    return err;
}

/* Once the message has its origin: who may watch it depends on the labels. */
static void *route_prepare_watched(const struct route *route, const struct message *message) {
    const struct router_observer *observer = &route->router->observer;
    return observer->prepare ? observer->prepare(observer->context, message) : NULL;
}

static enum err route_put_anywhere(struct route *route, struct message *message,
                                   struct receipt *receipt, void **prepared) {
    if (!route_get_plan(route)) {
        *prepared = route_prepare_watched(route, message);
        return route_put_in_queue(route, message, receipt);
    }
    route_lock(route);
    struct route_plan *plan = route_get_plan(route);
    route_set_origin(message, plan ? plan->origin : NULL);
    *prepared = route_prepare_watched(route, message);
    enum err err = plan && plan->routing ? route_put_by_routes(route, plan, message, receipt)
                                         : route_put_in_queue(route, message, receipt);
    route_unlock(route);
    return err;
}

static enum err route_put(struct route *route, struct message *message, struct receipt *receipt) {
    const struct router_observer *observer = &route->router->observer;
    void *prepared = NULL;
    enum err err = route_put_anywhere(route, message, receipt, &prepared);
    if (err == ERR_WRONG_STATE && !route->router->stopped) {
        err = ERR_FULL; /* the sink was removed: held until the route is set again */
    }
    if (prepared) {
        bool passed = err == ERR_OK || err == ERR_REFUSED || err == ERR_BUSY;
        observer->show(observer->context, prepared, passed);
    }
    return err;
}

/* Few clients have a record. */
static void route_note_outcome(struct route *route, enum err err, size_t payload_len) {
    if (err == ERR_FULL || route_find_record(route)) {
        route_note_held(route, err == ERR_FULL);
        if (err == ERR_OK) {
            route_charge(route, payload_len);
        }
    }
}

enum err route_submit(struct route *route, struct message *message, struct receipt *receipt) {
    const uint8_t qos = message->qos; /* the message may be gone once it is put */
    const size_t payload_len = message->payload_len;
    const int64_t received_us = message->received_us;
    enum err err = route_put(route, message, receipt);
    if (err == ERR_REFUSED || err == ERR_BUSY) { /* it is gone */
        route_count_dropped(route, err == ERR_BUSY ? DROP_OVER_SHARE : DROP_SINK_FULL);
        err = ERR_OK;
    } else if (qos == 0 && err != ERR_OK) {
        route_count_dropped(route, DROP_SINK_REFUSED);
    }
    if (err == ERR_OK || err == ERR_FULL) {
        route_note_outcome(route, err, payload_len);
    }
    if (err == ERR_OK) {
        route_count_received(route, qos, payload_len, received_us);
    }
    return err;
}

static bool route_queue_has_room(const struct route *route) {
    struct message_queue *queue = atomic_load_explicit(&route->queue, memory_order_acquire);
    return queue && message_queue_has_room(queue, &route->share);
}

/* With the lock. */
static bool route_routes_have_room(const struct route_plan *plan) {
    switch (plan->held) {
    case ROUTE_HELD_BY_QUEUE:
        return message_queue_has_room(plan->full, plan->full_share);
    case ROUTE_HELD_BY_SINKS:
        return false; /* until the route is set again */
    default:
        return true;
    }
}

bool route_has_room(const struct route *route) {
    if (!route_get_plan(route)) {
        return route_queue_has_room(route);
    }
    route_lock(route);
    const struct route_plan *plan = route_get_plan(route);
    bool has_room =
        plan && plan->routing ? route_routes_have_room(plan) : route_queue_has_room(route);
    route_unlock(route);
    return has_room;
}

/* ---- what holds a client ---- */

struct route_holds {
    struct route_hold *list;
    const struct message_queue *queues[ROUTE_HOLDS_MAX]; /* NULL: the name is known */
    size_t count;
    int64_t since_ms;
};

/* queue NULL: the sink of that name is missing. */
static void route_add_hold(struct route_holds *holds, enum route_hold_reason reason,
                           const struct message_queue *queue, const char *name) {
    if (holds->count < ROUTE_HOLDS_MAX) {
        struct route_hold *hold = &holds->list[holds->count];
        *hold = (struct route_hold){.reason = reason,
                                    .since_ms = reason == ROUTE_HOLD_QUEUED ? 0 : holds->since_ms};
        snprintf(hold->sink, sizeof hold->sink, "%s", name);
        holds->queues[holds->count++] = queue;
    }
}

static void route_add_queue_hold(struct route_holds *holds, struct message_queue *queue,
                                 const struct message_queue_share *share, bool may_be_full) {
    if (may_be_full && atomic_load_explicit(&share->wanted, memory_order_relaxed) != 0 &&
        !message_queue_has_room(queue, share)) {
        route_add_hold(holds, ROUTE_HOLD_FULL, queue, "");
    } else if (message_queue_has_some(queue, share)) {
        route_add_hold(holds, ROUTE_HOLD_QUEUED, queue, "");
    }
}

/* With the lock. */
static void route_add_plan_holds(struct route_holds *holds, const struct route_plan *plan,
                                 const char *own) {
    bool full =
        plan->held == ROUTE_HELD_BY_QUEUE && !message_queue_has_room(plan->full, plan->full_share);
    if (plan->held == ROUTE_HELD_BY_SINKS) {
        route_add_hold(holds, ROUTE_HOLD_MISSING, NULL, plan->missing ? plan->missing : own);
    } else if (full) {
        route_add_hold(holds, ROUTE_HOLD_FULL, plan->full, "");
    }
    for (size_t i = 0; i < routing_sink_count(plan->routing); i++) {
        struct message_queue *queue = routing_queue(plan->routing, i);
        if (queue && !(full && queue == plan->full)) {
            route_add_queue_hold(holds, queue, &plan->shares[i], false);
        }
    }
}

size_t route_get_holds(const struct route *route, const char *own,
                       struct route_hold out[ROUTE_HOLDS_MAX]) {
    const struct route_record *record = route_find_record(route);
    struct route_holds holds = {.list = out, .since_ms = record ? record->held_since_ms : 0};
    own = own ? own : SINK_DEFAULT;
    if (!route->router) {
        return 0;
    }
    route_lock(route);
    const struct route_plan *plan = route_get_plan(route);
    bool routed = plan && plan->routing;
    struct message_queue *queue = atomic_load_explicit(&route->queue, memory_order_acquire);
    if (routed) {
        route_add_plan_holds(&holds, plan, own);
    }
    if (queue && !(holds.count > 0 && holds.queues[0] == queue)) {
        route_add_queue_hold(&holds, queue, &route->share, !routed);
    } else if (!queue && !routed) {
        route_add_hold(&holds, ROUTE_HOLD_MISSING, NULL, own);
    }
    route_unlock(route);
    for (size_t i = 0; i < holds.count; i++) {
        if (holds.queues[i] && !router_find_name(route->router, holds.queues[i], out[i].sink)) {
            snprintf(out[i].sink, sizeof out[i].sink, "%s", own); /* it has just been removed */
        }
    }
    return holds.count;
}

void route_flush(const struct route *route) {
    router_flush(route->router);
}
