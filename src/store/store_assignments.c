/* Assigning, releasing and restoring clients, and comparing a node with what it should run: the
 * typed interface of these scripts. Any thread. */
#include "store/store.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

#define ORPHAN_STEPS_MAX     50      /* scan steps per store_adopt_orphans */
#define STRAY_STEPS_MAX      10      /* scan steps per store_clean_strays, 1,000 keys each */
#define ASSIGNMENT_PAGES_MAX 1000000 /* pages per store_list_assignments */

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

/* ---- what a node owns ---------------------------------------------------------------------- */

struct store_assignment_list {
    struct store_assignment *rows;
    size_t n;
};

void store_assignments_free(struct store_assignment *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
    }
    free(rows);
}

static enum err store_assignments_add(struct store_assignment_list *list,
                                      const struct redis_reply *reply) {
    size_t more = redis_reply_count(reply);
    struct store_assignment *rows = realloc(list->rows, (list->n + more + 1) * sizeof *rows);
    if (!rows) {
        return ERR_MEMORY;
    }
    list->rows = rows;
    for (size_t i = 0; i < more; i++) {
        const struct redis_reply *fields = redis_reply_at(reply, i);
        struct store_assignment *row = &rows[list->n];
        row->epoch = store_reply_int(fields, 1);
        row->version = store_reply_int(fields, 2);
        if (store_reply_text(redis_reply_at(fields, 0), &row->id) != ERR_OK) {
            return ERR_MEMORY;
        }
        list->n += row->id != NULL;
    }
    return ERR_OK;
}

/* By id, the latest epoch first. */
static int store_assignments_compare_id(const void *a, const void *b) {
    const struct store_assignment *left = a, *right = b;
    int order = strcmp(left->id, right->id);
    return order ? order : (left->epoch < right->epoch) - (left->epoch > right->epoch);
}

/* Two pages may contain the same id if the list moved between them. */
static void store_assignments_sort_unique(struct store_assignment_list *list) {
    size_t kept = 0;
    if (list->n > 0) {
        qsort(list->rows, list->n, sizeof *list->rows, store_assignments_compare_id);
    }
    for (size_t i = 0; i < list->n; i++) {
        if (kept > 0 && strcmp(list->rows[kept - 1].id, list->rows[i].id) == 0) {
            free(list->rows[i].id);
        } else {
            list->rows[kept++] = list->rows[i];
        }
    }
    list->n = kept;
}

/* Reads one page. *end: its end in the list (-1: the end of the list), then the end of the next
 * one. */
static enum err store_assignments_list_page(struct store *store, const struct store_member *member,
                                            int64_t *end, struct store_assignment_list *list,
                                            struct store_set *set) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_LIST_ASSIGNMENTS);
    store_call_member(&call, member);
    store_call_int(&call, *end);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        set->rev = store_reply_int(reply, 1);
        *end = store_reply_int(reply, 2);
        set->restoring = store_reply_int(reply, 3) == 1;
        err = store_assignments_add(list, redis_reply_at(reply, 4));
    }
    redis_reply_free(reply);
    return err;
}

enum err store_list_assignments(struct store *store, const struct store_member *member,
                                struct store_assignment **rows, size_t *n, struct store_set *set) {
    struct store_assignment_list list = {0};
    int64_t end = -1, first_rev = 0;
    size_t page = 0;
    enum err err;
    *rows = NULL;
    *n = 0;
    *set = (struct store_set){0};
    do {
        err = store_assignments_list_page(store, member, &end, &list, set);
        first_rev = page == 0 ? set->rev : first_rev;
    } while (err == ERR_OK && end > 0 && ++page < ASSIGNMENT_PAGES_MAX);
    set->rev = first_rev;
    if (err != ERR_OK) {
        store_assignments_free(list.rows, list.n);
        return err;
    }
    store_assignments_sort_unique(&list);
    *rows = list.rows;
    *n = list.n;
    return ERR_OK;
}

/* ---- changes of the owned clients ------------------------------------------------------------ */

void store_changes_free(struct store_change *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
        free(rows[i].config);
    }
    free(rows);
}

static enum err store_assignments_read_change(const struct redis_reply *reply,
                                              struct store_change *out) {
    *out = (struct store_change){.rev = store_reply_int(reply, 0),
                                 .epoch = store_reply_int(reply, 2),
                                 .version = store_reply_int(reply, 3)};
    const struct redis_reply *config = redis_reply_at(reply, 4);
    (void)redis_reply_str(config, &out->config_len);
    enum err err = store_reply_text(redis_reply_at(reply, 1), &out->id);
    if (err == ERR_OK) {
        err = store_reply_text(config, &out->config);
    }
    if (err == ERR_OK && !out->id) {
        err = ERR_PROTOCOL;
    }
    return err;
}

