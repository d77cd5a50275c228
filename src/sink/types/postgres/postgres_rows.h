/* The rows of a batch, in the forms in which statements take them. One thread. */
#ifndef MQFLEET_SINK_POSTGRES_ROWS_H
#define MQFLEET_SINK_POSTGRES_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"
#include "postgres_table.h"
#include "sink/sink_type.h"

struct postgres_cell {
    size_t begin; /* in the text of the row */
    bool null;
};

struct postgres_rows {
    const struct postgres_table *table;
    const char *node;
    bool missing_is_null;
    struct buffer text, value; /* of the last row: its cells, each with a NUL behind; of one cell */
    struct postgres_cell cells[POSTGRES_COLUMNS_MAX];
    struct buffer lines;                        /* of COPY */
    struct buffer arrays[POSTGRES_COLUMNS_MAX]; /* of texts */
};

/* All is borrowed. */
void postgres_rows_init(struct postgres_rows *rows, const struct postgres_table *table,
                        const char *node, const json_t *settings);
void postgres_rows_fini(struct postgres_rows *rows);

/* The row of a message; the table must be loaded. ERR_NOT_FOUND: reason (SINK_REASON_LEN) says
 * which column cannot have a value. ERR_MEMORY. */
enum err postgres_rows_make(struct postgres_rows *rows, const struct message *message,
                            char *reason) MUST_CHECK;
/* The values of the row; valid until the next one. */
void postgres_rows_values(const struct postgres_rows *rows,
                          const char *values[POSTGRES_COLUMNS_MAX]);

void postgres_rows_clear(struct postgres_rows *rows); /* lines and arrays */
/* Appends the row. */
void postgres_rows_append_line(struct postgres_rows *rows);
void postgres_rows_append_to_arrays(struct postgres_rows *rows);
/* Ends the arrays. False: out of memory. */
bool postgres_rows_end_arrays(struct postgres_rows *rows);

#endif
