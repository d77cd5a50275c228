/* POST /api/v1/clients: one client or many. Runs on the handlers' threads. Never talks to a broker:
 * what is stored is placed by the leader. */
#include "http/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "http/client_waits.h"
#include "http/json.h"
#include "http/problem.h"

/* ---- what became of one item ----------------------------------------------------------------- */

struct create_item {
    struct client_input input;
    enum { ITEM_CREATED, ITEM_UNCHANGED, ITEM_FAILED } outcome;
    int64_t version;
    enum http_problem problem; /* ITEM_FAILED from here on */
    char detail[512];
    json_t *errors; /* NULL: none */
};

static void item_fail(struct create_item *item, enum http_problem problem, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void item_fail(struct create_item *item, enum http_problem problem, const char *format,
                      ...) {
    item->outcome = ITEM_FAILED;
    item->problem = problem;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(item->detail, sizeof(item->detail), format, arguments);
    va_end(arguments);
}

static void item_fini(struct create_item *item) {
    client_input_fini(&item->input);
    json_decref(item->errors);
}

/* Checks one document; false: the item has failed. prefix: of the pointers to its faults. */
static bool item_check(struct create_item *item, const struct http_api *api, json_t *document,
                       bool repaired, const char *prefix) {
    struct client_faults faults;
    enum err result =
        client_input_check(api, document, CLIENT_FROM_API, NULL, repaired, &item->input, &faults);
    if (result == ERR_ARGUMENT) {
        const struct client_fault *first = &faults.items[0];
        item_fail(item, PROBLEM_INVALID, "%s%s%s", first->pointer, *first->pointer ? ": " : "",
                  first->detail);
        item->errors = http_faults_json(&faults, prefix);
    } else if (result != ERR_OK) {
        item_fail(item, result == ERR_MEMORY ? PROBLEM_MEMORY : PROBLEM_INTERNAL, "%s",
                  err_name(result));
    }
    return result == ERR_OK;
}

/* Another text is stored under the id: the same configuration in another spelling, or another one.
 */
static void item_compare(struct create_item *item, const struct http_api *api) {
    const char *id = item->input.config->id;
    struct store_client row = {0};
    enum err result = store_get(api->context.store, id, &row);
    if (result != ERR_OK && result != ERR_NOT_FOUND) {
        item_fail(item, http_problem_of_store(result), "client %s: %s", id, err_name(result));
    } else if (result == ERR_OK && client_input_same(api, &row, item->input.text)) {
        item->outcome = ITEM_UNCHANGED;
        item->version = row.version;
    } else {
        item_fail(item, PROBLEM_EXISTS, "client %s has another configuration; PUT replaces it", id);
    }
    store_client_fini(&row);
}

static void item_judge(struct create_item *item, const struct http_api *api,
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
        item_compare(item, api);
        break;
    case STORE_IDENTITY_TAKEN:
        item_fail(item, PROBLEM_IDENTITY,
                  "client_id %.128s at this broker belongs to client %.256s",
                  item->input.config->client_id, result->other_id ? result->other_id : "?");
        break;
    }
    free(result->other_id);
    result->other_id = NULL;
}

static struct store_new item_new(const struct create_item *item) {
    return (struct store_new){
        .id = item->input.config->id, .config = item->input.text, .identity = item->input.identity};
}

/* ---- one ------------------------------------------------------------------------------------- */

/* What is answered of one that is stored. */
struct one {
    bool created;
    int64_t version;
    char *id;
    json_t *document; /* as it is known without asking: of one created just now */
};

static void one_free(void *data) {
    struct one *one = data;
    free(one->id);
    json_decref(one->document);
    free(one);
}

/* NULL: out of memory. */
static struct one *one_create(const struct http_api *api, const struct create_item *item) {
    struct store_client row = client_input_row(&item->input, item->version);
    struct one *one = calloc(1, sizeof *one);
    if (one) {
        one->created = item->outcome == ITEM_CREATED;
        one->version = item->version;
        one->id = text_dup(item->input.config->id);
        one->document = client_document(api, &row, NULL);
    }
    return one;
}

/* Takes ownership of document. */
static void one_answer(const struct one *one, json_t *document, struct http_response *response) {
    http_answer_json(response, one->created ? 201 : 200, document);
    http_answer_header(response, "ETag", "\"%lld\"", (long long)one->version);
    char *escaped = one->created && one->id ? http_percent_encode(one->id) : NULL;
    if (escaped != NULL) {
        http_answer_header(response, "Location", "/api/v1/clients/%s", escaped);
    }
    free(escaped);
}

