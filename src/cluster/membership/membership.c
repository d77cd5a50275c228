/* Joining, being fenced, and Redis that lost its data. Agent thread. */
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "agent_internal.h"

#define JOIN_RETRY_MS 250
#define DROP_WAIT_MS  1000

/* Requests for one of the two may come to the other, which refuses them. */
static void membership_warn_shared_address(struct agent *agent) {
    struct store_node *nodes = NULL, *self = NULL;
    size_t n = 0;
    const struct conf *conf = agent->wiring.conf;
    enum err err = store_nodes_at_port(agent->wiring.store, conf->heartbeat_ttl_ms, conf->node_port,
                                       &nodes, &n);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        self = strcmp(nodes[i].name, node_name(agent->wiring.node)) == 0 ? &nodes[i] : self;
    }
    for (size_t i = 0; self && i < n; i++) {
        if (&nodes[i] != self && store_node_shares_address(self, &nodes[i])) {
            log_event(LOG_WARN, "address_shared", KS("node", self->name), KS("with", nodes[i].name),
                      KS("host", self->host), KI("port", self->port),
                      KS("detail", "each node needs a node_info.host and node_info.port of its own "
                                   "that the others can reach"));
        }
    }
    store_nodes_free(nodes, n);
}

static void membership_handle_joined(struct agent *agent) {
    char incarnation[TEXT_ID_LEN];
    node_incarnation(agent->wiring.node, incarnation);
    agent->name_taken_since_ms = 0;
    agent->applied_rev = -1;
    agent->reconcile_now = true;
    agent->reconcile_next_ms = 0;
    workers_accept(agent->wiring.workers, incarnation);
    log_event(LOG_INFO, "joined", KS("node", node_name(agent->wiring.node)),
              KS("incarnation", incarnation));
    membership_warn_shared_address(agent);
}

/* A beat under our name: of a process that just died (it expires), or of one that lives. Where
 * Redis stood still the beat did too, so the time of a slow answer does not count. */
static void membership_handle_name_taken(struct agent *agent, int64_t took_ms) {
    int64_t now_ms = clock_ms();
    const struct conf *conf = agent->wiring.conf;
    if (took_ms > conf->heartbeat_ms) {
        agent->name_taken_since_ms = 0;
    }
    if (agent->name_taken_since_ms == 0) {
        agent->name_taken_since_ms = now_ms;
        log_event(LOG_WARN, "name_in_use", KS("node", conf->node_name),
                  KS("detail", "waiting for the beat of an earlier process to expire"));
    }
    if (now_ms - agent->name_taken_since_ms > 2 * conf->heartbeat_ttl_ms + 2 * conf->heartbeat_ms) {
        atomic_store(&agent->fault,
                     "another live node uses this node_info.name: every node needs its own");
    }
}

/* Rule 3: drop all connections, then join anew with nothing. */
static void membership_handle_fenced(struct agent *agent) {
    handover_clear(agent);
    salvage_take(agent);
    enum err err = workers_stop_all(agent->wiring.workers, "fenced", false, DROP_WAIT_MS);
    if (err == ERR_OK) {
        node_set_outside(agent->wiring.node);
        agent->join_next_ms = 0;
    } else {
        log_event(LOG_WARN, "fenced_still_closing",
                  KI("clients", workers_count(agent->wiring.workers)));
    }
}

/* Does the register hold this name for a process that was not declared dead and does not beat? */
static bool membership_name_is_silent(struct agent *agent) {
    struct store_node *node = NULL;
    size_t n = 0;
    if (store_nodes_named(agent->wiring.store, agent->wiring.conf->heartbeat_ttl_ms,
                          node_name(agent->wiring.node), &node, &n) != ERR_OK) {
        return false; /* then joining fails as well */
    }
    bool silent = n > 0 && node->state != STORE_NODE_DEAD && node->incarnation[0] != '\0' &&
                  !node->heartbeat_valid;
    store_nodes_free(node, n);
    return silent;
}

/* A process that had this name may hold its lease for reclaim_grace_ms / 2 after its beat is gone
 * (node_lease_valid): until then it may still open connections, and its clients are not taken. */
static bool membership_old_lease_is_valid(struct agent *agent) {
    if (!membership_name_is_silent(agent)) {
        agent->name_silent_since_ms = 0;
        return false;
    }
    int64_t now_ms = clock_ms();
    if (agent->name_silent_since_ms == 0) {
        agent->name_silent_since_ms = now_ms;
    }
    return now_ms - agent->name_silent_since_ms < agent->wiring.conf->reclaim_grace_ms / 2;
}

/* At the start that ends this process; one that has run goes on with what it has, opens nothing
 * new, and waits for its own Redis. */
static void membership_handle_other_fleet(struct agent *agent) {
    char incarnation[TEXT_ID_LEN];
    node_incarnation(agent->wiring.node, incarnation);
    if (incarnation[0] == '\0') {
        atomic_store(&agent->fault, "Redis belongs to another fleet than fleet.name");
    }
}

/* ERR_REFUSED: the fleet is another. */
static enum err membership_join_fleet(struct agent *agent) {
    enum err err = fleet_settings_join(agent->fleet_settings);
    if (err != ERR_OK && err != ERR_REFUSED) {
        node_join_failed(agent->wiring.node, err, agent->wiring.store);
    }
    return err == ERR_OK ? node_join(agent->wiring.node, agent->wiring.store) : err;
}

void membership_fleet_step(struct agent *agent) {
    fleet_settings_check(agent->fleet_settings);
}

static void membership_try_join(struct agent *agent) {
    int64_t now_ms = clock_ms();
    if (now_ms < agent->join_next_ms) {
        return;
    }
    if (node_membership(agent->wiring.node) == NODE_OUTSIDE &&
        membership_old_lease_is_valid(agent)) {
        agent->join_next_ms = now_ms + JOIN_RETRY_MS;
        return;
    }
    enum err err = membership_join_fleet(agent);
    agent->join_next_ms = now_ms + JOIN_RETRY_MS;
    if (err == ERR_OK) {
        membership_handle_joined(agent);
    } else if (err == ERR_EXISTS) {
        membership_handle_name_taken(agent, clock_ms() - now_ms);
    } else if (err == ERR_REFUSED) {
        membership_handle_other_fleet(agent);
    } else if (err == ERR_FENCED) {
        membership_handle_fenced(agent); /* declared dead while Redis was losing its data */
    } else {
        agent->name_taken_since_ms = 0;
    }
}

bool membership_step(struct agent *agent) {
    switch (node_membership(agent->wiring.node)) {
    case NODE_OUTSIDE:
        membership_try_join(agent);
        break;
    case NODE_FENCED:
        membership_handle_fenced(agent);
        break;
    case NODE_LOST:
        /* Rule 10: the same incarnation registers again; reconciling then restores what runs. */
        membership_try_join(agent);
        break;
    case NODE_MEMBER:
        break;
    }
    return node_membership(agent->wiring.node) == NODE_MEMBER;
}
