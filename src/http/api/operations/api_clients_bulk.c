/* POST /api/v1/clients:pause and the other actions on many clients: selects their ids, and begins
 * an operation that the leader executes. Handler threads; the request waits for the nodes that know
 * which clients match. */
#include "http/api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/system/json_memory.h"
#include "cluster/operations/operations.h"
#include "http/api/clients/client_edit.h"
#include "http/api/routes.h"
#include "http/api/selection/select_query.h"
#include "http/api/selection/select_round.h"
#include "http/auth/scope.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "mqtt/config/client_secrets.h"
#include "operation_view.h"

#define PATCH_BYTES_MAX  65536
#define SELECTOR_LEN_MAX 4096
#define RATE_MAX         100000
#define TRIED_MAX        5 /* clients that a patch is tried on before it is accepted */

/* What the request asks for. */
struct bulk {
    enum operation_action action;
    bool dry_run;
    int64_t rate;
    json_t *patch; /* NULL: none */
};

static void api_clients_bulk_free(void *context) {
    struct bulk *bulk = context;
    json_decref(bulk->patch);
    free(bulk);
}

/* ---- the patch ------------------------------------------------------------------------------- */

/* Encrypted like the secrets of a client; the id of the operation takes the place of the client's.
 * So a secret that is encrypted already, for a client, cannot be a part of it. The caller frees
 * *text. False: answered. */
static bool api_clients_bulk_patch_text(const struct http_api *api, const char *operation,
                                        const json_t *patch, char **text,
                                        struct http_response *response) {
    struct client_faults faults = {.count = 0};
    json_t *sealed = json_whole_copy(patch);
    enum err err = sealed
                       ? client_secrets_seal(sealed, operation, api->context.secrets, NULL, &faults)
                       : ERR_MEMORY;
    *text = err == ERR_OK ? json_to_text(sealed, JSON_COMPACT) : NULL;
    json_decref(sealed);
    if (err == ERR_ARGUMENT && faults.count > 0) {
        http_problem_faults(response, &faults);
    } else if (!*text) {
        http_problem_error(response, err != ERR_OK ? err : ERR_MEMORY);
    }
    return *text != NULL;
}

/* The names of the fields. NULL: out of memory. */
static char *api_clients_bulk_fields(const json_t *patch) {
    struct buffer names;
    const char *name;
    json_t *value;
    buffer_init(&names);
    buffer_append_str(&names, "");
    json_object_foreach((json_t *)(uintptr_t)patch, name, value) {
        if (!strchr(name, ' ')) {
            buffer_printf(&names, "%s%.64s", names.len > 0 ? " " : "", name);
        }
    }
    return buffer_take(&names);
}

/* A patch that none of the first clients can take is a mistake. False: answered. */
static bool api_clients_bulk_try_patch(struct http_request *request, const struct bulk *bulk,
                                       const struct selection *selection,
                                       struct http_response *response) {
    struct client_faults faults = {.count = 0};
    bool fits = selection->item_count == 0;
    for (size_t i = 0; i < selection->item_count && i < TRIED_MAX && !fits; i++) {
        struct store_client row = {0};
        enum err err = store_get(request->api->context.store, selection->items[i].id, &row);
        struct client_edit edit = {
            .api = request->api, .scope = &request->caller.scope, .row = &row};
        if (err == ERR_OK) {
            err = client_edit_merge(&edit, bulk->patch);
            fits = err != ERR_ARGUMENT && err != ERR_WRONG_STATE;
            faults = fits ? faults : edit.faults;
        }
        client_edit_fini(&edit);
        store_client_fini(&row);
        fits = fits || (err != ERR_ARGUMENT && err != ERR_WRONG_STATE && err != ERR_NOT_FOUND);
    }
    if (!fits && faults.count > 0) {
        http_problem_faults(response, &faults);
    }
    return fits || faults.count == 0;
}

/* ---- the operation --------------------------------------------------------------------------- */

