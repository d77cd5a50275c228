/* Private to the agent: the nodes, as far as clients of this node can be handed over to them.
 * A hint: the script that assigns a client decides. The agent thread. */
#ifndef MQFLEET_PLACEMENT_DESTINATIONS_H
#define MQFLEET_PLACEMENT_DESTINATIONS_H

#include <stdint.h>
#include "base/err.h"
#include "cluster/placement/placement_routes.h"
#include "store/store.h"

struct agent;

struct destinations {
    int64_t read_ms;               /* 0: never */
    struct store_node *registered; /* all nodes, with this one */
    size_t registered_count;
    struct placement_node *eligible; /* with this node, by name; borrows from registered */
    size_t eligible_count;
    size_t own; /* this node among them; PLACEMENT_NOWHERE: it is not live */
    struct placement_routes routes;
    struct store_counts counts;
};

void destinations_fini(struct destinations *destinations);
/* Reads them again if they are older than that. After an error there are none. */
enum err destinations_refresh(struct destinations *destinations, struct agent *agent,
                              int64_t age_ms_max) MUST_CHECK;
/* The free places of all, without those for clients that wait or leave this node. */
int64_t destinations_room(const struct destinations *destinations, struct agent *agent);
/* The least-loaded other node that can run this client of the node; it counts as one client more.
 * quotas: of eligible, only nodes with one may take it; NULL: any. NULL: none; *wait (may be NULL):
 * why, PLACEMENT_SOON if the client has just stopped. Borrowed until the next refresh. */
const struct placement_node *destinations_take(struct destinations *destinations,
                                               struct agent *agent, const char *id,
                                               const int64_t *quotas, enum placement_wait *wait);

#endif
