/* POST /api/v1/clients:apply: makes clients as the documents say, and tells what each changes; with
 * dry_run=true it only tells. A job: each document is compared with the stored one. */
#include "http/api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "cluster/operations/audit_record.h"
#include "http/api/clients/client_edit.h"
#include "http/api/document_changes.h"
#include "http/api/job.h"
#include "http/api/scope_gate.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "mqtt/config/client_secrets.h"

#define APPLY_CLIENTS_MAX 1000
#define TRIES_MAX         5 /* for a client that others change at the same time */

enum apply_outcome { APPLY_UNCHANGED, APPLY_CHANGED, APPLY_CREATED };
#define APPLY_OUTCOME_COUNT 3

static const char *const apply_names[APPLY_OUTCOME_COUNT] = {
    [APPLY_UNCHANGED] = "unchanged", [APPLY_CHANGED] = "changed", [APPLY_CREATED] = "created"};

struct apply {
    const struct http_request *request;
    const struct http_api *api;
    json_t *documents;
    bool dry_run, repaired;
    json_int_t counts[APPLY_OUTCOME_COUNT];
    json_t *results, *failed;
    size_t faults_left, change_bytes_left;
    char *record;    /* for the audit trail of a client that is created */
    enum err result; /* of the store: later documents are not tried */
};

struct apply_item {
    size_t index;
    const char *id; /* borrowed; NULL: the document has none */
    json_t *document;
};

/* ---- outcomes -------------------------------------------------------------------------------- */

/* Takes ownership of errors, which may be NULL. */
static void apply_fail(struct apply *apply, const struct apply_item *item,
                       enum http_problem problem, const char *detail, json_t *errors) {
    json_t *failure = json_pack("{s:I, s:o, s:i, s:o, s:o*}", "index", (json_int_t)item->index,
                                "id", item->id ? http_json_string(item->id) : json_null(), "status",
                                http_problem_status(problem), "detail", http_json_string(detail),
                                "errors", errors);
    json_array_append_new(apply->failed, failure);
}

static void apply_fail_with_faults(struct apply *apply, const struct apply_item *item,
                                   const struct client_faults *faults) {
    char prefix[24], detail[600];
    const struct client_fault *first = &faults->items[0];
    snprintf(prefix, sizeof prefix, "/%zu", item->index);
    snprintf(detail, sizeof detail, "%s%s%s", first->pointer, *first->pointer ? ": " : "",
             first->detail);
    apply_fail(apply, item, PROBLEM_INVALID, detail,
               http_faults_json(faults, prefix, &apply->faults_left));
}

/* Takes ownership of changes, which may be NULL. */
static void apply_note(struct apply *apply, const struct apply_item *item,
                       enum apply_outcome outcome, int64_t version, json_t *changes) {
    apply->counts[outcome]++;
    json_array_append_new(
        apply->results,
        json_pack("{s:I, s:o, s:s, s:o, s:o*}", "index", (json_int_t)item->index, "id",
                  http_json_string(item->id), "outcome", apply_names[outcome], "version",
                  version > 0 ? json_integer(version) : json_null(), "changes", changes));
}

static void apply_fail_identity(struct apply *apply, const struct apply_item *item,
                                const char *client_id, const char *other_id) {
    char detail[512];
    if (scope_gate_includes_id(apply->request, other_id)) {
        snprintf(detail, sizeof detail, "client_id %.128s at this broker belongs to client %.256s",
                 client_id, other_id ? other_id : "?");
    } else {
        snprintf(detail, sizeof detail,
                 "client_id %.128s is in use at this broker; use another one", client_id);
    }
    apply_fail(apply, item, PROBLEM_IDENTITY, detail, NULL);
}

/* ---- one document ---------------------------------------------------------------------------- */

