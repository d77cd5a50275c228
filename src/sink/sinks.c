/* Owns the sinks of a node and their threads. */
#include "sink/sinks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"

#define STOP_MS_MIN 500 /* for dead letters, however long the others took */

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

/* No client may name it. */
static bool sinks_is_hidden(const struct sink *sink) {
    return strcmp(sink_name(sink), SINK_DEAD_LETTER) == 0;
}

/* The label of the default is a second name: that of its type, which clients have always used. */
static void sinks_route(struct sinks *sinks, struct sink *sink) {
    if (sinks_is_hidden(sink)) {
        return;
    }
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

/* NULL: there is none. */
static struct sink *sinks_find(const struct sinks *sinks, const char *name) {
    for (size_t i = 0; i < sinks->count; i++) {
        struct sink *sink = sinks->slots[i].sink;
        if (strcmp(sink_name(sink), name) == 0 || strcmp(sink_label(sink), name) == 0) {
            return sink;
        }
    }
    return NULL;
}

enum err sinks_connect_dead_letters(struct sinks *sinks, char *fault) {
    for (size_t i = 0; i < sinks->count; i++) {
        struct sink *sink = sinks->slots[i].sink;
        const char *name = sink_dead_letter(sink);
        struct sink *dead_letter = sinks_find(sinks, name);
        if (*name != '\0' && !dead_letter) {
            snprintf(fault, SINK_FAULT_LEN, "sink %s: dead_letter: the node has no sink %.64s",
                     sink_name(sink), name);
            return ERR_ARGUMENT;
        }
        if (dead_letter && dead_letter != sink) {
            sink_set_dead_letter(sink, dead_letter);
        }
    }
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

static void sinks_stop_some(struct sinks *sinks, bool dead_letters, int64_t timeout_ms) {
    for (size_t i = 0; i < sinks->count; i++) {
        if (sink_is_dead_letter(sinks->slots[i].sink) == dead_letters) {
            sink_stop(sinks->slots[i].sink, timeout_ms);
        }
    }
}

/* Those that take dead letters are stopped after the others, which send them until they end. */
void sinks_stop(struct sinks *sinks, int64_t timeout_ms) {
    int64_t deadline_ms = clock_ms() + timeout_ms;
    sinks_stop_some(sinks, false, timeout_ms);
    for (size_t i = 0; i < sinks->count; i++) {
        if (sinks->slots[i].runs && !sink_is_dead_letter(sinks->slots[i].sink)) {
            sink_await_end(sinks->slots[i].sink);
        }
    }
    int64_t left_ms = deadline_ms - clock_ms();
    sinks_stop_some(sinks, true, left_ms > STOP_MS_MIN ? left_ms : STOP_MS_MIN);
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
    if (!sinks) {
        return false;
    }
    pthread_mutex_lock(&sinks->lock);
    const struct sink *sink = sinks_find(sinks, name);
    bool found = sink && !sinks_is_hidden(sink);
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
