/* Pages of a list from HSCAN over Redis, with the statuses from the owners. The work per request is
 * bounded; the next cursor covers the rest. Handler threads; the request waits for other nodes.
 *
 * A list is not a snapshot. Waiting clients come before owned ones, so a client that is assigned in
 * the meantime is not missed, but it may occur again on a later page. */
#include <stdlib.h>
#include <string.h>
#include "http/api/api.h"
#include "http/api/selection/listing.h"
#include "http/server/problem.h"

#define SCAN_PAGES_MAX 20  /* calls of HSCAN for one request */
#define SCAN_COUNT     500 /* rows per HSCAN if the selector may exclude most of them */

static bool listing_scan_is_filtered(const struct listing *listing) {
    return !client_selector_is_empty(listing->query.selector) || listing->query.scope;
}

static int listing_scan_compare_rows(const void *left, const void *right) {
    const struct store_client *a = left;
    const struct store_client *b = right;
    uint64_t a_hash = http_cursor_hash(a->id);
    uint64_t b_hash = http_cursor_hash(b->id);
    return a_hash != b_hash ? (a_hash < b_hash ? -1 : 1) : strcmp(a->id, b->id);
}

/* Keeps, in order, the rows of the page after the cursor. */
static size_t listing_scan_prepare_rows(const struct listing *listing, struct store_client *rows,
                                        size_t n) {
    if (n == 0) {
        return 0;
    }
    qsort(rows, n, sizeof *rows, listing_scan_compare_rows);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        bool again = kept > 0 && strcmp(rows[kept - 1].id, rows[i].id) == 0;
        if (!again && http_cursor_hash(rows[i].id) > listing->cursor.after) {
            struct store_client moved = rows[kept];
            rows[kept++] = rows[i];
            rows[i] = moved;
        }
    }
    return kept;
}

/* How many rows need their status; without a selector, only as many as fit into the answer. */
static size_t listing_scan_wanted_count(const struct listing *listing, size_t n) {
    size_t room = listing->limit - json_array_size(listing->clients);
    return listing_scan_is_filtered(listing) || n < room ? n : room;
}

/* Adds rows up to the limit. True: all rows; false: the cursor is after the last one. */
static bool listing_scan_show_rows(struct listing *listing, struct peer_proxy_rows *rows) {
    size_t i = 0;
    for (; i < rows->n && json_array_size(listing->clients) < listing->limit; i++) {
        listing_show(listing, &rows->rows[i], rows->statuses[i]);
        rows->statuses[i] = NULL;
        listing->cursor.after = http_cursor_hash(rows->rows[i].id);
    }
    return i == rows->n && listing->page_complete;
}

static void listing_scan_advance(struct listing *listing, uint64_t scan) {
    struct http_cursor *cursor = &listing->cursor;
    cursor->after = 0;
    cursor->scan = scan;
    if (scan == 0) {
        cursor->phase = cursor->phase == CURSOR_WAITING ? CURSOR_OWNED : CURSOR_END;
    }
}

static void listing_scan_show_page(struct http_request *request, struct http_response *response,
                                   struct peer_proxy_rows *rows, void *context) {
    struct listing *listing = context;
    if (listing_scan_show_rows(listing, rows)) {
        listing_scan_advance(listing, listing->next_scan);
    }
    peer_proxy_rows_fini(rows);                    /* one page at a time */
    struct listing *moved = malloc(sizeof *moved); /* the context goes with the rows */
    if (!moved) {
        http_problem_memory(response);
        return;
    }
    *moved = *listing;
    *listing = (struct listing){0};
    listing_scan(moved, request, response);
}

/* Frees the rows that do not match. */
static size_t listing_scan_trim_page(struct store_client *rows, size_t n, size_t wanted) {
    for (size_t i = wanted; i < n; i++) {
        store_client_fini(&rows[i]);
    }
    return wanted;
}

/* Reads a page and requests the statuses of its rows; takes over the listing. */
static void listing_scan_read_page(struct listing *listing, struct http_request *request,
                                   struct http_response *response) {
    size_t count = listing_scan_is_filtered(listing) ? SCAN_COUNT : listing->limit;
    enum store_client_state where =
        listing->cursor.phase == CURSOR_OWNED ? STORE_OWNED : STORE_WAITING;
    struct store_client *rows = NULL;
    size_t n = 0;
    listing->next_scan = listing->cursor.scan;
    enum err err =
        store_page(request->api->context.store, where, &listing->next_scan, count, &rows, &n, NULL);
    if (err != ERR_OK) {
        listing_destroy(listing);
        http_problem_store(response, err);
        return;
    }
    size_t kept = listing_scan_prepare_rows(listing, rows, n);
    size_t wanted = listing_scan_wanted_count(listing, kept);
    listing->page_complete = wanted == kept;
    peer_proxy_statuses(request, response, rows, listing_scan_trim_page(rows, n, wanted),
                        listing_scan_show_page, listing, listing_destroy);
}

/* Of the whole fleet, which needs no scan. False: answered. */
static bool listing_scan_count(struct listing *listing, struct http_response *response) {
    struct store_counts counts;
    enum err err = store_counts(listing->request->api->context.store, &counts);
    if (err != ERR_OK) {
        http_problem_store(response, err);
        return false;
    }
    json_object_set_new(listing->notes, "count",
                        listing_scan_is_filtered(listing)
                            ? json_null()
                            : json_integer((json_int_t)(counts.waiting + counts.owned)));
    return true;
}

void listing_scan(struct listing *listing, struct http_request *request,
                  struct http_response *response) {
    if (listing->pages_read++ < SCAN_PAGES_MAX && listing->cursor.phase != CURSOR_END &&
        json_array_size(listing->clients) < listing->limit) {
        listing_scan_read_page(listing, request, response);
        return;
    }
    if (listing->count_wanted && !listing_scan_count(listing, response)) {
        listing_destroy(listing);
        return;
    }
    if (listing->cursor.phase != CURSOR_END) {
        char text[HTTP_CURSOR_LEN];
        http_cursor_format(&listing->cursor, text);
        listing->next = strdup(text);
    }
    listing_answer(listing, response);
}
