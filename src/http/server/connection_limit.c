/* Owns the list of connections without a complete request, in the order of their waiting time. Any
 * thread. */
#include "http/server/connection_limit.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <utlist.h>
#include "base/telemetry/metrics.h"

struct connection_slot {
    int fd;
    bool is_waiting; /* in the list */
    struct connection_slot *prev, *next;
};

struct connection_limit {
    size_t max;
    pthread_mutex_t lock; /* guards all below */
    size_t count;
    struct connection_slot *waiting; /* without a complete request; the longest first */
};

struct connection_limit *connection_limit_create(size_t max) {
    struct connection_limit *limit = calloc(1, sizeof *limit);
    if (limit) {
        limit->max = max;
        pthread_mutex_init(&limit->lock, NULL);
    }
    return limit;
}

void connection_limit_destroy(struct connection_limit *limit) {
    if (limit) {
        pthread_mutex_destroy(&limit->lock);
        free(limit);
    }
}

/* Under the lock. */
static void connection_limit_append_waiting(struct connection_limit *limit,
                                            struct connection_slot *slot) {
    slot->is_waiting = true;
    DL_APPEND(limit->waiting, slot);
}

static void connection_limit_remove_waiting(struct connection_limit *limit,
                                            struct connection_slot *slot) {
    if (slot->is_waiting) {
        slot->is_waiting = false;
        DL_DELETE(limit->waiting, slot);
    }
}

/* Under the lock, which keeps the descriptor open. The server notices the shutdown and closes the
 * connection. It leaves the list, so it is shut down only once. */
static void connection_limit_close_longest(struct connection_limit *limit) {
    struct connection_slot *longest = limit->waiting;
    if (longest) {
        connection_limit_remove_waiting(limit, longest);
        shutdown(longest->fd, SHUT_RDWR);
        metric_add(METRIC_HTTP_REFUSED, 1);
    }
}

struct connection_slot *connection_limit_enter(struct connection_limit *limit, int fd) {
    struct connection_slot *slot = calloc(1, sizeof *slot);
    if (!slot) {
        return NULL;
    }
    slot->fd = fd;
    pthread_mutex_lock(&limit->lock);
    if (++limit->count > limit->max) {
        connection_limit_close_longest(limit);
    }
    connection_limit_append_waiting(limit, slot);
    pthread_mutex_unlock(&limit->lock);
    return slot;
}

void connection_limit_mark_served(struct connection_limit *limit, struct connection_slot *slot) {
    if (slot) {
        pthread_mutex_lock(&limit->lock);
        connection_limit_remove_waiting(limit, slot);
        pthread_mutex_unlock(&limit->lock);
    }
}

void connection_limit_mark_waiting(struct connection_limit *limit, struct connection_slot *slot) {
    if (slot) {
        pthread_mutex_lock(&limit->lock);
        connection_limit_remove_waiting(limit, slot);
        connection_limit_append_waiting(limit, slot);
        pthread_mutex_unlock(&limit->lock);
    }
}

void connection_limit_leave(struct connection_limit *limit, struct connection_slot *slot) {
    if (slot) {
        pthread_mutex_lock(&limit->lock);
        connection_limit_remove_waiting(limit, slot);
        limit->count--;
        pthread_mutex_unlock(&limit->lock);
        free(slot);
    }
}