static void one_with_status(struct http_request *request, struct http_response *response,
                            struct fleet_rows *rows, void *context) {
    (void)request;
    one_answer(context, client_document(request->api, &rows->rows[0], rows->statuses[0]), response);
    rows->statuses[0] = NULL;
}

/* Redis and its owner are asked. */
static void one_ask(struct http_request *request, struct http_response *response,
                    struct store_client *row, struct one *one) {
    struct store_client *rows = malloc(sizeof *rows);
    struct one *moved = malloc(sizeof *moved);
    if (!rows || !moved) {
        free(rows);
        free(moved);
        http_problem_memory(response);
        return;
    }
    *rows = *row;
    *moved = *one;
    *row = (struct store_client){0};
    *one = (struct one){0};
    fleet_statuses(request, response, rows, 1, one_with_status, moved, one_free);
}

/* One created just now, that nobody waits for, waits itself: nobody needs to be asked. */
static void one_awaited(struct http_request *request, struct http_response *response,
                        void *context) {
    struct one *one = context;
    struct store_client row = {0};
    bool ask = request->wait_ms > 0 || !one->created;
    if (ask && one->id && store_get(request->api->context.store, one->id, &row) == ERR_OK) {
        one_ask(request, response, &row, one);
    } else {
        one_answer(one, one->document, response);
        one->document = NULL;
    }
    store_client_fini(&row);
}

static void one_stored(struct http_request *request, const struct create_item *item,
                       struct http_response *response) {
    const char *id = item->input.config->id;
    struct one *one = one_create(request->api, item);
    if (!one) {
        http_problem_memory(response);
        return;
    }
    clients_wait(request, response,
                 &(struct client_wait_plan){.ids = &id,
                                            .n = 1,
                                            .version = item->version,
                                            .then = one_awaited,
                                            .context = one,
                                            .free_context = one_free});
}

static void one_failed(const struct create_item *item, struct http_response *response) {
    http_problem(response, item->problem, "%s", item->detail);
    if (item->errors != NULL) {
        http_problem_member(response, "errors", json_incref(item->errors));
    }
}

static void create_one(struct http_request *request, json_t *document, bool repaired,
                       struct http_response *response) {
    struct store *store = request->api->context.store;
    struct create_item item = {0};
    if (item_check(&item, request->api, document, repaired, "")) {
        struct store_new made = item_new(&item);
        struct store_create_result result = {0};
        size_t done = 0;
        enum err error = store_create(store, &made, 1, &result, &done);
        if (done == 1) {
            item_judge(&item, request->api, &result);
        } else {
            http_problem_store(response, error != ERR_OK ? error : ERR_PROTOCOL);
            item_fini(&item);
            return;
        }
    }
    if (item.outcome == ITEM_FAILED) {
        one_failed(&item, response);
    } else {
        one_stored(request, &item, response);
    }
    item_fini(&item);
}

/* ---- many ------------------------------------------------------------------------------------ */

struct batch {
    struct create_item *items; /* n */
    struct store_new *made;    /* the valid ones: made_count */
    struct store_create_result *results;
    size_t *of;       /* made[i] is items[of[i]] */
    const char **ids; /* created or unchanged: stored_count */
    size_t n, made_count, stored_count;
};

static bool batch_init(struct batch *batch, size_t n) {
    *batch = (struct batch){.n = n};
    batch->items = calloc(n + 1, sizeof(*batch->items));
    batch->made = calloc(n + 1, sizeof(*batch->made));
    batch->results = calloc(n + 1, sizeof(*batch->results));
    batch->of = calloc(n + 1, sizeof(*batch->of));
    batch->ids = calloc(n + 1, sizeof(*batch->ids));
    return batch->items && batch->made && batch->results && batch->of && batch->ids;
}

static void batch_fini(struct batch *batch) {
    for (size_t i = 0; batch->items != NULL && i < batch->n; i++) {
        item_fini(&batch->items[i]);
    }
    free(batch->items);
    free(batch->made);
    free(batch->results);
    free(batch->of);
    free(batch->ids);
}

static void batch_check(struct batch *batch, const struct http_api *api, json_t *documents,
                        bool repaired) {
    for (size_t i = 0; i < batch->n; i++) {
        char prefix[24];
        snprintf(prefix, sizeof(prefix), "/%zu", i);
        if (item_check(&batch->items[i], api, json_array_get(documents, i), repaired, prefix)) {
            batch->of[batch->made_count] = i;
            batch->made[batch->made_count++] = item_new(&batch->items[i]);
        }
    }
}

