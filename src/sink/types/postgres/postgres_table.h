/* The table of a sink: its columns with their templates, their types as the catalog has them, and
 * the statements that write rows. One thread. */
#ifndef MQFLEET_SINK_POSTGRES_TABLE_H
#define MQFLEET_SINK_POSTGRES_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>
#include "message/shape/template.h"
#include "postgres_connection.h"

#define POSTGRES_COLUMNS_MAX 100

struct postgres_column {
    const char *name;
    struct template *template;
    bool bytes; /* bytea: takes any bytes, in hexadecimal digits */
    char *type; /* as SQL; NULL before postgres_table_load */
};

struct postgres_table {
    const char *name; /* as in the settings */
    char *relation;   /* quoted */
    bool keeps_first; /* on_conflict nothing */
    size_t column_count;
    struct postgres_column columns[POSTGRES_COLUMNS_MAX];
    char *column_array; /* their names, as SQL has an array of texts */
    char *copy_sql;     /* COPY, or NULL with keeps_first */
    char *arrays_sql;   /* rows from one array of texts for each column */
    char *insert_sql;   /* one row, a parameter for each column */
};

/* Borrows the settings. ERR_ARGUMENT: fault (SINK_FAULT_LEN) names the field. ERR_MEMORY. */
enum err postgres_table_init(struct postgres_table *table, const json_t *settings,
                             char *fault) MUST_CHECK;
void postgres_table_fini(struct postgres_table *table);
/* Reads the types of the columns, and makes the statements. POSTGRES_FAILED, with the fault of the
 * connection: the table, or a column, is not there, or may not be read. */
enum postgres_outcome postgres_table_load(struct postgres_table *table,
                                          struct postgres_connection *connection);

#endif
