/* The last hour of this node: a ring of samples in fixed memory (about 40 KB). One thread adds
 * samples, any thread copies them. */
#ifndef MQFLEET_TELEMETRY_TIME_SERIES_H
#define MQFLEET_TELEMETRY_TIME_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIME_SERIES_INTERVAL_MS 10000
#define TIME_SERIES_SAMPLES     360

/* X(symbol, name, is_rate): a value as it was when it was sampled, or how fast a total grew since
 * the sample before. New rows are appended. */
#define TIME_SERIES_TABLE(X)                                                                       \
    X(SERIES_ONLINE, "online", false)                                                              \
    X(SERIES_CONNECTING, "connecting", false)                                                      \
    X(SERIES_BACKOFF, "backoff", false)                                                            \
    X(SERIES_CONFLICT, "conflict", false)                                                          \
    X(SERIES_PAUSED, "paused", false)                                                              \
    X(SERIES_MESSAGES_IN, "messages_in", true)                                                     \
    X(SERIES_BYTES_IN, "bytes_in", true)                                                           \
    X(SERIES_MESSAGES_OUT, "messages_out", true)                                                   \
    X(SERIES_BYTES_OUT, "bytes_out", true)                                                         \
    X(SERIES_PUBLICATIONS_FAILED, "publications_failed", true)                                     \
    X(SERIES_MESSAGES_DROPPED, "messages_dropped", true)

enum series {
#define TIME_SERIES_SYMBOL(symbol, name, is_rate) symbol,
    TIME_SERIES_TABLE(TIME_SERIES_SYMBOL)
#undef TIME_SERIES_SYMBOL
        SERIES_COUNT
};
const char *series_name(enum series series);
bool series_is_rate(enum series series);

/* A sample belongs to a slot: the wall clock divided by TIME_SERIES_INTERVAL_MS. Nodes with the
 * same time take their samples at the same moments. */
struct time_series_sample {
    bool taken;                   /* false: the node took none in that slot */
    int64_t values[SERIES_COUNT]; /* a rate: thousandths per second */
};

struct time_series;

struct time_series *time_series_create(void); /* NULL: out of memory */
void time_series_destroy(struct time_series *series);
/* Whether the slot of that wall clock needs a sample. */
bool time_series_is_due(struct time_series *series, int64_t wall_ms);
/* values: for a rate the total. The first call only notes the totals, and so does one after a step
 * of the wall clock, which also forgets all samples. A step back of a moment, from the beginning of
 * a slot into the one before, changes nothing. */
void time_series_add(struct time_series *series, int64_t wall_ms, int64_t now_ms,
                     const int64_t values[SERIES_COUNT]);
/* The oldest first; returns how many. *slot: that of the newest one. */
size_t time_series_copy(struct time_series *series,
                        struct time_series_sample out[TIME_SERIES_SAMPLES], int64_t *slot);

#endif
