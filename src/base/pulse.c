/* Owns the marks of all watched threads: a slot each, written by its thread alone. Must not know
 * what the threads do. */
#include "base/pulse.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include "base/clock.h"

#define SLOTS_MAX 1024 /* threads beyond are not watched */

static struct slot {
    _Atomic(const char *) name; /* NULL: free, or its thread has ended */
    _Atomic int64_t at_ms, still_ms_max;
} slots[SLOTS_MAX];

static _Atomic size_t slot_count;
static _Thread_local struct slot *own;

void pulse_begin(const char *name, int64_t still_ms_max) {
    size_t index = atomic_fetch_add(&slot_count, 1);
    if (index >= SLOTS_MAX) {
        return;
    }
    own = &slots[index];
    own->still_ms_max = still_ms_max;
    own->at_ms = clock_ms();
    own->name = name; /* last: from here on it is looked at */
}

void pulse(void) {
    if (own != NULL) {
        atomic_store_explicit(&own->at_ms, clock_ms(), memory_order_relaxed);
    }
}

void pulse_end(void) {
    if (own != NULL) {
        own->name = NULL;
        own = NULL;
    }
}

const char *pulse_stalled(int64_t *still_ms) {
    size_t count = atomic_load(&slot_count);
    int64_t now_ms = clock_ms();
    for (size_t i = 0; i < count && i < SLOTS_MAX; i++) {
        const char *name = slots[i].name;
        *still_ms = now_ms - slots[i].at_ms;
        if (name != NULL && *still_ms > slots[i].still_ms_max) {
            return name;
        }
    }
    return NULL;
}

int64_t pulse_still_ms(const char *name) {
    size_t count = atomic_load(&slot_count);
    for (size_t i = 0; i < count && i < SLOTS_MAX; i++) {
        const char *of = slots[i].name;
        if (of != NULL && strcmp(of, name) == 0) {
            return clock_ms() - slots[i].at_ms;
        }
    }
    return 0;
}
