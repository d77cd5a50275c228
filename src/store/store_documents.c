/* The documents of which the fleet has only one, its routes and its quotas: the typed interface of
 * these scripts. Any thread. */
#include <stdlib.h>
#include <string.h>
#include "internal.h"
#include "store/quotas.h"
#include "store/resources.h"

_Static_assert(STORE_QUOTAS_MAX < STORE_CALL_ARGS_MAX - 8, "all scopes fit into a call");

/* Runs a call that reads a document: the answer is its version (0: it was never set) and its text.
 */
static enum err store_document_read(struct store *store, struct store_call *call,
                                    struct redis_reply **reply, char **document, int64_t *version) {
    *document = NULL;
    enum err err = store_call_run(store, call, reply);
    *version = err == ERR_OK ? store_reply_int(*reply, 1) : 0;
    return *version > 0 ? store_reply_text(redis_reply_at(*reply, 2), document) : err;
}

static enum err store_document_put(struct store *store, enum store_script_id script,
                                   const char *document, int64_t expected_version,
                                   int64_t *version) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, script);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_int(&call, expected_version);
    store_call_str(&call, document);
    enum err err = store_call_run(store, &call, &reply);
    *version = err == ERR_OK ? store_reply_int(reply, 1) : 0;
    redis_reply_free(reply);
    return err;
}

enum err store_routes(struct store *store, char **document, int64_t *version) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_ROUTES);
    enum err err = store_document_read(store, &call, &reply, document, version);
    redis_reply_free(reply);
    return err;
}

enum err store_put_routes(struct store *store, const char *document, int64_t expected_version,
                          int64_t *version) {
    return store_document_put(store, SCRIPT_PUT_ROUTES, document, expected_version, version);
}

enum err store_quotas(struct store *store, const char *const *scopes, size_t n, int64_t *clients,
                      char **document, int64_t *version) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_LIST_QUOTAS);
    for (size_t i = 0; i < n; i++) {
        store_call_str(&call, scopes[i]);
    }
    enum err err = store_document_read(store, &call, &reply, document, version);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        clients[i] = store_reply_int(redis_reply_at(reply, 3), i);
    }
    redis_reply_free(reply);
    return err;
}

enum err store_put_quotas(struct store *store, const char *document, int64_t expected_version,
                          int64_t *version) {
    return store_document_put(store, SCRIPT_PUT_QUOTAS, document, expected_version, version);
}

enum err store_count_quotas(struct store *store, struct store_quota_scan *scan) {
    static const char *const hashes[STORE_QUOTA_HASHES] = {"no", "use", "counted"};
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_COUNT_QUOTAS);
    store_call_str(&call, hashes[scan->hash % STORE_QUOTA_HASHES]);
    store_call_int(&call, (int64_t)scan->cursor);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        scan->cursor = store_reply_cursor(redis_reply_at(reply, 1));
        scan->hash += scan->cursor == 0;
    }
    redis_reply_free(reply);
    return err;
}

/* ---- the use of rates ---- */

void store_quota_uses_free(struct store_quota_use *rows, size_t n) {
    for (size_t i = 0; rows && i < n; i++) {
        free(rows[i].node);
        free(rows[i].report);
    }
    free(rows);
}

static enum err store_quota_uses_read(const struct redis_reply *list, struct store_quota_use **rows,
                                      size_t *n) {
    size_t count = redis_reply_count(list);
    *rows = calloc(count + 1, sizeof **rows);
    enum err err = *rows ? ERR_OK : ERR_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        struct store_quota_use *row = &(*rows)[(*n)++];
        err = store_reply_text(redis_reply_at(redis_reply_at(list, i), 0), &row->node);
        if (err == ERR_OK) {
            err = store_reply_text(redis_reply_at(redis_reply_at(list, i), 1), &row->report);
        }
    }
    if (err != ERR_OK) {
        store_quota_uses_free(*rows, *n);
        *rows = NULL;
        *n = 0;
    }
    return err;
}

/* at: where the answer has the reports. */
static enum err store_quota_uses_run(struct store *store, struct store_call *call, size_t at,
                                     struct store_quota_use **rows, size_t *n) {
    struct redis_reply *reply;
    *rows = NULL;
    *n = 0;
    enum err err = store_call_run(store, call, &reply);
    if (err == ERR_OK) {
        err = store_quota_uses_read(redis_reply_at(reply, at), rows, n);
    }
    redis_reply_free(reply);
    return err;
}

enum err store_quota_uses(struct store *store, struct store_quota_use **rows, size_t *n) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_LIST_QUOTAS);
    return store_quota_uses_run(store, &call, 4, rows, n);
}

enum err store_report_quota_use(struct store *store, const struct store_member *member,
                                const char *report, struct store_quota_use **rows, size_t *n) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_REPORT_QUOTA_USE);
    store_call_member(&call, member);
    store_call_str(&call, report);
    return store_quota_uses_run(store, &call, 1, rows, n);
}
