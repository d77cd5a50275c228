/* GET /api/v1/clients: the clients of the fleet, in pages. The handler threads; the request waits
 * for other nodes. The work per request is bounded; the next cursor covers the rest.
 *
 * A list is not a snapshot. Waiting clients come before owned ones, so a client that is assigned in
 * the meantime is not missed, but it may occur again on a later page. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "http/api/cursor.h"
#include "http/server/json.h"
#include "http/server/problem.h"

#define LIMIT_DEFAULT  100
#define LIMIT_MAX      1000
#define LIST_PAGES_MAX 20  /* of HSCAN in one request */
#define SCAN_COUNT     500 /* rows per HSCAN if a filter may exclude most of them */
#define LABEL_PREFIX   "label."

struct filter {
    const char *state;              /* NULL: any */
    const char *node;               /* NULL: any */
    const struct http_query *query; /* for the labels */
    const struct scope *scope;      /* of the caller */
    bool has_labels;
    int degraded; /* -1: any */
};

/* The state of one request until its answer. */
struct listing {
    const struct http_request *request;
    struct filter filter;
    struct http_cursor cursor;
    size_t limit;
    json_t *clients;
    json_t *seen_ids;   /* ids in `clients`, as keys */
    int pages_read;     /* read so far */
    uint64_t next_scan; /* where the next page begins */
    bool page_complete; /* the statuses of all matching rows of this page are requested */
};

/* ---- the query ------------------------------------------------------------------------------- */

static bool clients_list_is_label(const char *name) {
    return strncmp(name, LABEL_PREFIX, strlen(LABEL_PREFIX)) == 0;
}

/* -1: any; -2: neither true nor false. */
static int clients_list_parse_degraded(const struct http_query *query) {
    const char *text = http_query_get(query, "degraded");
    if (!text) {
        return -1;
    }
    return strcmp(text, "true") == 0 ? 1 : strcmp(text, "false") == 0 ? 0 : -2;
}

/* Waiting clients have no node, are never degraded, and have one of these two states. */
static bool clients_list_includes_waiting(const struct filter *filter) {
    return !filter->node && filter->degraded != 1 &&
           (!filter->state || strcmp(filter->state, "waiting") == 0 ||
            strcmp(filter->state, "conflict") == 0);
}

/* False: answered. */
static bool clients_list_init(struct listing *listing, const struct http_request *request,
                              struct http_response *response) {
    const struct http_query *query = &request->query;
    *listing = (struct listing){.request = request};
    listing->filter = (struct filter){.state = http_query_get(query, "state"),
                                      .node = http_query_get(query, "node"),
                                      .degraded = clients_list_parse_degraded(query),
                                      .query = query};
    listing->filter.scope = &request->caller.scope;
    listing->filter.has_labels = scope_is_set(listing->filter.scope);
    for (size_t i = 0; i < query->count; i++) {
        listing->filter.has_labels =
            listing->filter.has_labels || clients_list_is_label(query->items[i].name);
    }
    const char *cursor = http_query_get(query, "cursor");
    cursor = cursor && cursor[0] == '\0' ? NULL : cursor;
    int64_t limit;
    if (http_query_int(query, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &limit) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "limit: must be a number from 1 to %d",
                     LIMIT_MAX);
    } else if (listing->filter.state && !client_state_is_known(listing->filter.state)) {
        http_problem(response, PROBLEM_BAD_REQUEST,
                     "state: must be waiting, connecting, online, backoff, conflict or paused");
    } else if (listing->filter.degraded == -2) {
        http_problem(response, PROBLEM_BAD_REQUEST, "degraded: must be true or false");
    } else if (cursor && http_cursor_parse(cursor, &listing->cursor) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "cursor: must be a next_cursor of this list");
    } else {
        listing->limit = (size_t)limit;
        if (!cursor) {
            listing->cursor.phase =
                clients_list_includes_waiting(&listing->filter) ? CURSOR_WAITING : CURSOR_OWNED;
        }
        return true;
    }
    return false;
}

/* ---- filters --------------------------------------------------------------------------------- */

