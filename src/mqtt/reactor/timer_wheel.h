/* When each connection needs its next check: a wheel of lists, advanced by the engine's tick. A
 * check runs within two ticks after its time, never before. Setting and clearing cost the same for
 * one connection and for a hundred thousand. One thread. */
#ifndef MQFLEET_REACTOR_TIMER_WHEEL_H
#define MQFLEET_REACTOR_TIMER_WHEEL_H

#include <stddef.h>
#include <stdint.h>

#define TIMER_WHEEL_TICK_MS 250
#define TIMER_WHEEL_SLOTS   256 /* later times are postponed in steps of 64 s */

struct timer_wheel_entry { /* embedded in its owner; zeroed: not set */
    struct timer_wheel_entry *prev, *next;
    int64_t at_ms;
};

struct timer_wheel {
    struct timer_wheel_entry slots[TIMER_WHEEL_SLOTS]; /* heads of rings */
    struct timer_wheel_entry due;                      /* of the slot that was reached */
    int64_t tick;                                      /* reached */
};

void timer_wheel_init(struct timer_wheel *wheel, int64_t now_ms);
/* Sets or moves. */
void timer_wheel_set(struct timer_wheel *wheel, struct timer_wheel_entry *entry, int64_t at_ms);
void timer_wheel_clear(struct timer_wheel_entry *entry); /* legal when not set */
/* Removes and returns the next entry that is due; NULL: none before the next tick. */
struct timer_wheel_entry *timer_wheel_due(struct timer_wheel *wheel, int64_t now_ms);

#endif
