/* Tables for people: columns as wide as needed, truncated at the width of the terminal, with
 * colours only on a terminal. Foreign text is made safe. One thread. */
#ifndef MQFLEET_CLI_TABLE_H
#define MQFLEET_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

struct table;

/* headings: ends with NULL, and outlives the table. A heading that begins with '>' is
 * right-aligned. */
struct table *table_create(const char *const *headings);
/* Adds a cell to the current row; NULL is "-". After the last column a new row begins. */
void table_put(struct table *table, const char *text);
void table_printf(struct table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints and removes all rows; prints the headings only the first time. */
void table_print(struct table *table);
void table_destroy(struct table *table);

/* True if standard output is a terminal and NO_COLOR is not set. */
bool table_coloured(void);
/* The escape sequence for a state ("online", "dead" ...), or "". */
const char *table_colour(const char *state);
#define TABLE_PLAIN (table_coloured() ? "\033[0m" : "")
#define TABLE_BOLD  (table_coloured() ? "\033[1m" : "")

/* Replaces control characters and invalid UTF-8 by '?' and truncates the text. Returns out. */
const char *table_printable(const char *text, char *out, size_t size);
/* "3m ago" of an RFC 3339 time; "-" for NULL. Returns out. */
const char *table_ago(const char *time, char *out, size_t size);
/* Columns of the terminal; 0: not a terminal. */
int table_terminal_width(void);

#endif
