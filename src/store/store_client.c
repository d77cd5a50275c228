/* Reading, creating, changing and deleting clients: the typed interface of these scripts. Any
 * thread. */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>
#include "internal.h"

/* ---- reading answers ----------------------------------------------------------------------- */

int64_t store_reply_int(const struct redis_reply *reply, size_t index) {
    return reply ? redis_reply_int(redis_reply_at(reply, index)) : 0;
}

enum err store_reply_text(const struct redis_reply *reply, char **out) {
    size_t len = 0;
    const char *text = redis_reply_str(reply, &len);
    *out = text ? text_copy(text, len) : NULL;
    return text && !*out ? ERR_MEMORY : ERR_OK;
}

uint64_t store_reply_cursor(const struct redis_reply *reply) {
    const char *text = redis_reply_str(reply, NULL);
    return text ? strtoull(text, NULL, 10) : 0;
}

/* The fields in the order of describe() in common/records.lua. */
enum err store_reply_client(const struct redis_reply *reply, struct store_client *out) {
    *out = (struct store_client){
        .version = store_reply_int(reply, 2),
        .owner.epoch = store_reply_int(reply, 5),
        .owner.since_ms = store_reply_int(reply, 6),
        .attempts = store_reply_int(reply, 7),
        .attempt_at_ms = store_reply_int(reply, 11),
        .cooldown_ms = store_reply_int(reply, 12),
    };
    (void)redis_reply_str(redis_reply_at(reply, 1), &out->config_len);
    const struct {
        size_t index;
        char **text;
    } texts[] = {
        {0, &out->id},
        {1, &out->config},
        {3, &out->owner.node},
        {4, &out->owner.incarnation},
        {8, &out->attempt_code},
        {9, &out->attempt_message},
        {10, &out->attempt_node},
        {13, &out->attempt_error},
        {14, &out->denied_by},
        {15, &out->identity},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (store_reply_text(redis_reply_at(reply, texts[i].index), texts[i].text) != ERR_OK) {
            store_client_fini(out);
            return ERR_MEMORY;
        }
    }
    out->state = out->owner.node ? STORE_OWNED : STORE_WAITING;
    return ERR_OK;
}

void store_client_fini(struct store_client *client) {
    free(client->history);
    free(client->id);
    free(client->config);
    free(client->owner.node);
    free(client->owner.incarnation);
    free(client->attempt_code);
    free(client->attempt_message);
    free(client->attempt_error);
    free(client->attempt_node);
    free(client->denied_by);
    free(client->identity);
    *client = (struct store_client){.state = STORE_ABSENT};
}

void store_clients_free(struct store_client *rows, size_t row_count) {
    for (size_t i = 0; i < row_count; i++) {
        store_client_fini(&rows[i]);
    }
    free(rows);
}

/* ---- reading clients ----------------------------------------------------------------------- */

enum err store_get(struct store *store, const char *id, struct store_client *out) {
    struct store_call call;
    struct redis_reply *reply;
    *out = (struct store_client){.state = STORE_ABSENT};
    store_call_begin(&call, store, SCRIPT_GET);
    store_call_str(&call, id);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        err = store_reply_client(redis_reply_at(reply, 1), out);
    }
    if (err == ERR_OK && store_reply_text(redis_reply_at(reply, 2), &out->history) != ERR_OK) {
        store_client_fini(out);
        err = ERR_MEMORY;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_identity_owner(struct store *store, const char *identity, char **id) {
    struct store_call call;
    struct redis_reply *reply;
    *id = NULL;
    store_call_begin(&call, store, SCRIPT_IDENTITY_OWNER);
    store_call_str(&call, identity);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        err = store_reply_text(redis_reply_at(reply, 1), id);
    }
    redis_reply_free(reply);
    return err == ERR_OK && !*id ? ERR_NOT_FOUND : err;
}

/* An id with a NUL cannot be named through this interface and is skipped. */
static bool store_client_has_valid_id(const struct redis_reply *fields) {
    size_t len = 0;
    const char *id = redis_reply_str(redis_reply_at(fields, 0), &len);
    return id && strlen(id) == len;
}

