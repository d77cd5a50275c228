/* The routes of Go IoT with its JSON documents: mostly HTTP 200 with a "status" member, and Chinese
 * messages that callers compare. The handler threads. Unlike Go IoT, no route depends on a broker,
 * and an unknown id does no harm. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "cluster/operations/audit_record.h"
#include "http/server/json.h"
#include "http/server/problem.h"

#define LISTED_CLIENTS_MAX 10000 /* of node_using_status */
#define SCAN_COUNT         500

#define MESSAGE_CREATED     "创建成功"
#define MESSAGE_NOT_CREATED "创建失败"
#define MESSAGE_EXISTS      "已经存在客户端id"
#define MESSAGE_FULL        "达到最大客户端数量"
#define MESSAGE_BAD_CONFIG  "MQTT客户端配置异常"
#define MESSAGE_NO_CLIENT   "客户端不存在"
#define MESSAGE_NO_REDIS    "Redis不可用"
#define MESSAGE_STOPPED     "已停止"
#define MESSAGE_SENT        "已发送"

/* {"status","message"} and, unless NULL, "data", which is taken over. */
static void go_iot_answer_message(struct http_response *response, int status, const char *message,
                                  json_t *data) {
    json_t *json = json_pack("{s:i, s:s}", "status", status, "message", message);
    if (json && data) {
        json_object_set_new(json, "data", data);
    }
    http_answer_json(response, 200, json);
}

static void go_iot_answer_member(struct http_response *response, const char *name, json_t *value) {
    if (response->json) {
        json_object_set_new(response->json, name, value);
    } else {
        json_decref(value);
    }
}

static void go_iot_answer_store(struct http_response *response, enum err err) {
    if (err == ERR_MEMORY) {
        http_problem_memory(response);
        return;
    }
    enum http_problem problem = http_problem_of_store(err);
    bool away = problem == PROBLEM_REDIS || problem == PROBLEM_REDIS_FULL;
    go_iot_answer_message(response, away ? 503 : 500, away ? MESSAGE_NO_REDIS : err_name(err),
                          NULL);
}

/* The id parameter; NULL: answered. */
static const char *go_iot_query_id(const struct http_request *request,
                                   struct http_response *response) {
    const char *id = http_query_get(&request->query, "id");
    if (!id || *id == '\0') {
        http_answer_text(response, 400, "Missing 'id' query parameter\n");
        return NULL;
    }
    return id;
}

void go_iot_heartbeat(struct http_request *request, struct http_response *response) {
    (void)request;
    http_answer_text(response, 200, "ok");
}

/* ---- creating -------------------------------------------------------------------------------- */

/* Only an invalid JSON body is an HTTP error. False: answered. */
static bool go_iot_read_input(struct http_request *request, const char *message,
                              struct client_input *input, struct http_response *response) {
    json_t *document = NULL;
    bool repaired;
    char detail[HTTP_JSON_DETAIL_LEN];
    struct client_faults faults = {.count = 0};
    *input = (struct client_input){0};
    enum err err =
        http_json_parse(request->body.data, request->body.len, &document, &repaired, detail);
    if (err == ERR_MEMORY) {
        http_problem_memory(response);
        return false;
    }
    if (err != ERR_OK) {
        go_iot_answer_message(response, 400, message, NULL);
        go_iot_answer_member(response, "detail", http_json_string(detail));
        response->status = err == ERR_FULL ? 413 : 400;
        return false;
    }
    http_set_audit_subject(request, document);
    err = client_input_check(request->api, &request->caller.scope, document, CLIENT_FROM_STORE,
                             NULL, repaired, input, &faults);
    json_decref(document);
    if (err == ERR_ARGUMENT) {
        go_iot_answer_message(response, 400, message, NULL);
        go_iot_answer_member(response, "errors", http_faults_json(&faults, "", NULL));
    } else if (err == ERR_MEMORY) {
        http_problem_memory(response);
    } else if (err != ERR_OK) {
        go_iot_answer_message(response, 500, err_name(err), NULL);
    }
    return err == ERR_OK;
}

