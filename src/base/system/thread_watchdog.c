/* Owns the progress marks of all watched threads, one slot each. Only its thread writes a slot. */
#include "base/system/thread_watchdog.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include "base/system/clock.h"

#define SLOTS_MAX 1024 /* further threads are not watched */

static struct slot {
    _Atomic(const char *) name; /* NULL: free, or its thread has ended */
    _Atomic int64_t kicked_at_ms, stall_ms_max;
} slots[SLOTS_MAX];

static _Atomic size_t slot_count;
static _Thread_local struct slot *own_slot;

void thread_watchdog_register(const char *name, int64_t still_ms_max) {
    size_t index = atomic_fetch_add(&slot_count, 1);
    if (index >= SLOTS_MAX) {
        return;
    }
    own_slot = &slots[index];
    own_slot->stall_ms_max = still_ms_max;
    own_slot->kicked_at_ms = clock_ms();
    own_slot->name = name; /* last: from here on the slot is checked */
}

void thread_watchdog_kick(void) {
    if (own_slot) {
        atomic_store_explicit(&own_slot->kicked_at_ms, clock_ms(), memory_order_relaxed);
    }
}

void thread_watchdog_unregister(void) {
    if (own_slot) {
        own_slot->name = NULL;
        own_slot = NULL;
    }
}

const char *thread_watchdog_stalled(int64_t *still_ms) {
    size_t count = atomic_load(&slot_count);
    int64_t now_ms = clock_ms();
    for (size_t i = 0; i < count && i < SLOTS_MAX; i++) {
        const char *name = slots[i].name;
        *still_ms = now_ms - slots[i].kicked_at_ms;
        if (name && *still_ms > slots[i].stall_ms_max) {
            return name;
        }
    }
    return NULL;
}

int64_t thread_watchdog_idle_ms(const char *name) {
    size_t count = atomic_load(&slot_count);
    for (size_t i = 0; i < count && i < SLOTS_MAX; i++) {
        const char *of = slots[i].name;
        if (of && strcmp(of, name) == 0) {
            return clock_ms() - slots[i].kicked_at_ms;
        }
    }
    return 0;
}
