/* Makes a publication of a received message: topic, retain flag, properties, and the mark by which
 * a message that comes back is recognized. The sink's thread.
 *
 * In MQTT 5, each message that is sent carries the user property mqfleet-via with a value that
 * names fleet, sink and target. One that already carries the value has been through this sink, on
 * any node. MQTT 3.1.1 has no properties: there, only a message that would return to its own broker
 * with its own topic is recognized. */
#ifndef MQFLEET_SINK_MQTT_OUTGOING_H
#define MQFLEET_SINK_MQTT_OUTGOING_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/err.h"
#include "mqtt/config/client_config.h"
#include "mqtt/engine.h"
#include "sink/sink.h"
#include "sink/sink_template.h"

#define MQTT_OUTGOING_VIA "mqfleet-via"

struct mqtt_outgoing {
    struct sink_template topic;
    uint8_t version, qos;
    bool keeps_retain;
    char *target; /* "host:port" */
    char *via;    /* the value of the property */

    /* of the present publication */
    struct buffer topic_text;
    struct message_property *properties;
    size_t property_capacity;
    char expiry[24];
};

enum mqtt_outgoing_result {
    MQTT_OUTGOING_MADE,
    MQTT_OUTGOING_LOOP,     /* it has passed this sink before */
    MQTT_OUTGOING_REJECTED, /* see reason */
    MQTT_OUTGOING_NO_MEMORY
};

/* config: that of the connection; borrowed during the call. The settings are borrowed.
 * ERR_ARGUMENT: fault (SINK_FAULT_LEN) names the field. */
enum err mqtt_outgoing_init(struct mqtt_outgoing *outgoing,
                            const struct sink_environment *environment, const json_t *settings,
                            const struct client_config *config, char *fault) MUST_CHECK;
void mqtt_outgoing_fini(struct mqtt_outgoing *outgoing);

/* *out is valid until the next call. reason: REJECTION_REASON_LEN. */
enum mqtt_outgoing_result mqtt_outgoing_make(struct mqtt_outgoing *outgoing,
                                             const struct message *message,
                                             struct engine_publication *out, char *reason);

#endif
