/* GET /api/v1/clients: the clients of the fleet, page by page. Workers; waits for other nodes. Work
 * per request is bounded; what was not looked at is left to the next cursor.
 *
 * A list is no snapshot. Waiting clients come before owned ones, so that one which is placed in the
 * meantime is not missed; it may come up on a later page again. */
#include "http/api.h"

#include <stdlib.h>
#include <string.h>
#include "http/cursor.h"
#include "http/json.h"
#include "http/problem.h"

#define LIMIT_STANDARD 100
#define LIMIT_MAX      1000
#define PAGES_MAX      20  /* of HSCAN in one request */
#define SCAN_COUNT     500 /* rows asked of HSCAN when a filter may drop most of them */
#define LABEL_PREFIX   "label."

struct filter {
    const char *state;              /* NULL: any */
    const char *node;               /* NULL: any */
    const struct http_query *query; /* for the labels */
    bool labels;
    int degraded; /* -1: any */
};

/* Lives until the answer, while pages are read and the owners of their rows are asked. */
struct listing {
    const struct http_request *request;
    struct filter filter;
    struct http_cursor cursor;
    size_t limit;
    json_t *clients;
    json_t *given; /* ids in `clients`, as keys */
    int pages;     /* read so far */
    uint64_t scan; /* where the next page begins */
    bool whole;    /* all rows of this page that may be wanted have been asked for */
};

/* ---- the query ------------------------------------------------------------------------------- */

static bool is_label(const char *name) {
    return strncmp(name, LABEL_PREFIX, strlen(LABEL_PREFIX)) == 0;
}

/* -1: any; -2: neither true nor false. */
static int degraded_of(const struct http_query *query) {
    const char *text = http_query_get(query, "degraded");
    if (text == NULL) {
        return -1;
    }
    return strcmp(text, "true") == 0 ? 1 : strcmp(text, "false") == 0 ? 0 : -2;
}

/* Clients that wait are on no node, never degraded, and never in another state than these two. */
static bool wants_waiting(const struct filter *filter) {
    return filter->node == NULL && filter->degraded != 1 &&
           (filter->state == NULL || strcmp(filter->state, "waiting") == 0 ||
            strcmp(filter->state, "conflict") == 0);
}

/* False: answered. */
static bool listing_init(struct listing *listing, const struct http_request *request,
                         struct http_response *response) {
    const struct http_query *query = &request->query;
    *listing = (struct listing){.request = request};
    listing->filter = (struct filter){.state = http_query_get(query, "state"),
                                      .node = http_query_get(query, "node"),
                                      .degraded = degraded_of(query),
                                      .query = query};
    for (size_t i = 0; i < query->count; i++) {
        listing->filter.labels = listing->filter.labels || is_label(query->items[i].name);
    }
    const char *cursor = http_query_get(query, "cursor");
    cursor = cursor != NULL && cursor[0] == '\0' ? NULL : cursor;
    int64_t limit;
    if (http_query_int(query, "limit", 1, LIMIT_MAX, LIMIT_STANDARD, &limit) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "limit: must be a number from 1 to %d",
                     LIMIT_MAX);
    } else if (listing->filter.state != NULL && !client_state_known(listing->filter.state)) {
        http_problem(response, PROBLEM_BAD_REQUEST,
                     "state: must be waiting, connecting, online, backoff, conflict or paused");
    } else if (listing->filter.degraded == -2) {
        http_problem(response, PROBLEM_BAD_REQUEST, "degraded: must be true or false");
    } else if (cursor != NULL && http_cursor_parse(cursor, &listing->cursor) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "cursor: must be a next_cursor of this list");
    } else {
        listing->limit = (size_t)limit;
        if (cursor == NULL) {
            listing->cursor.phase = wants_waiting(&listing->filter) ? CURSOR_WAITING : CURSOR_OWNED;
        }
        return true;
    }
    return false;
}

/* ---- filters --------------------------------------------------------------------------------- */

static bool has_label(const struct client_config *config, const char *name, const char *value) {
    for (size_t i = 0; i < config->label_count; i++) {
        if (strcmp(config->labels[i].name, name) == 0) {
            return strcmp(config->labels[i].value, value) == 0;
        }
    }
    return false;
}

static bool labels_match(const struct filter *filter, const struct client_config *config) {
    for (size_t i = 0; i < filter->query->count; i++) {
        const struct http_pair *pair = &filter->query->items[i];
        if (is_label(pair->name) &&
            (config == NULL ||
             !has_label(config, pair->name + strlen(LABEL_PREFIX), pair->value))) {
            return false;
        }
    }
    return true;
}

static bool row_matches(const struct filter *filter, const struct store_client *row) {
    return filter->node == NULL ||
           (row->owner.node != NULL && strcmp(row->owner.node, filter->node) == 0);
}

static bool document_matches(const struct filter *filter, const json_t *document) {
    const json_t *status = json_object_get(document, "status");
    const char *state = json_string_value(json_object_get(status, "state"));
    bool degraded = json_is_true(json_object_get(status, "degraded"));
    return (filter->state == NULL || (state != NULL && strcmp(state, filter->state) == 0)) &&
           (filter->degraded < 0 || filter->degraded == degraded);
}

/* ---- one page of HSCAN ----------------------------------------------------------------------- */

static int compare_rows(const void *left, const void *right) {
    const struct store_client *a = left;
    const struct store_client *b = right;
    uint64_t a_hash = http_cursor_hash(a->id);
    uint64_t b_hash = http_cursor_hash(b->id);
    return a_hash != b_hash ? (a_hash < b_hash ? -1 : 1) : strcmp(a->id, b->id);
}

