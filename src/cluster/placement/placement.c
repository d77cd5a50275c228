/* Decides which nodes can run a client, and which node gets it. No state; any thread. */
#include "cluster/placement/placement.h"

#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "cluster/placement/placement_routes.h"
#include "level.h"

#define LAG_MS_MAX      2000  /* a node with a greater lag gets no clients */
#define SINK_FAILING_MS 10000 /* a shorter failure may be a restart of the sink */

static const struct {
    const char *code, *text;
} placement_wait_rows[PLACEMENT_WAIT_COUNT] = {
#define PLACEMENT_ROW(symbol, code, text) [symbol] = {code, text},
    PLACEMENT_WAITS(PLACEMENT_ROW)
#undef PLACEMENT_ROW
};

const char *placement_wait_code(enum placement_wait wait) {
    return placement_wait_rows[wait].code;
}

const char *placement_wait_text(enum placement_wait wait) {
    return placement_wait_rows[wait].text;
}

/* ---- nodes and needs ---------------------------------------------------------------------------
 */

size_t placement_eligible_nodes(const struct store_node *all, size_t n,
                                struct placement_node *out) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const struct store_node *node = &all[i];
        if (!node->heartbeat_valid || node->state != STORE_NODE_LIVE) {
            continue;
        }
        struct placement_node *eligible = &out[count];
        *eligible = (struct placement_node){.name = node->name,
                                            .incarnation = node->incarnation,
                                            .clients = node->clients,
                                            .size = node->size};
        facts_read(&eligible->facts, node->facts);
        count += eligible->facts.lag_ms < LAG_MS_MAX;
    }
    return count;
}

enum err placement_need_of(struct client_config *config, const struct placement_routes *routes,
                           struct placement_need *out) {
    *out = (struct placement_need){.profile = config->profile};
    if (config->sink && !(out->sink = text_dup(config->sink))) {
        return ERR_MEMORY;
    }
    /* Most configurations have no encrypted secret. A walk over all their fields would cost more
     * than the rest of the placement. */
    bool sealed = !config->source || config->profile || strstr(config->source, SECRET_SEALED);
    enum err err = sealed ? client_secrets_keys(config, &out->keys) : ERR_OK;
    if (err == ERR_OK) {
        err = placement_routes_add(routes, config, out);
    }
    if (err != ERR_OK) {
        placement_need_fini(out);
    }
    return err;
}

void placement_need_fini(struct placement_need *need) {
    free(need->sink);
    free(need->own_sinks);
    need->sink = need->own_sinks = NULL;
}

