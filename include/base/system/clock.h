/* The only source of time. Durations come from CLOCK_BOOTTIME, which continues during suspension. A
 * lease therefore expires while a machine sleeps. Any thread. */
#ifndef MQFLEET_SYSTEM_CLOCK_H
#define MQFLEET_SYSTEM_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define CLOCK_RFC3339_LEN 25 /* "2026-01-02T03:04:05.678Z" and the NUL */

int64_t clock_ms(void);      /* milliseconds since boot; for durations */
int64_t clock_us(void);      /* microseconds since boot */
int64_t clock_wall_ms(void); /* milliseconds since 1970 UTC; for display only */

/* Adds offset_ms to clock_ms() and clock_us() from now on. For tests. */
void clock_advance_ms(int64_t offset_ms);

/* Writes wall_ms as RFC 3339 UTC with milliseconds into out[CLOCK_RFC3339_LEN]; returns out. */
const char *clock_rfc3339(int64_t wall_ms, char *out);

/* Sleeps at least ms milliseconds; continues after signals. */
void clock_sleep_ms(int64_t ms);

#endif
