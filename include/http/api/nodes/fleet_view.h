/* What Redis knows of the nodes of the fleet, for the routes about nodes and problems. Handler
 * threads. */
#ifndef MQFLEET_API_FLEET_VIEW_H
#define MQFLEET_API_FLEET_VIEW_H

#include <jansson.h>
#include "cluster/membership/fleet_settings.h"
#include "cluster/placement/balance.h"
#include "http/server/request.h"
#include "http/server/response.h"
#include "store/store.h"

struct fleet_view {
    struct store_node *nodes; /* by name */
    size_t n;
    char *leader;              /* NULL: none */
    struct store_fleet shared; /* rows: all nodes that published settings */
    struct fleet_differences differences;
    struct placement_node *eligible; /* the nodes that may get clients; borrows from nodes */
    size_t eligible_count;
    int64_t rebalance_rate; /* that an operator asked for; 0: no request */
    int64_t to_move;        /* clients, until all nodes are level */
    enum balance_obstacle obstacle;
};

/* False: answered. Otherwise the caller calls fleet_view_fini. */
bool fleet_view_load(const struct http_request *request, struct fleet_view *view,
                     struct http_response *response);
void fleet_view_fini(struct fleet_view *view);

/* "live" "draining" "leaving" "dead", or "missing": registered, without a heartbeat, not yet
 * fenced. */
const char *fleet_view_state(const struct store_node *node);
json_t *fleet_view_node_json(const struct fleet_view *view, const struct store_node *node);
/* {"rate","left","waits_for"}. */
json_t *fleet_view_rebalance_json(const struct fleet_view *view);
/* Why clients stay on a draining node, {"reason","message"}; null: it does not drain, or they
 * leave, or it is of an older version. */
json_t *fleet_view_drain_json(const struct store_node *node);

#endif
