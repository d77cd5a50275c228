/* Process-wide counters and histograms: a row adds one. Atomic; any thread. What can be read when
 * it is asked for (gauges) is no row here: src/http/api_metrics.c collects it. */
#ifndef MQFLEET_BASE_METRICS_H
#define MQFLEET_BASE_METRICS_H

#include <stddef.h>
#include <stdint.h>

/* X(symbol, name, labels, help): names by the Prometheus conventions; a label has few, fixed
 * values, never a client, a topic or an address. Rows of one name stand together and share the
 * first help.
 */
#define GIVEN_UP_TOTAL "mqfleet_publications_given_up_total"
#define METRICS_OF_PUBLICATIONS(X)                                                                 \
    X(METRIC_GIVEN_UP_LOST, GIVEN_UP_TOTAL, "reason=\"connection_lost\"",                          \
      "Publications that are not sent again, by the reason: the broker ended the connection at "   \
      "them, or said in an acknowledgement what ends one (as packet_too_large), it never "         \
      "acknowledged them (expired) or those before them (not_sent), its answers could not be "     \
      "read because the client's sink is full (sink_full), or somebody dropped them.")             \
    X(METRIC_GIVEN_UP_NOT_AUTHORIZED, GIVEN_UP_TOTAL, "reason=\"not_authorized\"", "")             \
    X(METRIC_GIVEN_UP_TOPIC, GIVEN_UP_TOTAL, "reason=\"topic_name_invalid\"", "")                  \
    X(METRIC_GIVEN_UP_TOO_LARGE, GIVEN_UP_TOTAL, "reason=\"packet_too_large\"", "")                \
    X(METRIC_GIVEN_UP_FORMAT, GIVEN_UP_TOTAL, "reason=\"payload_format_invalid\"", "")             \
    X(METRIC_GIVEN_UP_RETAIN, GIVEN_UP_TOTAL, "reason=\"retain_not_supported\"", "")               \
    X(METRIC_GIVEN_UP_QOS, GIVEN_UP_TOTAL, "reason=\"qos_not_supported\"", "")                     \
    X(METRIC_GIVEN_UP_PROTOCOL, GIVEN_UP_TOTAL, "reason=\"protocol_error\"", "")                   \
    X(METRIC_GIVEN_UP_NOT_COMPLETED, GIVEN_UP_TOTAL, "reason=\"not_completed\"", "")               \
    X(METRIC_GIVEN_UP_EXPIRED, GIVEN_UP_TOTAL, "reason=\"expired\"", "")                           \
    X(METRIC_GIVEN_UP_NOT_SENT, GIVEN_UP_TOTAL, "reason=\"not_sent\"", "")                         \
    X(METRIC_GIVEN_UP_SINK_FULL, GIVEN_UP_TOTAL, "reason=\"sink_full\"", "")                       \
    X(METRIC_GIVEN_UP_DROPPED, GIVEN_UP_TOTAL, "reason=\"dropped\"", "")                           \
    X(METRIC_ACKNOWLEDGED_AT_QOS1, "mqfleet_publications_acknowledged_at_qos1_total", "",          \
      "Publications of QoS 2 that a broker acknowledged with PUBACK, as if they were of QoS 1.")   \
    X(METRIC_PUBLISH_BUSY, "mqfleet_publications_busy_total", "",                                  \
      "Publications refused (503): their broker has its share of those that wait for an "          \
      "acknowledgement, in number or in bytes.")                                                   \
    X(METRIC_PUBLISH_THROTTLED, "mqfleet_publications_throttled_total", "",                        \
      "Publications refused (429): others like them ended the connection of their client.")

#define LOG_DROPPED_TOTAL "mqfleet_log_lines_dropped_total"
#define METRICS_OF_LOG(X)                                                                          \
    X(METRIC_LOG_DROPPED_DEBUG, LOG_DROPPED_TOTAL, "level=\"debug\"",                              \
      "Log lines dropped, by their level: nobody read stderr fast enough, or it took nothing. "    \
      "audit: lines of the audit trail.")                                                          \
    X(METRIC_LOG_DROPPED_INFO, LOG_DROPPED_TOTAL, "level=\"info\"", "")                            \
    X(METRIC_LOG_DROPPED_WARN, LOG_DROPPED_TOTAL, "level=\"warn\"", "")                            \
    X(METRIC_LOG_DROPPED_ERROR, LOG_DROPPED_TOTAL, "level=\"error\"", "")                          \
    X(METRIC_LOG_DROPPED_AUDIT, LOG_DROPPED_TOTAL, "level=\"audit\"", "")

