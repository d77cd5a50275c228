/* Process-wide counters and gauges: one row adds one. Atomic; any thread. */
#ifndef MQFLEET_BASE_METRICS_H
#define MQFLEET_BASE_METRICS_H

#include <stdint.h>

/* X(symbol, name, help). Names by the Prometheus conventions. Counters end in _total. */
#define METRICS_TABLE(X)                                                                           \
    X(METRIC_MESSAGES_RECEIVED, "mqfleet_messages_received_total", "PUBLISH packets received")     \
    X(METRIC_BYTES_RECEIVED, "mqfleet_message_bytes_received_total", "payload bytes received")     \
    X(METRIC_MESSAGES_SENT, "mqfleet_messages_sent_total", "publications acknowledged or sent")    \
    X(METRIC_BYTES_SENT, "mqfleet_message_bytes_sent_total", "payload bytes published")            \
    X(METRIC_PUBLISH_FAILED, "mqfleet_publish_failed_total", "publications that failed")           \
    X(METRIC_DROPPED_SINK_FULL, "mqfleet_messages_dropped_sink_full_total",                        \
      "QoS 0 messages dropped because the sink's queue was full")                                  \
    X(METRIC_DROPPED_SINK_REFUSED, "mqfleet_messages_dropped_sink_refused_total",                  \
      "QoS 0 messages dropped because the sink failed")                                            \
    X(METRIC_DROPPED_MEMORY, "mqfleet_messages_dropped_memory_total",                              \
      "QoS 0 messages dropped because memory ran out")                                             \
    X(METRIC_SINK_ACCEPTED, "mqfleet_sink_accepted_total", "messages accepted by a sink")          \
    X(METRIC_SINK_ERRORS, "mqfleet_sink_errors_total", "failed writes to a sink, each retried")    \
    X(METRIC_CONNECT_ATTEMPTS, "mqfleet_connect_attempts_total", "connections begun")              \
    X(METRIC_CONNECT_FAILED, "mqfleet_connect_failed_total", "connections that failed")            \
    X(METRIC_CONNECTIONS_LOST, "mqfleet_connections_lost_total", "connections lost once online")   \
    X(METRIC_CONFLICTS, "mqfleet_conflicts_total", "clients released as in conflict")              \
    X(METRIC_CLAIMED, "mqfleet_claimed_total", "clients claimed by this node")                     \
    X(METRIC_RELEASED, "mqfleet_released_total", "clients given back by this node")                \
    X(METRIC_REAPED, "mqfleet_reaped_total", "clients taken from dead nodes by this node")         \
    X(METRIC_FENCED, "mqfleet_fenced_total", "times this node was told it is fenced")              \
    X(METRIC_RESTORED, "mqfleet_restored_total", "clients put back after Redis lost its data")     \
    X(METRIC_HEARTBEATS_FAILED, "mqfleet_heartbeats_failed_total", "beats that got no answer")     \
    X(METRIC_REDIS_ERRORS, "mqfleet_redis_errors_total", "Redis calls that failed")                \
    X(METRIC_PEER_ERRORS, "mqfleet_peer_errors_total", "calls to other nodes that failed")         \
    X(METRIC_HTTP_REQUESTS, "mqfleet_http_requests_total", "HTTP requests answered")               \
    X(METRIC_HTTP_DENIED, "mqfleet_http_denied_total",                                             \
      "HTTP requests without the right to make them")                                              \
    X(METRIC_HTTP_REFUSED, "mqfleet_http_refused_total", "HTTP requests refused as overload")      \
    X(METRIC_STREAM_DROPPED, "mqfleet_stream_events_dropped_total",                                \
      "events not sent to a reader that was too slow")

enum metric {
#define METRIC_SYMBOL(symbol, name, help) symbol,
    METRICS_TABLE(METRIC_SYMBOL)
#undef METRIC_SYMBOL
        METRIC_COUNT
};

void metric_add(enum metric metric, int64_t amount);
int64_t metric_get(enum metric metric);
const char *metric_name(enum metric metric);
const char *metric_help(enum metric metric);

#endif
