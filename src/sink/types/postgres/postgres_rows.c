/* Owns the values of columns, and their escapes. */
#include "postgres_rows.h"

#include <stdio.h>
#include <string.h>
#include "base/text.h"

#define HEX_CHUNK 512 /* bytes that are written at once */

void postgres_rows_init(struct postgres_rows *rows, const struct postgres_table *table,
                        const char *node, const json_t *settings) {
    rows->table = table;
    rows->node = node;
    rows->missing_is_null = strcmp(sink_settings_text(settings, "missing"), "null") == 0;
    buffer_init(&rows->text);
    buffer_init(&rows->value);
    buffer_init(&rows->lines);
    for (size_t i = 0; i < POSTGRES_COLUMNS_MAX; i++) {
        buffer_init(&rows->arrays[i]);
    }
}

void postgres_rows_fini(struct postgres_rows *rows) {
    buffer_fini(&rows->text);
    buffer_fini(&rows->value);
    buffer_fini(&rows->lines);
    for (size_t i = 0; i < POSTGRES_COLUMNS_MAX; i++) {
        buffer_fini(&rows->arrays[i]);
    }
}

/* ---- a row ----------------------------------------------------------------------------------- */

static void rows_append_hex(struct buffer *out, const unsigned char *bytes, size_t len) {
    static const char digits[] = "0123456789abcdef";
    char chunk[2 * HEX_CHUNK];
    buffer_append_str(out, "\\x");
    for (size_t at = 0; at < len; at += HEX_CHUNK) {
        size_t count = len - at < HEX_CHUNK ? len - at : HEX_CHUNK;
        for (size_t i = 0; i < count; i++) {
            chunk[2 * i] = digits[bytes[at + i] >> 4];
            chunk[2 * i + 1] = digits[bytes[at + i] & 15];
        }
        buffer_append(out, chunk, 2 * count);
    }
}

/* NULL: PostgreSQL can have the text. It checks that itself, but does not say in which line. */
static const char *rows_text_fault(const char *text, size_t len) {
    if (memchr(text, '\0', len)) {
        return "a text cannot contain U+0000";
    }
    return text_is_utf8(text, len) ? NULL : "the value is not UTF-8";
}

/* rows->value becomes the cell. */
static enum err rows_take_value(struct postgres_rows *rows, const struct postgres_column *column,
                                char *reason) {
    const char *value = rows->value.data ? rows->value.data : "";
    if (column->bytes) {
        rows_append_hex(&rows->text, (const unsigned char *)value, rows->value.len);
        return ERR_OK;
    }
    const char *fault = rows_text_fault(value, rows->value.len);
    if (fault) {
        snprintf(reason, SINK_REASON_LEN, "column %.60s: %s", column->name, fault);
        return ERR_NOT_FOUND;
    }
    buffer_append(&rows->text, value, rows->value.len);
    return ERR_OK;
}

static enum err rows_make_cell(struct postgres_rows *rows, size_t index, struct message_view *view,
                               char *reason) {
    const struct postgres_column *column = &rows->table->columns[index];
    struct postgres_cell *cell = &rows->cells[index];
    char missing[MESSAGE_FAULT_LEN];
    *cell = (struct postgres_cell){.begin = rows->text.len};
    buffer_clear(&rows->value);
    enum err err = template_render(column->template, view, &rows->value, missing);
    if (err == ERR_NOT_FOUND && rows->missing_is_null) {
        cell->null = true;
        err = ERR_OK;
    } else if (err == ERR_NOT_FOUND) {
        snprintf(reason, SINK_REASON_LEN, "column %.60s: %.90s", column->name, missing);
    } else if (err == ERR_OK) {
        err = rows_take_value(rows, column, reason);
    }
    buffer_append(&rows->text, "", 1);
    return err;
}

enum err postgres_rows_make(struct postgres_rows *rows, const struct message *message,
                            char *reason) {
    struct message_view view;
    enum err err = ERR_OK;
    buffer_clear(&rows->text);
    message_view_init(&view, message, rows->node);
    for (size_t i = 0; i < rows->table->column_count && err == ERR_OK; i++) {
        err = rows_make_cell(rows, i, &view, reason);
    }
    message_view_fini(&view);
    return rows->text.failed || rows->value.failed ? ERR_MEMORY : err;
}

void postgres_rows_values(const struct postgres_rows *rows,
                          const char *values[POSTGRES_COLUMNS_MAX]) {
    for (size_t i = 0; i < rows->table->column_count; i++) {
        values[i] = rows->cells[i].null ? NULL : rows->text.data + rows->cells[i].begin;
    }
}

/* ---- many rows ------------------------------------------------------------------------------- */

void postgres_rows_clear(struct postgres_rows *rows) {
    buffer_clear(&rows->lines);
    for (size_t i = 0; i < rows->table->column_count; i++) {
        buffer_clear(&rows->arrays[i]);
    }
}

/* A backslash before each character that is one of `special`; a line end by its letter. */
static void rows_append_escaped(struct buffer *out, const char *text, const char *special) {
    size_t plain = strcspn(text, special);
    buffer_append(out, text, plain);
    for (text += plain; *text; text += plain) {
        char escape[2] = {'\\', *text == '\n'   ? 'n'
                                : *text == '\r' ? 'r'
                                : *text == '\t' ? 't'
                                                : *text};
        buffer_append(out, escape, sizeof escape);
        text++;
        plain = strcspn(text, special);
        buffer_append(out, text, plain);
    }
}

void postgres_rows_append_line(struct postgres_rows *rows) {
    for (size_t i = 0; i < rows->table->column_count; i++) {
        const struct postgres_cell *cell = &rows->cells[i];
        buffer_append_str(&rows->lines, i > 0 ? "\t" : "");
        if (cell->null) {
            buffer_append_str(&rows->lines, "\\N");
        } else {
            rows_append_escaped(&rows->lines, rows->text.data + cell->begin, "\\\n\r\t");
        }
    }
    buffer_append_str(&rows->lines, "\n");
}

void postgres_rows_append_to_arrays(struct postgres_rows *rows) {
    for (size_t i = 0; i < rows->table->column_count; i++) {
        struct buffer *array = &rows->arrays[i];
        buffer_append_str(array, array->len == 0 ? "{" : ",");
        if (rows->cells[i].null) {
            buffer_append_str(array, "NULL");
        } else {
            buffer_append_str(array, "\"");
            rows_append_escaped(array, rows->text.data + rows->cells[i].begin, "\\\"");
            buffer_append_str(array, "\"");
        }
    }
}

bool postgres_rows_end_arrays(struct postgres_rows *rows) {
    bool failed = false;
    for (size_t i = 0; i < rows->table->column_count; i++) {
        buffer_append_str(&rows->arrays[i], "}");
        failed = failed || rows->arrays[i].failed;
    }
    return !failed;
}
