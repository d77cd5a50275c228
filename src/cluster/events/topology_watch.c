/* Owns the previous snapshot of the register of nodes, and compares it with the present register.
 * The event bus thread. */
#include "topology_watch.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"

struct topology {
    struct store_node *nodes; /* sorted by name */
    size_t n;
    char *leader; /* NULL: none */
};

struct topology_watch {
    struct store *store;
    int64_t heartbeat_ttl_ms;
    bool has_last;
    struct topology last;
};

static void topology_watch_topology_fini(struct topology *topology) {
    store_nodes_free(topology->nodes, topology->n);
    free(topology->leader);
    *topology = (struct topology){0};
}

struct topology_watch *topology_watch_create(struct store *store, int64_t heartbeat_ttl_ms) {
    struct topology_watch *watch = calloc(1, sizeof *watch);
    if (watch) {
        watch->store = store;
        watch->heartbeat_ttl_ms = heartbeat_ttl_ms;
    }
    return watch;
}

void topology_watch_reset(struct topology_watch *watch) {
    topology_watch_topology_fini(&watch->last);
    watch->has_last = false;
}

void topology_watch_destroy(struct topology_watch *watch) {
    if (watch) {
        topology_watch_topology_fini(&watch->last);
        free(watch);
    }
}

/* ---- reporting ------------------------------------------------------------------------------- */

struct topology_listener {
    topology_watch_on_event *on_event;
    void *context;
};

static void topology_watch_report(const struct topology_listener *listener,
                                  enum event_bus_kind kind, const char *name, const char *state,
                                  const char *reason) {
    char at[CLOCK_RFC3339_LEN];
    json_t *shown = name ? json_string(name) : NULL;
    json_t *json = json_pack("{s:s, s:s, s:o, s:s, s:s}", "at", clock_rfc3339(clock_wall_ms(), at),
                             "kind", event_bus_kind_name(kind), "name", shown ? shown : json_null(),
                             "state", state, "reason", reason);
    char *text = json ? json_to_text(json, JSON_COMPACT) : NULL;
    if (text) {
        listener->on_event(listener->context, &(struct event_bus_event){.kind = kind,
                                                                        .subject = name ? name : "",
                                                                        .state = state,
                                                                        .text = text});
    }
    free(text);
    json_decref(json);
}

/* ---- comparing ------------------------------------------------------------------------------- */

enum topology_state { TOPOLOGY_LIVE, TOPOLOGY_DRAINING, TOPOLOGY_DEAD, TOPOLOGY_MISSING };

/* The state as the API shows it, and the reason that the event gives. */
static const struct {
    const char *state, *reason;
} topology_states[] = {
    [TOPOLOGY_LIVE] = {"live", "accepts clients again"},
    [TOPOLOGY_DRAINING] = {"draining", "releases its clients"},
    [TOPOLOGY_DEAD] = {"dead", "fenced: no heartbeat; its clients go to other nodes"},
    [TOPOLOGY_MISSING] = {"missing", "heartbeat expired"},
};

static enum topology_state topology_watch_node_state(const struct store_node *node) {
    if (node->state == STORE_NODE_DEAD) {
        return TOPOLOGY_DEAD;
    }
    if (!node->heartbeat_valid) {
        return TOPOLOGY_MISSING;
    }
    return node->state == STORE_NODE_DRAINING ? TOPOLOGY_DRAINING : TOPOLOGY_LIVE;
}

static void topology_watch_compare_node(const struct topology_listener *listener,
                                        const struct store_node *before,
                                        const struct store_node *now) {
    enum topology_state was = topology_watch_node_state(before),
                        is = topology_watch_node_state(now);
    if (strcmp(before->incarnation, now->incarnation) != 0) {
        topology_watch_report(listener, EVENT_BUS_NODE, now->name, topology_states[is].state,
                              "joined again with a new incarnation");
    } else if (was != is) {
        bool back = was == TOPOLOGY_MISSING && is != TOPOLOGY_DEAD;
        topology_watch_report(listener, EVENT_BUS_NODE, now->name, topology_states[is].state,
                              back ? "heartbeat received again" : topology_states[is].reason);
    }
}

static void topology_watch_compare_snapshots(const struct topology_listener *listener,
                                             const struct topology *before,
                                             const struct topology *now) {
    size_t i = 0, k = 0;
    while (i < before->n || k < now->n) { /* both sorted */
        int order = i == before->n ? 1
                    : k == now->n  ? -1
                                   : strcmp(before->nodes[i].name, now->nodes[k].name);
        if (order < 0) {
            bool dead = topology_watch_node_state(&before->nodes[i]) == TOPOLOGY_DEAD;
            topology_watch_report(listener, EVENT_BUS_NODE, before->nodes[i].name, "gone",
                                  dead ? "fenced; all its clients are reaped" : "left");
            i++;
        } else if (order > 0) {
            topology_watch_report(listener, EVENT_BUS_NODE, now->nodes[k].name,
                                  topology_states[topology_watch_node_state(&now->nodes[k])].state,
                                  "joined");
            k++;
        } else {
            topology_watch_compare_node(listener, &before->nodes[i++], &now->nodes[k++]);
        }
    }
    const char *old = before->leader ? before->leader : "";
    const char *new = now->leader ? now->leader : "";
    if (strcmp(old, new) != 0) {
        topology_watch_report(listener, EVENT_BUS_LEADER, now->leader,
                              now->leader ? "leading" : "none",
                              now->leader ? "elected" : "no leader");
    }
}

void topology_watch_check(struct topology_watch *watch, topology_watch_on_event *on_event,
                          void *context) {
    struct topology now = {0};
    if (store_nodes(watch->store, watch->heartbeat_ttl_ms, &now.nodes, &now.n, &now.leader) !=
        ERR_OK) {
        return; /* the next successful check compares with the same snapshot */
    }
    if (watch->has_last) {
        topology_watch_compare_snapshots(&(struct topology_listener){on_event, context},
                                         &watch->last, &now);
    }
    topology_watch_topology_fini(&watch->last);
    watch->last = now;
    watch->has_last = true;
}
