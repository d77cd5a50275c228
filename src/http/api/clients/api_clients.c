/* POST /api/v1/clients: creates one client or many. Only stores the clients; the leader assigns
 * them. Runs on handler threads. */
#include "http/api/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/percent.h"
#include "base/system/json_memory.h"
#include "base/text.h"
#include "cluster/operations/audit_record.h"
#include "http/api/clients/client_waits.h"
#include "http/api/scope_gate.h"
#include "http/server/json.h"
#include "http/server/problem.h"

/* ---- outcome of an item ---------------------------------------------------------------------- */

struct create_item {
    struct client_input input;
    enum { ITEM_CREATED, ITEM_UNCHANGED, ITEM_FAILED } outcome;
    int64_t version;
    enum http_problem problem; /* ITEM_FAILED from here on */
    char detail[512];
    json_t *errors; /* NULL: none */
};

static void api_clients_item_fail(struct create_item *item, enum http_problem problem,
                                  const char *format, ...) __attribute__((format(printf, 3, 4)));

static void api_clients_item_fail(struct create_item *item, enum http_problem problem,
                                  const char *format, ...) {
    item->outcome = ITEM_FAILED;
    item->problem = problem;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(item->detail, sizeof(item->detail), format, arguments);
    va_end(arguments);
}

static void api_clients_item_fini(struct create_item *item) {
    client_input_fini(&item->input);
    json_decref(item->errors);
}

/* Replaces the masks in a document, as the API shows it, by the secrets of the stored client.
 * False: there is no such client that the caller may see. */
static bool api_clients_item_keep_secrets(const struct http_request *request, json_t *document) {
    const char *id = json_string_value(json_object_get(document, "id"));
    struct store_client row = {0};
    id = id ? id : json_string_value(json_object_get(document, "client_id"));
    bool kept = id && store_get(request->api->context.store, id, &row) == ERR_OK &&
                scope_gate_includes(request, &row);
    json_t *stored =
        kept ? json_from_text(row.config, row.config_len, JSON_REJECT_DUPLICATES) : NULL;
    if (stored) {
        client_config_keep_secrets(document, stored);
    }
    json_decref(stored);
    store_client_fini(&row);
    return kept;
}

/* The documents of a request. */
struct create_input {
    const struct http_request *request;
    bool repaired;
    size_t *faults_left; /* as of http_faults_json */
    char *record;        /* for the audit trail of each client */
};

/* False: out of memory; free the record. */
static bool api_clients_input_init(struct create_input *input, const struct http_request *request,
                                   bool repaired) {
    struct audit_change change = {.by = request->caller.name, .action = "create"};
    *input = (struct create_input){request, repaired, NULL, audit_record(&change)};
    return input->record != NULL;
}

/* Checks one document; false: the item has failed. prefix: of the pointers to its faults. */
static bool api_clients_item_check(struct create_item *item, const struct create_input *input,
                                   json_t *document, const char *prefix) {
    const struct http_request *request = input->request;
    struct client_faults faults;
    enum err err =
        client_input_check(request->api, &request->caller.scope, document, CLIENT_FROM_API, NULL,
                           input->repaired, &item->input, &faults);
    if (err == ERR_ARGUMENT && api_clients_item_keep_secrets(request, document)) {
        client_input_fini(&item->input);
        err = client_input_check(request->api, &request->caller.scope, document, CLIENT_FROM_API,
                                 NULL, input->repaired, &item->input, &faults);
    }
    if (err == ERR_ARGUMENT) {
        const struct client_fault *first = &faults.items[0];
        api_clients_item_fail(item, PROBLEM_INVALID, "%s%s%s", first->pointer,
                              *first->pointer ? ": " : "", first->detail);
        item->errors = http_faults_json(&faults, prefix, input->faults_left);
    } else if (err != ERR_OK) {
        api_clients_item_fail(item, err == ERR_MEMORY ? PROBLEM_MEMORY : PROBLEM_INTERNAL, "%s",
                              err_name(err));
    }
    return err == ERR_OK;
}

/* The id exists with another text, which may be the same configuration in another spelling. */
static void api_clients_item_compare(struct create_item *item, const struct http_request *request) {
    const struct http_api *api = request->api;
    const char *id = item->input.config->id;
    struct store_client row = {0};
    enum err err = store_get(api->context.store, id, &row);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        api_clients_item_fail(item, http_problem_of_store(err), "client %s: %s", id, err_name(err));
    } else if (err == ERR_OK && !scope_gate_includes(request, &row)) {
        api_clients_item_fail(item, PROBLEM_EXISTS, "this id is not available; use another one");
    } else if (err == ERR_OK && client_input_is_same(api, &row, item->input.text)) {
        item->outcome = ITEM_UNCHANGED;
        item->version = row.version;
    } else {
        api_clients_item_fail(item, PROBLEM_EXISTS,
                              "client %s has another configuration; PUT replaces it", id);
    }
    store_client_fini(&row);
}

