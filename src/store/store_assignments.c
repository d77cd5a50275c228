/* Assigning, releasing and restoring clients, and what Redis says of those that a node runs: the
 * typed interface of these scripts. Any thread. */
#include "store/store.h"

#include <string.h>
#include "internal.h"

struct store_word {
    const char *word;
    int value;
};

static const struct store_word ASSIGN_WORDS[] = {
    {"ASSIGNED", STORE_ASSIGNED},        {"GONE", STORE_ASSIGN_GONE},
    {"FULL", STORE_ASSIGN_FULL},         {"LATER", STORE_ASSIGN_COOLDOWN},
    {"IDENTITY", STORE_ASSIGN_IDENTITY}, {NULL, 0},
};

static const struct store_word OWNERSHIP_WORDS[] = {
    {"NONE", STORE_OWNERSHIP_NONE},           {"MINE", STORE_OWNERSHIP_MINE},
    {"STALE", STORE_OWNERSHIP_STALE},         {"NEWER", STORE_OWNERSHIP_NEWER},
    {"OLDER", STORE_OWNERSHIP_OLDER},         {"WAITING", STORE_OWNERSHIP_WAITING},
    {"TOMBSTONE", STORE_OWNERSHIP_TOMBSTONE}, {NULL, 0},
};

static enum err store_assignments_parse_word(const struct store_word *words,
                                             const struct redis_reply *reply, int *out) {
    const char *text = redis_reply_str(reply, NULL);
    for (; text && words->word; words++) {
        if (strcmp(text, words->word) == 0) {
            *out = words->value;
            return ERR_OK;
        }
    }
    return ERR_PROTOCOL;
}

/* ---- assign -------------------------------------------------------------------------------- */

static enum err store_assignments_assign_batch(struct store *store,
                                               const struct store_member *target,
                                               const struct store_assign_item *items, size_t n,
                                               struct store_assign_result *results, size_t *done) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_ASSIGN);
    call.replication = STORE_REPLICATION_LOGGED;
    store_call_member(&call, target);
    for (size_t i = 0; i < n; i++) {
        store_call_str(&call, items[i].id);
        store_call_str(&call, items[i].identity);
        store_call_int(&call, items[i].identity_version);
    }
    enum err err = store_call_run(store, &call, &reply);
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        const struct redis_reply *row = redis_reply_at(redis_reply_at(reply, 1), i);
        int outcome = STORE_ASSIGN_GONE;
        err = store_assignments_parse_word(ASSIGN_WORDS, redis_reply_at(row, 0), &outcome);
        results[i] = (struct store_assign_result){(enum store_assign_outcome)outcome,
                                                  store_reply_int(row, 1)};
        *done += err == ERR_OK;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_assign(struct store *store, const struct store_member *target,
                      const struct store_assign_item *items, size_t n,
                      struct store_assign_result *results, size_t *done) {
    enum err err = ERR_OK;
    *done = 0;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        err = store_assignments_assign_batch(store, target, items + at, store_batch_len(at, n),
                                             results + at, done);
    }
    return err;
}

/* ---- release, cool-down, stable ------------------------------------------------------------ */

static enum err store_assignments_release_batch(struct store *store,
                                                const struct store_member *member,
                                                const struct store_release_item *items, size_t n,
                                                size_t *released) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_RELEASE);
    store_call_member(&call, member);
    for (size_t i = 0; i < n; i++) {
        store_call_str(&call, items[i].id);
        store_call_int(&call, items[i].epoch);
        store_call_int(&call, items[i].version);
        store_call_int(&call, items[i].delay_ms);
        store_call_int(&call, items[i].cooldown_ms_max);
        store_call_str(&call, items[i].code);
        store_call_str(&call, items[i].message);
        store_call_str(&call, items[i].failed ? "1" : "0");
        store_call_str(&call, items[i].error ? items[i].error : "");
        store_call_str(&call, items[i].target.node ? items[i].target.node : "");
        store_call_str(&call, items[i].target.node ? items[i].target.incarnation : "");
        store_call_str(&call, items[i].history ? items[i].history : "");
    }
    enum err err = store_call_run(store, &call, &reply);
    *released += (size_t)store_reply_int(reply, 1);
    redis_reply_free(reply);
    return err;
}

enum err store_release(struct store *store, const struct store_member *member,
                       const struct store_release_item *items, size_t n, size_t *released) {
    enum err err = ERR_OK;
    *released = 0;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        err = store_assignments_release_batch(store, member, items + at, store_batch_len(at, n),
                                              released);
    }
    return err;
}