/* Whether the fleet has room for one more client, beside those that already wait. */
static enum err go_iot_fleet_has_room(const struct http_api *api, bool *room) {
    struct store_node *nodes = NULL;
    size_t n = 0;
    struct store_counts counts;
    enum err err =
        store_nodes(api->context.store, api->context.conf->heartbeat_ttl_ms, &nodes, &n, NULL);
    if (err != ERR_OK) {
        return err;
    }
    int64_t free_places = 0;
    for (size_t i = 0; i < n; i++) {
        if (nodes[i].heartbeat_valid && nodes[i].state == STORE_NODE_LIVE &&
            nodes[i].size > nodes[i].clients) {
            free_places += nodes[i].size - nodes[i].clients;
        }
    }
    store_nodes_free(nodes, n);
    err = store_counts(api->context.store, &counts);
    *room = free_places > counts.waiting;
    return err;
}

/* True: see outcome. False: answered. */
static bool go_iot_store_client(const struct http_request *request,
                                const struct client_input *input,
                                enum store_create_outcome *outcome,
                                struct http_response *response) {
    char *record =
        audit_record(&(struct audit_change){.by = request->caller.name, .action = "create"});
    struct store_create_item made = {.id = input->config->id,
                                     .config = input->text,
                                     .identity = input->identity,
                                     .record = record};
    struct store_create_result result = {0};
    size_t done = 0;
    enum err err =
        record ? store_create(request->api->context.store, &made, 1, &result, &done) : ERR_MEMORY;
    free(record);
    if (done != 1) {
        go_iot_answer_store(response, err);
        return false;
    }
    free(result.other_id);
    *outcome = result.outcome;
    return true;
}

/* False: answered. */
static bool go_iot_may_create(const struct http_api *api, const char *id,
                              struct http_response *response) {
    struct store_client row = {0};
    enum err err = store_get(api->context.store, id, &row);
    store_client_fini(&row);
    bool room = true;
    if (err == ERR_OK) {
        go_iot_answer_message(response, 400, MESSAGE_EXISTS, NULL);
        return false;
    }
    if (err == ERR_NOT_FOUND) {
        err = go_iot_fleet_has_room(api, &room);
    }
    if (err != ERR_OK) {
        go_iot_answer_store(response, err);
        return false;
    }
    if (!room) {
        go_iot_answer_message(response, 400, MESSAGE_FULL, NULL);
    }
    return room;
}

void go_iot_create(struct http_request *request, struct http_response *response) {
    const struct http_api *api = request->api;
    struct client_input input;
    enum store_create_outcome outcome;
    if (go_iot_read_input(request, MESSAGE_BAD_CONFIG, &input, response) &&
        go_iot_may_create(api, input.config->id, response) &&
        go_iot_store_client(request, &input, &outcome, response)) {
        if (outcome == STORE_CREATED) {
            go_iot_answer_message(response, 200, MESSAGE_CREATED, NULL);
            go_iot_answer_member(response, "size",
                                 json_integer((json_int_t)workers_count(api->context.workers) + 1));
        } else {
            go_iot_answer_message(
                response, 400, outcome == STORE_OVER_QUOTA ? MESSAGE_FULL : MESSAGE_EXISTS, NULL);
        }
    }
    client_input_fini(&input);
}

/* The stored text may have another spelling or key. */
static bool go_iot_is_stored(const struct http_api *api, const struct client_input *input) {
    struct store_client row = {0};
    bool same = store_get(api->context.store, input->config->id, &row) == ERR_OK &&
                client_input_is_same(api, &row, input->text);
    store_client_fini(&row);
    return same;
}

