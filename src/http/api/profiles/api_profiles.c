/* /api/v1/client-profiles: fields that clients share. Handler threads; a change or a delete looks
 * at all clients first, in a job. */
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/system/out_of_memory.h"
#include "base/text.h"
#include "http/api/document_changes.h"
#include "http/api/if_match.h"
#include "http/api/job.h"
#include "http/api/profiles/profile_users.h"
#include "http/api/sinks/api_routes.h"
#include "http/api/sinks/sink_view.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "mqtt/config/client_profiles.h"

#define TYPE              "client" /* of the stored resource */
#define DOCUMENT_MAX      262144
#define UNCONDITIONAL_MAX 3 /* attempts of a write without If-Match */

/* ---- reading --------------------------------------------------------------------------------- */

static json_t *api_profile_json(const struct store_resource *row) {
    json_t *document = json_from_text(row->document, strlen(row->document), 0);
    json_t *shown = json_is_object(document) ? client_config_redacted(document) : json_null();
    json_decref(document);
    return json_pack("{s:s, s:I, s:o}", "name", row->name, "version", (json_int_t)row->version,
                     "config", shown);
}

void api_profiles_list(struct http_request *request, struct http_response *response) {
    struct store_resource *rows;
    size_t n;
    enum err err =
        store_resources(request->api->context.store, STORE_PROFILES, NULL, &rows, &n, NULL);
    if (err != ERR_OK) {
        http_problem_store(response, err);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, api_profile_json(&rows[i]));
    }
    store_resources_free(rows, n);
    http_answer_json(response, 200, json_pack("{s:o}", "profiles", list));
}

static void api_profile_answer_not_found(const struct http_request *request,
                                         struct http_response *response) {
    http_problem(response, PROBLEM_NOT_FOUND, "there is no client profile %s", request->parameter);
}

void api_profile_get(struct http_request *request, struct http_response *response) {
    struct store_resource *rows;
    size_t n;
    enum err err = store_resources(request->api->context.store, STORE_PROFILES, request->parameter,
                                   &rows, &n, NULL);
    if (err != ERR_OK) {
        http_problem_store(response, err);
    } else if (n == 0) {
        api_profile_answer_not_found(request, response);
    } else {
        http_answer_json(response, 200, api_profile_json(&rows[0]));
        http_answer_header(response, "ETag", "\"%lld\"", (long long)rows[0].version);
    }
    store_resources_free(rows, n);
}

/* ---- a change or a delete -------------------------------------------------------------------- */

struct profile_change {
    struct http_request *request;
    json_t *body; /* NULL: a delete */
    bool dry_run; /* store nothing */
    int64_t expected;
    struct profile_users users;

    /* the present one */
    struct store_resource *rows;
    size_t row_count;
    struct client_profile *before, *next;
    char *text; /* of next, as it is stored */

    enum err result; /* ERR_ARGUMENT: faults; ERR_REFUSED: the users; ERR_FULL: too many profiles */
    struct client_faults faults;
    struct store_put put;
};

static void api_profile_change_forget(struct profile_change *change) {
    store_resources_free(change->rows, change->row_count);
    client_profile_release(change->before);
    client_profile_release(change->next);
    profile_users_fini(&change->users);
    free(change->text);
    change->rows = NULL;
    change->row_count = 0;
    change->before = change->next = NULL;
    change->users = (struct profile_users){.request = change->request};
    change->text = NULL;
}

static void api_profile_change_destroy(void *data) {
    struct profile_change *change = data;
    api_profile_change_forget(change);
    json_decref(change->body);
    free(change);
}

static enum err api_profile_read_present(struct profile_change *change) {
    const struct http_context *context = &change->request->api->context;
    enum err err = store_resources(context->store, STORE_PROFILES, change->request->parameter,
                                   &change->rows, &change->row_count, NULL);
    if (err != ERR_OK || change->row_count == 0) {
        return err != ERR_OK ? err : !change->body || change->expected ? ERR_NOT_FOUND : ERR_OK;
    }
    const struct store_resource *row = &change->rows[0];
    if (change->expected != 0 && change->expected != row->version) {
        return ERR_VERSION;
    }
    json_t *stored = json_from_text(row->document, strlen(row->document), 0);
    if (json_is_object(stored)) {
        change->before = client_profile_create(row->name, row->version, stored, context->secrets);
        err = change->before ? ERR_OK : ERR_MEMORY;
    }
    json_decref(stored);
    return err;
}

