/* Reads the clients that a node owns from Redis: the whole list, its changes and its digest. The
 * typed interface of these scripts. Any thread. */
#include "store/store.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

#define ASSIGNMENT_PAGES_MAX 1000000 /* pages per store_list_assignments */
#define DIGEST_BYTES         6       /* 12 of 40 digits: 2^48 */

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

static enum err store_set_add(struct store_assignment_list *list, const struct redis_reply *reply) {
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
static int store_set_compare_id(const void *a, const void *b) {
    const struct store_assignment *left = a, *right = b;
    int order = strcmp(left->id, right->id);
    return order ? order : (left->epoch < right->epoch) - (left->epoch > right->epoch);
}

/* Two pages may contain the same id if the list moved between them. */
static void store_set_sort_unique(struct store_assignment_list *list) {
    size_t kept = 0;
    if (list->n > 0) {
        qsort(list->rows, list->n, sizeof *list->rows, store_set_compare_id);
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
static enum err store_set_list_page(struct store *store, const struct store_member *member,
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
        err = store_set_add(list, redis_reply_at(reply, 4));
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
        err = store_set_list_page(store, member, &end, &list, set);
        first_rev = page == 0 ? set->rev : first_rev;
    } while (err == ERR_OK && end > 0 && ++page < ASSIGNMENT_PAGES_MAX);
    set->rev = first_rev;
    if (err != ERR_OK) {
        store_assignments_free(list.rows, list.n);
        return err;
    }
    store_set_sort_unique(&list);
    *rows = list.rows;
    *n = list.n;
    return ERR_OK;
}

/* ---- changes and digest -------------------------------------------------------------------- */

void store_changes_free(struct store_change *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
        free(rows[i].config);
        free(rows[i].identity);
        free(rows[i].history);
    }
    free(rows);
}

static enum err store_set_read_change(const struct redis_reply *reply, struct store_change *out) {
    *out = (struct store_change){.rev = store_reply_int(reply, 0),
                                 .epoch = store_reply_int(reply, 2),
                                 .version = store_reply_int(reply, 3)};
    const struct redis_reply *config = redis_reply_at(reply, 4);
    (void)redis_reply_str(config, &out->config_len);
    enum err err = store_reply_text(redis_reply_at(reply, 1), &out->id);
    if (err == ERR_OK) {
        err = store_reply_text(config, &out->config);
    }
    if (err == ERR_OK) {
        err = store_reply_text(redis_reply_at(reply, 5), &out->identity);
    }
    if (err == ERR_OK) {
        err = store_reply_text(redis_reply_at(reply, 6), &out->history);
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
        err = store_set_read_change(redis_reply_at(list, done), &read[done]);
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
