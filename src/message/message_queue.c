/* Owns the queue between engines and a sink. It is a ring:
 *
 *     head              head + count
 *      v                     v
 *   [..M M M M M M M M M M M M.......]   engines add at the end (put, any thread)
 *      |-- batch --|                     the sink's thread, woken by flush, looks at the head;
 *                                        what the sink has leaves it (take)
 *
 * A batch stays in the ring while it is written, so the bounds hold for it too. Only the sink's
 * thread moves the head.
 *
 * Each client with messages in the ring has a slot, which counts them. An entry has the number of
 * the slot; the slot is free again when its last entry leaves, whether the client still exists or
 * not. The client's share has the key of the slot, which no other slot ever gets: a share whose
 * messages have left, or which is of another queue, matches none. */
#include "message/message_queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include "base/system/clock.h"
#include "base/system/condition.h"

#define QUEUE_RESERVED    8 /* the last eighth of the room is for QoS 1 and 2 */
#define QUEUE_SHARE       4 /* a client may have that many times the room that is left */
#define QUEUE_NO_SLOT     UINT32_MAX
#define QUEUE_SMALL_BYTES 1

struct message_queue_slot { /* what one client has in the queue */
    uint64_t key;           /* 0: free */
    size_t bytes;
    uint32_t messages;
    uint32_t next_free;
};

struct message_queue {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work;  /* something was put, or the queue was closed */
    size_t messages_max, bytes_max;
    size_t wake_threshold; /* messages after which the sink is woken before the flush */
    struct message_queue_entry *ring;
    size_t capacity; /* of ring and slots; at least messages_max */
    size_t head, count;
    size_t held;  /* messages outside of the ring that count towards its bounds */
    size_t bytes; /* of both */
    struct message_queue_slot *slots; /* `capacity` of them: each one has a message */
    uint32_t slots_used;              /* the slots behind were never used */
    uint32_t free_slot;               /* the first of the free ones before; QUEUE_NO_SLOT: none */
    bool idle;                        /* the sink's thread waits for `work` */
    atomic_bool wake_pending; /* messages were put since then; for flush, without the lock */
    bool closed;
    bool alone; /* while a batch is put: it began with an empty queue, and is taken as a whole */
    int64_t dropped, dropped_over_share;
    bool (*start)(void *context); /* NULL: the thread is started otherwise */
    void *start_context;
};

struct message_queue *message_queue_create(size_t messages_max, size_t bytes_max,
                                           size_t batch_max) {
    assert(messages_max > 0 && bytes_max > 0 && batch_max > 0);
    assert(messages_max <= MESSAGE_QUEUE_MESSAGES_MAX);
    struct message_queue *queue = calloc(1, sizeof *queue);
    if (!queue) {
        return NULL;
    }
    pthread_mutex_init(&queue->lock, NULL);
    condition_init(&queue->work);
    queue->free_slot = QUEUE_NO_SLOT;
    if (message_queue_resize(queue, messages_max, bytes_max, batch_max) != ERR_OK) {
        message_queue_destroy(queue);
        return NULL;
    }
    return queue;
}

/* Called with the lock. The entries move to the beginning of the new ring. */
static enum err message_queue_grow(struct message_queue *queue, size_t capacity) {
    struct message_queue_entry *ring = calloc(capacity, sizeof *ring);
    struct message_queue_slot *slots = reallocarray(queue->slots, capacity, sizeof *slots);
    queue->slots = slots ? slots : queue->slots;
    if (!ring || !slots) {
        free(ring);
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < queue->count; i++) {
        ring[i] = queue->ring[(queue->head + i) % queue->capacity];
    }
    free(queue->ring);
    queue->ring = ring;
    queue->head = 0;
    queue->capacity = capacity;
    return ERR_OK;
}

enum err message_queue_resize(struct message_queue *queue, size_t messages_max, size_t bytes_max,
                              size_t batch_max) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&queue->lock);
    if (messages_max > queue->capacity) {
        err = message_queue_grow(queue, messages_max);
    }
    if (err == ERR_OK) {
        queue->messages_max = messages_max;
        queue->bytes_max = bytes_max;
        queue->wake_threshold = batch_max < messages_max / 2 ? batch_max : messages_max / 2;
        queue->closed = false;
    }
    pthread_mutex_unlock(&queue->lock);
    return err;
}

void message_queue_destroy(struct message_queue *queue) {
    if (!queue) {
        return;
    }
    assert(queue->count == 0 && queue->held == 0);
    pthread_cond_destroy(&queue->work);
    pthread_mutex_destroy(&queue->lock);
    free(queue->ring);
    free(queue->slots);
    free(queue);
}

