/* One request of GET /api/v1/clients until its answer. Two ways lead to a page: a scan over Redis
 * (listing_scan.c), for the whole fleet without an order, and the answers of all nodes
 * (listing_selected.c), for a selector or an order. Handler threads. */
#ifndef MQFLEET_SELECTION_LISTING_H
#define MQFLEET_SELECTION_LISTING_H

#include "http/api/cursor.h"
#include "http/api/selection/selection.h"
#include "http/server/request.h"
#include "http/server/response.h"
#include "store/store.h"

struct listing {
    const struct http_request *request;
    struct selection_query query;
    size_t limit;
    bool count_wanted;
    json_t *clients;
    json_t *seen_ids; /* ids in `clients`, as keys */
    json_t *notes;    /* further members of the answer */
    char *next;       /* next_cursor; NULL: the last page */
    /* Of the scan. */
    struct http_cursor cursor;
    int pages_read;     /* read so far */
    uint64_t next_scan; /* where the next page begins */
    bool page_complete; /* the statuses of all matching rows of this page are requested */
};

void listing_destroy(void *listing); /* NULL is legal */
/* Adds the document of the client, unless it does not match (any more) or is there already. Takes
 * ownership of status. */
void listing_show(struct listing *listing, const struct store_client *row, json_t *status);
/* Answers and destroys. */
void listing_answer(struct listing *listing, struct http_response *response);

/* Both take over the listing. */
void listing_scan(struct listing *listing, struct http_request *request,
                  struct http_response *response);
void listing_selected(struct listing *listing, struct http_request *request,
                      struct http_response *response);

#endif