/* Keeps the rows of the page that were not given yet and that the filter may want, in order. */
static size_t rows_prepare(const struct listing *listing, struct store_client *rows, size_t n) {
    if (n == 0) {
        return 0;
    }
    qsort(rows, n, sizeof(*rows), compare_rows);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        bool again = kept > 0 && strcmp(rows[kept - 1].id, rows[i].id) == 0;
        if (!again && http_cursor_hash(rows[i].id) > listing->cursor.after &&
            row_matches(&listing->filter, &rows[i])) {
            struct store_client moved = rows[kept];
            rows[kept++] = rows[i];
            rows[i] = moved;
        }
    }
    return kept;
}

/* Takes ownership of status. */
static void row_show(struct listing *listing, const struct store_client *row, json_t *status) {
    struct client_view view;
    client_view_open(&view, row, listing->request->api->context.outlook);
    bool again = json_object_get(listing->given, row->id) != NULL;
    if (!again && labels_match(&listing->filter, view.config)) {
        json_t *document = client_view_document(&view, status);
        if (document_matches(&listing->filter, document)) {
            json_array_append_new(listing->clients, document);
            json_object_set_new(listing->given, row->id, json_true());
        } else {
            json_decref(document);
        }
    } else {
        json_decref(status);
    }
    client_view_close(&view);
}

/* How many rows need their status: without a filter, no more than still fit. */
static size_t rows_wanted(const struct listing *listing, size_t n) {
    size_t room = listing->limit - json_array_size(listing->clients);
    const struct filter *filter = &listing->filter;
    bool filtered = filter->state != NULL || filter->labels || filter->degraded >= 0;
    return filtered || n < room ? n : room;
}

/* Shows rows until the limit; true: all of them. Else the cursor stands after the last one. */
static bool rows_show(struct listing *listing, struct fleet_rows *rows) {
    size_t i = 0;
    for (; i < rows->n && json_array_size(listing->clients) < listing->limit; i++) {
        row_show(listing, &rows->rows[i], rows->statuses[i]);
        rows->statuses[i] = NULL;
        listing->cursor.after = http_cursor_hash(rows->rows[i].id);
    }
    return i == rows->n && listing->whole;
}

static void listing_advance(struct listing *listing, uint64_t scan) {
    struct http_cursor *cursor = &listing->cursor;
    cursor->after = 0;
    cursor->scan = scan;
    if (scan == 0) {
        cursor->phase = cursor->phase == CURSOR_WAITING ? CURSOR_OWNED : CURSOR_END;
    }
}

static void listing_answer(struct listing *listing, struct http_response *response) {
    json_t *next = json_null();
    if (listing->cursor.phase != CURSOR_END) {
        char text[HTTP_CURSOR_LEN];
        http_cursor_format(&listing->cursor, text);
        next = json_string(text);
    }
    http_answer_json(response, 200,
                     json_pack("{s:O, s:o}", "clients", listing->clients, "next_cursor", next));
}

static void listing_free(void *data) {
    struct listing *listing = data;
    json_decref(listing->clients);
    json_decref(listing->given);
    free(listing);
}

static void listing_go_on(struct listing *listing, struct http_request *request,
                          struct http_response *response);

static void page_show(struct http_request *request, struct http_response *response,
                      struct fleet_rows *rows, void *context) {
    struct listing *listing = context;
    if (rows_show(listing, rows)) {
        listing_advance(listing, listing->scan);
    }
    fleet_rows_fini(rows);                         /* one page at a time */
    struct listing *moved = malloc(sizeof *moved); /* the context goes with the rows */
    if (!moved) {
        http_problem_memory(response);
        return;
    }
    *moved = *listing;
    listing->clients = listing->given = NULL;
    listing_go_on(moved, request, response);
}

/* The rows that nobody wants are freed here. */
static size_t page_cut(struct store_client *rows, size_t n, size_t wanted) {
    for (size_t i = wanted; i < n; i++) {
        store_client_fini(&rows[i]);
    }
    return wanted;
}

/* Reads a page and asks for its rows' statuses; takes the listing over. */
static void page_read(struct listing *listing, struct http_request *request,
                      struct http_response *response) {
    const struct filter *filter = &listing->filter;
    bool filtered =
        filter->state != NULL || filter->node != NULL || filter->labels || filter->degraded >= 0;
    size_t count = filtered ? SCAN_COUNT : listing->limit;
    enum store_where where = listing->cursor.phase == CURSOR_OWNED ? STORE_OWNED : STORE_WAITING;
    struct store_client *rows = NULL;
    size_t n = 0;
    listing->scan = listing->cursor.scan;
    enum err result =
        store_page(request->api->context.store, where, &listing->scan, count, &rows, &n, NULL);
    if (result != ERR_OK) {
        listing_free(listing);
        http_problem_store(response, result);
        return;
    }
    size_t kept = rows_prepare(listing, rows, n);
    size_t wanted = rows_wanted(listing, kept);
    listing->whole = wanted == kept;
    fleet_statuses(request, response, rows, page_cut(rows, n, wanted), page_show, listing,
                   listing_free);
}

/* Takes the listing over. */
static void listing_go_on(struct listing *listing, struct http_request *request,
                          struct http_response *response) {
    if (listing->pages++ < PAGES_MAX && listing->cursor.phase != CURSOR_END &&
        json_array_size(listing->clients) < listing->limit) {
        page_read(listing, request, response);
        return;
    }
    listing_answer(listing, response);
    listing_free(listing);
}

void api_clients_list(struct http_request *request, struct http_response *response) {
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        http_problem_memory(response);
        return;
    }
    if (!listing_init(listing, request, response)) {
        free(listing);
        return;
    }
    listing->clients = json_array();
    listing->given = json_object();
    listing_go_on(listing, request, response);
}
