/* POST /fleet/select: a question of another node about the clients that run here. Handler threads;
 * waits for nothing. */
#include "http/api/api.h"

#include "http/api/selection/select_query.h"
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
    struct selection_query query;
    if (select_query_read(request, response, &query)) {
        api_fleet_select_answer(&request->api->context, &query, response);
    }
    selection_query_fini(&query);
}
