/* Tables for people: columns as wide as they must be, cut at the terminal's edge, colours only on a
 * terminal. What comes from elsewhere is made harmless for it. One thread. */
#ifndef MQFLEET_CLI_TABLE_H
#define MQFLEET_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#define TABLE_COLUMNS_MAX 12

struct table;

/* headings: ends with NULL. A heading that begins with '>' is flush right. */
struct table *table_create(const char *const *headings);
/* One cell of the row under way; NULL is "-". After the last column the next row begins. */
void table_put(struct table *table, const char *text);
void table_printf(struct table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints all rows and forgets them; headings only the first time. */
void table_print(struct table *table);
void table_destroy(struct table *table);

/* Standard output is a terminal, and NO_COLOR is not set. */
bool table_coloured(void);
/* The escape sequence for a state ("online", "dead" ...), or "". */
const char *table_colour(const char *state);
#define TABLE_PLAIN (table_coloured() ? "\033[0m" : "")
#define TABLE_BOLD  (table_coloured() ? "\033[1m" : "")

/* Control characters and what is no UTF-8 as '?'; cut to fit. Returns out. */
const char *table_printable(const char *text, char *out, size_t size);
/* "3m ago" of an RFC 3339 time; "-" for NULL. Returns out. */
const char *table_ago(const char *time, char *out, size_t size);
/* Columns of the terminal; 0: it is none. */
int table_terminal_width(void);

#endif
