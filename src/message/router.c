/* Owns the path from a client to its sink, and the counters of received messages. See router.h for
 * the threads. */
#include "message/router.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "message/sink_name.h"

#define NS_PER_US        1000
#define NS_PER_MS        1000000
#define US_PER_MS        1000
#define LIMITED_SHOWN_MS 5000 /* after the last message over the limits */

struct router_sink {
    char name[SINK_NAME_MAX + 1];          /* "": free; guarded by lock */
    _Atomic(struct message_queue *) queue; /* written under the lock */
};

struct router {
    struct router_observer observer;
    pthread_mutex_t lock;
    struct router_sink sinks[ROUTER_SINKS_MAX];
    _Atomic size_t sink_count; /* places used so far; written under the lock */
    _Atomic uint16_t generation;
    atomic_bool stopped;
};

struct router *router_create(void) {
    struct router *router = calloc(1, sizeof *router);
    if (router) {
        pthread_mutex_init(&router->lock, NULL);
    }
    return router;
}

void router_destroy(struct router *router) {
    if (router) {
        pthread_mutex_destroy(&router->lock);
        free(router);
    }
}

/* ---- sinks ---- */

/* Called with the lock. NULL: there is none; of the name "", no free place. */
static struct router_sink *router_find_sink(struct router *router, const char *name) {
    for (size_t i = 0; i < router->sink_count; i++) {
        if (strcmp(router->sinks[i].name, name) == 0) {
            return &router->sinks[i];
        }
    }
    return NULL;
}

/* Called with the lock. NULL: no place is left. */
static struct router_sink *router_new_sink(struct router *router, const char *name) {
    struct router_sink *sink = router_find_sink(router, "");
    if (!sink && router->sink_count < ROUTER_SINKS_MAX) {
        sink = &router->sinks[router->sink_count++];
    }
    if (sink) {
        snprintf(sink->name, sizeof sink->name, "%s", name);
    }
    return sink;
}

bool router_add_sink(struct router *router, const char *name, struct message_queue *queue) {
    pthread_mutex_lock(&router->lock);
    struct router_sink *sink = router_find_sink(router, name);
    sink = sink ? sink : router_new_sink(router, name);
    if (sink) {
        sink->queue = queue;
        router->generation++;
    }
    pthread_mutex_unlock(&router->lock);
    return sink != NULL;
}

/* NULL: there is no such sink. name NULL: of the default. */
static struct message_queue *router_find_queue(struct router *router, const char *name) {
    pthread_mutex_lock(&router->lock);
    const struct router_sink *sink = name ? router_find_sink(router, name) : &router->sinks[0];
    struct message_queue *queue = sink ? sink->queue : NULL;
    pthread_mutex_unlock(&router->lock);
    return queue;
}

void router_remove_sink(struct router *router, const char *name) {
    pthread_mutex_lock(&router->lock);
    struct router_sink *sink = router_find_sink(router, name);
    if (sink) {
        sink->name[0] = '\0';
        sink->queue = NULL;
        router->generation++;
    }
    pthread_mutex_unlock(&router->lock);
}

uint16_t router_generation(const struct router *router) {
    return atomic_load_explicit(&router->generation, memory_order_acquire);
}

void router_stop(struct router *router) {
    router->stopped = true;
}

void router_observe(struct router *router, const struct router_observer *observer) {
    router->observer = *observer;
}

void router_flush(const struct router *router) {
    for (size_t i = 0; i < router->sink_count; i++) {
        struct message_queue *queue = router->sinks[i].queue;
        if (queue) {
            message_queue_flush(queue);
        }
    }
}

/* ---- a client's route ---- */

void route_set(struct route *route, struct router *router, const char *sink) {
    if (route->router != router) { /* the first time: later, another thread may read it */
        route->router = router;
    }
    struct message_queue *queue = router ? router_find_queue(router, sink) : NULL;
    if (atomic_load_explicit(&route->queue, memory_order_relaxed) != queue) {
        route->queue = queue;
        atomic_store_explicit(&route->share.wanted, 0, memory_order_relaxed);
    }
}

void route_fini(struct route *route) {
    free(atomic_load_explicit(&route->record, memory_order_relaxed));
    *route = (struct route){0};
}

static struct route_record *route_find_record(const struct route *route) {
    return atomic_load_explicit(&route->record, memory_order_acquire);
}

/* NULL: out of memory. The worker sets limits while, with Paho, another thread drops. */
static struct route_record *route_make_record(struct route *route) {
    struct route_record *record = route_find_record(route);
    if (!record) {
        struct route_record *made = calloc(1, sizeof *made);
        if (made && atomic_compare_exchange_strong(&route->record, &record, made)) {
            return made;
        }
        free(made);
    }
    return record;
}

/* There is one writer, who needs no atomic addition. */
static void route_add(_Atomic int64_t *count, int64_t n) {
    int64_t before = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, before + n, memory_order_relaxed);
}

static void route_count_received(struct route *route, uint8_t qos, size_t payload_len,
                                 int64_t received_us) {
    route_add(&route->messages, 1);
    route_add(&route->bytes, (int64_t)payload_len);
    atomic_store_explicit(&route->last_received_at_ms, received_us / US_PER_MS,
                          memory_order_relaxed);
    metric_add(METRIC_RECEIVED_QOS0 + qos, 1);
    metric_add(METRIC_BYTES_RECEIVED, (int64_t)payload_len);
}

