/* Owns the rows of a batch and the calls to the owners. */
#include "operation_batch.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/text.h"

#define ACT_PATH   "/fleet/act"
#define ACT_MS_MAX 5000

/* A call to the owner of some of the clients. */
struct batch_call {
    struct operation_batch *batch;
    const struct store_node *node; /* until it is sent */
    size_t *indices;               /* of its clients */
    size_t n;
    char *body;
};

struct operation_batch *operation_batch_create(const struct operations_wiring *wiring,
                                               enum operation_action action, int64_t position,
                                               struct store_client *rows, size_t n) {
    struct operation_batch *batch = calloc(1, sizeof *batch);
    struct operation_change *changes = calloc(n + 1, sizeof *changes);
    if (!batch || !changes) {
        free(batch);
        free(changes);
        store_clients_free(rows, n);
        return NULL;
    }
    batch->wiring = wiring;
    batch->action = action;
    batch->position = position;
    batch->rows = rows;
    batch->changes = changes;
    batch->n = n;
    return batch;
}

void operation_batch_destroy(struct operation_batch *batch) {
    if (!batch) {
        return;
    }
    for (size_t i = 0; i < batch->n; i++) {
        free(batch->changes[i].config);
        free(batch->changes[i].identity);
        free(batch->changes[i].record);
        free(batch->changes[i].detail);
    }
    free(batch->changes);
    store_clients_free(batch->rows, batch->n);
    free(batch);
}

bool operation_batch_is_ready(const struct operation_batch *batch) {
    return atomic_load(&batch->pending) == 0;
}

void operation_batch_items(struct operation_batch *batch, struct store_step_item *items) {
    for (size_t i = 0; i < batch->n; i++) {
        const struct operation_change *change = &batch->changes[i];
        batch->has_later = batch->has_later || change->what == STORE_STEP_LATER;
        items[i] = (struct store_step_item){.id = batch->rows[i].id,
                                            .what = change->what,
                                            .version = batch->rows[i].version,
                                            .config = change->config,
                                            .identity = change->identity,
                                            .record = change->record,
                                            .reason = change->reason,
                                            .detail = change->detail};
    }
}

/* ---- outcomes -------------------------------------------------------------------------------- */

static void operation_batch_set(struct operation_change *change, enum store_step_what what,
                                const char *reason, const char *detail) {
    change->what = what;
    change->reason = reason;
    if (!change->detail && detail) {
        change->detail = text_dup(detail); /* NULL: the reason alone must do */
    }
}

/* The result of an action at the owner. NULL: it did not mention the client. */
static void operation_batch_set_result(struct operation_change *change, const char *result) {
    static const struct {
        const char *result;
        enum store_step_what what;
        const char *reason;
    } rows[] = {{"ok", STORE_STEP_DONE, NULL},
                {"paused", STORE_STEP_SKIPPED, "paused"},
                {"not_found", STORE_STEP_LATER, "moving"},
                {"busy", STORE_STEP_LATER, "owner_busy"}};
    for (size_t i = 0; result && i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].result, result) == 0) {
            operation_batch_set(change, rows[i].what, rows[i].reason, NULL);
            return;
        }
    }
    operation_batch_set(change, STORE_STEP_LATER, "owner_refused", result);
}

/* ---- calls to owners ------------------------------------------------------------------------- */

static void operation_batch_call_destroy(struct batch_call *call) {
    if (call) {
        free(call->indices);
        free(call->body);
        free(call);
    }
}

static void operation_batch_take_answer(struct batch_call *call, const struct peer_call *peer) {
    struct operation_batch *batch = call->batch;
    json_t *answer = peer->result == ERR_OK && peer->status == 200 && peer->answer.data
                         ? json_from_text(peer->answer.data, peer->answer.len, 0)
                         : NULL;
    const json_t *results = json_object_get(answer, "results");
    for (size_t i = 0; i < call->n; i++) {
        struct operation_change *change = &batch->changes[call->indices[i]];
        const char *id = batch->rows[call->indices[i]].id,
                   *node = batch->rows[call->indices[i]].owner.node;
        if (peer->result != ERR_OK) {
            operation_batch_set(change, STORE_STEP_LATER, "owner_unreachable", node);
        } else if (peer->status == 404 || peer->status == 405) {
            operation_batch_set(change, STORE_STEP_FAILED, "owner_too_old", node);
        } else {
            operation_batch_set_result(change, json_string_value(json_object_get(results, id)));
        }
    }
    json_decref(answer);
}

/* On the peer calls thread. The batch may be gone after the last one. */
static void operation_batch_answered(struct peer_call *peer, void *context) {
    struct batch_call *call = context;
    struct operation_batch *batch = call->batch;
    operation_batch_take_answer(call, peer);
    operation_batch_call_destroy(call);
    atomic_fetch_sub(&batch->pending, 1);
}

