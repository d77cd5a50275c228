/* Owns the counts of the last two minutes. Pure. */
#include "mqtt/broker/broker_meter.h"

#include <stdbool.h>
#include <string.h>

#define METER_SPAN_MS_MIN 1000 /* else a single attempt would look like a flood */

/* After a minute without a note, nothing before it is recent. */
static void broker_meter_turn(struct broker_meter *meter, int64_t now_ms) {
    if (meter->began_at_ms == 0) {
        meter->began_at_ms = meter->turned_at_ms = now_ms;
    }
    int64_t age_ms = now_ms - meter->turned_at_ms;
    if (age_ms < BROKER_METER_TURN_MS) {
        return;
    }
    bool recent = age_ms < 2 * BROKER_METER_TURN_MS;
    if (recent) {
        memcpy(meter->pings[1], meter->pings[0], sizeof meter->pings[0]);
        meter->connects[1] = meter->connects[0];
    } else {
        memset(meter->pings[1], 0, sizeof meter->pings[1]);
        meter->connects[1] = 0;
    }
    memset(meter->pings[0], 0, sizeof meter->pings[0]);
    meter->connects[0] = 0;
    meter->turned_at_ms = recent ? meter->turned_at_ms + BROKER_METER_TURN_MS : now_ms;
}

void broker_meter_note_connect(struct broker_meter *meter, int64_t now_ms) {
    broker_meter_turn(meter, now_ms);
    meter->connects[0]++;
}

void broker_meter_note_ping(struct broker_meter *meter, int64_t us, int64_t now_ms) {
    size_t bucket = 0;
    while (bucket < HISTOGRAM_BUCKETS - 1 && us > histogram_bounds_us[bucket]) {
        bucket++;
    }
    broker_meter_turn(meter, now_ms);
    meter->pings[0][bucket]++;
}

void broker_meter_read(const struct broker_meter *meter, int64_t now_ms, struct broker_rates *out) {
    struct broker_meter now = *meter;
    *out = (struct broker_rates){0};
    if (meter->began_at_ms == 0) {
        return;
    }
    broker_meter_turn(&now, now_ms);
    int64_t span_ms = now_ms - now.turned_at_ms + BROKER_METER_TURN_MS;
    int64_t life_ms = now_ms - now.began_at_ms;
    span_ms = life_ms < span_ms ? life_ms : span_ms;
    span_ms = span_ms > METER_SPAN_MS_MIN ? span_ms : METER_SPAN_MS_MIN;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        out->pings.counts[i] = (int64_t)now.pings[0][i] + now.pings[1][i];
    }
    out->connects_per_s = ((double)now.connects[0] + now.connects[1]) * 1000 / (double)span_ms;
}
