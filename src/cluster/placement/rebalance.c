/* Moves clients of this node to emptier nodes, slowly by itself or when an operator asks:
 *
 *   destinations --balance_goals--> quotas --handover_begin--> closed --store_release--> target
 *
 * Works on struct agent. The agent thread. */
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "cluster/membership/agent_internal.h"
#include "cluster/placement/balance.h"

#define REBALANCE_LEAVING_MAX 500     /* clients that leave at the same time */
#define REBALANCE_TRIES_MAX   500     /* clients for which one step looks for a node */
#define REBALANCE_REST_MS     5000    /* after a step in which no client could move */
#define REBALANCE_READ_MS     900     /* age of the list of nodes */
#define REBALANCE_RENEW_MS    5000    /* of an operator's request */
#define REBALANCE_RETURN_MS   3600000 /* a client that came back is not moved again before */
#define US_PER_MS             1000

/* One step. */
struct rebalancing {
    struct agent *agent;
    struct node_fleet_view fleet;
    bool asked; /* by an operator: exactly level, at once, all clients */
    int64_t *goals, *quotas;
    int64_t left; /* clients that must move in the whole fleet */
};

/* ---- clients that came back ------------------------------------------------------------------ */

/* A client that was moved and is here again was given back by its target, or the fleet has changed.
 * Without this, it could move to and fro, and an operator's request would never end. */
static bool rebalance_came_back(const struct rebalancing *step, const char *id) {
    const struct rebalance *rebalance = &step->agent->rebalance;
    int64_t since_ms = step->asked ? rebalance->asked_ms : clock_ms() - REBALANCE_RETURN_MS;
    uint64_t hash = text_hash(id, SIZE_MAX);
    for (size_t i = 0; i < REBALANCED_MAX; i++) {
        const struct rebalanced_client *moved = &rebalance->moved[i];
        if (moved->at_ms != 0 && moved->at_ms >= since_ms && moved->id_hash == hash) {
            return true;
        }
    }
    return false;
}

static void rebalance_note_moved(struct agent *agent, const char *id) {
    struct rebalance *rebalance = &agent->rebalance;
    rebalance->moved[rebalance->moved_next] =
        (struct rebalanced_client){text_hash(id, SIZE_MAX), clock_ms()};
    rebalance->moved_next = (rebalance->moved_next + 1) % REBALANCED_MAX;
    rebalance->moved_count++;
}

/* ---- when ------------------------------------------------------------------------------------ */

/* The clients that may leave now; at most those of a second, but one at least. The nodes share the
 * rate of the fleet in proportion to what each has too many. */
static void rebalance_refill(struct agent *agent, int64_t rate) {
    struct rebalance *rebalance = &agent->rebalance;
    int64_t share = rebalance->share > 0 ? rebalance->share : 1000;
    int64_t now_ms = clock_ms(), most = rate * share > 1000 ? rate * share : 1000;
    int64_t passed_ms = rebalance->refilled_ms != 0 ? now_ms - rebalance->refilled_ms : 0;
    rebalance->refilled_ms = now_ms;
    rebalance->budget += rate * share * (passed_ms < 1000 ? passed_ms : 1000) / 1000;
    rebalance->budget = rebalance->budget < most ? rebalance->budget : most;
}

static void rebalance_set_share(struct rebalancing *step) {
    size_t own = step->agent->destinations.own;
    int64_t excess = step->agent->destinations.eligible[own].clients - step->goals[own];
    int64_t share = excess > 0 && step->left > 0 ? excess * 1000 / step->left : 0;
    step->agent->rebalance.share = share > 0 || excess <= 0 ? share : 1;
}

/* A cheap check with the numbers of the last heartbeat; the nodes are read only if it is true. */
static bool rebalance_may_be_due(const struct rebalancing *step) {
    struct agent *agent = step->agent;
    int64_t own = (int64_t)workers_count(agent->wiring.workers) * step->fleet.nodes;
    bool off = strcmp(agent->wiring.conf->rebalance, "off") == 0;
    return node_lease_valid(agent->wiring.node) && step->fleet.nodes > 1 &&
           (step->asked ||
            (!off &&
             (agent->rebalance.active ||
              own * 100 > step->fleet.owned * (100 + agent->wiring.conf->rebalance_tolerance))));
}

