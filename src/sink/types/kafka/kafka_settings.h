/* The settings of the type kafka, and the configuration of librdkafka that follows from them. Pure;
 * any thread. */
#ifndef MQFLEET_KAFKA_SETTINGS_H
#define MQFLEET_KAFKA_SETTINGS_H

#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include "sink/sink_settings.h"

extern const struct sink_field kafka_fields[];

/* A new configuration, without callbacks. client: the name that brokers see. NULL: fault
 * (SINK_FAULT_LEN) names the field. */
rd_kafka_conf_t *kafka_settings_configure(const json_t *settings, const char *client, char *fault);

#endif
