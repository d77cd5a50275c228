/* The routes of a client, followed by those of the fleet: as one list. Pure; any thread. */
#ifndef MQFLEET_ROUTES_ROUTE_CHAIN_H
#define MQFLEET_ROUTES_ROUTE_CHAIN_H

#include "message/routes/route_table.h"

struct route_chain {
    const struct route_table *client, *fleet; /* borrowed; NULL: no routes */
    uint8_t same[ROUTE_SINKS_MAX]; /* place in `fleet` of each sink of `client`; or no such place */
};

struct route_chain_decision {
    struct route_decision client, fleet; /* no sink of a message is in both, or twice in one */
    bool to_default;                     /* no route gave a sink in `to` */
};

void route_chain_init(struct route_chain *chain, const struct route_table *client,
                      const struct route_table *fleet);
/* As route_table_match. The routes of the fleet are not asked if one of the client says stop. */
void route_chain_match(const struct route_chain *chain, struct message_view *view,
                       struct route_chain_decision *out, route_taken *taken, void *context);

#endif
