/* GET /api/v1/time-series, and POST /fleet/time-series between nodes: the last hour of the fleet,
 * from the memory of its nodes. Handler threads; the request of a user waits for other nodes. */
#include "http/api/api.h"

#include <stdlib.h>
#include "base/system/clock.h"
#include "http/api/ops/time_series_sum.h"
#include "http/api/selection/select_round.h"
#include "http/server/problem.h"

/* ---- between nodes --------------------------------------------------------------------------- */

void api_fleet_time_series(struct http_request *request, struct http_response *response) {
    json_t *json = time_series_to_json(request->api->context.time_series, clock_wall_ms());
    if (json) {
        http_answer_json(response, 200, json);
    } else {
        http_problem_memory(response);
    }
}

/* ---- the fleet ------------------------------------------------------------------------------- */

static enum err api_time_series_merge(struct select_round *round, const json_t *answer) {
    return time_series_sum_merge(round->context, answer);
}

static enum err api_time_series_add_own(struct select_round *round,
                                        const struct http_request *request) {
    struct time_series_sum *sum = round->context;
    json_t *json = time_series_to_json(request->api->context.time_series, sum->now_ms);
    enum err err = json ? time_series_sum_merge(sum, json) : ERR_MEMORY;
    json_decref(json);
    return err;
}

static const struct select_round_kind time_series_round = {.path = "/fleet/time-series",
                                                           .merge = api_time_series_merge,
                                                           .add_own = api_time_series_add_own};

static void api_time_series_answer(struct http_request *request, struct http_response *response,
                                   struct select_round *round) {
    json_t *json = time_series_sum_to_json(round->context);
    (void)request;
    if (json) {
        json_object_set(json, "incomplete", round->incomplete);
        http_answer_json(response, 200, json);
    } else {
        http_problem_memory(response);
    }
}

void api_time_series(struct http_request *request, struct http_response *response) {
    struct selection_query query = {0};
    struct time_series_sum *sum = malloc(sizeof *sum);
    if (!sum) {
        http_problem_memory(response);
        return;
    }
    time_series_sum_init(sum, clock_wall_ms());
    select_round_begin(request, response, &query,
                       &(struct select_round_plan){.kind = &time_series_round,
                                                   .then = api_time_series_answer,
                                                   .context = sum,
                                                   .free_context = free});
}
