/* /api/v1/sinks: the sinks of the fleet. The handler threads. */
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "cluster/resources/sink_document.h"
#include "http/api/document_changes.h"
#include "http/api/if_match.h"
#include "http/api/sinks/api_routes.h"
#include "http/api/sinks/sink_view.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "sink/sink_types.h"

#define USERS_SHOWN_MAX 10

void api_sinks_list(struct http_request *request, struct http_response *response) {
    sink_view_answer(request, response, NULL);
}

void api_sink_get(struct http_request *request, struct http_response *response) {
    sink_view_answer(request, response, request->parameter);
}

/* From another node. */
void api_fleet_sinks(struct http_request *request, struct http_response *response) {
    http_answer_json(response, 200, sink_view_of_node(request->api));
}

/* ---- types ----------------------------------------------------------------------------------- */

static json_t *api_sinks_field_json(const struct sink_field *field) {
    static const char *const kinds[] = {
        [SINK_FIELD_TEXT] = "text",       [SINK_FIELD_SECRET] = "secret",
        [SINK_FIELD_URL] = "url",         [SINK_FIELD_HOSTS] = "hosts",
        [SINK_FIELD_FILE] = "file",       [SINK_FIELD_CHOICE] = "choice",
        [SINK_FIELD_INTEGER] = "integer", [SINK_FIELD_BOOLEAN] = "boolean",
        [SINK_FIELD_LIST] = "list",       [SINK_FIELD_MAP] = "map"};
    json_t *json = json_pack("{s:s, s:s, s:b, s:s?, s:s?, s:s}", "name", field->name, "kind",
                             kinds[field->kind], "required", field->required, "unit", field->unit,
                             "choices", field->choices, "description", field->description);
    if (field->kind == SINK_FIELD_INTEGER) {
        json_object_set_new(json, "default", json_integer(field->number));
        json_object_set_new(json, "min", json_integer(field->min));
        json_object_set_new(json, "max", json_integer(field->max));
    } else if (field->kind == SINK_FIELD_BOOLEAN) {
        json_object_set_new(json, "default", json_boolean(field->number != 0));
    } else if (field->text) {
        json_object_set_new(json, "default", json_string(field->text));
    }
    return json;
}

static json_t *api_sinks_fields_json(const struct sink_field *fields) {
    json_t *list = json_array();
    for (const struct sink_field *field = fields; field->name; field++) {
        json_array_append_new(list, api_sinks_field_json(field));
    }
    return list;
}

static void api_sinks_add_type(json_t *list, const char *name) {
    char fault[SINK_FAULT_LEN] = "";
    const struct sink_type *type = sink_types_find(name, fault);
    json_array_append_new(list, json_pack("{s:s, s:b, s:o, s:o}", "type", name, "available",
                                          type != NULL, "fields",
                                          type ? api_sinks_fields_json(type->fields) : json_array(),
                                          "detail", type ? json_null() : http_json_string(fault)));
}

void api_sink_types(struct http_request *request, struct http_response *response) {
    json_t *list = json_array();
    (void)request;
    for (size_t i = 0; sink_types_built_in[i]; i++) {
        api_sinks_add_type(list, sink_types_built_in[i]->name);
    }
    for (size_t i = 0; sink_types_modules[i].name; i++) {
        api_sinks_add_type(list, sink_types_modules[i].name);
    }
    http_answer_json(response, 200,
                     json_pack("{s:o, s:o}", "types", list, "common_fields",
                               api_sinks_fields_json(sink_common_fields)));
}

/* ---- writing --------------------------------------------------------------------------------- */

static void api_sink_answer_not_found(const struct http_request *request,
                                      struct http_response *response) {
    http_problem(response, PROBLEM_NOT_FOUND, "the fleet has no sink %s", request->parameter);
}

static void api_sink_answer_type(const struct http_request *request, const char *type,
                                 struct http_response *response) {
    http_problem(response, PROBLEM_STATE,
                 "sink %s has the type %s, and the type of a sink never changes: use another name, "
                 "or delete it first",
                 request->parameter, type ? type : "?");
}

