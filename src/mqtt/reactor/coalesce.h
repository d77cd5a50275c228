/* Whether sockets are looked at for each message, or once in an interval for all that came
 * meanwhile. Waking a thread costs more than a message's way through it, so the second is cheaper
 * as soon as two messages share a look, and makes a message later by up to the interval; a lone one
 * is never kept waiting. Nor does it pay where a broker sends on only when it has our
 * acknowledgements: there pauses would set the pace. So it is tried, and compared with how fast
 * messages came without, again and again. One thread; times from any one clock. */
#ifndef MQFLEET_REACTOR_COALESCE_H
#define MQFLEET_REACTOR_COALESCE_H

#include <stdbool.h>
#include <stdint.h>

struct coalesce {
    int64_t interval_us; /* 0: every message is looked at as it comes */
    int64_t polled_at_us;
    int64_t window_at_us; /* when counting began anew */
    int64_t messages;     /* since then; counted by its owner */
    bool pausing;
    int windows_left;  /* to the next change of mind */
    int64_t free_rate; /* messages per second when there were no pauses yet */
};

void coalesce_init(struct coalesce *coalesce, int64_t interval_us);
/* The sockets are being looked at now. */
void coalesce_note_poll(struct coalesce *coalesce, int64_t now_us);
/* How long the next look is to be put off from now on; 0: not. */
int64_t coalesce_wait_us(const struct coalesce *coalesce, int64_t now_us);

#endif