static bool clients_list_has_label(const struct client_config *config, const char *name,
                                   const char *value) {
    for (size_t i = 0; i < config->label_count; i++) {
        if (strcmp(config->labels[i].name, name) == 0) {
            return strcmp(config->labels[i].value, value) == 0;
        }
    }
    return false;
}

static bool clients_list_labels_match(const struct filter *filter,
                                      const struct client_config *config) {
    for (size_t i = 0; i < filter->query->count; i++) {
        const struct http_pair *pair = &filter->query->items[i];
        if (clients_list_is_label(pair->name) &&
            (!config ||
             !clients_list_has_label(config, pair->name + strlen(LABEL_PREFIX), pair->value))) {
            return false;
        }
    }
    return scope_includes(filter->scope, config);
}

static bool clients_list_row_matches(const struct filter *filter, const struct store_client *row) {
    return !filter->node || (row->owner.node && strcmp(row->owner.node, filter->node) == 0);
}

static bool clients_list_document_matches(const struct filter *filter, const json_t *document) {
    const json_t *status = json_object_get(document, "status");
    const char *state = json_string_value(json_object_get(status, "state"));
    bool degraded = json_is_true(json_object_get(status, "degraded"));
    return (!filter->state || (state && strcmp(state, filter->state) == 0)) &&
           (filter->degraded < 0 || filter->degraded == degraded);
}

/* ---- one page of HSCAN ----------------------------------------------------------------------- */

static int clients_list_compare_rows(const void *left, const void *right) {
    const struct store_client *a = left;
    const struct store_client *b = right;
    uint64_t a_hash = http_cursor_hash(a->id);
    uint64_t b_hash = http_cursor_hash(b->id);
    return a_hash != b_hash ? (a_hash < b_hash ? -1 : 1) : strcmp(a->id, b->id);
}

/* Keeps, in order, the rows of the page after the cursor that may match the filter. */
static size_t clients_list_prepare_rows(const struct listing *listing, struct store_client *rows,
                                        size_t n) {
    if (n == 0) {
        return 0;
    }
    qsort(rows, n, sizeof *rows, clients_list_compare_rows);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        bool again = kept > 0 && strcmp(rows[kept - 1].id, rows[i].id) == 0;
        if (!again && http_cursor_hash(rows[i].id) > listing->cursor.after &&
            clients_list_row_matches(&listing->filter, &rows[i])) {
            struct store_client moved = rows[kept];
            rows[kept++] = rows[i];
            rows[i] = moved;
        }
    }
    return kept;
}

/* Takes ownership of status. */
static void clients_list_show_row(struct listing *listing, const struct store_client *row,
                                  json_t *status) {
    struct client_view view;
    client_view_open(&view, row, listing->request->api->context.wait_reasons);
    bool again = json_object_get(listing->seen_ids, row->id) != NULL;
    if (!again && clients_list_labels_match(&listing->filter, view.config)) {
        json_t *document = client_view_document(&view, status);
        if (clients_list_document_matches(&listing->filter, document)) {
            json_array_append_new(listing->clients, document);
            json_object_set_new(listing->seen_ids, row->id, json_true());
        } else {
            json_decref(document);
        }
    } else {
        json_decref(status);
    }
    client_view_close(&view);
}

/* How many rows need their status; without a filter, only as many as fit into the answer. */
static size_t clients_list_wanted_count(const struct listing *listing, size_t n) {
    size_t room = listing->limit - json_array_size(listing->clients);
    const struct filter *filter = &listing->filter;
    bool filtered = filter->state || filter->has_labels || filter->degraded >= 0;
    return filtered || n < room ? n : room;
}

/* Adds rows up to the limit. True: all rows; false: the cursor is after the last one. */
static bool clients_list_show_rows(struct listing *listing, struct peer_proxy_rows *rows) {
    size_t i = 0;
    for (; i < rows->n && json_array_size(listing->clients) < listing->limit; i++) {
        clients_list_show_row(listing, &rows->rows[i], rows->statuses[i]);
        rows->statuses[i] = NULL;
        listing->cursor.after = http_cursor_hash(rows->rows[i].id);
    }
    return i == rows->n && listing->page_complete;
}