#define METRICS_TABLE(X)                                                                            \
    X(METRIC_RECEIVED_QOS0, "mqfleet_messages_received_total", "qos=\"0\"",                         \
      "Messages received from brokers.")                                                            \
    X(METRIC_RECEIVED_QOS1, "mqfleet_messages_received_total", "qos=\"1\"", "")                     \
    X(METRIC_RECEIVED_QOS2, "mqfleet_messages_received_total", "qos=\"2\"", "")                     \
    X(METRIC_BYTES_RECEIVED, "mqfleet_messages_received_bytes_total", "",                           \
      "Payload of the messages received.")                                                          \
    X(METRIC_MESSAGES_SENT, "mqfleet_messages_sent_total", "",                                      \
      "Messages published for clients: acknowledged by the broker, or sent with QoS 0.")            \
    X(METRIC_BYTES_SENT, "mqfleet_messages_sent_bytes_total", "",                                   \
      "Payload of the messages published.")                                                         \
    X(METRIC_PUBLISH_FAILED, "mqfleet_publish_failures_total", "",                                  \
      "Messages that were to be published and failed, or whose outcome is not known.")              \
    METRICS_OF_PUBLICATIONS(X)                                                                      \
    X(METRIC_DROPPED_SINK_FULL, "mqfleet_messages_dropped_total", "reason=\"sink_full\"",           \
      "Messages received and dropped. QoS 0: the sink's queue was full, the sink took none, "       \
      "memory ran out. QoS 1 and 2: they waited for the sink when a session that is not kept "      \
      "ended.")                                                                                     \
    X(METRIC_DROPPED_SINK_REFUSED, "mqfleet_messages_dropped_total", "reason=\"sink_refused\"",     \
      "")                                                                                           \
    X(METRIC_DROPPED_MEMORY, "mqfleet_messages_dropped_total", "reason=\"memory\"", "")             \
    X(METRIC_DROPPED_SESSION_ENDED, "mqfleet_messages_dropped_total", "reason=\"session_ended\"",   \
      "")                                                                                           \
    X(METRIC_SKIPPED_OVERSIZE, "mqfleet_messages_skipped_total", "reason=\"oversize\"",             \
      "Messages that reached no sink: read, thrown away and acknowledged. oversize: above "         \
      "max_packet_bytes; else the broker sent again what had ended a connection.")                  \
    X(METRIC_SKIPPED_TOPIC, "mqfleet_messages_skipped_total", "reason=\"malformed_topic\"", "")     \
    X(METRIC_SKIPPED_ALIAS, "mqfleet_messages_skipped_total", "reason=\"unknown_alias\"", "")       \
    X(METRIC_SKIPPED_CONTENT, "mqfleet_messages_skipped_total", "reason=\"malformed_packet\"", "")  \
    X(METRIC_SINK_ACCEPTED, "mqfleet_sink_accepted_total", "",                                      \
      "Messages that a sink has taken over for good.")                                              \
    X(METRIC_SINK_ERRORS, "mqfleet_sink_errors_total", "",                                          \
      "Writes to a sink that failed; each is tried again.")                                         \
    X(METRIC_SINK_PAUSES, "mqfleet_sink_pauses_total", "",                                          \
      "Times that the sink paused, to leave the fleet room in a Redis that they share.")            \
    X(METRIC_CONNECT_ONLINE, "mqfleet_connect_attempts_total", "result=\"online\"",                 \
      "Attempts to bring a client online, by their end: online, or where they failed. refused: by " \
      "the broker with a reason code; denied: by broker_allow and broker_deny.")                    \
    X(METRIC_CONNECT_DNS, "mqfleet_connect_attempts_total", "result=\"dns\"", "")                   \
    X(METRIC_CONNECT_DENIED, "mqfleet_connect_attempts_total", "result=\"denied\"", "")             \
    X(METRIC_CONNECT_TCP, "mqfleet_connect_attempts_total", "result=\"tcp\"", "")                   \
    X(METRIC_CONNECT_TLS, "mqfleet_connect_attempts_total", "result=\"tls\"", "")                   \
    X(METRIC_CONNECT_TIMEOUT, "mqfleet_connect_attempts_total", "result=\"timeout\"", "")           \
    X(METRIC_CONNECT_REFUSED, "mqfleet_connect_attempts_total", "result=\"refused\"", "")           \
    X(METRIC_CONNECT_OTHER, "mqfleet_connect_attempts_total", "result=\"other\"", "")               \
    X(METRIC_TLS_FULL, "mqfleet_tls_handshakes_total", "session=\"new\"",                           \
      "TLS handshakes with brokers; resumed ones are cheaper. Engine reactor.")                     \
    X(METRIC_TLS_RESUMED, "mqfleet_tls_handshakes_total", "session=\"resumed\"", "")                \
    X(METRIC_LOST_CLOSED, "mqfleet_connections_lost_total", "reason=\"closed\"",                    \
      "Connections of online clients that ended: closed without a word, silent for longer than "    \
      "the keepalive, ended by the broker with a reason code, the protocol broken, the sink not "   \
      "there.")                                                                                     \
    X(METRIC_LOST_KEEPALIVE, "mqfleet_connections_lost_total", "reason=\"keepalive\"", "")          \
    X(METRIC_LOST_TOLD, "mqfleet_connections_lost_total", "reason=\"disconnected\"", "")            \
    X(METRIC_LOST_PROTOCOL, "mqfleet_connections_lost_total", "reason=\"protocol\"", "")            \
    X(METRIC_LOST_SINK, "mqfleet_connections_lost_total", "reason=\"sink\"", "")                    \
    X(METRIC_LOST_OTHER, "mqfleet_connections_lost_total", "reason=\"other\"", "")                  \
    X(METRIC_SESSIONS_LOST, "mqfleet_sessions_lost_total", "",                                      \
      "Connections on which the broker no longer had the session that the client had left there: "  \
      "messages that came meanwhile are lost.")                                                     \
    X(METRIC_INCIDENTS, "mqfleet_broker_incidents_total", "",                                       \
      "Brokers that nobody on this node could reach any more, each time it began.")                 \
    X(METRIC_CONFLICTS, "mqfleet_kicks_total", "",                                                  \
      "Clients kicked: another client took their identifier. They rest as in conflict.")            \
    X(METRIC_CLAIMED, "mqfleet_clients_claimed_total", "",                                          \
      "Clients that this node was given and started.")                                              \
    X(METRIC_RELEASED, "mqfleet_clients_released_total", "", "Clients given back by this node.")    \
    X(METRIC_NODES_REAPED, "mqfleet_nodes_reaped_total", "",                                        \
      "Dead nodes that this node took the clients from, while it led.")                             \
    X(METRIC_REAPED, "mqfleet_clients_reaped_total", "",                                            \
      "Clients taken from dead nodes by this node, while it led.")                                  \
    X(METRIC_FENCED, "mqfleet_fenced_total", "",                                                    \
      "Times this node was told that it is fenced: it drops everything and joins anew.")            \
    X(METRIC_RESTORED, "mqfleet_clients_restored_total", "",                                        \
      "Clients put back after Redis lost its data.")                                                \
    X(METRIC_HEARTBEATS_OK, "mqfleet_heartbeats_total", "result=\"ok\"",                            \
      "Heartbeats, by whether Redis answered.")                                                     \
    X(METRIC_HEARTBEATS_FAILED, "mqfleet_heartbeats_total", "result=\"failed\"", "")                \
    X(METRIC_REDIS_ERRORS, "mqfleet_redis_errors_total", "",                                        \
      "Redis calls that failed, connecting included.")                                              \
    X(METRIC_PEER_ERRORS, "mqfleet_peer_errors_total", "", "Calls to other nodes that failed.")     \
    X(METRIC_HTTP_2XX, "mqfleet_http_requests_total", "code=\"2xx\"",                               \
      "HTTP requests answered, by the class of the status code.")                                   \
    X(METRIC_HTTP_3XX, "mqfleet_http_requests_total", "code=\"3xx\"", "")                           \
    X(METRIC_HTTP_4XX, "mqfleet_http_requests_total", "code=\"4xx\"", "")                           \
    X(METRIC_HTTP_5XX, "mqfleet_http_requests_total", "code=\"5xx\"", "")                           \
    X(METRIC_HTTP_DENIED, "mqfleet_http_denied_total", "",                                          \
      "HTTP requests without a right token, or whose role does not suffice.")                       \
    X(METRIC_HTTP_REFUSED, "mqfleet_http_overload_total", "",                                       \
      "HTTP requests refused, and connections closed, because there were too many.")                \
    X(METRIC_STREAM_DROPPED, "mqfleet_stream_events_dropped_total", "",                             \
      "Events that a reader of a stream missed: it read too slowly, or too many came at once.")     \
    X(METRIC_OUT_OF_MEMORY, "mqfleet_out_of_memory_total", "",                                      \
      "Allocations of memory that failed; what needed them was refused or is tried again.")         \
    METRICS_OF_LOG(X)