/* A sum over the names and incarnations of the nodes. */
static uint64_t rebalance_nodes_hash(const struct destinations *destinations) {
    uint64_t sum = destinations->registered_count;
    for (size_t i = 0; i < destinations->registered_count; i++) {
        sum += text_hash(destinations->registered[i].incarnation, SIZE_MAX) +
               (uint64_t)destinations->registered[i].state;
    }
    return sum;
}

/* Whether the fleet is well, and has been for long enough. */
static bool rebalance_fleet_is_calm(struct rebalancing *step) {
    struct rebalance *rebalance = &step->agent->rebalance;
    const struct destinations *destinations = &step->agent->destinations;
    struct balance_fleet fleet = {.registered = destinations->registered,
                                  .registered_count = destinations->registered_count,
                                  .eligible = destinations->eligible,
                                  .eligible_count = destinations->eligible_count,
                                  .waiting = node_unexplained_waiting(step->agent->wiring.node),
                                  .restoring = step->fleet.restoring};
    bool clear = balance_find_obstacle(&fleet) == BALANCE_CLEAR;
    uint64_t nodes = rebalance_nodes_hash(destinations);
    if (!clear || nodes != rebalance->nodes_hash || rebalance->well_since_ms == 0) {
        rebalance->nodes_hash = nodes;
        rebalance->well_since_ms = clock_ms();
    }
    int64_t settle_ms = step->asked ? 0 : step->agent->wiring.conf->rebalance_settle_ms;
    return clear && clock_ms() - rebalance->well_since_ms >= settle_ms;
}

/* Clients that already leave count where they go. */
static void rebalance_count_leaving(struct agent *agent) {
    struct destinations *destinations = &agent->destinations;
    struct handover *handover, *next;
    HASH_ITER(hh, agent->handovers, handover, next) {
        for (size_t i = 0; handover->target && i < destinations->eligible_count; i++) {
            if (strcmp(destinations->eligible[i].name, handover->target) == 0) {
                destinations->eligible[i].clients++;
                destinations->eligible[destinations->own].clients--;
            }
        }
    }
}

/* Begins beyond the tolerance, and goes on until this node has its share. */
static bool rebalance_has_too_many(const struct rebalancing *step) {
    const struct agent *agent = step->agent;
    size_t own = agent->destinations.own;
    int64_t goal = step->goals[own], excess = agent->destinations.eligible[own].clients - goal;
    int64_t tolerated = goal * agent->wiring.conf->rebalance_tolerance / 100;
    bool begun = step->asked || agent->rebalance.active;
    return excess > (begun ? 0 : tolerated > 1 ? tolerated : 1);
}

/* ---- moving ---------------------------------------------------------------------------------- */

/* In conflict, in backoff, or connecting: such a client stays where it is. */
static bool rebalance_client_may_move(const struct rebalancing *step,
                                      const struct workers_client *client) {
    const struct conf *conf = step->agent->wiring.conf;
    bool quiet = client->state == CLIENT_ONLINE || client->state == CLIENT_PAUSED;
    if (!quiet || client->closing || handover_is_pending(step->agent, client->id)) {
        return false;
    }
    if (step->asked) {
        return !rebalance_came_back(step, client->id);
    }
    bool mode = client->keeps_session || client->state == CLIENT_PAUSED ||
                strcmp(conf->rebalance, "all") == 0;
    int64_t here_us = step->fleet.redis_us - client->epoch; /* an epoch is a time */
    return mode && here_us >= conf->rebalance_settle_ms * US_PER_MS &&
           !rebalance_came_back(step, client->id);
}

static bool rebalance_move(struct rebalancing *step, const struct workers_client *client) {
    struct agent *agent = step->agent;
    const struct placement_node *target =
        destinations_take(&agent->destinations, agent, client->id, step->quotas, NULL);
    if (!target || !handover_begin(agent, &(struct handover_request){.id = client->id,
                                                                     .epoch = client->epoch,
                                                                     .reason = "rebalanced",
                                                                     .target = target})) {
        return false;
    }
    step->quotas[target - agent->destinations.eligible]--;
    agent->destinations.eligible[agent->destinations.own].clients--;
    agent->rebalance.budget -= 1000;
    rebalance_note_moved(agent, client->id);
    return true;
}

