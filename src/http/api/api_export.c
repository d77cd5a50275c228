/* GET /api/v1/export: the resources of the fleet as documents that can be applied again, in pages.
 * A client that moves between nodes meanwhile may occur twice. A selector that depends on what the
 * nodes know, such as state=backoff, is answered by all nodes. The handler threads; the request
 * waits for other nodes. */
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "cluster/resources/sink_document.h"
#include "http/api/api.h"
#include "http/api/cursor.h"
#include "http/api/selection/select_query.h"
#include "http/api/selection/select_round.h"
#include "http/api/sinks/sink_view.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "mqtt/config/client_profile.h"
#include "mqtt/config/client_secrets.h"

#define EXPORT_PAGE_LEN  500                       /* clients of an answer, about */
#define EXPORT_BYTES_MAX ((size_t)4 * 1024 * 1024) /* of their stored texts, about */
#define EXPORT_SCANS_MAX 20                        /* HSCANs of an answer */
#define SCAN_COUNT       200
#define READ_COUNT       50 /* clients that are read at once by their ids */

struct export {
    const struct http_request *request;
    struct selection_query query;
    bool encrypted;            /* secrets are shown encrypted, otherwise masked */
    struct http_cursor cursor; /* of a scan */
    json_t *documents, *skipped, *incomplete;
    char *next;       /* next_cursor; NULL: the last page */
    size_t bytes;     /* size of the stored clients on this page */
    json_int_t total; /* approximate number of documents; 0 after the first page */
};

/* ---- the query ------------------------------------------------------------------------------- */

static bool export_parse_secrets(struct export *export, struct http_response *response) {
    const char *secrets = http_query_get(&export->request->query, "secrets");
    export->encrypted = secrets && strcmp(secrets, "encrypted") == 0;
    if (secrets && !export->encrypted && strcmp(secrets, "masked") != 0) {
        http_problem(response, PROBLEM_BAD_REQUEST, "secrets: must be masked or encrypted");
        return false;
    }
    if (export->encrypted && secret_box_key_count(export->request->api->context.secrets) == 0) {
        http_problem(response, PROBLEM_STATE,
                     "this node has no secrets.key_file, so secrets cannot be encrypted");
        return false;
    }
    return true;
}

/* Whether the selector has a key that is not a part of a client's configuration. */
static bool export_asks_nodes(const struct export *export) {
    static const enum client_selector_key keys[] = {
        CLIENT_SELECTOR_STATE, CLIENT_SELECTOR_ERROR,  CLIENT_SELECTOR_BROKER,
        CLIENT_SELECTOR_NODE,  CLIENT_SELECTOR_SILENT, CLIENT_SELECTOR_DEGRADED};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (client_selector_has(export->query.selector, keys[i])) {
            return true;
        }
    }
    return false;
}

/* The nodes answer in the order of ids. */
static enum err export_continue_behind(struct export *export, const char *cursor) {
    struct http_key_cursor place;
    enum err err = http_key_cursor_parse(cursor, &place);
    if (err == ERR_OK) {
        export->query.after = (struct selection_item){place.id, place.key};
        err = place.order == selection_query_order(&export->query) ? ERR_OK : ERR_ARGUMENT;
    }
    return err;
}

static bool export_parse_cursor(struct export *export, struct http_response *response) {
    const char *cursor = http_query_get(&export->request->query, "cursor");
    enum err err = ERR_OK;
    export->cursor = (struct http_cursor){.phase = CURSOR_WAITING};
    if (cursor && *cursor) {
        err = export_asks_nodes(export) ? export_continue_behind(export, cursor)
                                        : http_cursor_parse(cursor, &export->cursor);
    }
    if (err == ERR_MEMORY) {
        http_problem_memory(response);
    } else if (err != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST,
                     "cursor: must be a next_cursor of an export with the same selector");
    }
    return err == ERR_OK;
}

static bool export_is_first_page(const struct export *export) {
    const char *cursor = http_query_get(&export->request->query, "cursor");
    return !cursor || !*cursor;
}

/* ---- resources of the fleet ------------------------------------------------------------------ */

static void export_skip(struct export *export, const char *kind, const char *name,
                        const char *detail) {
    json_array_append_new(export->skipped,
                          json_pack("{s:s, s:o, s:o}", "kind", kind, "name", http_json_string(name),
                                    "detail", http_json_string(detail)));
}

/* Takes ownership of the document, which may be NULL. */
static void export_add(struct export *export, const char *kind, const char *member,
                       const char *name, json_t *document) {
    json_t *whole = json_pack("{s:s}", "kind", kind);
    if (member) {
        json_object_set_new(whole, member, http_json_string(name));
    }
    json_object_update_missing(whole, document);
    json_array_append_new(export->documents, whole);
    json_decref(document);
}

