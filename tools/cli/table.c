/* Owns the rows until they are printed. */
#include "table.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include "base/text.h"

#define CELL_LEN 512
#define GAP      2

struct table {
    const char *const *headings;
    size_t *widths;
    size_t columns;
    char **cells;
    size_t count, capacity;
    bool headings_printed;
};

/* ---- text ------------------------------------------------------------------------------------ */

/* U+202A to U+202E and U+2066 to U+2069 change the order of the displayed text. */
static bool table_is_bidi_control(const char *at, size_t len) {
    const unsigned char *byte = (const unsigned char *)at;
    return len == 3 && byte[0] == 0xE2 &&
           ((byte[1] == 0x80 && byte[2] >= 0xAA && byte[2] <= 0xAE) ||
            (byte[1] == 0x81 && byte[2] >= 0xA6 && byte[2] <= 0xA9));
}

const char *table_printable(const char *text, char *out, size_t size) {
    size_t len = 0, left = strlen(text);
    for (const char *at = text; left > 0;) {
        size_t char_len = text_utf8_char_len(at, left);
        bool bad =
            char_len == 0 || text_has_control(at, char_len) || table_is_bidi_control(at, char_len);
        size_t taken = char_len > 0 ? char_len : 1;
        size_t put = bad ? 1 : char_len;
        if (len + put >= size) {
            break;
        }
        memcpy(out + len, bad ? "?" : at, put);
        len += put;
        at += taken;
        left -= taken;
    }
    out[len] = '\0';
    return out;
}

/* Approximate columns on a terminal: one per character, two for East Asian characters and emoji,
 * none for combining marks. */
static size_t table_char_width(const unsigned char *at, size_t len) {
    uint32_t code = len == 1   ? at[0]
                    : len == 2 ? (at[0] & 0x1Fu) << 6 | (at[1] & 0x3Fu)
                    : len == 3 ? (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu)
                               : 0x10000;
    bool combining = code >= 0x300 && code < 0x370;
    bool wide = code >= 0x10000 || (code >= 0x1100 && code < 0x1160) ||
                (code >= 0x2E80 && code < 0xA4D0) || (code >= 0xAC00 && code < 0xD7A4) ||
                (code >= 0xF900 && code < 0xFB00) || (code >= 0xFF00 && code < 0xFF61);
    return combining ? 0 : wide ? 2 : 1;
}

/* Number of bytes of the text that fit into the columns; *width: columns used. */
static size_t table_fit_width(const char *text, size_t columns, size_t *width) {
    size_t at = 0, len = strlen(text);
    *width = 0;
    while (at < len) {
        size_t char_len = text_utf8_char_len(text + at, len - at);
        char_len = char_len > 0 ? char_len : 1;
        size_t more = table_char_width((const unsigned char *)text + at, char_len);
        if (*width + more > columns) {
            break;
        }
        *width += more;
        at += char_len;
    }
    return at;
}

static size_t table_text_width(const char *text) {
    size_t width;
    table_fit_width(text, SIZE_MAX, &width);
    return width;
}

const char *table_ago(const char *time_text, char *out, size_t size) {
    struct tm parts = {0};
    if (!time_text || !strptime(time_text, "%Y-%m-%dT%H:%M:%S", &parts)) {
        snprintf(out, size, "-");
        return out;
    }
    long seconds = (long)(time(NULL) - timegm(&parts));
    const char *end = seconds < 0 ? "" : " ago";
    const char *begin = seconds < 0 ? "in " : "";
    seconds = seconds < 0 ? -seconds : seconds;
    long value = seconds < 120      ? seconds
                 : seconds < 7200   ? seconds / 60
                 : seconds < 172800 ? seconds / 3600
                                    : seconds / 86400;
    const char *unit = seconds < 120 ? "s" : seconds < 7200 ? "m" : seconds < 172800 ? "h" : "d";
    snprintf(out, size, "%s%ld%s%s", begin, value, unit, end);
    return out;
}

/* ---- the terminal ---------------------------------------------------------------------------- */

bool table_coloured(void) {
    const char *no = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && (!no || no[0] == '\0') && (!term || strcmp(term, "dumb") != 0);
}

const char *table_colour(const char *state) {
    static const struct {
        const char *state, *sequence;
    } colours[] = {
        {"online", "\033[32m"},     {"live", "\033[32m"},     {"ok", "\033[32m"},
        {"backoff", "\033[31m"},    {"conflict", "\033[31m"}, {"dead", "\033[31m"},
        {"missing", "\033[31m"},    {"failed", "\033[31m"},   {"waiting", "\033[33m"},
        {"connecting", "\033[33m"}, {"draining", "\033[33m"}, {"paused", "\033[2m"},
    };
    for (size_t i = 0; table_coloured() && i < sizeof(colours) / sizeof(colours[0]); i++) {
        if (strcmp(colours[i].state, state) == 0) {
            return colours[i].sequence;
        }
    }
    return "";
}

