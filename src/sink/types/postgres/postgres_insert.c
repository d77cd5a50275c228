/* Owns the pipeline of rows:
 *
 *   BEGIN, SET CONSTRAINTS ALL IMMEDIATE, SAVEPOINT row             sync
 *   for each row:  INSERT, RELEASE row, SAVEPOINT row               sync
 *                  ROLLBACK TO row                                  sync
 *   COMMIT, once all answers are known
 *
 * After an error, the server skips what follows up to the next sync. So after a bad row the
 * savepoint is the one before it, and otherwise the one behind it: the same ROLLBACK TO fits both.
 */
#include "postgres_insert.h"

#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"

static const char *const insert_begin[] = {"BEGIN", "SET CONSTRAINTS ALL IMMEDIATE",
                                           "SAVEPOINT row", NULL};
static const char *const insert_keep[] = {"RELEASE SAVEPOINT row", "SAVEPOINT row", NULL};
static const char *const insert_return[] = {"ROLLBACK TO SAVEPOINT row", NULL};

struct insert {
    struct postgres_connection *connection;
    struct postgres_rows *rows;
    struct sink_batch *batch;
    const size_t *indices;
    size_t count;
    int64_t deadline_ms;
    bool bad[POSTGRES_INSERT_MAX];
    char reasons[POSTGRES_INSERT_MAX][POSTGRES_FAULT_LEN];
};

/* ---- sending --------------------------------------------------------------------------------- */

/* Queues the statements and a sync. False: libpq says why. */
static bool insert_queue(const struct insert *insert, const char *const *statements) {
    PGconn *pg = insert->connection->pg;
    for (; *statements; statements++) {
        if (!PQsendQueryParams(pg, *statements, 0, NULL, NULL, NULL, NULL, 0)) {
            return false;
        }
    }
    return PQpipelineSync(pg) == 1;
}

static bool insert_queue_row(const struct insert *insert, const struct message *message) {
    const struct postgres_table *table = insert->rows->table;
    const char *values[POSTGRES_COLUMNS_MAX];
    char reason[SINK_REASON_LEN];
    if (postgres_rows_make(insert->rows, message, reason) != ERR_OK) {
        return false; /* it was made before: memory ran out */
    }
    postgres_rows_values(insert->rows, values);
    return PQsendQueryParams(insert->connection->pg, table->insert_sql, (int)table->column_count,
                             NULL, values, NULL, NULL, 0) &&
           insert_queue(insert, insert_keep) && insert_queue(insert, insert_return);
}

static enum postgres_outcome insert_queue_all(const struct insert *insert) {
    bool queued = PQenterPipelineMode(insert->connection->pg) && insert_queue(insert, insert_begin);
    for (size_t i = 0; i < insert->count && queued; i++) {
        queued = insert_queue_row(insert, insert->batch->messages[insert->indices[i]]);
    }
    return queued ? POSTGRES_OK : postgres_connection_fail(insert->connection, NULL);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Between two syncs: the outcome of the first statement that failed. */
static enum postgres_outcome insert_read_segment(const struct insert *insert) {
    struct postgres_connection *connection = insert->connection;
    enum postgres_outcome outcome = POSTGRES_OK;
    ExecStatusType status = PGRES_EMPTY_QUERY;
    int ends = 0; /* NULLs without a result between them: the connection is lost */
    while (status != PGRES_PIPELINE_SYNC && ends < 3) { /* results of few statements */
        if (postgres_connection_await(connection, insert->deadline_ms) != POSTGRES_OK) {
            return POSTGRES_FAILED;
        }
        PGresult *result = PQgetResult(connection->pg);
        status = result ? PQresultStatus(result) : PGRES_EMPTY_QUERY;
        ends = result ? 0 : ends + 1;
        if (status == PGRES_FATAL_ERROR && outcome == POSTGRES_OK) {
            outcome = postgres_fault_read(&connection->fault, result);
        }
        PQclear(result);
    }
    return status == PGRES_PIPELINE_SYNC ? outcome : postgres_connection_fail(connection, NULL);
}

static void insert_note_bad_row(struct insert *insert, size_t row) {
    const struct postgres_table *table = insert->rows->table;
    const struct postgres_fault *fault = &insert->connection->fault;
    bool known = fault->parameter > 0 && fault->parameter <= table->column_count;
    insert->bad[row] = true;
    snprintf(insert->reasons[row], sizeof insert->reasons[row], "%s%.40s%s%.100s",
             known ? "column " : "", known ? table->columns[fault->parameter - 1].name : "",
             known ? ": " : "", fault->text);
}

static enum postgres_outcome insert_read_all(struct insert *insert) {
    enum postgres_outcome outcome = insert_read_segment(insert);
    for (size_t i = 0; i < insert->count && outcome == POSTGRES_OK; i++) {
        outcome = insert_read_segment(insert);
        if (outcome == POSTGRES_BAD_ROW) {
            insert_note_bad_row(insert, i);
            outcome = POSTGRES_OK;
        }
        outcome = outcome == POSTGRES_OK ? insert_read_segment(insert) : outcome;
    }
    if (outcome == POSTGRES_OK && !PQexitPipelineMode(insert->connection->pg)) {
        outcome = postgres_connection_fail(insert->connection, NULL);
    }
    return outcome == POSTGRES_OK ? POSTGRES_OK : POSTGRES_FAILED;
}

/* ---- the transaction ------------------------------------------------------------------------- */

static enum postgres_outcome insert_commit(const struct insert *insert) {
    PGresult *result = NULL;
    if (postgres_connection_run(insert->connection, "COMMIT", NULL, &result) != POSTGRES_OK) {
        return POSTGRES_FAILED;
    }
    bool committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
    PQclear(result);
    return committed ? POSTGRES_OK
                     : postgres_connection_fail(insert->connection, "the server rolled back");
}

static void insert_settle(const struct insert *insert) {
    for (size_t i = 0; i < insert->count; i++) {
        if (insert->bad[i]) {
            sink_batch_reject(insert->batch, insert->indices[i], "%s", insert->reasons[i]);
        } else {
            sink_batch_accept(insert->batch, insert->indices[i]);
        }
    }
}

enum postgres_outcome postgres_insert(struct postgres_connection *connection,
                                      struct postgres_rows *rows, struct sink_batch *batch,
                                      const size_t *indices, size_t count) {
    struct insert insert = {.connection = connection,
                            .rows = rows,
                            .batch = batch,
                            .indices = indices,
                            .count = count,
                            .deadline_ms = clock_ms() + connection->timeout_ms};
    enum postgres_outcome outcome = insert_queue_all(&insert);
    outcome = outcome == POSTGRES_OK ? insert_read_all(&insert) : outcome;
    outcome = outcome == POSTGRES_OK ? insert_commit(&insert) : outcome;
    if (outcome == POSTGRES_OK) {
        insert_settle(&insert);
    }
    return outcome;
}
