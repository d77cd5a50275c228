/* Owns the sinks of a node and their threads. */
#include "sink/sinks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sinks_slot {
    struct sink *sink;
    pthread_t thread;
    bool runs;
};

struct sinks {
    struct sink_environment environment;
    struct router *router;
    pthread_mutex_t lock; /* guards all below */
    struct sinks_slot slots[SINKS_MAX];
    size_t count;
};

struct sinks *sinks_create(const struct sink_environment *environment, struct router *router) {
    struct sinks *sinks = calloc(1, sizeof *sinks);
    if (sinks) {
        sinks->environment = *environment;
        sinks->router = router;
        pthread_mutex_init(&sinks->lock, NULL);
    }
    return sinks;
}

void sinks_destroy(struct sinks *sinks) {
    if (!sinks) {
        return;
    }
    for (size_t i = 0; i < sinks->count; i++) {
        sink_destroy(sinks->slots[i].sink);
    }
    pthread_mutex_destroy(&sinks->lock);
    free(sinks);
}

/* The label of the default is a second name: that of its type, which clients have always used. */
static void sinks_route(struct sinks *sinks, struct sink *sink) {
    router_add_sink(sinks->router, sink_name(sink), sink_queue(sink));
    if (strcmp(sink_label(sink), sink_name(sink)) != 0) {
        router_add_sink(sinks->router, sink_label(sink), sink_queue(sink));
    }
}

enum err sinks_add(struct sinks *sinks, const struct sink_config *config, char *fault) {
    struct sink_config complete = *config;
    struct sink *sink = NULL;
    complete.environment = &sinks->environment;
    if (sinks->count == SINKS_MAX) {
        snprintf(fault, SINK_FAULT_LEN, "a node has at most %d sinks", SINKS_MAX);
        return ERR_FULL;
    }
    enum err err = sink_create(&sink, &complete, fault);
    if (err != ERR_OK) {
        return err;
    }
    pthread_mutex_lock(&sinks->lock);
    sinks->slots[sinks->count++].sink = sink;
    pthread_mutex_unlock(&sinks->lock);
    sinks_route(sinks, sink);
    return ERR_OK;
}

/* ---- threads --------------------------------------------------------------------------------- */

enum err sinks_start(struct sinks *sinks, char *fault) {
    for (size_t i = 0; i < sinks->count; i++) {
        struct sinks_slot *slot = &sinks->slots[i];
        int error = pthread_create(&slot->thread, NULL, sink_run, slot->sink);
        if (error != 0) {
            snprintf(fault, SINK_FAULT_LEN, "cannot start the thread of the sink %s: %s",
                     sink_name(slot->sink), strerror(error));
            return ERR_UNAVAILABLE;
        }
        pthread_setname_np(slot->thread, "sink");
        slot->runs = true;
    }
    return ERR_OK;
}

void sinks_stop(struct sinks *sinks, int64_t timeout_ms) {
    for (size_t i = 0; i < sinks->count; i++) {
        sink_stop(sinks->slots[i].sink, timeout_ms);
    }
}

void sinks_join(struct sinks *sinks) {
    for (size_t i = 0; i < sinks->count; i++) {
        if (sinks->slots[i].runs) {
            pthread_join(sinks->slots[i].thread, NULL);
            sinks->slots[i].runs = false;
        }
    }
}

/* ---- status ---------------------------------------------------------------------------------- */

bool sinks_has(struct sinks *sinks, const char *name) {
    bool found = false;
    if (!sinks) {
        return false;
    }
    pthread_mutex_lock(&sinks->lock);
    for (size_t i = 0; i < sinks->count && !found; i++) {
        const struct sink *sink = sinks->slots[i].sink;
        found = strcmp(sink_name(sink), name) == 0 || strcmp(sink_label(sink), name) == 0;
    }
    pthread_mutex_unlock(&sinks->lock);
    return found;
}

bool sinks_next(struct sinks *sinks, size_t *cursor, struct sink_status *out) {
    if (!sinks) {
        return false;
    }
    pthread_mutex_lock(&sinks->lock);
    bool found = *cursor < sinks->count;
    if (found) {
        sink_status(sinks->slots[(*cursor)++].sink, out);
    }
    pthread_mutex_unlock(&sinks->lock);
    return found;
}
