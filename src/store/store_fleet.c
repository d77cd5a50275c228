/* The shared name of the fleet and the settings of its nodes. Any thread. */
#include <stdio.h>
#include <stdlib.h>
#include "internal.h"
#include "store/store.h"

#define FLEET_ROWS_MAX 1000

void store_fleet_fini(struct store_fleet *fleet) {
    for (size_t i = 0; i < fleet->n; i++) {
        free(fleet->rows[i].node);
        free(fleet->rows[i].settings);
    }
    free(fleet->rows);
    for (size_t i = 0; i < fleet->vanished_count; i++) {
        free(fleet->vanished[i].node);
    }
    free(fleet->vanished);
    *fleet = (struct store_fleet){0};
}

static enum err store_fleet_read_rows(const struct redis_reply *list, struct store_fleet *out) {
    size_t n = list ? redis_reply_count(list) : 0;
    out->rows = calloc(n + 1, sizeof *out->rows);
    if (!out->rows) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        const struct redis_reply *fields = redis_reply_at(list, i);
        struct store_fleet_row *row = &out->rows[out->n++];
        if (store_reply_text(redis_reply_at(fields, 0), &row->node) != ERR_OK ||
            store_reply_text(redis_reply_at(fields, 1), &row->settings) != ERR_OK) {
            return ERR_MEMORY;
        }
    }
    return ERR_OK;
}

static enum err store_fleet_read_vanished(const struct redis_reply *list, struct store_fleet *out) {
    size_t n = list ? redis_reply_count(list) : 0;
    out->vanished = calloc(n + 1, sizeof *out->vanished);
    if (!out->vanished) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        const struct redis_reply *fields = redis_reply_at(list, i);
        struct store_vanished *row = &out->vanished[out->vanished_count++];
        row->ago_ms = store_reply_int(fields, 1);
        row->clients = store_reply_int(fields, 2);
        if (store_reply_text(redis_reply_at(fields, 0), &row->node) != ERR_OK || !row->node) {
            return ERR_MEMORY;
        }
    }
    return ERR_OK;
}

static enum err store_fleet_call(struct store *store, struct store_call *call,
                                 struct store_fleet *out) {
    struct redis_reply *reply;
    enum err err = store_call_run(store, call, &reply);
    if (err == ERR_OK || err == ERR_REFUSED) {
        const char *stored = redis_reply_str(redis_reply_at(reply, 1), NULL);
        snprintf(out->name, sizeof out->name, "%s", stored ? stored : "");
    }
    if (err == ERR_OK) {
        err = store_fleet_read_rows(redis_reply_at(reply, 2), out);
    }
    if (err == ERR_OK) {
        err = store_fleet_read_vanished(redis_reply_at(reply, 3), out);
    }
    redis_reply_free(reply);
    if (err == ERR_MEMORY) {
        store_fleet_fini(out);
    }
    return err;
}

enum err store_publish_settings(struct store *store, const char *name, const char *node,
                                const char *settings, struct store_fleet *out) {
    struct store_call call;
    *out = (struct store_fleet){0};
    store_call_begin(&call, store, SCRIPT_FLEET);
    store_call_str(&call, name);
    store_call_str(&call, node);
    store_call_str(&call, settings);
    store_call_int(&call, FLEET_ROWS_MAX);
    return store_fleet_call(store, &call, out);
}

enum err store_set_fleet_name(struct store *store, const char *name, struct store_fleet *out) {
    struct store_call call;
    *out = (struct store_fleet){0};
    store_call_begin(&call, store, SCRIPT_FLEET);
    store_call_str(&call, name);
    store_call_str(&call, "");
    store_call_str(&call, "");
    store_call_int(&call, 0);
    return store_fleet_call(store, &call, out);
}
