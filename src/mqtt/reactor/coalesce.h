/* Whether sockets are read for each message, or once per interval for all that arrived meanwhile.
 * Waking a thread costs more than processing a message. So pauses are cheaper as soon as two
 * messages share a wake-up, and delay a message by up to the interval; a lone message is never
 * delayed. If a broker sends only after our acknowledgements, pauses would limit the throughput. So
 * pauses are tried, and compared with the throughput without them, at regular intervals. One
 * thread; times from any one clock. */
#ifndef MQFLEET_REACTOR_COALESCE_H
#define MQFLEET_REACTOR_COALESCE_H

#include <stdbool.h>
#include <stdint.h>

struct coalesce {
    int64_t interval_us; /* 0: every message is read as it comes */
    int64_t polled_at_us;
    int64_t window_at_us; /* when the current count started */
    int64_t messages;     /* since then; counted by its owner */
    bool pausing;
    int windows_left;  /* until the next change */
    int64_t free_rate; /* messages per second in the last window without pauses */
};

void coalesce_init(struct coalesce *coalesce, int64_t interval_us);
/* The sockets are read now. */
void coalesce_note_poll(struct coalesce *coalesce, int64_t now_us);
/* How long to delay the next poll from now on; 0: not at all. */
int64_t coalesce_wait_us(const struct coalesce *coalesce, int64_t now_us);

#endif
