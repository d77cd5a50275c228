/* Clients that a selector selects: how many, by groups, and the first ones in an order. Every node
 * makes one of its own clients, and the node that was asked merges them. One thread at a time. */
#ifndef MQFLEET_SELECTION_SELECTION_H
#define MQFLEET_SELECTION_SELECTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "http/api/selection/tally.h"
#include "mqtt/client/client_selector.h"
#include "mqtt/workers/workers.h"

/* X(symbol, name): by what the items are sorted; equal ones by id. */
#define SELECTION_SORT_TABLE(X)                                                                    \
    X(SELECTION_BY_ID, "id")                                                                       \
    X(SELECTION_BY_STATE, "state")     /* in the order of the alphabet */                          \
    X(SELECTION_BY_SINCE, "since")     /* the last change of the state */                          \
    X(SELECTION_BY_CHANGED, "changed") /* the last change of the configuration */

enum selection_sort {
#define SELECTION_SORT_SYMBOL(symbol, name) symbol,
    SELECTION_SORT_TABLE(SELECTION_SORT_SYMBOL)
#undef SELECTION_SORT_SYMBOL
        SELECTION_SORT_COUNT
};

#define SELECTION_ALL SIZE_MAX

struct selection_item {
    char *id;
    int64_t key; /* of the order */
};

struct selection_query {
    struct client_selector *selector; /* owned; NULL: all clients */
    struct client_selector *scope;    /* of the caller: must match too; owned, NULL: none */
    bool grouped;
    enum client_selector_key by; /* if grouped */
    char *by_label;              /* owned; of CLIENT_SELECTOR_LABEL */
    size_t limit;                /* of items; 0: none, SELECTION_ALL */
    enum selection_sort sort;
    bool descending;
    struct selection_item after; /* owned; only items behind this one; id NULL: from the first */
};

struct selection {
    const struct selection_query *query; /* borrowed */
    int64_t seen, count; /* clients that were looked at; that match, also those before `after` */
    struct tally tally;
    struct selection_item *items; /* in order after selection_finish */
    size_t item_count, item_capacity;
    bool is_cut;        /* the first `limit` items are in order, others were dropped */
    bool more;          /* there are further items behind these */
    bool out_of_memory; /* it is not complete */
};

void selection_query_fini(struct selection_query *query);
/* "state", "label.tenant" ...: sets `by` and `by_label`. ERR_ARGUMENT: no key that groups clients.
 */
enum err selection_query_group(struct selection_query *query, const char *by) MUST_CHECK;
/* "id", "-since" ...; "-": descending. ERR_ARGUMENT. */
enum err selection_query_sort(struct selection_query *query, const char *sort) MUST_CHECK;
/* sort and descending as a number below 2 * SELECTION_SORT_COUNT: twice the sort, plus 1. */
unsigned selection_query_order(const struct selection_query *query);

void selection_init(struct selection *selection, const struct selection_query *query);
void selection_fini(struct selection *selection);
/* A workers_visitor; context: the selection. */
void selection_add(void *context, const struct workers_visited *client);
/* Sorts the items, cuts them to the limit and removes duplicates. */
void selection_finish(struct selection *selection);

/* Between nodes (docs/protocol.md). NULL: out of memory. */
json_t *selection_query_to_json(const struct selection_query *query);
/* ERR_ARGUMENT: `fault` says why. *out: selection_query_fini in any case. */
enum err selection_query_from_json(const json_t *json, struct selection_query *out,
                                   char fault[CLIENT_SELECTOR_FAULT_LEN]) MUST_CHECK;
json_t *selection_to_json(const struct selection *selection);
/* ERR_ARGUMENT: not such a document; a part may have been merged. */
enum err selection_merge_json(struct selection *selection, const json_t *json) MUST_CHECK;

#endif
