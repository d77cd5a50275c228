/* Owns a binary heap of timers. One thread. */
#include "mqtt/client/timers.h"

#include <assert.h>
#include <stdlib.h>

void timers_init(struct timers *timers) {
    *timers = (struct timers){0};
}

void timers_fini(struct timers *timers) {
    free(timers->heap);
    *timers = (struct timers){0};
}

enum err timers_reserve(struct timers *timers, size_t n) {
    if (n <= timers->capacity) {
        return ERR_OK;
    }
    size_t capacity = n + n / 2 + 16;
    struct timer **heap = realloc(timers->heap, (capacity + 1) * sizeof *heap);
    if (!heap) {
        return ERR_MEMORY;
    }
    timers->heap = heap;
    timers->capacity = capacity;
    return ERR_OK;
}

static void timers_place(struct timers *timers, size_t position, struct timer *timer) {
    timers->heap[position] = timer;
    timer->position = position;
}

static void timers_sift_up(struct timers *timers, struct timer *timer) {
    size_t at = timer->position;
    while (at > 1 && timers->heap[at / 2]->at_ms > timer->at_ms) {
        timers_place(timers, at, timers->heap[at / 2]);
        at /= 2;
    }
    timers_place(timers, at, timer);
}

static void timers_sift_down(struct timers *timers, struct timer *timer) {
    size_t at = timer->position;
    for (size_t child = at * 2; child <= timers->count; child = at * 2) {
        if (child < timers->count && timers->heap[child + 1]->at_ms < timers->heap[child]->at_ms) {
            child++;
        }
        if (timers->heap[child]->at_ms >= timer->at_ms) {
            break;
        }
        timers_place(timers, at, timers->heap[child]);
        at = child;
    }
    timers_place(timers, at, timer);
}

void timers_set(struct timers *timers, struct timer *timer, int64_t at_ms) {
    if (timer->position == 0) {
        assert(timers->count < timers->capacity);
        timers_place(timers, ++timers->count, timer);
    }
    timer->at_ms = at_ms;
    timers_sift_up(timers, timer);
    timers_sift_down(timers, timer);
}

void timers_clear(struct timers *timers, struct timer *timer) {
    size_t at = timer->position;
    if (at == 0) {
        return;
    }
    timer->position = 0;
    struct timer *last = timers->heap[timers->count--];
    if (last != timer) {
        timers_place(timers, at, last);
        timers_sift_up(timers, last);
        timers_sift_down(timers, last);
    }
}

struct timer *timers_due(struct timers *timers, int64_t now_ms) {
    if (timers->count == 0 || timers->heap[1]->at_ms > now_ms) {
        return NULL;
    }
    struct timer *first = timers->heap[1];
    timers_clear(timers, first);
    return first;
}

int64_t timers_wait_ms(const struct timers *timers, int64_t now_ms, int64_t wait_ms_max) {
    if (timers->count == 0) {
        return wait_ms_max;
    }
    int64_t wait_ms = timers->heap[1]->at_ms - now_ms;
    if (wait_ms < 0) {
        return 0;
    }
    return wait_ms < wait_ms_max ? wait_ms : wait_ms_max;
}