/* X(symbol, name, labels, help): seconds, in the same buckets for all. Rows as above. */
#define METRICS_HISTOGRAMS(X)                                                                      \
    X(HISTOGRAM_CONNECT, "mqfleet_connect_duration_seconds", "",                                   \
      "From the start of a connection until its client is online.")                                \
    X(HISTOGRAM_PUBLISH, "mqfleet_publish_duration_seconds", "",                                   \
      "From taking a publication over until the broker has acknowledged it; QoS 0: until it is "   \
      "sent.")                                                                                     \
    X(HISTOGRAM_SINK, "mqfleet_sink_latency_seconds", "",                                          \
      "From receiving a message until the sink has taken it over.")                                \
    X(HISTOGRAM_REDIS, "mqfleet_redis_call_duration_seconds", "",                                  \
      "Waiting for an answer of Redis.")                                                           \
    X(HISTOGRAM_HEARTBEAT, "mqfleet_heartbeat_duration_seconds", "",                               \
      "From sending a heartbeat until Redis has answered it.")                                     \
    X(HISTOGRAM_PEER, "mqfleet_peer_call_duration_seconds", "",                                    \
      "Calls to other nodes; those made at once count as one.")                                    \
    X(HISTOGRAM_HTTP, "mqfleet_http_request_duration_seconds", "",                                 \
      "From the first line of a request until its answer is made; streams are left out.")          \
    X(HISTOGRAM_REHOME, "mqfleet_rehome_duration_seconds", "",                                     \
      "From the first missing beat of a dead node that the leader saw until the last of its "      \
      "clients could be given to another.")

