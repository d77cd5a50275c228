/* The checks of a configuration before it is stored. No state; handler threads. */
#include "http/api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/system/out_of_memory.h"
#include "cluster/resources/profile_reader.h"
#include "http/api/sinks/api_routes.h"
#include "http/api/sinks/sink_view.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "mqtt/config/client_profile.h"
#include "mqtt/config/client_secrets.h"
#include "mqtt/tls_check.h"
#include "sink/sink.h"

bool http_body_json(const struct http_request *request, struct http_response *response,
                    json_t **out, bool *repaired) {
    char detail[HTTP_JSON_DETAIL_LEN];
    switch (http_json_parse(request->body.data, request->body.len, out, repaired, detail)) {
    case ERR_OK:
        return true;
    case ERR_FULL:
        http_problem(response, PROBLEM_TOO_LARGE, "the body has %s", detail);
        return false;
    case ERR_ARGUMENT:
        http_problem(response, PROBLEM_BAD_JSON, "%s", detail);
        return false;
    default:
        http_problem_memory(response);
        return false;
    }
}

bool http_read_flag(const struct http_request *request, const char *name, bool *out,
                    struct http_response *response) {
    if (http_query_flag(&request->query, name, out) == ERR_OK) {
        return true;
    }
    http_problem(response, PROBLEM_BAD_REQUEST, "%s: must be true or false", name);
    return false;
}

void http_set_audit_subject(struct http_request *request, const json_t *document) {
    size_t n = json_is_array(document) ? json_array_size(document) : 1;
    size_t len = 0, room = sizeof(request->audit_subject);
    if (n > 1) {
        len = (size_t)snprintf(request->audit_subject, room, "%zu clients: ", n);
    }
    for (size_t i = 0; i < n && len + 1 < room; i++) {
        const json_t *client = json_is_array(document) ? json_array_get(document, i) : document;
        const json_t *id = json_object_get(client, "id");
        id = id ? id : json_object_get(client, "client_id");
        len += (size_t)snprintf(request->audit_subject + len, room - len, "%s%s", i > 0 ? " " : "",
                                json_is_string(id) ? json_string_value(id) : "?");
    }
}

bool http_body_object(const struct http_request *request, struct http_response *response,
                      json_t **out) {
    bool repaired;
    if (!http_body_json(request, response, out, &repaired)) {
        return false;
    }
    struct client_faults faults = {.count = 0};
    if (!json_is_object(*out)) {
        http_fault_add(&faults, "", "must be an object");
    } else if (repaired) {
        http_json_text_faults(*out, repaired, &faults);
    }
    if (faults.count > 0) {
        http_problem_faults(response, &faults);
        json_decref(*out);
        *out = NULL;
        return false;
    }
    return true;
}

void client_input_check_settings(const struct http_api *api, const json_t *document,
                                 const struct client_config *config, struct client_faults *faults) {
    const char *why = NULL;
    for (size_t i = 0; i < config->url_count; i++) {
        if (!address_policy_host(api->address_policy, config->urls[i].host, &why)) {
            char place[sizeof("/urls/") + 20];
            snprintf(place, sizeof(place), "/urls/%zu", i);
            http_fault_add(faults, place, "must be omitted: %s", why);
        }
    }
    if (config->url_count == 0 && !address_policy_host(api->address_policy, config->host, &why)) {
        const char *pointer = json_object_get(document, "url") ? "/url" : "/broker";
        http_fault_add(faults, pointer, "must be omitted: %s", why);
    }
    if (config->sink && !sink_view_exists(api, config->sink)) {
        http_fault_add(faults, "/sink", "there is no sink %s; see GET /api/v1/sinks", config->sink);
    }
    api_routes_check_sinks(api, json_object_get(document, "routes"), faults);
    client_secrets_check(config, api->context.conf, faults);
}

