/* /api/v1/nodes: the nodes of the fleet, and draining. The handler threads. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "http/server/json.h"
#include "http/server/problem.h"

/* A registered node without a heartbeat is missing, until it is fenced or its heartbeat returns. */
static const char *api_nodes_state_name(const struct store_node *node) {
    return node->heartbeat_valid || node->state == STORE_NODE_DEAD
               ? store_node_state_name(node->state)
               : "missing";
}

struct fleet {
    struct store_node *nodes;
    size_t n;
    char *leader;
    struct store_fleet shared; /* rows: all nodes that published settings */
    struct fleet_differences differences;
};

/* A live node with the same host and port; null: none. */
static json_t *api_nodes_shared_address_json(const struct store_node *node,
                                             const struct fleet *fleet) {
    for (size_t i = 0; node->heartbeat_valid && i < fleet->n; i++) {
        const struct store_node *other = &fleet->nodes[i];
        if (other != node && store_node_shares_address(node, other)) {
            return http_json_string(other->name);
        }
    }
    return json_null();
}

static json_t *api_nodes_to_json(const struct store_node *node, const struct fleet *fleet) {
    json_t *age = node->heartbeat_age_ms >= 0 ? json_integer(node->heartbeat_age_ms) : json_null();
    bool leads = fleet->leader && strcmp(fleet->leader, node->name) == 0;
    return json_pack("{s:o, s:o, s:I, s:o, s:I, s:I, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "name", http_json_string(node->name), "host", http_json_string(node->host),
                     "port", (json_int_t)node->port, "type", http_json_string(node->type), "size",
                     (json_int_t)node->size, "clients", (json_int_t)node->clients, "state",
                     api_nodes_state_name(node), "leader", leads, "incarnation",
                     http_json_string(node->incarnation), "beat_age_ms", age, "version",
                     http_json_string(node->version), "started_at",
                     http_json_time(node->started_at_ms), "differing_settings",
                     fleet_settings_differing(&fleet->differences, &fleet->shared, node->name),
                     "shares_address_with", api_nodes_shared_address_json(node, fleet));
}

static void api_nodes_fleet_fini(struct fleet *fleet) {
    store_nodes_free(fleet->nodes, fleet->n);
    store_fleet_fini(&fleet->shared);
    free(fleet->leader);
}

/* False: answered. */
static bool api_nodes_fleet_load(const struct http_request *request, struct fleet *fleet,
                                 struct http_response *response) {
    const struct http_context *context = &request->api->context;
    *fleet = (struct fleet){0};
    enum err err = store_nodes(context->store, context->conf->heartbeat_ttl_ms, &fleet->nodes,
                               &fleet->n, &fleet->leader);
    if (err == ERR_OK) {
        err = store_publish_settings(context->store, "", "", "", &fleet->shared);
    }
    if (err != ERR_OK) {
        http_problem_store(response, err);
        api_nodes_fleet_fini(fleet);
        return false;
    }
    fleet_settings_compare(&fleet->shared, &fleet->differences);
    return true;
}

void api_nodes_list(struct http_request *request, struct http_response *response) {
    struct fleet fleet;
    if (!api_nodes_fleet_load(request, &fleet, response)) {
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < fleet.n; i++) {
        json_array_append_new(list, api_nodes_to_json(&fleet.nodes[i], &fleet));
    }
    char text[STORE_UNPLACED_LEN];
    node_unplaced_json(request->api->context.node, text);
    http_answer_json(
        response, 200,
        json_pack("{s:o, s:o, s:o*}", "fleet",
                  fleet.shared.name[0] != '\0' ? http_json_string(fleet.shared.name) : json_null(),
                  "nodes", list, "unplaced", json_from_text(text, strlen(text), 0)));
    api_nodes_fleet_fini(&fleet);
}

static void api_nodes_answer_not_found(const struct http_request *request,
                                       struct http_response *response) {
    http_problem(response, PROBLEM_NOT_FOUND, "there is no node %s", request->parameter);
}

static void api_nodes_answer_one(const struct http_request *request, int status,
                                 struct http_response *response) {
    struct fleet fleet;
    if (!api_nodes_fleet_load(request, &fleet, response)) {
        return;
    }
    api_nodes_answer_not_found(request, response);
    for (size_t i = 0; i < fleet.n; i++) {
        if (strcmp(fleet.nodes[i].name, request->parameter) == 0) {
            http_answer_json(response, status, api_nodes_to_json(&fleet.nodes[i], &fleet));
        }
    }
    api_nodes_fleet_fini(&fleet);
}

void api_node_get(struct http_request *request, struct http_response *response) {
    api_nodes_answer_one(request, 200, response);
}

static void api_nodes_set_draining(const struct http_request *request, bool draining,
                                   struct http_response *response) {
    enum err err = store_drain(request->api->context.store, request->parameter, draining);
    if (err == ERR_OK) {
        api_nodes_answer_one(request, 202, response);
    } else if (err == ERR_NOT_FOUND) {
        api_nodes_answer_not_found(request, response);
    } else if (err == ERR_REFUSED) {
        http_problem(response, PROBLEM_STATE, "node %s is dead or leaving", request->parameter);
    } else {
        http_problem_store(response, err);
    }
}

void api_node_drain(struct http_request *request, struct http_response *response) {
    api_nodes_set_draining(request, true, response);
}

void api_node_undrain(struct http_request *request, struct http_response *response) {
    api_nodes_set_draining(request, false, response);
}