/* False: answered. */
static bool api_sink_check_name(const struct http_request *request,
                                struct http_response *response) {
    const char *name = request->parameter;
    if (!sink_name_is_valid(name)) {
        http_problem(response, PROBLEM_BAD_REQUEST, "the name of a sink must be " SINK_NAME_FORMAT);
        return false;
    }
    if (sink_name_is_reserved(name) || strcmp(name, SINK_DEAD_LETTER) == 0) {
        http_problem(response, PROBLEM_STATE,
                     "the settings of each node describe the sink %s; use another name", name);
        return false;
    }
    if (sinks_owns(request->api->context.sinks, name)) {
        http_problem(response, PROBLEM_STATE,
                     "the settings of node %s describe a sink %s; use another name, or remove it "
                     "there",
                     node_name(request->api->context.node), name);
        return false;
    }
    return true;
}

static void api_sink_add_fault(void *context, const char *pointer, const char *detail) {
    http_fault_add(context, pointer, "%s", detail);
}

static void api_sink_check_dead_letter(const struct http_request *request, const json_t *document,
                                       struct client_faults *faults) {
    const char *name = json_string_value(json_object_get(document, "dead_letter"));
    if (!name || !*name || strcmp(name, SINK_DEAD_LETTER) == 0) {
        return;
    }
    if (strcmp(name, request->parameter) == 0) {
        http_fault_add(faults, "/dead_letter", "must be another sink");
    } else if (!sink_view_exists(request->api, name)) {
        http_fault_add(faults, "/dead_letter", "there is no sink %s", name);
    }
}

/* Takes masked secrets from the stored document. False: answered. */
static bool api_sink_keep_secrets(const struct http_request *request, json_t *document,
                                  const struct store_resource *row, struct client_faults *faults,
                                  struct http_response *response) {
    char fault[SINK_DOCUMENT_FAULT_LEN] = "";
    json_t *stored = row ? sink_view_open(request->api, row, fault) : json_object();
    const char *type = json_string_value(json_object_get(document, "type"));
    if (row && type && strcmp(type, row->type) != 0) {
        json_decref(stored);
        api_sink_answer_type(request, row->type, response);
        return false;
    }
    sink_document_keep_secrets(document, stored, api_sink_add_fault, faults);
    json_decref(stored);
    return true;
}

/* False: answered. */
static bool api_sink_check_document(const struct http_request *request, json_t *document,
                                    const struct store_resource *row,
                                    struct http_response *response) {
    struct client_faults faults = {.count = 0};
    char fault[SINK_DOCUMENT_FAULT_LEN] = "";
    if (sink_document_open(document, request->parameter, request->api->context.secrets, fault) !=
        ERR_OK) { /* of an export, by a key that this node does not have */
        http_fault_add(&faults, "", "%s", fault);
        http_problem_faults(response, &faults);
        return false;
    }
    struct sink_document_rules rules = {request->api->context.conf, request->api->address_policy};
    if (!api_sink_keep_secrets(request, document, row, &faults, response)) {
        return false;
    }
    (void)sink_document_check(document, &rules, api_sink_add_fault, &faults);
    api_sink_check_dead_letter(request, document, &faults);
    if (faults.count > 0) {
        http_problem_faults(response, &faults);
    }
    return faults.count == 0;
}

static void api_sink_answer_put(struct http_request *request, const struct store_resource *sink,
                                bool created, struct http_response *response) {
    node_heartbeat_now(request->api->context.node); /* its answer makes this node apply it */
    http_answer_json(response, created ? 201 : 200, sink_view_document(request->api, sink));
    http_answer_header(response, "ETag", "\"%lld\"", (long long)sink->version);
}