/* Whether nothing would change, not even the key of a secret. The stored text then stays. */
static bool api_profile_is_unchanged(const struct profile_change *change) {
    const struct client_profile *before = change->before, *next = change->next;
    return before && json_equal(before->fields, next->fields) &&
           before->keys.count == next->keys.count &&
           (next->keys.count == 0 || memcmp(&before->keys, &next->keys, sizeof next->keys) == 0);
}

/* A client with the profile would wait for a sink that does not exist, or its messages would. */
static void api_profile_check_sinks(const struct http_api *api, const json_t *document,
                                    struct client_faults *faults) {
    const char *sink = json_string_value(json_object_get(document, "sink"));
    if (sink && *sink && !sink_view_exists(api, sink)) {
        http_fault_add(faults, "/sink", "there is no sink %s; see GET /api/v1/sinks", sink);
    }
    api_routes_check_sinks(api, json_object_get(document, "routes"), faults);
}

/* The body with the secrets that it keeps, encrypted. */
static enum err api_profile_prepare(struct profile_change *change) {
    const char *name = change->request->parameter;
    struct secret_box *secrets = change->request->api->context.secrets;
    json_t *document = json_whole_copy(change->body);
    enum err err = document ? ERR_OK : ERR_MEMORY;
    if (err == ERR_OK && change->before) {
        client_config_keep_secrets(document, change->before->stored);
    }
    change->faults.count = 0;
    if (err == ERR_OK) {
        client_profile_check(document, &change->faults);
        if (change->faults.count == 0) {
            api_profile_check_sinks(change->request->api, document, &change->faults);
        }
        err = change->faults.count > 0 ? ERR_ARGUMENT : ERR_OK;
    }
    if (err == ERR_OK && change->before) {
        err = client_profile_retire(document, change->before->stored);
    }
    if (err == ERR_OK) {
        err = client_profile_seal(document, name, secrets, NULL, &change->faults);
    }
    if (err == ERR_OK) {
        change->next = client_profile_create(name, 0, document, secrets);
        change->text = client_config_canonical(document);
        err = change->next && change->text && !out_of_memory_seen() ? ERR_OK : ERR_MEMORY;
    }
    if (err == ERR_OK && strlen(change->text) > DOCUMENT_MAX) {
        http_fault_add(&change->faults, "", "must have at most %d bytes", DOCUMENT_MAX);
        err = ERR_ARGUMENT;
    }
    json_decref(document);
    return err;
}

static enum err api_profile_find_users(struct profile_change *change) {
    change->users.request = change->request;
    change->users.name = change->request->parameter;
    change->users.before = change->before;
    change->users.next = change->next;
    enum err err = profile_users_find(&change->users);
    bool refused = change->body ? change->users.fault_count > 0 : change->users.count > 0;
    return err == ERR_OK && refused ? ERR_REFUSED : err;
}

/* Over the version that was read, so that no other change is lost. */
static enum err api_profile_store(struct profile_change *change) {
    struct store *store = change->request->api->context.store;
    struct store_resource row = {
        .name = change->request->parameter, .type = TYPE, .document = change->text};
    change->put.expected_version = change->row_count > 0 ? change->rows[0].version : 0;
    if (!change->body) {
        return store_delete_resource(store, STORE_PROFILES, row.name, change->rows[0].version);
    }
    if (api_profile_is_unchanged(change)) {
        change->put.version = change->rows[0].version;
        return ERR_OK;
    }
    enum err err = store_put_resource(store, STORE_PROFILES, &row, &change->put);
    free(change->put.other_type);
    change->put.other_type = NULL;
    return err == ERR_REFUSED ? ERR_FULL : err;
}

static enum err api_profile_try(struct profile_change *change) {
    enum err err = api_profile_read_present(change);
    if (err == ERR_OK && change->body) {
        err = api_profile_prepare(change);
    }
    if (err == ERR_OK) {
        err = api_profile_find_users(change);
    }
    return err == ERR_OK && !change->dry_run ? api_profile_store(change) : err;
}