/* With its secrets encrypted, or masked. NULL: fault says why. */
static json_t *export_sink(const struct export *export, const struct store_resource *row,
                           char fault[SINK_DOCUMENT_FAULT_LEN]) {
    const struct http_api *api = export->request->api;
    json_t *document = sink_view_open(api, row, fault);
    json_t *shown = NULL;
    if (document && !export->encrypted) {
        shown = sink_document_masked(document);
    } else if (document &&
               sink_document_seal(document, row->name, api->context.secrets) == ERR_OK) {
        shown = json_incref(document);
    }
    json_decref(document);
    return shown;
}

static enum err export_sinks(struct export *export) {
    struct store_resource *rows;
    size_t n;
    enum err err =
        store_resources(export->request->api->context.store, STORE_SINKS, NULL, &rows, &n, NULL);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        char fault[SINK_DOCUMENT_FAULT_LEN] = "its secrets cannot be encrypted";
        json_t *document = export_sink(export, &rows[i], fault);
        if (document) {
            export_add(export, "sink", "name", rows[i].name, document);
        } else {
            export_skip(export, "sink", rows[i].name, fault);
        }
    }
    store_resources_free(rows, n);
    return err;
}

/* The masked document, with the encrypted secrets in the place of their masks. */
static json_t *export_profile(const struct export *export, const struct store_resource *row) {
    struct client_faults faults = {.count = 0};
    json_t *stored = json_from_text(row->document, strlen(row->document), 0);
    json_t *shown = json_is_object(stored) ? client_config_redacted(stored) : NULL;
    if (shown && export->encrypted) {
        enum err err = client_profile_seal(stored, row->name, export->request->api->context.secrets,
                                           NULL, &faults);
        if (err == ERR_OK || (err == ERR_ARGUMENT && faults.count > 0)) {
            client_config_keep_secrets(shown, stored);
        }
    }
    json_decref(stored);
    return shown;
}

static enum err export_profiles(struct export *export) {
    struct store_resource *rows;
    size_t n;
    enum err err =
        store_resources(export->request->api->context.store, STORE_PROFILES, NULL, &rows, &n, NULL);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        json_t *document = export_profile(export, &rows[i]);
        if (document) {
            export_add(export, "client-profile", "name", rows[i].name, document);
        } else {
            export_skip(export, "client-profile", rows[i].name, "the stored text is not an object");
        }
    }
    store_resources_free(rows, n);
    return err;
}

static enum err export_routes(struct export *export) {
    char *text;
    int64_t version;
    enum err err = store_routes(export->request->api->context.store, &text, &version);
    json_t *list = text ? json_from_text(text, strlen(text), 0) : NULL;
    if (err == ERR_OK && list) {
        export_add(export, "routes", NULL, NULL, json_pack("{s:O}", "routes", list));
    }
    json_decref(list);
    free(text);
    return err;
}

/* Before the clients, which name them. */
static enum err export_resources(struct export *export) {
    struct store_counts counts;
    enum err err = store_counts(export->request->api->context.store, &counts);
    if (err == ERR_OK && client_selector_is_empty(export->query.selector)) {
        err = export_sinks(export);
        err = err == ERR_OK ? export_profiles(export) : err;
        err = err == ERR_OK ? export_routes(export) : err;
    }
    export->total = (json_int_t)json_array_size(export->documents) + counts.waiting + counts.owned;
    return err;
}

/* ---- clients --------------------------------------------------------------------------------- */

/* The masked document, with the encrypted secrets in the place of their masks. NULL: fault. */
static json_t *export_client_secrets(const struct export *export, const struct store_client *row,
                                     json_t *masked, char *fault) {
    struct client_faults faults = {.count = 0};
    json_t *stored = json_from_text(row->config, row->config_len, JSON_REJECT_DUPLICATES);
    enum err err =
        client_secrets_seal(stored, row->id, export->request->api->context.secrets, NULL, &faults);
    /* A secret of an older key stays encrypted with it. */
    bool sealed = stored && (err == ERR_OK || (err == ERR_ARGUMENT && faults.count > 0));
    if (sealed) {
        client_config_keep_secrets(masked, stored);
    }
    snprintf(fault, 256, "its secrets cannot be encrypted: %s", err_name(err));
    json_decref(stored);
    return sealed ? json_incref(masked) : NULL;
}

static bool export_selects(const struct export *export, const struct client_view *view) {
    char broker[CLIENT_BROKER_LEN];
    struct client_facts facts = {.id = view->row->id};
    if (view->config) {
        client_facts_set_config(&facts, view->config, broker);
    }
    return client_selector_matches(export->query.selector, &facts);
}

static void export_client(struct export *export, const struct store_client *row) {
    struct client_view view;
    client_view_open(&view, export->request->api, row);
    if (export_selects(export, &view)) {
        json_t *document = NULL;
        if (json_is_object(view.shown)) {
            document = export->encrypted
                           ? export_client_secrets(export, row, view.shown, view.fault)
                           : json_incref(view.shown);
        }
        if (document) {
            export_add(export, "client", "id", row->id, document);
        } else {
            export_skip(export, "client", row->id, view.fault);
        }
    }
    client_view_close(&view);
}

