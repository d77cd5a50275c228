/* Scans for what no node can own: clients whose owner is unknown, and lists of unknown nodes. The
 * typed interface of these scripts. Any thread. */
#include "store/store.h"

#include <stdio.h>
#include <string.h>
#include "internal.h"

#define ORPHAN_STEPS_MAX 50 /* scan steps per store_adopt_orphans */
#define STRAY_STEPS_MAX  10 /* scan steps per store_clean_strays, 1,000 keys each */

static uint64_t store_orphans_get_cursor(struct store *store, const uint64_t *cursor) {
    pthread_mutex_lock(&store->mutex);
    uint64_t kept = *cursor;
    pthread_mutex_unlock(&store->mutex);
    return kept;
}

static void store_orphans_set_cursor(struct store *store, uint64_t *cursor, uint64_t at) {
    pthread_mutex_lock(&store->mutex);
    *cursor = at;
    pthread_mutex_unlock(&store->mutex);
}

/* If there are as many owner records as owned ids, no orphan is expected and one step of the slow
 * scan is enough. Otherwise the scan continues to its end, or to the maximum of steps per call. */
enum err store_adopt_orphans(struct store *store, size_t *moved) {
    bool complete = false;
    uint64_t cursor = store_orphans_get_cursor(store, &store->orphan_cursor);
    enum err err = ERR_OK;
    *moved = 0;
    for (size_t step = 0; step < ORPHAN_STEPS_MAX && err == ERR_OK && !complete; step++) {
        struct store_call call;
        struct redis_reply *reply;
        store_call_begin(&call, store, SCRIPT_ORPHANS);
        store_call_cursor(&call, cursor);
        err = store_call_run(store, &call, &reply);
        if (err == ERR_OK) {
            *moved += (size_t)store_reply_int(reply, 1);
            cursor = store_reply_cursor(redis_reply_at(reply, 2));
            complete = store_reply_int(reply, 3) == 1;
        }
        redis_reply_free(reply);
    }
    store_orphans_set_cursor(store, &store->orphan_cursor, cursor);
    return err;
}

/* ---- lists of unknown nodes ---------------------------------------------------------------- */

static void store_orphans_add_stray(struct store_strays *out, const char *node, size_t ids) {
    size_t at = 0;
    while (at < out->n && strcmp(out->rows[at].node, node) != 0) {
        at++;
    }
    if (at < STORE_STRAYS_MAX) {
        snprintf(out->rows[at].node, sizeof out->rows[at].node, "%s", node);
        out->rows[at].ids += ids;
        out->n += at == out->n;
    }
}

/* Repeats the step while it finds something, because a list may be long. */
enum err store_clean_strays(struct store *store, struct store_strays *out) {
    uint64_t cursor = store_orphans_get_cursor(store, &store->stray_cursor), next = 1;
    enum err err = ERR_OK;
    *out = (struct store_strays){0};
    for (size_t step = 0; step < STRAY_STEPS_MAX && err == ERR_OK && next != 0; step++) {
        struct store_call call;
        struct redis_reply *reply;
        store_call_begin(&call, store, SCRIPT_STRAYS);
        store_call_cursor(&call, cursor);
        err = store_call_run(store, &call, &reply);
        const struct redis_reply *rows = err == ERR_OK ? redis_reply_at(reply, 2) : NULL;
        size_t n = rows ? redis_reply_count(rows) : 0;
        for (size_t i = 0; i < n; i++) {
            const struct redis_reply *row = redis_reply_at(rows, i);
            const char *node = redis_reply_str(redis_reply_at(row, 0), NULL);
            store_orphans_add_stray(out, node ? node : "", (size_t)store_reply_int(row, 1));
        }
        if (err == ERR_OK && n == 0) {
            next = cursor = store_reply_cursor(redis_reply_at(reply, 1));
        }
        redis_reply_free(reply);
    }
    store_orphans_set_cursor(store, &store->stray_cursor, cursor);
    return err;
}
