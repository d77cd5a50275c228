/* Empties a draining node: hands its clients over to the nodes that can run them. Works on struct
 * agent. The agent thread. */
#include <stdlib.h>

#include "base/system/clock.h"
#include "cluster/membership/agent_internal.h"

#define DRAIN_CLIENTS_MAX 500  /* leaving at the same time, and considered by one step */
#define DRAIN_REST_MS     2000 /* pause after a step in which no client could leave */

/* Hands over the clients that fit, of up to DRAIN_CLIENTS_MAX from drain_from on. Returns their
 * number. */
static size_t drain_hand_over(struct agent *agent, const struct workers_client *rows, size_t n) {
    size_t begun = 0;
    enum placement_wait stays = PLACEMENT_SOON;
    int64_t room = destinations_room(&agent->destinations, agent);
    for (size_t i = 0; i < n && i < DRAIN_CLIENTS_MAX && room > 0 &&
                       HASH_COUNT(agent->handovers) < DRAIN_CLIENTS_MAX;
         i++) {
        const struct workers_client *client = &rows[(agent->drain_from + i) % n];
        enum placement_wait wait = PLACEMENT_SOON;
        const struct placement_node *target =
            handover_is_pending(agent, client->id)
                ? NULL
                : destinations_take(&agent->destinations, agent, client->id, NULL, &wait);
        stays = wait != PLACEMENT_SOON ? wait : stays;
        if (target && handover_begin(agent, &(struct handover_request){.id = client->id,
                                                                       .epoch = client->epoch,
                                                                       .reason = "drained",
                                                                       .target = target})) {
            begun++;
            room--;
        }
    }
    if (room <= 0) {
        stays = agent->destinations.eligible_count == 0 ? PLACEMENT_NO_NODES : PLACEMENT_NO_ROOM;
    }
    bool leaves = begun > 0 || agent->handovers || agent->releases;
    atomic_store(&agent->drain_wait, leaves ? PLACEMENT_SOON : stays);
    agent->drain_from += DRAIN_CLIENTS_MAX;
    return begun;
}

static bool drain_is_due(struct agent *agent) {
    bool any = node_is_draining(agent->wiring.node) && workers_count(agent->wiring.workers) > 0;
    if (!any) {
        atomic_store(&agent->drain_wait, PLACEMENT_SOON);
        agent->drain_next_ms = 0;
    }
    return any && clock_ms() >= agent->drain_next_ms &&
           HASH_COUNT(agent->handovers) < DRAIN_CLIENTS_MAX;
}

enum placement_wait agent_drain_wait(struct agent *agent) {
    return atomic_load(&agent->drain_wait);
}

/* False: the drain was just cancelled; the next heartbeat tells it. Clients that the node has got
 * since are to stay. */
static bool drain_lasts(const struct agent *agent) {
    return agent->destinations.own == PLACEMENT_NOWHERE;
}

void drain_step(struct agent *agent) {
    struct workers_client *rows = NULL;
    size_t n = 0;
    if (!drain_is_due(agent) || destinations_refresh(&agent->destinations, agent, 0) != ERR_OK ||
        !drain_lasts(agent) || workers_list(agent->wiring.workers, &rows, &n) != ERR_OK) {
        return;
    }
    if (n > 0 && drain_hand_over(agent, rows, n) == 0 && !agent->handovers) {
        agent->drain_next_ms = clock_ms() + DRAIN_REST_MS;
    }
    workers_list_free(rows, n);
}
