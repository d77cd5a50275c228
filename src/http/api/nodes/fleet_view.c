/* Reads the nodes of the fleet and shows them. Handler threads. */
#include "http/api/nodes/fleet_view.h"

#include <stdlib.h>
#include <string.h>
#include "http/api/api.h"
#include "http/server/json.h"
#include "http/server/problem.h"

void fleet_view_fini(struct fleet_view *view) {
    store_nodes_free(view->nodes, view->n);
    store_fleet_fini(&view->shared);
    free(view->eligible);
    free(view->leader);
    *view = (struct fleet_view){0};
}

static enum err fleet_view_measure(const struct http_context *context, struct fleet_view *view) {
    struct node_fleet_view fleet;
    node_fleet_view(context->node, &fleet);
    view->eligible = calloc(view->n + 1, sizeof *view->eligible);
    int64_t *goals = calloc(view->n + 1, sizeof *goals);
    if (!view->eligible || !goals) {
        free(goals);
        return ERR_MEMORY;
    }
    view->eligible_count = placement_eligible_nodes(view->nodes, view->n, view->eligible);
    view->to_move = balance_goals(view->eligible, view->eligible_count, goals);
    view->rebalance_rate = fleet.rebalance_rate;
    struct balance_fleet balance = {.registered = view->nodes,
                                    .registered_count = view->n,
                                    .eligible = view->eligible,
                                    .eligible_count = view->eligible_count,
                                    .waiting = node_unexplained_waiting(context->node),
                                    .restoring = fleet.restoring};
    view->obstacle = balance_find_obstacle(&balance);
    free(goals);
    return ERR_OK;
}

bool fleet_view_load(const struct http_request *request, struct fleet_view *view,
                     struct http_response *response) {
    const struct http_context *context = &request->api->context;
    *view = (struct fleet_view){0};
    enum err err = store_nodes(context->store, context->conf->heartbeat_ttl_ms, &view->nodes,
                               &view->n, &view->leader);
    if (err == ERR_OK) {
        err = store_publish_settings(context->store, "", "", "", &view->shared);
    }
    if (err == ERR_OK) {
        err = fleet_view_measure(context, view);
    }
    if (err != ERR_OK) {
        http_problem_store(response, err);
        fleet_view_fini(view);
        return false;
    }
    fleet_settings_compare(&view->shared, &view->differences);
    return true;
}

const char *fleet_view_state(const struct store_node *node) {
    return node->heartbeat_valid || node->state == STORE_NODE_DEAD
               ? store_node_state_name(node->state)
               : "missing";
}

/* A live node with the same host and port; null: none. */
static json_t *fleet_view_shared_address_json(const struct fleet_view *view,
                                              const struct store_node *node) {
    for (size_t i = 0; node->heartbeat_valid && i < view->n; i++) {
        const struct store_node *other = &view->nodes[i];
        if (other != node && store_node_shares_address(node, other)) {
            return http_json_string(other->name);
        }
    }
    return json_null();
}

json_t *fleet_view_drain_json(const struct store_node *node) {
    struct facts facts;
    facts_read(&facts, node->facts);
    for (size_t i = 0; node->state == STORE_NODE_DRAINING && i < PLACEMENT_WAIT_COUNT; i++) {
        enum placement_wait wait = (enum placement_wait)i;
        if (strcmp(facts.drain_wait, placement_wait_code(wait)) == 0) {
            return json_pack("{s:s, s:s}", "reason", placement_wait_code(wait), "message",
                             placement_wait_text(wait));
        }
    }
    return json_null();
}

json_t *fleet_view_node_json(const struct fleet_view *view, const struct store_node *node) {
    json_t *age = node->heartbeat_age_ms >= 0 ? json_integer(node->heartbeat_age_ms) : json_null();
    bool leads = view->leader && strcmp(view->leader, node->name) == 0;
    return json_pack("{s:o, s:o, s:I, s:o, s:I, s:I, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "name", http_json_string(node->name), "host", http_json_string(node->host),
                     "port", (json_int_t)node->port, "type", http_json_string(node->type), "size",
                     (json_int_t)node->size, "clients", (json_int_t)node->clients, "state",
                     fleet_view_state(node), "leader", leads, "incarnation",
                     http_json_string(node->incarnation), "beat_age_ms", age, "version",
                     http_json_string(node->version), "started_at",
                     http_json_time(node->started_at_ms), "differing_settings",
                     fleet_settings_differing(&view->differences, &view->shared, node->name),
                     "shares_address_with", fleet_view_shared_address_json(view, node),
                     "drain_waits_for", fleet_view_drain_json(node));
}

json_t *fleet_view_rebalance_json(const struct fleet_view *view) {
    json_t *waits = view->obstacle == BALANCE_CLEAR
                        ? json_null()
                        : json_pack("{s:s, s:s}", "reason", balance_obstacle_code(view->obstacle),
                                    "message", balance_obstacle_text(view->obstacle));
    return json_pack("{s:I, s:I, s:o}", "rate", (json_int_t)view->rebalance_rate, "left",
                     (json_int_t)view->to_move, "waits_for", waits);
}
