/* The difference between the subscriptions a session holds and those it is to hold. Owns the two
 * arrays of a diff, never the filters in them; pure, any thread. Must not know of connections. */
#include "mqtt/subscriptions.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The subscriptions of a configuration in the order of their filters, for look-up. */
struct index {
    const struct client_subscription **rows;
    size_t count;
};

static int compare_rows(const void *a, const void *b) {
    const struct client_subscription *const *left = a;
    const struct client_subscription *const *right = b;
    return strcmp((*left)->filter, (*right)->filter);
}

static int compare_filter(const void *filter, const void *row) {
    const struct client_subscription *const *subscription = row;
    return strcmp(filter, (*subscription)->filter);
}

static enum err index_init(struct index *index, const struct client_config *config) {
    index->count = config == NULL ? 0 : config->subscription_count;
    index->rows = calloc(index->count + 1, sizeof(*index->rows));
    if (index->rows == NULL) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < index->count; i++) {
        index->rows[i] = &config->subscriptions[i];
    }
    qsort(index->rows, index->count, sizeof(*index->rows), compare_rows);
    return ERR_OK;
}

static const struct client_subscription *index_find(const struct index *index, const char *filter) {
    const struct client_subscription *const *row =
        bsearch(filter, index->rows, index->count, sizeof(*index->rows), compare_filter);
    return row == NULL ? NULL : *row;
}

bool subscription_same_options(const struct client_subscription *a,
                               const struct client_subscription *b) {
    return a->qos == b->qos && a->no_local == b->no_local &&
           a->retain_as_published == b->retain_as_published &&
           a->retain_handling == b->retain_handling && a->identifier == b->identifier;
}

static void add_subscribes(struct subscriptions_diff *out, const struct index *held,
                           const struct client_config *to) {
    for (size_t i = 0; i < to->subscription_count; i++) {
        const struct client_subscription *wanted = &to->subscriptions[i];
        const struct client_subscription *old = index_find(held, wanted->filter);
        if (old == NULL || !subscription_same_options(old, wanted)) {
            out->subscribe[out->subscribe_count++] = wanted;
        }
    }
}

static void add_unsubscribe(struct subscriptions_diff *out, const struct index *wanted,
                            char *filter) {
    if (index_find(wanted, filter) == NULL) {
        out->unsubscribe[out->unsubscribe_count++] = filter;
    }
}

enum err subscriptions_diff(struct subscriptions_diff *out, const struct client_config *from,
                            const struct client_config *to, int session_present) {
    struct index held = {0};
    struct index wanted = {0};
    enum err result = ERR_MEMORY;

    assert(to != NULL);
    *out = (struct subscriptions_diff){0};
    size_t gone_max = from == NULL ? to->retired_filter_count : from->subscription_count;
    out->subscribe = calloc(to->subscription_count + 1, sizeof(*out->subscribe));
    out->unsubscribe = calloc(gone_max + 1, sizeof(*out->unsubscribe));
    if (out->subscribe == NULL || out->unsubscribe == NULL || index_init(&held, from) != ERR_OK ||
        index_init(&wanted, to) != ERR_OK) {
        goto out;
    }

    add_subscribes(out, &held, to);
    if (from != NULL) {
        for (size_t i = 0; i < from->subscription_count; i++) {
            add_unsubscribe(out, &wanted, from->subscriptions[i].filter);
        }
    } else if (session_present) {
        for (size_t i = 0; i < to->retired_filter_count; i++) {
            add_unsubscribe(out, &wanted, to->retired_filters[i]);
        }
    }
    result = ERR_OK;
out:
    free(held.rows);
    free(wanted.rows);
    if (result != ERR_OK) {
        subscriptions_diff_fini(out);
    }
    return result;
}

void subscriptions_diff_fini(struct subscriptions_diff *diff) {
    free(diff->subscribe);
    free(diff->unsubscribe);
    *diff = (struct subscriptions_diff){0};
}
