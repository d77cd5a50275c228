/* GET /api/v1/clients: the clients of the fleet, all or selected, in pages. The handler threads;
 * the request waits for other nodes. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "http/api/cursor.h"
#include "http/api/selection/listing.h"
#include "http/api/selection/select_query.h"
#include "http/api/selection/waiting_scan.h"
#include "http/server/json.h"
#include "http/server/problem.h"

#define LIMIT_DEFAULT 100
#define LIMIT_MAX     1000

void listing_destroy(void *data) {
    struct listing *listing = data;
    if (listing) {
        selection_query_fini(&listing->query);
        json_decref(listing->clients);
        json_decref(listing->seen_ids);
        json_decref(listing->notes);
        free(listing->next);
        free(listing);
    }
}

/* ---- the query ------------------------------------------------------------------------------- */

/* An unset or empty parameter is none. */
static const char *clients_list_parameter(const struct http_request *request, const char *name) {
    const char *value = http_query_get(&request->query, name);
    return value && value[0] != '\0' ? value : NULL;
}

/* False: answered. */
static bool clients_list_read_limit(struct listing *listing, struct http_response *response) {
    int64_t limit;
    if (http_query_int(&listing->request->query, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &limit) !=
        ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "limit: must be a number from 1 to %d",
                     LIMIT_MAX);
        return false;
    }
    listing->limit = (size_t)limit;
    return true;
}

static bool clients_list_read_count(struct listing *listing, struct http_response *response) {
    const char *count = http_query_get(&listing->request->query, "count");
    listing->count_wanted = count && strcmp(count, "true") == 0;
    if (count && !listing->count_wanted && strcmp(count, "false") != 0) {
        http_problem(response, PROBLEM_INVALID, "count: must be true or false");
        return false;
    }
    return true;
}

static bool clients_list_read_sort(struct listing *listing, struct http_response *response) {
    const char *sort = http_query_get(&listing->request->query, "sort");
    if (sort && selection_query_sort(&listing->query, sort) != ERR_OK) {
        http_problem(response, PROBLEM_INVALID,
                     "sort: must be id, state, since or changed, or one of these after \"-\" for "
                     "the reverse");
        return false;
    }
    return true;
}

/* The place of a cursor, and its order unless `sort` gives another one. ERR_ARGUMENT: it belongs to
 * another list. */
static enum err clients_list_continue_behind(struct selection_query *query, const char *cursor,
                                             bool sorted) {
    struct http_key_cursor place;
    enum err err = http_key_cursor_parse(cursor, &place);
    if (err != ERR_OK) {
        return err;
    }
    query->after = (struct selection_item){place.id, place.key};
    if (!sorted && place.order < 2 * SELECTION_SORT_COUNT) {
        query->sort = (enum selection_sort)(place.order / 2);
        query->descending = place.order % 2 == 1;
    }
    return place.order == selection_query_order(query) ? ERR_OK : ERR_ARGUMENT;
}

/* *scans: whether the pages of this list are read by a scan; a cursor says how the earlier ones
 * were. */
static bool clients_list_read_cursor(struct listing *listing, struct http_response *response,
                                     bool *scans) {
    struct selection_query *query = &listing->query;
    const char *cursor = clients_list_parameter(listing->request, "cursor");
    bool sorted = clients_list_parameter(listing->request, "sort") != NULL;
    *scans = client_selector_is_empty(query->selector) && !query->scope && !sorted;
    if (!cursor) {
        listing->cursor.phase = waiting_scan_is_needed(query) ? CURSOR_WAITING : CURSOR_OWNED;
        return true;
    }
    if (cursor[0] == HTTP_KEY_CURSOR_BEGIN) {
        *scans = false;
        if (clients_list_continue_behind(query, cursor, sorted) == ERR_OK) {
            return true;
        }
    } else if (http_cursor_parse(cursor, &listing->cursor) == ERR_OK) {
        *scans = true;
        return true;
    }
    http_problem(response, PROBLEM_BAD_REQUEST,
                 "cursor: must be a next_cursor of this list, with the same sort");
    return false;
}

static bool clients_list_read(struct listing *listing, struct http_response *response,
                              bool *scans) {
    return select_query_parse(listing->request, response, &listing->query) &&
           clients_list_read_limit(listing, response) &&
           clients_list_read_count(listing, response) &&
           clients_list_read_sort(listing, response) &&
           clients_list_read_cursor(listing, response, scans);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static bool clients_list_matches(const struct listing *listing, const struct client_view *view,
                                 const json_t *document) {
    char broker[CLIENT_BROKER_LEN];
    struct client_facts facts;
    client_view_facts(view, json_object_get(document, "status"), broker, &facts);
    return client_selector_matches(listing->query.selector, &facts) &&
           client_selector_matches(listing->query.scope, &facts);
}

void listing_show(struct listing *listing, const struct store_client *row, json_t *status) {
    if (json_object_get(listing->seen_ids, row->id)) {
        json_decref(status);
        return;
    }
    struct client_view view;
    client_view_open(&view, listing->request->api, row);
    json_t *document = client_view_document(&view, status);
    if (document && clients_list_matches(listing, &view, document)) {
        json_array_append(listing->clients, document);
        json_object_set_new(listing->seen_ids, row->id, json_true());
    }
    json_decref(document);
    client_view_close(&view);
}

void listing_answer(struct listing *listing, struct http_response *response) {
    json_t *answer = json_pack("{s:O, s:o}", "clients", listing->clients, "next_cursor",
                               http_json_string(listing->next));
    if (answer) {
        json_object_update(answer, listing->notes);
    }
    http_answer_json(response, 200, answer);
    listing_destroy(listing);
}

void api_clients_list(struct http_request *request, struct http_response *response) {
    bool scans;
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        http_problem_memory(response);
        return;
    }
    listing->request = request;
    if (!clients_list_read(listing, response, &scans)) {
        listing_destroy(listing);
        return;
    }
    listing->clients = json_array();
    listing->seen_ids = json_object();
    listing->notes = json_object();
    if (scans) {
        listing_scan(listing, request, response);
    } else {
        listing_selected(listing, request, response);
    }
}
