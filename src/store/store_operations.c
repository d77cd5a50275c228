/* Operations of the fleet: the typed interface of these scripts. Any thread. */
#include "store/operations.h"

#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "internal.h"

static const char *const STATE_NAMES[] = {[OPERATION_RUNNING] = "running",
                                          [OPERATION_DONE] = "done",
                                          [OPERATION_CANCELLED] = "cancelled"};
static const char *const WHAT_NAMES[] = {
    [STORE_STEP_UPDATE] = "update",   [STORE_STEP_DELETE] = "delete", [STORE_STEP_DONE] = "done",
    [STORE_STEP_SKIPPED] = "skipped", [STORE_STEP_FAILED] = "failed", [STORE_STEP_LATER] = "later"};

const char *store_operation_state_name(enum store_operation_state state) {
    return STATE_NAMES[state];
}

/* ---- create and cancel ----------------------------------------------------------------------- */

static enum err store_operation_add_ids(struct store *store, const char *id, const char *const *ids,
                                        size_t at, size_t n) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_OPERATION_IDS);
    store_call_str(&call, id);
    store_call_int(&call, (int64_t)at);
    for (size_t i = 0; i < n; i++) {
        store_call_str(&call, ids[at + i]);
    }
    return store_call_run_plain(store, &call);
}

static void store_operation_add_field(struct store_call *call, const char *name,
                                      const char *value) {
    if (value) {
        store_call_str(call, name);
        store_call_str(call, value);
    }
}

enum err store_create_operation(struct store *store, const struct store_operation *new,
                                const char *const *ids, size_t n) {
    enum err err = ERR_OK;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        err = store_operation_add_ids(store, new->id, ids, at, store_batch_len(at, n));
    }
    if (err != ERR_OK) {
        return err;
    }
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_CREATE_OPERATION);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_str(&call, new->id);
    store_call_int(&call, (int64_t)n);
    store_call_int(&call, store->audit_keep_ms);
    store_operation_add_field(&call, "action", new->action);
    store_operation_add_field(&call, "selector", new->selector);
    store_operation_add_field(&call, "by", new->by);
    store_operation_add_field(&call, "patch", new->patch);
    store_operation_add_field(&call, "scope", new->scope);
    store_operation_add_field(&call, "fields", new->fields);
    store_call_str(&call, "rate");
    store_call_int(&call, new->rate);
    return store_call_run_plain(store, &call);
}

enum err store_cancel_operation(struct store *store, const char *id, const char *by) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_CANCEL_OPERATION);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_str(&call, id);
    store_call_str(&call, by);
    return store_call_run_plain(store, &call);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void store_operation_fini(struct store_operation *operation) {
    for (size_t i = 0; i < operation->reason_count; i++) {
        free(operation->reasons[i].reason);
    }
    free(operation->reasons);
    free(operation->id);
    free(operation->action);
    free(operation->selector);
    free(operation->by);
    free(operation->patch);
    free(operation->scope);
    free(operation->fields);
    free(operation->cancelled_by);
    free(operation->executor);
    free(operation->failures);
}

void store_operations_free(struct store_operation *operations, size_t n) {
    for (size_t i = 0; i < n; i++) {
        store_operation_fini(&operations[i]);
    }
    free(operations);
}

static enum err store_operation_read_text(struct store_operation *out, const char *name,
                                          const char *value) {
    const struct {
        const char *name;
        char **to;
    } texts[] = {{"action", &out->action},
                 {"selector", &out->selector},
                 {"by", &out->by},
                 {"patch", &out->patch},
                 {"scope", &out->scope},
                 {"fields", &out->fields},
                 {"cancelled_by", &out->cancelled_by},
                 {"executor", &out->executor},
                 {"failures", &out->failures}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(texts[i].name, name) == 0 && !*texts[i].to) {
            *texts[i].to = text_dup(value);
            return *texts[i].to ? ERR_OK : ERR_MEMORY;
        }
    }
    return ERR_OK;
}

static void store_operation_read_number(struct store_operation *out, const char *name,
                                        const char *value) {
    const struct {
        const char *name;
        int64_t *to;
    } numbers[] = {{"rate", &out->rate},          {"total", &out->total},
                   {"position", &out->position},  {"done", &out->done},
                   {"skipped", &out->skipped},    {"failed", &out->failed},
                   {"started", &out->started_ms}, {"ended", &out->ended_ms}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(numbers[i].name, name) == 0) {
            *numbers[i].to = strtoll(value, NULL, 10);
        }
    }
    for (size_t i = 0; strcmp(name, "state") == 0 && i < sizeof STATE_NAMES / sizeof *STATE_NAMES;
         i++) {
        out->state =
            strcmp(STATE_NAMES[i], value) == 0 ? (enum store_operation_state)i : out->state;
    }
}

#define REASON_PREFIX "reason:"

/* reasons has room for one more. */
static enum err store_operation_read_field(struct store_operation *out, const char *name,
                                           const char *value) {
    if (strncmp(name, REASON_PREFIX, sizeof REASON_PREFIX - 1) == 0) {
        struct store_operation_reason *reason = &out->reasons[out->reason_count];
        reason->reason = text_dup(name + sizeof REASON_PREFIX - 1);
        reason->count = strtoll(value, NULL, 10);
        out->reason_count += reason->reason != NULL;
        return reason->reason ? ERR_OK : ERR_MEMORY;
    }
    store_operation_read_number(out, name, value);
    return store_operation_read_text(out, name, value);
}

