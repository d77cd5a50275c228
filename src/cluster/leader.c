/* What one node does for all while it leads: fences and reaps dead nodes, and adopts what nobody
 * owns. Leading is only an optimisation: every step is refused by the scripts when it is wrong.
 * Agent thread. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "agent_internal.h"

#define LEADER_TTL_MS  1500
#define REAP_CALLS_MAX 100 /* in one step */

void leader_lead_step(struct agent *agent) {
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    bool leading = false;
    if (store_lead(agent->wiring.store, &member, LEADER_TTL_MS, &leading) != ERR_OK) {
        leading = false;
    }
    if (atomic_exchange(&agent->leading, leading) != leading) {
        log_event(LOG_INFO, leading ? "leading" : "no_longer_leading", KS("node", member.node));
        schedule_wake(agent);
    }
}

/* ---- fence and reap -------------------------------------------------------------------------- */

static void reap(struct agent *agent, const struct store_node *node) {
    struct store_member target = {node->name, node->incarnation};
    size_t total = 0;
    bool finished = false;
    for (int i = 0; i < REAP_CALLS_MAX && !finished && agent_goes_on(agent); i++) {
        size_t moved = 0;
        if (store_reap(agent->wiring.store, &target, &moved, &finished) != ERR_OK) {
            break;
        }
        total += moved;
        schedule_wake(agent);
    }
    int64_t since_ms = reaper_missing_since_ms(agent->reaper, node->name);
    metric_add(METRIC_REAPED, (int64_t)total);
    metric_add(METRIC_NODES_REAPED, finished);
    if (finished && since_ms > 0) {
        histogram_add(HISTOGRAM_REHOME, (clock_ms() - since_ms) * 1000, 1);
    }
    log_event(LOG_WARN, "node_reaped", KS("node", node->name), KI("clients", total),
              KS("finished", finished ? "yes" : "no"));
}

static bool fence(struct agent *agent, const struct store_node *node) {
    char incarnation[TEXT_ID_LEN];
    struct store_member caller = agent_member(agent, incarnation);
    struct store_member target = {node->name, node->incarnation};
    enum err result = store_fence(agent->wiring.store, &caller, &target);
    log_event(LOG_WARN, "node_fenced", KS("node", node->name), KS("result", err_name(result)));
    return result == ERR_OK;
}

/* All fences first: a verdict is about this moment, and reaping takes its time. */
static void bury(struct agent *agent, struct store_node *nodes, size_t n, const bool *verdicts) {
    for (size_t i = 0; i < n; i++) {
        if (verdicts[i] && fence(agent, &nodes[i])) {
            nodes[i].state = STORE_NODE_DEAD;
        }
    }
    for (size_t i = 0; i < n && agent_goes_on(agent); i++) {
        if (nodes[i].state == STORE_NODE_DEAD) {
            reap(agent, &nodes[i]);
        }
    }
}

/* Every node looks, so that a new leader already knows since when a beat is missing. */
void leader_look_step(struct agent *agent) {
    struct store_node *nodes = NULL;
    size_t n = 0;
    int64_t ttl_ms = agent->wiring.conf->heartbeat_ttl_ms, begun_ms = clock_ms();
    if (store_nodes(agent->wiring.store, ttl_ms, &nodes, &n, NULL) != ERR_OK) {
        reaper_forget(agent->reaper);
        return;
    }
    bool *verdicts = calloc(n + 1, sizeof(*verdicts));
    if (verdicts) {
        int64_t age_ms = node_beat_age_ms(agent->wiring.node), now_ms = clock_ms();
        /* An answer that took long is about nobody knows which moment. */
        bool fresh = age_ms >= 0 && age_ms < ttl_ms && now_ms - begun_ms < ttl_ms / 2;
        reaper_look(agent->reaper, nodes, n, now_ms, fresh, node_redis_back_ms(agent->wiring.node),
                    verdicts, NULL);
    }
    if (verdicts && atomic_load(&agent->leading)) {
        bury(agent, nodes, n, verdicts);
    }
    free(verdicts);
    store_nodes_free(nodes, n);
}

void leader_orphans_step(struct agent *agent) {
    size_t moved = 0;
    if (atomic_load(&agent->leading) &&
        store_adopt_orphans(agent->wiring.store, &moved) == ERR_OK && moved > 0) {
        log_event(LOG_WARN, "orphans_adopted", KI("clients", moved));
        schedule_wake(agent);
    }
}

void leader_strays_step(struct agent *agent) {
    struct store_strays strays;
    if (!atomic_load(&agent->leading) ||
        store_clean_strays(agent->wiring.store, &strays) != ERR_OK) {
        return;
    }
    for (size_t i = 0; i < strays.n; i++) {
        log_event(LOG_WARN, "stray_list_cleaned", KS("node", strays.rows[i].node),
                  KI("ids", strays.rows[i].ids));
    }
}