/* ---- slots; called with the lock ---- */

static uint32_t message_queue_find_slot(const struct message_queue *queue,
                                        const struct message_queue_share *share) {
    if (!share) {
        return QUEUE_NO_SLOT;
    }
    uint64_t key = atomic_load_explicit(&share->key, memory_order_relaxed);
    uint32_t slot = key % MESSAGE_QUEUE_MESSAGES_MAX;
    return slot < queue->slots_used && key != 0 && queue->slots[slot].key == key ? slot
                                                                                 : QUEUE_NO_SLOT;
}

static uint32_t message_queue_new_slot(struct message_queue *queue,
                                       struct message_queue_share *share) {
    static _Atomic uint64_t last_serial; /* of all queues */
    uint32_t slot = queue->free_slot;
    if (slot == QUEUE_NO_SLOT) {
        assert(queue->slots_used < queue->capacity);
        slot = queue->slots_used++;
    } else {
        queue->free_slot = queue->slots[slot].next_free;
    }
    uint64_t serial = atomic_fetch_add_explicit(&last_serial, 1, memory_order_relaxed) + 1;
    uint64_t key = serial * MESSAGE_QUEUE_MESSAGES_MAX + slot;
    queue->slots[slot] = (struct message_queue_slot){.key = key};
    atomic_store_explicit(&share->key, key, memory_order_relaxed);
    return slot;
}

/* A message leaves. */
static void message_queue_leave_slot(struct message_queue *queue, uint32_t at, size_t bytes) {
    if (at == QUEUE_NO_SLOT) {
        return;
    }
    struct message_queue_slot *slot = &queue->slots[at];
    assert(slot->messages > 0 && slot->bytes >= bytes);
    slot->bytes -= bytes;
    if (--slot->messages == 0) {
        slot->key = 0;
        slot->next_free = queue->free_slot;
        queue->free_slot = at;
    }
}

/* A message no longer counts towards the bounds. */
static void message_queue_discount(struct message_queue *queue,
                                   const struct message_queue_entry *entry, size_t bytes) {
    assert(queue->bytes >= bytes);
    queue->bytes -= bytes;
    message_queue_leave_slot(queue, entry->slot, bytes);
}

/* ---- engines ---- */

static size_t message_queue_left(size_t max, size_t used, bool reserved) {
    size_t usable = max - (reserved ? max / QUEUE_RESERVED : 0);
    return used < usable ? usable - used : 0;
}

/* An empty queue accepts any message; otherwise, a message larger than bytes_max would wait
 * forever. */
static enum err message_queue_admit(const struct message_queue *queue, uint32_t at, uint8_t qos,
                                    size_t size) {
    size_t messages = message_queue_left(queue->messages_max, queue->count + queue->held, qos == 0);
    size_t bytes = message_queue_left(queue->bytes_max, queue->bytes, qos == 0);
    if (queue->closed) {
        return ERR_WRONG_STATE;
    }
    if (queue->count + queue->held == 0 || queue->alone) {
        return ERR_OK;
    }
    if (messages == 0 || bytes < size) {
        return ERR_FULL;
    }
    const struct message_queue_slot *slot = at != QUEUE_NO_SLOT ? &queue->slots[at] : NULL;
    bool has_share = slot && (slot->messages >= QUEUE_SHARE * messages ||
                              slot->bytes + size > QUEUE_SHARE * bytes);
    return has_share ? ERR_BUSY : ERR_OK;
}

/* Otherwise, messages that arrive before the next flush might find no room. */
static bool message_queue_reached_threshold(const struct message_queue *queue) {
    return queue->count >= queue->wake_threshold || queue->bytes >= queue->bytes_max / 2;
}

static void message_queue_append(struct message_queue *queue,
                                 const struct message_queue_entry *entry) {
    queue->ring[(queue->head + queue->count) % queue->capacity] = *entry;
    queue->count++;
    queue->bytes += entry->message->size;
    if (entry->slot != QUEUE_NO_SLOT) {
        queue->slots[entry->slot].messages++;
        queue->slots[entry->slot].bytes += entry->message->size;
    }
    queue->wake_pending = queue->idle;
    if (queue->idle && message_queue_reached_threshold(queue)) {
        pthread_cond_signal(&queue->work);
    }
}

static void message_queue_set_wanted(struct message_queue_share *share, size_t bytes) {
    if (share && atomic_load_explicit(&share->wanted, memory_order_relaxed) != bytes) {
        atomic_store_explicit(&share->wanted, bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX,
                              memory_order_relaxed);
    }
}

