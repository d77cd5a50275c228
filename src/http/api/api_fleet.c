/* /fleet/...: requests from other nodes. Never calls another node. Handler threads. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "http/server/json.h"
#include "http/server/problem.h"

#define CLAIM_MAX    1000
#define STATUSES_MAX 10000

/* The array under that name, of at most `most` items. NULL: answered. */
static json_t *api_fleet_body_array(const json_t *body, const char *name, size_t most,
                                    struct http_response *response) {
    json_t *list = json_object_get(body, name);
    if (!json_is_array(list)) {
        http_problem(response, PROBLEM_INVALID, "/%s: must be an array", name);
        return NULL;
    }
    if (json_array_size(list) > most) {
        http_problem(response, PROBLEM_TOO_LARGE, "/%s: at most %zu", name, most);
        return NULL;
    }
    return list;
}

static void api_fleet_assign_claimed(const struct http_api *api, const json_t *clients,
                                     struct http_response *response) {
    size_t n = json_array_size(clients);
    struct store_assign_item *items = calloc(n + 1, sizeof *items);
    if (!items) {
        http_problem_memory(response);
        return;
    }
    size_t taken = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *client = json_array_get(clients, i);
        const char *id = json_string_value(json_object_get(client, "id"));
        const char *identity = json_string_value(json_object_get(client, "identity"));
        if (id) {
            items[taken++] =
                (struct store_assign_item){.id = id, .identity = identity ? identity : ""};
        }
    }
    struct agent_claim_result answer = {0};
    enum err err = agent_claim(api->context.agent, items, taken, &answer);
    if (err != ERR_OK) {
        http_problem_store(response, err);
    } else {
        http_answer_json(response, 200,
                         json_pack("{s:I, s:b, s:b, s:b, s:b}", "claimed",
                                   (json_int_t)answer.claimed_count, "full",
                                   answer.refusal == AGENT_CLAIM_FULL, "draining",
                                   answer.refusal == AGENT_CLAIM_DRAINING, "fenced",
                                   answer.refusal == AGENT_CLAIM_FENCED, "troubled", 0));
    }
    free(items);
}

void api_fleet_claim(struct http_request *request, struct http_response *response) {
    json_t *body;
    if (!http_body_object(request, response, &body)) {
        return;
    }
    json_t *clients = api_fleet_body_array(body, "clients", CLAIM_MAX, response);
    if (clients) {
        api_fleet_assign_claimed(request->api, clients, response);
    }
    json_decref(body);
}

/* null: the client does not run here. */
static json_t *api_fleet_status_json(const struct http_api *api, const char *id) {
    struct client_status status;
    if (workers_status(api->context.workers, id, &status) != ERR_OK) {
        return json_null();
    }
    json_t *json = client_status_json(api, &status);
    client_status_fini(&status);
    return json;
}

void api_fleet_statuses(struct http_request *request, struct http_response *response) {
    json_t *body;
    if (!http_body_object(request, response, &body)) {
        return;
    }
    json_t *ids = api_fleet_body_array(body, "ids", STATUSES_MAX, response);
    if (ids) {
        json_t *statuses = json_object();
        size_t index;
        json_t *id;
        json_array_foreach(ids, index, id) {
            if (json_is_string(id)) {
                json_object_set_new(statuses, json_string_value(id),
                                    api_fleet_status_json(request->api, json_string_value(id)));
            }
        }
        http_answer_json(response, 200, json_pack("{s:o}", "statuses", statuses));
    }
    json_decref(body);
}