static enum err export_scan(struct export *export) {
    struct http_cursor *cursor = &export->cursor;
    enum store_client_state where = cursor->phase == CURSOR_OWNED ? STORE_OWNED : STORE_WAITING;
    struct store_client *rows;
    size_t n;
    enum err err = store_page(export->request->api->context.store, where, &cursor->scan, SCAN_COUNT,
                              &rows, &n, NULL);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        export_client(export, &rows[i]);
        export->bytes += rows[i].config_len;
    }
    store_clients_free(rows, n);
    if (cursor->scan == 0) {
        cursor->phase = cursor->phase == CURSOR_WAITING ? CURSOR_OWNED : CURSOR_END;
    }
    return err;
}

static enum err export_scan_clients(struct export *export) {
    char text[HTTP_CURSOR_LEN];
    enum err err = ERR_OK;
    for (size_t scans = 0;
         err == ERR_OK && scans < EXPORT_SCANS_MAX && export->cursor.phase != CURSOR_END &&
         export->bytes < EXPORT_BYTES_MAX && json_array_size(export->documents) < EXPORT_PAGE_LEN;
         scans++) {
        err = export_scan(export);
    }
    if (err == ERR_OK && export->cursor.phase != CURSOR_END) {
        http_cursor_format(&export->cursor, text);
        export->next = text_dup(text);
        err = export->next ? ERR_OK : ERR_MEMORY;
    }
    return err;
}

/* ---- clients that nodes have selected -------------------------------------------------------- */

/* Those of the ids that exist; the order does not matter. */
static enum err export_read_clients(struct export *export, const struct selection_item *items,
                                    size_t n) {
    const char *ids[READ_COUNT];
    struct store_client *rows;
    size_t row_count;
    for (size_t i = 0; i < n; i++) {
        ids[i] = items[i].id;
    }
    enum err err = store_get_many(export->request->api->context.store, ids, n, &rows, &row_count);
    for (size_t i = 0; err == ERR_OK && i < row_count; i++) {
        export_client(export, &rows[i]);
        export->bytes += rows[i].config_len;
    }
    store_clients_free(rows, row_count);
    return err;
}

static enum err export_selected_clients(struct export *export, const struct selection *selection) {
    size_t done = 0;
    enum err err = ERR_OK;
    while (err == ERR_OK && done < selection->item_count && export->bytes < EXPORT_BYTES_MAX) {
        size_t left = selection->item_count - done;
        size_t n = left < READ_COUNT ? left : READ_COUNT;
        err = export_read_clients(export, &selection->items[done], n);
        done += n;
    }
    if (err == ERR_OK && done > 0 && (selection->more || done < selection->item_count)) {
        const struct selection_item *last = &selection->items[done - 1];
        struct http_key_cursor cursor = {selection_query_order(selection->query), last->key,
                                         last->id};
        export->next = http_key_cursor_format(&cursor);
        err = export->next ? ERR_OK : ERR_MEMORY;
    }
    return err;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void export_answer(const struct export *export, enum err err,
                          struct http_response *response) {
    if (err != ERR_OK) {
        http_problem_store(response, err);
        return;
    }
    http_answer_json(response, 200,
                     json_pack("{s:O, s:O, s:I, s:o, s:O}", "documents", export->documents,
                               "skipped", export->skipped, "total", export->total, "next_cursor",
                               http_json_string(export->next), "incomplete", export->incomplete));
}

static void export_free(void *context) {
    struct export *export = context;
    selection_query_fini(&export->query);
    json_decref(export->documents);
    json_decref(export->skipped);
    json_decref(export->incomplete);
    free(export->next);
    free(export);
}

static void export_selected(struct http_request *request, struct http_response *response,
                            struct select_round *round) {
    struct export *export = round->context;
    export->request = request;
    export->total = export_is_first_page(export) ? (json_int_t)round->selection.count : 0;
    json_array_extend(export->incomplete, round->incomplete);
    export_answer(export, export_selected_clients(export, &round->selection), response);
}

static void export_scanned(struct export *export, struct http_response *response) {
    enum err err = export_is_first_page(export) ? export_resources(export) : ERR_OK;
    export_answer(export, err == ERR_OK ? export_scan_clients(export) : err, response);
}

void api_export(struct http_request *request, struct http_response *response) {
    struct export *export = calloc(1, sizeof *export);
    if (!export) {
        http_problem_memory(response);
        return;
    }
    *export = (struct export){.request = request,
                              .documents = json_array(),
                              .skipped = json_array(),
                              .incomplete = json_array()};
    bool read = select_query_parse(request, response, &export->query) &&
                export_parse_secrets(export, response) && export_parse_cursor(export, response);
    if (read && export_asks_nodes(export)) {
        struct selection_query query = export->query;
        export->query = (struct selection_query){0}; /* the clients need not be matched again */
        query.limit = EXPORT_PAGE_LEN;
        select_round_begin(request, response, &query,
                           &(struct select_round_plan){.then = export_selected,
                                                       .context = export,
                                                       .free_context = export_free});
        return;
    }
    if (read) {
        export_scanned(export, response);
    }
    export_free(export);
}