static void api_sink_store(struct http_request *request, json_t *document, int64_t expected,
                           struct http_response *response) {
    struct store_put put = {.expected_version = expected};
    struct store_resource sink = {.name = request->parameter,
                                  .type =
                                      (char *)json_string_value(json_object_get(document, "type"))};
    enum err err = sink_document_seal(document, sink.name, request->api->context.secrets);
    sink.document = err == ERR_OK ? json_to_text(document, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!sink.document) {
        http_problem_memory(response);
        return;
    }
    err = store_put_resource(request->api->context.store, STORE_SINKS, &sink, &put);
    sink.version = put.version;
    if (err == ERR_OK) {
        api_sink_answer_put(request, &sink, put.created, response);
    } else if (err == ERR_VERSION) {
        if_match_answer_changed(request, "sink", response);
    } else if (err == ERR_NOT_FOUND) {
        api_sink_answer_not_found(request, response);
    } else if (err == ERR_WRONG_STATE) {
        api_sink_answer_type(request, put.other_type, response);
    } else if (err == ERR_REFUSED) {
        http_problem(response, PROBLEM_STATE, "the fleet has %d sinks, the maximum",
                     STORE_SINKS_MAX);
    } else {
        http_problem_store(response, err);
    }
    free(sink.document);
    free(put.other_type);
}

static void api_sink_compare(const struct http_request *request, const json_t *document,
                             const struct store_resource *row, struct http_response *response) {
    char fault[SINK_DOCUMENT_FAULT_LEN];
    json_t *stored = row ? sink_view_open(request->api, row, fault) : NULL;
    json_t *stored_masked = stored ? sink_document_masked(stored) : NULL;
    json_t *masked = sink_document_masked(document);
    document_changes_answer(response, (struct document_side){stored, stored_masked},
                            (struct document_side){document, masked});
    json_decref(stored);
    json_decref(stored_masked);
    json_decref(masked);
}

void api_sink_put(struct http_request *request, struct http_response *response) {
    json_t *document = NULL;
    int64_t expected;
    bool dry_run;
    struct store_resource *rows = NULL;
    size_t n = 0;
    if (!api_sink_check_name(request, response) ||
        !if_match_read(request, "sink", &expected, response) ||
        !http_read_flag(request, "dry_run", &dry_run, response) ||
        !http_body_object(request, response, &document)) {
        return;
    }
    enum err err = store_resources(request->api->context.store, STORE_SINKS, request->parameter,
                                   &rows, &n, NULL);
    if (err != ERR_OK) {
        http_problem_store(response, err);
    } else if (!api_sink_check_document(request, document, n > 0 ? &rows[0] : NULL, response)) {
        /* answered */
    } else if (dry_run) {
        api_sink_compare(request, document, n > 0 ? &rows[0] : NULL, response);
    } else {
        api_sink_store(request, document, expected, response);
    }
    store_resources_free(rows, n);
    json_decref(document);
}

/* ---- deleting -------------------------------------------------------------------------------- */

struct api_sink_uses {
    const char *name;
    json_t *routes; /* indexes of those that name it */
};

static void api_sink_note_use(void *context, const struct api_routes_use *use) {
    struct api_sink_uses *uses = context;
    if (strcmp(use->sink, uses->name) == 0 && json_array_size(uses->routes) < USERS_SHOWN_MAX) {
        json_array_append_new(uses->routes, json_integer((json_int_t)use->route));
    }
}

/* text: the fields of a client or of a profile; NULL: none. */
static bool api_sink_is_named_by(const char *text, const char *name) {
    if (!text || !strstr(text, name)) {
        return false;
    }
    struct api_sink_uses uses = {name, json_array()};
    json_t *config = json_from_text(text, strlen(text), 0);
    const char *sink = json_string_value(json_object_get(config, "sink"));
    api_routes_each_use(json_object_get(config, "routes"), api_sink_note_use, &uses);
    bool named = (sink && strcmp(sink, name) == 0) || json_array_size(uses.routes) > 0;
    json_decref(uses.routes);
    json_decref(config);
    return named;
}

/* Adds the ids of clients that name it, USERS_SHOWN_MAX at most. */
static enum err api_sink_find_clients(struct store *store, enum store_client_state where,
                                      const char *name, json_t *users) {
    uint64_t cursor = 0;
    enum err err = ERR_OK;
    do { /* ends with the scan, or with enough of them */
        struct store_client *rows = NULL;
        size_t n = 0;
        err = store_page(store, where, &cursor, STORE_BATCH_MAX, &rows, &n, NULL);
        for (size_t i = 0; err == ERR_OK && i < n; i++) {
            if (json_array_size(users) < USERS_SHOWN_MAX &&
                api_sink_is_named_by(rows[i].config, name)) {
                json_array_append_new(users, http_json_string(rows[i].id));
            }
        }
        store_clients_free(rows, n);
    } while (err == ERR_OK && cursor != 0 && json_array_size(users) < USERS_SHOWN_MAX);
    return err;
}

