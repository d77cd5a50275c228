/* /api/v1/nodes: the nodes of the fleet, draining, and levelling. The handler threads. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "http/api/nodes/fleet_view.h"
#include "http/api/nodes/problems.h"
#include "http/server/json.h"
#include "http/server/problem.h"

#define REBALANCE_RATE_MAX 10000

void api_nodes_list(struct http_request *request, struct http_response *response) {
    struct fleet_view view;
    if (!fleet_view_load(request, &view, response)) {
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < view.n; i++) {
        json_array_append_new(list, fleet_view_node_json(&view, &view.nodes[i]));
    }
    char text[STORE_UNPLACED_LEN];
    node_unplaced_json(request->api->context.node, text);
    http_answer_json(
        response, 200,
        json_pack("{s:o, s:o, s:o, s:o*}", "fleet",
                  view.shared.name[0] != '\0' ? http_json_string(view.shared.name) : json_null(),
                  "nodes", list, "rebalance", fleet_view_rebalance_json(&view), "unplaced",
                  json_from_text(text, strlen(text), 0)));
    fleet_view_fini(&view);
}

static void api_nodes_answer_not_found(const struct http_request *request,
                                       struct http_response *response) {
    http_problem(response, PROBLEM_NOT_FOUND, "there is no node %s", request->parameter);
}

/* False: there is no such node; not answered. */
static bool api_nodes_answer_one(const struct http_request *request, int status,
                                 struct http_response *response) {
    struct fleet_view view;
    if (!fleet_view_load(request, &view, response)) {
        return true;
    }
    bool found = false;
    for (size_t i = 0; !found && i < view.n; i++) {
        found = strcmp(view.nodes[i].name, request->parameter) == 0;
        if (found) {
            http_answer_json(response, status, fleet_view_node_json(&view, &view.nodes[i]));
        }
    }
    fleet_view_fini(&view);
    return found;
}

void api_node_get(struct http_request *request, struct http_response *response) {
    if (!api_nodes_answer_one(request, 200, response)) {
        api_nodes_answer_not_found(request, response);
    }
}

static void api_nodes_set_draining(const struct http_request *request, bool draining,
                                   struct http_response *response) {
    enum err err = store_drain(request->api->context.store, request->parameter, draining);
    if (err == ERR_OK) {
        if (!api_nodes_answer_one(request, 202, response)) {
            http_answer_empty(response, 204); /* it accepts clients once it has started again */
        }
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

/* Answers before the nodes have learned of the request with their next heartbeats. */
void api_nodes_rebalance(struct http_request *request, struct http_response *response) {
    const struct http_context *context = &request->api->context;
    int64_t rate;
    if (http_query_int(&request->query, "rate", 0, REBALANCE_RATE_MAX,
                       context->conf->rebalance_rate, &rate) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST,
                     "rate: must be a whole number of clients per second, from 0 (stop) to %d",
                     REBALANCE_RATE_MAX);
        return;
    }
    enum err err = store_rebalance(context->store, rate);
    struct fleet_view view;
    if (err != ERR_OK) {
        http_problem_store(response, err);
    } else if (fleet_view_load(request, &view, response)) {
        view.rebalance_rate = rate;
        http_answer_json(response, 202, fleet_view_rebalance_json(&view));
        fleet_view_fini(&view);
    }
}

void api_problems(struct http_request *request, struct http_response *response) {
    struct fleet_view view;
    if (fleet_view_load(request, &view, response)) {
        http_answer_json(response, 200, json_pack("{s:o}", "problems", problems_of(&view)));
        fleet_view_fini(&view);
    }
}
