/* Owns the queue between engines and a sink. It is a ring:
 *
 *     head              head + count
 *      v                     v
 *   [..M M M M M M M M M M M M.......]   engines add at the end (put, any thread)
 *      |-- batch --|                     the sink's thread, woken by flush, looks at the head;
 *                                        what the sink has leaves it (take)
 *
 * A batch stays in the ring while it is written, so the bounds hold for it too. Only the sink's
 * thread moves the head. */
#include "message/message_queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include "base/system/clock.h"
#include "base/system/condition.h"
#include "base/telemetry/metrics.h"

#define RESERVED_SHARE 8 /* the last eighth of the room is for QoS 1 and 2 */

struct message_queue {
    size_t messages_max, bytes_max;
    size_t wake_threshold; /* messages that are begun with before the flush */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work;  /* something was put, or the queue was closed */
    struct message_queue_entry *ring;
    size_t head, count, bytes;
    bool idle;                /* the sink's thread waits for `work` */
    atomic_bool wake_pending; /* something came meanwhile; for flush, without the lock */
    atomic_bool full;         /* nothing left since ERR_FULL; read without the lock */
    bool closed;
    int64_t dropped;
};

struct message_queue *message_queue_create(size_t messages_max, size_t bytes_max,
                                           size_t batch_max) {
    assert(messages_max > 0 && bytes_max > 0 && batch_max > 0);
    struct message_queue *queue = calloc(1, sizeof *queue);
    if (!queue) {
        return NULL;
    }
    queue->messages_max = messages_max;
    queue->bytes_max = bytes_max;
    queue->wake_threshold = batch_max < messages_max / 2 ? batch_max : messages_max / 2;
    pthread_mutex_init(&queue->lock, NULL);
    condition_init(&queue->work);
    queue->ring = calloc(messages_max, sizeof *queue->ring);
    if (!queue->ring) {
        message_queue_destroy(queue);
        return NULL;
    }
    return queue;
}

void message_queue_destroy(struct message_queue *queue) {
    if (!queue) {
        return;
    }
    assert(queue->count == 0);
    pthread_cond_destroy(&queue->work);
    pthread_mutex_destroy(&queue->lock);
    free(queue->ring);
    free(queue);
}

/* ---- engines ---- */

/* An empty queue takes anything, else a message larger than bytes_max would wait for ever. */
static bool message_queue_fits(const struct message_queue *queue, const struct message *message) {
    bool reserved = message->qos == 0;
    size_t messages = queue->messages_max - (reserved ? queue->messages_max / RESERVED_SHARE : 0);
    size_t bytes = queue->bytes_max - (reserved ? queue->bytes_max / RESERVED_SHARE : 0);
    return queue->count == 0 || (queue->count < messages && queue->bytes < bytes &&
                                 message->size <= bytes - queue->bytes);
}

/* Or else what comes by the next flush might not find room. */
static bool message_queue_reached_threshold(const struct message_queue *queue) {
    return queue->count >= queue->wake_threshold || queue->bytes >= queue->bytes_max / 2;
}

static void message_queue_append(struct message_queue *queue, struct message *message,
                                 struct receipt *receipt) {
    size_t at = (queue->head + queue->count) % queue->messages_max;
    queue->ring[at] = (struct message_queue_entry){message, receipt};
    queue->count++;
    queue->bytes += message->size;
    queue->wake_pending = queue->idle;
    if (queue->idle && message_queue_reached_threshold(queue)) {
        pthread_cond_signal(&queue->work);
    }
}

enum err message_queue_put(struct message_queue *queue, struct message *message,
                           struct receipt *receipt) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&queue->lock);
    if (queue->closed) {
        err = ERR_WRONG_STATE;
    } else if (message_queue_fits(queue, message)) {
        message_queue_append(queue, message, receipt);
    } else if (message->qos == 0) {
        err = ERR_REFUSED;
        queue->dropped++;
    } else {
        err = ERR_FULL;
        queue->full = true;
    }
    pthread_mutex_unlock(&queue->lock);
    if (err == ERR_REFUSED) {
        metric_add(METRIC_DROPPED_SINK_FULL, 1);
        message_destroy(message);
    }
    return err;
}

