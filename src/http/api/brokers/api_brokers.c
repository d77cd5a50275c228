/* GET /api/v1/brokers, and POST /fleet/brokers between nodes: the brokers of the fleet, from the
 * memory of its nodes. Handler threads; the request of a user waits for other nodes. */
#include "http/api/api.h"

#include <stdlib.h>
#include "http/api/brokers/broker_table.h"
#include "http/api/selection/select_query.h"
#include "http/api/selection/select_round.h"
#include "http/server/json.h"
#include "http/server/problem.h"

#define BROKERS_DEFAULT 100
#define BROKERS_MAX     1000

struct brokers_question {
    struct broker_table table;
    size_t limit;
};

static void api_brokers_free(void *context) {
    struct brokers_question *question = context;
    broker_table_fini(&question->table);
    free(question);
}

/* scope NULL: all clients count. */
static enum err api_brokers_visit(const struct http_context *context,
                                  const struct client_selector *scope, struct broker_table *table) {
    table->scope = scope;
    table->node = node_name(context->node);
    workers_visit(context->workers, table->node, broker_table_add_client, table);
    workers_visit_brokers(context->workers, broker_table_add_view, table);
    return table->out_of_memory ? ERR_MEMORY : ERR_OK;
}

/* ---- between nodes --------------------------------------------------------------------------- */

static void api_fleet_brokers_answer(const struct http_request *request,
                                     const struct client_selector *scope,
                                     struct http_response *response) {
    struct broker_table table = {0};
    json_t *answer = NULL;
    if (api_brokers_visit(&request->api->context, scope, &table) == ERR_OK) {
        answer = broker_table_to_json(&table);
    }
    if (answer) {
        http_answer_json(response, 200, answer);
    } else {
        http_problem_memory(response);
    }
    broker_table_fini(&table);
}

void api_fleet_brokers(struct http_request *request, struct http_response *response) {
    api_fleet_brokers_answer(request, NULL, response);
}

/* A path of its own: nodes that do not know it would tell of the brokers of all clients. */
void api_fleet_scope_brokers(struct http_request *request, struct http_response *response) {
    struct selection_query query;
    if (select_query_read(request, response, &query)) {
        if (query.scope) {
            api_fleet_brokers_answer(request, query.scope, response);
        } else {
            http_problem(response, PROBLEM_INVALID, "scope: is missing");
        }
    }
    selection_query_fini(&query);
}

/* ---- the fleet ------------------------------------------------------------------------------- */

static enum err api_brokers_merge(struct select_round *round, const json_t *answer) {
    struct brokers_question *question = round->context;
    return broker_table_merge_json(&question->table, answer);
}

/* After the other nodes. Their rows are merged as theirs are. */
static enum err api_brokers_add_own(struct select_round *round,
                                    const struct http_request *request) {
    struct brokers_question *question = round->context;
    struct broker_table own = {0};
    enum err err = api_brokers_visit(&request->api->context, round->query.scope, &own);
    json_t *json = err == ERR_OK ? broker_table_to_json(&own) : NULL;
    broker_table_fini(&own);
    err = json ? broker_table_merge_json(&question->table, json) : ERR_MEMORY;
    json_decref(json);
    return question->table.out_of_memory ? ERR_MEMORY : err;
}

static const struct select_round_kind brokers_round = {
    .path = "/fleet/brokers", .merge = api_brokers_merge, .add_own = api_brokers_add_own};
static const struct select_round_kind scope_brokers_round = {
    .path = "/fleet/scope-brokers", .merge = api_brokers_merge, .add_own = api_brokers_add_own};

static void api_brokers_answer(struct http_request *request, struct http_response *response,
                               struct select_round *round) {
    const struct brokers_question *question = round->context;
    json_t *list = json_array();
    int64_t clients = 0;
    size_t n;
    struct broker_row **rows = broker_table_sorted(&question->table, &n);
    (void)request;
    if (!rows) {
        json_decref(list);
        http_problem_memory(response);
        return;
    }
    for (size_t i = 0; i < n && i < question->limit; i++) {
        json_array_append_new(list, broker_row_to_json(rows[i], round->query.scope != NULL));
    }
    size_t shown = json_array_size(list);
    for (size_t i = shown; i < n; i++) {
        clients += rows[i]->counts[BROKER_CLIENTS];
    }
    free(rows);
    json_int_t others = (json_int_t)(n - shown) + question->table.dropped;
    http_answer_json(response, 200,
                     json_pack("{s:o, s:{s:I, s:I}, s:O}", "brokers", list, "others", "brokers",
                               others, "clients", (json_int_t)clients, "incomplete",
                               round->incomplete));
}

void api_brokers(struct http_request *request, struct http_response *response) {
    struct selection_query query = {0};
    int64_t limit;
    if (http_query_int(&request->query, "limit", 1, BROKERS_MAX, BROKERS_DEFAULT, &limit) !=
        ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "limit: must be a number from 1 to %d",
                     BROKERS_MAX);
        return;
    }
    struct brokers_question *question = calloc(1, sizeof *question);
    if (!question || select_query_scope(&request->caller.scope, &query.scope) != ERR_OK) {
        free(question);
        http_problem_memory(response);
        return;
    }
    question->limit = (size_t)limit;
    const struct select_round_kind *kind = query.scope ? &scope_brokers_round : &brokers_round;
    select_round_begin(request, response, &query,
                       &(struct select_round_plan){.kind = kind,
                                                   .then = api_brokers_answer,
                                                   .context = question,
                                                   .free_context = api_brokers_free});
}