static void api_clients_bulk_answer_count(const struct bulk *bulk, const struct select_round *round,
                                          struct http_response *response) {
    http_answer_json(response, 200,
                     json_pack("{s:s, s:b, s:I, s:o, s:O}", "action",
                               operation_action_name(bulk->action), "dry_run", 1, "total",
                               (json_int_t)round->selection.item_count, "starting",
                               select_round_starting_json(round), "incomplete", round->incomplete));
}

/* If it cannot be read back, as it was begun: it runs, and must not be begun again. */
static void api_clients_bulk_answer_created(struct http_request *request,
                                            const struct store_operation *new,
                                            const struct select_round *round,
                                            struct http_response *response) {
    struct store_operation *created = NULL;
    size_t n = 0;
    enum err err = store_operations(request->api->context.store, new->id, &created, &n);
    json_t *document = operation_view(err == ERR_OK && n == 1 ? &created[0] : new);
    if (document) {
        json_object_set_new(document, "starting", select_round_starting_json(round));
        http_answer_json(response, 202, document);
        http_answer_header(response, "Location", "/api/v1/operations/%s", new->id);
    } else {
        http_problem_memory(response);
    }
    store_operations_free(created, n);
}

/* Texts of `new` are owned by the caller. */
static void api_clients_bulk_store(struct http_request *request, const struct store_operation *new,
                                   const struct select_round *round,
                                   struct http_response *response) {
    const struct selection *selection = &round->selection;
    const char **ids = calloc(selection->item_count + 1, sizeof *ids);
    if (!ids) {
        http_problem_memory(response);
        return;
    }
    for (size_t i = 0; i < selection->item_count; i++) {
        ids[i] = selection->items[i].id;
    }
    enum err err =
        store_create_operation(request->api->context.store, new, ids, selection->item_count);
    free(ids);
    snprintf(request->audit_subject, sizeof request->audit_subject, "%zu clients of %.90s",
             selection->item_count, new->selector);
    if (err == ERR_REFUSED) {
        http_problem(response, PROBLEM_OVERLOAD,
                     "%d operations are running; wait for one to end, or cancel one",
                     new->scope ? STORE_OPERATIONS_SCOPE_MAX : STORE_OPERATIONS_MAX);
    } else if (err != ERR_OK) {
        http_problem_store(response, err);
    } else {
        api_clients_bulk_answer_created(request, new, round, response);
    }
}

static void api_clients_bulk_begin(struct http_request *request, const struct bulk *bulk,
                                   const struct select_round *round,
                                   struct http_response *response) {
    char id[TEXT_ID_LEN], scope[SCOPE_TEXT_LEN];
    text_random_id(id);
    scope_format(&request->caller.scope, scope);
    struct store_operation new = {.id = id,
                                  .action = (char *)(uintptr_t)operation_action_name(bulk->action),
                                  .selector = client_selector_query(round->query.selector),
                                  .by = request->caller.name,
                                  .scope = scope[0] != '\0' ? scope : NULL,
                                  .rate = bulk->rate,
                                  .total = (int64_t)round->selection.item_count};
    new.fields = bulk->patch ? api_clients_bulk_fields(bulk->patch) : NULL;
    if (!new.selector || (bulk->patch && !new.fields)) {
        http_problem_memory(response);
    } else if (strlen(new.selector) > SELECTOR_LEN_MAX) {
        http_problem(response, PROBLEM_TOO_LARGE, "the selector is longer than %d characters",
                     SELECTOR_LEN_MAX);
    } else if (!bulk->patch ||
               api_clients_bulk_patch_text(request->api, id, bulk->patch, &new.patch, response)) {
        api_clients_bulk_store(request, &new, round, response);
    }
    free(new.selector);
    free(new.patch);
    free(new.fields);
}

/* A node that does not answer may have clients that match: an operation without them would be
 * silently incomplete. */
