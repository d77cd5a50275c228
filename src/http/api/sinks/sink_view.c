/* Shows the sinks of the fleet with what each node reports of them. The handler threads; a request
 * waits for the other nodes. */
#include "http/api/sinks/sink_view.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "cluster/resources/sink_document.h"
#include "http/api/peer_wait.h"
#include "http/server/json.h"
#include "http/server/problem.h"

/* ---- one node -------------------------------------------------------------------------------- */

static const char *sink_view_state(const struct sink_status *status) {
    const struct {
        bool holds;
        const char *name;
    } states[] = {{status->unavailable, "unavailable"}, {status->leaving, "leaving"},
                  {status->changing, "changing"},       {status->paused, "paused"},
                  {status->failing, "failing"},         {true, "working"}};
    size_t i = 0;
    while (!states[i].holds) {
        i++;
    }
    return states[i].name;
}

/* Microseconds as milliseconds; negative: null. */
static json_t *sink_view_ms(int64_t us) {
    return us < 0 ? json_null() : json_real((double)us / 1000);
}

static json_t *sink_view_latency(const struct histogram_values *latency) {
    return json_pack("{s:I, s:o, s:o}", "messages", (json_int_t)histogram_values_count(latency),
                     "p50_ms", sink_view_ms(histogram_values_quantile(latency, 0.5)), "p99_ms",
                     sink_view_ms(histogram_values_quantile(latency, 0.99)));
}

static json_t *sink_view_status(const struct sink_status *status) {
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", status->name,
        "state", sink_view_state(status), "origin", status->of_fleet ? "fleet" : "node", "type",
        status->type, "queued_messages", (json_int_t)status->queued_messages, "queued_bytes",
        (json_int_t)status->queued_bytes, "in_flight", (json_int_t)status->in_flight, "accepted",
        (json_int_t)status->accepted, "retried", (json_int_t)status->retried, "rejected",
        (json_int_t)status->rejected, "expired", (json_int_t)status->expired, "canceled",
        (json_int_t)status->canceled, "failing_ms", (json_int_t)status->failing_ms);
    json_t *dropped = json_pack("{s:I, s:I}", "sink_full",
                                (json_int_t)(status->dropped - status->dropped_over_share),
                                "over_share", (json_int_t)status->dropped_over_share);
    json_object_set_new(json, "dropped", dropped);
    json_object_set_new(json, "latency", sink_view_latency(&status->latency_recent));
    json_object_set_new(json, "last_error",
                        *status->error ? http_json_string(status->error) : json_null());
    json_object_set_new(json, "not_applied",
                        *status->fault ? http_json_string(status->fault) : json_null());
    json_object_set_new(json, "version",
                        status->version ? json_integer(status->version) : json_null());
    json_object_set_new(json, "overrides_fleet", json_boolean(status->shadows));
    return json;
}

json_t *sink_view_of_node(const struct http_api *api) {
    json_t *sinks = json_array();
    struct sink_status status;
    size_t cursor = 0;
    while (sinks_next(api->context.sinks, &cursor, &status)) {
        json_array_append_new(sinks, sink_view_status(&status));
    }
    return json_pack("{s:o, s:o}", "node", http_json_string(node_name(api->context.node)), "sinks",
                     sinks);
}

bool sink_view_exists(const struct http_api *api, const char *name) {
    struct store_resource *rows;
    size_t n;
    if (!name) {
        return false;
    }
    if (sinks_knows(api->context.sinks, name) || sinks_has(api->context.sinks, name)) {
        return true;
    }
    bool exists =
        store_resources(api->context.store, STORE_SINKS, name, &rows, &n, NULL) == ERR_OK && n > 0;
    store_resources_free(rows, n);
    return exists;
}

/* ---- documents ------------------------------------------------------------------------------- */

json_t *sink_view_open(const struct http_api *api, const struct store_resource *row, char *fault) {
    json_t *document = json_from_text(row->document, strlen(row->document), 0);
    snprintf(fault, SINK_DOCUMENT_FAULT_LEN, "the stored document is not an object");
    if (!json_is_object(document) ||
        sink_document_open(document, row->name, api->context.secrets, fault) != ERR_OK) {
        json_decref(document);
        return NULL;
    }
    return document;
}

json_t *sink_view_document(const struct http_api *api, const struct store_resource *row) {
    char fault[SINK_DOCUMENT_FAULT_LEN];
    json_t *document = sink_view_open(api, row, fault);
    if (!document) { /* what is encrypted is masked as well */
        document = json_from_text(row->document, strlen(row->document), 0);
    }
    json_t *masked = json_is_object(document) ? sink_document_masked(document) : json_null();
    json_decref(document);
    return json_pack("{s:s, s:s, s:I, s:o}", "name", row->name, "origin", "fleet", "version",
                     (json_int_t)row->version, "config", masked);
}

/* ---- the fleet ------------------------------------------------------------------------------- */

struct sink_view {
    char *name; /* NULL: all */
    struct store_resource *rows;
    size_t row_count;
    struct store_node *nodes;
    size_t node_count;
    json_t *reports;    /* of nodes, as sink_view_of_node */
    json_t *incomplete; /* the nodes that do not answer */
};

static void sink_view_destroy(void *data) {
    struct sink_view *view = data;
    store_resources_free(view->rows, view->row_count);
    store_nodes_free(view->nodes, view->node_count);
    json_decref(view->reports);
    json_decref(view->incomplete);
    free(view->name);
    free(view);
}