void route_count_dropped(struct route *route, enum message_drop reason) {
    static const enum metric metrics[MESSAGE_DROP_COUNT] = {
#define ROUTE_DROP_METRIC(symbol, metric, name) [symbol] = metric,
        MESSAGE_DROP_TABLE(ROUTE_DROP_METRIC)
#undef ROUTE_DROP_METRIC
    };
    struct route_record *record = route_make_record(route);
    metric_add(metrics[reason], 1);
    if (record) { /* without memory, only the node counts it */
        route_add(&record->dropped[reason], 1);
    }
}

int64_t route_get_dropped(const struct route *route, int64_t out[MESSAGE_DROP_COUNT]) {
    const struct route_record *record = route_find_record(route);
    int64_t sum = 0;
    for (size_t i = 0; i < MESSAGE_DROP_COUNT; i++) {
        out[i] = record ? atomic_load_explicit(&record->dropped[i], memory_order_relaxed) : 0;
        sum += out[i];
    }
    return sum;
}

const char *message_drop_name(enum message_drop reason) {
    static const char *const names[MESSAGE_DROP_COUNT] = {
#define MESSAGE_DROP_NAME(symbol, metric, name) [symbol] = name,
        MESSAGE_DROP_TABLE(MESSAGE_DROP_NAME)
#undef MESSAGE_DROP_NAME
    };
    return names[reason];
}

/* ---- limits ---- */

bool route_set_limits(struct route *route, const struct rate_limit_values *limits) {
    struct route_record *record = limits ? route_make_record(route) : route_find_record(route);
    if (record) {
        rate_limit_set(&record->limit, limits);
    }
    return record || !limits;
}

/* NULL: no limits. */
static struct route_record *route_limited_record(const struct route *route) {
    struct route_record *record = route_find_record(route);
    return record && rate_limit_is_set(&record->limit) ? record : NULL;
}

int64_t route_limit_wait_ms(const struct route *route) {
    const struct route_record *record = route_limited_record(route);
    int64_t wait_ns = record ? rate_limit_wait_ns(&record->limit, clock_us() * NS_PER_US) : 0;
    return (wait_ns + NS_PER_MS - 1) / NS_PER_MS;
}

bool route_is_limited(const struct route *route) {
    const struct route_record *record = route_limited_record(route);
    if (!record) {
        return false;
    }
    int64_t at_ms = atomic_load_explicit(&record->limited_at_ms, memory_order_relaxed);
    return at_ms != 0 && (clock_ms() - at_ms < LIMITED_SHOWN_MS || route_limit_wait_ms(route) > 0);
}

bool route_admits(struct route *route, uint8_t qos, size_t payload_len) {
    struct route_record *record = route_limited_record(route);
    if (!record) {
        return true;
    }
    int64_t now_us = clock_us();
    if (rate_limit_wait_ns(&record->limit, now_us * NS_PER_US) == 0) {
        return true;
    }
    atomic_store_explicit(&record->limited_at_ms, now_us / US_PER_MS, memory_order_relaxed);
    if (qos == 0) {
        route_count_received(route, qos, payload_len, now_us);
        route_count_dropped(route, DROP_OVER_LIMIT);
    } else {
        metric_add(METRIC_LIMIT_PAUSES, 1);
    }
    return false;
}

static void route_charge(struct route *route, size_t payload_len) {
    struct route_record *record = route_limited_record(route);
    if (record) {
        rate_limit_take(&record->limit, payload_len, clock_us() * NS_PER_US);
    }
}

/* ---- messages ---- */

static enum err route_put(struct route *route, struct message *message, struct receipt *receipt) {
    struct message_queue *queue = atomic_load_explicit(&route->queue, memory_order_acquire);
    const struct router_observer *observer = &route->router->observer;
    if (!queue) {
        return ERR_FULL;
    }
    void *prepared = observer->prepare ? observer->prepare(observer->context, message) : NULL;
    enum err err = message_queue_put(queue, &route->share, message, receipt);
    if (err == ERR_WRONG_STATE && !route->router->stopped) {
        err = ERR_FULL; /* the sink was removed: held until the route is set again */
    }
    if (prepared) {
        bool passed = err == ERR_OK || err == ERR_REFUSED || err == ERR_BUSY;
        observer->show(observer->context, prepared, passed);
    }
    return err;
}

enum err route_submit(struct route *route, struct message *message, struct receipt *receipt) {
    struct message received = *message; /* the message itself may be gone once it is put */
    enum err err = route_put(route, message, receipt);
    if (err == ERR_REFUSED || err == ERR_BUSY) { /* it is gone */
        route_count_dropped(route, err == ERR_BUSY ? DROP_OVER_SHARE : DROP_SINK_FULL);
        err = ERR_OK;
    } else if (received.qos == 0 && err != ERR_OK) {
        route_count_dropped(route, DROP_SINK_REFUSED);
    }
    if (err == ERR_OK) {
        route_count_received(route, received.qos, received.payload_len, received.received_us);
        route_charge(route, received.payload_len);
    }
    return err;
}

bool route_has_room(const struct route *route) {
    struct message_queue *queue = atomic_load_explicit(&route->queue, memory_order_acquire);
    return queue && message_queue_has_room(queue, &route->share);
}

void route_flush(const struct route *route) {
    struct message_queue *queue = atomic_load_explicit(&route->queue, memory_order_acquire);
    if (queue) {
        message_queue_flush(queue);
    }
}
