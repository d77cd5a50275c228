/* One write: sends a batch and collects the acknowledgements. The order is that of the batch,
 * except for messages that the broker refused or ended a connection for: they come later
 * (mqtt_doubt.h). The sink's thread. */
#ifndef MQFLEET_SINK_MQTT_FLIGHT_H
#define MQFLEET_SINK_MQTT_FLIGHT_H

#include "mqtt_doubt.h"
#include "mqtt_link.h"
#include "mqtt_outgoing.h"
#include "sink/sink_type.h"

struct mqtt_flight {
    struct mqtt_link *link;
    struct mqtt_outgoing *outgoing;
    struct mqtt_doubt doubt; /* across writes */

    /* during a write */
    struct sink_batch *batch;
    struct mqtt_doubt_list refused_before;   /* in earlier writes */
    size_t next, next_suspect, next_refused; /* the first message that was not looked at */
    size_t in_flight;                        /* sent, without an answer */
    size_t sent, refusals;
    size_t lost; /* in flight when the connection ended */
    size_t first_lost;
    bool others_pass; /* a message was accepted on this connection */
    bool stopped;     /* nothing more is sent */
    bool full;        /* nothing more is sent before the next answer */
    int64_t answered_at_ms, send_until_ms;
    size_t loops; /* messages that had passed this sink before */
    const char *loop_topic;
};

/* Both are borrowed; the answers of the link go to the flight. */
void mqtt_flight_init(struct mqtt_flight *flight, struct mqtt_link *link,
                      struct mqtt_outgoing *outgoing);
/* As sink_type.write. Sends for about a second, then waits up to timeout_ms for each next answer.
 */
enum err mqtt_flight_write(struct mqtt_flight *flight, struct sink_batch *batch) MUST_CHECK;

#endif
