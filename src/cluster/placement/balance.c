/* Levels the numbers of clients of nodes that may have different sizes. No state; any thread. */
#include "cluster/placement/balance.h"

#include <string.h>

static const struct {
    const char *code, *text;
} balance_rows[] = {
#define BALANCE_ROW(symbol, code, text) [symbol] = {code, text},
    BALANCE_OBSTACLES(BALANCE_ROW)
#undef BALANCE_ROW
};

const char *balance_obstacle_code(enum balance_obstacle obstacle) {
    return balance_rows[obstacle].code;
}

const char *balance_obstacle_text(enum balance_obstacle obstacle) {
    return balance_rows[obstacle].text;
}

/* ---- obstacles ------------------------------------------------------------------------------- */

#define INCIDENT_PART 10 /* of a node's clients: one customer's broker stops nobody */

enum balance_obstacle balance_find_obstacle(const struct balance_fleet *fleet) {
    size_t live = 0;
    bool missing = false, leaving = false, incident = false;
    for (size_t i = 0; i < fleet->registered_count; i++) {
        const struct store_node *node = &fleet->registered[i];
        bool foreign = node->incarnation[0] == '\0';
        live += node->heartbeat_valid && node->state == STORE_NODE_LIVE;
        missing =
            missing || (!foreign && (!node->heartbeat_valid || node->state == STORE_NODE_DEAD));
        leaving = leaving || node->state == STORE_NODE_LEAVING;
    }
    for (size_t i = 0; i < fleet->eligible_count; i++) {
        const struct placement_node *node = &fleet->eligible[i];
        incident = incident || node->facts.incident_clients > node->clients / INCIDENT_PART;
    }
    return fleet->restoring               ? BALANCE_RESTORING
           : missing                      ? BALANCE_NODE_MISSING
           : leaving                      ? BALANCE_NODE_LEAVING
           : live > fleet->eligible_count ? BALANCE_NODE_BEHIND
           : incident                     ? BALANCE_INCIDENT
           : fleet->waiting > 0           ? BALANCE_CLIENTS_WAIT
                                          : BALANCE_CLEAR;
}

/* ---- goals ----------------------------------------------------------------------------------- */

static int64_t balance_at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* The clients of all nodes if each has `level`, or its size if that is smaller. */
static int64_t balance_filled(const struct placement_node *nodes, size_t n, int64_t level) {
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += balance_at_most(nodes[i].size, level);
    }
    return sum;
}

/* The greatest level to which `clients` suffice; at most `level_max`. */
static int64_t balance_level(const struct placement_node *nodes, size_t n, int64_t clients,
                             int64_t level_max) {
    int64_t low = 0, high = level_max;
    while (low < high) {
        int64_t middle = high - (high - low) / 2;
        if (balance_filled(nodes, n, middle) <= clients) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* The fullest node that could have one more than the level and has not; ties go to the first. */
static size_t balance_next_larger(const struct placement_node *nodes, size_t n,
                                  const int64_t *goals, int64_t level) {
    size_t best = PLACEMENT_NOWHERE;
    for (size_t i = 0; i < n; i++) {
        bool can = goals[i] == level && nodes[i].size > level;
        if (can && (best == PLACEMENT_NOWHERE || nodes[i].clients > nodes[best].clients)) {
            best = i;
        }
    }
    return best;
}

int64_t balance_goals(const struct placement_node *nodes, size_t n, int64_t *goals) {
    int64_t clients = 0, size_max = 0, moves = 0;
    for (size_t i = 0; i < n; i++) {
        clients += nodes[i].clients;
        size_max = nodes[i].size > size_max ? nodes[i].size : size_max;
        goals[i] = nodes[i].clients;
    }
    if (clients > balance_filled(nodes, n, size_max)) {
        return 0; /* a size was lowered: there is no room for all */
    }
    int64_t level = balance_level(nodes, n, clients, size_max);
    for (size_t i = 0; i < n; i++) {
        goals[i] = balance_at_most(nodes[i].size, level);
    }
    for (int64_t left = clients - balance_filled(nodes, n, level); left > 0; left--) {
        size_t at = balance_next_larger(nodes, n, goals, level); /* fewer than n are left */
        if (at != PLACEMENT_NOWHERE) {
            goals[at]++;
        }
    }
    for (size_t i = 0; i < n; i++) {
        moves += nodes[i].clients > goals[i] ? nodes[i].clients - goals[i] : 0;
    }
    return moves;
}

/* Pairs the nodes above their goals with the nodes below, both sorted by name. */
void balance_quotas(const struct placement_node *nodes, const int64_t *goals, size_t n, size_t from,
                    int64_t *quotas) {
    size_t to = 0;
    int64_t filled = 0; /* of nodes[to] */
    memset(quotas, 0, n * sizeof *quotas);
    for (size_t i = 0; i <= from && i < n; i++) {
        int64_t gives = nodes[i].clients - goals[i];
        while (gives > 0 && to < n) {
            int64_t lacks = goals[to] - nodes[to].clients - filled;
            int64_t part = balance_at_most(gives, lacks);
            if (part <= 0) {
                to++;
                filled = 0;
                continue;
            }
            quotas[to] += i == from ? part : 0;
            gives -= part;
            filled += part;
        }
    }
}