static void api_clients_bulk_selected(struct http_request *request, struct http_response *response,
                                      struct select_round *round) {
    const struct bulk *bulk = round->context;
    if (bulk->patch && !api_clients_bulk_try_patch(request, bulk, &round->selection, response)) {
        return;
    }
    if (bulk->dry_run) {
        api_clients_bulk_answer_count(bulk, round, response);
    } else if (json_array_size(round->incomplete) > 0) {
        http_problem(response, PROBLEM_OVERLOAD,
                     "nodes that did not say which of their clients match: %zu; nothing was "
                     "changed; try again in a few seconds",
                     json_array_size(round->incomplete));
        http_problem_member(response, "incomplete", json_incref(round->incomplete));
    } else if (round->selection.item_count > STORE_OPERATION_IDS_MAX) {
        http_problem(response, PROBLEM_TOO_LARGE, "%zu clients match; an operation has at most %d",
                     round->selection.item_count, STORE_OPERATION_IDS_MAX);
    } else {
        api_clients_bulk_begin(request, bulk, round, response);
    }
}

/* ---- the request ----------------------------------------------------------------------------- */

/* "pause" of "/api/v1/clients:pause". */
static enum operation_action api_clients_bulk_action(const struct http_request *request) {
    enum operation_action action = OPERATION_PAUSE;
    const char *colon = strrchr(request->route->pattern, ':');
    (void)operation_action_parse(colon ? colon + 1 : NULL, &action); /* the table has only such */
    return action;
}

/* False: answered. */
static bool api_clients_bulk_read_patch(struct http_request *request,
                                        struct http_response *response, struct bulk *bulk) {
    if (bulk->action != OPERATION_PATCH) {
        return true;
    }
    if (request->body.len > PATCH_BYTES_MAX) {
        http_problem(response, PROBLEM_TOO_LARGE, "a patch of many clients has at most %d bytes",
                     PATCH_BYTES_MAX);
        return false;
    }
    if (!http_body_object(request, response, &bulk->patch)) {
        return false;
    }
    bool named = json_object_get(bulk->patch, "id") || json_object_get(bulk->patch, "client_id");
    if (named || json_object_size(bulk->patch) == 0) {
        http_problem(response, PROBLEM_INVALID,
                     named ? "a patch of many clients cannot change id or client_id"
                           : "the patch has no field");
        return false;
    }
    return true;
}

/* False: answered. */
static bool api_clients_bulk_read(struct http_request *request, struct http_response *response,
                                  struct selection_query *query, struct bulk *bulk) {
    const struct conf *conf = request->api->context.conf;
    const char *dry_run = http_query_get(&request->query, "dry_run");
    bulk->action = api_clients_bulk_action(request);
    int64_t standard = operation_action_is_of_owner(bulk->action) ? conf->operations_move_rate
                                                                  : conf->operations_rate;
    bulk->dry_run = dry_run && strcmp(dry_run, "true") == 0;
    if (!select_query_parse(request, response, query)) {
        return false;
    }
    if (dry_run && !bulk->dry_run && strcmp(dry_run, "false") != 0) {
        http_problem(response, PROBLEM_INVALID, "dry_run: must be true or false");
        return false;
    }
    if (http_query_int(&request->query, "rate", 1, RATE_MAX, standard, &bulk->rate) != ERR_OK) {
        http_problem(response, PROBLEM_INVALID, "rate: must be a number from 1 to %d", RATE_MAX);
        return false;
    }
    if (!api_clients_bulk_read_patch(request, response, bulk)) {
        return false;
    }
    if (client_selector_is_empty(query->selector)) {
        http_problem(response, PROBLEM_INVALID,
                     "a selector is required, such as label.site=north or state=backoff");
        return false;
    }
    return true;
}

void api_clients_bulk(struct http_request *request, struct http_response *response) {
    struct selection_query query = {.limit = SELECTION_ALL};
    struct bulk *bulk = calloc(1, sizeof *bulk);
    if (!bulk) {
        http_problem_memory(response);
        return;
    }
    if (!api_clients_bulk_read(request, response, &query, bulk)) {
        selection_query_fini(&query);
        api_clients_bulk_free(bulk);
        return;
    }
    query.limit = SELECTION_ALL; /* the ids of all that match */
    select_round_begin(request, response, &query,
                       &(struct select_round_plan){.then = api_clients_bulk_selected,
                                                   .context = bulk,
                                                   .free_context = api_clients_bulk_free});
}