static void api_clients_item_fail_identity(struct create_item *item,
                                           const struct http_request *request,
                                           const char *other_id) {
    const char *client_id = item->input.config->client_id;
    if (scope_gate_includes_id(request, other_id)) {
        api_clients_item_fail(item, PROBLEM_IDENTITY,
                              "client_id %.128s at this broker belongs to client %.256s", client_id,
                              other_id ? other_id : "?");
    } else {
        api_clients_item_fail(item, PROBLEM_IDENTITY,
                              "client_id %.128s is in use at this broker; use another one",
                              client_id);
    }
}

static void api_clients_item_set_outcome(struct create_item *item,
                                         const struct http_request *request,
                                         struct store_create_result *result) {
    item->version = result->version;
    switch (result->outcome) {
    case STORE_CREATED:
        item->outcome = ITEM_CREATED;
        break;
    case STORE_UNCHANGED:
        item->outcome = ITEM_UNCHANGED;
        break;
    case STORE_OTHER_CONFIG:
        api_clients_item_compare(item, request);
        break;
    case STORE_IDENTITY_TAKEN:
        api_clients_item_fail_identity(item, request, result->other_id);
        break;
    case STORE_OVER_QUOTA:
        api_clients_item_fail(item, PROBLEM_QUOTA, QUOTA_CLIENTS_FAULT,
                              result->other_id ? result->other_id : "?",
                              (long long)result->version);
        break;
    }
    free(result->other_id);
    result->other_id = NULL;
}

static struct store_create_item api_clients_item_new(const struct create_item *item,
                                                     const char *record) {
    return (struct store_create_item){.id = item->input.config->id,
                                      .config = item->input.text,
                                      .identity = item->input.identity,
                                      .record = record};
}

/* ---- one ------------------------------------------------------------------------------------- */

/* The answer for a stored client. */
struct stored_client {
    bool created;
    int64_t version;
    char *id;
    json_t *document; /* of a client that was just created */
};

static void api_clients_stored_free(void *data) {
    struct stored_client *stored_client = data;
    free(stored_client->id);
    json_decref(stored_client->document);
    free(stored_client);
}

/* NULL: out of memory. */
static struct stored_client *api_clients_stored_create(const struct http_api *api,
                                                       const struct create_item *item) {
    struct store_client row = client_input_row(&item->input, item->version);
    struct stored_client *stored_client = calloc(1, sizeof *stored_client);
    if (stored_client) {
        stored_client->created = item->outcome == ITEM_CREATED;
        stored_client->version = item->version;
        stored_client->id = text_dup(item->input.config->id);
        stored_client->document = client_view_render(api, &row, NULL);
    }
    return stored_client;
}

/* Takes ownership of document. */
static void api_clients_stored_answer(const struct stored_client *stored_client, json_t *document,
                                      struct http_response *response) {
    http_answer_json(response, stored_client->created ? 201 : 200, document);
    http_answer_header(response, "ETag", "\"%lld\"", (long long)stored_client->version);
    char *escaped =
        stored_client->created && stored_client->id ? percent_encode(stored_client->id) : NULL;
    if (escaped) {
        http_answer_header(response, "Location", "/api/v1/clients/%s", escaped);
    }
    free(escaped);
}

static void api_clients_stored_answer_status(struct http_request *request,
                                             struct http_response *response,
                                             struct peer_proxy_rows *rows, void *context) {
    (void)request;
    api_clients_stored_answer(
        context, client_view_render(request->api, &rows->rows[0], rows->statuses[0]), response);
    rows->statuses[0] = NULL;
}

/* Asks Redis and the owner. */
static void api_clients_stored_ask_owner(struct http_request *request,
                                         struct http_response *response, struct store_client *row,
                                         struct stored_client *stored_client) {
    struct store_client *rows = malloc(sizeof *rows);
    struct stored_client *moved = malloc(sizeof *moved);
    if (!rows || !moved) {
        free(rows);
        free(moved);
        http_problem_memory(response);
        return;
    }
    *rows = *row;
    *moved = *stored_client;
    *row = (struct store_client){0};
    *stored_client = (struct stored_client){0};
    peer_proxy_statuses(request, response, rows, 1, api_clients_stored_answer_status, moved,
                        api_clients_stored_free);
}

/* Without a wait, a client that was just created is waiting; its status needs no call. */
static void api_clients_stored_wait_ended(struct http_request *request,
                                          struct http_response *response, void *context) {
    struct stored_client *stored_client = context;
    struct store_client row = {0};
    bool ask = request->wait_ms > 0 || !stored_client->created;
    if (ask && stored_client->id &&
        store_get(request->api->context.store, stored_client->id, &row) == ERR_OK) {
        api_clients_stored_ask_owner(request, response, &row, stored_client);
    } else {
        api_clients_stored_answer(stored_client, stored_client->document, response);
        stored_client->document = NULL;
    }
    store_client_fini(&row);
}

