/* Owns what this node asks of others on behalf of a caller: live statuses, and actions on a client
 * that runs elsewhere. Workers; while others are asked the request waits. */
#include "http/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/json_memory.h"
#include "base/text.h"
#include "http/json.h"
#include "http/peer_wait.h"
#include "http/problem.h"

#define STATUSES_PER_CALL 500
#define STATUSES_MS_MAX   2000 /* a list is not held up longer by a node that hangs */

/* ---- nodes ----------------------------------------------------------------------------------- */

struct roster {
    struct store_node *nodes;
    size_t n;
};

static enum err roster_load(const struct http_api *api, struct roster *roster) {
    *roster = (struct roster){0};
    return store_nodes(api->context.store, api->context.conf->heartbeat_ttl_ms, &roster->nodes,
                       &roster->n, NULL);
}

static const struct store_node *roster_find(const struct roster *roster, const char *name) {
    for (size_t i = 0; i < roster->n; i++) {
        if (strcmp(roster->nodes[i].name, name) == 0) {
            return &roster->nodes[i];
        }
    }
    return NULL;
}

static bool is_this_node(const struct http_api *api, const char *name) {
    return strcmp(name, node_name(api->context.node)) == 0;
}

/* ---- statuses -------------------------------------------------------------------------------- */

/* One POST /fleet/statuses: rows of one owner, at most STATUSES_PER_CALL. */
struct status_call {
    const char *node;
    json_t *ids;
    char *body;
};

static json_t *local_status(const struct http_api *api, const struct store_client *row) {
    struct client_status status;
    if (hosts_status(api->context.hosts, row->id, &status) != ERR_OK) {
        return client_unknown_json(row, "being started");
    }
    json_t *json = client_status_json(&status);
    client_status_fini(&status);
    return json;
}

/* The call that this row goes with; a new one when there is none with room. */
static struct status_call *call_of(struct status_call *calls, size_t *count, const char *node) {
    for (size_t i = *count; i > 0; i--) {
        if (strcmp(calls[i - 1].node, node) == 0 &&
            json_array_size(calls[i - 1].ids) < STATUSES_PER_CALL) {
            return &calls[i - 1];
        }
    }
    calls[*count] = (struct status_call){.node = node, .ids = json_array()};
    return &calls[(*count)++];
}

/* Adds what a node answered to `all`, id -> status. */
static void statuses_merge(json_t *all, const struct peer_call *peer) {
    if (peer->result != ERR_OK || peer->status != 200 || peer->answer.data == NULL) {
        return;
    }
    json_t *answer = json_of_text(peer->answer.data, peer->answer.len, 0);
    json_t *statuses = json_object_get(answer, "statuses");
    if (json_is_object(statuses)) {
        (void)json_object_update(all, statuses);
    }
    json_decref(answer);
}

static int64_t statuses_timeout_ms(const struct conf *conf) {
    return conf->peer_timeout_ms < STATUSES_MS_MAX ? conf->peer_timeout_ms : STATUSES_MS_MAX;
}

/* What an owner said of the row, or why it said nothing. */
static json_t *remote_status(const json_t *all, const struct store_client *row) {
    json_t *status = json_object_get(all, row->id);
    if (json_is_object(status)) {
        return json_incref(status);
    }
    return json_is_null(status) ? client_unknown_json(row, "being started")
                                : client_unreachable_json(row);
}

/* What is known of the rows, and who goes on with them. */
struct question {
    struct fleet_rows rows;
    json_t *all; /* id -> status, of other nodes */
    struct status_call *calls;
    size_t call_count;
    fleet_then *then;
    void *context;
    void (*free_context)(void *context);
};

void fleet_rows_fini(struct fleet_rows *rows) {
    for (size_t i = 0; rows->statuses && i < rows->n; i++) {
        json_decref(rows->statuses[i]);
    }
    store_rows_free(rows->rows, rows->n);
    free(rows->statuses);
    *rows = (struct fleet_rows){0};
}

static void question_destroy(void *data) {
    struct question *question = data;
    for (size_t i = 0; i < question->call_count; i++) {
        json_decref(question->calls[i].ids);
        free(question->calls[i].body);
    }
    if (question->free_context && question->context) {
        question->free_context(question->context);
    }
    fleet_rows_fini(&question->rows);
    free(question->calls);
    json_decref(question->all);
    free(question);
}

