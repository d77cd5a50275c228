/* Reads the audit trail: who changed which configuration, when, and which fields. */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "internal.h"

void store_audit_free(struct store_audit_record *records, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(records[i].record);
    }
    free(records);
}

/* A line "time from to record". ERR_PROTOCOL: it is not one. */
static enum err store_audit_read_line(const struct redis_reply *reply,
                                      struct store_audit_record *out) {
    size_t len = 0;
    const char *line = redis_reply_str(reply, &len);
    int64_t numbers[3];
    for (size_t i = 0; line && i < sizeof numbers / sizeof numbers[0]; i++) {
        char *end = NULL;
        numbers[i] = strtoll(line, &end, 10);
        line = *end == ' ' ? end + 1 : NULL;
    }
    if (!line) {
        return ERR_PROTOCOL;
    }
    *out = (struct store_audit_record){numbers[0], numbers[1], numbers[2], text_dup(line)};
    return out->record ? ERR_OK : ERR_MEMORY;
}

/* Lines that were written by hand and are none are left out. */
static enum err store_audit_read_lines(const struct redis_reply *lines,
                                       struct store_audit_record **records, size_t *n) {
    size_t count = redis_reply_count(lines);
    *n = 0;
    *records = calloc(count + 1, sizeof **records);
    enum err err = *records ? ERR_OK : ERR_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = store_audit_read_line(redis_reply_at(lines, i), &(*records)[*n]);
        *n += err == ERR_OK;
        err = err == ERR_PROTOCOL ? ERR_OK : err;
    }
    if (err != ERR_OK) {
        store_audit_free(*records, *n);
        *records = NULL;
        *n = 0;
    }
    return err;
}

enum err store_audit_trail(struct store *store, const char *id, struct store_audit_record **records,
                           size_t *n) {
    struct store_call call;
    struct redis_reply *reply;
    *records = NULL;
    *n = 0;
    store_call_begin(&call, store, SCRIPT_AUDIT_TRAIL);
    store_call_str(&call, id);
    store_call_int(&call, store->audit_keep_ms);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        err = store_audit_read_lines(redis_reply_at(reply, 1), records, n);
    }
    redis_reply_free(reply);
    return err;
}

/* ---- of all ids ------------------------------------------------------------------------------ */

void store_audit_page_free(struct store_audited *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
        store_audit_free(rows[i].records, rows[i].n);
    }
    free(rows);
}

static enum err store_audit_read_row(const struct redis_reply *reply, struct store_audited *out) {
    size_t len;
    const char *id = redis_reply_str(redis_reply_at(reply, 0), &len);
    const char *at = redis_reply_str(redis_reply_at(reply, 1), &len);
    if (!id || !at) {
        return ERR_PROTOCOL;
    }
    out->id = text_dup(id);
    out->at_ms = strtoll(at, NULL, 10);
    return out->id ? store_audit_read_lines(redis_reply_at(reply, 2), &out->records, &out->n)
                   : ERR_MEMORY;
}

enum err store_audit_page(struct store *store, int64_t at_ms, const char *after,
                          struct store_audited **out, size_t *n) {
    struct store_call call;
    struct redis_reply *reply;
    *out = NULL;
    *n = 0;
    store_call_begin(&call, store, SCRIPT_AUDIT_PAGE);
    store_call_int(&call, store->audit_keep_ms);
    if (after) {
        store_call_int(&call, at_ms);
    } else {
        store_call_str(&call, "");
    }
    store_call_str(&call, after ? after : "");
    enum err err = store_call_run(store, &call, &reply);
    const struct redis_reply *rows = redis_reply_at(reply, 1);
    size_t count = err == ERR_OK ? redis_reply_count(rows) : 0;
    *out = calloc(count + 1, sizeof **out);
    err = err == ERR_OK && !*out ? ERR_MEMORY : err;
    while (err == ERR_OK && *n < count) {
        err = store_audit_read_row(redis_reply_at(rows, *n), &(*out)[*n]);
        (*n)++; /* also after an error: a part of it may be owned */
    }
    if (err != ERR_OK) {
        store_audit_page_free(*out, *n);
        *out = NULL;
        *n = 0;
    }
    redis_reply_free(reply);
    return err;
}
