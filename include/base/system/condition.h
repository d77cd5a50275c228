/* Condition variables whose waits end by the monotonic clock, which nobody sets. Any thread. */
#ifndef MQFLEET_SYSTEM_CONDITION_H
#define MQFLEET_SYSTEM_CONDITION_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

void condition_init(pthread_cond_t *condition);
/* timeout_ms (0 and more) from now, for pthread_cond_timedwait with such a condition. */
struct timespec condition_deadline(int64_t timeout_ms);

#endif
