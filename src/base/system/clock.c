/* Owns the process's clocks and the offset by which tests move them. Any thread. */
#include "base/system/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define US_PER_MS 1000
#define MS_PER_S  1000

static _Atomic int64_t offset_us;

static int64_t clock_read_us(clockid_t id) {
    struct timespec now;
    int result = clock_gettime(id, &now);
    assert(result == 0);
    (void)result;
    return (int64_t)now.tv_sec * MS_PER_S * US_PER_MS + now.tv_nsec / 1000;
}

int64_t clock_us(void) {
    return clock_read_us(CLOCK_BOOTTIME) + atomic_load_explicit(&offset_us, memory_order_relaxed);
}

int64_t clock_ms(void) {
    return clock_us() / US_PER_MS;
}

int64_t clock_wall_ms(void) {
    return clock_read_us(CLOCK_REALTIME) / US_PER_MS;
}

void clock_advance_ms(int64_t offset_ms) {
    atomic_fetch_add_explicit(&offset_us, offset_ms * US_PER_MS, memory_order_relaxed);
}

const char *clock_rfc3339(int64_t wall_ms, char *out) {
    int64_t milliseconds = wall_ms % MS_PER_S;
    time_t seconds = (time_t)(wall_ms / MS_PER_S);
    if (milliseconds < 0) {
        milliseconds += MS_PER_S;
        seconds--;
    }
    struct tm parts;
    /* RFC 3339 has four digits for the year. A later time can only come from a broken clock or a
     * foreign record, and is shown as the epoch. */
    if (!gmtime_r(&seconds, &parts) || parts.tm_year < -1900 || parts.tm_year > 8099) {
        seconds = 0;
        milliseconds = 0;
        gmtime_r(&seconds, &parts);
    }
    char date[sizeof("2026-01-02T03:04:05")];
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out, CLOCK_RFC3339_LEN, "%s.%03dZ", date, (int)milliseconds);
    return out;
}

void clock_sleep_ms(int64_t ms) {
    if (ms <= 0) {
        return;
    }
    struct timespec left = {.tv_sec = (time_t)(ms / MS_PER_S),
                            .tv_nsec = (long)(ms % MS_PER_S) * 1000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}
