/* The brokers of a node, and of a fleet: each node makes a table of its own brokers, and the node
 * that was asked merges them. Pure; one thread at a time. */
#ifndef MQFLEET_BROKERS_BROKER_TABLE_H
#define MQFLEET_BROKERS_BROKER_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>
#include "base/err.h"
#include "mqtt/broker/incident.h"
#include "mqtt/workers/workers.h"

#define BROKER_TABLE_MAX 100000 /* brokers; further ones are not listed, and counted */

/* X(symbol, name): how the clients of a broker are counted. */
#define BROKER_COUNT_TABLE(X)                                                                      \
    X(BROKER_CLIENTS, "clients")                                                                   \
    X(BROKER_ONLINE, "online")                                                                     \
    X(BROKER_CONNECTING, "connecting")                                                             \
    X(BROKER_BACKOFF, "backoff")                                                                   \
    X(BROKER_CONFLICT, "conflict")                                                                 \
    X(BROKER_PAUSED, "paused")                                                                     \
    X(BROKER_DEGRADED, "degraded")                                                                 \
    X(BROKER_SILENT, "silent")

enum broker_count {
#define BROKER_COUNT_SYMBOL(symbol, name) symbol,
    BROKER_COUNT_TABLE(BROKER_COUNT_SYMBOL)
#undef BROKER_COUNT_SYMBOL
        BROKER_COUNT_COUNT
};
const char *broker_count_name(enum broker_count count);

struct broker_row {
    char *broker; /* "host:port" */
    int64_t counts[BROKER_COUNT_COUNT];
    int64_t incident_since_ms;         /* wall clock, of the first incident; 0: none */
    enum client_error first_error;     /* of that incident */
    json_t *incident_nodes;            /* names of the nodes that have an incident */
    json_t *nodes;                     /* names of the nodes with clients of the broker */
    int64_t certificate_expires_at_ms; /* wall clock, the earliest; 0: unknown */
    double connects_per_s;
    struct histogram_values pings; /* round trips of PINGREQ */
    UT_hash_handle hh;
};

struct broker_table {
    const char *node;                    /* of the clients that are added; borrowed */
    const struct client_selector *scope; /* only its clients count, and nothing is told of others;
                                            NULL: all; borrowed */
    struct broker_row *rows;
    int64_t dropped; /* brokers beyond BROKER_TABLE_MAX, once for each node */
    bool out_of_memory;
};

void broker_table_fini(struct broker_table *table);
/* A workers_visitor and an incidents_visitor; context: the table. */
void broker_table_add_client(void *context, const struct workers_visited *client);
void broker_table_add_view(void *context, const struct broker_view *view);

/* Between nodes (docs/protocol.md). NULL: out of memory. */
json_t *broker_table_to_json(const struct broker_table *table);
/* ERR_ARGUMENT: not such a document; a part may have been merged. */
enum err broker_table_merge_json(struct broker_table *table, const json_t *json) MUST_CHECK;

/* Those with an incident first, the earliest of them before the others, then those with the most
 * clients that are not online, then the largest. *n: their number. NULL: out of memory. The caller
 * frees the array. */
struct broker_row **broker_table_sorted(const struct broker_table *table, size_t *n);
/* For users. of_scope: what is measured with the clients of others, too, is null. NULL: out of
 * memory. */
json_t *broker_row_to_json(const struct broker_row *row, bool of_scope);

#endif
