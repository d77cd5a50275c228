/* Claiming, releasing and restoring clients, and comparing a node with what it should run: the
 * typed face of those scripts. Any thread. Must not know what a configuration says, nor why a node
 * releases. */
#include "store/store.h"

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

static const struct word CLAIMED_WORDS[] = {
    {"CLAIMED", STORE_CLAIMED},   {"GONE", STORE_CLAIM_GONE},         {"FULL", STORE_CLAIM_FULL},
    {"LATER", STORE_CLAIM_LATER}, {"IDENTITY", STORE_CLAIM_IDENTITY}, {NULL, 0},
};

static const struct word EVIDENCE_WORDS[] = {
    {"NONE", STORE_EVIDENCE_NONE},
    {"MINE", STORE_EVIDENCE_MINE},
    {"NEWER", STORE_EVIDENCE_NEWER},
    {"OLDER", STORE_EVIDENCE_OLDER},
    {"WAITING", STORE_EVIDENCE_WAITING},
    {"TOMBSTONE", STORE_EVIDENCE_TOMBSTONE},
    {NULL, 0},
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

/* ---- claim --------------------------------------------------------------------------------- */

static enum err read_claimed(const struct redis_reply *reply, struct store_claim_result *out) {
    int outcome = STORE_CLAIM_GONE;
    enum err err = read_word(CLAIMED_WORDS, redis_reply_at(reply, 0), &outcome);
    if (err == ERR_OK && outcome == STORE_CLAIMED) {
        err = reply_client(redis_reply_at(reply, 1), &out->client);
    }
    out->outcome = (enum store_claimed)outcome;
    return err;
}

static enum err claim_batch(struct store *store, const struct store_member *member,
                            const struct store_claim_item *items, size_t n,
                            struct store_claim_result *results, size_t *done, int64_t *rev) {
    struct call call;
    struct redis_reply *reply;
    call_begin(&call, store, SCRIPT_CLAIM);
    call.copies = COPIES_LOGGED;
    call_member(&call, member);
    for (size_t i = 0; i < n; i++) {
        call_str(&call, items[i].id);
        call_str(&call, items[i].identity);
    }
    enum err err = call_run(store, &call, &reply);
    if (err == ERR_OK) {
        *rev = answer_int(reply, 1);
    }
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        err = read_claimed(redis_reply_at(redis_reply_at(reply, 2), i), &results[i]);
        *done += err == ERR_OK;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_claim(struct store *store, const struct store_member *member,
                     const struct store_claim_item *items, size_t n,
                     struct store_claim_result *results, size_t *done, int64_t *rev) {
    enum err err = ERR_OK;
    memset(results, 0, n * sizeof *results);
    *done = 0;
    *rev = 0;
    for (size_t at = 0; at < n && err == ERR_OK; at += STORE_BATCH_MAX) {
        err = claim_batch(store, member, items + at, batch_len(at, n), results + at, done, rev);
    }
    return err;
}

void store_claim_results_fini(struct store_claim_result *results, size_t n) {
    for (size_t i = 0; i < n; i++) {
        store_client_fini(&results[i].client);
    }
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
                              struct assignment_list *list, int64_t *rev) {
    struct call call;
    struct redis_reply *reply;
    call_begin(&call, store, SCRIPT_ASSIGNED);
    call_member(&call, member);
    call_int(&call, *end);
    enum err err = call_run(store, &call, &reply);
    if (err == ERR_OK) {
        *rev = answer_int(reply, 1);
        *end = answer_int(reply, 2);
        err = add_assignments(list, redis_reply_at(reply, 3));
    }
    redis_reply_free(reply);
    return err;
}

enum err store_assigned(struct store *store, const struct store_member *member,
                        struct store_assignment **rows, size_t *n, int64_t *rev) {
    struct assignment_list list = {0};
    int64_t end = -1, first_rev = 0;
    size_t page = 0;
    enum err err;
    *rows = NULL;
    *n = 0;
    do {
        int64_t page_rev = 0;
        err = assigned_page(store, member, &end, &list, &page_rev);
        first_rev = page == 0 ? page_rev : first_rev;
    } while (err == ERR_OK && end > 0 && ++page < ASSIGNED_STEPS_MAX);
    *rev = first_rev;
    if (err != ERR_OK) {
        store_assigned_free(list.rows, list.n);
        return err;
    }
    sort_unique(&list);
    *rows = list.rows;
    *n = list.n;
    return ERR_OK;
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

enum err store_restore(struct store *store, const struct store_member *member,
                       const struct store_restore *item, int64_t *epoch) {
    struct call call;
    struct redis_reply *reply;
    call_begin(&call, store, SCRIPT_RESTORE);
    call_member(&call, member);
    call_str(&call, item->id);
    call_int(&call, item->epoch);
    call_str(&call, item->config);
    call_str(&call, item->identity);
    call_int(&call, item->version);
    enum err err = call_run(store, &call, &reply);
    *epoch = err == ERR_OK ? answer_int(reply, 1) : 0;
    redis_reply_free(reply);
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