static void api_profile_run(const struct http_request *request, void *data) {
    struct profile_change *change = data;
    (void)request;
    change->result = api_profile_try(change);
    for (int tries = 1;
         change->result == ERR_VERSION && change->expected == 0 && tries < UNCONDITIONAL_MAX;
         tries++) {
        api_profile_change_forget(change);
        change->result = api_profile_try(change);
    }
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void api_profile_answer_users(const struct profile_change *change,
                                     struct http_response *response) {
    const struct profile_users *users = &change->users;
    if (change->body) {
        http_problem(response, PROBLEM_INVALID,
                     "nothing was changed: with this profile, %zu of its %zu clients would not be "
                     "valid",
                     users->fault_count, users->count);
        http_problem_member(response, "invalid", json_integer((json_int_t)users->fault_count));
        http_problem_member(response, "clients", json_incref(users->faults));
    } else {
        http_problem(response, PROBLEM_IN_USE, "%zu clients name the profile %s: change them first",
                     users->count, change->request->parameter);
        http_problem_member(response, "count", json_integer((json_int_t)users->count));
        http_problem_member(response, "clients", json_incref(users->ids));
    }
}

static void api_profile_answer_done(struct profile_change *change, struct http_response *response) {
    struct http_request *request = change->request;
    struct store_resource row = {
        .name = request->parameter, .document = change->text, .version = change->put.version};
    if (!change->body) {
        client_profiles_remove(row.name, change->rows[0].version);
        http_answer_empty(response, 204);
    } else {
        enum err err = client_profiles_put(
            &(struct client_profile_row){row.name, row.document, row.version}, false);
        (void)err; /* the next heartbeat makes this node read it again */
        json_t *json = api_profile_json(&row);
        json_object_set_new(json, "clients", json_integer((json_int_t)change->users.count));
        http_answer_json(response, change->put.created ? 201 : 200, json);
        http_answer_header(response, "ETag", "\"%lld\"", (long long)row.version);
    }
    node_heartbeat_now(request->api->context.node); /* its answer makes this node apply it */
}

static void api_profile_answer_compared(const struct profile_change *change,
                                        struct http_response *response) {
    json_t *before = change->before ? change->before->fields : NULL, *after = change->next->fields;
    json_t *before_shown = before ? client_config_redacted(before) : NULL;
    json_t *after_shown = client_config_redacted(after);
    document_changes_answer(response, (struct document_side){before, before_shown},
                            (struct document_side){after, after_shown});
    if (response->status == 200) {
        json_object_set_new(response->json, "clients",
                            json_integer((json_int_t)change->users.count));
    }
    json_decref(before_shown);
    json_decref(after_shown);
}

static void api_profile_answer(struct http_request *request, struct http_response *response,
                               void *data) {
    struct profile_change *change = data;
    switch (change->result) {
    case ERR_OK:
        if (change->dry_run) {
            api_profile_answer_compared(change, response);
        } else {
            api_profile_answer_done(change, response);
        }
        break;
    case ERR_ARGUMENT:
        http_problem_faults(response, &change->faults);
        break;
    case ERR_REFUSED:
        api_profile_answer_users(change, response);
        break;
    case ERR_NOT_FOUND:
        api_profile_answer_not_found(request, response);
        break;
    case ERR_VERSION:
        if_match_answer_changed(request, "profile", response);
        break;
    case ERR_FULL:
        http_problem(response, PROBLEM_STATE,
                     "the fleet has %d profiles, or %d bytes of them, the maximum",
                     STORE_PROFILES_MAX, STORE_PROFILES_BYTES_MAX);
        break;
    case ERR_CANCELED:
        http_problem(response, PROBLEM_STOPPING, "the node is stopping; nothing was changed");
        break;
    default:
        http_problem_store(response, change->result);
        break;
    }
}

/* Takes over the body. */
static void api_profile_begin(struct http_request *request, struct http_response *response,
                              json_t *body, bool dry_run, int64_t expected) {
    struct profile_change *change = calloc(1, sizeof *change);
    if (!change) {
        json_decref(body);
        http_problem_memory(response);
        return;
    }
    change->request = request;
    change->body = body;
    change->dry_run = dry_run;
    change->expected = expected;
    http_job_start(request, response,
                   &(struct http_job_plan){api_profile_run, api_profile_answer, change,
                                           api_profile_change_destroy});
}

void api_profile_put(struct http_request *request, struct http_response *response) {
    json_t *body = NULL;
    int64_t expected;
    bool dry_run;
    if (!client_profile_name_is_valid(request->parameter)) {
        http_problem(response, PROBLEM_BAD_REQUEST,
                     "the name of a profile must be " CLIENT_PROFILE_NAME_FORMAT);
    } else if (if_match_read(request, "profile", &expected, response) &&
               http_read_flag(request, "dry_run", &dry_run, response) &&
               http_body_object(request, response, &body)) {
        api_profile_begin(request, response, body, dry_run, expected);
    }
}

void api_profile_delete(struct http_request *request, struct http_response *response) {
    int64_t expected;
    if (if_match_read(request, "profile", &expected, response)) {
        api_profile_begin(request, response, NULL, false, expected);
    }
}