static char *operation_batch_body(const struct operation_batch *batch,
                                  const struct batch_call *call) {
    json_t *ids = json_array();
    for (size_t i = 0; i < call->n; i++) {
        json_array_append_new(ids, json_string(batch->rows[call->indices[i]].id));
    }
    json_t *body =
        json_pack("{s:s, s:o}", "action", operation_action_name(batch->action), "ids", ids);
    char *text = body ? json_to_text(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}

/* Takes over the call. */
static void operation_batch_send(struct batch_call *call) {
    struct operation_batch *batch = call->batch;
    call->body = operation_batch_body(batch, call);
    const struct peer_call peer = {.host = call->node->host,
                                   .port = call->node->port,
                                   .incarnation = call->node->incarnation,
                                   .method = "POST",
                                   .path = ACT_PATH,
                                   .body = call->body,
                                   .body_len = call->body ? strlen(call->body) : 0};
    int64_t timeout_ms = batch->wiring->conf->peer_timeout_ms;
    atomic_fetch_add(&batch->pending, 1);
    enum err err = call->body ? peer_calls_post(batch->wiring->peer_calls, &peer,
                                                timeout_ms < ACT_MS_MAX ? timeout_ms : ACT_MS_MAX,
                                                operation_batch_answered, call)
                              : ERR_MEMORY;
    if (err != ERR_OK) { /* it was not sent */
        operation_batch_answered(&(struct peer_call){.result = err}, call);
    }
}

/* A call for the clients of that node, which have no other outcome yet. NULL: out of memory. */
static struct batch_call *operation_batch_call_create(struct operation_batch *batch,
                                                      const struct store_node *node) {
    struct batch_call *call = calloc(1, sizeof *call);
    size_t *indices = calloc(batch->n + 1, sizeof *indices);
    if (!call || !indices) {
        free(call);
        free(indices);
        return NULL;
    }
    *call = (struct batch_call){.batch = batch, .node = node, .indices = indices};
    for (size_t i = 0; i < batch->n; i++) {
        if (batch->changes[i].what == STORE_STEP_DONE &&
            strcmp(batch->rows[i].owner.node, node->name) == 0) {
            indices[call->n++] = i;
        }
    }
    return call;
}

static void operation_batch_act_here(struct operation_batch *batch, const char *node) {
    for (size_t i = 0; i < batch->n; i++) {
        struct operation_change *change = &batch->changes[i];
        if (change->what == STORE_STEP_DONE && strcmp(batch->rows[i].owner.node, node) == 0) {
            operation_batch_set_result(
                change, operations_act_here(batch->wiring->workers, batch->wiring->agent,
                                            batch->action, batch->rows[i].id));
        }
    }
}

/* A client of a node that is not registered, or dead, moves soon. Answers may arrive from the first
 * call on, and change only the clients of that call. */
static void operation_batch_ask_nodes(struct operation_batch *batch, const struct store_node *nodes,
                                      struct batch_call **calls, size_t n) {
    const char *own = node_name(batch->wiring->node);
    for (size_t i = 0; i < batch->n; i++) {
        bool registered = batch->changes[i].what != STORE_STEP_DONE;
        for (size_t k = 0; k < n && !registered; k++) {
            registered = strcmp(nodes[k].name, batch->rows[i].owner.node) == 0 &&
                         nodes[k].state != STORE_NODE_DEAD;
        }
        if (!registered) {
            operation_batch_set(&batch->changes[i], STORE_STEP_LATER, "owner_unreachable",
                                batch->rows[i].owner.node);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (calls[i]->n > 0 && nodes[i].state != STORE_NODE_DEAD &&
            strcmp(nodes[i].name, own) != 0) {
            operation_batch_send(calls[i]);
            calls[i] = NULL;
        }
    }
    operation_batch_act_here(batch, own);
}

enum err operation_batch_ask_owners(struct operation_batch *batch) {
    struct store_node *nodes = NULL;
    size_t n = 0;
    enum err err =
        store_nodes(batch->wiring->store, batch->wiring->conf->heartbeat_ttl_ms, &nodes, &n, NULL);
    struct batch_call **calls = calloc(n + 1, sizeof *calls);
    err = err == ERR_OK && !calls ? ERR_MEMORY : err;
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        calls[i] = operation_batch_call_create(batch, &nodes[i]);
        err = calls[i] ? ERR_OK : ERR_MEMORY;
    }
    if (err == ERR_OK) {
        operation_batch_ask_nodes(batch, nodes, calls, n);
    }
    for (size_t i = 0; calls && i < n; i++) {
        operation_batch_call_destroy(calls[i]);
    }
    free(calls);
    store_nodes_free(nodes, n);
    return err;
}