void go_iot_public_create(struct http_request *request, struct http_response *response) {
    struct client_input input;
    enum store_create_outcome outcome;
    if (go_iot_read_input(request, MESSAGE_NOT_CREATED, &input, response) &&
        go_iot_store_client(request, &input, &outcome, response)) {
        if (outcome == STORE_CREATED || outcome == STORE_UNCHANGED ||
            (outcome == STORE_OTHER_CONFIG && go_iot_is_stored(request->api, &input))) {
            go_iot_answer_message(response, 200, MESSAGE_CREATED, NULL);
        } else {
            go_iot_answer_message(response, 400, MESSAGE_NOT_CREATED, NULL);
            go_iot_answer_member(
                response, "detail",
                json_string(outcome == STORE_OVER_QUOTA ? MESSAGE_FULL : MESSAGE_EXISTS));
        }
    }
    client_input_fini(&input);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* False: answered. */
static bool go_iot_read_nodes(const struct http_request *request, struct store_node **nodes,
                              size_t *n, struct http_response *response) {
    const struct http_context *context = &request->api->context;
    enum err err = store_nodes(context->store, context->conf->heartbeat_ttl_ms, nodes, n, NULL);
    if (err != ERR_OK) {
        go_iot_answer_store(response, err);
    }
    return err == ERR_OK;
}

void go_iot_node_list(struct http_request *request, struct http_response *response) {
    struct store_node *nodes;
    size_t n;
    if (!go_iot_read_nodes(request, &nodes, &n, response)) {
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (nodes[i].state != STORE_NODE_DEAD) {
            json_array_append_new(list, json_pack("{s:o, s:I, s:o, s:o, s:I}", "host",
                                                  http_json_string(nodes[i].host), "port",
                                                  (json_int_t)nodes[i].port, "name",
                                                  http_json_string(nodes[i].name), "type",
                                                  http_json_string(nodes[i].type), "size",
                                                  (json_int_t)nodes[i].size));
        }
    }
    store_nodes_free(nodes, n);
    go_iot_answer_message(response, 200, MESSAGE_CREATED, list);
}

/* Adds an owned client to the entry of its node, {"client_ids", "client_infos"} by name. */
static void go_iot_usage_add(json_t *usage, json_t *seen, const struct store_client *row) {
    json_t *node = json_object_get(usage, row->owner.node);
    json_t *id = http_json_string(row->id);
    if (!node || !id || json_object_get(seen, json_string_value(id))) {
        json_decref(id);
        return;
    }
    json_object_set_new(seen, json_string_value(id), json_true());
    json_array_append_new(json_object_get(node, "client_ids"), id);
    struct client_config *config = NULL;
    struct client_faults faults;
    if (client_config_parse_text(row->config, row->config_len, row->id, &config, &faults) ==
        ERR_OK) {
        json_array_append_new(json_object_get(node, "client_infos"), client_flat_json(config));
    }
    client_config_destroy(config);
}

static enum err go_iot_usage_load(struct store *store, json_t *usage) {
    json_t *seen = json_object(); /* HSCAN may return an id twice */
    uint64_t cursor = 0;
    enum err err;
    do {
        struct store_client *rows = NULL;
        size_t n = 0;
        err = store_page(store, STORE_OWNED, &cursor, SCAN_COUNT, &rows, &n, NULL);
        for (size_t i = 0; err == ERR_OK && i < n; i++) {
            go_iot_usage_add(usage, seen, &rows[i]);
        }
        store_clients_free(rows, n);
    } while (err == ERR_OK && cursor != 0 && json_object_size(seen) < LISTED_CLIENTS_MAX);
    json_decref(seen);
    return err;
}

void go_iot_node_using_status(struct http_request *request, struct http_response *response) {
    struct store_node *nodes;
    size_t n;
    if (!go_iot_read_nodes(request, &nodes, &n, response)) {
        return;
    }
    json_t *usage = json_object();
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *node =
            json_pack("{s:o, s:I, s:[], s:[], s:I}", "name", http_json_string(nodes[i].name),
                      "size", (json_int_t)nodes[i].clients, "client_ids", "client_infos",
                      "max_size", (json_int_t)nodes[i].size);
        json_object_set(usage, nodes[i].name, node);
        json_array_append_new(list, node);
    }
    store_nodes_free(nodes, n);
    enum err err = go_iot_usage_load(request->api->context.store, usage);
    json_decref(usage);
    if (err == ERR_OK) {
        go_iot_answer_message(response, 200, "成功", list);
    } else {
        json_decref(list);
        go_iot_answer_store(response, err);
    }
}

/* ---- one client ------------------------------------------------------------------------------ */

