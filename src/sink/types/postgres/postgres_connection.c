/* Owns the waiting: each step polls the socket until its deadline. */
#include "postgres_connection.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"

#define SLICE_MS          100 /* how often a wait looks whether the sink stops */
#define COPY_CHUNK        65536
#define NOTICES_MAX       10 /* logged in NOTICES_PERIOD_MS; the others are counted */
#define NOTICES_PERIOD_MS 10000

enum postgres_outcome postgres_connection_fail(struct postgres_connection *connection,
                                               const char *text) {
    if (text) {
        connection->fault = (struct postgres_fault){0};
        snprintf(connection->fault.text, sizeof connection->fault.text, "%s", text);
    } else {
        postgres_fault_read_connection(&connection->fault, connection->pg);
    }
    return POSTGRES_FAILED;
}

static enum postgres_outcome connection_time_out(struct postgres_connection *connection,
                                                 const char *what, int64_t limit_ms) {
    char text[POSTGRES_FAULT_LEN];
    snprintf(text, sizeof text, "%s within %lld ms", what, (long long)limit_ms);
    return postgres_connection_fail(connection, text);
}

static bool connection_is_over(const struct postgres_connection *connection, int64_t deadline_ms) {
    return clock_ms() >= deadline_ms ||
           (connection->batch && sink_batch_is_over(connection->batch));
}

/* False: not before the deadline. */
static bool connection_poll(const struct postgres_connection *connection, short events,
                            int64_t deadline_ms) {
    struct pollfd waiting = {.fd = PQsocket(connection->pg), .events = events};
    int ready = 0;
    while (ready == 0 && !connection_is_over(connection, deadline_ms)) {
        int64_t left_ms = deadline_ms - clock_ms();
        ready = poll(&waiting, 1, left_ms < SLICE_MS ? (int)left_ms + 1 : SLICE_MS);
        ready = ready < 0 && errno == EINTR ? 0 : ready;
    }
    return ready != 0; /* an error shows in what follows */
}

/* ---- notices --------------------------------------------------------------------------------- */

static void connection_note_notice(void *context, const PGresult *result) {
    struct postgres_connection *connection = context;
    char text[POSTGRES_FAULT_LEN];
    int64_t now_ms = clock_ms();
    if (now_ms - connection->notices_since_ms >= NOTICES_PERIOD_MS) {
        if (connection->notices > NOTICES_MAX) {
            log_event(LOG_WARN, "postgres_notices_dropped",
                      KI("notices", connection->notices - NOTICES_MAX));
        }
        connection->notices_since_ms = now_ms;
        connection->notices = 0;
    }
    if (connection->notices++ < NOTICES_MAX) {
        postgres_fault_describe(text, result);
        log_event(LOG_INFO, "postgres_notice", KS("text", text));
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static enum postgres_outcome connection_connect(struct postgres_connection *connection,
                                                struct postgres_target *target,
                                                int64_t deadline_ms) {
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status != PGRES_POLLING_OK) { /* until the deadline */
        if (status == PGRES_POLLING_FAILED || PQstatus(connection->pg) == CONNECTION_BAD) {
            return postgres_connection_fail(connection, NULL);
        }
        short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!connection_poll(connection, events, deadline_ms)) {
            target->turn++;
            return connection_time_out(connection, "no connection", target->connect_timeout_ms);
        }
        status = PQconnectPoll(connection->pg);
    }
    return POSTGRES_OK;
}

/* The server ends a statement before we give it up: otherwise it might still store the rows, while
 * we write them again. A role may have shorter limits. */
static enum postgres_outcome connection_set_limits(struct postgres_connection *connection) {
    char statement_ms[24], idle_ms[24];
    snprintf(statement_ms, sizeof statement_ms, "%lld",
             (long long)(connection->timeout_ms - connection->timeout_ms / 4));
    snprintf(idle_ms, sizeof idle_ms, "%lld", (long long)connection->timeout_ms);
    const char *const values[] = {statement_ms, idle_ms};
    return postgres_connection_run(
        connection,
        "SELECT pg_catalog.set_config(name, least(nullif(setting::bigint, 0), "
        "CASE name WHEN 'statement_timeout' THEN $1::bigint ELSE $2::bigint END)::text, false) "
        "FROM pg_catalog.pg_settings "
        "WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout')",
        &(struct postgres_values){2, values}, NULL);
}

static enum postgres_outcome connection_start(struct postgres_connection *connection,
                                              struct postgres_target *target, int64_t deadline_ms) {
    char fault[SINK_FAULT_LEN];
    connection->timeout_ms = target->timeout_ms;
    if (postgres_target_resolve(target, deadline_ms, connection->batch, fault) != ERR_OK) {
        return postgres_connection_fail(connection, fault);
    }
    connection->pg = PQconnectStartParams(target->keywords, target->values, 0);
    if (!connection->pg) {
        return postgres_connection_fail(connection, "out of memory");
    }
    PQsetNoticeReceiver(connection->pg, connection_note_notice, connection);
    return connection_connect(connection, target, deadline_ms);
}

enum postgres_outcome postgres_connection_open(struct postgres_connection *connection,
                                               struct postgres_target *target) {
    int64_t deadline_ms = clock_ms() + target->connect_timeout_ms;
    enum postgres_outcome outcome = connection_start(connection, target, deadline_ms);
    if (outcome == POSTGRES_OK && PQsetnonblocking(connection->pg, 1) != 0) {
        outcome = postgres_connection_fail(connection, NULL);
    }
    return outcome == POSTGRES_OK ? connection_set_limits(connection) : outcome;
}

void postgres_connection_close(struct postgres_connection *connection) {
    PQfinish(connection->pg);
    connection->pg = NULL;
}

