/* Owns the times at which connections want to be looked at. One thread. Knows no connections.
 *
 *   slot = tick of the time modulo WHEEL_SLOTS; what lies beyond the last slot waits there and is
 * put off again when that slot is reached. */
#include "wheel.h"

static void ring_init(struct wheel_entry *head) {
    head->prev = head->next = head;
}

static void ring_append(struct wheel_entry *head, struct wheel_entry *entry) {
    entry->prev = head->prev;
    entry->next = head;
    head->prev->next = entry;
    head->prev = entry;
}

void wheel_init(struct wheel *wheel, int64_t now_ms) {
    for (size_t i = 0; i < WHEEL_SLOTS; i++) {
        ring_init(&wheel->slots[i]);
    }
    ring_init(&wheel->due);
    wheel->tick = now_ms / WHEEL_TICK_MS;
}

void wheel_clear(struct wheel_entry *entry) {
    if (entry->next != NULL) {
        entry->prev->next = entry->next;
        entry->next->prev = entry->prev;
        entry->prev = entry->next = NULL;
    }
}

void wheel_set(struct wheel *wheel, struct wheel_entry *entry, int64_t at_ms) {
    int64_t tick = at_ms / WHEEL_TICK_MS + 1; /* when it begins the time has come for certain */
    if (tick <= wheel->tick) {
        tick = wheel->tick + 1;
    }
    if (tick >= wheel->tick + WHEEL_SLOTS) {
        tick = wheel->tick + WHEEL_SLOTS - 1;
    }
    wheel_clear(entry);
    entry->at_ms = at_ms;
    ring_append(&wheel->slots[(size_t)tick % WHEEL_SLOTS], entry);
}

static void take_slot(struct wheel *wheel) {
    struct wheel_entry *slot = &wheel->slots[(size_t)wheel->tick % WHEEL_SLOTS];
    if (slot->next != slot) {
        slot->prev->next = &wheel->due;
        slot->next->prev = &wheel->due;
        wheel->due.next = slot->next;
        wheel->due.prev = slot->prev;
        ring_init(slot);
    }
}

struct wheel_entry *wheel_due(struct wheel *wheel, int64_t now_ms) {
    for (;;) { /* each turn takes out an entry or moves on by a tick, at most to now */
        struct wheel_entry *entry = wheel->due.next;
        if (entry == &wheel->due) {
            if (wheel->tick >= now_ms / WHEEL_TICK_MS) {
                return NULL;
            }
            wheel->tick++;
            take_slot(wheel);
        } else if (entry->at_ms <= now_ms) {
            wheel_clear(entry);
            return entry;
        } else {
            wheel_set(wheel, entry, entry->at_ms);
        }
    }
}
