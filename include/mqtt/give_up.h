/* Why a publication is given up: it is not sent again, and its caller is notified. One row per
 * reason. Pure. */
#ifndef MQFLEET_MQTT_GIVE_UP_H
#define MQFLEET_MQTT_GIVE_UP_H

#include "base/telemetry/metrics.h"

/* X(symbol, label, metric, text): metrics and answers show the label as the reason. */
#define GIVE_UP_TABLE(X)                                                                           \
    X(GIVE_UP_CONNECTION_LOST, "connection_lost", METRIC_GIVEN_UP_LOST,                            \
      "the broker ended the connection each time this publication was sent")                       \
    X(GIVE_UP_NOT_AUTHORIZED, "not_authorized", METRIC_GIVEN_UP_NOT_AUTHORIZED,                    \
      "the broker refused the publication: not authorized")                                        \
    X(GIVE_UP_TOPIC, "topic_name_invalid", METRIC_GIVEN_UP_TOPIC,                                  \
      "the broker refused the publication: topic name invalid")                                    \
    X(GIVE_UP_TOO_LARGE, "packet_too_large", METRIC_GIVEN_UP_TOO_LARGE,                            \
      "the broker refused the publication: packet too large")                                      \
    X(GIVE_UP_FORMAT, "payload_format_invalid", METRIC_GIVEN_UP_FORMAT,                            \
      "the broker refused the publication: payload format invalid")                                \
    X(GIVE_UP_RETAIN, "retain_not_supported", METRIC_GIVEN_UP_RETAIN,                              \
      "the broker refused the publication: retained messages are not supported")                   \
    X(GIVE_UP_QOS, "qos_not_supported", METRIC_GIVEN_UP_QOS,                                       \
      "the broker refused the publication: this QoS is not supported")                             \
    X(GIVE_UP_PROTOCOL, "protocol_error", METRIC_GIVEN_UP_PROTOCOL,                                \
      "each time, the broker's acknowledgement did not match the QoS of the publication")          \
    X(GIVE_UP_NOT_COMPLETED, "not_completed", METRIC_GIVEN_UP_NOT_COMPLETED,                       \
      "the broker received the publication (PUBREC), but ended the connection each time "          \
      "PUBREL was sent")                                                                           \
    X(GIVE_UP_EXPIRED, "expired", METRIC_GIVEN_UP_EXPIRED,                                         \
      "the broker did not acknowledge the publication within publish_timeout_ms and "              \
      "publish_resend_ms")                                                                         \
    X(GIVE_UP_NOT_SENT, "not_sent", METRIC_GIVEN_UP_NOT_SENT,                                      \
      "the publication was not sent: the broker acknowledges nothing")                             \
    X(GIVE_UP_SINK_FULL, "sink_full", METRIC_GIVEN_UP_SINK_FULL,                                   \
      "the client's sink is full, so answers of the broker could not be read")                     \
    X(GIVE_UP_DROPPED, "dropped", METRIC_GIVEN_UP_DROPPED, "dropped by request")

enum give_up {
#define GIVE_UP_SYMBOL(symbol, label, metric, text) symbol,
    GIVE_UP_TABLE(GIVE_UP_SYMBOL) GIVE_UP_COUNT
#undef GIVE_UP_SYMBOL
};

const char *give_up_label(enum give_up reason); /* static */
const char *give_up_text(enum give_up reason);  /* static */
enum metric give_up_metric(enum give_up reason);

#endif