/* ERR_OK, or why nothing at all could be stored. */
static enum err batch_store(struct batch *batch, const struct http_api *api) {
    size_t done = 0;
    enum err error =
        store_create(api->context.store, batch->made, batch->made_count, batch->results, &done);
    if (batch->made_count > 0 && done == 0) {
        return error != ERR_OK ? error : ERR_PROTOCOL;
    }
    for (size_t i = 0; i < batch->made_count; i++) {
        struct create_item *item = &batch->items[batch->of[i]];
        if (i < done) {
            item_judge(item, api, &batch->results[i]);
        } else {
            item_fail(item, http_problem_of_store(error), "not stored: %s; try again",
                      error == ERR_FULL ? "Redis is out of memory" : err_name(error));
        }
        if (item->outcome != ITEM_FAILED) {
            batch->ids[batch->stored_count++] = item->input.config->id;
        }
    }
    return ERR_OK;
}

/* As far as it is known: what is wrong may be the id itself. */
static json_t *item_id_json(const struct create_item *item, const json_t *document) {
    if (item->input.config != NULL) {
        return http_json_string(item->input.config->id);
    }
    const json_t *id = json_object_get(document, "id");
    id = id != NULL ? id : json_object_get(document, "client_id");
    return json_is_string(id) ? json_copy((json_t *)id) : json_null();
}

static json_t *failure_json(const struct create_item *item, size_t index, const json_t *document) {
    json_t *failure = json_pack(
        "{s:I, s:o, s:i, s:o}", "index", (json_int_t)index, "id", item_id_json(item, document),
        "status", http_problem_status(item->problem), "detail", http_json_string(item->detail));
    if (failure != NULL && item->errors != NULL) {
        json_object_set(failure, "errors", item->errors);
    }
    return failure;
}

/* What is answered, once nobody waits for the clients any more. */
struct summary {
    int status;
    json_t *json;
};

static void summary_free(void *data) {
    struct summary *summary = data;
    json_decref(summary->json);
    free(summary);
}

static void summary_answer(struct http_request *request, struct http_response *response,
                           void *context) {
    struct summary *summary = context;
    (void)request;
    http_answer_json(response, summary->status, summary->json);
    summary->json = NULL;
}

/* NULL: out of memory. */
static struct summary *batch_summary(const struct batch *batch, const json_t *documents) {
    json_int_t created = 0;
    json_int_t unchanged = 0;
    json_t *failed = json_array();
    for (size_t i = 0; i < batch->n; i++) {
        const struct create_item *item = &batch->items[i];
        created += item->outcome == ITEM_CREATED;
        unchanged += item->outcome == ITEM_UNCHANGED;
        if (item->outcome == ITEM_FAILED) {
            json_array_append_new(failed, failure_json(item, i, json_array_get(documents, i)));
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

static void batch_stored(struct http_request *request, const struct batch *batch,
                         const json_t *documents, struct http_response *response) {
    struct summary *summary = batch_summary(batch, documents);
    if (!summary) {
        http_problem_memory(response);
        return;
    }
    clients_wait(request, response,
                 &(struct client_wait_plan){.ids = batch->ids,
                                            .n = batch->stored_count,
                                            .then = summary_answer,
                                            .context = summary,
                                            .free_context = summary_free});
}

static void create_many(struct http_request *request, json_t *documents, bool repaired,
                        struct http_response *response) {
    size_t n = json_array_size(documents);
    if (n > HTTP_BATCH_MAX) {
        http_problem(response, PROBLEM_TOO_LARGE, "%zu clients in one request; at most %d", n,
                     HTTP_BATCH_MAX);
        return;
    }
    struct batch batch;
    enum err error = ERR_MEMORY;
    if (batch_init(&batch, n)) {
        batch_check(&batch, request->api, documents, repaired);
        error = batch_store(&batch, request->api);
    }
    if (error != ERR_OK) {
        http_problem_store(response, error);
    } else {
        batch_stored(request, &batch, documents, response);
    }
    batch_fini(&batch);
}

void api_clients_create(struct http_request *request, struct http_response *response) {
    json_t *document;
    bool repaired;
    if (!http_body_json(request, response, &document, &repaired)) {
        return;
    }
    http_subject_clients(request, document);
    if (json_is_array(document)) {
        create_many(request, document, repaired, response);
    } else if (json_is_object(document)) {
        create_one(request, document, repaired, response);
    } else {
        struct client_faults faults = {.count = 0};
        http_fault_add(&faults, "", "must be a client (an object) or an array of clients");
        http_problem_faults(response, &faults);
    }
    json_decref(document);
}
