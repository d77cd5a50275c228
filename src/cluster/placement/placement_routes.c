/* Owns which sinks routes require. */
#include "cluster/placement/placement_routes.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "message/message_origin.h"

#define BROKER_LEN 272 /* host:port */

static bool placement_routes_lacks(const struct placement_node *node, const char *sink) {
    return node->facts.known && !facts_sink(&node->facts, sink);
}

static bool placement_routes_has_own(const char *sinks, const struct placement_node *node) {
    char name[SINK_NAME_LEN];
    for (size_t len; *sinks; sinks += len + 1) { /* each ends with a newline */
        len = strcspn(sinks, "\n");
        snprintf(name, sizeof name, "%.*s", (int)len, sinks);
        if (placement_routes_lacks(node, name)) {
            return false;
        }
    }
    return true;
}

bool placement_routes_has(const struct placement_need *need, const struct placement_node *node) {
    for (uint64_t sinks = need->route_sinks; sinks; sinks &= sinks - 1) {
        size_t i = (size_t)__builtin_ctzll(sinks);
        if (placement_routes_lacks(node, route_table_sink(need->routes->table, i))) {
            return false;
        }
    }
    return !need->own_sinks || placement_routes_has_own(need->own_sinks, node);
}

/* The sinks of the table that not all nodes have. */
static uint64_t placement_routes_partial(const struct placement_routes *routes,
                                         const struct route_table *table) {
    uint64_t partial = 0;
    size_t count = table ? route_table_sink_count(table) : 0;
    for (size_t i = 0; i < count; i++) {
        bool lacks = false;
        for (size_t k = 0; k < routes->node_count && !lacks; k++) {
            lacks = placement_routes_lacks(&routes->nodes[k], route_table_sink(table, i));
        }
        partial |= lacks ? UINT64_C(1) << i : 0;
    }
    return partial;
}

void placement_routes_init(struct placement_routes *routes, struct sinks *sinks,
                           const struct placement_node *nodes, size_t n) {
    *routes = (struct placement_routes){
        .table = sinks ? sinks_routes(sinks) : NULL, .nodes = nodes, .node_count = n};
    routes->partial = placement_routes_partial(routes, routes->table);
}

void placement_routes_fini(struct placement_routes *routes) {
    route_table_release(routes->table);
    *routes = (struct placement_routes){.table = NULL};
}

/* At that broker, if the client has several. */
static struct message_origin *placement_routes_origin(const struct client_config *config,
                                                      size_t url) {
    const char *host = config->urls ? config->urls[url].host : config->host;
    char broker[BROKER_LEN];
    struct message_label labels[UINT8_MAX];
    for (size_t i = 0; i < config->label_count; i++) {
        labels[i] = (struct message_label){config->labels[i].name, config->labels[i].value};
    }
    snprintf(broker, sizeof broker, "%s:%u", host,
             config->urls ? config->urls[url].port : config->port);
    return message_origin_create(broker, labels, config->label_count);
}

static uint64_t placement_routes_reachable(const struct route_table *table, uint64_t sinks,
                                           const struct client_config *config,
                                           const struct message_origin *origin) {
    uint64_t reachable = 0;
    for (size_t i = 0; sinks && i < config->subscription_count; i++) {
        reachable |= route_table_reachable(table, sinks, origin, config->subscriptions[i].filter);
    }
    return reachable;
}

/* The names of these sinks, a line each. */
static enum err placement_routes_name(const struct route_table *table, uint64_t sinks, char **out) {
    struct buffer names;
    if (!sinks) {
        return ERR_OK;
    }
    buffer_init(&names);
    for (; sinks; sinks &= sinks - 1) {
        buffer_printf(&names, "%s\n", route_table_sink(table, (size_t)__builtin_ctzll(sinks)));
    }
    *out = buffer_take(&names);
    return *out ? ERR_OK : ERR_MEMORY;
}

enum err placement_routes_add(const struct placement_routes *routes,
                              const struct client_config *config, struct placement_need *need) {
    const struct route_table *own = client_config_routes(config);
    uint64_t own_partial = own ? placement_routes_partial(routes, own) : 0;
    if (!routes->partial && !own_partial) {
        return ERR_OK;
    }
    uint64_t own_sinks = 0;
    need->routes = routes;
    for (size_t i = 0; i < (config->urls ? config->url_count : 1); i++) {
        struct message_origin *origin = placement_routes_origin(config, i);
        if (!origin) {
            return ERR_MEMORY;
        }
        need->route_sinks |=
            placement_routes_reachable(routes->table, routes->partial, config, origin);
        own_sinks |= placement_routes_reachable(own, own_partial, config, origin);
        message_origin_release(origin);
    }
    return placement_routes_name(own, own_sinks, &need->own_sinks);
}
