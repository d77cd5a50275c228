/* The quotas of the fleet: the typed interface of these scripts. Any thread. */
#include "store/quotas.h"

#include <stdlib.h>
#include <string.h>
#include "internal.h"

_Static_assert(STORE_QUOTAS_MAX < STORE_CALL_ARGS_MAX - 8, "all scopes fit into a call");

enum err store_quotas(struct store *store, const char *const *scopes, size_t n, int64_t *clients,
                      char **document, int64_t *version) {
    struct store_call call;
    struct redis_reply *reply;
    *document = NULL;
    *version = 0;
    store_call_begin(&call, store, SCRIPT_LIST_QUOTAS);
    for (size_t i = 0; i < n; i++) {
        store_call_str(&call, scopes[i]);
    }
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        *version = store_reply_int(reply, 1);
        for (size_t i = 0; i < n; i++) {
            clients[i] = store_reply_int(redis_reply_at(reply, 3), i);
        }
        err = *version > 0 ? store_reply_text(redis_reply_at(reply, 2), document) : ERR_OK;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_put_quotas(struct store *store, const char *document, int64_t expected_version,
                          int64_t *version) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_PUT_QUOTAS);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_int(&call, expected_version);
    store_call_str(&call, document);
    enum err err = store_call_run(store, &call, &reply);
    *version = err == ERR_OK ? store_reply_int(reply, 1) : 0;
    redis_reply_free(reply);
    return err;
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
