/* Detects threads of the node that hang: each watched thread reports its progress. */
#ifndef MQFLEET_SYSTEM_THREAD_WATCHDOG_H
#define MQFLEET_SYSTEM_THREAD_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

/* Watches the calling thread from now on: it reports progress at least every still_ms_max. name:
 * static. */
void thread_watchdog_register(const char *name, int64_t still_ms_max);
/* Reports progress of the calling thread. Call it once per turn of the loop, and after each
 * operation that is slow but bounded. Does nothing on threads that are not watched. */
void thread_watchdog_kick(void);
/* Call it before a watched thread ends. */
void thread_watchdog_unregister(void);

/* Any thread. NULL: all watched threads make progress. Otherwise the name of a thread that hangs,
 * and for how long. */
const char *thread_watchdog_stalled(int64_t *still_ms);
/* How long the watched thread of that name has made no progress; 0: no such thread. */
int64_t thread_watchdog_idle_ms(const char *name);

#endif
