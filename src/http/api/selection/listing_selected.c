/* A page of a list from the answers of all nodes: the ids come from their memory, the
 * configurations from Redis, the statuses from the owners. Handler threads; the request waits for
 * other nodes.
 *
 * The order is total, and a page begins behind the last client of the one before. So a client whose
 * key does not change during the list occurs once, even if others come and go. */
#include <stdlib.h>
#include <string.h>
#include "http/api/api.h"
#include "http/api/selection/listing.h"
#include "http/api/selection/select_round.h"
#include "http/server/problem.h"

/* Sorts the rows as the items are; rows of other ids do not exist. */
static size_t listing_selected_sort_rows(const struct selection *selection,
                                         struct store_client *rows, size_t n) {
    size_t at = 0;
    for (size_t i = 0; i < selection->item_count; i++) {
        size_t found = at;
        while (found < n && strcmp(rows[found].id, selection->items[i].id) != 0) {
            found++;
        }
        if (found < n) {
            struct store_client row = rows[at];
            rows[at++] = rows[found];
            rows[found] = row;
        }
    }
    for (size_t i = at; i < n; i++) {
        store_client_fini(&rows[i]);
    }
    return at;
}

static void listing_selected_show(struct http_request *request, struct http_response *response,
                                  struct peer_proxy_rows *rows, void *context) {
    struct listing *listing = context;
    (void)request;
    for (size_t i = 0; i < rows->n; i++) {
        listing_show(listing, &rows->rows[i], rows->statuses[i]);
        rows->statuses[i] = NULL;
    }
    struct listing *moved = malloc(sizeof *moved); /* the context goes with the rows */
    if (!moved) {
        http_problem_memory(response);
        return;
    }
    *moved = *listing;
    *listing = (struct listing){0};
    listing_answer(moved, response);
}

/* Reads the configurations, and requests the statuses; takes over the listing. */
static void listing_selected_read(struct listing *listing, const struct selection *selection,
                                  struct http_request *request, struct http_response *response) {
    struct store_client *rows = NULL;
    size_t n = 0;
    const char **ids = calloc(selection->item_count + 1, sizeof *ids);
    for (size_t i = 0; ids && i < selection->item_count; i++) {
        ids[i] = selection->items[i].id;
    }
    enum err err =
        ids ? store_get_many(request->api->context.store, ids, selection->item_count, &rows, &n)
            : ERR_MEMORY;
    free(ids);
    if (err != ERR_OK) {
        listing_destroy(listing);
        http_problem_store(response, err);
        return;
    }
    n = listing_selected_sort_rows(selection, rows, n);
    peer_proxy_statuses(request, response, rows, n, listing_selected_show, listing,
                        listing_destroy);
}

static void listing_selected_note(struct listing *listing, const struct select_round *round) {
    const struct selection *selection = &round->selection;
    if (listing->count_wanted) {
        json_object_set_new(listing->notes, "count", json_integer((json_int_t)selection->count));
    }
    json_object_set_new(listing->notes, "starting", select_round_starting_json(round));
    json_object_set(listing->notes, "incomplete", round->incomplete);
    if (selection->more && selection->item_count > 0) {
        const struct selection_item *last = &selection->items[selection->item_count - 1];
        struct http_key_cursor cursor = {selection_query_order(&round->query), last->key, last->id};
        listing->next = http_key_cursor_format(&cursor);
    }
}

static void listing_selected_chosen(struct http_request *request, struct http_response *response,
                                    struct select_round *round) {
    struct listing *listing = round->context;
    round->context = NULL;
    bool scans = round->has_old_nodes && !round->query.after.id &&
                 !http_query_get(&request->query, "sort"); /* a scan has no order */
    if (!scans) {
        listing_selected_note(listing, round);
    }
    listing->query = round->query;
    round->query = (struct selection_query){0};
    if (scans) { /* the old nodes are asked for each client */
        listing_scan(listing, request, response);
    } else {
        listing_selected_read(listing, &round->selection, request, response);
    }
}

void listing_selected(struct listing *listing, struct http_request *request,
                      struct http_response *response) {
    listing->query.limit = listing->limit;
    select_round_begin(request, response, &listing->query,
                       &(struct select_round_plan){.then = listing_selected_chosen,
                                                   .context = listing,
                                                   .free_context = listing_destroy});
}
