/* Owns the table of messages in progress between brokers and sinks. One thread. */
#include "mqtt/reactor/received/inbound.h"

#include <assert.h>
#include <stdlib.h>

#define INBOUND_BUCKETS_MIN 1024

enum err inbound_table_init(struct inbound_table *table) {
    *table = (struct inbound_table){.bucket_count = INBOUND_BUCKETS_MIN};
    table->buckets = calloc(INBOUND_BUCKETS_MIN, sizeof(struct inbound *));
    return table->buckets ? ERR_OK : ERR_MEMORY;
}

void inbound_table_fini(struct inbound_table *table) {
    assert(table->count == 0);
    free(table->buckets);
    *table = (struct inbound_table){0};
}

static size_t inbound_table_bucket_of(const struct inbound_table *table,
                                      const struct engine_session *session, uint16_t packet_id) {
    uint64_t key = ((uint64_t)(uintptr_t)session << 12) + packet_id;
    key *= 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio, spreads similar keys */
    return (size_t)(key >> 32) & (table->bucket_count - 1);
}

struct inbound *inbound_table_find(const struct inbound_table *table,
                                   const struct engine_session *session, uint16_t packet_id) {
    struct inbound *one = table->buckets[inbound_table_bucket_of(table, session, packet_id)];
    while (one && (one->session != session || one->packet_id != packet_id)) {
        one = one->bucket_next;
    }
    return one;
}

static void inbound_table_put(struct inbound_table *table, struct inbound *inbound) {
    size_t at = inbound_table_bucket_of(table, inbound->session, inbound->packet_id);
    inbound->bucket_next = table->buckets[at];
    table->buckets[at] = inbound;
}

/* Without memory, the table stays as it is: slower but correct. */
static void inbound_table_grow(struct inbound_table *table) {
    struct inbound_table larger = {.bucket_count = table->bucket_count * 2, .count = table->count};
    larger.buckets = calloc(larger.bucket_count, sizeof(struct inbound *));
    if (!larger.buckets) {
        return;
    }
    for (size_t i = 0; i < table->bucket_count; i++) {
        struct inbound *one = table->buckets[i];
        while (one) {
            struct inbound *next = one->bucket_next;
            inbound_table_put(&larger, one);
            one = next;
        }
    }
    free(table->buckets);
    *table = larger;
}

void inbound_table_add(struct inbound_table *table, struct inbound *inbound) {
    assert(inbound->session);
    if (table->count >= table->bucket_count) {
        inbound_table_grow(table);
    }
    inbound_table_put(table, inbound);
    table->count++;
}

void inbound_table_remove(struct inbound_table *table, struct inbound *inbound) {
    struct inbound **at =
        &table->buckets[inbound_table_bucket_of(table, inbound->session, inbound->packet_id)];
    while (*at != inbound) {
        at = &(*at)->bucket_next;
    }
    *at = inbound->bucket_next;
    table->count--;
}
