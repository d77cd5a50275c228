/* Owns which sinks routes require. */
#include "cluster/placement/placement_routes.h"

#include <stdint.h>
#include <stdio.h>
#include "message/message_origin.h"

#define BROKER_LEN 272 /* host:port */

bool placement_routes_has(const struct placement_routes *routes, uint64_t sinks,
                          const struct placement_node *node) {
    for (; sinks && node->facts.known; sinks &= sinks - 1) {
        size_t i = (size_t)__builtin_ctzll(sinks);
        if (!facts_sink(&node->facts, route_table_sink(routes->table, i))) {
            return false;
        }
    }
    return true;
}

void placement_routes_init(struct placement_routes *routes, struct sinks *sinks,
                           const struct placement_node *nodes, size_t n) {
    *routes = (struct placement_routes){.table = sinks ? sinks_routes(sinks) : NULL};
    size_t count = routes->table ? route_table_sink_count(routes->table) : 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t sink = UINT64_C(1) << i;
        for (size_t k = 0; k < n && !(routes->partial & sink); k++) {
            routes->partial |= placement_routes_has(routes, sink, &nodes[k]) ? 0 : sink;
        }
    }
}

void placement_routes_fini(struct placement_routes *routes) {
    route_table_release(routes->table);
    *routes = (struct placement_routes){.table = NULL};
}

static struct message_origin *placement_routes_origin(const struct client_config *config) {
    char broker[BROKER_LEN];
    struct message_label labels[UINT8_MAX];
    for (size_t i = 0; i < config->label_count; i++) {
        labels[i] = (struct message_label){config->labels[i].name, config->labels[i].value};
    }
    snprintf(broker, sizeof broker, "%s:%u", config->host, config->port);
    return message_origin_create(broker, labels, config->label_count);
}

enum err placement_routes_add(const struct placement_routes *routes,
                              const struct client_config *config, struct placement_need *need) {
    if (!routes->partial) {
        return ERR_OK;
    }
    struct message_origin *origin = placement_routes_origin(config);
    if (!origin) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < config->subscription_count; i++) {
        need->route_sinks |= route_table_reachable(routes->table, routes->partial, origin,
                                                   config->subscriptions[i].filter);
    }
    need->routes = routes;
    message_origin_release(origin);
    return ERR_OK;
}
