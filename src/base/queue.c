/* Owns bounded queues between threads: a ring of pointers behind one mutex. Any thread pushes, pops
 * and closes. */
#include "base/queue.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "base/system/condition.h"

struct queue {
    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t filled;
    void **items;
    size_t capacity;
    size_t first; /* index of the oldest item */
    size_t len;
    bool closed;
    int fd;        /* eventfd; readable exactly while `signaled` */
    bool signaled; /* true while len > 0 or closed */
};

/* The eventfd does not block, and both sides must see it agree with len. It is therefore written
 * under the lock. */
static void queue_set_signaled(struct queue *queue, bool signaled) {
    if (queue->signaled == signaled) {
        return;
    }
    queue->signaled = signaled;
    eventfd_t count = 1;
    int result = signaled ? eventfd_write(queue->fd, count) : eventfd_read(queue->fd, &count);
    assert(result == 0);
    (void)result;
}

/* Waits use the monotonic clock, so a step of the wall clock does not change them. */
struct queue *queue_create(size_t capacity) {
    assert(capacity >= 1);
    struct queue *queue = calloc(1, sizeof *queue);
    if (!queue) {
        return NULL;
    }
    queue->capacity = capacity;
    queue->items = calloc(capacity, sizeof *queue->items);
    queue->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!queue->items || queue->fd < 0) {
        if (queue->fd >= 0) {
            close(queue->fd);
        }
        free(queue->items);
        free(queue);
        return NULL;
    }
    pthread_mutex_init(&queue->mutex, NULL);
    condition_init(&queue->filled);
    return queue;
}

void queue_destroy(struct queue *queue) {
    if (!queue) {
        return;
    }
    pthread_mutex_destroy(&queue->mutex);
    pthread_cond_destroy(&queue->filled);
    close(queue->fd);
    free(queue->items);
    free(queue);
}

enum err queue_push(struct queue *queue, void *item) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&queue->mutex);
    if (queue->closed) {
        err = ERR_WRONG_STATE;
    } else if (queue->len == queue->capacity) {
        err = ERR_FULL;
    } else {
        queue->items[(queue->first + queue->len) % queue->capacity] = item;
        queue->len++;
        queue_set_signaled(queue, true);
        pthread_cond_signal(&queue->filled);
    }
    pthread_mutex_unlock(&queue->mutex);
    return err;
}

/* Called with the mutex held. Returns when there is an item, the queue is closed, or the time has
 * passed. */
static void queue_wait_filled(struct queue *queue, int64_t timeout_ms) {
    if (queue->len > 0 || queue->closed || timeout_ms <= 0) {
        return;
    }
    struct timespec deadline = condition_deadline(timeout_ms);
    int result = 0;
    while (queue->len == 0 && !queue->closed && result != ETIMEDOUT) {
        result = pthread_cond_timedwait(&queue->filled, &queue->mutex, &deadline);
    }
}

enum err queue_pop(struct queue *queue, void **out, int64_t timeout_ms) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&queue->mutex);
    queue_wait_filled(queue, timeout_ms);
    if (queue->len > 0) {
        *out = queue->items[queue->first];
        queue->first = (queue->first + 1) % queue->capacity;
        queue->len--;
        queue_set_signaled(queue, queue->len > 0 || queue->closed);
    } else {
        *out = NULL;
        err = queue->closed ? ERR_WRONG_STATE : ERR_TIMEOUT;
    }
    pthread_mutex_unlock(&queue->mutex);
    return err;
}

void queue_close(struct queue *queue) {
    pthread_mutex_lock(&queue->mutex);
    queue->closed = true;
    queue_set_signaled(queue, true);
    pthread_cond_broadcast(&queue->filled);
    pthread_mutex_unlock(&queue->mutex);
}

size_t queue_len(struct queue *queue) {
    pthread_mutex_lock(&queue->mutex);
    size_t len = queue->len;
    pthread_mutex_unlock(&queue->mutex);
    return len;
}

int queue_fd(struct queue *queue) {
    return queue->fd;
}
