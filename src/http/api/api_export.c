/* GET /api/v1/export: the resources of the fleet as documents that can be applied again, in pages.
 * A client that moves between nodes meanwhile may occur twice. The handler threads. */
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "cluster/resources/sink_document.h"
#include "http/api/api.h"
#include "http/api/cursor.h"
#include "http/api/sinks/sink_view.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "mqtt/client/client_selector.h"
#include "mqtt/config/client_profile.h"
#include "mqtt/config/client_secrets.h"

#define EXPORT_PAGE_LEN   500                       /* clients of an answer, about */
#define EXPORT_BYTES_MAX  ((size_t)4 * 1024 * 1024) /* of their stored texts, about */
#define EXPORT_SCANS_MAX  20                        /* HSCANs of an answer */
#define SCAN_COUNT        200
#define SELECTOR_KEYS_MAX 32

struct export {
    const struct http_request *request;
    struct client_selector *selector;
    bool encrypted; /* secrets are shown encrypted, otherwise masked */
    struct http_cursor cursor;
    json_t *documents, *skipped;
    size_t bytes;     /* size of the stored clients on this page */
    json_int_t total; /* approximate number of documents; 0 after the first page */
};

/* ---- the query ------------------------------------------------------------------------------- */

/* The keys of a selector that need no status; the route refuses others. False: answered. */
static bool export_parse_selector(struct export *export, struct http_response *response) {
    const struct http_query *query = &export->request->query;
    struct client_pair pairs[SELECTOR_KEYS_MAX];
    char fault[CLIENT_SELECTOR_FAULT_LEN];
    size_t n = 0;
    for (size_t i = 0; i < query->count && n < SELECTOR_KEYS_MAX; i++) {
        if (client_selector_is_key(query->items[i].name)) {
            pairs[n++] = (struct client_pair){query->items[i].name, query->items[i].value};
        }
    }
    enum err err = client_selector_parse(pairs, n, &export->selector, fault);
    if (err == ERR_ARGUMENT) {
        http_problem(response, PROBLEM_INVALID, "%s", fault);
    } else if (err != ERR_OK) {
        http_problem_error(response, err);
    }
    return err == ERR_OK;
}

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

static bool export_parse_cursor(struct export *export, struct http_response *response) {
    const char *cursor = http_query_get(&export->request->query, "cursor");
    export->cursor = (struct http_cursor){.phase = CURSOR_WAITING};
    if (cursor && *cursor && http_cursor_parse(cursor, &export->cursor) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "cursor: must be a next_cursor of an export");
        return false;
    }
    return true;
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
    if (err == ERR_OK && client_selector_is_empty(export->selector)) {
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
    return client_selector_matches(export->selector, &facts);
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

static enum err export_clients(struct export *export) {
    enum err err = ERR_OK;
    for (size_t scans = 0;
         err == ERR_OK && scans < EXPORT_SCANS_MAX && export->cursor.phase != CURSOR_END &&
         json_array_size(export->documents) < EXPORT_PAGE_LEN;
         scans++) {
        err = export_scan(export);
    }
    return err;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void export_answer(const struct export *export, struct http_response *response) {
    char text[HTTP_CURSOR_LEN];
    json_t *next = json_null();
    if (export->cursor.phase != CURSOR_END) {
        http_cursor_format(&export->cursor, text);
        next = json_string(text);
    }
    http_answer_json(response, 200,
                     json_pack("{s:O, s:O, s:I, s:o}", "documents", export->documents, "skipped",
                               export->skipped, "total", export->total, "next_cursor", next));
}

void api_export(struct http_request *request, struct http_response *response) {
    struct export export = {.request = request, .documents = json_array(), .skipped = json_array()};
    if (export_parse_secrets(&export, response) && export_parse_cursor(&export, response) &&
        export_parse_selector(&export, response)) {
        enum err err = export_is_first_page(&export) ? export_resources(&export) : ERR_OK;
        err = err == ERR_OK ? export_clients(&export) : err;
        if (err == ERR_OK) {
            export_answer(&export, response);
        } else {
            http_problem_store(response, err);
        }
    }
    client_selector_destroy(export.selector);
    json_decref(export.documents);
    json_decref(export.skipped);
}
