/* Condition variables whose timeouts use the monotonic clock. Any thread. */
#ifndef MQFLEET_SYSTEM_CONDITION_H
#define MQFLEET_SYSTEM_CONDITION_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

void condition_init(pthread_cond_t *condition);
/* The time timeout_ms (0 or more) from now, for pthread_cond_timedwait with such a condition. */
struct timespec condition_deadline(int64_t timeout_ms);

#endif
