/* Owns the count of waiting requests per key. Any thread; must not know what they wait for. */
#include "http/gate.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <uthash.h>
#include "base/text.h"

struct entry {
    char *key;
    size_t inside;
    UT_hash_handle hh;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards entries */
static struct entry *entries;                            /* only those with somebody inside */

static struct entry *entry_add(const char *key) {
    struct entry *entry = calloc(1, sizeof(*entry));
    char *copy = text_dup(key);
    if (entry == NULL || copy == NULL) {
        free(entry);
        free(copy);
        return NULL;
    }
    entry->key = copy;
    HASH_ADD_KEYPTR(hh, entries, entry->key, strlen(entry->key), entry);
    return entry;
}

bool http_gate_enter(const char *key, size_t max) {
    assert(max > 0);
    struct entry *entry;
    pthread_mutex_lock(&lock);
    HASH_FIND_STR(entries, key, entry);
    if (entry == NULL) {
        entry = entry_add(key);
    }
    bool entered = entry != NULL && entry->inside < max;
    if (entered) {
        entry->inside++;
    }
    pthread_mutex_unlock(&lock);
    return entered;
}

void http_gate_leave(const char *key) {
    struct entry *entry;
    pthread_mutex_lock(&lock);
    HASH_FIND_STR(entries, key, entry);
    assert(entry != NULL && entry->inside > 0);
    if (--entry->inside == 0) {
        HASH_DEL(entries, entry);
        free(entry->key);
        free(entry);
    }
    pthread_mutex_unlock(&lock);
}
