/* Owns the order in which connections have waited. Any thread; must not know what they ask. */
#include "http/crowd.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <utlist.h>
#include "base/metrics.h"

struct guest {
    int fd;
    bool waiting; /* in the list */
    struct guest *prev, *next;
};

struct crowd {
    size_t max;
    pthread_mutex_t lock; /* guards all below */
    size_t count;
    struct guest *waiting; /* those that owe us bytes, the longest in front */
};

struct crowd *crowd_create(size_t max) {
    struct crowd *crowd = calloc(1, sizeof(*crowd));
    if (crowd != NULL) {
        crowd->max = max;
        pthread_mutex_init(&crowd->lock, NULL);
    }
    return crowd;
}

void crowd_destroy(struct crowd *crowd) {
    if (crowd != NULL) {
        pthread_mutex_destroy(&crowd->lock);
        free(crowd);
    }
}

/* Under the lock. */
static void wait_at_end(struct crowd *crowd, struct guest *guest) {
    guest->waiting = true;
    DL_APPEND(crowd->waiting, guest);
}

static void wait_no_more(struct crowd *crowd, struct guest *guest) {
    if (guest->waiting) {
        guest->waiting = false;
        DL_DELETE(crowd->waiting, guest);
    }
}

/* The server notices the end of what is shut down here and closes it; the lock keeps it open until
 * then. Shut down once: it is in the list no more. */
static void shed(struct crowd *crowd) {
    struct guest *longest = crowd->waiting;
    if (longest != NULL) {
        wait_no_more(crowd, longest);
        shutdown(longest->fd, SHUT_RDWR);
        metric_add(METRIC_HTTP_REFUSED, 1);
    }
}

struct guest *crowd_enter(struct crowd *crowd, int fd) {
    struct guest *guest = calloc(1, sizeof(*guest));
    if (guest == NULL) {
        return NULL;
    }
    guest->fd = fd;
    pthread_mutex_lock(&crowd->lock);
    if (++crowd->count > crowd->max) {
        shed(crowd);
    }
    wait_at_end(crowd, guest);
    pthread_mutex_unlock(&crowd->lock);
    return guest;
}

void crowd_served(struct crowd *crowd, struct guest *guest) {
    if (guest != NULL) {
        pthread_mutex_lock(&crowd->lock);
        wait_no_more(crowd, guest);
        pthread_mutex_unlock(&crowd->lock);
    }
}

void crowd_waits(struct crowd *crowd, struct guest *guest) {
    if (guest != NULL) {
        pthread_mutex_lock(&crowd->lock);
        wait_no_more(crowd, guest);
        wait_at_end(crowd, guest);
        pthread_mutex_unlock(&crowd->lock);
    }
}

void crowd_leave(struct crowd *crowd, struct guest *guest) {
    if (guest != NULL) {
        pthread_mutex_lock(&crowd->lock);
        wait_no_more(crowd, guest);
        crowd->count--;
        pthread_mutex_unlock(&crowd->lock);
        free(guest);
    }
}