/* ERR_VERSION: it exists by now. Other errors are of the store. */
static enum err apply_create(struct apply *apply, const struct apply_item *item) {
    struct client_input input;
    struct client_faults faults;
    struct store_create_result made = {0};
    size_t done = 0;
    json_t *document = json_whole_copy(item->document);
    enum err err = document
                       ? client_input_check(apply->api, &apply->request->caller.scope, document,
                                            CLIENT_FROM_API, NULL, apply->repaired, &input, &faults)
                       : ERR_MEMORY;
    if (err == ERR_ARGUMENT) {
        apply_fail_with_faults(apply, item, &faults);
    } else if (err == ERR_OK && apply->dry_run) {
        apply_note(apply, item, APPLY_CREATED, 0, NULL);
    } else if (err == ERR_OK) {
        struct store_create_item one = {input.config->id, input.text, input.identity,
                                        apply->record};
        err = store_create(apply->api->context.store, &one, 1, &made, &done);
    }
    if (done == 1 && made.outcome == STORE_IDENTITY_TAKEN) {
        apply_fail_identity(apply, item, input.config->client_id, made.other_id);
    } else if (done == 1 && made.outcome == STORE_OVER_QUOTA) {
        char detail[512];
        snprintf(detail, sizeof detail, QUOTA_CLIENTS_FAULT, made.other_id ? made.other_id : "?",
                 (long long)made.version);
        apply_fail(apply, item, PROBLEM_QUOTA, detail, NULL);
    } else if (done == 1 && made.outcome == STORE_CREATED) {
        apply_note(apply, item, APPLY_CREATED, made.version, NULL);
    } else if (done == 1) {
        err = ERR_VERSION;
    }
    free(made.other_id);
    if (document) {
        client_input_fini(&input);
    }
    json_decref(document);
    return err == ERR_ARGUMENT ? ERR_OK : err;
}

/* The text with open secrets, without what only mqfleet writes. NULL: it is no object. */
static json_t *apply_open_text(const struct apply *apply, const char *id, const char *text) {
    json_t *document = json_from_text(text, strlen(text), JSON_REJECT_DUPLICATES);
    client_secrets_open_document(document, id, apply->api->context.secrets);
    (void)json_object_del(document, "retired_filters");
    if (json_is_object(document) && !json_object_get(document, "id")) {
        json_object_set_new(document, "id", json_string(id)); /* its client_id is meant */
    }
    return document;
}

/* NULL: out of memory. */
static json_t *apply_changes(struct apply *apply, const struct store_client *row,
                             const char *text) {
    json_t *before = apply_open_text(apply, row->id, row->config);
    json_t *after = apply_open_text(apply, row->id, text);
    json_t *before_shown = before ? client_config_redacted(before) : json_object();
    json_t *after_shown = after ? client_config_redacted(after) : NULL;
    json_t *changes = NULL;
    if (after_shown && before_shown) {
        changes =
            document_changes((struct document_side){before, before_shown},
                             (struct document_side){after, after_shown}, &apply->change_bytes_left);
    }
    json_decref(before);
    json_decref(after);
    json_decref(before_shown);
    json_decref(after_shown);
    return changes;
}

/* Takes ownership of changes. ERR_VERSION: somebody else wrote. */
static enum err apply_store(struct apply *apply, const struct apply_item *item,
                            const struct client_edit *edit, json_t *changes) {
    char *other_id = NULL;
    int64_t version = 0;
    enum err err =
        client_edit_write(edit, apply->request->caller.name, "apply", &version, &other_id);
    if (err == ERR_OK) {
        apply_note(apply, item, APPLY_CHANGED, version, json_incref(changes));
    } else if (err == ERR_EXISTS) {
        apply_fail_identity(apply, item, edit->input.config->client_id, other_id);
        err = ERR_OK;
    }
    free(other_id);
    json_decref(changes);
    return err == ERR_NOT_FOUND ? ERR_VERSION : err;
}

static enum err apply_update(struct apply *apply, const struct apply_item *item,
                             const struct store_client *row) {
    struct client_edit edit = {
        .api = apply->api, .scope = &apply->request->caller.scope, .row = row};
    enum err err = client_edit_replace(&edit, item->document);
    json_t *changes = err == ERR_OK ? apply_changes(apply, row, edit.input.text) : NULL;
    if (err == ERR_ARGUMENT) {
        apply_fail_with_faults(apply, item, &edit.faults);
        err = ERR_OK;
    } else if (err == ERR_OK && !changes) {
        err = ERR_MEMORY;
    } else if (err == ERR_OK && json_array_size(changes) == 0) {
        apply_note(apply, item, APPLY_UNCHANGED, row->version, NULL);
        json_decref(changes);
    } else if (err == ERR_OK && apply->dry_run) {
        apply_note(apply, item, APPLY_CHANGED, row->version, changes);
    } else if (err == ERR_OK) {
        err = apply_store(apply, item, &edit, changes);
    }
    client_edit_fini(&edit);
    return err;
}

