/* Owns the memory between the threads that log and the thread that writes. A record is two bytes of
 * length and the line. Positions count bytes and are taken modulo the size. */
#include "base/telemetry/log_ring.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"

#define HEAD_LEN sizeof(uint16_t)

/* Eighths of the ring that lines of a level may fill. */
static const size_t shares[LOG_LEVEL_COUNT] = {
    [LOG_DEBUG] = 6, [LOG_INFO] = 6, [LOG_WARN] = 7, [LOG_ERROR] = 7, [LOG_AUDIT] = 8};

struct log_ring {
    size_t size;
    _Atomic size_t head, tail; /* next byte to put, next byte to release; the lock guards head */
    size_t taken;              /* next byte to take; reading thread only */
    pthread_mutex_t lock;      /* guards putting, resetting and lost */
    struct log_lost lost;
    _Atomic int64_t lost_lines; /* sum of lost.lines */
    char data[];
};

enum err log_ring_create(struct log_ring **out, size_t bytes) {
    struct log_ring *ring = malloc(sizeof *ring + bytes);
    *out = ring;
    if (!ring) {
        return ERR_MEMORY;
    }
    memset(ring, 0, sizeof *ring);
    ring->size = bytes;
    pthread_mutex_init(&ring->lock, NULL);
    return ERR_OK;
}

void log_ring_destroy(struct log_ring *ring) {
    if (ring) {
        pthread_mutex_destroy(&ring->lock);
        free(ring);
    }
}

static void log_ring_copy_in(struct log_ring *ring, size_t position, const void *from, size_t len) {
    size_t at = position % ring->size;
    size_t first = len < ring->size - at ? len : ring->size - at;
    memcpy(ring->data + at, from, first);
    memcpy(ring->data, (const char *)from + first, len - first);
}

static void log_ring_copy_out(const struct log_ring *ring, size_t position, void *to, size_t len) {
    size_t at = position % ring->size;
    size_t first = len < ring->size - at ? len : ring->size - at;
    memcpy(to, ring->data + at, first);
    memcpy((char *)to + first, ring->data, len - first);
}

static void log_ring_count_lost(struct log_ring *ring, enum log_level level) {
    int64_t now_ms = clock_wall_ms();
    if (atomic_fetch_add(&ring->lost_lines, 1) == 0) {
        ring->lost.first_ms = now_ms;
    }
    ring->lost.last_ms = now_ms;
    ring->lost.lines[level]++;
}

bool log_ring_put(struct log_ring *ring, enum log_level level, const char *line, size_t len) {
    assert(len > 0 && len <= LOG_LINE_LEN_MAX);
    uint16_t record_len = (uint16_t)len;
    pthread_mutex_lock(&ring->lock);
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t used = head - atomic_load_explicit(&ring->tail, memory_order_acquire);
    bool fits = used + HEAD_LEN + len <= ring->size / 8 * shares[level];
    if (fits) {
        log_ring_copy_in(ring, head, &record_len, HEAD_LEN);
        log_ring_copy_in(ring, head + HEAD_LEN, line, len);
        atomic_store(&ring->head, head + HEAD_LEN + len);
    } else {
        log_ring_count_lost(ring, level);
    }
    pthread_mutex_unlock(&ring->lock);
    return fits;
}

size_t log_ring_take(struct log_ring *ring, char *out, size_t room) {
    size_t head = atomic_load(&ring->head);
    size_t position = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t len = 0;
    while (position != head) { /* bounded by room */
        uint16_t line_len;
        log_ring_copy_out(ring, position, &line_len, HEAD_LEN);
        if (line_len > room - len) {
            break;
        }
        log_ring_copy_out(ring, position + HEAD_LEN, out + len, line_len);
        position += HEAD_LEN + line_len;
        len += line_len;
    }
    ring->taken = position;
    return len;
}

void log_ring_release(struct log_ring *ring) {
    atomic_store_explicit(&ring->tail, ring->taken, memory_order_release);
}

bool log_ring_is_empty(const struct log_ring *ring) {
    size_t tail =
        atomic_load(&ring->tail); /* first, so that a concurrent reset does not see an empty ring */
    return tail == atomic_load(&ring->head);
}

bool log_ring_has_lost(const struct log_ring *ring) {
    return atomic_load(&ring->lost_lines) > 0;
}

void log_ring_take_lost(struct log_ring *ring, struct log_lost *out) {
    pthread_mutex_lock(&ring->lock);
    *out = ring->lost;
    ring->lost = (struct log_lost){0};
    atomic_store(&ring->lost_lines, 0);
    pthread_mutex_unlock(&ring->lock);
}

void log_ring_reset(struct log_ring *ring) {
    pthread_mutex_lock(&ring->lock);
    if (atomic_load(&ring->head) == atomic_load(&ring->tail)) {
        atomic_store(&ring->head, 0);
        atomic_store(&ring->tail, 0);
    }
    pthread_mutex_unlock(&ring->lock);
}
