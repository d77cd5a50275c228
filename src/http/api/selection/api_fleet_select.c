/* POST /fleet/select: a question of another node about the clients that run here. Handler threads;
 * waits for nothing. */
#include "http/api/api.h"

#include "http/api/selection/selection.h"
#include "http/server/problem.h"

static void api_fleet_select_answer(const struct http_context *context,
                                    const struct selection_query *query,
                                    struct http_response *response) {
    struct selection selection;
    selection_init(&selection, query);
    workers_visit(context->workers, node_name(context->node), selection_add, &selection);
    selection_finish(&selection);
    if (selection.out_of_memory) {
        http_problem_memory(response);
    } else {
        http_answer_json(response, 200, selection_to_json(&selection));
    }
    selection_fini(&selection);
}

void api_fleet_select(struct http_request *request, struct http_response *response) {
    json_t *body;
    if (!http_body_object(request, response, &body)) {
        return;
    }
    struct selection_query query;
    char fault[CLIENT_SELECTOR_FAULT_LEN];
    enum err err = selection_query_from_json(body, &query, fault);
    if (err == ERR_OK) {
        api_fleet_select_answer(&request->api->context, &query, response);
    } else if (err == ERR_ARGUMENT) {
        http_problem(response, PROBLEM_INVALID, "%s", fault);
    } else {
        http_problem_error(response, err);
    }
    selection_query_fini(&query);
    json_decref(body);
}
