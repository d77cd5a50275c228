/* Marks of progress of the threads that a node cannot do without: one that hangs is noticed by what
 * it no longer does. */
#ifndef MQFLEET_BASE_PULSE_H
#define MQFLEET_BASE_PULSE_H

#include <stdbool.h>
#include <stdint.h>

/* The calling thread is watched from now on: it calls pulse() at least every still_ms_max. name:
 * static. */
void pulse_begin(const char *name, int64_t still_ms_max);
/* Progress of the calling thread: once a turn of its loop, and whenever something that may take
 * long, but has a bound, is over. Nothing for threads that are not watched. */
void pulse(void);
/* Before a watched thread ends. */
void pulse_end(void);

/* Any thread. NULL: all watched threads make progress; else the name of one that stands still, and
 * for how long. */
const char *pulse_stalled(int64_t *still_ms);
/* For how long the watched thread of that name has stood still; 0: there is none. */
int64_t pulse_still_ms(const char *name);

#endif
