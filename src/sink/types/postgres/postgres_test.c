/* Owns the steps of a test. Any thread. */
#include "postgres_test.h"

#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"
#include "postgres_table.h"

struct postgres_test {
    const struct sink_test_report *report;
    struct postgres_target target;
    struct postgres_table table;
    struct postgres_connection connection;
};

/* Returns ok. */
static bool test_step(const struct postgres_test *test, const char *step, bool ok,
                      const char *detail, const char *advice) {
    test->report->step(test->report->context, step, ok, detail, ok ? NULL : advice);
    return ok;
}

static bool test_settings(struct postgres_test *test, const struct sink_environment *environment,
                          const json_t *settings) {
    char fault[SINK_FAULT_LEN] = "out of memory";
    bool valid = postgres_target_init(&test->target, settings, environment, fault) == ERR_OK &&
                 postgres_table_init(&test->table, settings, fault) == ERR_OK;
    return valid || test_step(test, "settings", false, fault, "correct this field");
}

static bool test_resolve(struct postgres_test *test) {
    char detail[SINK_FAULT_LEN];
    int64_t deadline_ms = clock_ms() + test->target.connect_timeout_ms;
    bool resolved = postgres_target_resolve(&test->target, deadline_ms, NULL, detail) == ERR_OK;
    if (resolved) {
        snprintf(detail, sizeof detail, "%.200s",
                 test->target.values[test->target.server_index + 1]);
    }
    return test_step(test, "resolve", resolved, detail,
                     "check the host, the name service, and the addresses that the node allows");
}

static bool test_connect(struct postgres_test *test) {
    struct postgres_connection *connection = &test->connection;
    char detail[SINK_FAULT_LEN];
    if (postgres_connection_open(connection, &test->target) != POSTGRES_OK) {
        return test_step(test, "connect", false, connection->fault.text,
                         "check port, user, password, database, sslmode and the server's "
                         "pg_hba.conf");
    }
    const char *protocol =
        PQsslInUse(connection->pg) ? PQsslAttribute(connection->pg, "protocol") : "without TLS";
    snprintf(detail, sizeof detail, "PostgreSQL %.60s, %.30s",
             PQparameterStatus(connection->pg, "server_version"), protocol);
    return test_step(test, "connect", true, detail, NULL);
}

static bool test_table(struct postgres_test *test) {
    char detail[SINK_FAULT_LEN];
    if (postgres_table_load(&test->table, &test->connection) != POSTGRES_OK) {
        return test_step(test, "table", false, test->connection.fault.text,
                         "create the table and its columns, and grant USAGE on its schema");
    }
    snprintf(detail, sizeof detail, "%zu columns of %.100s", test->table.column_count,
             test->table.name);
    return test_step(test, "table", true, detail, NULL);
}

/* Names of columns, "id, topic", that the role may not insert; "": none. */
static enum postgres_outcome test_find_forbidden(struct postgres_test *test, char *out,
                                                 size_t size) {
    PGresult *result = NULL;
    const char *const values[] = {test->table.relation, test->table.column_array};
    enum postgres_outcome outcome = postgres_connection_run(
        &test->connection,
        "SELECT coalesce(string_agg(name, ', '), '') FROM pg_catalog.unnest($2::text[]) AS name "
        "WHERE NOT pg_catalog.has_column_privilege(pg_catalog.to_regclass($1), name, 'INSERT')",
        &(struct postgres_values){2, values}, &result);
    if (outcome == POSTGRES_OK) {
        snprintf(out, size, "%s", PQgetvalue(result, 0, 0));
        PQclear(result);
    }
    return outcome;
}

static bool test_is_read_only(struct postgres_test *test) {
    PGresult *result = NULL;
    if (postgres_connection_run(&test->connection, "SHOW transaction_read_only", NULL, &result) !=
        POSTGRES_OK) {
        return false;
    }
    bool read_only = strcmp(PQgetvalue(result, 0, 0), "on") == 0;
    PQclear(result);
    return read_only;
}

static void test_permission(struct postgres_test *test) {
    char forbidden[128], detail[SINK_FAULT_LEN];
    if (test_find_forbidden(test, forbidden, sizeof forbidden) != POSTGRES_OK) {
        test_step(test, "permission", false, test->connection.fault.text, "check the server");
    } else if (*forbidden != '\0') {
        snprintf(detail, sizeof detail, "the role may not insert into the columns %s", forbidden);
        test_step(test, "permission", false, detail, "GRANT INSERT on the table to the role");
    } else if (test_is_read_only(test)) {
        test_step(test, "permission", false, "the server takes no rows: it is read-only",
                  "name the primary, or all hosts with target_session_attrs=read-write");
    } else {
        test_step(test, "permission", true, "the role may insert rows", NULL);
    }
}

void postgres_test(const struct sink_environment *environment, const json_t *settings,
                   const struct sink_test_report *report) {
    struct postgres_test test = {.report = report};
    if (test_settings(&test, environment, settings) && test_resolve(&test) && test_connect(&test) &&
        test_table(&test)) {
        test_permission(&test);
    }
    postgres_connection_close(&test.connection);
    postgres_table_fini(&test.table);
    postgres_target_fini(&test.target);
}
