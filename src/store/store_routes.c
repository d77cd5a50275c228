/* The routes of the fleet: the typed interface of these scripts. Any thread. */
#include <stdlib.h>
#include "internal.h"
#include "store/store.h"

enum err store_routes(struct store *store, char **document, int64_t *version) {
    struct store_call call;
    struct redis_reply *reply;
    *document = NULL;
    *version = 0;
    store_call_begin(&call, store, SCRIPT_ROUTES);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        *version = store_reply_int(reply, 1);
        if (*version > 0) {
            err = store_reply_text(redis_reply_at(reply, 2), document);
        }
    }
    redis_reply_free(reply);
    return err;
}

enum err store_put_routes(struct store *store, const char *document, int64_t expected_version,
                          int64_t *version) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_PUT_ROUTES);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_int(&call, expected_version);
    store_call_str(&call, document);
    enum err err = store_call_run(store, &call, &reply);
    *version = err == ERR_OK ? store_reply_int(reply, 1) : 0;
    redis_reply_free(reply);
    return err;
}
