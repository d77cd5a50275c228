/* Owns the thread that waits for the resolver of the system. */
#include "postgres_lookup.h"

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/condition.h"

#define SLICE_MS 100 /* how often a wait looks whether the sink stops */
#define HOST_LEN 256

struct postgres_lookup {
    pthread_mutex_t lock; /* guards references and done; the rest is written before done */
    pthread_cond_t ended;
    int references;
    bool done;
    char *hosts;
    size_t count;
    struct postgres_address addresses[POSTGRES_ADDRESSES_MAX];
    char error[POSTGRES_LOOKUP_ERR_LEN]; /* of the last host that has no address */
};

static void lookup_free(struct postgres_lookup *lookup) {
    pthread_cond_destroy(&lookup->ended);
    pthread_mutex_destroy(&lookup->lock);
    free(lookup->hosts);
    free(lookup);
}

void postgres_lookup_release(struct postgres_lookup *lookup) {
    if (!lookup) {
        return;
    }
    pthread_mutex_lock(&lookup->lock);
    bool last = --lookup->references == 0;
    pthread_mutex_unlock(&lookup->lock);
    if (last) {
        lookup_free(lookup);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void lookup_resolve(struct postgres_lookup *lookup, size_t index, const char *host) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int failed = getaddrinfo(host, NULL, &hints, &list);
    if (failed) {
        snprintf(lookup->error, sizeof lookup->error, "cannot resolve %.100s: %s", host,
                 gai_strerror(failed));
        return;
    }
    for (const struct addrinfo *at = list; at && lookup->count < POSTGRES_ADDRESSES_MAX;
         at = at->ai_next) {
        struct postgres_address *address = &lookup->addresses[lookup->count++];
        address->host = index;
        memcpy(&address->address, at->ai_addr, at->ai_addrlen);
    }
    freeaddrinfo(list);
}

static void *lookup_run(void *argument) {
    struct postgres_lookup *lookup = argument;
    const char *at = lookup->hosts;
    for (size_t index = 0; at; index++) {
        char host[HOST_LEN];
        snprintf(host, sizeof host, "%.*s", (int)strcspn(at, ","), at);
        lookup_resolve(lookup, index, host);
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
    pthread_mutex_lock(&lookup->lock);
    lookup->done = true;
    pthread_cond_broadcast(&lookup->ended);
    pthread_mutex_unlock(&lookup->lock);
    postgres_lookup_release(lookup);
    return NULL;
}

static bool lookup_start_thread(struct postgres_lookup *lookup) {
    pthread_attr_t detached;
    pthread_t thread;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    bool started = pthread_create(&thread, &detached, lookup_run, lookup) == 0;
    pthread_attr_destroy(&detached);
    return started;
}

/* ---- any thread ------------------------------------------------------------------------------ */

struct postgres_lookup *postgres_lookup_start(const char *hosts) {
    struct postgres_lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup) {
        return NULL;
    }
    pthread_mutex_init(&lookup->lock, NULL);
    condition_init(&lookup->ended);
    lookup->references = 2; /* the caller, and the thread */
    lookup->hosts = strdup(hosts);
    if (!lookup->hosts || !lookup_start_thread(lookup)) {
        lookup_free(lookup);
        return NULL;
    }
    return lookup;
}

bool postgres_lookup_await(struct postgres_lookup *lookup, int64_t deadline_ms,
                           const struct sink_batch *batch) {
    pthread_mutex_lock(&lookup->lock);
    while (!lookup->done && clock_ms() < deadline_ms && !(batch && sink_batch_is_over(batch))) {
        struct timespec until = condition_deadline(SLICE_MS);
        pthread_cond_timedwait(&lookup->ended, &lookup->lock, &until);
    }
    bool done = lookup->done;
    pthread_mutex_unlock(&lookup->lock);
    return done;
}

size_t postgres_lookup_addresses(const struct postgres_lookup *lookup,
                                 const struct postgres_address **out, const char **error) {
    *out = lookup->addresses;
    *error = lookup->error;
    return lookup->count;
}
