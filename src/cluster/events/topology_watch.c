/* Owns the last look at the register of nodes, and finds what has changed since. The news thread
 * only. Must not know who listens. */
#include "topology_watch.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"

struct topology_check {
    struct store_node *nodes; /* sorted by name */
    size_t n;
    char *leader; /* NULL: none */
};

struct topology_watch {
    struct store *store;
    int64_t heartbeat_ttl_ms;
    bool has_last; /* there was a look */
    struct topology_check last;
};

static void topology_watch_snapshot_fini(struct topology_check *look) {
    store_nodes_free(look->nodes, look->n);
    free(look->leader);
    *look = (struct topology_check){0};
}

struct topology_watch *topology_watch_create(struct store *store, int64_t heartbeat_ttl_ms) {
    struct topology_watch *nodes = calloc(1, sizeof(*nodes));
    if (nodes != NULL) {
        nodes->store = store;
        nodes->heartbeat_ttl_ms = heartbeat_ttl_ms;
    }
    return nodes;
}

void topology_watch_reset(struct topology_watch *nodes) {
    topology_watch_snapshot_fini(&nodes->last);
    nodes->has_last = false;
}

void topology_watch_destroy(struct topology_watch *nodes) {
    if (nodes != NULL) {
        topology_watch_snapshot_fini(&nodes->last);
        free(nodes);
    }
}

/* ---- telling --------------------------------------------------------------------------------- */

struct topology_listener {
    topology_watch_tell *tell;
    void *context;
};

static void topology_watch_report(const struct topology_listener *topology_listener,
                                  enum event_bus_kind kind, const char *name, const char *state,
                                  const char *reason) {
    char at[CLOCK_RFC3339_LEN];
    json_t *shown = name != NULL ? json_string(name) : NULL;
    json_t *json = json_pack("{s:s, s:s, s:o, s:s, s:s}", "at", clock_rfc3339(clock_wall_ms(), at),
                             "kind", event_bus_kind_name(kind), "name",
                             shown != NULL ? shown : json_null(), "state", state, "reason", reason);
    char *text = json != NULL ? json_to_text(json, JSON_COMPACT) : NULL;
    if (text != NULL) {
        topology_listener->tell(
            topology_listener->context,
            &(struct event_bus_event){
                .kind = kind, .subject = name != NULL ? name : "", .state = state, .text = text});
    }
    free(text);
    json_decref(json);
}

/* ---- comparing ------------------------------------------------------------------------------- */

enum topology_state { TOPOLOGY_LIVE, TOPOLOGY_DRAINING, TOPOLOGY_DEAD, TOPOLOGY_MISSING };

/* As the API shows it, with why it became so. */
static const struct {
    const char *state, *reason;
} topology_states[] = {
    [TOPOLOGY_LIVE] = {"live", "takes clients again"},
    [TOPOLOGY_DRAINING] = {"draining", "told to give its clients away"},
    [TOPOLOGY_DEAD] = {"dead", "fenced: its beats stayed away, its clients go to other nodes"},
    [TOPOLOGY_MISSING] = {"missing", "does not beat"},
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

static void topology_watch_compare_node(const struct topology_listener *topology_listener,
                                        const struct store_node *before,
                                        const struct store_node *now) {
    enum topology_state was = topology_watch_node_state(before),
                        is = topology_watch_node_state(now);
    if (strcmp(before->incarnation, now->incarnation) != 0) {
        topology_watch_report(topology_listener, EVENT_BUS_NODE, now->name,
                              topology_states[is].state, "joined anew");
    } else if (was != is) {
        bool back = was == TOPOLOGY_MISSING && is != TOPOLOGY_DEAD;
        topology_watch_report(topology_listener, EVENT_BUS_NODE, now->name,
                              topology_states[is].state,
                              back ? "beats again" : topology_states[is].reason);
    }
}

static void topology_watch_compare_snapshots(const struct topology_listener *topology_listener,
                                             const struct topology_check *before,
                                             const struct topology_check *now) {
    size_t i = 0, k = 0;
    while (i < before->n || k < now->n) { /* both sorted */
        int order = i == before->n ? 1
                    : k == now->n  ? -1
                                   : strcmp(before->nodes[i].name, now->nodes[k].name);
        if (order < 0) {
            bool dead = topology_watch_node_state(&before->nodes[i]) == TOPOLOGY_DEAD;
            topology_watch_report(topology_listener, EVENT_BUS_NODE, before->nodes[i].name, "gone",
                                  dead ? "fenced and emptied" : "left");
            i++;
        } else if (order > 0) {
            topology_watch_report(topology_listener, EVENT_BUS_NODE, now->nodes[k].name,
                                  topology_states[topology_watch_node_state(&now->nodes[k])].state,
                                  "joined");
            k++;
        } else {
            topology_watch_compare_node(topology_listener, &before->nodes[i++], &now->nodes[k++]);
        }
    }
    const char *old = before->leader != NULL ? before->leader : "";
    const char *new = now->leader != NULL ? now->leader : "";
    if (strcmp(old, new) != 0) {
        topology_watch_report(topology_listener, EVENT_BUS_LEADER, now->leader,
                              now->leader != NULL ? "leading" : "none",
                              now->leader != NULL ? "leads now" : "nobody leads");
    }
}

void topology_watch_check(struct topology_watch *nodes, topology_watch_tell *tell, void *context) {
    struct topology_check now = {0};
    if (store_nodes(nodes->store, nodes->heartbeat_ttl_ms, &now.nodes, &now.n, &now.leader) !=
        ERR_OK) {
        return; /* Redis is away: compared with the last look once it is back */
    }
    if (nodes->has_last) {
        topology_watch_compare_snapshots(&(struct topology_listener){tell, context}, &nodes->last,
                                         &now);
    }
    topology_watch_snapshot_fini(&nodes->last);
    nodes->last = now;
    nodes->has_last = true;
}
