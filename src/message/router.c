/* Owns which sinks and routes a node has. A change makes a new snapshot of the routes, which
 * clients take over one by one. See router.h for the threads. */
#include "message/router.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "message/sink_name.h"
#include "router_internal.h"

struct router *router_create(void) {
    struct router *router = calloc(1, sizeof *router);
    struct rate_quotas *quotas = rate_quotas_create();
    if (!router || !quotas) {
        rate_quotas_destroy(quotas);
        free(router);
        return NULL;
    }
    pthread_mutex_init(&router->lock, NULL);
    router->quotas = quotas;
    return router;
}

void router_destroy(struct router *router) {
    if (router) {
        routing_release(router->routing);
        route_table_release(router->routes);
        rate_quotas_destroy(router->quotas);
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

/* ---- routes ---- */

/* Called with the lock. */
static struct message_queue *router_find_queue_locked(void *context, const char *name) {
    const struct router_sink *sink = router_find_sink(context, name);
    return sink ? sink->queue : NULL;
}

/* Called with the lock. */
static struct routing_sinks router_sinks_locked(struct router *router) {
    return (struct routing_sinks){.context = router,
                                  .find = router_find_queue_locked,
                                  .dead_letters =
                                      router_find_queue_locked(router, SINK_DEAD_LETTER)};
}

/* Called with the lock, after a change. False: out of memory, the snapshot is as before. */
static bool router_renew_routing(struct router *router) {
    struct routing_sinks sinks = router_sinks_locked(router);
    struct routing *routing = NULL;
    if (router->routes) {
        routing = routing_create(route_table_retain(router->routes), &sinks);
        if (!routing) {
            return false;
        }
    }
    routing_release(router->routing);
    router->routing = routing;
    router->generation++;
    return true;
}

bool router_set_routes(struct router *router, struct route_table *table) {
    pthread_mutex_lock(&router->lock);
    struct route_table *before = router->routes;
    router->routes = table;
    bool renewed = router_renew_routing(router);
    if (!renewed) {
        router->routes = before;
    }
    pthread_mutex_unlock(&router->lock);
    route_table_release(renewed ? before : table);
    return renewed;
}

struct route_table *router_routes(struct router *router) {
    pthread_mutex_lock(&router->lock);
    struct route_table *table = route_table_retain(router->routes);
    pthread_mutex_unlock(&router->lock);
    return table;
}

struct rate_quotas *router_quotas(const struct router *router) {
    return router->quotas;
}

void router_quotas_changed(struct router *router) {
    pthread_mutex_lock(&router->lock);
    router->generation++;
    pthread_mutex_unlock(&router->lock);
}

bool router_needs_origin(struct router *router) {
    pthread_mutex_lock(&router->lock);
    bool needs =
        router->origin_required || (router->routes && route_table_needs_origin(router->routes));
    pthread_mutex_unlock(&router->lock);
    return needs;
}

void router_require_origin(struct router *router) {
    pthread_mutex_lock(&router->lock);
    router->generation += router->origin_required ? 0 : 1;
    router->origin_required = true;
    pthread_mutex_unlock(&router->lock);
}

bool router_take_routing(struct router *router, struct route_table *own, struct routing **out) {
    pthread_mutex_lock(&router->lock);
    struct routing *routing = routing_retain(router->routing);
    if (own) {
        struct routing_sinks sinks = router_sinks_locked(router);
        routing = routing_create_own(route_table_retain(own), routing, &sinks);
    }
    pthread_mutex_unlock(&router->lock);
    *out = routing;
    return routing || !own;
}

/* ---- sinks that come and go ---- */

/* Called with the lock. If out of memory, messages are routed as before, or wait. */
static void router_renew_or_keep(struct router *router) {
    if (!router_renew_routing(router)) {
        router->generation++;
    }
}

bool router_add_sink(struct router *router, const char *name, struct message_queue *queue) {
    pthread_mutex_lock(&router->lock);
    struct router_sink *sink = router_find_sink(router, name);
    sink = sink ? sink : router_new_sink(router, name);
    if (sink) {
        sink->queue = queue;
        router_renew_or_keep(router);
    }
    pthread_mutex_unlock(&router->lock);
    return sink != NULL;
}

struct message_queue *router_find_queue(struct router *router, const char *name) {
    pthread_mutex_lock(&router->lock);
    const struct router_sink *sink = name ? router_find_sink(router, name) : &router->sinks[0];
    struct message_queue *queue = sink ? sink->queue : NULL;
    pthread_mutex_unlock(&router->lock);
    return queue;
}

bool router_find_name(struct router *router, const struct message_queue *queue,
                      char out[SINK_NAME_MAX + 1]) {
    bool found = false;
    pthread_mutex_lock(&router->lock);
    for (size_t i = 0; i < router->sink_count && !found; i++) {
        found = router->sinks[i].queue == queue;
        if (found) {
            memcpy(out, router->sinks[i].name, sizeof router->sinks[i].name);
        }
    }
    pthread_mutex_unlock(&router->lock);
    return found;
}

void router_remove_sink(struct router *router, const char *name) {
    pthread_mutex_lock(&router->lock);
    struct router_sink *sink = router_find_sink(router, name);
    if (sink) {
        sink->name[0] = '\0';
        sink->queue = NULL;
        router_renew_or_keep(router);
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