/* Called with the lock. Not taken: what becomes of it depends on its QoS. */
static enum err message_queue_reject(struct message_queue *queue, struct message_queue_share *share,
                                     const struct message *message, enum err err) {
    if (message->qos > 0) {
        message_queue_set_wanted(share, message->size);
        return ERR_FULL;
    }
    queue->dropped++;
    queue->dropped_over_share += err == ERR_BUSY;
    return err == ERR_BUSY ? ERR_BUSY : ERR_REFUSED;
}

/* Called with the lock. ERR_FULL, ERR_BUSY and ERR_WRONG_STATE: not accepted. */
static enum err message_queue_take_in(struct message_queue *queue,
                                      struct message_queue_share *share, struct message *message,
                                      struct receipt *receipt) {
    uint32_t slot = message_queue_find_slot(queue, share);
    enum err err = message_queue_admit(queue, slot, message->qos, message->size);
    if (err == ERR_OK) {
        if (share && slot == QUEUE_NO_SLOT) {
            slot = message_queue_new_slot(queue, share);
        }
        message_queue_append(queue, &(struct message_queue_entry){message, receipt, slot});
        message_queue_set_wanted(share, 0);
    }
    return err;
}

enum err message_queue_put(struct message_queue *queue, struct message_queue_share *share,
                           struct message *message, struct receipt *receipt) {
    pthread_mutex_lock(&queue->lock);
    enum err err = message_queue_take_in(queue, share, message, receipt);
    if (err == ERR_FULL || err == ERR_BUSY) {
        err = message_queue_reject(queue, share, message, err);
    }
    pthread_mutex_unlock(&queue->lock);
    if (err == ERR_REFUSED || err == ERR_BUSY) {
        message_destroy(message);
    }
    return err;
}

/* ---- several queues ---- */

/* Stable, so that messages for one queue stay in order; there are few. */
static void message_queue_sort(struct message_delivery *deliveries, size_t count) {
    for (size_t i = 1; i < count; i++) {
        struct message_delivery moved = deliveries[i];
        size_t at = i;
        while (at > 0 && (uintptr_t)deliveries[at - 1].queue > (uintptr_t)moved.queue) {
            deliveries[at] = deliveries[at - 1];
            at--;
        }
        deliveries[at] = moved;
    }
}

static bool message_queue_is_first_of(const struct message_delivery *deliveries, size_t i) {
    return i == 0 || deliveries[i].queue != deliveries[i - 1].queue;
}

/* Called with the lock. The newest message leaves again. */
static void message_queue_take_back(struct message_queue *queue) {
    size_t at = (queue->head + queue->count - 1) % queue->capacity;
    const struct message_queue_entry *entry = &queue->ring[at];
    message_queue_leave_slot(queue, entry->slot, entry->message->size);
    queue->bytes -= entry->message->size;
    queue->count--;
}

/* Called with the locks. Deliveries to the queue of number i, of which that is the first. */
static size_t message_queue_batch_count(const struct message_delivery *deliveries, size_t count,
                                        size_t i) {
    size_t end = i + 1;
    while (end < count && deliveries[end].queue == deliveries[i].queue) {
        end++;
    }
    return end - i;
}

/* Called with the locks. What is larger than the queue would never get in, so an empty one takes
 * it. */
static enum err message_queue_take_in_batch(struct message_delivery *deliveries, size_t count,
                                            struct receipt *receipt, size_t *taken) {
    struct message_queue *queue = deliveries->queue;
    bool alone = queue->count + queue->held == 0;
    enum err err = ERR_OK;
    if (alone && count > queue->capacity && message_queue_grow(queue, count) != ERR_OK) {
        return ERR_FULL;
    }
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        struct message_delivery *next = &deliveries[i];
        queue->alone = alone;
        err = message_queue_take_in(queue, next->share, next->message, receipt);
        *taken += err == ERR_OK;
    }
    queue->alone = false;
    return err;
}

/* All locks are held at once, in the order of addresses: what one queue took can be taken back as
 * long as its sink does not see it. */
