/* Owns one question and its answers; docs/protocol.md has the documents. */
#include "http/api/selection/select_round.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "http/api/api.h"
#include "http/api/peer_wait.h"
#include "http/api/selection/waiting_scan.h"
#include "http/server/json.h"
#include "http/server/problem.h"

#define SELECT_PATH "/fleet/select"

/* The round with what it needs until the last answer. */
struct select_calls {
    struct select_round *round;
    struct store_node *nodes; /* all registered nodes */
    size_t node_count;
    size_t *asked; /* of each call: the index of its node */
    char *body;
};

/* NULL: out of memory. */
static struct select_round *select_round_create(struct selection_query *query,
                                                const struct select_round_plan *plan) {
    struct select_round *round = calloc(1, sizeof *round);
    if (!round) {
        selection_query_fini(query);
        plan->free_context(plan->context);
        return NULL;
    }
    round->kind = plan->kind;
    round->then = plan->then;
    round->context = plan->context;
    round->free_context = plan->free_context;
    round->query = *query;
    *query = (struct selection_query){0};
    round->incomplete = json_array();
    selection_init(&round->selection, &round->query);
    return round;
}

static void select_round_destroy(struct select_round *round) {
    if (!round) {
        return;
    }
    if (round->context) {
        round->free_context(round->context);
    }
    selection_fini(&round->selection);
    selection_query_fini(&round->query);
    json_decref(round->incomplete);
    free(round);
}

static void select_calls_destroy(void *data) {
    struct select_calls *calls = data;
    select_round_destroy(calls->round);
    store_nodes_free(calls->nodes, calls->node_count);
    free(calls->asked);
    free(calls->body);
    free(calls);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* Whether the selector excludes the node by its name. */
static bool select_round_excludes(const struct select_round *round, const char *node) {
    size_t count;
    char *const *names =
        client_selector_values(round->query.selector, CLIENT_SELECTOR_NODE, &count);
    for (size_t i = 0; names && i < count; i++) {
        if (strcmp(names[i], node) == 0) {
            return false;
        }
    }
    return names != NULL;
}

static void select_round_add_incomplete(struct select_round *round, const struct store_node *node,
                                        const char *reason) {
    round->starting -= node->clients;
    if (!select_round_excludes(round, node->name)) {
        json_array_append_new(
            round->incomplete,
            json_pack("{s:o, s:o, s:s}", "node", http_json_string(node->name), "clients",
                      round->query.scope ? json_null() : json_integer(node->clients), "reason",
                      reason));
    }
}

json_t *select_round_starting_json(const struct select_round *round) {
    return round->query.scope ? json_null() : json_integer(round->starting);
}

static bool select_round_is_this_node(const struct http_request *request,
                                      const struct store_node *node) {
    return strcmp(node->name, node_name(request->api->context.node)) == 0;
}

/* NULL: it is asked. */
static const char *select_round_why_not_asked(const struct store_node *node) {
    return node->state == STORE_NODE_DEAD ? "the node is dead; its clients move to other nodes"
           : node->incarnation[0] == '\0' ? "the node is another program"
                                          : NULL;
}

/* False: answered. A name may be mistyped, and nothing selected is no answer to that. */
static bool select_round_knows_nodes(const struct select_calls *calls,
                                     struct http_response *response) {
    size_t count;
    char *const *names =
        client_selector_values(calls->round->query.selector, CLIENT_SELECTOR_NODE, &count);
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < calls->node_count && strcmp(calls->nodes[at].name, names[i]) != 0) {
            at++;
        }
        if (at == calls->node_count) {
            http_problem(response, PROBLEM_NOT_FOUND,
                         "node: there is no node %.128s; /api/v1/nodes lists the nodes", names[i]);
            return false;
        }
    }
    return true;
}

/* ---- answers --------------------------------------------------------------------------------- */

static const char *select_round_take_answer(struct select_round *round,
                                            const struct peer_call *call) {
    if (call->result != ERR_OK) {
        return call->unsent ? "the node cannot be reached" : "the node did not answer in time";
    }
    if (call->status == 404 || call->status == 405) {
        round->has_old_nodes = true;
        return "the version of the node is too old";
    }
    if (call->status == 421) {
        return "the node has just restarted";
    }
    json_t *answer = call->status == 200 && call->answer.data
                         ? json_from_text(call->answer.data, call->answer.len, 0)
                         : NULL;
    enum err err = !answer       ? ERR_ARGUMENT
                   : round->kind ? round->kind->merge(round, answer)
                                 : selection_merge_json(&round->selection, answer);
    json_decref(answer);
    return err == ERR_OK ? NULL : "the node refused the request";
}

