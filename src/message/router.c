/* Owns the path from a client to its sink, and the counters of received messages. See router.h for
 * the threads. */
#include "message/router.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/telemetry/metrics.h"

struct router_sink {
    const char *name;
    struct message_queue *queue;
};

struct router {
    struct router_sink sinks[ROUTER_SINKS_MAX];
    size_t sink_count;
    struct router_observer observer;
};

struct router *router_create(void) {
    return calloc(1, sizeof(struct router));
}

void router_destroy(struct router *router) {
    free(router);
}

void router_add_sink(struct router *router, const char *name, struct message_queue *queue) {
    assert(router->sink_count < ROUTER_SINKS_MAX);
    router->sinks[router->sink_count++] = (struct router_sink){name, queue};
}

void router_observe(struct router *router, const struct router_observer *observer) {
    router->observer = *observer;
}

void router_flush(const struct router *router) {
    for (size_t i = 0; i < router->sink_count; i++) {
        message_queue_flush(router->sinks[i].queue);
    }
}

static struct message_queue *route_find_queue(const struct router *router, const char *sink) {
    for (size_t i = 0; sink && i < router->sink_count; i++) {
        if (strcmp(router->sinks[i].name, sink) == 0) {
            return router->sinks[i].queue;
        }
    }
    return router->sinks[0].queue;
}

/* ---- a client's route ---- */

void route_set(struct route *route, struct router *router, const char *sink) {
    if (route->router != router) { /* the first time: later, another thread may read it */
        route->router = router;
    }
    struct message_queue *queue = router ? route_find_queue(router, sink) : NULL;
    if (atomic_load_explicit(&route->queue, memory_order_relaxed) != queue) {
        route->queue = queue;
        atomic_store_explicit(&route->share.wanted, 0, memory_order_relaxed);
    }
}

void route_fini(struct route *route) {
    free(atomic_load_explicit(&route->dropped, memory_order_relaxed));
    *route = (struct route){0};
}

/* There is one writer, who needs no atomic addition. */
static void route_add(_Atomic int64_t *count, int64_t n) {
    int64_t before = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, before + n, memory_order_relaxed);
}

static void route_count_received(struct route *route, const struct message *received) {
    route_add(&route->messages, 1);
    route_add(&route->bytes, (int64_t)received->payload_len);
    atomic_store_explicit(&route->last_received_at_ms, received->received_us / 1000,
                          memory_order_relaxed);
    metric_add(METRIC_RECEIVED_QOS0 + received->qos, 1);
    metric_add(METRIC_BYTES_RECEIVED, (int64_t)received->payload_len);
}

static struct route_dropped *route_make_dropped(struct route *route) {
    struct route_dropped *dropped = atomic_load_explicit(&route->dropped, memory_order_relaxed);
    if (!dropped) {
        dropped = calloc(1, sizeof *dropped);
        atomic_store_explicit(&route->dropped, dropped, memory_order_release);
    }
    return dropped;
}

void route_count_dropped(struct route *route, enum message_drop reason) {
    static const enum metric metrics[MESSAGE_DROP_COUNT] = {
#define ROUTE_DROP_METRIC(symbol, metric, name) [symbol] = metric,
        MESSAGE_DROP_TABLE(ROUTE_DROP_METRIC)
#undef ROUTE_DROP_METRIC
    };
    struct route_dropped *dropped = route_make_dropped(route);
    metric_add(metrics[reason], 1);
    if (dropped) { /* without memory, only the node counts it */
        route_add(&dropped->messages[reason], 1);
    }
}

int64_t route_get_dropped(const struct route *route, int64_t out[MESSAGE_DROP_COUNT]) {
    const struct route_dropped *dropped =
        atomic_load_explicit(&route->dropped, memory_order_acquire);
    int64_t sum = 0;
    for (size_t i = 0; i < MESSAGE_DROP_COUNT; i++) {
        out[i] = dropped ? atomic_load_explicit(&dropped->messages[i], memory_order_relaxed) : 0;
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

static enum err route_put(struct route *route, struct message *message, struct receipt *receipt) {
    struct message_queue *queue = atomic_load_explicit(&route->queue, memory_order_acquire);
    const struct router_observer *observer = &route->router->observer;
    void *prepared = observer->prepare ? observer->prepare(observer->context, message) : NULL;
    enum err err = message_queue_put(queue, &route->share, message, receipt);
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
        route_count_received(route, &received);
    }
    return err;
}

bool route_has_room(const struct route *route) {
    struct message_queue *queue = atomic_load_explicit(&route->queue, memory_order_acquire);
    return message_queue_has_room(queue, &route->share);
}

void route_flush(const struct route *route) {
    message_queue_flush(atomic_load_explicit(&route->queue, memory_order_acquire));
}
