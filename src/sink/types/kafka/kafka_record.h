/* How a message becomes a record of Kafka: topic, key, value and headers. One thread. */
#ifndef MQFLEET_KAFKA_RECORD_H
#define MQFLEET_KAFKA_RECORD_H

#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include "base/buffer.h"
#include "base/err.h"
#include "message/message.h"
#include "sink/sink_type.h"

struct kafka_shape;

struct kafka_record {
    const char *topic;       /* these are valid until the next record of the shape */
    const void *key, *value; /* not NULL: an empty value is not a tombstone */
    size_t key_len, value_len;
    rd_kafka_headers_t *headers; /* owned by whoever has the record; NULL: none */
    int64_t timestamp_ms;        /* 0: the time of sending */
};

/* node: borrowed. ERR_ARGUMENT: fault (SINK_FAULT_LEN) names the field. */
enum err kafka_shape_create(struct kafka_shape **out, const json_t *settings, const char *node,
                            char *fault) MUST_CHECK;
void kafka_shape_destroy(struct kafka_shape *shape); /* NULL is legal */

/* ERR_NOT_FOUND: the message lacks a value for a template; reason (SINK_REASON_LEN) names it.
 * ERR_MEMORY. */
enum err kafka_record_make(struct kafka_shape *shape, const struct message *message,
                           struct kafka_record *out, char *reason) MUST_CHECK;

#endif