/* Takes over rows and context, in any case. NULL: out of memory. */
static struct question *question_create(struct store_client *rows, size_t n, fleet_then *then,
                                        void *context, void (*free_context)(void *context)) {
    struct question *question = calloc(1, sizeof *question);
    if (!question) {
        store_rows_free(rows, n);
        if (free_context && context) {
            free_context(context);
        }
        return NULL;
    }
    *question = (struct question){.rows = {.rows = rows, .n = n},
                                  .all = json_object(),
                                  .calls = calloc(n + 1, sizeof *question->calls),
                                  .then = then,
                                  .context = context,
                                  .free_context = free_context};
    question->rows.statuses = calloc(n + 1, sizeof(json_t *));
    if (!question->all || !question->calls || !question->rows.statuses) {
        question->call_count = 0;
        question_destroy(question);
        return NULL;
    }
    return question;
}

/* From this node, or noted for the call to its owner. */
static void question_begin(struct question *question, const struct http_request *request) {
    const struct http_api *api = request->api;
    for (size_t i = 0; i < question->rows.n; i++) {
        const struct store_client *row = &question->rows.rows[i];
        if (row->where != STORE_OWNED) {
            continue;
        }
        if (is_this_node(api, row->owner.node)) {
            question->rows.statuses[i] = local_status(api, row);
        } else if (!request->forwarded) {
            json_t *id = json_string(row->id); /* NULL: no UTF-8, so no client runs under it */
            if (id) {
                json_array_append_new(
                    call_of(question->calls, &question->call_count, row->owner.node)->ids, id);
            }
        }
    }
}

static void question_end(struct question *question, struct http_request *request,
                         struct http_response *response) {
    for (size_t i = 0; i < question->rows.n; i++) {
        const struct store_client *row = &question->rows.rows[i];
        if (row->where == STORE_OWNED && !question->rows.statuses[i]) {
            question->rows.statuses[i] = remote_status(question->all, row);
        }
    }
    question->then(request, response, &question->rows, question->context);
}

static void question_answered(struct http_request *request, struct http_response *response,
                              struct peer_call *calls, size_t n, void *context) {
    struct question *question = context;
    for (size_t i = 0; i < n; i++) {
        statuses_merge(question->all, &calls[i]);
    }
    question_end(question, request, response);
}

/* A node that is not in the register, or does not beat, is not asked. */
static size_t question_calls(struct question *question, const struct http_request *request,
                             const struct roster *roster, struct peer_call *peers) {
    size_t n = 0;
    for (size_t i = 0; i < question->call_count; i++) {
        struct status_call *call = &question->calls[i];
        const struct store_node *node = roster_find(roster, call->node);
        json_t *body = json_pack("{s:O}", "ids", call->ids);
        call->body = body ? json_text(body, JSON_COMPACT) : NULL;
        json_decref(body);
        if (node && node->beating && call->body) {
            peers[n++] = (struct peer_call){.host = node->host,
                                            .port = node->port,
                                            .incarnation = node->incarnation,
                                            .method = "POST",
                                            .path = "/fleet/statuses",
                                            .body = call->body,
                                            .body_len = strlen(call->body),
                                            .request_id = request->id};
        }
    }
    return n;
}

/* True: the request waits, and the question is its own. */
static bool question_ask(struct question *question, struct http_request *request,
                         struct http_response *response) {
    struct roster roster = {0};
    struct peer_call *peers = NULL;
    size_t n = 0;
    if (question->call_count > 0) {
        peers = calloc(question->call_count, sizeof *peers);
    }
    if (peers && roster_load(request->api, &roster) == ERR_OK) {
        n = question_calls(question, request, &roster, peers);
    }
    if (n > 0) {
        peer_wait(
            request, response, peers, n,
            &(struct peer_wait_plan){.timeout_ms = statuses_timeout_ms(request->api->context.conf),
                                     .then = question_answered,
                                     .context = question,
                                     .free_context = question_destroy});
    }
    store_nodes_free(roster.nodes, roster.n);
    free(peers);
    return n > 0;
}

void fleet_statuses(struct http_request *request, struct http_response *response,
                    struct store_client *rows, size_t n, fleet_then *then, void *context,
                    void (*free_context)(void *context)) {
    struct question *question = question_create(rows, n, then, context, free_context);
    if (!question) {
        http_problem_memory(response);
        return;
    }
    question_begin(question, request);
    if (!question_ask(question, request, response)) {
        question_end(question, request, response);
        question_destroy(question);
    }
}

