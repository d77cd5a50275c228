/* Requests to other nodes on behalf of a caller: live statuses, and actions on clients that run
 * elsewhere. The handler threads; the request waits for the answers. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/percent.h"
#include "base/system/json_memory.h"
#include "base/text.h"
#include "http/server/json.h"
#include "http/api/peer_wait.h"
#include "http/server/problem.h"

#define STATUSES_PER_CALL_MAX 500

/* ---- nodes ----------------------------------------------------------------------------------- */

struct peer_list {
    struct store_node *nodes;
    size_t n;
};

static enum err peer_proxy_load_peers(const struct http_api *api, struct peer_list *peer_list) {
    *peer_list = (struct peer_list){0};
    return store_nodes(api->context.store, api->context.conf->heartbeat_ttl_ms, &peer_list->nodes,
                       &peer_list->n, NULL);
}

static const struct store_node *peer_proxy_find_peer(const struct peer_list *peer_list,
                                                     const char *name) {
    for (size_t i = 0; i < peer_list->n; i++) {
        if (strcmp(peer_list->nodes[i].name, name) == 0) {
            return &peer_list->nodes[i];
        }
    }
    return NULL;
}

static bool peer_proxy_is_this_node(const struct http_api *api, const char *name) {
    return strcmp(name, node_name(api->context.node)) == 0;
}

/* ---- statuses -------------------------------------------------------------------------------- */

/* One POST /fleet/statuses: rows of one owner, at most STATUSES_PER_CALL_MAX. */
struct status_call {
    const char *node_name;
    json_t *ids;
    char *body;
};

static json_t *peer_proxy_local_status(const struct http_api *api, const struct store_client *row) {
    struct client_status status;
    if (workers_status(api->context.workers, row->id, &status) != ERR_OK) {
        return client_unknown_json(row, "being started");
    }
    json_t *json = client_status_json(api, &status);
    client_status_fini(&status);
    return json;
}

/* The call for this row; a new one if no call to its owner has room. */
static struct status_call *peer_proxy_call_for_node(struct status_call *calls, size_t *count,
                                                    const char *node) {
    for (size_t i = *count; i > 0; i--) {
        if (strcmp(calls[i - 1].node_name, node) == 0 &&
            json_array_size(calls[i - 1].ids) < STATUSES_PER_CALL_MAX) {
            return &calls[i - 1];
        }
    }
    calls[*count] = (struct status_call){.node_name = node, .ids = json_array()};
    return &calls[(*count)++];
}

/* Adds the answer of a node to `all`, id -> status. */
static void peer_proxy_merge_statuses(json_t *all, const struct peer_call *peer) {
    if (peer->result != ERR_OK || peer->status != 200 || !peer->answer.data) {
        return;
    }
    json_t *answer = json_from_text(peer->answer.data, peer->answer.len, 0);
    json_t *statuses = json_object_get(answer, "statuses");
    if (json_is_object(statuses)) {
        (void)json_object_update(all, statuses);
    }
    json_decref(answer);
}

/* The status that the owner reported, or why there is none. */
static json_t *peer_proxy_remote_status(const json_t *all, const struct store_client *row) {
    json_t *status = json_object_get(all, row->id);
    if (json_is_object(status)) {
        return json_incref(status);
    }
    return json_is_null(status) ? client_unknown_json(row, "being started")
                                : client_unreachable_json(row);
}

/* The rows, their statuses, and how the request continues. */
struct status_query {
    struct peer_proxy_rows rows;
    json_t *statuses_by_id; /* id -> status, of other nodes */
    struct status_call *calls;
    size_t call_count;
    peer_proxy_then *then;
    void *context;
    void (*free_context)(void *context);
};

void peer_proxy_rows_fini(struct peer_proxy_rows *rows) {
    for (size_t i = 0; rows->statuses && i < rows->n; i++) {
        json_decref(rows->statuses[i]);
    }
    store_clients_free(rows->rows, rows->n);
    free(rows->statuses);
    *rows = (struct peer_proxy_rows){0};
}

static void peer_proxy_query_destroy(void *data) {
    struct status_query *status_query = data;
    for (size_t i = 0; i < status_query->call_count; i++) {
        json_decref(status_query->calls[i].ids);
        free(status_query->calls[i].body);
    }
    if (status_query->free_context && status_query->context) {
        status_query->free_context(status_query->context);
    }
    peer_proxy_rows_fini(&status_query->rows);
    free(status_query->calls);
    json_decref(status_query->statuses_by_id);
    free(status_query);
}

