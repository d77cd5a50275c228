/* Owns the rows of the brokers. */
#include "http/api/brokers/broker_table.h"

#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "http/server/json.h"

const char *broker_count_name(enum broker_count count) {
    static const char *const names[] = {
#define BROKER_COUNT_NAME(symbol, name) name,
        BROKER_COUNT_TABLE(BROKER_COUNT_NAME)
#undef BROKER_COUNT_NAME
    };
    return names[count];
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void broker_row_free(struct broker_row *row) {
    json_decref(row->nodes);
    json_decref(row->incident_nodes);
    free(row->broker);
    free(row);
}

void broker_table_fini(struct broker_table *table) {
    struct broker_row *row, *next;
    HASH_ITER(hh, table->rows, row, next) {
        HASH_DEL(table->rows, row);
        broker_row_free(row);
    }
}

static struct broker_row *broker_table_create_row(struct broker_table *table, const char *broker) {
    struct broker_row *row = calloc(1, sizeof *row);
    if (!row) {
        return NULL;
    }
    row->broker = text_dup(broker);
    row->nodes = json_array();
    row->incident_nodes = json_array();
    if (!row->broker || !row->nodes || !row->incident_nodes) {
        broker_row_free(row);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, table->rows, row->broker, strlen(row->broker), row);
    return row;
}

/* NULL: there are too many, or out of memory. */
static struct broker_row *broker_table_row(struct broker_table *table, const char *broker) {
    struct broker_row *row;
    HASH_FIND_STR(table->rows, broker, row);
    if (!row && HASH_COUNT(table->rows) >= BROKER_TABLE_MAX) {
        table->dropped++;
    } else if (!row) {
        row = broker_table_create_row(table, broker);
        table->out_of_memory |= !row;
    }
    return row;
}

static void broker_table_name(struct broker_table *table, json_t *names, const char *node) {
    table->out_of_memory |= json_array_append_new(names, http_json_string(node)) != 0;
}

/* 0: unknown. */
static int64_t broker_row_earliest(int64_t a_ms, int64_t b_ms) {
    return a_ms == 0 || (b_ms != 0 && b_ms < a_ms) ? b_ms : a_ms;
}

static void broker_row_add_incident(struct broker_row *row, int64_t since_ms,
                                    enum client_error error) {
    if (broker_row_earliest(row->incident_since_ms, since_ms) != row->incident_since_ms) {
        row->incident_since_ms = since_ms;
        row->first_error = error;
    }
}

/* ---- this node ------------------------------------------------------------------------------- */

void broker_table_add_client(void *context, const struct workers_visited *client) {
    struct broker_table *table = context;
    if (table->scope && !client_selector_matches(table->scope, &client->facts)) {
        return;
    }
    struct broker_row *row = broker_table_row(table, client->facts.broker);
    if (!row) {
        return;
    }
    if (row->counts[BROKER_CLIENTS]++ == 0) {
        broker_table_name(table, row->nodes, table->node);
    }
    for (enum broker_count count = BROKER_ONLINE; count <= BROKER_PAUSED; count++) {
        row->counts[count] += strcmp(client->facts.state, broker_count_name(count)) == 0;
    }
    row->counts[BROKER_DEGRADED] += client->facts.degraded;
    row->counts[BROKER_SILENT] += client->facts.silent;
}

static void broker_table_add_incident(struct broker_table *table, struct broker_row *row,
                                      const struct broker_view *view) {
    if (view->incident_since_ms != 0) {
        broker_row_add_incident(row, view->incident_since_ms, view->first_error);
        broker_table_name(table, row->incident_nodes, table->node);
    }
}

/* A scope learns of the incident for which its own clients wait here, as their status says. All
 * else is measured with the clients of others, too. */
static void broker_table_add_scoped_view(struct broker_table *table,
                                         const struct broker_view *view) {
    struct broker_row *row;
    HASH_FIND_STR(table->rows, view->broker, row);
    if (row && row->counts[BROKER_BACKOFF] > 0) {
        broker_table_add_incident(table, row, view);
    }
}

void broker_table_add_view(void *context, const struct broker_view *view) {
    struct broker_table *table = context;
    if (table->scope) {
        broker_table_add_scoped_view(table, view);
        return;
    }
    struct broker_row *row = broker_table_row(table, view->broker);
    if (!row) {
        return;
    }
    broker_table_add_incident(table, row, view);
    row->certificate_expires_at_ms = view->certificate_expires_at_ms;
    row->connects_per_s = view->rates.connects_per_s;
    row->pings = view->rates.pings;
}

/* ---- between nodes --------------------------------------------------------------------------- */

static json_t *broker_row_pack(const struct broker_row *row) {
    json_t *counts = json_array(), *pings = json_array();
    for (size_t i = 0; i < BROKER_COUNT_COUNT; i++) {
        json_array_append_new(counts, json_integer((json_int_t)row->counts[i]));
    }
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        json_array_append_new(pings, json_integer((json_int_t)row->pings.counts[i]));
    }
    return json_pack(
        "{s:o, s:o, s:o, s:O, s:O, s:I, s:s, s:I, s:f}", "broker", http_json_string(row->broker),
        "counts", counts, "pings", pings, "nodes", row->nodes, "incident_nodes",
        row->incident_nodes, "incident_since_ms", (json_int_t)row->incident_since_ms, "first_error",
        client_error_name(row->first_error), "certificate_expires_at_ms",
        (json_int_t)row->certificate_expires_at_ms, "connects_per_s", row->connects_per_s);
}