/* Not ERR_OK: the store does not answer, or memory is short. */
static enum err apply_one(struct apply *apply, const struct apply_item *item) {
    enum err err = ERR_VERSION;
    for (int tries = 0; err == ERR_VERSION && tries < TRIES_MAX; tries++) {
        struct store_client row = {0};
        err = store_get(apply->api->context.store, item->id, &row);
        if (err == ERR_NOT_FOUND) {
            err = apply_create(apply, item);
        } else if (err == ERR_OK && !scope_gate_includes(apply->request, &row)) {
            apply_fail(apply, item, PROBLEM_EXISTS, "this id is not available; use another one",
                       NULL);
        } else if (err == ERR_OK) {
            err = apply_update(apply, item, &row);
        }
        store_client_fini(&row);
    }
    if (err == ERR_VERSION) {
        apply_fail(apply, item, PROBLEM_VERSION, "others keep changing it; try again", NULL);
        err = ERR_OK;
    }
    return err;
}

/* ---- the request ----------------------------------------------------------------------------- */

static const char *apply_id_of(const json_t *document) {
    const char *id = json_string_value(json_object_get(document, "id"));
    return id ? id : json_string_value(json_object_get(document, "client_id"));
}

static void apply_run(const struct http_request *request, void *data) {
    struct apply *apply = data;
    size_t i;
    json_t *document;
    json_array_foreach(apply->documents, i, document) {
        struct apply_item item = {i, apply_id_of(document), document};
        if (apply->result == ERR_OK && http_request_is_cancelled((void *)request)) {
            apply->result = ERR_UNAVAILABLE;
        }
        if (!item.id) {
            apply_fail(apply, &item, PROBLEM_INVALID, "/id: must be a text", NULL);
        } else if (apply->result == ERR_OK) {
            apply->result = apply_one(apply, &item);
        }
        if (item.id && apply->result != ERR_OK) {
            apply_fail(apply, &item, http_problem_of_store(apply->result),
                       "not stored, or unknown; apply it again", NULL);
        }
    }
}

static void apply_answer(struct http_request *request, struct http_response *response, void *data) {
    struct apply *apply = data;
    (void)request;
    http_answer_json(response, json_array_size(apply->failed) > 0 ? 207 : 200,
                     json_pack("{s:b, s:I, s:I, s:I, s:O, s:O}", "dry_run", apply->dry_run,
                               "created", apply->counts[APPLY_CREATED], "changed",
                               apply->counts[APPLY_CHANGED], "unchanged",
                               apply->counts[APPLY_UNCHANGED], "results", apply->results, "failed",
                               apply->failed));
}

static void apply_free(void *data) {
    struct apply *apply = data;
    json_decref(apply->documents);
    json_decref(apply->results);
    json_decref(apply->failed);
    free(apply->record);
    free(apply);
}

/* The array of documents; NULL: answered. */
static json_t *apply_read_body(struct http_request *request, bool *repaired,
                               struct http_response *response) {
    json_t *documents = NULL;
    if (!http_body_json(request, response, &documents, repaired)) {
        return NULL;
    }
    size_t n = json_array_size(documents);
    if (json_is_array(documents) && n <= APPLY_CLIENTS_MAX) {
        return documents;
    }
    if (n > APPLY_CLIENTS_MAX) {
        http_problem(response, PROBLEM_TOO_LARGE, "%zu clients in one request; at most %d", n,
                     APPLY_CLIENTS_MAX);
    } else {
        struct client_faults faults = {.count = 0};
        http_fault_add(&faults, "", "must be an array of clients");
        http_problem_faults(response, &faults);
    }
    json_decref(documents);
    return NULL;
}

void api_clients_apply(struct http_request *request, struct http_response *response) {
    bool dry_run, repaired = false;
    json_t *documents = http_read_flag(request, "dry_run", &dry_run, response)
                            ? apply_read_body(request, &repaired, response)
                            : NULL;
    if (!documents) {
        return;
    }
    struct apply *apply = calloc(1, sizeof *apply);
    char *record =
        audit_record(&(struct audit_change){.by = request->caller.name, .action = "apply"});
    if (!apply || !record) {
        json_decref(documents);
        free(apply);
        free(record);
        http_problem_memory(response);
        return;
    }
    *apply = (struct apply){.request = request,
                            .api = request->api,
                            .documents = documents,
                            .dry_run = dry_run,
                            .repaired = repaired,
                            .results = json_array(),
                            .failed = json_array(),
                            .faults_left = HTTP_FAULTS_MAX,
                            .change_bytes_left = DOCUMENT_CHANGES_BYTES_MAX,
                            .record = record};
    http_set_audit_subject(request, documents);
    http_job_start(request, response,
                   &(struct http_job_plan){apply_run, apply_answer, apply, apply_free});
}