static void api_clients_answer_stored(struct http_request *request, const struct create_item *item,
                                      struct http_response *response) {
    const char *id = item->input.config->id;
    struct stored_client *stored_client = api_clients_stored_create(request->api, item);
    if (!stored_client) {
        http_problem_memory(response);
        return;
    }
    client_waits_begin(request, response,
                       &(struct client_wait_plan){.ids = &id,
                                                  .n = 1,
                                                  .version = item->version,
                                                  .then = api_clients_stored_wait_ended,
                                                  .context = stored_client,
                                                  .free_context = api_clients_stored_free});
}

static void api_clients_answer_failed(const struct create_item *item,
                                      struct http_response *response) {
    http_problem(response, item->problem, "%s", item->detail);
    if (item->errors) {
        http_problem_member(response, "errors", json_incref(item->errors));
    }
}

/* False: answered, with an error. */
static bool api_clients_store_one(const struct create_input *input, struct create_item *item,
                                  struct http_response *response) {
    struct store_create_item made = api_clients_item_new(item, input->record);
    struct store_create_result result = {0};
    size_t done = 0;
    enum err err = store_create(input->request->api->context.store, &made, 1, &result, &done);
    if (done != 1) {
        http_problem_store(response, err != ERR_OK ? err : ERR_PROTOCOL);
        return false;
    }
    api_clients_item_set_outcome(item, input->request, &result);
    if (item->outcome == ITEM_FAILED) {
        api_clients_answer_failed(item, response);
    }
    return item->outcome != ITEM_FAILED;
}

static void api_clients_create_one(struct http_request *request, json_t *document, bool repaired,
                                   struct http_response *response) {
    struct create_item item = {0};
    struct create_input input;
    if (!api_clients_input_init(&input, request, repaired)) {
        http_problem_memory(response);
        return;
    }
    if (!api_clients_item_check(&item, &input, document, "")) {
        api_clients_answer_failed(&item, response);
    } else if (api_clients_store_one(&input, &item, response)) {
        api_clients_answer_stored(request, &item, response);
    }
    free(input.record);
    api_clients_item_fini(&item);
}

/* ---- many ------------------------------------------------------------------------------------ */

struct batch {
    struct create_item *items;       /* n */
    struct store_create_item *valid; /* the valid ones: made_count */
    struct store_create_result *results;
    size_t *item_of;  /* made[i] is items[of[i]] */
    const char **ids; /* created or unchanged: stored_count */
    size_t n, valid_count, stored_count;
    size_t faults_left;
    struct create_input input;
};

static bool api_clients_batch_init(struct batch *batch, const struct http_request *request,
                                   size_t n, bool repaired) {
    *batch = (struct batch){.n = n, .faults_left = HTTP_FAULTS_MAX};
    bool good = api_clients_input_init(&batch->input, request, repaired);
    batch->input.faults_left = &batch->faults_left;
    batch->items = calloc(n + 1, sizeof *batch->items);
    batch->valid = calloc(n + 1, sizeof *batch->valid);
    batch->results = calloc(n + 1, sizeof *batch->results);
    batch->item_of = calloc(n + 1, sizeof *batch->item_of);
    batch->ids = calloc(n + 1, sizeof *batch->ids);
    return good && batch->items && batch->valid && batch->results && batch->item_of && batch->ids;
}

static void api_clients_batch_fini(struct batch *batch) {
    for (size_t i = 0; batch->items && i < batch->n; i++) {
        api_clients_item_fini(&batch->items[i]);
    }
    free(batch->items);
    free(batch->valid);
    free(batch->results);
    free(batch->item_of);
    free(batch->ids);
    free(batch->input.record);
}

static void api_clients_batch_check(struct batch *batch, json_t *documents) {
    for (size_t i = 0; i < batch->n; i++) {
        char prefix[24];
        snprintf(prefix, sizeof(prefix), "/%zu", i);
        if (api_clients_item_check(&batch->items[i], &batch->input, json_array_get(documents, i),
                                   prefix)) {
            batch->item_of[batch->valid_count] = i;
            batch->valid[batch->valid_count++] =
                api_clients_item_new(&batch->items[i], batch->input.record);
        }
    }
}

