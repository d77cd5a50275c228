/* A heap of timers, each embedded in its owner. One thread. */
#ifndef MQFLEET_CLIENT_TIMERS_H
#define MQFLEET_CLIENT_TIMERS_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct timer {
    int64_t at_ms;
    size_t position; /* in the heap, from 1; 0: not set */
};

struct timers {
    struct timer **heap; /* from index 1 */
    size_t count, capacity;
};

void timers_init(struct timers *timers);
void timers_fini(struct timers *timers);
/* Reserves room for n timers, so that timers_set cannot fail for up to n timers. */
enum err timers_reserve(struct timers *timers, size_t n) MUST_CHECK;
/* Sets or moves. Asserts that there is room. */
void timers_set(struct timers *timers, struct timer *timer, int64_t at_ms);
void timers_clear(struct timers *timers,
                  struct timer *timer); /* legal for a timer that is not set */
/* Removes and returns the first timer that is due; NULL: none. */
struct timer *timers_due(struct timers *timers, int64_t now_ms);
/* Time until the first timer is due, at least 0; `wait_ms_max` if that is less or there is no
 * timer. */
int64_t timers_wait_ms(const struct timers *timers, int64_t now_ms, int64_t wait_ms_max);

#endif
