/* The sink that writes rows of a table of PostgreSQL. Runs on the sink's thread.
 *
 *   COPY of the whole batch; with on_conflict nothing, one INSERT of it
 *   -> bad row, its line is known: the rows before it at once, the row itself, and so on behind it
 *   -> after BAD_ROWS_MAX of them, or if the line is not known: row by row
 *
 * A row is rejected only by its own INSERT. Every error that has no row closes the connection, and
 * the next write begins with a new one. */
#include "sink/sink_type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "postgres_insert.h"
#include "postgres_test.h"

#define WRITE_MS     1000 /* then a write begins no further statement */
#define BAD_ROWS_MAX 16   /* of one write, before its rest is written row by row */
#define NO_ROW       SIZE_MAX

struct postgres_sink {
    struct postgres_target target;
    struct postgres_connection connection;
    struct postgres_table table;
    struct postgres_rows rows;

    /* during a write */
    struct sink_batch *batch;
    int64_t until_ms; /* when it begins no further statement */
    bool progress;    /* a statement has settled messages */
};

/* ---- life ------------------------------------------------------------------------------------ */

static void postgres_sink_close(void *state) {
    struct postgres_sink *sink = state;
    postgres_connection_close(&sink->connection);
    postgres_rows_fini(&sink->rows);
    postgres_table_fini(&sink->table);
    postgres_target_fini(&sink->target);
    free(sink);
}

static enum err postgres_sink_open(void **state, const struct sink_environment *environment,
                                   const json_t *settings, char *fault) {
    struct postgres_sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        return ERR_MEMORY;
    }
    postgres_rows_init(&sink->rows, &sink->table, environment->node, settings);
    enum err err = postgres_target_init(&sink->target, settings, environment, fault);
    if (err == ERR_OK) {
        err = postgres_table_init(&sink->table, settings, fault);
    }
    if (err != ERR_OK) {
        postgres_sink_close(sink);
        return err;
    }
    *state = sink;
    return ERR_OK;
}

static enum postgres_outcome postgres_sink_connect(struct postgres_sink *sink) {
    if (postgres_connection_is_open(&sink->connection)) {
        return POSTGRES_OK;
    }
    postgres_connection_close(&sink->connection);
    enum postgres_outcome outcome = postgres_connection_open(&sink->connection, &sink->target);
    return outcome == POSTGRES_OK ? postgres_table_load(&sink->table, &sink->connection) : outcome;
}

/* ---- many rows at once ----------------------------------------------------------------------- */

/* Appends the row of a message, or rejects it, in which case it has no row. */
static enum postgres_outcome postgres_sink_append(struct postgres_sink *sink, size_t index) {
    char reason[SINK_REASON_LEN];
    enum err err = postgres_rows_make(&sink->rows, sink->batch->messages[index], reason);
    if (err == ERR_NOT_FOUND) {
        sink_batch_reject(sink->batch, index, "%s", reason);
        return POSTGRES_OK;
    }
    if (err != ERR_OK) {
        return postgres_connection_fail(&sink->connection, err_name(err));
    }
    if (sink->table.copy_sql) {
        postgres_rows_append_line(&sink->rows);
    } else {
        postgres_rows_append_to_arrays(&sink->rows);
    }
    return POSTGRES_OK;
}

static enum postgres_outcome postgres_sink_send_arrays(struct postgres_sink *sink) {
    const char *values[POSTGRES_COLUMNS_MAX];
    size_t count = sink->table.column_count;
    if (!postgres_rows_end_arrays(&sink->rows)) {
        return postgres_connection_fail(&sink->connection, err_name(ERR_MEMORY));
    }
    for (size_t i = 0; i < count; i++) {
        values[i] = sink->rows.arrays[i].data;
    }
    return postgres_connection_run(&sink->connection, sink->table.arrays_sql,
                                   &(struct postgres_values){(int)count, values}, NULL);
}

static enum postgres_outcome postgres_sink_send_lines(struct postgres_sink *sink) {
    if (sink->rows.lines.failed) {
        return postgres_connection_fail(&sink->connection, err_name(ERR_MEMORY));
    }
    return postgres_connection_copy(&sink->connection, sink->table.copy_sql, sink->rows.lines.data,
                                    sink->rows.lines.len);
}

static size_t postgres_sink_count_open(const struct postgres_sink *sink, size_t begin, size_t end) {
    size_t count = 0;
    for (size_t i = begin; i < end; i++) {
        count += sink->batch->outcomes[i] == SINK_RETRY;
    }
    return count;
}

/* The messages that are not rejected, in one statement: all or none. */
static enum postgres_outcome postgres_sink_write_many(struct postgres_sink *sink, size_t begin,
                                                      size_t end) {
    enum postgres_outcome outcome = POSTGRES_OK;
    postgres_rows_clear(&sink->rows);
    for (size_t i = begin; i < end && outcome == POSTGRES_OK; i++) {
        outcome = sink->batch->outcomes[i] == SINK_RETRY ? postgres_sink_append(sink, i) : outcome;
    }
    if (outcome != POSTGRES_OK || postgres_sink_count_open(sink, begin, end) == 0) {
        return outcome;
    }
    outcome =
        sink->table.copy_sql ? postgres_sink_send_lines(sink) : postgres_sink_send_arrays(sink);
    for (size_t i = begin; i < end && outcome == POSTGRES_OK; i++) {
        if (sink->batch->outcomes[i] == SINK_RETRY) {
            sink_batch_accept(sink->batch, i);
        }
    }
    return outcome;
}