static enum err store_operation_read(const struct redis_reply *reply, struct store_operation *out) {
    const struct redis_reply *fields = redis_reply_at(reply, 1);
    size_t n = redis_reply_count(fields);
    out->reasons = calloc(n / 2 + 1, sizeof *out->reasons);
    enum err err = out->reasons ? store_reply_text(redis_reply_at(reply, 0), &out->id) : ERR_MEMORY;
    for (size_t i = 0; i + 1 < n && err == ERR_OK; i += 2) {
        const char *name = redis_reply_str(redis_reply_at(fields, i), NULL);
        const char *value = redis_reply_str(redis_reply_at(fields, i + 1), NULL);
        err = name && value ? store_operation_read_field(out, name, value) : ERR_OK;
    }
    return err == ERR_OK && !out->id ? ERR_PROTOCOL : err;
}

enum err store_operations(struct store *store, const char *which,
                          struct store_operation **operations, size_t *n) {
    struct store_call call;
    struct redis_reply *reply;
    *operations = NULL;
    *n = 0;
    store_call_begin(&call, store, SCRIPT_LIST_OPERATIONS);
    store_call_str(&call, which ? which : "");
    enum err err = store_call_run(store, &call, &reply);
    const struct redis_reply *rows = redis_reply_at(reply, 2);
    size_t count = err == ERR_OK ? redis_reply_count(rows) : 0;
    *operations = calloc(count + 1, sizeof **operations);
    err = err == ERR_OK && !*operations ? ERR_MEMORY : err;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        *n = i + 1;
        err = store_operation_read(redis_reply_at(rows, i), &(*operations)[i]);
        (*operations)[i].redis_ms = store_reply_int(reply, 1);
    }
    if (err != ERR_OK) {
        store_operations_free(*operations, *n);
        *operations = NULL;
        *n = 0;
    }
    redis_reply_free(reply);
    return err;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static enum err store_operation_read_client(const struct redis_reply *fields,
                                            struct store_client *out) {
    if (redis_reply_count(fields) > 1) {
        return store_reply_client(fields, out);
    }
    *out = (struct store_client){.state = STORE_ABSENT};
    return store_reply_text(redis_reply_at(fields, 0), &out->id);
}

enum err store_operation_batch(struct store *store, const char *id, size_t count, int64_t *position,
                               struct store_client **rows, size_t *n) {
    struct store_call call;
    struct redis_reply *reply;
    *rows = NULL;
    *n = 0;
    store_call_begin(&call, store, SCRIPT_OPERATION_BATCH);
    store_call_str(&call, id);
    store_call_int(&call, count < STORE_BATCH_MAX ? (int64_t)count : STORE_BATCH_MAX);
    enum err err = store_call_run(store, &call, &reply);
    const struct redis_reply *list = redis_reply_at(reply, 2);
    size_t found = err == ERR_OK ? redis_reply_count(list) : 0;
    *rows = calloc(found + 1, sizeof **rows);
    err = err == ERR_OK && !*rows ? ERR_MEMORY : err;
    *position = err == ERR_OK ? store_reply_int(reply, 1) : 0;
    while (err == ERR_OK && *n < found) {
        err = store_operation_read_client(redis_reply_at(list, *n), &(*rows)[*n]);
        *n += err == ERR_OK;
    }
    if (err != ERR_OK) {
        store_clients_free(*rows, *n);
        *rows = NULL;
        *n = 0;
    }
    redis_reply_free(reply);
    return err;
}

static void store_operation_add_text(struct store_call *call, const char *text) {
    store_call_str(call, text ? text : "");
}

static void store_operation_add_item(struct store_call *call, const struct store_step_item *item) {
    bool deletes = item->what == STORE_STEP_DELETE, changes = item->what == STORE_STEP_UPDATE;
    store_call_str(call, item->id);
    store_call_str(call, WHAT_NAMES[item->what]);
    store_call_int(call, item->version);
    store_operation_add_text(call, deletes ? item->record : changes ? item->config : item->reason);
    store_operation_add_text(call, changes ? item->identity : item->detail);
    store_operation_add_text(call, changes ? item->record : NULL);
}

enum err store_operation_step(struct store *store, const struct store_member *executor,
                              const struct store_operation *operation, int64_t position,
                              const struct store_step_item *items, size_t n, bool *ended) {
    struct store_call call;
    struct redis_reply *reply;
    bool deletes = strcmp(operation->action, "delete") == 0;
    *ended = false;
    store_call_begin(&call, store, deletes ? SCRIPT_OPERATION_DELETE : SCRIPT_OPERATION_STEP);
    call.replication = STORE_REPLICATION_LOGGED;
    store_call_member(&call, executor);
    store_call_str(&call, operation->id);
    store_call_int(&call, position);
    store_call_int(&call, store->audit_keep_ms);
    for (size_t i = 0; i < n; i++) {
        store_operation_add_item(&call, &items[i]);
    }
    enum err err = store_call_run(store, &call, &reply);
    const char *state = err == ERR_OK ? redis_reply_str(redis_reply_at(reply, 1), NULL) : NULL;
    *ended = state && strcmp(state, STATE_NAMES[OPERATION_DONE]) == 0;
    redis_reply_free(reply);
    return err;
}