enum metric {
#define METRIC_SYMBOL(symbol, name, labels, help) symbol,
    METRICS_TABLE(METRIC_SYMBOL) METRIC_COUNT
};

enum histogram { METRICS_HISTOGRAMS(METRIC_SYMBOL) HISTOGRAM_COUNT };
#undef METRIC_SYMBOL

struct metric_about {
    const char *name;
    const char *labels; /* `a="b"`; "": none */
    const char *help;   /* "": that of the row above */
};

void metric_add(enum metric metric, int64_t amount);
int64_t metric_get(enum metric metric);
const struct metric_about *metric_about(enum metric metric); /* static */

#define HISTOGRAM_BUCKETS 17 /* the last: everything beyond the largest bound */

/* Bounds of all buckets but the last, in microseconds, ascending. */
extern const int64_t histogram_bounds_us[HISTOGRAM_BUCKETS - 1];

struct histogram_values {
    int64_t counts[HISTOGRAM_BUCKETS]; /* each on its own, not added up */
    int64_t sum_us;
};

/* Counts `count` observations of that many microseconds (below 0: 0). */
void histogram_add(enum histogram histogram, int64_t us, int64_t count);
void histogram_get(enum histogram histogram, struct histogram_values *out);
const struct metric_about *histogram_about(enum histogram histogram); /* static */

#endif
