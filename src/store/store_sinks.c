/* The sinks of the fleet: the typed interface of these scripts. Any thread. */
#include <stdlib.h>
#include <string.h>
#include "internal.h"
#include "store/store.h"

void store_sinks_free(struct store_sink *sinks, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(sinks[i].name);
        free(sinks[i].type);
        free(sinks[i].document);
    }
    free(sinks);
}

static enum err store_sinks_read_row(const struct redis_reply *fields, struct store_sink *out) {
    *out = (struct store_sink){.version = store_reply_int(fields, 1)};
    bool read = store_reply_text(redis_reply_at(fields, 0), &out->name) == ERR_OK &&
                store_reply_text(redis_reply_at(fields, 2), &out->type) == ERR_OK &&
                store_reply_text(redis_reply_at(fields, 3), &out->document) == ERR_OK;
    return read && out->name && out->type && out->document ? ERR_OK : ERR_MEMORY;
}

static enum err store_sinks_read(const struct redis_reply *list, struct store_sink **sinks,
                                 size_t *n) {
    size_t count = redis_reply_count(list);
    *sinks = calloc(count + 1, sizeof **sinks);
    enum err err = *sinks ? ERR_OK : ERR_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = store_sinks_read_row(redis_reply_at(list, i), &(*sinks)[i]);
        *n = i + 1;
    }
    return err;
}

enum err store_sinks(struct store *store, const char *name, struct store_sink **sinks, size_t *n,
                     int64_t *revision) {
    struct store_call call;
    struct redis_reply *reply;
    *sinks = NULL;
    *n = 0;
    store_call_begin(&call, store, SCRIPT_SINKS);
    store_call_str(&call, name ? name : "");
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        err = store_sinks_read(redis_reply_at(reply, 2), sinks, n);
    }
    if (err == ERR_OK && revision) {
        *revision = store_reply_int(reply, 1);
    }
    if (err != ERR_OK) {
        store_sinks_free(*sinks, *n);
        *sinks = NULL;
        *n = 0;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_put_sink(struct store *store, const struct store_sink *sink,
                        int64_t expected_version, int64_t *version, bool *created, char **type) {
    struct store_call call;
    struct redis_reply *reply;
    *type = NULL;
    store_call_begin(&call, store, SCRIPT_PUT_SINK);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_str(&call, sink->name);
    store_call_int(&call, expected_version);
    store_call_str(&call, sink->type);
    store_call_str(&call, sink->document);
    store_call_int(&call, STORE_SINKS_MAX);
    enum err err = store_call_run(store, &call, &reply);
    *version = err == ERR_OK ? store_reply_int(reply, 1) : 0;
    *created = err == ERR_OK && store_reply_int(reply, 2) == 1;
    if (err == ERR_WRONG_STATE && store_reply_text(redis_reply_at(reply, 1), type) != ERR_OK) {
        err = ERR_MEMORY;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_delete_sink(struct store *store, const char *name, int64_t expected_version) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_DELETE_SINK);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_str(&call, name);
    store_call_int(&call, expected_version);
    enum err err = store_call_run_plain(store, &call);
    return err == ERR_NOT_FOUND && call.retried ? ERR_OK : err; /* the first attempt did it */
}

enum err store_restore_resources(struct store *store, const struct store_resources *resources,
                                 bool *restored) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_RESTORE_RESOURCES);
    store_call_int(&call, resources->revision);
    store_call_int(&call, resources->routes_version);
    store_call_str(&call, resources->routes ? resources->routes : "");
    for (size_t i = 0; i < resources->sink_count; i++) {
        store_call_str(&call, resources->sinks[i].name);
        store_call_int(&call, resources->sinks[i].version);
        store_call_str(&call, resources->sinks[i].type);
        store_call_str(&call, resources->sinks[i].document);
    }
    enum err err = store_call_run(store, &call, &reply);
    *restored = err == ERR_OK && store_reply_int(reply, 1) == 1;
    redis_reply_free(reply);
    return err;
}
