/* Aligns and adds the samples of several nodes. */
#include "http/api/ops/time_series_sum.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "http/server/json.h"

/* ---- one node -------------------------------------------------------------------------------- */

json_t *time_series_to_json(struct time_series *series, int64_t now_ms) {
    struct time_series_sample *samples = calloc(TIME_SERIES_SAMPLES, sizeof *samples);
    json_t *columns = samples ? json_object() : NULL;
    int64_t slot = 0;
    size_t len = samples ? time_series_copy(series, samples, &slot) : 0;
    for (enum series column = 0; columns && column < SERIES_COUNT; column++) {
        json_t *values = json_array();
        for (size_t i = 0; i < len; i++) {
            json_array_append_new(values, samples[i].taken ? json_integer(samples[i].values[column])
                                                           : json_null());
        }
        json_object_set_new(columns, series_name(column), values);
    }
    free(samples);
    return json_pack("{s:I, s:I, s:I, s:o}", "now_ms", (json_int_t)now_ms, "interval_ms",
                     (json_int_t)TIME_SERIES_INTERVAL_MS, "slot", (json_int_t)slot, "series",
                     columns);
}

/* ---- the sum --------------------------------------------------------------------------------- */

void time_series_sum_init(struct time_series_sum *sum, int64_t now_ms) {
    memset(sum, 0, sizeof *sum);
    sum->now_ms = now_ms;
}

#define TIME_SERIES_MAX (1LL << 50) /* of what another node sends: sums of it do not overflow */

/* How many slots the clock of the other node is behind. */
static int64_t time_series_sum_shift(const struct time_series_sum *sum, int64_t now_ms) {
    double behind = (double)sum->now_ms - (double)now_ms;
    double slots = behind / TIME_SERIES_INTERVAL_MS;
    return (int64_t)(slots < 0 ? slots - 0.5 : slots + 0.5);
}

static bool time_series_sum_is_valid(const json_t *columns) {
    const json_t *values;
    const char *name;
    json_object_foreach((json_t *)columns, name, values) {
        if (json_array_size(values) > TIME_SERIES_SAMPLES || !json_is_array(values)) {
            return false;
        }
    }
    return json_is_object(columns);
}

/* at: the place of the last value; values outside the hour are left out. */
static void time_series_sum_add(int64_t *sums, int64_t at, const json_t *values, bool count) {
    int64_t len = (int64_t)json_array_size(values);
    for (int64_t i = 0; i < len; i++) {
        const json_t *value = json_array_get(values, (size_t)i);
        int64_t place = at - (len - 1 - i);
        int64_t sample = json_integer_value(value);
        bool valid = json_is_integer(value) && sample >= 0 && sample <= TIME_SERIES_MAX;
        if (valid && place >= 0 && place < TIME_SERIES_SAMPLES) {
            sums[place] += count ? 1 : sample;
        }
    }
}

enum err time_series_sum_merge(struct time_series_sum *sum, const json_t *json) {
    json_int_t now_ms, interval_ms, slot;
    json_t *columns;
    if (json_unpack((json_t *)json, "{s:I, s:I, s:I, s:o}", "now_ms", &now_ms, "interval_ms",
                    &interval_ms, "slot", &slot, "series", &columns) != 0 ||
        interval_ms != TIME_SERIES_INTERVAL_MS || now_ms < 0 || slot < 0 ||
        now_ms > TIME_SERIES_MAX || slot > TIME_SERIES_MAX || !time_series_sum_is_valid(columns)) {
        return ERR_ARGUMENT;
    }
    int64_t last = sum->now_ms / TIME_SERIES_INTERVAL_MS;
    int64_t at = slot + time_series_sum_shift(sum, now_ms) - last + TIME_SERIES_SAMPLES - 1;
    for (enum series column = 0; column < SERIES_COUNT; column++) {
        const json_t *values = json_object_get(columns, series_name(column));
        time_series_sum_add(sum->values[column], at, values, false);
        if (column == 0) {
            time_series_sum_add(sum->nodes, at, values, true);
        }
    }
    return ERR_OK;
}

/* ---- the answer ------------------------------------------------------------------------------ */

/* The samples that are shown: from the first that a node has. The newest is left out until all
 * nodes that have the one before have it. */
static size_t time_series_sum_range(const struct time_series_sum *sum, size_t *first) {
    const int64_t *nodes = sum->nodes;
    size_t end = TIME_SERIES_SAMPLES;
    if (nodes[end - 1] < nodes[end - 2]) {
        end--;
    }
    *first = 0;
    while (*first < end && nodes[*first] == 0) {
        (*first)++;
    }
    return end;
}

static json_t *time_series_sum_column(const struct time_series_sum *sum, enum series column,
                                      size_t first, size_t end) {
    json_t *values = json_array();
    for (size_t i = first; i < end; i++) {
        int64_t value = sum->values[column][i];
        json_array_append_new(values, sum->nodes[i] == 0       ? json_null()
                                      : series_is_rate(column) ? json_real((double)value / 1000)
                                                               : json_integer(value));
    }
    return values;
}

json_t *time_series_sum_to_json(const struct time_series_sum *sum) {
    size_t first, end = time_series_sum_range(sum, &first);
    int64_t slot = sum->now_ms / TIME_SERIES_INTERVAL_MS - TIME_SERIES_SAMPLES + 1 + (int64_t)first;
    json_t *nodes = json_array(), *clients = json_object(), *rates = json_object();
    for (size_t i = first; i < end; i++) {
        json_array_append_new(nodes, json_integer(sum->nodes[i]));
    }
    for (enum series column = 0; column < SERIES_COUNT; column++) {
        json_object_set_new(series_is_rate(column) ? rates : clients, series_name(column),
                            time_series_sum_column(sum, column, first, end));
    }
    return json_pack("{s:i, s:o, s:o, s:o, s:o}", "interval_s", TIME_SERIES_INTERVAL_MS / 1000,
                     "from",
                     first < end ? http_json_time(slot * TIME_SERIES_INTERVAL_MS) : json_null(),
                     "nodes", nodes, "clients", clients, "per_s", rates);
}