/* Appends to rows, which has room. */
static enum err store_client_append_rows(const struct redis_reply *list, struct store_client *rows,
                                         size_t *row_count) {
    for (size_t i = 0; i < redis_reply_count(list); i++) {
        const struct redis_reply *fields = redis_reply_at(list, i);
        if (!store_client_has_valid_id(fields)) {
            continue;
        }
        if (store_reply_client(fields, &rows[*row_count]) != ERR_OK) {
            return ERR_MEMORY;
        }
        ++*row_count;
    }
    return ERR_OK;
}

/* Frees the rows if there is an error. */
static enum err store_client_end_rows(struct store_client **rows, size_t *row_count, enum err err) {
    if (err != ERR_OK) {
        store_clients_free(*rows, *row_count);
        *rows = NULL;
        *row_count = 0;
    }
    return err;
}

static enum err store_client_read_rows(const struct redis_reply *list, struct store_client **rows,
                                       size_t *row_count) {
    *rows = calloc(redis_reply_count(list) + 1, sizeof **rows);
    *row_count = 0;
    enum err err = *rows ? store_client_append_rows(list, *rows, row_count) : ERR_MEMORY;
    return store_client_end_rows(rows, row_count, err);
}

enum err store_get_many(struct store *store, const char *const *ids, size_t n,
                        struct store_client **rows, size_t *row_count) {
    *rows = calloc(n + 1, sizeof **rows);
    *row_count = 0;
    enum err err = *rows ? ERR_OK : ERR_MEMORY;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        struct store_call call;
        struct redis_reply *reply;
        store_call_begin(&call, store, SCRIPT_GET_MANY);
        for (size_t i = 0; i < store_batch_len(at, n); i++) {
            store_call_str(&call, ids[at + i]);
        }
        err = store_call_run(store, &call, &reply);
        if (err == ERR_OK) {
            const struct redis_reply *list = redis_reply_at(reply, 1);
            err = redis_reply_count(list) <= store_batch_len(at, n)
                      ? store_client_append_rows(list, *rows, row_count)
                      : ERR_PROTOCOL;
        }
        redis_reply_free(reply);
    }
    return store_client_end_rows(rows, row_count, err);
}

enum err store_page(struct store *store, enum store_client_state where, uint64_t *cursor,
                    size_t count, struct store_client **rows, size_t *row_count,
                    int64_t *redis_ms) {
    struct store_call call;
    struct redis_reply *reply;
    *rows = NULL;
    *row_count = 0;
    store_call_begin(&call, store, SCRIPT_PAGE);
    store_call_str(&call, where == STORE_OWNED ? "use" : "no");
    store_call_cursor(&call, *cursor);
    store_call_int(&call, count > 0 && count < STORE_BATCH_MAX ? (int64_t)count : STORE_BATCH_MAX);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        err = store_client_read_rows(redis_reply_at(reply, 3), rows, row_count);
    }
    if (err == ERR_OK) {
        *cursor = store_reply_cursor(redis_reply_at(reply, 2));
        if (redis_ms) {
            *redis_ms = store_reply_int(reply, 1);
        }
    }
    redis_reply_free(reply);
    return err;
}

enum err store_waiting_facts(struct store *store, unsigned wanted, uint64_t *cursor,
                             struct store_client **rows, size_t *row_count) {
    struct store_call call;
    struct redis_reply *reply;
    *rows = NULL;
    *row_count = 0;
    store_call_begin(&call, store, SCRIPT_WAITING_FACTS);
    store_call_cursor(&call, *cursor);
    store_call_str(&call, (wanted & STORE_FACTS_CONFIGS) != 0 ? "1" : "0");
    store_call_str(&call, (wanted & STORE_FACTS_VERSIONS) != 0 ? "1" : "0");
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        err = store_client_read_rows(redis_reply_at(reply, 2), rows, row_count);
    }
    if (err == ERR_OK) {
        *cursor = store_reply_cursor(redis_reply_at(reply, 1));
    }
    redis_reply_free(reply);
    return err;
}

