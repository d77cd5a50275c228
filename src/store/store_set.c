/* What nodes own: assigning, releasing and restoring clients, and comparing a node with what it
 * should run: the typed face of those scripts. Any thread. Must not know what a configuration says,
 * nor why a node releases. */
#include "store/store.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

#define ORPHAN_STEPS_MAX   50      /* scan steps of one store_adopt_orphans */
#define STRAY_STEPS_MAX    10      /* and of one store_clean_strays, of 1,000 keys each */
#define ASSIGNED_STEPS_MAX 1000000 /* pages of one store_assigned */

struct word {
    const char *word;
    int value;
};

static const struct word ASSIGN_WORDS[] = {
    {"ASSIGNED", STORE_ASSIGNED},  {"GONE", STORE_ASSIGN_GONE},         {"FULL", STORE_ASSIGN_FULL},
    {"LATER", STORE_ASSIGN_LATER}, {"IDENTITY", STORE_ASSIGN_IDENTITY}, {NULL, 0},
};

static const struct word EVIDENCE_WORDS[] = {
    {"NONE", STORE_EVIDENCE_NONE},           {"MINE", STORE_EVIDENCE_MINE},
    {"STALE", STORE_EVIDENCE_STALE},         {"NEWER", STORE_EVIDENCE_NEWER},
    {"OLDER", STORE_EVIDENCE_OLDER},         {"WAITING", STORE_EVIDENCE_WAITING},
    {"TOMBSTONE", STORE_EVIDENCE_TOMBSTONE}, {NULL, 0},
};

static enum err read_word(const struct word *words, const struct redis_reply *reply, int *out) {
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

static enum err assign_batch(struct store *store, const struct store_member *target,
                             const struct store_assign_item *items, size_t n,
                             struct store_assign_result *results, size_t *done) {
    struct call call;
    struct redis_reply *reply;
    call_begin(&call, store, SCRIPT_ASSIGN);
    call.copies = COPIES_LOGGED;
    call_member(&call, target);
    for (size_t i = 0; i < n; i++) {
        call_str(&call, items[i].id);
        call_str(&call, items[i].identity);
    }
    enum err err = call_run(store, &call, &reply);
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        const struct redis_reply *row = redis_reply_at(redis_reply_at(reply, 1), i);
        int outcome = STORE_ASSIGN_GONE;
        err = read_word(ASSIGN_WORDS, redis_reply_at(row, 0), &outcome);
        results[i] = (struct store_assign_result){(enum store_assign)outcome, answer_int(row, 1)};
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
        err = assign_batch(store, target, items + at, batch_len(at, n), results + at, done);
    }
    return err;
}

/* ---- release, defer, succeeded ------------------------------------------------------------- */

static enum err release_batch(struct store *store, const struct store_member *member,
                              const struct store_release *items, size_t n, size_t *released) {
    struct call call;
    struct redis_reply *reply;
    call_begin(&call, store, SCRIPT_RELEASE);
    call_member(&call, member);
    for (size_t i = 0; i < n; i++) {
        call_str(&call, items[i].id);
        call_int(&call, items[i].epoch);
        call_int(&call, items[i].version);
        call_int(&call, items[i].delay_ms);
        call_int(&call, items[i].rest_ms_max);
        call_str(&call, items[i].code);
        call_str(&call, items[i].message);
        call_str(&call, items[i].failed ? "1" : "0");
        call_str(&call, items[i].error ? items[i].error : "");
    }
    enum err err = call_run(store, &call, &reply);
    *released += (size_t)answer_int(reply, 1);
    redis_reply_free(reply);
    return err;
}

enum err store_release(struct store *store, const struct store_member *member,
                       const struct store_release *items, size_t n, size_t *released) {
    enum err err = ERR_OK;
    *released = 0;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        err = release_batch(store, member, items + at, batch_len(at, n), released);
    }
    return err;
}