/* Takes over rows and context, even if it fails. NULL: out of memory. */
static struct status_query *peer_proxy_query_create(struct store_client *rows, size_t n,
                                                    peer_proxy_then *then, void *context,
                                                    void (*free_context)(void *context)) {
    struct status_query *status_query = calloc(1, sizeof *status_query);
    if (!status_query) {
        store_clients_free(rows, n);
        if (free_context && context) {
            free_context(context);
        }
        return NULL;
    }
    *status_query = (struct status_query){.rows = {.rows = rows, .n = n},
                                          .statuses_by_id = json_object(),
                                          .calls = calloc(n + 1, sizeof *status_query->calls),
                                          .then = then,
                                          .context = context,
                                          .free_context = free_context};
    status_query->rows.statuses = calloc(n + 1, sizeof(json_t *));
    if (!status_query->statuses_by_id || !status_query->calls || !status_query->rows.statuses) {
        status_query->call_count = 0;
        peer_proxy_query_destroy(status_query);
        return NULL;
    }
    return status_query;
}

/* Reads the status here, or adds the row to the call to its owner. */
static void peer_proxy_query_begin(struct status_query *status_query,
                                   const struct http_request *request) {
    const struct http_api *api = request->api;
    for (size_t i = 0; i < status_query->rows.n; i++) {
        const struct store_client *row = &status_query->rows.rows[i];
        if (row->state != STORE_OWNED) {
            continue;
        }
        if (peer_proxy_is_this_node(api, row->owner.node)) {
            status_query->rows.statuses[i] = peer_proxy_local_status(api, row);
        } else if (!request->forwarded) {
            json_t *id = json_string(row->id); /* NULL: not UTF-8, so no such client runs */
            if (id) {
                json_array_append_new(peer_proxy_call_for_node(status_query->calls,
                                                               &status_query->call_count,
                                                               row->owner.node)
                                          ->ids,
                                      id);
            }
        }
    }
}

static void peer_proxy_query_end(struct status_query *status_query, struct http_request *request,
                                 struct http_response *response) {
    for (size_t i = 0; i < status_query->rows.n; i++) {
        const struct store_client *row = &status_query->rows.rows[i];
        if (row->state == STORE_OWNED && !status_query->rows.statuses[i]) {
            status_query->rows.statuses[i] =
                peer_proxy_remote_status(status_query->statuses_by_id, row);
        }
    }
    status_query->then(request, response, &status_query->rows, status_query->context);
}

static void peer_proxy_query_answered(struct http_request *request, struct http_response *response,
                                      struct peer_call *calls, size_t n, void *context) {
    struct status_query *status_query = context;
    for (size_t i = 0; i < n; i++) {
        peer_proxy_merge_statuses(status_query->statuses_by_id, &calls[i]);
    }
    peer_proxy_query_end(status_query, request, response);
}

/* A node that is not in the register, or is dead, is not asked. One whose heartbeat is missing may
 * only be late. */
static size_t peer_proxy_query_calls(struct status_query *status_query,
                                     const struct http_request *request,
                                     const struct peer_list *peer_list, struct peer_call *peers) {
    size_t n = 0;
    for (size_t i = 0; i < status_query->call_count; i++) {
        struct status_call *call = &status_query->calls[i];
        const struct store_node *node = peer_proxy_find_peer(peer_list, call->node_name);
        json_t *body = json_pack("{s:O}", "ids", call->ids);
        call->body = body ? json_to_text(body, JSON_COMPACT) : NULL;
        json_decref(body);
        if (node && node->state != STORE_NODE_DEAD && call->body) {
            peers[n] = peer_wait_call(request, node, "POST", "/fleet/statuses");
            peers[n].body = call->body;
            peers[n++].body_len = strlen(call->body);
        }
    }
    return n;
}

/* True: the request waits, and owns the statuses. */
static bool peer_proxy_query_send(struct status_query *status_query, struct http_request *request,
                                  struct http_response *response) {
    struct peer_list peer_list = {0};
    struct peer_call *peers = NULL;
    size_t n = 0;
    if (status_query->call_count > 0) {
        peers = calloc(status_query->call_count, sizeof *peers);
    }
    if (peers && peer_proxy_load_peers(request->api, &peer_list) == ERR_OK) {
        n = peer_proxy_query_calls(status_query, request, &peer_list, peers);
    }
    if (n > 0) {
        peer_wait_begin(
            request, response, peers, n,
            &(struct peer_wait_plan){.timeout_ms = peer_wait_short_ms(request->api->context.conf),
                                     .then = peer_proxy_query_answered,
                                     .context = status_query,
                                     .free_context = peer_proxy_query_destroy});
    }
    store_nodes_free(peer_list.nodes, peer_list.n);
    free(peers);
    return n > 0;
}

void peer_proxy_statuses(struct http_request *request, struct http_response *response,
                         struct store_client *rows, size_t n, peer_proxy_then *then, void *context,
                         void (*free_context)(void *context)) {
    struct status_query *status_query =
        peer_proxy_query_create(rows, n, then, context, free_context);
    if (!status_query) {
        http_problem_memory(response);
        return;
    }
    peer_proxy_query_begin(status_query, request);
    if (!peer_proxy_query_send(status_query, request, response)) {
        peer_proxy_query_end(status_query, request, response);
        peer_proxy_query_destroy(status_query);
    }
}

