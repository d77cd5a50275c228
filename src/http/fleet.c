/* Owns what this node asks of others on behalf of a caller: live statuses, and actions on a client
 * that runs elsewhere. Runs on the handlers' threads for callers, never on those for nodes. */
#include "http/api.h"

#include <stdlib.h>
#include <string.h>
#include "http/json.h"
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
    json_t *answer = json_loadb(peer->answer.data, peer->answer.len, 0, NULL);
    json_t *statuses = json_object_get(answer, "statuses");
    if (json_is_object(statuses)) {
        (void)json_object_update(all, statuses);
    }
    json_decref(answer);
}

static int64_t statuses_timeout_ms(const struct conf *conf) {
    return conf->peer_timeout_ms < STATUSES_MS_MAX ? conf->peer_timeout_ms : STATUSES_MS_MAX;
}

/* Runs the calls at once. A node that is not in the register, or does not beat, is not asked. */
static void statuses_ask(const struct http_request *request, struct status_call *calls,
                         size_t count, json_t *all) {
    const struct http_api *api = request->api;
    struct roster roster;
    struct peer_call *peers = calloc(count, sizeof(*peers));
    if (peers == NULL || roster_load(api, &roster) != ERR_OK) {
        free(peers);
        return;
    }
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct store_node *node = roster_find(&roster, calls[i].node);
        json_t *body = json_pack("{s:O}", "ids", calls[i].ids);
        calls[i].body = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
        json_decref(body);
        if (node != NULL && node->beating && calls[i].body != NULL) {
            peers[n++] = (struct peer_call){.host = node->host,
                                            .port = node->port,
                                            .method = "POST",
                                            .path = "/fleet/statuses",
                                            .body = calls[i].body,
                                            .body_len = strlen(calls[i].body),
                                            .request_id = request->id};
        }
    }
    if (n > 0) {
        peers_run(api->context.peers, peers, n, statuses_timeout_ms(api->context.conf));
    }
    for (size_t i = 0; i < n; i++) {
        statuses_merge(all, &peers[i]);
        buffer_fini(&peers[i].answer);
    }
    store_nodes_free(roster.nodes, roster.n);
    free(peers);
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

void fleet_statuses(const struct http_request *request, const struct store_client *rows, size_t n,
                    json_t **statuses) {
    const struct http_api *api = request->api;
    struct status_call *calls = calloc(n + 1, sizeof(*calls));
    json_t *all = json_object();
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        statuses[i] = NULL;
        if (rows[i].where != STORE_OWNED) {
            continue;
        }
        if (is_this_node(api, rows[i].owner.node)) {
            statuses[i] = local_status(api, &rows[i]);
        } else if (calls != NULL && !request->forwarded) {
            json_t *id = json_string(rows[i].id); /* NULL: no UTF-8, so no client runs under it */
            if (id != NULL) {
                json_array_append_new(call_of(calls, &count, rows[i].owner.node)->ids, id);
            }
        }
    }
    if (count > 0) {
        statuses_ask(request, calls, count, all);
    }
    for (size_t i = 0; i < n; i++) {
        if (rows[i].where == STORE_OWNED && statuses[i] == NULL) {
            statuses[i] = remote_status(all, &rows[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        json_decref(calls[i].ids);
        free(calls[i].body);
    }
    free(calls);
    json_decref(all);
}

/* ---- actions --------------------------------------------------------------------------------- */

static void pass_through(struct peer_call *peer, const char *node, struct http_response *response) {
    if (peer->result == ERR_TIMEOUT) {
        http_problem(response, PROBLEM_TIMEOUT,
                     "node %s, which runs the client, did not answer in time; the outcome is not "
                     "known",
                     node);
    } else if (peer->result != ERR_OK) {
        http_problem(response, PROBLEM_PEER,
                     "node %s, which runs the client, does not answer; the outcome is not known",
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
    buffer_fini(&peer->answer);
}

void fleet_forward(const struct http_request *request, const char *node, const char *method,
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
                             .method = method,
                             .path = path,
                             .body = body,
                             .body_len = body_len,
                             .caller = request->caller.name,
                             .request_id = request->id};
    peers_run(api->context.peers, &peer, 1, timeout_ms);
    pass_through(&peer, node, response);
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
