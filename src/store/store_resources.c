/* The sinks and profiles of the fleet: the typed interface of these scripts. Any thread. */
#include <stdlib.h>
#include <string.h>
#include "internal.h"
#include "store/store.h"

_Static_assert((STORE_SINKS_MAX + STORE_PROFILES_MAX) * 5 + 10 <= STORE_CALL_ARGS_MAX,
               "all of them are restored in one call");

static const struct {
    const char *name;
    int64_t count_max, bytes_max;
} store_resource_kinds[] = {
    [STORE_SINKS] = {"sinks", STORE_SINKS_MAX, 0},
    [STORE_PROFILES] = {"profiles", STORE_PROFILES_MAX, STORE_PROFILES_BYTES_MAX}};

void store_resources_free(struct store_resource *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].name);
        free(rows[i].type);
        free(rows[i].document);
    }
    free(rows);
}

static enum err store_resources_read_row(const struct redis_reply *fields,
                                         struct store_resource *out) {
    *out = (struct store_resource){.version = store_reply_int(fields, 1)};
    bool read = store_reply_text(redis_reply_at(fields, 0), &out->name) == ERR_OK &&
                store_reply_text(redis_reply_at(fields, 2), &out->type) == ERR_OK &&
                store_reply_text(redis_reply_at(fields, 3), &out->document) == ERR_OK;
    return read && out->name && out->type && out->document ? ERR_OK : ERR_MEMORY;
}

static enum err store_resources_read(const struct redis_reply *list, struct store_resource **rows,
                                     size_t *n) {
    size_t count = redis_reply_count(list);
    *rows = calloc(count + 1, sizeof **rows);
    enum err err = *rows ? ERR_OK : ERR_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = store_resources_read_row(redis_reply_at(list, i), &(*rows)[i]);
        *n = i + 1;
    }
    return err;
}

enum err store_resources(struct store *store, enum store_resource_kind kind, const char *name,
                         struct store_resource **rows, size_t *n, int64_t *revision) {
    struct store_call call;
    struct redis_reply *reply;
    *rows = NULL;
    *n = 0;
    store_call_begin(&call, store, SCRIPT_LIST_RESOURCES);
    store_call_str(&call, store_resource_kinds[kind].name);
    store_call_str(&call, name ? name : "");
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        err = store_resources_read(redis_reply_at(reply, 2), rows, n);
    }
    if (err == ERR_OK && revision) {
        *revision = store_reply_int(reply, 1);
    }
    if (err != ERR_OK) {
        store_resources_free(*rows, *n);
        *rows = NULL;
        *n = 0;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_put_resource(struct store *store, enum store_resource_kind kind,
                            const struct store_resource *resource, struct store_put *put) {
    struct store_call call;
    struct redis_reply *reply;
    put->other_type = NULL;
    store_call_begin(&call, store, SCRIPT_PUT_RESOURCE);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_str(&call, store_resource_kinds[kind].name);
    store_call_str(&call, resource->name);
    store_call_int(&call, put->expected_version);
    store_call_str(&call, resource->type);
    store_call_str(&call, resource->document);
    store_call_int(&call, store_resource_kinds[kind].count_max);
    store_call_int(&call, store_resource_kinds[kind].bytes_max);
    enum err err = store_call_run(store, &call, &reply);
    put->version = err == ERR_OK ? store_reply_int(reply, 1) : 0;
    put->created = err == ERR_OK && store_reply_int(reply, 2) == 1;
    if (err == ERR_WRONG_STATE &&
        store_reply_text(redis_reply_at(reply, 1), &put->other_type) != ERR_OK) {
        err = ERR_MEMORY;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_delete_resource(struct store *store, enum store_resource_kind kind, const char *name,
                               int64_t expected_version) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_DELETE_RESOURCE);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_str(&call, store_resource_kinds[kind].name);
    store_call_str(&call, name);
    store_call_int(&call, expected_version);
    enum err err = store_call_run_plain(store, &call);
    return err == ERR_NOT_FOUND && call.retried ? ERR_OK : err; /* the first attempt did it */
}

static void store_resources_add(struct store_call *call, enum store_resource_kind kind,
                                const struct store_resource *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        store_call_str(call, store_resource_kinds[kind].name);
        store_call_str(call, rows[i].name);
        store_call_int(call, rows[i].version);
        store_call_str(call, rows[i].type);
        store_call_str(call, rows[i].document);
    }
}

enum err store_restore_resources(struct store *store, const struct store_all_resources *resources,
                                 bool *restored) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_RESTORE_RESOURCES);
    store_call_int(&call, resources->revision);
    store_call_int(&call, resources->routes_version);
    store_call_str(&call, resources->routes ? resources->routes : "");
    store_call_int(&call, resources->quotas_version);
    store_call_str(&call, resources->quotas ? resources->quotas : "");
    store_resources_add(&call, STORE_SINKS, resources->sinks, resources->sink_count);
    store_resources_add(&call, STORE_PROFILES, resources->profiles, resources->profile_count);
    enum err err = store_call_run(store, &call, &reply);
    *restored = err == ERR_OK && store_reply_int(reply, 1) == 1;
    redis_reply_free(reply);
    return err;
}