int table_terminal_width(void) {
    struct winsize size;
    if (!isatty(STDOUT_FILENO)) {
        return 0;
    }
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* ---- rows ------------------------------------------------------------------------------------ */

struct table *table_create(const char *const *headings) {
    struct table *table = calloc(1, sizeof *table);
    size_t columns = 0;
    while (headings[columns]) {
        columns++;
    }
    if (!table || !(table->widths = calloc(columns + 1, sizeof *table->widths))) {
        free(table);
        return NULL;
    }
    table->headings = headings;
    table->columns = columns;
    return table;
}

void table_put(struct table *table, const char *text) {
    char cell[CELL_LEN];
    if (table->count == table->capacity) {
        size_t capacity = table->capacity * 2 + 64;
        char **grown = realloc(table->cells, capacity * sizeof *grown);
        if (!grown) {
            return;
        }
        table->cells = grown;
        table->capacity = capacity;
    }
    table->cells[table->count++] = text_dup(table_printable(text ? text : "-", cell, sizeof(cell)));
}

void table_printf(struct table *table, const char *format, ...) {
    char text[CELL_LEN];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    table_put(table, text);
}

static const char *table_cell(const struct table *table, size_t row, size_t column) {
    const char *cell = table->cells[row * table->columns + column];
    return cell ? cell : "";
}

static bool table_is_flush_right(const struct table *table, size_t column) {
    return table->headings[column][0] == '>';
}

static const char *table_heading(const struct table *table, size_t column) {
    return table->headings[column] + table_is_flush_right(table, column);
}

static void table_print_cell(const struct table *table, size_t column, const char *text,
                             size_t width, size_t room, const char *colour) {
    size_t taken;
    size_t len = table_fit_width(text, room < width ? room : width, &taken);
    int pad = (int)(width < room ? width - taken : 0);
    bool last = column + 1 == table->columns;
    printf("%s%*s%.*s%s%*s", colour, table_is_flush_right(table, column) ? pad : 0, "", (int)len,
           text, colour[0] != '\0' ? "\033[0m" : "",
           table_is_flush_right(table, column) || last ? 0 : pad, "");
}

/* row SIZE_MAX: the headings. A number is shown whole or, with what follows, not at all. */
static void table_print_row(const struct table *table, size_t row) {
    const size_t *widths = table->widths;
    int terminal = table_terminal_width();
    size_t room = terminal > 0 ? (size_t)terminal : SIZE_MAX / 2;
    for (size_t column = 0; column < table->columns && room > 0; column++) {
        bool heading = row == SIZE_MAX;
        if (table_is_flush_right(table, column) && room < widths[column]) {
            break;
        }
        const char *text = heading ? table_heading(table, column) : table_cell(table, row, column);
        table_print_cell(table, column, text, widths[column], room,
                         heading ? "" : table_colour(text));
        room -= room < widths[column] ? room : widths[column];
        if (column + 1 < table->columns) {
            printf("%*s", (int)(room < GAP ? room : GAP), "");
            room -= room < GAP ? room : GAP;
        }
    }
    putchar('\n');
}

void table_print(struct table *table) {
    size_t *widths = table->widths;
    size_t rows = table->columns > 0 ? table->count / table->columns : 0;
    for (size_t column = 0; column < table->columns; column++) {
        widths[column] = table_text_width(table_heading(table, column));
        for (size_t row = 0; row < rows; row++) {
            size_t width = table_text_width(table_cell(table, row, column));
            widths[column] = width > widths[column] ? width : widths[column];
        }
    }
    if (!table->headings_printed) {
        fputs(TABLE_BOLD, stdout);
        table_print_row(table, SIZE_MAX);
        fputs(TABLE_PLAIN, stdout);
        table->headings_printed = true;
    }
    for (size_t row = 0; row < rows; row++) {
        table_print_row(table, row);
    }
    for (size_t i = 0; i < table->count; i++) {
        free(table->cells[i]);
    }
    table->count = 0;
}

void table_destroy(struct table *table) {
    for (size_t i = 0; table && i < table->count; i++) {
        free(table->cells[i]);
    }
    free(table ? table->cells : NULL);
    free(table ? table->widths : NULL);
    free(table);
}
