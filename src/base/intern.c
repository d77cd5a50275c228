/* Owns the interned texts. Any thread; the lock guards the table. */
#include "base/intern.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct entry {
    UT_hash_handle hh;
    char text[];
};

static struct entry *entries;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct entry *intern_add(const char *text, size_t len) {
    struct entry *entry = NULL;
    if (HASH_COUNT(entries) < INTERN_MAX) {
        entry = calloc(1, sizeof *entry + len + 1);
    }
    if (entry) {
        memcpy(entry->text, text, len);
        HASH_ADD_KEYPTR(hh, entries, entry->text, len, entry);
    }
    return entry;
}

const char *intern(const char *text) {
    size_t len = strlen(text);
    struct entry *entry;
    pthread_mutex_lock(&lock);
    HASH_FIND(hh, entries, text, len, entry);
    if (!entry) {
        entry = intern_add(text, len);
    }
    pthread_mutex_unlock(&lock);
    return entry ? entry->text : "other";
}
