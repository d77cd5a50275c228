/* One producer of librdkafka, with its log and its errors. Its threads are librdkafka's own: one
 * named rdk:main, and one for each broker; the log and the check of addresses run on them.
 * Everything else: sink thread only. */
#ifndef MQFLEET_KAFKA_PRODUCER_H
#define MQFLEET_KAFKA_PRODUCER_H

#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include "base/err.h"
#include "sink/sink_type.h"

struct kafka_producer;

typedef void kafka_report(void *context, const rd_kafka_message_t *report);

struct kafka_producer_config {
    const json_t *settings; /* both are borrowed for the life of the producer */
    const struct sink_environment *environment;
    kafka_report *report; /* for each message once, from kafka_producer_wait and _close */
    void *context;
};

/* ERR_ARGUMENT: fault (SINK_FAULT_LEN) says why. ERR_MEMORY, ERR_UNAVAILABLE: no thread. */
enum err kafka_producer_create(struct kafka_producer **out,
                               const struct kafka_producer_config *config, char *fault) MUST_CHECK;
/* Drops what is not acknowledged, and reports it. NULL is legal. Bounded by the name lookups of
 * librdkafka's threads. */
void kafka_producer_close(struct kafka_producer *producer);

rd_kafka_t *kafka_producer_handle(struct kafka_producer *producer);
/* Sends at once what was produced, and serves reports until kafka_producer_interrupt or until
 * timeout_ms are over. */
void kafka_producer_wait(struct kafka_producer *producer, int64_t timeout_ms);
/* From within a report: enough. */
void kafka_producer_interrupt(struct kafka_producer *producer);

/* Whether it can send nothing any more; then the error says why. */
bool kafka_producer_is_dead(const struct kafka_producer *producer);
/* The last error of a broker or connection, "" if none since the last acknowledgement; valid until
 * the next call. */
const char *kafka_producer_error(const struct kafka_producer *producer);
void kafka_producer_clear_error(struct kafka_producer *producer);

#endif
