/* Allocations that failed: counted, told in the log at a bounded rate, and remembered by the thread
 * they failed on, so that what it made meanwhile is not trusted. The allocator's front
 * (profile/heap.c) notes every one, also of libraries. */
#ifndef MQFLEET_SYSTEM_OUT_OF_MEMORY_H
#define MQFLEET_SYSTEM_OUT_OF_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* bytes: that were asked for; 0: not known. Any thread, within malloc too: takes no lock and
 * allocates nothing. */
void out_of_memory_note(size_t bytes);

/* Has one failed on this thread since out_of_memory_forget? */
bool out_of_memory_seen(void);
void out_of_memory_forget(void);

/* Logs what was noted since the last time, at most every 10 s. Main's thread, about every second.
 */
void out_of_memory_report(void);

#endif