enum err store_defer(struct store *store, const char *id, int64_t delay_ms, const char *code,
                     const char *message, bool *again) {
    struct call call;
    struct redis_reply *reply;
    call_begin(&call, store, SCRIPT_DEFER);
    call_str(&call, id);
    call_int(&call, delay_ms);
    call_str(&call, code);
    call_str(&call, message);
    enum err err = call_run(store, &call, &reply);
    if (again) {
        *again = err == ERR_OK && answer_int(reply, 1) == 1;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_succeeded(struct store *store, const struct store_member *member,
                         const char *const *ids, size_t n) {
    struct call call;
    enum err err = ERR_OK;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        call_begin(&call, store, SCRIPT_SUCCEEDED);
        call_member(&call, member);
        for (size_t i = 0; i < batch_len(at, n); i++) {
            call_str(&call, ids[at + i]);
        }
        err = call_run_plain(store, &call);
    }
    return err;
}

/* ---- what a node owns ---------------------------------------------------------------------- */

struct assignment_list {
    struct store_assignment *rows;
    size_t n;
};

void store_assigned_free(struct store_assignment *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
    }
    free(rows);
}

static enum err add_assignments(struct assignment_list *list, const struct redis_reply *reply) {
    size_t more = redis_reply_count(reply);
    struct store_assignment *rows = realloc(list->rows, (list->n + more + 1) * sizeof *rows);
    if (!rows) {
        return ERR_MEMORY;
    }
    list->rows = rows;
    for (size_t i = 0; i < more; i++) {
        const struct redis_reply *fields = redis_reply_at(reply, i);
        struct store_assignment *row = &rows[list->n];
        row->epoch = answer_int(fields, 1);
        row->version = answer_int(fields, 2);
        if (reply_text(redis_reply_at(fields, 0), &row->id) != ERR_OK) {
            return ERR_MEMORY;
        }
        list->n += row->id != NULL;
    }
    return ERR_OK;
}

/* By id, the later epoch first. */
static int by_id(const void *a, const void *b) {
    const struct store_assignment *left = a, *right = b;
    int order = strcmp(left->id, right->id);
    return order ? order : (left->epoch < right->epoch) - (left->epoch > right->epoch);
}

