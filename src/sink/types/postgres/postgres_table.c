/* Owns names and types of columns, and SQL. */
#include "postgres_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "sink/sink_template.h"

#define BYTEA "bytea"

static const struct {
    const char *name, *template;
} default_columns[] = {
    {"message_id", "{message_id}"}, {"id", "{id}"},
    {"client_id", "{client_id}"},   {"topic", "{topic}"},
    {"payload", "{payload}"},       {"qos", "{qos}"},
    {"retain", "{retain}"},         {"received_at", "{received_at}"},
};

/* ---- settings -------------------------------------------------------------------------------- */

static void table_append_identifier(struct buffer *out, const char *name, size_t len) {
    buffer_append_str(out, "\"");
    for (size_t i = 0; i < len; i++) {
        buffer_append(out, &name[i], 1);
        if (name[i] == '"') {
            buffer_append_str(out, "\"");
        }
    }
    buffer_append_str(out, "\"");
}

static enum err table_quote_relation(struct postgres_table *table, char *fault) {
    struct buffer out;
    const char *dot = strchr(table->name, '.');
    const char *relation = dot ? dot + 1 : table->name;
    if (dot == table->name || *relation == '\0' || strchr(relation, '.')) {
        snprintf(fault, SINK_FAULT_LEN, "table must be TABLE or SCHEMA.TABLE");
        return ERR_ARGUMENT;
    }
    buffer_init(&out);
    if (dot) {
        table_append_identifier(&out, table->name, (size_t)(dot - table->name));
        buffer_append_str(&out, ".");
    }
    table_append_identifier(&out, relation, strlen(relation));
    table->relation = buffer_take(&out);
    return table->relation ? ERR_OK : ERR_MEMORY;
}

static enum err table_add_column(struct postgres_table *table, const char *name, const char *text,
                                 char *fault) {
    char field[80];
    if (table->column_count == POSTGRES_COLUMNS_MAX) {
        snprintf(fault, SINK_FAULT_LEN, "columns must be at most %d", POSTGRES_COLUMNS_MAX);
        return ERR_ARGUMENT;
    }
    struct postgres_column *column = &table->columns[table->column_count];
    if (!*name) {
        snprintf(fault, SINK_FAULT_LEN, "columns must have names");
        return ERR_ARGUMENT;
    }
    snprintf(field, sizeof field, "columns: %.60s", name);
    enum err err = sink_template_compile(&column->template, field, text, fault);
    column->name = name;
    table->column_count += err == ERR_OK;
    return err;
}

static enum err table_add_columns(struct postgres_table *table, const json_t *columns,
                                  char *fault) {
    enum err err = ERR_OK;
    const char *name;
    json_t *text;
    json_object_foreach((json_t *)columns, name, text) {
        err = err == ERR_OK ? table_add_column(table, name, json_string_value(text), fault) : err;
    }
    size_t defaults = sizeof default_columns / sizeof default_columns[0];
    for (size_t i = 0; i < defaults && json_object_size(columns) == 0 && err == ERR_OK; i++) {
        err = table_add_column(table, default_columns[i].name, default_columns[i].template, fault);
    }
    return err;
}

enum err postgres_table_init(struct postgres_table *table, const json_t *settings, char *fault) {
    table->name = sink_settings_text(settings, "table");
    table->keeps_first = strcmp(sink_settings_text(settings, "on_conflict"), "nothing") == 0;
    enum err err = table_quote_relation(table, fault);
    return err == ERR_OK ? table_add_columns(table, sink_settings_json(settings, "columns"), fault)
                         : err;
}

static void table_forget_types(struct postgres_table *table) {
    for (size_t i = 0; i < table->column_count; i++) {
        free(table->columns[i].type);
        table->columns[i].type = NULL;
    }
    free(table->column_array);
    free(table->copy_sql);
    free(table->arrays_sql);
    free(table->insert_sql);
    table->column_array = table->copy_sql = table->arrays_sql = table->insert_sql = NULL;
}

void postgres_table_fini(struct postgres_table *table) {
    table_forget_types(table);
    for (size_t i = 0; i < table->column_count; i++) {
        template_destroy(table->columns[i].template);
    }
    free(table->relation);
}

/* ---- SQL ------------------------------------------------------------------------------------- */

static void table_append_names(const struct postgres_table *table, struct buffer *out) {
    for (size_t i = 0; i < table->column_count; i++) {
        const char *name = table->columns[i].name;
        buffer_append_str(out, i > 0 ? ", " : "");
        table_append_identifier(out, name, strlen(name));
    }
}

static void table_begin_sql(const struct postgres_table *table, struct buffer *out,
                            const char *verb) {
    buffer_init(out);
    buffer_printf(out, "%s ", verb);
    buffer_append_str(out, table->relation);
    buffer_append_str(out, " (");
    table_append_names(table, out);
    buffer_append_str(out, ") ");
}