/* The entry of that name, which is added if it is missing. NULL: it is not asked for. */
static json_t *sink_view_entry(const struct sink_view *view, json_t *list, const json_t *sink) {
    const char *name = json_string_value(json_object_get(sink, "name"));
    size_t i;
    json_t *entry;
    if (!name || (view->name && strcmp(view->name, name) != 0)) {
        return NULL;
    }
    json_array_foreach(list, i, entry) {
        if (strcmp(json_string_value(json_object_get(entry, "name")), name) == 0) {
            return entry;
        }
    }
    entry = json_pack("{s:s, s:O, s:n, s:n, s:[]}", "name", name, "origin",
                      json_object_get(sink, "origin"), "version", "config", "nodes");
    return json_array_append_new(list, entry) == 0 ? entry : NULL;
}

static void sink_view_add_report(const struct sink_view *view, json_t *list, const json_t *report) {
    json_t *node = json_object_get(report, "node"), *sinks = json_object_get(report, "sinks");
    size_t i;
    json_t *sink;
    json_array_foreach(sinks, i, sink) {
        json_t *entry = sink_view_entry(view, list, sink);
        json_t *shown = entry ? json_copy(sink) : NULL;
        json_object_del(shown, "name");
        json_object_set(shown, "node", node);
        if (entry) {
            json_array_append_new(json_object_get(entry, "nodes"), shown);
        }
    }
}

static json_t *sink_view_list(const struct http_api *api, const struct sink_view *view) {
    json_t *list = json_array(), *report;
    size_t i;
    for (i = 0; i < view->row_count; i++) {
        json_t *entry = sink_view_document(api, &view->rows[i]);
        json_object_set_new(entry, "nodes", json_array());
        json_array_append_new(list, entry);
    }
    json_array_foreach(view->reports, i, report) {
        sink_view_add_report(view, list, report);
    }
    return list;
}

static void sink_view_end(struct http_request *request, struct http_response *response,
                          const struct sink_view *view) {
    json_t *list = sink_view_list(request->api, view);
    if (!view->name) {
        http_answer_json(response, 200,
                         json_pack("{s:o, s:O}", "sinks", list, "incomplete", view->incomplete));
        return;
    }
    json_t *one = json_array_get(list, 0);
    if (!one) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no sink %s", view->name);
    } else {
        json_object_set(one, "incomplete", view->incomplete);
        http_answer_json(response, 200, json_incref(one));
        if (view->row_count > 0) {
            http_answer_header(response, "ETag", "\"%lld\"", (long long)view->rows[0].version);
        }
    }
    json_decref(list);
}

static json_t *sink_view_read_answer(const struct peer_call *call) {
    bool answered = call->result == ERR_OK && call->status == 200 && call->answer.data;
    return answered ? json_from_text(call->answer.data, call->answer.len, 0) : NULL;
}

static const char *sink_view_name_of(const struct sink_view *view, const char *incarnation) {
    for (size_t i = 0; i < view->node_count; i++) {
        if (strcmp(view->nodes[i].incarnation, incarnation) == 0) {
            return view->nodes[i].name;
        }
    }
    return "?";
}

static void sink_view_answered(struct http_request *request, struct http_response *response,
                               struct peer_call *calls, size_t n, void *context) {
    struct sink_view *view = context;
    for (size_t i = 0; i < n; i++) {
        json_t *report = sink_view_read_answer(&calls[i]);
        if (json_is_object(report)) {
            json_array_append(view->reports, report);
        } else {
            json_array_append_new(view->incomplete,
                                  http_json_string(sink_view_name_of(view, calls[i].incarnation)));
        }
        json_decref(report);
    }
    sink_view_end(request, response, view);
}

static size_t sink_view_calls(const struct sink_view *view, const struct http_request *request,
                              struct peer_call *calls) {
    size_t n = 0;
    for (size_t i = 0; i < view->node_count; i++) {
        const struct store_node *node = &view->nodes[i];
        bool is_this = strcmp(node->name, node_name(request->api->context.node)) == 0;
        if (!is_this && node->state != STORE_NODE_DEAD && node->incarnation[0] != '\0') {
            calls[n] = peer_wait_call(request, node, "POST", "/fleet/sinks");
            calls[n].body = "{}";
            calls[n++].body_len = 2;
        }
    }
    return n;
}

static enum err sink_view_load(const struct http_request *request, struct sink_view *view) {
    const struct http_context *context = &request->api->context;
    enum err err = store_resources(context->store, STORE_SINKS, view->name, &view->rows,
                                   &view->row_count, NULL);
    if (err == ERR_OK) {
        err = store_nodes(context->store, context->conf->heartbeat_ttl_ms, &view->nodes,
                          &view->node_count, NULL);
    }
    return err;
}

void sink_view_answer(struct http_request *request, struct http_response *response,
                      const char *name) {
    struct sink_view *view = calloc(1, sizeof *view);
    if (!view) {
        http_problem_memory(response);
        return;
    }
    view->name = name ? strdup(name) : NULL;
    view->reports = json_pack("[o]", sink_view_of_node(request->api));
    view->incomplete = json_array();
    enum err err = sink_view_load(request, view);
    struct peer_call *calls = calloc(view->node_count + 1, sizeof *calls);
    size_t n = err == ERR_OK && calls ? sink_view_calls(view, request, calls) : 0;
    if (err != ERR_OK) {
        http_problem_store(response, err);
        sink_view_destroy(view);
    } else if (n == 0) {
        sink_view_end(request, response, view);
        sink_view_destroy(view);
    } else {
        peer_wait_begin(
            request, response, calls, n,
            &(struct peer_wait_plan){.timeout_ms = peer_wait_short_ms(request->api->context.conf),
                                     .then = sink_view_answered,
                                     .context = view,
                                     .free_context = sink_view_destroy});
    }
    free(calls);
}
