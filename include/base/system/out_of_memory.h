/* Counts failed allocations and logs them at a bounded rate. Each thread also remembers that one of
 * its allocations failed, so that an incomplete result is not used. The allocator (profile/heap.c)
 * reports every failure, including those in libraries. */
#ifndef MQFLEET_SYSTEM_OUT_OF_MEMORY_H
#define MQFLEET_SYSTEM_OUT_OF_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* bytes: size of the request; 0: unknown. Any thread, even within malloc: takes no lock and
 * allocates nothing. */
void out_of_memory_note(size_t bytes);

/* Did an allocation fail on this thread since out_of_memory_forget? */
bool out_of_memory_seen(void);
void out_of_memory_forget(void);

/* Logs the failures since the last call, at most every 10 s. Main thread, about once a second. */
void out_of_memory_report(void);

#endif
