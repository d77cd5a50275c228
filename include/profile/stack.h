/* Call stacks as addresses, innermost first. Safe in signal handlers and within malloc after
 * stack_prepare. */
#ifndef MQFLEET_PROFILE_STACK_H
#define MQFLEET_PROFILE_STACK_H

#include <stddef.h>
#include <stdint.h>

#define STACK_DEPTH_MAX 48

/* Initialises the parts of the unwinder that it would otherwise set up on first use. Call once
 * before the others, on any thread, never in a signal handler. */
void stack_prepare(void);
/* The caller's stack without its innermost `skip` functions (0: starts with the caller). An address
 * is within the calling instruction. Returns the depth, at most STACK_DEPTH_MAX. */
size_t stack_capture(uintptr_t frames[STACK_DEPTH_MAX], size_t skip);
/* The same for a signal handler, starting at the interrupted instruction. A stack that cannot be
 * unwound is truncated at the first unreadable frame. Between stack_guard and stack_unguard, which
 * must be paired, a fault while unwinding only ends the walk. */
size_t stack_capture_interrupted(uintptr_t frames[STACK_DEPTH_MAX], const void *context);
void stack_guard(void);
void stack_unguard(void);

#endif