/* Without the lock: the thread looks at the queue, under it, before it waits. */
void message_queue_flush(struct message_queue *queue) {
    if (atomic_load_explicit(&queue->wake_pending, memory_order_relaxed) &&
        atomic_exchange(&queue->wake_pending, false)) {
        pthread_cond_signal(&queue->work);
    }
}

bool message_queue_has_room(const struct message_queue *queue) {
    return !atomic_load_explicit(&queue->full, memory_order_relaxed);
}

void message_queue_get_status(struct message_queue *queue, struct message_queue_status *out) {
    pthread_mutex_lock(&queue->lock);
    *out = (struct message_queue_status){.messages = queue->count,
                                         .bytes = queue->bytes,
                                         .messages_max = queue->messages_max,
                                         .bytes_max = queue->bytes_max,
                                         .dropped = queue->dropped};
    pthread_mutex_unlock(&queue->lock);
}

/* ---- the sink's thread ---- */

/* Called with the lock. */
static void message_queue_wait(struct message_queue *queue, int64_t timeout_ms) {
    if (queue->count > 0) {
        return;
    }
    struct timespec until = condition_deadline(timeout_ms >= 0 ? timeout_ms : 0);
    int failed = 0;
    queue->idle = true;
    while (queue->count == 0 && !queue->closed && failed == 0) {
        failed = timeout_ms < 0 ? pthread_cond_wait(&queue->work, &queue->lock)
                                : pthread_cond_timedwait(&queue->work, &queue->lock, &until);
    }
    queue->idle = false;
}

size_t message_queue_peek(struct message_queue *queue, struct message **batch, size_t messages_max,
                          size_t bytes_max, int64_t timeout_ms) {
    size_t n = 0;
    size_t bytes = 0;
    pthread_mutex_lock(&queue->lock);
    message_queue_wait(queue, timeout_ms);
    while (n < queue->count && n < messages_max && bytes < bytes_max) {
        batch[n] = queue->ring[(queue->head + n) % queue->messages_max].message;
        bytes += batch[n++]->size;
    }
    pthread_mutex_unlock(&queue->lock);
    return n;
}

/* Called with the lock. The entries that stay move towards the next ones, from the last of them to
 * the first. Returns how many leave. */
static size_t message_queue_compact(struct message_queue *queue, const bool *leaves, size_t n) {
    size_t to = n;
    for (size_t i = n; i > 0; i--) {
        if (!leaves[i - 1]) {
            to--;
            queue->ring[(queue->head + to) % queue->messages_max] =
                queue->ring[(queue->head + i - 1) % queue->messages_max];
        }
    }
    return to;
}

size_t message_queue_take(struct message_queue *queue, const bool *leaves,
                          struct message_queue_entry *out, size_t n) {
    size_t count = 0;
    pthread_mutex_lock(&queue->lock);
    assert(n <= queue->count);
    for (size_t i = 0; i < n; i++) {
        if (leaves[i]) {
            out[count] = queue->ring[(queue->head + i) % queue->messages_max];
            queue->bytes -= out[count++].message->size;
        }
    }
    size_t left = message_queue_compact(queue, leaves, n);
    assert(left == count);
    queue->head = (queue->head + left) % queue->messages_max;
    queue->count -= left;
    queue->full = queue->full && left == 0;
    pthread_mutex_unlock(&queue->lock);
    return count;
}

bool message_queue_is_over(struct message_queue *queue) {
    pthread_mutex_lock(&queue->lock);
    bool over = queue->closed && queue->count == 0;
    pthread_mutex_unlock(&queue->lock);
    return over;
}

void message_queue_close(struct message_queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    queue->full = false; /* who waits for room learns it */
    pthread_cond_broadcast(&queue->work);
    pthread_mutex_unlock(&queue->lock);
}