json_t *broker_table_to_json(const struct broker_table *table) {
    json_t *rows = json_array();
    const struct broker_row *row, *next;
    HASH_ITER(hh, table->rows, row, next) {
        if (json_array_append_new(rows, broker_row_pack(row)) != 0) {
            json_decref(rows);
            return NULL;
        }
    }
    return json_pack("{s:o, s:I}", "brokers", rows, "dropped", (json_int_t)table->dropped);
}

/* Counts that this version does not know, or that the other does not send, are left out. */
static void broker_row_sum(int64_t *sums, size_t n, const json_t *counts) {
    for (size_t i = 0; i < n; i++) {
        sums[i] += json_integer_value(json_array_get(counts, i));
    }
}

static enum err broker_table_merge_row(struct broker_table *table, const json_t *json) {
    const char *broker, *error;
    json_t *counts, *pings, *nodes, *incident_nodes;
    json_int_t since_ms, expires_at_ms;
    double connects_per_s;
    if (json_unpack((json_t *)json, "{s:s, s:o, s:o, s:o, s:o, s:I, s:s, s:I, s:F}", "broker",
                    &broker, "counts", &counts, "pings", &pings, "nodes", &nodes, "incident_nodes",
                    &incident_nodes, "incident_since_ms", &since_ms, "first_error", &error,
                    "certificate_expires_at_ms", &expires_at_ms, "connects_per_s",
                    &connects_per_s) != 0) {
        return ERR_ARGUMENT;
    }
    struct broker_row *row = broker_table_row(table, broker);
    if (!row) {
        return ERR_OK;
    }
    broker_row_sum(row->counts, BROKER_COUNT_COUNT, counts);
    broker_row_sum(row->pings.counts, HISTOGRAM_BUCKETS, pings);
    broker_row_add_incident(row, since_ms, client_error_of_name(error));
    row->certificate_expires_at_ms =
        broker_row_earliest(row->certificate_expires_at_ms, expires_at_ms);
    row->connects_per_s += connects_per_s;
    if (json_array_extend(row->nodes, nodes) != 0 ||
        json_array_extend(row->incident_nodes, incident_nodes) != 0) {
        return ERR_ARGUMENT;
    }
    return ERR_OK;
}

enum err broker_table_merge_json(struct broker_table *table, const json_t *json) {
    const json_t *rows = json_object_get(json, "brokers"), *row;
    enum err err = json_is_array(rows) ? ERR_OK : ERR_ARGUMENT;
    size_t i;
    json_array_foreach(rows, i, row) {
        if (err == ERR_OK) {
            err = broker_table_merge_row(table, row);
        }
    }
    table->dropped += json_integer_value(json_object_get(json, "dropped"));
    return err;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static int64_t broker_row_troubled(const struct broker_row *row) {
    return row->counts[BROKER_CONNECTING] + row->counts[BROKER_BACKOFF] +
           row->counts[BROKER_CONFLICT];
}

static int broker_row_compare(const void *left, const void *right) {
    const struct broker_row *a = *(struct broker_row *const *)left;
    const struct broker_row *b = *(struct broker_row *const *)right;
    if (a->incident_since_ms != b->incident_since_ms) {
        return broker_row_earliest(a->incident_since_ms, b->incident_since_ms) ==
                       a->incident_since_ms
                   ? -1
                   : 1;
    }
    int64_t difference = broker_row_troubled(b) - broker_row_troubled(a);
    if (difference == 0) {
        difference = b->counts[BROKER_CLIENTS] - a->counts[BROKER_CLIENTS];
    }
    return difference != 0 ? (difference < 0 ? -1 : 1) : strcmp(a->broker, b->broker);
}

struct broker_row **broker_table_sorted(const struct broker_table *table, size_t *n) {
    *n = 0;
    struct broker_row **rows = calloc(HASH_COUNT(table->rows) + 1, sizeof *rows);
    struct broker_row *row, *next;
    if (!rows) {
        return NULL;
    }
    HASH_ITER(hh, table->rows, row, next) {
        rows[(*n)++] = row;
    }
    qsort(rows, *n, sizeof *rows, broker_row_compare);
    return rows;
}

static json_t *broker_row_incident_json(const struct broker_row *row) {
    if (row->incident_since_ms == 0) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:s, s:s?, s:O}", "since", http_json_time(row->incident_since_ms),
                     "code", http_json_string(client_error_code(row->first_error)), "message",
                     client_error_text(row->first_error), "advice",
                     client_error_advice(row->first_error), "nodes", row->incident_nodes);
}

static json_t *broker_row_ping_json(const struct broker_row *row) {
    double p50_ms = (double)histogram_values_quantile(&row->pings, 0.5) / 1000;
    double p99_ms = (double)histogram_values_quantile(&row->pings, 0.99) / 1000;
    return histogram_values_count(&row->pings) == 0
               ? json_null()
               : json_pack("{s:f, s:f}", "p50", p50_ms, "p99", p99_ms);
}

json_t *broker_row_to_json(const struct broker_row *row, bool of_scope) {
    json_t *clients = json_object();
    json_t *connects_per_s = of_scope ? json_null() : json_real(row->connects_per_s);
    for (enum broker_count count = BROKER_CLIENTS; count < BROKER_COUNT_COUNT; count++) {
        json_object_set_new(clients, count == BROKER_CLIENTS ? "all" : broker_count_name(count),
                            json_integer((json_int_t)row->counts[count]));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:O}", "broker", http_json_string(row->broker),
                     "clients", clients, "incident", broker_row_incident_json(row),
                     "connects_per_s", connects_per_s, "ping_ms", broker_row_ping_json(row),
                     "certificate_expires_at", http_json_time(row->certificate_expires_at_ms),
                     "nodes", row->nodes);
}
