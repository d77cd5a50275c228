/* Private to the event bus: how many events of clients may still be kept. A budget is refilled by
 * the event bus thread and used by any thread. */
#ifndef MQFLEET_EVENTS_EVENT_BUDGET_H
#define MQFLEET_EVENTS_EVENT_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define EVENT_BUDGET_BURST 10 /* as many seconds' worth may be used at once */

struct event_budget {
    int64_t rate;        /* events/s */
    int64_t refilled_ms; /* monotonic; the event bus thread only */
    atomic_llong left;   /* may be negative for a moment */
};

static inline void event_budget_init(struct event_budget *budget, int64_t rate, int64_t now_ms) {
    budget->rate = rate;
    budget->refilled_ms = now_ms;
    atomic_init(&budget->left, rate * EVENT_BUDGET_BURST);
}

static inline bool event_budget_take(struct event_budget *budget) {
    if (atomic_load_explicit(&budget->left, memory_order_relaxed) <= 0) {
        return false;
    }
    bool taken = atomic_fetch_sub(&budget->left, 1) > 0;
    if (!taken) {
        atomic_fetch_add(&budget->left, 1);
    }
    return taken;
}

static inline void event_budget_refill(struct event_budget *budget, int64_t now_ms) {
    int64_t gained = (now_ms - budget->refilled_ms) * budget->rate / 1000;
    if (gained > 0) {
        int64_t room = budget->rate * EVENT_BUDGET_BURST - atomic_load(&budget->left);
        atomic_fetch_add(&budget->left, gained < room ? gained : room);
        budget->refilled_ms =
            gained < room ? budget->refilled_ms + gained * 1000 / budget->rate : now_ms;
    }
}

#endif
