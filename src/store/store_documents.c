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
