/* The delay before the next attempt. Pure except for the random number; any thread. */
#ifndef MQFLEET_CLIENT_BACKOFF_H
#define MQFLEET_CLIENT_BACKOFF_H

#include <stdint.h>

/* min_ms * 2^n, at most max_ms, without overflow. A max_ms below min_ms counts as min_ms. */
int64_t backoff_ceiling_ms(unsigned n, int64_t min_ms, int64_t max_ms);
/* Full jitter: uniform in [min_ms, backoff_ceiling_ms(n)]; n: the number of failures so far. */
int64_t backoff_ms(unsigned n, int64_t min_ms, int64_t max_ms);

#endif