void peer_proxy_status(struct http_request *request, struct http_response *response,
                       struct store_client *row, peer_proxy_then *then) {
    struct store_client *rows = malloc(sizeof *rows);
    if (!rows) {
        http_problem_memory(response);
        return;
    }
    *rows = *row;
    *row = (struct store_client){0};
    peer_proxy_statuses(request, response, rows, 1, then, NULL, NULL);
}

/* ---- actions --------------------------------------------------------------------------------- */

static void peer_proxy_pass_answer(struct peer_call *peer, const char *node,
                                   struct http_response *response) {
    if (peer->result == ERR_FULL) {
        http_problem(response, PROBLEM_OVERLOAD, "too many requests are waiting for other nodes");
    } else if (peer->result != ERR_OK && peer->unsent) {
        http_problem(response, PROBLEM_PEER,
                     "node %s, which runs the client, cannot be reached at its node_info.host and "
                     "port; nothing was done",
                     node);
    } else if (peer->result == ERR_TIMEOUT) {
        http_problem(
            response, PROBLEM_TIMEOUT,
            "node %s, which runs the client, did not answer in time; the outcome is unknown", node);
    } else if (peer->result != ERR_OK) {
        http_problem(response, PROBLEM_PEER,
                     "node %s, which runs the client, does not answer; the outcome is unknown",
                     node);
    } else if (peer->status == 421) {
        http_problem(
            response, PROBLEM_PEER,
            "node %s, which runs the client, has just restarted, or another node answers at "
            "its address; nothing was done",
            node);
    } else {
        size_t len = peer->answer.len;
        http_answer_bytes(response, (int)peer->status,
                          peer->status >= 400 ? HTTP_PROBLEM_TYPE : "application/json",
                          buffer_take(&peer->answer), len);
        if (peer->status == 503 || peer->status == 429) { /* the text of 429 says more */
            http_answer_header(response, "Retry-After", peer->status == 503 ? "1" : "10");
        }
    }
}

/* context: the node's name. */
static void peer_proxy_forward_answered(struct http_request *request,
                                        struct http_response *response, struct peer_call *calls,
                                        size_t n, void *context) {
    (void)request;
    (void)n;
    peer_proxy_pass_answer(&calls[0], context ? context : "?", response);
}

void peer_proxy_forward(struct http_request *request, const char *node, const char *method,
                        const char *id, const char *action, const char *body, size_t body_len,
                        int64_t timeout_ms, struct http_response *response) {
    const struct http_api *api = request->api;
    struct peer_list peer_list;
    enum err err = peer_proxy_load_peers(api, &peer_list);
    if (err != ERR_OK) {
        http_problem_store(response, err);
        return;
    }
    const struct store_node *owner = peer_proxy_find_peer(&peer_list, node);
    char *escaped = percent_encode(id);
    char *path = NULL;
    if (!owner || !escaped || asprintf(&path, "/api/v1/clients/%s/%s", escaped, action) < 0) {
        http_problem(response, PROBLEM_PEER, "node %s, which ran the client, is gone", node);
        goto out;
    }
    char scope[SCOPE_TEXT_LEN];
    scope_format(&request->caller.scope, scope);
    struct peer_call peer = peer_wait_call(request, owner, method, path);
    peer.body = body;
    peer.body_len = body_len;
    peer.caller = request->caller.name;
    peer.scope = scope;
    peer.limit_exempt = request->publish_share != NULL;
    peer_wait_begin(request, response, &peer, 1,
                    &(struct peer_wait_plan){.timeout_ms = timeout_ms,
                                             .then = peer_proxy_forward_answered,
                                             .context = text_dup(node),
                                             .free_context = free});
    free(path);
out:
    free(escaped);
    store_nodes_free(peer_list.nodes, peer_list.n);
}

bool peer_proxy_find_owner(const struct http_request *request, const char *id,
                           struct store_client *row, struct http_response *response) {
    *row = (struct store_client){0};
    enum err err = store_get(request->api->context.store, id, row);
    if (err == ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", id);
    } else if (err != ERR_OK) {
        http_problem_store(response, err);
    } else if (row->state != STORE_OWNED) {
        json_t *waiting = client_waiting_json(row);
        const char *state = json_string_value(json_object_get(waiting, "state"));
        http_problem(response, PROBLEM_STATE, "client %s is %s: it runs on no node now", id,
                     state ? state : "waiting");
        http_problem_member(response, "state", json_string(state ? state : "waiting"));
        json_decref(waiting);
    } else if (peer_proxy_is_this_node(request->api, row->owner.node) || request->forwarded) {
        http_problem(response, PROBLEM_STATE,
                     "client %s is connecting: it is being moved or started", id);
        http_problem_member(response, "state", json_string("connecting"));
    } else {
        return true;
    }
    return false;
}