static size_t rebalance_move_some(struct rebalancing *step) {
    struct workers_client *rows = NULL;
    size_t n = 0, i = 0, tries = 0, begun = 0;
    struct agent *agent = step->agent;
    if (agent->rebalance.budget < 1000 ||
        workers_list(agent->wiring.workers, &rows, &n) != ERR_OK) {
        return 0;
    }
    for (; i < n && tries < REBALANCE_TRIES_MAX && agent->rebalance.budget >= 1000 &&
           rebalance_has_too_many(step) && HASH_COUNT(agent->handovers) < REBALANCE_LEAVING_MAX;
         i++) {
        const struct workers_client *client = &rows[(agent->rebalance.from + i) % n];
        if (rebalance_client_may_move(step, client)) {
            tries++;
            begun += rebalance_move(step, client);
        }
    }
    agent->rebalance.from += i;
    if (begun == 0 && !agent->handovers) {
        agent->rebalance.rest_until_ms = clock_ms() + REBALANCE_REST_MS;
    }
    workers_list_free(rows, n);
    metric_add(METRIC_REBALANCED, (int64_t)begun);
    return begun;
}

/* ---- the step -------------------------------------------------------------------------------- */

static void rebalance_set_active(struct agent *agent, bool active) {
    struct rebalance *rebalance = &agent->rebalance;
    if (rebalance->active == active) {
        return;
    }
    rebalance->active = active;
    log_event(LOG_INFO, active ? "rebalance_begins" : "rebalance_ends",
              KS("node", node_name(agent->wiring.node)), KI("moved", rebalance->moved_count));
    rebalance->moved_count = 0;
}

/* An operator's request lasts while clients move, and ends when all nodes are level. */
static void rebalance_keep_request(struct rebalancing *step, bool moves) {
    struct agent *agent = step->agent;
    int64_t now_ms = clock_ms();
    enum err err = ERR_OK;
    if (step->left == 0) {
        err = store_rebalance(agent->wiring.store, 0);
    } else if (moves && now_ms >= agent->rebalance.renew_next_ms) {
        agent->rebalance.renew_next_ms = now_ms + REBALANCE_RENEW_MS;
        err = store_renew_rebalance(agent->wiring.store);
    }
    (void)err; /* the next step tries again; without it, the request ends */
}

static void rebalance_among(struct rebalancing *step) {
    struct agent *agent = step->agent;
    struct destinations *destinations = &agent->destinations;
    size_t begun = 0;
    rebalance_count_leaving(agent);
    step->left = balance_goals(destinations->eligible, destinations->eligible_count, step->goals);
    rebalance_set_share(step);
    if (rebalance_has_too_many(step)) {
        rebalance_set_active(agent, true);
        balance_quotas(destinations->eligible, step->goals, destinations->eligible_count,
                       destinations->own, step->quotas);
        begun = rebalance_move_some(step);
    } else {
        rebalance_set_active(agent, false);
    }
    if (step->asked) {
        rebalance_keep_request(step, begun > 0 || agent->handovers);
    }
}

static void rebalance_note_request(struct rebalancing *step) {
    struct rebalance *rebalance = &step->agent->rebalance;
    step->asked = step->fleet.rebalance_rate > 0;
    if (!step->asked) {
        rebalance->asked_ms = 0;
    } else if (rebalance->asked_ms == 0) {
        rebalance->asked_ms = clock_ms();
    }
}

void rebalance_step(struct agent *agent) {
    struct rebalancing step = {.agent = agent};
    node_fleet_view(agent->wiring.node, &step.fleet);
    rebalance_note_request(&step);
    rebalance_refill(agent,
                     step.asked ? step.fleet.rebalance_rate : agent->wiring.conf->rebalance_rate);
    if (!rebalance_may_be_due(&step)) {
        rebalance_set_active(agent, false);
        agent->rebalance.well_since_ms = 0;
        return;
    }
    if (!step.asked && clock_ms() < agent->rebalance.rest_until_ms) {
        return;
    }
    if (destinations_refresh(&agent->destinations, agent, REBALANCE_READ_MS) != ERR_OK ||
        !rebalance_fleet_is_calm(&step) || agent->destinations.own == PLACEMENT_NOWHERE) {
        return;
    }
    size_t n = agent->destinations.eligible_count;
    step.goals = calloc(n + 1, sizeof *step.goals);
    step.quotas = calloc(n + 1, sizeof *step.quotas);
    if (step.goals && step.quotas) {
        rebalance_among(&step);
    }
    agent->destinations.read_ms = 0; /* the counts in it were changed */
    free(step.goals);
    free(step.quotas);
}