void fleet_status(struct http_request *request, struct http_response *response,
                  struct store_client *row, fleet_then *then) {
    struct store_client *rows = malloc(sizeof *rows);
    if (!rows) {
        http_problem_memory(response);
        return;
    }
    *rows = *row;
    *row = (struct store_client){0};
    fleet_statuses(request, response, rows, 1, then, NULL, NULL);
}

/* ---- actions --------------------------------------------------------------------------------- */

static void pass_through(struct peer_call *peer, const char *node, struct http_response *response) {
    if (peer->result == ERR_FULL) {
        http_problem(response, PROBLEM_OVERLOAD, "too many requests wait for other nodes");
    } else if (peer->result != ERR_OK && peer->unsent) {
        http_problem(response, PROBLEM_PEER,
                     "node %s, which runs the client, cannot be reached at its node_info.host and "
                     "port; nothing was done",
                     node);
    } else if (peer->result == ERR_TIMEOUT) {
        http_problem(response, PROBLEM_TIMEOUT,
                     "node %s, which runs the client, did not answer in time; the outcome is not "
                     "known",
                     node);
    } else if (peer->result != ERR_OK) {
        http_problem(response, PROBLEM_PEER,
                     "node %s, which runs the client, does not answer; the outcome is not known",
                     node);
    } else if (peer->status == 421) {
        http_problem(
            response, PROBLEM_PEER,
            "at the address of node %s, which runs the client, another node answers, or it "
            "has just restarted; nothing was done",
            node);
    } else {
        size_t len = peer->answer.len;
        http_answer_bytes(response, (int)peer->status,
                          peer->status >= 400 ? HTTP_PROBLEM_TYPE : "application/json",
                          buffer_take(&peer->answer), len);
        if (peer->status == 503 || peer->status == 429) { /* of 429 the text tells more */
            http_answer_header(response, "Retry-After", peer->status == 503 ? "1" : "10");
        }
    }
}

/* context: the node's name. */
static void forward_answered(struct http_request *request, struct http_response *response,
                             struct peer_call *calls, size_t n, void *context) {
    (void)request;
    (void)n;
    pass_through(&calls[0], context ? context : "?", response);
}

void fleet_forward(struct http_request *request, const char *node, const char *method,
                   const char *id, const char *action, const char *body, size_t body_len,
                   int64_t timeout_ms, struct http_response *response) {
    const struct http_api *api = request->api;
    struct roster roster;
    enum err result = roster_load(api, &roster);
    if (result != ERR_OK) {
        http_problem_store(response, result);
        return;
    }
    const struct store_node *owner = roster_find(&roster, node);
    char *escaped = http_percent_encode(id);
    char *path = NULL;
    if (owner == NULL || escaped == NULL ||
        asprintf(&path, "/api/v1/clients/%s/%s", escaped, action) < 0) {
        http_problem(response, PROBLEM_PEER, "node %s, which ran the client, is gone", node);
        goto out;
    }
    struct peer_call peer = {.host = owner->host,
                             .port = owner->port,
                             .incarnation = owner->incarnation,
                             .method = method,
                             .path = path,
                             .body = body,
                             .body_len = body_len,
                             .caller = request->caller.name,
                             .request_id = request->id,
                             .patient = request->share != NULL};
    peer_wait(request, response, &peer, 1,
              &(struct peer_wait_plan){.timeout_ms = timeout_ms,
                                       .then = forward_answered,
                                       .context = text_dup(node),
                                       .free_context = free});
    free(path);
out:
    free(escaped);
    store_nodes_free(roster.nodes, roster.n);
}

bool fleet_owner_elsewhere(const struct http_request *request, const char *id,
                           struct store_client *row, struct http_response *response) {
    *row = (struct store_client){0};
    enum err result = store_get(request->api->context.store, id, row);
    if (result == ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", id);
    } else if (result != ERR_OK) {
        http_problem_store(response, result);
    } else if (row->where != STORE_OWNED) {
        json_t *waiting = client_waiting_json(row);
        const char *state = json_string_value(json_object_get(waiting, "state"));
        http_problem(response, PROBLEM_STATE, "client %s is %s: it runs on no node now", id,
                     state != NULL ? state : "waiting");
        http_problem_member(response, "state", json_string(state != NULL ? state : "waiting"));
        json_decref(waiting);
    } else if (is_this_node(request->api, row->owner.node) || request->forwarded) {
        http_problem(response, PROBLEM_STATE,
                     "client %s is connecting: it is being moved or started", id);
        http_problem_member(response, "state", json_string("connecting"));
    } else {
        return true;
    }
    return false;
}