static void clients_list_advance(struct listing *listing, uint64_t scan) {
    struct http_cursor *cursor = &listing->cursor;
    cursor->after = 0;
    cursor->scan = scan;
    if (scan == 0) {
        cursor->phase = cursor->phase == CURSOR_WAITING ? CURSOR_OWNED : CURSOR_END;
    }
}

static void clients_list_answer(struct listing *listing, struct http_response *response) {
    json_t *next = json_null();
    if (listing->cursor.phase != CURSOR_END) {
        char text[HTTP_CURSOR_LEN];
        http_cursor_format(&listing->cursor, text);
        next = json_string(text);
    }
    http_answer_json(response, 200,
                     json_pack("{s:O, s:o}", "clients", listing->clients, "next_cursor", next));
}

static void clients_list_free(void *data) {
    struct listing *listing = data;
    json_decref(listing->clients);
    json_decref(listing->seen_ids);
    free(listing);
}

static void clients_list_continue(struct listing *listing, struct http_request *request,
                                  struct http_response *response);

static void clients_list_show_page(struct http_request *request, struct http_response *response,
                                   struct peer_proxy_rows *rows, void *context) {
    struct listing *listing = context;
    if (clients_list_show_rows(listing, rows)) {
        clients_list_advance(listing, listing->next_scan);
    }
    peer_proxy_rows_fini(rows);                    /* one page at a time */
    struct listing *moved = malloc(sizeof *moved); /* the context goes with the rows */
    if (!moved) {
        http_problem_memory(response);
        return;
    }
    *moved = *listing;
    listing->clients = listing->seen_ids = NULL;
    clients_list_continue(moved, request, response);
}

/* Frees the rows that do not match. */
static size_t clients_list_trim_page(struct store_client *rows, size_t n, size_t wanted) {
    for (size_t i = wanted; i < n; i++) {
        store_client_fini(&rows[i]);
    }
    return wanted;
}

/* Reads a page and requests the statuses of its rows; takes over the listing. */
static void clients_list_read_page(struct listing *listing, struct http_request *request,
                                   struct http_response *response) {
    const struct filter *filter = &listing->filter;
    bool filtered = filter->state || filter->node || filter->has_labels || filter->degraded >= 0;
    size_t count = filtered ? SCAN_COUNT : listing->limit;
    enum store_client_state where =
        listing->cursor.phase == CURSOR_OWNED ? STORE_OWNED : STORE_WAITING;
    struct store_client *rows = NULL;
    size_t n = 0;
    listing->next_scan = listing->cursor.scan;
    enum err err =
        store_page(request->api->context.store, where, &listing->next_scan, count, &rows, &n, NULL);
    if (err != ERR_OK) {
        clients_list_free(listing);
        http_problem_store(response, err);
        return;
    }
    size_t kept = clients_list_prepare_rows(listing, rows, n);
    size_t wanted = clients_list_wanted_count(listing, kept);
    listing->page_complete = wanted == kept;
    peer_proxy_statuses(request, response, rows, clients_list_trim_page(rows, n, wanted),
                        clients_list_show_page, listing, clients_list_free);
}

/* Takes over the listing. */
static void clients_list_continue(struct listing *listing, struct http_request *request,
                                  struct http_response *response) {
    if (listing->pages_read++ < LIST_PAGES_MAX && listing->cursor.phase != CURSOR_END &&
        json_array_size(listing->clients) < listing->limit) {
        clients_list_read_page(listing, request, response);
        return;
    }
    clients_list_answer(listing, response);
    clients_list_free(listing);
}

void api_clients_list(struct http_request *request, struct http_response *response) {
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        http_problem_memory(response);
        return;
    }
    if (!clients_list_init(listing, request, response)) {
        free(listing);
        return;
    }
    listing->clients = json_array();
    listing->seen_ids = json_object();
    clients_list_continue(listing, request, response);
}
