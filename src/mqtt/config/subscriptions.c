/* Owns the look-up of filters that must be unsubscribed from a session, and the number of filters
 * that fit into a packet. A result owns its array, never the filters. Pure; any thread. */
#include "mqtt/config/subscriptions.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The subscriptions of a configuration sorted by filter, for look-up. */
struct subscriptions_index {
    const struct client_subscription **rows;
    size_t count;
};

static int subscriptions_compare_rows(const void *a, const void *b) {
    const struct client_subscription *const *left = a;
    const struct client_subscription *const *right = b;
    return strcmp((*left)->filter, (*right)->filter);
}

static int subscriptions_compare_filter(const void *filter, const void *row) {
    const struct client_subscription *const *subscription = row;
    return strcmp(filter, (*subscription)->filter);
}

static enum err subscriptions_index_init(struct subscriptions_index *index,
                                         const struct client_config *config) {
    index->count = config->subscription_count;
    index->rows = calloc(index->count + 1, sizeof *index->rows);
    if (!index->rows) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < index->count; i++) {
        index->rows[i] = &config->subscriptions[i];
    }
    qsort(index->rows, index->count, sizeof *index->rows, subscriptions_compare_rows);
    return ERR_OK;
}

static const struct client_subscription *
subscriptions_index_find(const struct subscriptions_index *index, const char *filter) {
    const struct client_subscription *const *row = bsearch(
        filter, index->rows, index->count, sizeof *index->rows, subscriptions_compare_filter);
    return !row ? NULL : *row;
}

bool subscription_same_options(const struct client_subscription *a,
                               const struct client_subscription *b) {
    return a->qos == b->qos && a->no_local == b->no_local &&
           a->retain_as_published == b->retain_as_published &&
           a->retain_handling == b->retain_handling && a->identifier == b->identifier;
}

static void subscriptions_add_unsubscribe(struct subscriptions_removed *out,
                                          const struct subscriptions_index *wanted, char *filter) {
    if (!subscriptions_index_find(wanted, filter)) {
        out->filters[out->count++] = filter;
    }
}

enum err subscriptions_removed_init(struct subscriptions_removed *out,
                                    const struct client_config *from,
                                    const struct client_config *to) {
    struct subscriptions_index wanted = {0};

    assert(to);
    size_t most = !from ? to->retired_filter_count : from->subscription_count;
    *out = (struct subscriptions_removed){.filters = calloc(most + 1, sizeof *out->filters)};
    if (!out->filters || subscriptions_index_init(&wanted, to) != ERR_OK) {
        free(wanted.rows);
        subscriptions_removed_fini(out);
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < most; i++) {
        subscriptions_add_unsubscribe(
            out, &wanted, !from ? to->retired_filters[i] : from->subscriptions[i].filter);
    }
    free(wanted.rows);
    return ERR_OK;
}

void subscriptions_removed_fini(struct subscriptions_removed *removed) {
    free(removed->filters);
    *removed = (struct subscriptions_removed){0};
}

/* ---- bytes in a packet, MQTT 5.0 sections 3.8 and 3.10 ---- */

#define SUBSCRIPTIONS_ID_BYTES     2
#define SUBSCRIPTIONS_LEN_BYTES    2 /* before each filter */
#define SUBSCRIPTIONS_OPTION_BYTES 1

static size_t subscriptions_varint_bytes(size_t value) {
    return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

/* Before the first filter: packet identifier and properties. */
static size_t subscriptions_head_bytes(int version, uint32_t identifier) {
    size_t properties = identifier == 0 ? 0 : 1 + subscriptions_varint_bytes(identifier);
    return SUBSCRIPTIONS_ID_BYTES + (version == 5 ? 1 + properties : 0);
}

/* Whether a packet with that many bytes after its fixed header fits. */
static bool subscriptions_is_within(size_t remaining, size_t max_bytes) {
    return max_bytes == 0 || 1 + subscriptions_varint_bytes(remaining) + remaining <= max_bytes;
}

size_t subscriptions_fit(const struct client_subscription *subscriptions, size_t n, int version,
                         size_t max_bytes) {
    size_t fit = 0;
    size_t bytes = subscriptions_head_bytes(version, n > 0 ? subscriptions[0].identifier : 0);
    for (; fit < n; fit++) {
        bytes += SUBSCRIPTIONS_LEN_BYTES + strlen(subscriptions[fit].filter) +
                 SUBSCRIPTIONS_OPTION_BYTES;
        if (!subscriptions_is_within(bytes, max_bytes)) {
            break;
        }
    }
    return fit;
}

size_t filters_fit(char *const *filters, size_t n, int version, size_t max_bytes) {
    size_t fit = 0, bytes = subscriptions_head_bytes(version, 0);
    for (; fit < n; fit++) {
        bytes += SUBSCRIPTIONS_LEN_BYTES + strlen(filters[fit]);
        if (!subscriptions_is_within(bytes, max_bytes)) {
            break;
        }
    }
    return fit;
}