enum err store_changes(struct store *store, const struct store_member *member, int64_t applied,
                       const struct store_change *last, struct store_set *set,
                       struct store_change **rows, size_t *n) {
    struct store_call call;
    struct redis_reply *reply;
    *rows = NULL;
    *n = 0;
    store_call_begin(&call, store, SCRIPT_CHANGES);
    store_call_member(&call, member);
    store_call_int(&call, applied);
    store_call_int(&call, last ? last->rev : applied);
    store_call_str(&call, last ? last->id : "");
    enum err err = store_call_run(store, &call, &reply);
    *set = (struct store_set){.rev = store_reply_int(reply, 1),
                              .gap_rev = store_reply_int(reply, 2),
                              .digest = store_reply_int(reply, 3),
                              .restoring = store_reply_int(reply, 4) == 1};
    const struct redis_reply *list = reply ? redis_reply_at(reply, 5) : NULL;
    size_t count = err == ERR_OK ? redis_reply_count(list) : 0;
    struct store_change *read = count > 0 ? calloc(count, sizeof *read) : NULL;
    if (count > 0 && !read) {
        err = ERR_MEMORY;
    }
    size_t done = 0;
    for (; done < count && err == ERR_OK; done++) {
        err = store_assignments_read_change(redis_reply_at(list, done), &read[done]);
    }
    redis_reply_free(reply);
    if (err != ERR_OK) {
        store_changes_free(read, read ? done : 0);
        return err;
    }
    *rows = read;
    *n = count;
    return ERR_OK;
}

#define DIGEST_BYTES 6 /* 12 of 40 digits: 2^48 */

int64_t store_digest_add(int64_t digest, const char *id, int64_t epoch, int64_t version) {
    char numbers[48];
    unsigned char sum[EVP_MAX_MD_SIZE] = {0};
    int len = snprintf(numbers, sizeof numbers, "\n%" PRId64 "\n%" PRId64, epoch, version);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context && EVP_DigestInit_ex(context, EVP_sha1(), NULL)) {
        EVP_DigestUpdate(context, id, strlen(id));
        EVP_DigestUpdate(context, numbers, (size_t)len);
        EVP_DigestFinal_ex(context, sum, NULL);
    }
    EVP_MD_CTX_free(context);
    uint64_t part = 0;
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        part = part << 8 | sum[i];
    }
    return (int64_t)(((uint64_t)digest + part) & (((uint64_t)1 << 48) - 1));
}

enum err store_save_digest(struct store *store, const struct store_member *member, int64_t rev,
                           int64_t digest) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_DIGEST);
    store_call_member(&call, member);
    store_call_int(&call, rev);
    store_call_int(&call, digest);
    return store_call_run_plain(store, &call);
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

/* ---- orphans ------------------------------------------------------------------------------- */

static uint64_t store_assignments_get_cursor(struct store *store, const uint64_t *cursor) {
    pthread_mutex_lock(&store->mutex);
    uint64_t kept = *cursor;
    pthread_mutex_unlock(&store->mutex);
    return kept;
}

static void store_assignments_set_cursor(struct store *store, uint64_t *cursor, uint64_t at) {
    pthread_mutex_lock(&store->mutex);
    *cursor = at;
    pthread_mutex_unlock(&store->mutex);
}

/* If there are as many owner records as owned ids, no orphan is expected and one step of the slow
 * scan is enough. Otherwise the scan continues to its end, or to the maximum of steps per call. */
enum err store_adopt_orphans(struct store *store, size_t *moved) {
    bool complete = false;
    uint64_t cursor = store_assignments_get_cursor(store, &store->orphan_cursor);
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
    store_assignments_set_cursor(store, &store->orphan_cursor, cursor);
    return err;
}

/* ---- lists of unknown nodes ---------------------------------------------------------------- */

static void store_assignments_add_stray(struct store_strays *out, const char *node, size_t ids) {
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
    uint64_t cursor = store_assignments_get_cursor(store, &store->stray_cursor), next = 1;
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
            store_assignments_add_stray(out, node ? node : "", (size_t)store_reply_int(row, 1));
        }
        if (err == ERR_OK && n == 0) {
            next = cursor = store_reply_cursor(redis_reply_at(reply, 1));
        }
        redis_reply_free(reply);
    }
    store_assignments_set_cursor(store, &store->stray_cursor, cursor);
    return err;
}
