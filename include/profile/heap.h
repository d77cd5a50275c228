/* Samples of what is allocated on the heap, by whom, and of what is still there. The allocator
 * stays glibc's: malloc and its kin are defined here, in front of it, and count bytes down to the
 * next sample. Any thread. */
#ifndef MQFLEET_PROFILE_HEAP_H
#define MQFLEET_PROFILE_HEAP_H

#include <stdbool.h>
#include <stdint.h>
#include "profile/profile.h"

/* false: built without (sanitizers have their own malloc). */
bool heap_profile_supported(void);
/* A sample about every `mean_bytes` bytes allocated from now on, at distances as random as those of
 * a Poisson process; 0: none. */
void heap_profile_start(int64_t mean_bytes);
int64_t heap_profile_mean_bytes(void); /* 0: off */
/* alloc_objects, alloc_space, inuse_objects, inuse_space: estimates of all that was allocated since
 * the start, not only of the samples. NULL: out of memory. */
struct profile *heap_profile_take(void);
/* Samples that found no room: of stacks (counted under no stack), of live ones (not in use then).
 */
void heap_profile_lost(int64_t *stacks, int64_t *live);

#endif
