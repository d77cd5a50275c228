/* Call stacks as addresses, innermost first. Safe in signal handlers and within malloc once
 * stack_prepare has run. */
#ifndef MQFLEET_PROFILE_STACK_H
#define MQFLEET_PROFILE_STACK_H

#include <stddef.h>
#include <stdint.h>

#define STACK_DEPTH_MAX 48

/* Once, before the others: what the unwinder sets up lazily is set up. Any thread, never in a
 * signal handler. */
void stack_prepare(void);
/* The caller's stack without its `skip` innermost functions (0: the caller is the first). An
 * address lies within the calling instruction. Returns the depth, at most STACK_DEPTH_MAX. */
size_t stack_capture(uintptr_t frames[STACK_DEPTH_MAX], size_t skip);
/* The same for a signal handler, beginning at what it interrupted. A stack that cannot be unwound
 * is cut where it could no longer be read: between stack_guard and stack_unguard, which come in
 * pairs, a fault while unwinding ends the walk and nothing else.
 */
size_t stack_capture_interrupted(uintptr_t frames[STACK_DEPTH_MAX], const void *context);
void stack_guard(void);
void stack_unguard(void);

#endif
