/* Profiles of threads by signals: where they use the processor, and where each of them is. Any
 * thread asks; one profile of each kind is made at a time. */
#ifndef MQFLEET_PROFILE_SIGNALS_H
#define MQFLEET_PROFILE_SIGNALS_H

#include <stdbool.h>
#include "profile/profile.h"

#define CPU_PROFILE_HZ 100

/* Samples for so many seconds, or until stopped(context), asked ten times a second. Types: samples,
 * cpu; label: thread. ERR_EXISTS: one runs already. ERR_UNSUPPORTED: built without. */
enum err cpu_profile_take(struct profile **out, int seconds, bool (*stopped)(void *context),
                          void *context) MUST_CHECK;
/* One sample for each thread, with its name as label; without a stack if it did not answer within a
 * second. ERR_EXISTS, ERR_UNSUPPORTED as above. */
enum err threads_profile_take(struct profile **out) MUST_CHECK;

#endif
