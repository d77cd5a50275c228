/* The messages that librdkafka has and whose delivery report is due. Nothing is produced twice
 * while its report is due: a later batch that has the same messages adopts them. Sink thread only.
 */
#ifndef MQFLEET_KAFKA_FLIGHT_H
#define MQFLEET_KAFKA_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "sink/sink_type.h"

#define KAFKA_NO_INDEX ((size_t)-1)

struct kafka_delivery;

struct kafka_flight {
    struct kafka_delivery *deliveries; /* all, in no order */
    struct kafka_delivery **current;   /* of the batch, by index; NULL: not in flight */
    size_t capacity;                   /* of `current` */
    size_t due;                        /* of the batch */
    size_t abandoned;                  /* whose message is in no batch any more */
};

void kafka_flight_init(struct kafka_flight *flight);
void kafka_flight_fini(struct kafka_flight *flight); /* no report may follow */

/* A batch begins. Deliveries of messages that it does not have are abandoned: the sink has given
 * these up. ERR_MEMORY. */
enum err kafka_flight_adopt(struct kafka_flight *flight, const struct sink_batch *batch) MUST_CHECK;
/* The sink has no message any more. */
void kafka_flight_abandon(struct kafka_flight *flight);
bool kafka_flight_has(const struct kafka_flight *flight, size_t index);
/* The message of that index is about to be produced. NULL: out of memory. */
struct kafka_delivery *kafka_flight_add(struct kafka_flight *flight, const struct sink_batch *batch,
                                        size_t index);
/* It was not produced, or its report is there; frees it. Returns its index in the batch, or
 * KAFKA_NO_INDEX if it was abandoned. */
size_t kafka_flight_remove(struct kafka_flight *flight, struct kafka_delivery *delivery);

#endif
