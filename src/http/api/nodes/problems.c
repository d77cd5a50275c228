/* Finds what is wrong with the fleet by its register. No state; any thread. */
#include "http/api/nodes/problems.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "http/server/json.h"

#define CAPACITY_PERCENT_MAX 90
#define CAUSE_LEN            400
#define INCIDENT_NODES_NAMED 3

/* X(symbol, code, severity, advice): the codes are part of the API. */
#define PROBLEMS_TABLE(X)                                                                          \
    X(FLEET_PROBLEM_NO_LEADER, "no_leader", "problem",                                             \
      "check that the nodes reach Redis: mqfleet nodes, /readyz?verbose of each")                  \
    X(FLEET_PROBLEM_NODE_MISSING, "node_missing", "problem",                                       \
      "check the process and its connection to Redis; its clients move to other nodes")            \
    X(FLEET_PROBLEM_NODE_VANISHED, "node_vanished", "problem",                                     \
      "start it again, or wait: this is reported for an hour")                                     \
    X(FLEET_PROBLEM_NODE_RETURNED, "node_returned", "warning",                                     \
      "look in its log for the cause; this is reported for an hour")                               \
    X(FLEET_PROBLEM_NODE_DRAINING, "node_draining", "warning",                                     \
      "mqfleet undrain lets it accept clients")                                                    \
    X(FLEET_PROBLEM_DRAIN_STUCK, "drain_stuck", "warning",                                         \
      "start another node, raise node_info.size of one, or undrain the node")                      \
    X(FLEET_PROBLEM_NODE_LEAVING, "node_leaving", "warning", "it releases its clients and ends")   \
    X(FLEET_PROBLEM_ADDRESS_SHARED, "address_shared", "problem",                                   \
      "give each node its own node_info.host and node_info.port")                                  \
    X(FLEET_PROBLEM_SETTING_DIFFERS, "setting_differs", "warning",                                 \
      "set the same value on all nodes, and restart them")                                         \
    X(FLEET_PROBLEM_VERSION_DIFFERS, "version_differs", "warning",                                 \
      "finish the upgrade: all nodes should run the same version")                                 \
    X(FLEET_PROBLEM_KEYS_DIFFER, "keys_differ", "warning",                                         \
      "give all nodes the same keys: clients with encrypted secrets run only where theirs are")    \
    X(FLEET_PROBLEM_CAPACITY, "capacity", "warning", "add a node, or raise node_info.size")        \
    X(FLEET_PROBLEM_NO_FAILOVER, "no_failover", "warning",                                         \
      "add a node, or raise node_info.size: if that node fails, these clients wait")               \
    X(FLEET_PROBLEM_INCIDENT, "broker_unreachable", "warning", "mqfleet brokers shows which one")

enum problem_kind {
#define PROBLEMS_SYMBOL(symbol, code, severity, advice) symbol,
    PROBLEMS_TABLE(PROBLEMS_SYMBOL)
#undef PROBLEMS_SYMBOL
};

static const struct {
    const char *code, *severity, *advice;
} problem_rows[] = {
#define PROBLEMS_ROW(symbol, code, severity, advice) [symbol] = {code, severity, advice},
    PROBLEMS_TABLE(PROBLEMS_ROW)
#undef PROBLEMS_ROW
};

struct problems {
    json_t *list;
};

