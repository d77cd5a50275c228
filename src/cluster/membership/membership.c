/* Steps that make this node a member: joining, closing all clients after a fence, registering again
 * after Redis has lost data. Works on struct agent. The agent thread. */
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "agent_internal.h"

#define JOIN_RETRY_MS 250
#define DROP_WAIT_MS  1000

/* If two nodes announce the same address, each may get requests for the other, and refuses them. */
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
            log_event(
                LOG_WARN, "address_shared", KS("node", self->name), KS("with", nodes[i].name),
                KS("host", self->host), KI("port", self->port),
                KS("detail",
                   "each node needs a unique node_info.host and node_info.port that the other nodes "
                   "can reach"));
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
    workers_forget_saved(agent->wiring.workers);
    log_event(LOG_INFO, "joined", KS("node", node_name(agent->wiring.node)),
              KS("incarnation", incarnation));
    membership_warn_shared_address(agent);
}

/* Another process has a heartbeat under this name. If it has died, the heartbeat expires soon.
 * While Redis stalls, heartbeats do not expire; a slow answer therefore restarts the measurement.
 */
static void membership_handle_name_taken(struct agent *agent, int64_t took_ms) {
    int64_t now_ms = clock_ms();
    const struct conf *conf = agent->wiring.conf;
    if (took_ms > conf->heartbeat_ms) {
        agent->name_taken_since_ms = 0;
    }
    if (agent->name_taken_since_ms == 0) {
        agent->name_taken_since_ms = now_ms;
        log_event(LOG_WARN, "name_in_use", KS("node", conf->node_name),
                  KS("detail", "waiting for the heartbeat of an earlier process to expire"));
    }
    if (now_ms - agent->name_taken_since_ms > 2 * conf->heartbeat_ttl_ms + 2 * conf->heartbeat_ms) {
        atomic_store(&agent->fault,
                     "another live node uses this node_info.name: each node needs a unique name");
    }
}

/* Rule 3: close all connections, then join with a new incarnation and without clients. */
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

/* Whether a process with this name is registered, is not fenced, and has no heartbeat. */
static bool membership_name_is_silent(struct agent *agent) {
    struct store_node *node = NULL;
    size_t n = 0;
    if (store_nodes_named(agent->wiring.store, agent->wiring.conf->heartbeat_ttl_ms,
                          node_name(agent->wiring.node), &node, &n) != ERR_OK) {
        return false; /* joining fails as well */
    }
    bool silent = n > 0 && node->state != STORE_NODE_DEAD && node->incarnation[0] != '\0' &&
                  !node->heartbeat_valid;
    store_nodes_free(node, n);
    return silent;
}

/* An earlier process with this name may have a lease for reclaim_grace_ms / 2 after its heartbeat
 * has expired (node_lease_valid). Until then, it may open connections, and this node must not join.
 */
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

/* A node that has never joined gives up. A node that has joined before keeps its clients, opens no
 * new connections, and waits until Redis belongs to its fleet again. */
static void membership_handle_other_fleet(struct agent *agent) {
    char incarnation[TEXT_ID_LEN];
    node_incarnation(agent->wiring.node, incarnation);
    if (incarnation[0] == '\0') {
        atomic_store(&agent->fault, "Redis belongs to a fleet other than fleet.name");
    }
}

/* ERR_REFUSED: Redis belongs to another fleet. */
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
        membership_handle_fenced(agent); /* fenced while Redis was losing data */
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
        /* Rule 10: registers the same incarnation; the reconciliation restores its clients. */
        membership_try_join(agent);
        break;
    case NODE_MEMBER:
        break;
    }
    return node_membership(agent->wiring.node) == NODE_MEMBER;
}
