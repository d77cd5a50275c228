/* Owns the shared texts. Any thread; the lock guards the table and the counts of holders. */
#include "base/shared_text.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"

#define SHARED_TEXT_BUCKETS 4096 /* fixed, so that adding a text needs no other memory */

struct shared_text {
    struct shared_text *next;
    uint64_t hash;
    size_t holders;
    char text[];
};

static struct shared_text *shared_text_buckets[SHARED_TEXT_BUCKETS];
static size_t shared_text_total;
static pthread_mutex_t shared_text_lock = PTHREAD_MUTEX_INITIALIZER;

static struct shared_text **shared_text_bucket(uint64_t hash) {
    return &shared_text_buckets[hash % SHARED_TEXT_BUCKETS];
}

static struct shared_text *shared_text_find(const char *text, uint64_t hash) {
    struct shared_text *entry = *shared_text_bucket(hash);
    while (entry && (entry->hash != hash || strcmp(entry->text, text) != 0)) {
        entry = entry->next;
    }
    return entry;
}

static struct shared_text *shared_text_add(const char *text, uint64_t hash) {
    size_t size = strlen(text) + 1;
    struct shared_text *entry = malloc(sizeof *entry + size);
    if (entry) {
        struct shared_text **bucket = shared_text_bucket(hash);
        *entry = (struct shared_text){.next = *bucket, .hash = hash};
        memcpy(entry->text, text, size);
        *bucket = entry;
        shared_text_total++;
    }
    return entry;
}

static void shared_text_remove(const struct shared_text *entry) {
    struct shared_text **link = shared_text_bucket(entry->hash);
    while (*link != entry) { /* it is in this list */
        link = &(*link)->next;
    }
    *link = entry->next;
    shared_text_total--;
}

char *shared_text_hold(const char *text) {
    uint64_t hash = text_hash(text, SIZE_MAX);
    pthread_mutex_lock(&shared_text_lock);
    struct shared_text *entry = shared_text_find(text, hash);
    if (!entry) {
        entry = shared_text_add(text, hash);
    }
    if (entry) {
        entry->holders++;
    }
    pthread_mutex_unlock(&shared_text_lock);
    return entry ? entry->text : NULL;
}

void shared_text_release(char *shared) {
    if (!shared) {
        return;
    }
    struct shared_text *entry =
        (struct shared_text *)(void *)(shared - offsetof(struct shared_text, text));
    pthread_mutex_lock(&shared_text_lock);
    bool last = --entry->holders == 0;
    if (last) {
        shared_text_remove(entry);
    }
    pthread_mutex_unlock(&shared_text_lock);
    if (last) {
        free(entry);
    }
}

size_t shared_text_count(void) {
    pthread_mutex_lock(&shared_text_lock);
    size_t count = shared_text_total;
    pthread_mutex_unlock(&shared_text_lock);
    return count;
}
