/* When each connection is to be looked at next: a wheel of lists, turned by the engine's tick. A
 * look comes within two ticks after its time, never before; setting and clearing cost the same for
 * one connection and for a hundred thousand. One thread. */
#ifndef MQFLEET_MQTT_REACTOR_WHEEL_H
#define MQFLEET_MQTT_REACTOR_WHEEL_H

#include <stddef.h>
#include <stdint.h>

#define WHEEL_TICK_MS 250
#define WHEEL_SLOTS   256 /* later looks are put off in steps of 64 s */

struct wheel_entry { /* embedded in what it belongs to; zeroed: not set */
    struct wheel_entry *prev, *next;
    int64_t at_ms;
};

struct wheel {
    struct wheel_entry slots[WHEEL_SLOTS]; /* heads of rings */
    struct wheel_entry due;                /* of the slot that was reached */
    int64_t tick;                          /* reached */
};

void wheel_init(struct wheel *wheel, int64_t now_ms);
/* Sets or moves. */
void wheel_set(struct wheel *wheel, struct wheel_entry *entry, int64_t at_ms);
void wheel_clear(struct wheel_entry *entry); /* not set is legal */
/* The next entry whose time has come, taken out; NULL: none before the next tick. */
struct wheel_entry *wheel_due(struct wheel *wheel, int64_t now_ms);

#endif