/* ERR_OK, or why nothing could be stored. */
static enum err api_clients_batch_store(struct batch *batch, const struct http_request *request) {
    size_t done = 0;
    enum err err = store_create(request->api->context.store, batch->valid, batch->valid_count,
                                batch->results, &done);
    if (batch->valid_count > 0 && done == 0) {
        return err != ERR_OK ? err : ERR_PROTOCOL;
    }
    for (size_t i = 0; i < batch->valid_count; i++) {
        struct create_item *item = &batch->items[batch->item_of[i]];
        if (i < done) {
            api_clients_item_set_outcome(item, request, &batch->results[i]);
        } else {
            api_clients_item_fail(item, http_problem_of_store(err), "not stored: %s; try again",
                                  err == ERR_FULL ? "Redis is out of memory" : err_name(err));
        }
        if (item->outcome != ITEM_FAILED) {
            batch->ids[batch->stored_count++] = item->input.config->id;
        }
    }
    return ERR_OK;
}

/* The id may be unknown, because it may be invalid itself. */
static json_t *api_clients_item_id_json(const struct create_item *item, const json_t *document) {
    if (item->input.config) {
        return http_json_string(item->input.config->id);
    }
    const json_t *id = json_object_get(document, "id");
    id = id ? id : json_object_get(document, "client_id");
    return json_is_string(id) ? json_copy((json_t *)id) : json_null();
}

static json_t *api_clients_failure_json(const struct create_item *item, size_t index,
                                        const json_t *document) {
    json_t *failure =
        json_pack("{s:I, s:o, s:i, s:o}", "index", (json_int_t)index, "id",
                  api_clients_item_id_json(item, document), "status",
                  http_problem_status(item->problem), "detail", http_json_string(item->detail));
    if (failure && item->errors) {
        json_object_set(failure, "errors", item->errors);
    }
    return failure;
}

/* The answer after the wait for the clients. */
struct summary {
    int status;
    json_t *json;
};

static void api_clients_summary_free(void *data) {
    struct summary *summary = data;
    json_decref(summary->json);
    free(summary);
}

static void api_clients_summary_answer(struct http_request *request, struct http_response *response,
                                       void *context) {
    struct summary *summary = context;
    (void)request;
    http_answer_json(response, summary->status, summary->json);
    summary->json = NULL;
}

/* NULL: out of memory. */
static struct summary *api_clients_batch_summary(const struct batch *batch,
                                                 const json_t *documents) {
    json_int_t created = 0, unchanged = 0;
    json_t *failed = json_array();
    for (size_t i = 0; i < batch->n; i++) {
        const struct create_item *item = &batch->items[i];
        created += item->outcome == ITEM_CREATED;
        unchanged += item->outcome == ITEM_UNCHANGED;
        if (item->outcome == ITEM_FAILED) {
            json_array_append_new(failed,
                                  api_clients_failure_json(item, i, json_array_get(documents, i)));
        }
    }
    struct summary *summary = calloc(1, sizeof *summary);
    if (!summary) {
        json_decref(failed);
        return NULL;
    }
    summary->status = json_array_size(failed) > 0 ? 207 : created > 0 ? 201 : 200;
    summary->json =
        json_pack("{s:I, s:I, s:o}", "created", created, "unchanged", unchanged, "failed", failed);
    return summary;
}

static void api_clients_batch_answer(struct http_request *request, const struct batch *batch,
                                     const json_t *documents, struct http_response *response) {
    struct summary *summary = api_clients_batch_summary(batch, documents);
    if (!summary) {
        http_problem_memory(response);
        return;
    }
    client_waits_begin(request, response,
                       &(struct client_wait_plan){.ids = batch->ids,
                                                  .n = batch->stored_count,
                                                  .then = api_clients_summary_answer,
                                                  .context = summary,
                                                  .free_context = api_clients_summary_free});
}

static void api_clients_create_many(struct http_request *request, json_t *documents, bool repaired,
                                    struct http_response *response) {
    size_t n = json_array_size(documents);
    if (n > HTTP_BATCH_MAX) {
        http_problem(response, PROBLEM_TOO_LARGE, "%zu clients in one request; at most %d", n,
                     HTTP_BATCH_MAX);
        return;
    }
    struct batch batch;
    enum err err = ERR_MEMORY;
    if (api_clients_batch_init(&batch, request, n, repaired)) {
        api_clients_batch_check(&batch, documents);
        err = api_clients_batch_store(&batch, request);
    }
    if (err != ERR_OK) {
        http_problem_store(response, err);
    } else {
        api_clients_batch_answer(request, &batch, documents, response);
    }
    api_clients_batch_fini(&batch);
}

void api_clients_create(struct http_request *request, struct http_response *response) {
    json_t *document;
    bool repaired;
    if (!http_body_json(request, response, &document, &repaired)) {
        return;
    }
    http_set_audit_subject(request, document);
    if (json_is_array(document)) {
        api_clients_create_many(request, document, repaired, response);
    } else if (json_is_object(document)) {
        api_clients_create_one(request, document, repaired, response);
    } else {
        struct client_faults faults = {.count = 0};
        http_fault_add(&faults, "", "must be a client (an object) or an array of clients");
        http_problem_faults(response, &faults);
    }
    json_decref(document);
}
