/* GET /api/v1/summary: how many clients of the fleet have which state, error, broker ... The
 * handler threads; the request waits for other nodes. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "http/api/selection/select_query.h"
#include "http/api/selection/select_round.h"
#include "http/server/json.h"
#include "http/server/problem.h"

#define GROUPS_DEFAULT 100
#define GROUPS_MAX     1000

struct summary {
    char *by;
    size_t limit;
};

static void api_summary_free(void *context) {
    struct summary *summary = context;
    free(summary->by);
    free(summary);
}

/* value NULL: without one. */
static json_t *api_summary_group_json(const struct select_round *round,
                                      const struct tally_row *row) {
    json_t *group = json_pack("{s:o, s:I}", "value", http_json_string(row->value), "count",
                              (json_int_t)row->count);
    if (round->query.by == CLIENT_SELECTOR_ERROR && row->value) {
        enum client_error error = client_error_of_code(row->value);
        const char *advice = client_error_advice(error);
        json_object_set_new(group, "example", http_json_string(row->example));
        json_object_set_new(group, "text", http_json_string(client_error_text(error)));
        json_object_set_new(group, "advice", http_json_string(advice));
    }
    return group;
}

static void api_summary_answer(struct http_request *request, struct http_response *response,
                               struct select_round *round) {
    const struct summary *summary = round->context;
    const struct selection *selection = &round->selection;
    size_t n, shown = 0;
    int64_t in_groups = 0;
    struct tally_row *rows = tally_rows(&selection->tally, &n);
    (void)request;
    if (!rows) {
        http_problem_memory(response);
        return;
    }
    json_t *groups = json_array();
    for (; shown < n && shown < summary->limit; shown++) {
        json_array_append_new(groups, api_summary_group_json(round, &rows[shown]));
        in_groups += rows[shown].count;
    }
    http_answer_json(response, 200,
                     json_pack("{s:s, s:I, s:o, s:o, s:o, s:O}", "by", summary->by, "count",
                               (json_int_t)selection->count, "groups", groups, "others",
                               json_pack("{s:I, s:I}", "groups", (json_int_t)(n - shown), "count",
                                         (json_int_t)(selection->count - in_groups)),
                               "starting", select_round_starting_json(round), "incomplete",
                               round->incomplete));
    free(rows);
}

/* The parameters besides the selector. False: answered. */
static bool api_summary_read(const struct http_request *request, struct http_response *response,
                             struct selection_query *query, struct summary *summary) {
    const char *by = http_query_get(&request->query, "by");
    int64_t limit;
    enum err err = by ? selection_query_group(query, by) : ERR_ARGUMENT;
    if (err == ERR_ARGUMENT) {
        http_problem(response, PROBLEM_INVALID,
                     "by: must be state, error, broker, node, label.NAME, profile, silent or "
                     "degraded");
    } else if (http_query_int(&request->query, "limit", 1, GROUPS_MAX, GROUPS_DEFAULT, &limit) !=
               ERR_OK) {
        http_problem(response, PROBLEM_INVALID, "limit: must be a number from 1 to %d", GROUPS_MAX);
        err = ERR_ARGUMENT;
    } else if (err != ERR_OK || !(summary->by = strdup(by))) {
        http_problem_memory(response);
        err = ERR_MEMORY;
    } else {
        summary->limit = (size_t)limit;
    }
    return err == ERR_OK;
}

void api_summary(struct http_request *request, struct http_response *response) {
    struct selection_query query = {0};
    struct summary *summary = calloc(1, sizeof *summary);
    if (!summary) {
        http_problem_memory(response);
        return;
    }
    if (!select_query_parse(request, response, &query) ||
        !api_summary_read(request, response, &query, summary)) {
        selection_query_fini(&query);
        api_summary_free(summary);
        return;
    }
    select_round_begin(request, response, &query,
                       &(struct select_round_plan){.then = api_summary_answer,
                                                   .context = summary,
                                                   .free_context = api_summary_free});
}