bool postgres_connection_is_open(const struct postgres_connection *connection) {
    return connection->pg && PQstatus(connection->pg) == CONNECTION_OK;
}

void postgres_connection_check(struct postgres_connection *connection) {
    if (!connection->pg || !connection_poll(connection, POLLIN, clock_ms() + 1)) {
        return;
    }
    if (!PQconsumeInput(connection->pg) || PQstatus(connection->pg) != CONNECTION_OK) {
        postgres_connection_close(connection);
    }
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* One turn: waits for the socket, reads, and sends. *unsent: as of PQflush. */
static enum postgres_outcome connection_exchange(struct postgres_connection *connection,
                                                 int *unsent, int64_t deadline_ms) {
    short events = (short)(POLLIN | (*unsent == 1 ? POLLOUT : 0));
    if (!connection_poll(connection, events, deadline_ms)) {
        return connection_time_out(connection, "no answer", connection->timeout_ms);
    }
    if (!PQconsumeInput(connection->pg)) {
        return postgres_connection_fail(connection, NULL);
    }
    *unsent = PQflush(connection->pg);
    return POSTGRES_OK;
}

enum postgres_outcome postgres_connection_await(struct postgres_connection *connection,
                                                int64_t deadline_ms) {
    int unsent = PQflush(connection->pg);
    while (PQisBusy(connection->pg)) { /* until the deadline */
        if (connection_exchange(connection, &unsent, deadline_ms) != POSTGRES_OK) {
            return POSTGRES_FAILED;
        }
    }
    return POSTGRES_OK;
}

static enum postgres_outcome connection_flush(struct postgres_connection *connection,
                                              int64_t deadline_ms) {
    int unsent = PQflush(connection->pg);
    while (unsent == 1) { /* until the deadline */
        if (connection_exchange(connection, &unsent, deadline_ms) != POSTGRES_OK) {
            return POSTGRES_FAILED;
        }
    }
    return unsent == 0 ? POSTGRES_OK : postgres_connection_fail(connection, NULL);
}

/* ---- statements ------------------------------------------------------------------------------ */

static enum postgres_outcome connection_judge(struct postgres_connection *connection,
                                              const PGresult *result) {
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_COPY_IN:
        return POSTGRES_OK;
    default:
        break;
    }
    if (!PQresultErrorField(result, PG_DIAG_SQLSTATE)) { /* of libpq: the connection was lost */
        return postgres_connection_fail(connection, NULL);
    }
    return postgres_fault_read(&connection->fault, result);
}

/* Reads all results of a statement. The first error counts; *last: the last result, or NULL. */
static enum postgres_outcome connection_read(struct postgres_connection *connection,
                                             int64_t deadline_ms, PGresult **last) {
    enum postgres_outcome outcome = POSTGRES_OK;
    *last = NULL;
    for (;;) { /* a statement has few results */
        if (postgres_connection_await(connection, deadline_ms) != POSTGRES_OK) {
            return POSTGRES_FAILED;
        }
        PGresult *result = PQgetResult(connection->pg);
        if (!result) {
            return outcome;
        }
        PQclear(*last);
        *last = result;
        outcome = outcome == POSTGRES_OK ? connection_judge(connection, result) : outcome;
        if (PQresultStatus(result) == PGRES_COPY_IN) {
            return outcome; /* now the data are to follow */
        }
    }
}

enum postgres_outcome postgres_connection_run(struct postgres_connection *connection,
                                              const char *sql, const struct postgres_values *values,
                                              PGresult **out) {
    PGresult *result = NULL;
    int64_t deadline_ms = clock_ms() + connection->timeout_ms;
    int sent = PQsendQueryParams(connection->pg, sql, values ? values->count : 0, NULL,
                                 values ? values->values : NULL, NULL, NULL, 0);
    if (!sent) {
        return postgres_connection_fail(connection, NULL);
    }
    enum postgres_outcome outcome = connection_read(connection, deadline_ms, &result);
    if (outcome == POSTGRES_OK && out) {
        *out = result;
        return outcome;
    }
    PQclear(result);
    return outcome;
}

static enum postgres_outcome connection_put(struct postgres_connection *connection,
                                            const char *data, size_t len, int64_t deadline_ms) {
    enum postgres_outcome outcome = POSTGRES_OK;
    for (size_t at = 0; at < len && outcome == POSTGRES_OK; at += COPY_CHUNK) {
        size_t chunk = len - at < COPY_CHUNK ? len - at : COPY_CHUNK;
        if (PQputCopyData(connection->pg, data + at, (int)chunk) != 1) {
            return postgres_connection_fail(connection, NULL);
        }
        outcome = connection_flush(connection, deadline_ms);
    }
    if (outcome == POSTGRES_OK && PQputCopyEnd(connection->pg, NULL) != 1) {
        return postgres_connection_fail(connection, NULL);
    }
    return outcome;
}

enum postgres_outcome postgres_connection_copy(struct postgres_connection *connection,
                                               const char *sql, const char *data, size_t len) {
    PGresult *result = NULL;
    int64_t deadline_ms = clock_ms() + connection->timeout_ms;
    if (!PQsendQuery(connection->pg, sql)) {
        return postgres_connection_fail(connection, NULL);
    }
    enum postgres_outcome outcome = connection_read(connection, deadline_ms, &result);
    bool ready = PQresultStatus(result) == PGRES_COPY_IN;
    PQclear(result);
    if (outcome != POSTGRES_OK || !ready) {
        return outcome == POSTGRES_OK ? postgres_connection_fail(connection, "COPY is not possible")
                                      : outcome;
    }
    outcome = connection_put(connection, data, len, deadline_ms);
    if (outcome == POSTGRES_OK) {
        outcome = connection_read(connection, deadline_ms, &result);
        PQclear(result);
    }
    return outcome;
}