enum err store_save_histories(struct store *store, const struct store_member *member,
                              const struct store_history_item *items, size_t n) {
    struct store_call call;
    enum err err = ERR_OK;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        store_call_begin(&call, store, SCRIPT_SAVE_HISTORIES);
        store_call_member(&call, member);
        for (size_t i = at; i < at + store_batch_len(at, n); i++) {
            store_call_str(&call, items[i].id);
            store_call_int(&call, items[i].epoch);
            store_call_str(&call, items[i].history);
        }
        err = store_call_run_plain(store, &call);
    }
    return err;
}

enum err store_set_cooldown(struct store *store, const char *id, int64_t delay_ms, const char *code,
                            const char *message, bool *again) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_SET_COOLDOWN);
    store_call_str(&call, id);
    store_call_int(&call, delay_ms);
    store_call_str(&call, code);
    store_call_str(&call, message);
    enum err err = store_call_run(store, &call, &reply);
    if (again) {
        *again = err == ERR_OK && store_reply_int(reply, 1) == 1;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_mark_stable(struct store *store, const struct store_member *member,
                           const char *const *ids, size_t n) {
    struct store_call call;
    enum err err = ERR_OK;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        store_call_begin(&call, store, SCRIPT_MARK_STABLE);
        store_call_member(&call, member);
        for (size_t i = 0; i < store_batch_len(at, n); i++) {
            store_call_str(&call, ids[at + i]);
        }
        err = store_call_run_plain(store, &call);
    }
    return err;
}

/* ---- status and restore --------------------------------------------------------------------- */

static enum err store_assignments_status_batch(struct store *store,
                                               const struct store_member *member,
                                               const struct store_held *held, size_t n,
                                               enum store_ownership_status *statuses) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_OWNERSHIP_STATUS);
    store_call_member(&call, member);
    for (size_t i = 0; i < n; i++) {
        store_call_str(&call, held[i].id);
        store_call_int(&call, held[i].epoch);
        store_call_int(&call, held[i].version);
    }
    enum err err = store_call_run(store, &call, &reply);
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        int value = STORE_OWNERSHIP_NONE;
        err = store_assignments_parse_word(OWNERSHIP_WORDS,
                                           redis_reply_at(redis_reply_at(reply, 1), i), &value);
        statuses[i] = (enum store_ownership_status)value;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_ownership_status(struct store *store, const struct store_member *member,
                                const struct store_held *held, size_t n,
                                enum store_ownership_status *statuses) {
    enum err err = ERR_OK;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        err = store_assignments_status_batch(store, member, held + at, store_batch_len(at, n),
                                             statuses + at);
    }
    return err;
}

static enum err store_assignments_restore_batch(struct store *store,
                                                const struct store_member *member,
                                                const struct store_restore_item *items, size_t n,
                                                struct store_restore_result *results) {
    static const struct store_word WORDS_RESTORED[] = {{"MINE", 1}, {"REFUSED", 0}, {NULL, 0}};
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_RESTORE);
    store_call_member(&call, member);
    for (size_t i = 0; i < n; i++) {
        store_call_str(&call, items[i].id);
        store_call_int(&call, items[i].epoch);
        store_call_int(&call, items[i].version);
        store_call_str(&call, items[i].identity);
        store_call_str(&call, items[i].config);
    }
    enum err err = store_call_run(store, &call, &reply);
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        const struct redis_reply *row = redis_reply_at(redis_reply_at(reply, 1), i);
        int mine = 0;
        err = store_assignments_parse_word(WORDS_RESTORED, redis_reply_at(row, 0), &mine);
        results[i] = (struct store_restore_result){mine == 1, store_reply_int(row, 1),
                                                   store_reply_int(row, 2)};
    }
    redis_reply_free(reply);
    return err;
}

enum err store_restore(struct store *store, const struct store_member *member,
                       const struct store_restore_item *items, size_t n,
                       struct store_restore_result *results, size_t *done) {
    enum err err = ERR_OK;
    for (*done = 0; *done < n && err == ERR_OK;) {
        size_t part = n - *done < STORE_RESTORE_MAX ? n - *done : STORE_RESTORE_MAX;
        err = store_assignments_restore_batch(store, member, items + *done, part, results + *done);
        *done += err == ERR_OK ? part : 0;
    }
    return err;
}
