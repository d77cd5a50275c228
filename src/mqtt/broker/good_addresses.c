/* Owns the table of good addresses. Any thread. */
#include "mqtt/broker/good_addresses.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define GOOD_ADDRESSES_MAX 10000

struct good_address {
    char *broker;
    union socket_address address;
    UT_hash_handle hh; /* oldest first */
};

struct good_addresses {
    pthread_mutex_t lock; /* guards the table */
    struct good_address *table;
};

struct good_addresses *good_addresses_create(void) {
    struct good_addresses *table = calloc(1, sizeof *table);
    if (table) {
        pthread_mutex_init(&table->lock, NULL);
    }
    return table;
}

static void good_addresses_remove(struct good_addresses *table, struct good_address *good) {
    HASH_DEL(table->table, good);
    free(good->broker);
    free(good);
}

void good_addresses_destroy(struct good_addresses *table) {
    if (!table) {
        return;
    }
    while (table->table) {
        good_addresses_remove(table, table->table);
    }
    pthread_mutex_destroy(&table->lock);
    free(table);
}

static struct good_address *good_addresses_add(struct good_addresses *table, const char *broker) {
    struct good_address *good = calloc(1, sizeof *good);
    if (!good || !(good->broker = strdup(broker))) {
        free(good);
        return NULL;
    }
    if (HASH_COUNT(table->table) >= GOOD_ADDRESSES_MAX) {
        good_addresses_remove(table, table->table);
    }
    HASH_ADD_KEYPTR(hh, table->table, good->broker, strlen(good->broker), good);
    return good;
}

void good_addresses_note(struct good_addresses *table, const char *broker,
                         const union socket_address *address) {
    struct good_address *good;
    pthread_mutex_lock(&table->lock);
    HASH_FIND_STR(table->table, broker, good);
    if (!good) {
        good = good_addresses_add(table, broker);
    }
    if (good) {
        good->address = *address;
    }
    pthread_mutex_unlock(&table->lock);
}

bool good_addresses_find(struct good_addresses *table, const char *broker,
                         union socket_address *out) {
    struct good_address *good;
    pthread_mutex_lock(&table->lock);
    HASH_FIND_STR(table->table, broker, good);
    if (good) {
        *out = good->address;
    }
    pthread_mutex_unlock(&table->lock);
    return good != NULL;
}