/* "{\"a\",\"b\"}": within quotation marks a backslash keeps the next character as it is. */
static char *table_column_array(const struct postgres_table *table) {
    struct buffer out;
    buffer_init(&out);
    for (size_t i = 0; i < table->column_count; i++) {
        buffer_append_str(&out, i > 0 ? ",\"" : "{\"");
        for (const char *at = table->columns[i].name; *at; at++) {
            buffer_append_str(&out, *at == '"' || *at == '\\' ? "\\" : "");
            buffer_append(&out, at, 1);
        }
        buffer_append_str(&out, "\"");
    }
    buffer_append_str(&out, "}");
    return buffer_take(&out);
}

static char *table_copy_sql(const struct postgres_table *table) {
    struct buffer out;
    table_begin_sql(table, &out, "COPY");
    buffer_append_str(&out, "FROM STDIN");
    return buffer_take(&out);
}

static const char *table_on_conflict(const struct postgres_table *table) {
    return table->keeps_first ? " ON CONFLICT DO NOTHING" : "";
}

static char *table_insert_sql(const struct postgres_table *table) {
    struct buffer out;
    table_begin_sql(table, &out, "INSERT INTO");
    buffer_append_str(&out, "VALUES (");
    for (size_t i = 0; i < table->column_count; i++) {
        buffer_printf(&out, "%s$%zu", i > 0 ? ", " : "", i + 1);
    }
    buffer_printf(&out, ")%s", table_on_conflict(table));
    return buffer_take(&out);
}

/* The types have no modifiers: a cast to varchar(5) would truncate a value, the assignment rejects
 * it.
 */
static char *table_arrays_sql(const struct postgres_table *table) {
    struct buffer out;
    table_begin_sql(table, &out, "INSERT INTO");
    buffer_append_str(&out, "SELECT ");
    for (size_t i = 0; i < table->column_count; i++) {
        buffer_printf(&out, "%sc%zu::%s", i > 0 ? ", " : "", i + 1, table->columns[i].type);
    }
    buffer_append_str(&out, " FROM ROWS FROM (");
    for (size_t i = 0; i < table->column_count; i++) {
        buffer_printf(&out, "%spg_catalog.unnest($%zu::pg_catalog.text[])", i > 0 ? ", " : "",
                      i + 1);
    }
    buffer_append_str(&out, ") AS rows (");
    for (size_t i = 0; i < table->column_count; i++) {
        buffer_printf(&out, "%sc%zu", i > 0 ? ", " : "", i + 1);
    }
    buffer_printf(&out, ")%s", table_on_conflict(table));
    return buffer_take(&out);
}

/* ---- the catalog ----------------------------------------------------------------------------- */

static enum postgres_outcome table_fail(const struct postgres_table *table,
                                        struct postgres_connection *connection,
                                        const char *column) {
    char text[POSTGRES_FAULT_LEN];
    if (column) {
        snprintf(text, sizeof text, "table %.60s has no column %.60s", table->name, column);
    } else {
        snprintf(text, sizeof text, "table %.100s does not exist", table->name);
    }
    return postgres_connection_fail(connection, text);
}

/* Rows: name, type, whether it is bytea. False: out of memory, or there is no such column. */
static bool table_take_type(struct postgres_column *column, const PGresult *rows) {
    for (int row = 0; row < PQntuples(rows); row++) {
        if (strcmp(PQgetvalue(rows, row, 0), column->name) == 0) {
            column->type = strdup(PQgetvalue(rows, row, 1));
            column->bytes = *PQgetvalue(rows, row, 2) == 't';
        }
    }
    return column->type != NULL;
}

static enum postgres_outcome table_take_types(struct postgres_table *table,
                                              struct postgres_connection *connection,
                                              const PGresult *rows) {
    if (PQntuples(rows) == 0) {
        return table_fail(table, connection, NULL);
    }
    for (size_t i = 0; i < table->column_count; i++) {
        if (!table_take_type(&table->columns[i], rows)) {
            return table_fail(table, connection, table->columns[i].name);
        }
    }
    return POSTGRES_OK;
}

static enum postgres_outcome table_make_sql(struct postgres_table *table,
                                            struct postgres_connection *connection) {
    table->copy_sql = table->keeps_first ? NULL : table_copy_sql(table);
    table->arrays_sql = table_arrays_sql(table);
    table->insert_sql = table_insert_sql(table);
    table->column_array = table_column_array(table);
    bool made = (table->copy_sql || table->keeps_first) && table->arrays_sql && table->insert_sql &&
                table->column_array;
    return made ? POSTGRES_OK : postgres_connection_fail(connection, "out of memory");
}

enum postgres_outcome postgres_table_load(struct postgres_table *table,
                                          struct postgres_connection *connection) {
    const char *const values[] = {table->relation};
    PGresult *rows = NULL;
    table_forget_types(table);
    enum postgres_outcome outcome = postgres_connection_run(
        connection,
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, -1), "
        "'pg_catalog." BYTEA "'::pg_catalog.regtype IN (a.atttypid, t.typbasetype) "
        "FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid "
        "WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped",
        &(struct postgres_values){1, values}, &rows);
    if (outcome == POSTGRES_OK) {
        outcome = table_take_types(table, connection, rows);
        PQclear(rows);
    }
    outcome = outcome == POSTGRES_OK ? table_make_sql(table, connection) : outcome;
    return outcome == POSTGRES_OK ? POSTGRES_OK : POSTGRES_FAILED;
}
