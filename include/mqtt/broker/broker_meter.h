/* What a node measures about one broker, over the last one to two minutes. Pure; the caller locks.
 * Times are monotonic. */
#ifndef MQFLEET_BROKER_BROKER_METER_H
#define MQFLEET_BROKER_BROKER_METER_H

#include <stdint.h>
#include "base/telemetry/metrics.h"

#define BROKER_METER_TURN_MS 60000

struct broker_meter { /* zero at first; [0]: the present minute, [1]: the one before */
    uint32_t pings[2][HISTOGRAM_BUCKETS];
    uint32_t connects[2];
    int64_t began_at_ms, turned_at_ms; /* 0: nothing was noted */
};

struct broker_rates {
    struct histogram_values pings; /* round trips of PINGREQ; sum_us is not kept */
    double connects_per_s;         /* attempts */
};

void broker_meter_note_connect(struct broker_meter *meter, int64_t now_ms);
void broker_meter_note_ping(struct broker_meter *meter, int64_t us, int64_t now_ms);
void broker_meter_read(const struct broker_meter *meter, int64_t now_ms, struct broker_rates *out);

#endif