static void problems_add(struct problems *problems, enum problem_kind kind, const char *node,
                         const char *cause) {
    json_array_append_new(problems->list,
                          json_pack("{s:s, s:s, s:o, s:o, s:s}", "code", problem_rows[kind].code,
                                    "severity", problem_rows[kind].severity, "node",
                                    node ? http_json_string(node) : json_null(), "cause",
                                    http_json_string(cause), "advice", problem_rows[kind].advice));
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void problems_add_node(struct problems *problems, const struct fleet_view *view,
                              const struct store_node *node) {
    char cause[CAUSE_LEN];
    json_t *waits = fleet_view_drain_json(node);
    if (!node->heartbeat_valid || node->state == STORE_NODE_DEAD) {
        snprintf(cause, sizeof cause, "node %s is %s: it has no heartbeat; it owns %lld clients",
                 node->name, fleet_view_state(node), (long long)node->clients);
        problems_add(problems, FLEET_PROBLEM_NODE_MISSING, node->name, cause);
    } else if (node->state == STORE_NODE_DRAINING && json_is_object(waits)) {
        snprintf(cause, sizeof cause, "node %s is draining, and %lld clients stay: %s", node->name,
                 (long long)node->clients, json_string_value(json_object_get(waits, "message")));
        problems_add(problems, FLEET_PROBLEM_DRAIN_STUCK, node->name, cause);
    } else if (node->state != STORE_NODE_LIVE) {
        snprintf(cause, sizeof cause, "node %s is %s", node->name, fleet_view_state(node));
        problems_add(problems,
                     node->state == STORE_NODE_LEAVING ? FLEET_PROBLEM_NODE_LEAVING
                                                       : FLEET_PROBLEM_NODE_DRAINING,
                     node->name, cause);
    }
    json_decref(waits);
    for (const struct store_node *other = node + 1; other < view->nodes + view->n; other++) {
        if (store_node_shares_address(node, other)) {
            snprintf(cause, sizeof cause, "nodes %s and %s have the same node_info.host and port",
                     node->name, other->name);
            problems_add(problems, FLEET_PROBLEM_ADDRESS_SHARED, node->name, cause);
        }
    }
}

static const struct store_node *problems_find_node(const struct fleet_view *view,
                                                   const char *name) {
    for (size_t i = 0; i < view->n; i++) {
        if (strcmp(view->nodes[i].name, name) == 0) {
            return &view->nodes[i];
        }
    }
    return NULL;
}

static void problems_add_vanished(struct problems *problems, const struct fleet_view *view) {
    for (size_t i = 0; i < view->shared.vanished_count; i++) {
        const struct store_vanished *row = &view->shared.vanished[i];
        const struct store_node *node = problems_find_node(view, row->node);
        bool back = node && node->heartbeat_valid;
        char cause[CAUSE_LEN];
        snprintf(cause, sizeof cause,
                 "node %s was killed, or cut off from Redis, %lld s ago, with %lld client%s%s",
                 row->node, (long long)(row->ago_ms / 1000), (long long)row->clients,
                 row->clients == 1 ? "" : "s", back ? "; it is back" : "");
        if (!node || back) { /* otherwise it is missing, which was said */
            problems_add(problems, back ? FLEET_PROBLEM_NODE_RETURNED : FLEET_PROBLEM_NODE_VANISHED,
                         row->node, cause);
        }
    }
}

/* ---- settings and versions ------------------------------------------------------------------- */

/* "stable_ms is 10000 on n1, 100 on n2": a line for each setting. */
static void problems_add_settings(struct problems *problems, const struct fleet_view *view) {
    json_t *lines = json_object(), *value;
    const char *name;
    for (size_t i = 0; i < view->n; i++) {
        json_t *own =
            fleet_settings_differing(&view->differences, &view->shared, view->nodes[i].name);
        json_object_foreach(own, name, value) {
            const char *before = json_string_value(json_object_get(lines, name));
            char line[CAUSE_LEN];
            snprintf(line, sizeof line, "%s%s%lld on %s", before ? before : name,
                     before ? ", " : " is ", (long long)json_integer_value(value),
                     view->nodes[i].name);
            json_object_set_new(lines, name, http_json_string(line));
        }
        json_decref(own);
    }
    json_object_foreach(lines, name, value) {
        problems_add(problems, FLEET_PROBLEM_SETTING_DIFFERS, NULL, json_string_value(value));
    }
    json_decref(lines);
}

static void problems_add_versions(struct problems *problems, const struct fleet_view *view) {
    const struct store_node *first = NULL;
    for (size_t i = 0; i < view->n; i++) {
        const struct store_node *node = &view->nodes[i];
        if (!node->heartbeat_valid) {
            continue;
        }
        first = first ? first : node;
        if (strcmp(first->version, node->version) != 0) {
            char cause[CAUSE_LEN];
            snprintf(cause, sizeof cause, "node %s runs version %s, node %s version %s",
                     first->name, first->version, node->name, node->version);
            problems_add(problems, FLEET_PROBLEM_VERSION_DIFFERS, node->name, cause);
            return;
        }
    }
}

/* How many live nodes have not got the key; *first: one of them. */
static size_t problems_count_without_key(const struct fleet_view *view, const char *key,
                                         const struct placement_node **first) {
    size_t n = 0;
    for (size_t i = 0; i < view->eligible_count; i++) {
        const struct placement_node *node = &view->eligible[i];
        if (node->facts.known && !facts_has_key(&node->facts, key)) {
            *first = n++ == 0 ? node : *first;
        }
    }
    return n;
}

/* Of the first key that only some have. */
static void problems_add_keys(struct problems *problems, const struct fleet_view *view) {
    for (size_t i = 0; i < view->eligible_count; i++) {
        const struct facts *facts = &view->eligible[i].facts;
        for (size_t key = 0; key < facts->key_count; key++) {
            const struct placement_node *without = NULL;
            size_t n = problems_count_without_key(view, facts->keys[key], &without);
            if (n > 0) {
                char cause[CAUSE_LEN];
                snprintf(cause, sizeof cause,
                         "%zu of %zu live nodes have no key %s in secrets.key_file, such as %s", n,
                         view->eligible_count, facts->keys[key], without->name);
                problems_add(problems, FLEET_PROBLEM_KEYS_DIFFER, without->name, cause);
                return;
            }
        }
    }
}

/* ---- capacity -------------------------------------------------------------------------------- */

/* Whether the clients of the fullest node would find room on the others. */
static void problems_add_failover(struct problems *problems, const struct fleet_view *view) {
    const struct placement_node *largest = NULL;
    int64_t room = 0;
    char cause[CAUSE_LEN];
    for (size_t i = 0; i < view->eligible_count; i++) {
        const struct placement_node *node = &view->eligible[i];
        largest = !largest || node->clients > largest->clients ? node : largest;
        room += node->size > node->clients ? node->size - node->clients : 0;
    }
    if (!largest || largest->clients == 0) {
        return;
    }
    room -= largest->size > largest->clients ? largest->size - largest->clients : 0;
    if (view->n > 1 && room < largest->clients) {
        snprintf(cause, sizeof cause,
                 "if node %s fails, the other nodes have no room for %lld of its %lld clients",
                 largest->name, (long long)(largest->clients - room), (long long)largest->clients);
        problems_add(problems, FLEET_PROBLEM_NO_FAILOVER, largest->name, cause);
    }
}

static void problems_add_capacity(struct problems *problems, const struct fleet_view *view) {
    int64_t size = 0, clients = 0;
    for (size_t i = 0; i < view->eligible_count; i++) {
        size += view->eligible[i].size;
        clients += view->eligible[i].clients;
    }
    if (size > 0 && clients * 100 > size * CAPACITY_PERCENT_MAX) {
        char cause[CAUSE_LEN];
        snprintf(cause, sizeof cause, "%lld clients, and the live nodes have room for %lld in all",
                 (long long)clients, (long long)size);
        problems_add(problems, FLEET_PROBLEM_CAPACITY, NULL, cause);
    }
}

/* One for the fleet, because a broker that is away is so for most nodes: "brokers out of reach: 1
 * from node m1, 2 from node m2". */
static void problems_add_incidents(struct problems *problems, const struct fleet_view *view) {
    const char *only = NULL;
    char cause[CAUSE_LEN];
    size_t len = 0, n = 0;
    for (size_t i = 0; i < view->eligible_count; i++) {
        const struct placement_node *node = &view->eligible[i];
        if (node->facts.incidents <= 0 || n++ >= INCIDENT_NODES_NAMED) {
            continue;
        }
        only = n == 1 ? node->name : NULL;
        len += (size_t)snprintf(cause + len, sizeof cause - len, "%s%lld from node %.64s",
                                n == 1 ? "brokers out of reach: " : ", ",
                                (long long)node->facts.incidents, node->name);
    }
    if (n > INCIDENT_NODES_NAMED) {
        snprintf(cause + len, sizeof cause - len, ", some from %zu more nodes",
                 n - INCIDENT_NODES_NAMED);
    }
    if (n > 0) {
        problems_add(problems, FLEET_PROBLEM_INCIDENT, only, cause);
    }
}

json_t *problems_of(const struct fleet_view *view) {
    struct problems problems = {json_array()};
    if (!view->leader) {
        problems_add(&problems, FLEET_PROBLEM_NO_LEADER, NULL,
                     "there is no leader: waiting clients are not assigned");
    }
    for (size_t i = 0; i < view->n; i++) {
        problems_add_node(&problems, view, &view->nodes[i]);
    }
    problems_add_vanished(&problems, view);
    problems_add_incidents(&problems, view);
    problems_add_capacity(&problems, view);
    problems_add_failover(&problems, view);
    problems_add_settings(&problems, view);
    problems_add_versions(&problems, view);
    problems_add_keys(&problems, view);
    return problems.list;
}