/* ---- bad rows -------------------------------------------------------------------------------- */

static bool postgres_sink_may_go_on(const struct postgres_sink *sink) {
    return !sink->progress || (clock_ms() < sink->until_ms && !sink_batch_is_over(sink->batch));
}

static enum postgres_outcome postgres_sink_insert(struct postgres_sink *sink, const size_t *indices,
                                                  size_t count) {
    enum postgres_outcome outcome =
        postgres_insert(&sink->connection, &sink->rows, sink->batch, indices, count);
    sink->progress = sink->progress || outcome == POSTGRES_OK;
    return outcome;
}

/* Row by row, in transactions of POSTGRES_INSERT_MAX rows. */
static enum postgres_outcome postgres_sink_write_rows(struct postgres_sink *sink, size_t begin,
                                                      size_t end) {
    enum postgres_outcome outcome = POSTGRES_OK;
    size_t indices[POSTGRES_INSERT_MAX];
    size_t count = 0;
    for (size_t i = begin; i < end && outcome == POSTGRES_OK && postgres_sink_may_go_on(sink);
         i++) {
        if (sink->batch->outcomes[i] == SINK_RETRY) {
            indices[count++] = i;
        }
        if (count == POSTGRES_INSERT_MAX || (count > 0 && i + 1 == end)) {
            outcome = postgres_sink_insert(sink, indices, count);
            count = 0;
        }
    }
    return outcome;
}

/* The message whose row was in that line, from 1, of those from begin on. */
static size_t postgres_sink_find_line(const struct postgres_sink *sink, size_t begin, size_t line) {
    size_t at = 0;
    for (size_t i = begin; i < sink->batch->count && line > 0; i++) {
        at += sink->batch->outcomes[i] == SINK_RETRY;
        if (at == line) {
            return i;
        }
    }
    return NO_ROW;
}

static enum postgres_outcome postgres_sink_write_before(struct postgres_sink *sink, size_t begin,
                                                        size_t end) {
    enum postgres_outcome outcome = postgres_sink_write_many(sink, begin, end);
    return outcome == POSTGRES_BAD_ROW ? postgres_sink_write_rows(sink, begin, end) : outcome;
}

/* *begin: moves behind what is settled. */
static enum postgres_outcome postgres_sink_write_next(struct postgres_sink *sink, size_t *begin,
                                                      size_t *bad_rows) {
    size_t first = *begin, end = sink->batch->count;
    *begin = end;
    if (*bad_rows >= BAD_ROWS_MAX) {
        return postgres_sink_write_rows(sink, first, end);
    }
    enum postgres_outcome outcome = postgres_sink_write_many(sink, first, end);
    if (outcome != POSTGRES_BAD_ROW) {
        return outcome;
    }
    size_t bad = postgres_sink_find_line(sink, first, sink->connection.fault.line);
    if (bad == NO_ROW) {
        return postgres_sink_write_rows(sink, first, end);
    }
    *begin = bad + 1;
    ++*bad_rows;
    outcome = postgres_sink_write_before(sink, first, bad);
    return outcome == POSTGRES_OK ? postgres_sink_write_rows(sink, bad, bad + 1) : outcome;
}

/* ---- a batch --------------------------------------------------------------------------------- */

static enum err postgres_sink_write(void *state, struct sink_batch *batch) {
    struct postgres_sink *sink = state;
    size_t begin = 0, bad_rows = 0;
    sink->batch = batch;
    sink->progress = false;
    sink->connection.batch = batch;
    enum postgres_outcome outcome = postgres_sink_connect(sink);
    sink->until_ms = clock_ms() + WRITE_MS;
    while (outcome == POSTGRES_OK && begin < batch->count && postgres_sink_may_go_on(sink)) {
        outcome = postgres_sink_write_next(sink, &begin, &bad_rows);
    }
    sink->connection.batch = NULL;
    if (outcome == POSTGRES_OK) {
        return ERR_OK; /* what is left was not attempted */
    }
    postgres_connection_close(&sink->connection);
    return sink_batch_fail(batch, ERR_UNAVAILABLE, "%s", sink->connection.fault.text);
}

/* The server may close a connection that nothing uses. */
static void postgres_sink_maintain(void *state) {
    struct postgres_sink *sink = state;
    postgres_connection_check(&sink->connection);
}

const struct sink_type sink_type_postgres = {.version = MQFLEET_VERSION,
                                             .name = "postgres",
                                             .fields = postgres_fields,
                                             .open = postgres_sink_open,
                                             .write = postgres_sink_write,
                                             .close = postgres_sink_close,
                                             .test = postgres_test,
                                             .maintain = postgres_sink_maintain};