/* The clients of this node and the waiting ones. */
static enum err select_round_add_clients(struct select_round *round,
                                         const struct http_request *request) {
    const struct http_context *context = &request->api->context;
    struct store_counts counts;
    workers_visit(context->workers, node_name(context->node), selection_add, &round->selection);
    enum err err = store_counts(context->store, &counts);
    round->starting += counts.owned - round->selection.seen;
    if (round->starting < 0) { /* clients are on the move */
        round->starting = 0;
    }
    if (err == ERR_OK && counts.waiting > 0 && waiting_scan_is_needed(&round->query)) {
        err = waiting_scan_run(request, &round->selection);
    }
    return err == ERR_OK && round->selection.out_of_memory ? ERR_MEMORY : err;
}

/* False: answered. */
static bool select_round_add_own(struct select_round *round, const struct http_request *request,
                                 struct http_response *response) {
    enum err err = round->kind ? round->kind->add_own(round, request)
                               : select_round_add_clients(round, request);
    if (err != ERR_OK) {
        http_problem_store(response, err);
    }
    return err == ERR_OK;
}

static void select_round_end(struct select_calls *calls, struct http_request *request,
                             struct http_response *response) {
    struct select_round *round = calls->round;
    if (select_round_add_own(round, request, response)) {
        selection_finish(&round->selection);
        round->then(request, response, round);
    }
}

static void select_round_answered(struct http_request *request, struct http_response *response,
                                  struct peer_call *peers, size_t n, void *context) {
    struct select_calls *calls = context;
    for (size_t i = 0; i < n; i++) {
        const char *reason = select_round_take_answer(calls->round, &peers[i]);
        if (reason) {
            select_round_add_incomplete(calls->round, &calls->nodes[calls->asked[i]], reason);
        }
    }
    select_round_end(calls, request, response);
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* A node whose heartbeat is missing may only be late. */
static size_t select_round_prepare_calls(struct select_calls *calls,
                                         const struct http_request *request,
                                         struct peer_call *peers) {
    const char *path = calls->round->kind ? calls->round->kind->path : SELECT_PATH;
    size_t n = 0;
    for (size_t i = 0; i < calls->node_count; i++) {
        const struct store_node *node = &calls->nodes[i];
        const char *reason = select_round_why_not_asked(node);
        if (select_round_is_this_node(request, node)) {
            continue;
        }
        if (!reason) {
            calls->asked[n] = i;
            peers[n] = peer_wait_call(request, node, "POST", path);
            peers[n].body = calls->body;
            peers[n++].body_len = strlen(calls->body);
        } else if (node->clients > 0) {
            select_round_add_incomplete(calls->round, node, reason);
        }
    }
    return n;
}

/* Takes over `calls`. */
static void select_round_send(struct select_calls *calls, struct http_request *request,
                              struct http_response *response, struct peer_call *peers) {
    size_t n = select_round_prepare_calls(calls, request, peers);
    if (n == 0) {
        select_round_end(calls, request, response);
        select_calls_destroy(calls);
        return;
    }
    peer_wait_begin(
        request, response, peers, n,
        &(struct peer_wait_plan){.timeout_ms = peer_wait_short_ms(request->api->context.conf),
                                 .then = select_round_answered,
                                 .context = calls,
                                 .free_context = select_calls_destroy});
}

/* The body of the calls. NULL: out of memory. */
static char *select_round_body(const struct select_round *round) {
    json_t *query = selection_query_to_json(&round->query);
    char *body = query ? json_to_text(query, JSON_COMPACT) : NULL;
    json_decref(query);
    return body;
}

void select_round_begin(struct http_request *request, struct http_response *response,
                        struct selection_query *query, const struct select_round_plan *plan) {
    const struct http_context *context = &request->api->context;
    struct select_round *round = select_round_create(query, plan);
    struct select_calls *calls = round ? calloc(1, sizeof *calls) : NULL;
    if (!calls) {
        select_round_destroy(round);
        http_problem_memory(response);
        return;
    }
    calls->round = round;
    enum err err = store_nodes(context->store, context->conf->heartbeat_ttl_ms, &calls->nodes,
                               &calls->node_count, NULL);
    calls->body = select_round_body(round);
    calls->asked = calloc(calls->node_count + 1, sizeof *calls->asked);
    struct peer_call *peers = calloc(calls->node_count + 1, sizeof *peers);
    if (err != ERR_OK) {
        http_problem_store(response, err);
        select_calls_destroy(calls);
    } else if (!calls->body || !calls->asked || !peers) {
        http_problem_memory(response);
        select_calls_destroy(calls);
    } else if (!select_round_knows_nodes(calls, response)) {
        select_calls_destroy(calls);
    } else {
        select_round_send(calls, request, response, peers);
    }
    free(peers);
}
