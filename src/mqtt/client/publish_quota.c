/* Owns the count of publications in progress per broker. Any thread. */
#include "mqtt/client/publish_quota.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/text.h"

#define QUOTA_TIMES_FREE  2
#define QUOTA_WAITING_MIN 4 /* a broker may always have this many */
#define QUOTA_BYTES_MIN   65536

struct publish_share {
    struct publish_quota *quota;
    char *broker;
    struct publish_use use;
    size_t publications; /* in progress */
    UT_hash_handle hh;
};

struct publish_quota {
    pthread_mutex_t lock; /* guards the rest */
    struct publish_use most, use;
    struct publish_share *shares; /* with at least one publication */
};

struct publish_quota *publish_quota_create(const struct publish_use *most) {
    struct publish_quota *quota = calloc(1, sizeof *quota);
    if (quota) {
        pthread_mutex_init(&quota->lock, NULL);
        quota->most = *most;
    }
    return quota;
}

void publish_quota_destroy(struct publish_quota *quota) {
    if (!quota) {
        return;
    }
    assert(!quota->shares); /* every publication has finished */
    pthread_mutex_destroy(&quota->lock);
    free(quota);
}

/* The first use is always allowed. */
static bool quota_allows(size_t own, size_t all, size_t most, size_t least, size_t more) {
    size_t left = most > all ? most - all : 0;
    return all == 0 || own + more <= least ||
           (more <= left && own + more <= QUOTA_TIMES_FREE * left);
}

static bool quota_has_room(const struct publish_quota *quota, const struct publish_use *own,
                           size_t bytes) {
    return quota_allows(own->waiting, quota->use.waiting, quota->most.waiting, QUOTA_WAITING_MIN,
                        1) &&
           quota_allows(own->bytes, quota->use.bytes, quota->most.bytes, QUOTA_BYTES_MIN, bytes);
}

static struct publish_share *quota_find(struct publish_quota *quota, const char *broker) {
    struct publish_share *share;
    HASH_FIND_STR(quota->shares, broker, share);
    return share;
}

static struct publish_share *quota_add(struct publish_quota *quota, const char *broker) {
    struct publish_share *share = calloc(1, sizeof *share);
    if (!share || !(share->broker = text_dup(broker))) {
        free(share);
        return NULL;
    }
    share->quota = quota;
    HASH_ADD_KEYPTR(hh, quota->shares, share->broker, strlen(share->broker), share);
    return share;
}

enum err publish_quota_take(struct publish_quota *quota, const char *broker, size_t bytes,
                            struct publish_share **out) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&quota->lock);
    struct publish_share *share = quota_find(quota, broker);
    struct publish_use own = share ? share->use : (struct publish_use){0};
    if (!quota_has_room(quota, &own, bytes)) {
        err = ERR_BUSY;
    } else if (!share && !(share = quota_add(quota, broker))) {
        err = ERR_MEMORY;
    } else {
        share->publications++;
        share->use.waiting++;
        share->use.bytes += bytes;
        quota->use.waiting++;
        quota->use.bytes += bytes;
        *out = share;
    }
    pthread_mutex_unlock(&quota->lock);
    return err;
}

void publish_share_answered(struct publish_share *share) {
    struct publish_quota *quota = share->quota;
    pthread_mutex_lock(&quota->lock);
    assert(share->use.waiting > 0);
    share->use.waiting--;
    quota->use.waiting--;
    pthread_mutex_unlock(&quota->lock);
}

void publish_share_release(struct publish_share *share, size_t bytes) {
    struct publish_quota *quota = share->quota;
    pthread_mutex_lock(&quota->lock);
    assert(share->publications > 0 && share->use.bytes >= bytes);
    share->use.bytes -= bytes;
    quota->use.bytes -= bytes;
    if (--share->publications == 0) {
        assert(share->use.waiting == 0 && share->use.bytes == 0);
        HASH_DEL(quota->shares, share);
        free(share->broker);
        free(share);
    }
    pthread_mutex_unlock(&quota->lock);
}

struct publish_use publish_quota_use(struct publish_quota *quota, const char *broker) {
    pthread_mutex_lock(&quota->lock);
    const struct publish_share *share = broker ? quota_find(quota, broker) : NULL;
    struct publish_use use = !broker ? quota->use : share ? share->use : (struct publish_use){0};
    pthread_mutex_unlock(&quota->lock);
    return use;
}