enum err store_counts(struct store *store, struct store_counts *out) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_COUNTS);
    enum err err = store_call_run(store, &call, &reply);
    *out = (struct store_counts){.waiting = store_reply_int(reply, 1),
                                 .cooling_down = store_reply_int(reply, 2),
                                 .owned = store_reply_int(reply, 3)};
    redis_reply_free(reply);
    return err;
}

/* ---- create, update, delete ---------------------------------------------------------------- */

static const struct {
    const char *word;
    enum store_create_outcome outcome;
} CREATED_WORDS[] = {
    {"CREATED", STORE_CREATED},     {"UNCHANGED", STORE_UNCHANGED},
    {"CONFIG", STORE_OTHER_CONFIG}, {"IDENTITY", STORE_IDENTITY_TAKEN},
    {"QUOTA", STORE_OVER_QUOTA},
};

static enum err store_client_read_create_result(const struct redis_reply *reply,
                                                struct store_create_result *out) {
    const char *word = redis_reply_str(redis_reply_at(reply, 0), NULL);
    for (size_t i = 0; word && i < sizeof CREATED_WORDS / sizeof CREATED_WORDS[0]; i++) {
        if (strcmp(word, CREATED_WORDS[i].word) == 0) {
            out->outcome = CREATED_WORDS[i].outcome;
            out->version = store_reply_int(reply, 1);
            return store_reply_text(redis_reply_at(reply, 2), &out->other_id);
        }
    }
    return ERR_PROTOCOL;
}

static enum err store_client_create_batch(struct store *store,
                                          const struct store_create_item *items, size_t n,
                                          struct store_create_result *results, size_t *done) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_CREATE);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_int(&call, store->audit_keep_ms);
    for (size_t i = 0; i < n; i++) {
        store_call_str(&call, items[i].id);
        store_call_str(&call, items[i].config);
        store_call_str(&call, items[i].identity);
        store_call_str(&call, items[i].record ? items[i].record : "");
    }
    enum err err = store_call_run(store, &call, &reply);
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        err = store_client_read_create_result(redis_reply_at(redis_reply_at(reply, 1), i),
                                              &results[i]);
        *done += err == ERR_OK;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_create(struct store *store, const struct store_create_item *items, size_t n,
                      struct store_create_result *results, size_t *done) {
    enum err err = ERR_OK;
    memset(results, 0, n * sizeof *results);
    *done = 0;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        err = store_client_create_batch(store, items + at, store_batch_len(at, n), results + at,
                                        done);
    }
    return err;
}

enum err store_update(struct store *store, const struct store_configuration *configuration,
                      int64_t *version, char **other_id) {
    struct store_call call;
    struct redis_reply *reply;
    *version = 0;
    *other_id = NULL;
    store_call_begin(&call, store, SCRIPT_UPDATE);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_str(&call, configuration->id);
    store_call_int(&call, configuration->expected_version);
    store_call_str(&call, configuration->config);
    store_call_str(&call, configuration->identity);
    store_call_str(&call, configuration->record ? configuration->record : "");
    store_call_int(&call, store->audit_keep_ms);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        *version = store_reply_int(reply, 1);
    }
    if (err == ERR_EXISTS && store_reply_text(redis_reply_at(reply, 1), other_id) != ERR_OK) {
        err = ERR_MEMORY;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_delete(struct store *store, const char *id, int64_t expected_version,
                      const char *record) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_DELETE);
    call.replication = STORE_REPLICATION_REQUIRED;
    store_call_str(&call, id);
    store_call_int(&call, expected_version);
    store_call_str(&call, record ? record : "");
    store_call_int(&call, store->audit_keep_ms);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_NOT_FOUND && call.retried &&
        strcmp(redis_reply_str(redis_reply_at(reply, 0), NULL), "GONE") == 0) {
        err = ERR_OK; /* the first attempt deleted it; only its answer was lost */
    }
    redis_reply_free(reply);
    return err;
}