static bool placement_same_text(const char *a, const char *b) {
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

bool placement_need_equal(const struct placement_need *a, const struct placement_need *b) {
    bool same = placement_same_text(a->sink, b->sink) &&
                placement_same_text(a->own_sinks, b->own_sinks) && a->profile == b->profile &&
                a->keys.count == b->keys.count && a->route_sinks == b->route_sinks;
    for (size_t i = 0; same && i < a->keys.count; i++) {
        same = strcmp(a->keys.ids[i], b->keys.ids[i]) == 0;
    }
    return same;
}

static bool placement_has_sink(const struct placement_node *node,
                               const struct placement_need *need) {
    return !node->facts.known ||
           (facts_sink(&node->facts, need->sink) && placement_routes_has(need, node));
}

static bool placement_has_keys(const struct placement_node *node,
                               const struct placement_need *need) {
    bool all = true;
    for (size_t i = 0; node->facts.known && all && i < need->keys.count; i++) {
        all = facts_has_key(&node->facts, need->keys.ids[i]);
    }
    return all;
}

/* A node of an older version would run the client without the fields of its profile. */
static bool placement_knows_profiles(const struct placement_node *node,
                                     const struct placement_need *need) {
    return !need->profile || node->facts.profiles;
}

static bool placement_can_run(const struct placement_node *node,
                              const struct placement_need *need) {
    return placement_knows_profiles(node, need) && placement_has_sink(node, need) &&
           placement_has_keys(node, need);
}

bool placement_sink_is_failing(const struct placement_node *node,
                               const struct placement_need *need) {
    const struct facts_sink *sink = facts_sink(&node->facts, need->sink);
    return sink && sink->failing_ms >= SINK_FAILING_MS;
}

enum placement_wait placement_wait_reason(const struct placement_node *nodes, size_t n,
                                          const struct placement_need *need) {
    size_t with_profiles = 0, with_sink = 0, with_keys = 0;
    for (size_t i = 0; i < n; i++) {
        bool profiles = placement_knows_profiles(&nodes[i], need),
             sink = profiles && placement_has_sink(&nodes[i], need),
             keys = sink && placement_has_keys(&nodes[i], need);
        with_profiles += profiles;
        with_sink += sink;
        with_keys += keys;
        if (keys && nodes[i].clients < nodes[i].size) {
            return PLACEMENT_SOON;
        }
    }
    return n == 0               ? PLACEMENT_NO_NODES
           : with_profiles == 0 ? PLACEMENT_NO_PROFILES
           : with_sink == 0     ? PLACEMENT_NO_SINK
           : with_keys == 0     ? PLACEMENT_NO_KEY
                                : PLACEMENT_NO_ROOM;
}

/* ---- levelling ------------------------------------------------------------------------------- */

/* The clients with the same need, and the nodes that can run them. */
struct share {
    struct level_node *nodes;
    size_t *node_of; /* indexes of the nodes in the list of all nodes */
    size_t node_count;
    size_t *client_of, *avoid, *placed;
    size_t client_count;
};

static void placement_share_fini(struct share *share) {
    free(share->nodes);
    free(share->node_of);
    free(share->client_of);
    free(share->avoid);
    free(share->placed);
}

static bool placement_share_init(struct share *share, size_t node_count, size_t n) {
    *share = (struct share){.nodes = calloc(node_count + 1, sizeof *share->nodes),
                            .node_of = calloc(node_count + 1, sizeof(size_t)),
                            .client_of = calloc(n + 1, sizeof(size_t)),
                            .avoid = calloc(n + 1, sizeof(size_t)),
                            .placed = calloc(n + 1, sizeof(size_t))};
    return share->nodes && share->node_of && share->client_of && share->avoid && share->placed;
}

static void placement_share_nodes(struct share *share, const struct placement_node *nodes, size_t n,
                                  const struct placement_need *need, bool sink_is_failing) {
    share->node_count = 0;
    for (size_t i = 0; i < n; i++) {
        if (placement_can_run(&nodes[i], need) &&
            placement_sink_is_failing(&nodes[i], need) == sink_is_failing) {
            share->node_of[share->node_count] = i;
            share->nodes[share->node_count++] =
                (struct level_node){nodes[i].name, nodes[i].clients, nodes[i].size};
        }
    }
}

static size_t placement_share_node_index(const struct share *share, size_t node) {
    for (size_t i = 0; node != PLACEMENT_NOWHERE && i < share->node_count; i++) {
        if (share->node_of[i] == node) {
            return i;
        }
    }
    return LEVEL_NOWHERE;
}

static bool placement_is_denied(const struct placement_client *client) {
    return client->denied_by && client->denied_by[0] != '\0';
}

static void placement_share_clients(struct share *share, const struct placement_client *clients,
                                    size_t n, size_t need) {
    share->client_count = 0;
    for (size_t i = 0; i < n; i++) {
        if (!placement_is_denied(&clients[i]) && clients[i].need == need &&
            clients[i].node == PLACEMENT_NOWHERE) {
            share->avoid[share->client_count] = placement_share_node_index(share, clients[i].avoid);
            share->client_of[share->client_count++] = i;
        }
    }
}

static bool placement_level_share(struct share *share, struct placement_node *nodes,
                                  struct placement_client *clients) {
    if (share->node_count == 0 || share->client_count == 0) {
        return true;
    }
    if (!level_clients(share->nodes, share->node_count, share->avoid, share->client_count,
                       share->placed)) {
        return false;
    }
    for (size_t i = 0; i < share->client_count; i++) {
        if (share->placed[i] != LEVEL_NOWHERE) {
            clients[share->client_of[i]].node = share->node_of[share->placed[i]];
        }
    }
    for (size_t i = 0; i < share->node_count; i++) {
        nodes[share->node_of[i]].clients = share->nodes[i].clients;
    }
    return true;
}

static bool placement_is_better(const struct placement_node *node,
                                const struct placement_node *best,
                                const struct placement_need *need) {
    bool failing = placement_sink_is_failing(node, need),
         best_failing = placement_sink_is_failing(best, need);
    return failing != best_failing ? best_failing : node->clients < best->clients;
}

size_t placement_choose(const struct placement_node *nodes, size_t node_count,
                        const struct placement_need *need, const bool *excluded) {
    size_t best = PLACEMENT_NOWHERE;
    for (size_t i = 0; i < node_count; i++) {
        const struct placement_node *node = &nodes[i];
        bool can = placement_can_run(node, need) && node->clients < node->size &&
                   !(excluded && excluded[i]);
        if (can && (best == PLACEMENT_NOWHERE || placement_is_better(node, &nodes[best], need))) {
            best = i;
        }
    }
    return best;
}

static size_t placement_choose_not_denied(const struct placement_node *nodes, size_t node_count,
                                          const struct placement_need *need,
                                          const char *denied_by) {
    bool *excluded = calloc(node_count + 1, sizeof *excluded);
    for (size_t i = 0; excluded && i < node_count; i++) {
        excluded[i] = strstr(denied_by, nodes[i].incarnation) != NULL;
    }
    size_t chosen =
        excluded ? placement_choose(nodes, node_count, need, excluded) : PLACEMENT_NOWHERE;
    free(excluded);
    return chosen;
}

/* Places clients that some nodes may not run. They are few, so each is placed separately, before
 * the others. */
static void placement_place_denied(struct placement_node *nodes, size_t node_count,
                                   const struct placement_need *needs,
                                   struct placement_client *clients, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct placement_client *client = &clients[i];
        if (placement_is_denied(client)) {
            client->node = placement_choose_not_denied(nodes, node_count, &needs[client->need],
                                                       client->denied_by);
        }
        if (client->node != PLACEMENT_NOWHERE) {
            nodes[client->node].clients++;
        }
    }
}

enum err placement_level(struct placement_node *nodes, size_t node_count,
                         const struct placement_need *needs, size_t need_count,
                         struct placement_client *clients, size_t n) {
    struct share share;
    bool done = placement_share_init(&share, node_count, n);
    for (size_t i = 0; i < n; i++) {
        clients[i].node = PLACEMENT_NOWHERE;
    }
    placement_place_denied(nodes, node_count, needs, clients, n);
    for (int failing = 0; failing <= 1; failing++) { /* nodes whose sink works come first */
        for (size_t need = 0; done && need < need_count; need++) {
            placement_share_nodes(&share, nodes, node_count, &needs[need], failing == 1);
            placement_share_clients(&share, clients, n, need);
            done = placement_level_share(&share, nodes, clients);
        }
    }
    placement_share_fini(&share);
    return done ? ERR_OK : ERR_MEMORY;
}
