/* Samples heap allocations by call stack, both all and those still in use. The allocator is
 * glibc's: malloc and its relatives are wrapped here and count bytes until the next sample. Any
 * thread. */
#ifndef MQFLEET_PROFILE_HEAP_H
#define MQFLEET_PROFILE_HEAP_H

#include <stdbool.h>
#include <stdint.h>
#include "profile/profile.h"

/* false: not built in (sanitizers have their own malloc). */
bool heap_profile_supported(void);
/* Takes a sample about every `mean_bytes` allocated bytes from now on, at random distances of a
 * Poisson process; 0: none. */
void heap_profile_start(int64_t mean_bytes);
int64_t heap_profile_mean_bytes(void); /* 0: off */
/* alloc_objects, alloc_space, inuse_objects, inuse_space: estimates for all allocations since the
 * start, not only for the samples. NULL: out of memory. */
struct profile *heap_profile_take(void);
/* Samples that were lost because a table was full: of stacks (counted under no stack), and of live
 * blocks (then not in use). */
void heap_profile_lost(int64_t *stacks, int64_t *live);

#endif
