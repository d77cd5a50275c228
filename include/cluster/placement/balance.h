/* How many clients each node should have so that all are level, and whether anything speaks against
 * moving clients now. Pure functions; any thread. */
#ifndef MQFLEET_PLACEMENT_BALANCE_H
#define MQFLEET_PLACEMENT_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cluster/placement/placement.h"
#include "store/store.h"

/* X(symbol, code, text): why no client moves for the sake of balance. Part of the API. */
#define BALANCE_OBSTACLES(X)                                                                       \
    X(BALANCE_CLEAR, "none", "nothing")                                                            \
    X(BALANCE_RESTORING, "restoring", "Redis lost data; nodes first restore their clients")        \
    X(BALANCE_NODE_MISSING, "node_missing", "a node has no heartbeat")                             \
    X(BALANCE_NODE_LEAVING, "node_leaving", "a node is stopping")                                  \
    X(BALANCE_NODE_BEHIND, "node_behind", "a node is behind with its assignments")                 \
    X(BALANCE_INCIDENT, "incident",                                                                \
      "more than a tenth of a node's clients lost their broker within 5 minutes")                  \
    X(BALANCE_CLIENTS_WAIT, "clients_wait", "clients are about to be assigned")

enum balance_obstacle {
#define BALANCE_SYMBOL(symbol, code, text) symbol,
    BALANCE_OBSTACLES(BALANCE_SYMBOL)
#undef BALANCE_SYMBOL
};
const char *balance_obstacle_code(enum balance_obstacle obstacle);
const char *balance_obstacle_text(enum balance_obstacle obstacle);

struct balance_fleet { /* all borrowed */
    const struct store_node *registered;
    size_t registered_count;
    const struct placement_node *eligible; /* of these */
    size_t eligible_count;
    int64_t waiting; /* clients that are about to be assigned */
    bool restoring;
};
enum balance_obstacle balance_find_obstacle(const struct balance_fleet *fleet);

/* goals[n]: the clients of each node once all are level. As equal as the sizes allow; where one
 * more is left over, the fuller node keeps it. Every node computes the same from the same list,
 * which is sorted by name. Returns how many clients must move. */
int64_t balance_goals(const struct placement_node *nodes, size_t n, int64_t *goals);

/* quotas[n]: how many clients nodes[from] gives to each of the others. All nodes together give
 * exactly what is missing, so two never fill the same place. */
void balance_quotas(const struct placement_node *nodes, const int64_t *goals, size_t n, size_t from,
                    int64_t *quotas);

#endif
