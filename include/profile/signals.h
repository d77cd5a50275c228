/* Profiles threads with signals: their CPU use, and their current stacks. Any thread may call; one
 * profile of each kind is made at a time. */
#ifndef MQFLEET_PROFILE_SIGNALS_H
#define MQFLEET_PROFILE_SIGNALS_H

#include <stdbool.h>
#include "profile/profile.h"

#define CPU_PROFILE_HZ 100

/* Samples for that many seconds, or until stopped(context), which is called ten times a second.
 * Types: samples, cpu; label: thread. ERR_EXISTS: a profile is running. ERR_UNSUPPORTED: not built
 * in. */
enum err cpu_profile_take(struct profile **out, int seconds, bool (*stopped)(void *context),
                          void *context) MUST_CHECK;
/* One sample per thread, with its name as label. A thread that does not answer within a second has
 * no stack. ERR_EXISTS, ERR_UNSUPPORTED as above. */
enum err threads_profile_take(struct profile **out) MUST_CHECK;

#endif