enum err message_queue_put_all(struct message_delivery *deliveries, size_t count,
                               struct receipt *receipt, size_t *full) {
    enum err err = ERR_OK;
    size_t taken = 0;
    message_queue_sort(deliveries, count);
    for (size_t i = 0; i < count; i++) {
        if (message_queue_is_first_of(deliveries, i)) {
            pthread_mutex_lock(&deliveries[i].queue->lock);
        }
    }
    while (err == ERR_OK && taken < count) {
        size_t batch = message_queue_batch_count(deliveries, count, taken);
        err = message_queue_take_in_batch(&deliveries[taken], batch, receipt, &taken);
    }
    if (err != ERR_OK) {
        *full = taken;
        if (err != ERR_WRONG_STATE) {
            message_queue_set_wanted(deliveries[taken].share, deliveries[taken].message->size);
            err = ERR_FULL;
        }
        while (taken > 0) {
            message_queue_take_back(deliveries[--taken].queue);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (message_queue_is_first_of(deliveries, i)) {
            pthread_mutex_unlock(&deliveries[i].queue->lock);
        }
    }
    return err;
}

void message_queue_start_on_demand(struct message_queue *queue, bool (*start)(void *context),
                                   void *context) {
    queue->start = start;
    queue->start_context = context;
    queue->idle = true;
}

/* Without the lock: the thread looks at the queue, under it, before it waits. */
void message_queue_flush(struct message_queue *queue) {
    if (atomic_load_explicit(&queue->wake_pending, memory_order_relaxed) &&
        atomic_exchange(&queue->wake_pending, false)) {
        if (queue->start && !queue->start(queue->start_context)) {
            queue->wake_pending = true;
        }
        pthread_cond_signal(&queue->work);
    }
}

bool message_queue_has_room(struct message_queue *queue, const struct message_queue_share *share) {
    size_t size = share ? atomic_load_explicit(&share->wanted, memory_order_relaxed) : 0;
    pthread_mutex_lock(&queue->lock);
    uint32_t slot = message_queue_find_slot(queue, share);
    enum err err = message_queue_admit(queue, slot, 1, size > 0 ? size : QUEUE_SMALL_BYTES);
    pthread_mutex_unlock(&queue->lock);
    return err == ERR_OK || err == ERR_WRONG_STATE;
}

bool message_queue_has_some(struct message_queue *queue, const struct message_queue_share *share) {
    if (atomic_load_explicit(&share->key, memory_order_relaxed) == 0) {
        return false;
    }
    pthread_mutex_lock(&queue->lock);
    bool has = message_queue_find_slot(queue, share) != QUEUE_NO_SLOT;
    pthread_mutex_unlock(&queue->lock);
    return has;
}

void message_queue_get_status(struct message_queue *queue, struct message_queue_status *out) {
    pthread_mutex_lock(&queue->lock);
    *out = (struct message_queue_status){.messages = queue->count + queue->held,
                                         .bytes = queue->bytes,
                                         .messages_max = queue->messages_max,
                                         .bytes_max = queue->bytes_max,
                                         .dropped = queue->dropped,
                                         .dropped_over_share = queue->dropped_over_share};
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
        batch[n] = queue->ring[(queue->head + n) % queue->capacity].message;
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
            queue->ring[(queue->head + to) % queue->capacity] =
                queue->ring[(queue->head + i - 1) % queue->capacity];
        }
    }
    return to;
}

/* Called with the lock. */
static size_t message_queue_remove(struct message_queue *queue, const bool *leaves,
                                   struct message_queue_entry *out, size_t n) {
    size_t count = 0;
    assert(n <= queue->count);
    for (size_t i = 0; i < n; i++) {
        if (leaves[i]) {
            out[count++] = queue->ring[(queue->head + i) % queue->capacity];
        }
    }
    size_t left = message_queue_compact(queue, leaves, n);
    assert(left == count);
    queue->head = (queue->head + left) % queue->capacity;
    queue->count -= left;
    return count;
}

size_t message_queue_take(struct message_queue *queue, const bool *leaves,
                          struct message_queue_entry *out, size_t n) {
    pthread_mutex_lock(&queue->lock);
    size_t count = message_queue_remove(queue, leaves, out, n);
    for (size_t i = 0; i < count; i++) {
        message_queue_discount(queue, &out[i], out[i].message->size);
    }
    pthread_mutex_unlock(&queue->lock);
    return count;
}

size_t message_queue_hold(struct message_queue *queue, const bool *leaves,
                          struct message_queue_entry *out, size_t n) {
    pthread_mutex_lock(&queue->lock);
    size_t count = message_queue_remove(queue, leaves, out, n);
    queue->held += count;
    pthread_mutex_unlock(&queue->lock);
    return count;
}

void message_queue_release(struct message_queue *queue, const struct message_queue_entry *held,
                           size_t bytes) {
    pthread_mutex_lock(&queue->lock);
    assert(queue->held > 0);
    queue->held--;
    message_queue_discount(queue, held, bytes);
    pthread_mutex_unlock(&queue->lock);
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
    pthread_cond_broadcast(&queue->work);
    pthread_mutex_unlock(&queue->lock);
}
