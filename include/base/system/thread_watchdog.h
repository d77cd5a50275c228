/* Marks of progress of the threads that a node cannot do without: one that hangs is noticed by what
 * it no longer does. */
#ifndef MQFLEET_SYSTEM_THREAD_WATCHDOG_H
#define MQFLEET_SYSTEM_THREAD_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

/* The calling thread is watched from now on: it calls pulse() at least every still_ms_max. name:
 * static. */
void thread_watchdog_register(const char *name, int64_t still_ms_max);
/* Progress of the calling thread: once a turn of its loop, and whenever something that may take
 * long, but has a bound, is over. Nothing for threads that are not watched. */
void thread_watchdog_kick(void);
/* Before a watched thread ends. */
void thread_watchdog_unregister(void);

/* Any thread. NULL: all watched threads make progress; else the name of one that stands still, and
 * for how long. */
const char *thread_watchdog_stalled(int64_t *still_ms);
/* For how long the watched thread of that name has stood still; 0: there is none. */
int64_t thread_watchdog_idle_ms(const char *name);

#endif