static enum err api_sink_find_profiles(struct store *store, const char *name, json_t *users) {
    struct store_resource *rows;
    size_t n;
    enum err err = store_resources(store, STORE_PROFILES, NULL, &rows, &n, NULL);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        if (api_sink_is_named_by(rows[i].document, name)) {
            json_array_append_new(users, json_string(rows[i].name));
        }
    }
    store_resources_free(rows, n);
    return err;
}

static enum err api_sink_find_sinks(struct store *store, const char *name, json_t *users) {
    struct store_resource *rows;
    size_t n;
    enum err err = store_resources(store, STORE_SINKS, NULL, &rows, &n, NULL);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        json_t *document = json_from_text(rows[i].document, strlen(rows[i].document), 0);
        const char *other = json_string_value(json_object_get(document, "dead_letter"));
        if (other && strcmp(other, name) == 0) {
            json_array_append_new(users, json_string(rows[i].name));
        }
        json_decref(document);
    }
    store_resources_free(rows, n);
    return err;
}

/* Whether the routes of the fleet name it. */
static enum err api_sink_find_routes(struct store *store, const char *name, json_t *users) {
    struct api_sink_uses uses = {name, users};
    char *text;
    int64_t version;
    enum err err = store_routes(store, &text, &version);
    json_t *list = text ? json_from_text(text, strlen(text), 0) : NULL;
    api_routes_each_use(list, api_sink_note_use, &uses);
    json_decref(list);
    free(text);
    return err;
}

/* False: answered. */
static bool api_sink_is_unused(const struct http_request *request, struct http_response *response) {
    struct store *store = request->api->context.store;
    const char *name = request->parameter;
    json_t *clients = json_array(), *sinks = json_array(), *routes = json_array(),
           *profiles = json_array();
    enum err err = api_sink_find_clients(store, STORE_WAITING, name, clients);
    if (err == ERR_OK) {
        err = api_sink_find_clients(store, STORE_OWNED, name, clients);
    }
    if (err == ERR_OK) {
        err = api_sink_find_sinks(store, name, sinks);
    }
    if (err == ERR_OK) {
        err = api_sink_find_routes(store, name, routes);
    }
    if (err == ERR_OK) {
        err = api_sink_find_profiles(store, name, profiles);
    }
    size_t users = json_array_size(clients) + json_array_size(sinks) + json_array_size(routes) +
                   json_array_size(profiles);
    bool unused = err == ERR_OK && users == 0;
    if (err != ERR_OK) {
        http_problem_store(response, err);
    } else if (!unused) {
        http_problem(response, PROBLEM_IN_USE,
                     "clients, sinks, routes or profiles still name the sink %s: change them first",
                     name);
        http_problem_member(response, "clients", json_incref(clients));
        http_problem_member(response, "sinks", json_incref(sinks));
        http_problem_member(response, "routes", json_incref(routes));
        http_problem_member(response, "profiles", json_incref(profiles));
    }
    json_decref(clients);
    json_decref(sinks);
    json_decref(routes);
    json_decref(profiles);
    return unused;
}

void api_sink_delete(struct http_request *request, struct http_response *response) {
    int64_t expected;
    if (!if_match_read(request, "sink", &expected, response) ||
        !api_sink_is_unused(request, response)) {
        return;
    }
    enum err err = store_delete_resource(request->api->context.store, STORE_SINKS,
                                         request->parameter, expected);
    if (err == ERR_OK) {
        node_heartbeat_now(request->api->context.node);
        http_answer_empty(response, 204);
    } else if (err == ERR_VERSION) {
        if_match_answer_changed(request, "sink", response);
    } else if (err == ERR_NOT_FOUND) {
        api_sink_answer_not_found(request, response);
    } else {
        http_problem_store(response, err);
    }
}
