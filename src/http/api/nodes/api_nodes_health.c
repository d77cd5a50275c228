/* GET /api/v1/nodes:health: what every node says of itself at /readyz, and who does not answer. The
 * handler threads; the request waits for the other nodes. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "http/api/peer_wait.h"
#include "http/server/json.h"
#include "http/server/problem.h"

struct nodes_health {
    struct store_node *nodes;
    size_t n;
    size_t *asked;    /* of each call: the index of its node */
    json_t **answers; /* of each node; NULL: none */
};

static void nodes_health_destroy(void *data) {
    struct nodes_health *health = data;
    for (size_t i = 0; health->answers && i < health->n; i++) {
        json_decref(health->answers[i]);
    }
    store_nodes_free(health->nodes, health->n);
    free(health->asked);
    free(health->answers);
    free(health);
}

/* Adds "name: text" for each member that is not "ok". */
static json_t *nodes_health_texts(const json_t *members) {
    json_t *texts = json_array();
    const char *name;
    json_t *said;
    json_object_foreach((json_t *)members, name, said) {
        const char *text = json_string_value(said);
        if (text && strcmp(text, "ok") != 0) {
            json_array_append_new(texts, json_sprintf("%s: %s", name, text));
        }
    }
    return texts;
}

/* answer NULL: none. */
static json_t *nodes_health_to_json(const struct store_node *node, const json_t *answer) {
    json_t *problems, *warnings = nodes_health_texts(json_object_get(answer, "warnings"));
    if (!answer) {
        problems = json_pack("[s]", node->incarnation[0] == '\0'
                                        ? "it is not a node of mqfleet"
                                        : "it does not answer at its node_info.host and port");
    } else {
        problems = nodes_health_texts(json_object_get(answer, "checks"));
    }
    bool ready = answer && json_array_size(problems) == 0;
    return json_pack("{s:o, s:o, s:o, s:o}", "name", http_json_string(node->name), "ready",
                     answer ? json_boolean(ready) : json_null(), "problems", problems, "warnings",
                     warnings);
}

static void nodes_health_answer(const struct nodes_health *health, struct http_response *response) {
    json_t *list = json_array();
    for (size_t i = 0; i < health->n; i++) {
        json_array_append_new(list, nodes_health_to_json(&health->nodes[i], health->answers[i]));
    }
    http_answer_json(response, 200, json_pack("{s:o}", "nodes", list));
}

/* /readyz answers 503 if a check fails. */
static void nodes_health_answered(struct http_request *request, struct http_response *response,
                                  struct peer_call *calls, size_t n, void *context) {
    struct nodes_health *health = context;
    (void)request;
    for (size_t i = 0; i < n; i++) {
        const struct peer_call *call = &calls[i];
        if (call->result == ERR_OK && (call->status == 200 || call->status == 503) &&
            call->answer.data) {
            json_t *answer = json_from_text(call->answer.data, call->answer.len, 0);
            if (json_is_object(json_object_get(answer, "checks"))) {
                health->answers[health->asked[i]] = json_incref(answer);
            }
            json_decref(answer);
        }
    }
    nodes_health_answer(health, response);
}

static size_t nodes_health_prepare_calls(struct nodes_health *health,
                                         const struct http_request *request,
                                         struct peer_call *calls) {
    const struct http_api *api = request->api;
    size_t n = 0;
    for (size_t i = 0; i < health->n; i++) {
        const struct store_node *node = &health->nodes[i];
        if (strcmp(node->name, node_name(api->context.node)) == 0) {
            health->answers[i] = api_readiness_json(api);
        } else if (node->incarnation[0] != '\0' && node->state != STORE_NODE_DEAD) {
            health->asked[n] = i;
            calls[n++] = peer_wait_call(request, node, "GET", "/readyz");
        }
    }
    return n;
}

/* Takes over `health`. */
static void nodes_health_ask(struct nodes_health *health, struct http_request *request,
                             struct http_response *response) {
    health->asked = calloc(health->n + 1, sizeof *health->asked);
    health->answers = calloc(health->n + 1, sizeof(json_t *));
    struct peer_call *calls = calloc(health->n + 1, sizeof *calls);
    if (!health->asked || !health->answers || !calls) {
        http_problem_memory(response);
        nodes_health_destroy(health);
        free(calls);
        return;
    }
    size_t n = nodes_health_prepare_calls(health, request, calls);
    if (n > 0) {
        peer_wait_begin(
            request, response, calls, n,
            &(struct peer_wait_plan){.timeout_ms = peer_wait_short_ms(request->api->context.conf),
                                     .then = nodes_health_answered,
                                     .context = health,
                                     .free_context = nodes_health_destroy});
    } else {
        nodes_health_answer(health, response);
        nodes_health_destroy(health);
    }
    free(calls);
}

void api_nodes_health(struct http_request *request, struct http_response *response) {
    const struct http_context *context = &request->api->context;
    struct nodes_health *health = calloc(1, sizeof *health);
    if (!health) {
        http_problem_memory(response);
        return;
    }
    enum err err = store_nodes(context->store, context->conf->heartbeat_ttl_ms, &health->nodes,
                               &health->n, NULL);
    if (err != ERR_OK) {
        http_problem_store(response, err);
        nodes_health_destroy(health);
        return;
    }
    nodes_health_ask(health, request, response);
}
