/* Owns the samples of one node. */
#include "base/telemetry/time_series.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    bool is_rate;
} series_rows[] = {
#define TIME_SERIES_ROW(symbol, name, is_rate) {name, is_rate},
    TIME_SERIES_TABLE(TIME_SERIES_ROW)
#undef TIME_SERIES_ROW
};

struct time_series {
    pthread_mutex_t lock; /* guards the rest */
    bool begun;           /* the totals are known */
    int64_t slot, at_ms;  /* of the last call */
    int64_t last[SERIES_COUNT];
    size_t len;
    struct time_series_sample samples[TIME_SERIES_SAMPLES]; /* by slot, in a ring */
};

const char *series_name(enum series series) {
    return series_rows[series].name;
}

bool series_is_rate(enum series series) {
    return series_rows[series].is_rate;
}

struct time_series *time_series_create(void) {
    struct time_series *series = calloc(1, sizeof *series);
    if (series) {
        pthread_mutex_init(&series->lock, NULL);
    }
    return series;
}

void time_series_destroy(struct time_series *series) {
    if (series) {
        pthread_mutex_destroy(&series->lock);
        free(series);
    }
}

bool time_series_is_due(struct time_series *series, int64_t wall_ms) {
    pthread_mutex_lock(&series->lock);
    bool due = !series->begun || wall_ms / TIME_SERIES_INTERVAL_MS != series->slot;
    pthread_mutex_unlock(&series->lock);
    return due;
}

static struct time_series_sample *time_series_at(struct time_series *series, int64_t slot) {
    return &series->samples[(size_t)slot % TIME_SERIES_SAMPLES];
}

/* Slots that the node missed while it hung or was suspended stay empty. */
static void time_series_push(struct time_series *series, int64_t slot, int64_t elapsed_ms,
                             const int64_t values[SERIES_COUNT]) {
    int64_t moved = slot - series->slot;
    for (int64_t i = 1; i <= moved && i <= TIME_SERIES_SAMPLES; i++) {
        time_series_at(series, series->slot + i)->taken = false;
    }
    size_t len = series->len + (size_t)moved;
    series->len = len < TIME_SERIES_SAMPLES ? len : TIME_SERIES_SAMPLES;
    struct time_series_sample *sample = time_series_at(series, slot);
    sample->taken = true;
    for (enum series i = 0; i < SERIES_COUNT; i++) {
        double grown = (double)(values[i] - series->last[i]);
        sample->values[i] =
            series_is_rate(i) ? (int64_t)(grown * 1000 * 1000 / (double)elapsed_ms) : values[i];
    }
}

void time_series_add(struct time_series *series, int64_t wall_ms, int64_t now_ms,
                     const int64_t values[SERIES_COUNT]) {
    int64_t slot = wall_ms / TIME_SERIES_INTERVAL_MS;
    pthread_mutex_lock(&series->lock);
    int64_t moved = slot - series->slot, elapsed_ms = now_ms - series->at_ms;
    bool steady = series->begun && llabs(moved - elapsed_ms / TIME_SERIES_INTERVAL_MS) <= 1;
    if (!steady) {
        series->len = 0;
    } else if (moved > 0 && elapsed_ms > 0) {
        time_series_push(series, slot, elapsed_ms, values);
    }
    if (!steady || moved > 0) {
        series->begun = true;
        series->slot = slot;
        series->at_ms = now_ms;
        memcpy(series->last, values, sizeof series->last);
    }
    pthread_mutex_unlock(&series->lock);
}

size_t time_series_copy(struct time_series *series,
                        struct time_series_sample out[TIME_SERIES_SAMPLES], int64_t *slot) {
    pthread_mutex_lock(&series->lock);
    size_t len = series->len;
    *slot = series->slot;
    for (size_t i = 0; i < len; i++) {
        out[i] = *time_series_at(series, *slot - (int64_t)(len - 1 - i));
    }
    pthread_mutex_unlock(&series->lock);
    return len;
}