/* A page may repeat what another has, when the list moved between the two. */
static void sort_unique(struct assignment_list *list) {
    size_t kept = 0;
    if (list->n > 0) {
        qsort(list->rows, list->n, sizeof *list->rows, by_id);
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

/* One page; *end is where it ends in the list (-1: the list's end), then where the next one does.
 */
static enum err assigned_page(struct store *store, const struct store_member *member, int64_t *end,
                              struct assignment_list *list, struct store_set *set) {
    struct call call;
    struct redis_reply *reply;
    call_begin(&call, store, SCRIPT_ASSIGNED);
    call_member(&call, member);
    call_int(&call, *end);
    enum err err = call_run(store, &call, &reply);
    if (err == ERR_OK) {
        set->rev = answer_int(reply, 1);
        *end = answer_int(reply, 2);
        set->restoring = answer_int(reply, 3) == 1;
        err = add_assignments(list, redis_reply_at(reply, 4));
    }
    redis_reply_free(reply);
    return err;
}

enum err store_assigned(struct store *store, const struct store_member *member,
                        struct store_assignment **rows, size_t *n, struct store_set *set) {
    struct assignment_list list = {0};
    int64_t end = -1, first_rev = 0;
    size_t page = 0;
    enum err err;
    *rows = NULL;
    *n = 0;
    *set = (struct store_set){0};
    do {
        err = assigned_page(store, member, &end, &list, set);
        first_rev = page == 0 ? set->rev : first_rev;
    } while (err == ERR_OK && end > 0 && ++page < ASSIGNED_STEPS_MAX);
    set->rev = first_rev;
    if (err != ERR_OK) {
        store_assigned_free(list.rows, list.n);
        return err;
    }
    sort_unique(&list);
    *rows = list.rows;
    *n = list.n;
    return ERR_OK;
}

/* ---- what changed of it ---------------------------------------------------------------------- */

void store_changes_free(struct store_change *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
        free(rows[i].config);
    }
    free(rows);
}

static enum err read_change(const struct redis_reply *reply, struct store_change *out) {
    *out = (struct store_change){.rev = answer_int(reply, 0),
                                 .epoch = answer_int(reply, 2),
                                 .version = answer_int(reply, 3)};
    const struct redis_reply *config = redis_reply_at(reply, 4);
    (void)redis_reply_str(config, &out->config_len);
    enum err err = reply_text(redis_reply_at(reply, 1), &out->id);
    if (err == ERR_OK) {
        err = reply_text(config, &out->config);
    }
    if (err == ERR_OK && !out->id) {
        err = ERR_PROTOCOL;
    }
    return err;
}

enum err store_changes(struct store *store, const struct store_member *member, int64_t applied,
                       const struct store_change *last, struct store_set *set,
                       struct store_change **rows, size_t *n) {
    struct call call;
    struct redis_reply *reply;
    *rows = NULL;
    *n = 0;
    call_begin(&call, store, SCRIPT_CHANGES);
    call_member(&call, member);
    call_int(&call, applied);
    call_int(&call, last ? last->rev : applied);
    call_str(&call, last ? last->id : "");
    enum err err = call_run(store, &call, &reply);
    *set = (struct store_set){.rev = answer_int(reply, 1),
                              .gap = answer_int(reply, 2),
                              .digest = answer_int(reply, 3),
                              .restoring = answer_int(reply, 4) == 1};
    const struct redis_reply *list = reply ? redis_reply_at(reply, 5) : NULL;
    size_t count = err == ERR_OK ? redis_reply_count(list) : 0;
    struct store_change *read = count > 0 ? calloc(count, sizeof *read) : NULL;
    if (count > 0 && !read) {
        err = ERR_MEMORY;
    }
    size_t done = 0;
    for (; done < count && err == ERR_OK; done++) {
        err = read_change(redis_reply_at(list, done), &read[done]);
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

#define DIGEST_BYTES 6 /* of 20: 2^48 */

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

enum err store_keep_digest(struct store *store, const struct store_member *member, int64_t rev,
                           int64_t digest) {
    struct call call;
    call_begin(&call, store, SCRIPT_DIGEST);
    call_member(&call, member);
    call_int(&call, rev);
    call_int(&call, digest);
    return call_run_plain(store, &call);
}

/* ---- what a node runs ---------------------------------------------------------------------- */

static enum err evidence_batch(struct store *store, const struct store_member *member,
                               const struct store_held *held, size_t n,
                               enum store_evidence *evidence) {
    struct call call;
    struct redis_reply *reply;
    call_begin(&call, store, SCRIPT_EVIDENCE);
    call_member(&call, member);
    for (size_t i = 0; i < n; i++) {
        call_str(&call, held[i].id);
        call_int(&call, held[i].epoch);
        call_int(&call, held[i].version);
    }
    enum err err = call_run(store, &call, &reply);
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        int value = STORE_EVIDENCE_NONE;
        err = read_word(EVIDENCE_WORDS, redis_reply_at(redis_reply_at(reply, 1), i), &value);
        evidence[i] = (enum store_evidence)value;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_evidence(struct store *store, const struct store_member *member,
                        const struct store_held *held, size_t n, enum store_evidence *evidence) {
    enum err err = ERR_OK;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        err = evidence_batch(store, member, held + at, batch_len(at, n), evidence + at);
    }
    return err;
}

static enum err restore_batch(struct store *store, const struct store_member *member,
                              const struct store_restore *items, size_t n,
                              struct store_restored *results) {
    static const struct word WORDS_RESTORED[] = {{"MINE", 1}, {"REFUSED", 0}, {NULL, 0}};
    struct call call;
    struct redis_reply *reply;
    call_begin(&call, store, SCRIPT_RESTORE);
    call_member(&call, member);
    for (size_t i = 0; i < n; i++) {
        call_str(&call, items[i].id);
        call_int(&call, items[i].epoch);
        call_int(&call, items[i].version);
        call_str(&call, items[i].identity);
        call_str(&call, items[i].config);
    }
    enum err err = call_run(store, &call, &reply);
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        const struct redis_reply *row = redis_reply_at(redis_reply_at(reply, 1), i);
        int mine = 0;
        err = read_word(WORDS_RESTORED, redis_reply_at(row, 0), &mine);
        results[i] = (struct store_restored){mine == 1, answer_int(row, 1), answer_int(row, 2)};
    }
    redis_reply_free(reply);
    return err;
}

enum err store_restore(struct store *store, const struct store_member *member,
                       const struct store_restore *items, size_t n, struct store_restored *results,
                       size_t *done) {
    enum err err = ERR_OK;
    for (*done = 0; *done < n && err == ERR_OK;) {
        size_t part = n - *done < STORE_RESTORE_MAX ? n - *done : STORE_RESTORE_MAX;
        err = restore_batch(store, member, items + *done, part, results + *done);
        *done += err == ERR_OK ? part : 0;
    }
    return err;
}

/* ---- orphans ------------------------------------------------------------------------------- */

static uint64_t kept_cursor(struct store *store, const uint64_t *cursor) {
    pthread_mutex_lock(&store->mutex);
    uint64_t kept = *cursor;
    pthread_mutex_unlock(&store->mutex);
    return kept;
}

static void keep_cursor(struct store *store, uint64_t *cursor, uint64_t at) {
    pthread_mutex_lock(&store->mutex);
    *cursor = at;
    pthread_mutex_unlock(&store->mutex);
}

/* As many owner records as owned ids: nothing is known to be amiss, one step of the slow sweep is
 * enough. Otherwise the sweep goes on to its end, or for as many steps as one call may take. */
enum err store_adopt_orphans(struct store *store, size_t *moved) {
    bool complete = false;
    uint64_t cursor = kept_cursor(store, &store->orphan_cursor);
    enum err err = ERR_OK;
    *moved = 0;
    for (size_t step = 0; step < ORPHAN_STEPS_MAX && err == ERR_OK && !complete; step++) {
        struct call call;
        struct redis_reply *reply;
        call_begin(&call, store, SCRIPT_ORPHANS);
        call_cursor(&call, cursor);
        err = call_run(store, &call, &reply);
        if (err == ERR_OK) {
            *moved += (size_t)answer_int(reply, 1);
            cursor = reply_cursor(redis_reply_at(reply, 2));
            complete = answer_int(reply, 3) == 1;
        }
        redis_reply_free(reply);
    }
    keep_cursor(store, &store->orphan_cursor, cursor);
    return err;
}

/* ---- lists of nodes that are not there ----------------------------------------------------- */

static void add_stray(struct store_strays *out, const char *node, size_t ids) {
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

/* The same step again as long as it finds something: a list may be long. */
enum err store_clean_strays(struct store *store, struct store_strays *out) {
    uint64_t cursor = kept_cursor(store, &store->stray_cursor), next = 1;
    enum err err = ERR_OK;
    *out = (struct store_strays){0};
    for (size_t step = 0; step < STRAY_STEPS_MAX && err == ERR_OK && next != 0; step++) {
        struct call call;
        struct redis_reply *reply;
        call_begin(&call, store, SCRIPT_STRAYS);
        call_cursor(&call, cursor);
        err = call_run(store, &call, &reply);
        const struct redis_reply *rows = err == ERR_OK ? redis_reply_at(reply, 2) : NULL;
        size_t n = rows ? redis_reply_count(rows) : 0;
        for (size_t i = 0; i < n; i++) {
            const struct redis_reply *row = redis_reply_at(rows, i);
            const char *node = redis_reply_str(redis_reply_at(row, 0), NULL);
            add_stray(out, node ? node : "", (size_t)answer_int(row, 1));
        }
        if (err == ERR_OK && n == 0) {
            next = cursor = reply_cursor(redis_reply_at(reply, 1));
        }
        redis_reply_free(reply);
    }
    keep_cursor(store, &store->stray_cursor, cursor);
    return err;
}
