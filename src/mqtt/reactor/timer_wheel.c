/* Owns the times at which connections need a check. One thread.
 *
 * slot = tick of the time modulo TIMER_WHEEL_SLOTS. An entry beyond the last slot waits there and
 * is moved on when that slot is reached. */
#include "timer_wheel.h"

static void timer_wheel_ring_init(struct timer_wheel_entry *head) {
    head->prev = head->next = head;
}

static void timer_wheel_ring_append(struct timer_wheel_entry *head,
                                    struct timer_wheel_entry *entry) {
    entry->prev = head->prev;
    entry->next = head;
    head->prev->next = entry;
    head->prev = entry;
}

void timer_wheel_init(struct timer_wheel *wheel, int64_t now_ms) {
    for (size_t i = 0; i < TIMER_WHEEL_SLOTS; i++) {
        timer_wheel_ring_init(&wheel->slots[i]);
    }
    timer_wheel_ring_init(&wheel->due);
    wheel->tick = now_ms / TIMER_WHEEL_TICK_MS;
}

void timer_wheel_clear(struct timer_wheel_entry *entry) {
    if (entry->next) {
        entry->prev->next = entry->next;
        entry->next->prev = entry->prev;
        entry->prev = entry->next = NULL;
    }
}

void timer_wheel_set(struct timer_wheel *wheel, struct timer_wheel_entry *entry, int64_t at_ms) {
    int64_t tick =
        at_ms / TIMER_WHEEL_TICK_MS + 1; /* the time has certainly passed when this tick begins */
    if (tick <= wheel->tick) {
        tick = wheel->tick + 1;
    }
    if (tick >= wheel->tick + TIMER_WHEEL_SLOTS) {
        tick = wheel->tick + TIMER_WHEEL_SLOTS - 1;
    }
    timer_wheel_clear(entry);
    entry->at_ms = at_ms;
    timer_wheel_ring_append(&wheel->slots[(size_t)tick % TIMER_WHEEL_SLOTS], entry);
}

static void timer_wheel_take_slot(struct timer_wheel *wheel) {
    struct timer_wheel_entry *slot = &wheel->slots[(size_t)wheel->tick % TIMER_WHEEL_SLOTS];
    if (slot->next != slot) {
        slot->prev->next = &wheel->due;
        slot->next->prev = &wheel->due;
        wheel->due.next = slot->next;
        wheel->due.prev = slot->prev;
        timer_wheel_ring_init(slot);
    }
}

struct timer_wheel_entry *timer_wheel_due(struct timer_wheel *wheel, int64_t now_ms) {
    for (;;) { /* each iteration removes an entry or advances by a tick, at most to now */
        struct timer_wheel_entry *entry = wheel->due.next;
        if (entry == &wheel->due) {
            if (wheel->tick >= now_ms / TIMER_WHEEL_TICK_MS) {
                return NULL;
            }
            wheel->tick++;
            timer_wheel_take_slot(wheel);
        } else if (entry->at_ms <= now_ms) {
            timer_wheel_clear(entry);
            return entry;
        } else {
            timer_wheel_set(wheel, entry, entry->at_ms);
        }
    }
}