static void go_iot_show_config(const struct http_request *request, enum store_client_state where,
                               struct http_response *response) {
    const char *id = go_iot_query_id(request, response);
    if (!id) {
        return;
    }
    struct store_client row = {0};
    struct client_config *config = NULL;
    struct client_faults faults;
    enum err err = store_get(request->api->context.store, id, &row);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        go_iot_answer_store(response, err);
    } else if (err == ERR_OK && row.state == where &&
               client_config_parse_text(row.config, row.config_len, id, &config, &faults) ==
                   ERR_OK) {
        go_iot_answer_message(response, 200, "Success", client_flat_json(config));
    } else {
        go_iot_answer_message(response, 200, "Success", json_null());
    }
    client_config_destroy(config);
    store_client_fini(&row);
}

void go_iot_mqtt_config(struct http_request *request, struct http_response *response) {
    go_iot_show_config(request, STORE_OWNED, response);
}

void go_iot_no_mqtt_config(struct http_request *request, struct http_response *response) {
    go_iot_show_config(request, STORE_WAITING, response);
}

void go_iot_remove_client(struct http_request *request, struct http_response *response) {
    const char *id = go_iot_query_id(request, response);
    if (!id) {
        return;
    }
    enum err err = api_client_delete_stored(request, id, 0);
    if (err == ERR_OK) {
        go_iot_answer_message(response, 200, "Success", json_string(MESSAGE_STOPPED));
    } else if (err == ERR_NOT_FOUND) {
        go_iot_answer_message(response, 404, MESSAGE_NO_CLIENT, NULL);
    } else {
        go_iot_answer_store(response, err);
    }
}

/* ---- publishing ------------------------------------------------------------------------------ */

/* Translates the names of Go IoT into a document for .../publish. Like Go IoT, it publishes an
 * empty message if there is no payload; to clear a retained message, the payload must be given. */
static json_t *go_iot_to_publication(const json_t *push) {
    static const struct {
        const char *theirs, *ours;
    } names[] = {
        {"topic", "topic"}, {"payload", "payload"}, {"qos", "qos"}, {"retained", "retain"}};
    json_t *document = json_object();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        json_t *value = json_object_get(push, names[i].theirs);
        if (value) {
            json_object_set(document, names[i].ours, value);
        }
    }
    if (!json_object_get(push, "payload") && !json_is_true(json_object_get(push, "retained"))) {
        json_object_set_new(document, "payload", json_string(""));
    }
    return document;
}

/* Translates the answer into that of Go IoT. */
static void go_iot_reshape_published(const struct http_request *request,
                                     struct http_response *response) {
    (void)request;
    if (response->status == 200) {
        go_iot_answer_message(response, 200, "Success", json_string(MESSAGE_SENT));
        return;
    }
    int status = response->status;
    json_t *problem = response->json ? json_incref(response->json)
                                     : json_from_text(response->body ? response->body : "",
                                                      response->body_len, 0);
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    go_iot_answer_message(response, status, detail ? detail : "failed", NULL);
    json_decref(problem);
}

/* False: answered. */
static bool go_iot_read_push(struct http_request *request, json_t **push, const char **id,
                             struct http_response *response) {
    if (!http_body_object(request, response, push)) {
        return false;
    }
    *id = json_string_value(json_object_get(*push, "client_id"));
    if (!*id) {
        go_iot_answer_message(response, 400, "client_id: must be given", NULL);
        json_decref(*push);
    }
    return *id != NULL;
}

static void go_iot_forward_push(struct http_request *request, struct http_response *response) {
    json_t *push;
    const char *id;
    if (go_iot_read_push(request, &push, &id, response)) {
        json_t *document = go_iot_to_publication(push);
        api_publish_remote(request, id, document, response);
        json_decref(document);
        json_decref(push);
    }
}

void go_iot_push_data(struct http_request *request, struct http_response *response) {
    json_t *push;
    const char *id;
    if (!go_iot_read_push(request, &push, &id, response)) {
        return;
    }
    json_t *document = go_iot_to_publication(push);
    request->reshape_response = go_iot_reshape_published;
    if (!api_publish_document(request, id, document, response)) {
        request->next_step = go_iot_forward_push;
    }
    json_decref(document);
    json_decref(push);
}
