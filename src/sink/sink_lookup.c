/* Owns the thread that waits for the resolver of the system. */
#include "sink/sink_lookup.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/condition.h"

#define SLICE_MS  100 /* interval at which a wait checks for the stop of the sink */
#define HOST_LEN  256
#define ERROR_LEN 160

struct sink_lookup {
    pthread_mutex_t lock; /* guards references and done; the rest is written before done */
    pthread_cond_t ended;
    int references;
    bool done;
    char *hosts;
    size_t count;
    struct sink_address addresses[SINK_ADDRESSES_MAX];
    char error[ERROR_LEN]; /* of the last host that has no address */
};

static void sink_lookup_free(struct sink_lookup *lookup) {
    pthread_cond_destroy(&lookup->ended);
    pthread_mutex_destroy(&lookup->lock);
    free(lookup->hosts);
    free(lookup);
}

void sink_lookup_release(struct sink_lookup *lookup) {
    if (!lookup) {
        return;
    }
    pthread_mutex_lock(&lookup->lock);
    bool last = --lookup->references == 0;
    pthread_mutex_unlock(&lookup->lock);
    if (last) {
        sink_lookup_free(lookup);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void sink_lookup_add(struct sink_lookup *lookup, size_t index, const char *host) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int failed = getaddrinfo(host, NULL, &hints, &list);
    if (failed) {
        snprintf(lookup->error, sizeof lookup->error, "cannot resolve %.100s: %s", host,
                 gai_strerror(failed));
        return;
    }
    for (const struct addrinfo *at = list; at && lookup->count < SINK_ADDRESSES_MAX;
         at = at->ai_next) {
        struct sink_address *address = &lookup->addresses[lookup->count++];
        address->host = index;
        memcpy(&address->address, at->ai_addr, at->ai_addrlen);
    }
    freeaddrinfo(list);
}

static void *sink_lookup_run(void *argument) {
    struct sink_lookup *lookup = argument;
    const char *at = lookup->hosts;
    for (size_t index = 0; at; index++) {
        char host[HOST_LEN];
        snprintf(host, sizeof host, "%.*s", (int)strcspn(at, ","), at);
        sink_lookup_add(lookup, index, host);
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
    pthread_mutex_lock(&lookup->lock);
    lookup->done = true;
    pthread_cond_broadcast(&lookup->ended);
    pthread_mutex_unlock(&lookup->lock);
    sink_lookup_release(lookup);
    return NULL;
}

static bool sink_lookup_start_thread(struct sink_lookup *lookup) {
    pthread_attr_t detached;
    pthread_t thread;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    bool started = pthread_create(&thread, &detached, sink_lookup_run, lookup) == 0;
    pthread_attr_destroy(&detached);
    return started;
}

/* ---- any thread ------------------------------------------------------------------------------ */

static struct sink_lookup *sink_lookup_start(const char *hosts) {
    struct sink_lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup) {
        return NULL;
    }
    pthread_mutex_init(&lookup->lock, NULL);
    condition_init(&lookup->ended);
    lookup->references = 2; /* the caller, and the thread */
    lookup->hosts = strdup(hosts);
    if (!lookup->hosts || !sink_lookup_start_thread(lookup)) {
        sink_lookup_free(lookup);
        return NULL;
    }
    return lookup;
}

static bool sink_lookup_await(struct sink_lookup *lookup, int64_t deadline_ms,
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

enum err sink_lookup_resolve(struct sink_lookup **lookup, const char *hosts, int64_t deadline_ms,
                             const struct sink_batch *batch, char *fault) {
    *lookup = *lookup ? *lookup : sink_lookup_start(hosts);
    if (!*lookup) {
        snprintf(fault, SINK_FAULT_LEN, "%s", err_name(ERR_MEMORY));
        return ERR_MEMORY;
    }
    if (!sink_lookup_await(*lookup, deadline_ms, batch)) {
        snprintf(fault, SINK_FAULT_LEN, "the resolver did not answer for %.100s", hosts);
        return ERR_TIMEOUT;
    }
    if ((*lookup)->count > 0) {
        return ERR_OK;
    }
    snprintf(fault, SINK_FAULT_LEN, "%s", (*lookup)->error);
    sink_lookup_release(*lookup);
    *lookup = NULL;
    return ERR_NOT_FOUND;
}

size_t sink_lookup_addresses(const struct sink_lookup *lookup, const struct sink_address **out) {
    *out = lookup->addresses;
    return lookup->count;
}

bool sink_lookup_allows(const struct sink_environment *environment, const char *host,
                        const struct sink_address *address, const char **why) {
    return !environment->address_allowed ||
           environment->address_allowed(environment->address_context, host,
                                        (const struct sockaddr *)&address->address, why);
}

void sink_lookup_append_numeric(const struct sink_address *address, struct buffer *out) {
    char numeric[INET6_ADDRSTRLEN + 16] = "";
    getnameinfo((const struct sockaddr *)&address->address, sizeof address->address, numeric,
                sizeof numeric, NULL, 0, NI_NUMERICHOST);
    buffer_append_str(out, numeric);
}