/* What a caller with a scope may write. */
static void client_input_check_scope(const struct scope *scope, bool labelled,
                                     const struct client_config *config,
                                     struct client_faults *faults) {
    char pointer[sizeof "/labels/" + CLIENT_LABEL_NAME_MAX];
    if (!labelled) {
        snprintf(pointer, sizeof pointer, "/labels/%s", scope->label);
        http_fault_add(faults, pointer, "must be %.128s, the scope of the token, or be omitted",
                       scope->value);
    }
    const struct client_profile *profile = config->profile;
    if (scope_is_set(scope) && profile && client_profile_has_secrets(profile) &&
        !client_profile_has_label(profile, scope->label, scope->value)) {
        http_fault_add(faults, "/profile",
                       "must be a profile with the label %.128s=%.128s, or without secrets: the "
                       "token has that scope",
                       scope->label, scope->value);
    }
    const char *key = client_config_tls(config)->key;
    bool shared = client_secrets_on_other_node(config) || (key && key[0] == '/');
    if (scope_is_set(scope) && shared) {
        http_fault_add(faults, "",
                       "must have its secrets in the document: with a scope, a token may not refer "
                       "to files and variables of the nodes, which are those of the whole fleet");
    }
    const struct route_table *routes = client_config_routes(config);
    if (scope_is_set(scope) && routes && route_table_has_script(routes)) {
        http_fault_add(faults, "/routes",
                       "must have no lua: with a scope, a token may not run scripts on the nodes");
    }
}

enum err client_input_check(const struct http_api *api, const struct scope *scope, json_t *document,
                            enum client_source source, const char *id_hint, bool repaired,
                            struct client_input *out, struct client_faults *faults) {
    *out = (struct client_input){0};
    faults->count = 0;
    if (!json_is_object(document)) {
        http_fault_add(faults, "", "must be an object");
        return ERR_ARGUMENT;
    }
    bool labelled = scope_force_label(scope, document);
    profile_reader_freshen(api->context.store, document);
    enum err err = client_config_parse(document, source, id_hint, &out->config, faults);
    if (err != ERR_OK && err != ERR_ARGUMENT) {
        return err;
    }
    http_json_text_faults(document, repaired, faults);
    if (faults->count == 0) {
        client_input_check_scope(scope, labelled, out->config, faults);
        client_input_check_settings(api, document, out->config, faults);
        tls_check(out->config, api->context.conf, faults);
    }
    if (faults->count > 0) {
        return ERR_ARGUMENT;
    }
    err = client_secrets_seal(document, out->config->id, api->context.secrets, NULL, faults);
    if (err != ERR_OK) {
        return err;
    }
    out->text = client_config_canonical(document);
    out->identity = client_config_identity(out->config);
    /* A text that may be incomplete is not stored. */
    bool whole =
        out->text && out->identity && !out_of_memory_seen() && scope_includes(scope, out->config);
    return whole ? ERR_OK : ERR_MEMORY;
}

void client_input_fini(struct client_input *input) {
    client_config_destroy(input->config);
    free(input->text);
    free(input->identity);
    *input = (struct client_input){0};
}

/* Ignores the members that the API itself adds. The desired state is not a part of the
 * configuration: a document without it is equal whether the client runs or is paused. */
bool client_input_is_same(const struct http_api *api, const struct store_client *stored,
                          const char *text) {
    json_t *theirs = json_from_text(stored->config, stored->config_len, JSON_REJECT_DUPLICATES);
    json_t *ours = json_from_text(text, strlen(text), JSON_REJECT_DUPLICATES);
    client_secrets_open_document(theirs, stored->id, api->context.secrets);
    client_secrets_open_document(ours, stored->id, api->context.secrets);
    (void)json_object_del(theirs, "retired_filters");
    const char *desired = json_string_value(json_object_get(ours, "desired"));
    if (!desired) {
        (void)json_object_del(theirs, "desired");
    } else if (strcmp(desired, client_desired_name(DESIRED_RUNNING)) == 0 &&
               !json_object_get(theirs, "desired")) {
        (void)json_object_del(ours, "desired");
    }
    bool same = json_is_object(theirs) && json_is_object(ours) && json_equal(theirs, ours);
    json_decref(theirs);
    json_decref(ours);
    return same;
}

struct store_client client_input_row(const struct client_input *input, int64_t version) {
    return (struct store_client){.id = input->config->id,
                                 .state = STORE_WAITING,
                                 .config = input->text,
                                 .config_len = strlen(input->text),
                                 .version = version};
}
