/* The sinks that the routes of the fleet, and those of a client, require of a node. Only those
 * count that some node lacks, which is rare: otherwise nothing is computed for a client. One thread
 * at a time. */
#ifndef MQFLEET_PLACEMENT_PLACEMENT_ROUTES_H
#define MQFLEET_PLACEMENT_PLACEMENT_ROUTES_H

#include "cluster/placement/placement.h"
#include "sink/sinks.h"

struct placement_routes {
    struct route_table *table; /* NULL: no routes */
    uint64_t partial;          /* sinks of the table that not all nodes have */
    const struct placement_node *nodes;
    size_t node_count;
};

/* sinks NULL: no routes. The nodes stay until fini. */
void placement_routes_init(struct placement_routes *routes, struct sinks *sinks,
                           const struct placement_node *nodes, size_t n);
void placement_routes_fini(struct placement_routes *routes);
/* Adds to the need what messages of the client may require. The need borrows the routes. */
enum err placement_routes_add(const struct placement_routes *routes,
                              const struct client_config *config,
                              struct placement_need *need) MUST_CHECK;
/* Whether the node has the sinks of the need. */
bool placement_routes_has(const struct placement_need *need, const struct placement_node *node);

#endif
