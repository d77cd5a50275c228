/* Process-wide counters and histograms, one row each. Atomic; any thread.
 * src/http/api/ops/api_metrics.c collects the gauges when they are scraped. */
#ifndef MQFLEET_TELEMETRY_METRICS_H
#define MQFLEET_TELEMETRY_METRICS_H

#include <stddef.h>
#include <stdint.h>

/* X(symbol, name, labels, help). Names follow the Prometheus conventions. A label has few, fixed
 * values, never a client, a topic or an address. Rows with the same name are adjacent and share the
 * help of the first. */
#define GIVEN_UP_TOTAL "mqfleet_publications_given_up_total"
#define METRICS_OF_PUBLICATIONS(X)                                                                 \
    X(METRIC_GIVEN_UP_LOST, GIVEN_UP_TOTAL, "reason=\"connection_lost\"",                          \
      "Publications that are not sent again, by reason: the broker closed the connection at "      \
      "them (connection_lost) or gave a reason code (such as packet_too_large), did not "          \
      "acknowledge them (expired) or those before them (not_sent), its answers could not be "      \
      "read because the client's sink is full (sink_full), or a caller dropped them (dropped).")   \
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
      "QoS 2 publications that a broker acknowledged with PUBACK, as if they had QoS 1.")          \
    X(METRIC_PUBLISH_BUSY, "mqfleet_publications_busy_total", "",                                  \
      "Publications refused (503) because too many, or too many bytes, already wait for an "       \
      "acknowledgement of their broker.")                                                          \
    X(METRIC_PUBLISH_THROTTLED, "mqfleet_publications_throttled_total", "",                        \
      "Publications refused (429) because similar ones ended the connection of their client.")

#define EVENTS_UNKEPT_TOTAL "mqfleet_events_not_kept_total"

#define LOG_DROPPED_TOTAL "mqfleet_log_lines_dropped_total"
#define METRICS_OF_LOG(X)                                                                          \
    X(METRIC_LOG_DROPPED_DEBUG, LOG_DROPPED_TOTAL, "level=\"debug\"",                              \
      "Log lines dropped because stderr was not read fast enough or could not be written, by "     \
      "level. audit: lines of the audit trail.")                                                   \
    X(METRIC_LOG_DROPPED_INFO, LOG_DROPPED_TOTAL, "level=\"info\"", "")                            \
    X(METRIC_LOG_DROPPED_WARN, LOG_DROPPED_TOTAL, "level=\"warn\"", "")                            \
    X(METRIC_LOG_DROPPED_ERROR, LOG_DROPPED_TOTAL, "level=\"error\"", "")                          \
    X(METRIC_LOG_DROPPED_AUDIT, LOG_DROPPED_TOTAL, "level=\"audit\"", "")

#define METRICS_TABLE(X)                                                                           \
    X(METRIC_RECEIVED_QOS0, "mqfleet_messages_received_total", "qos=\"0\"",                        \
      "Messages received from brokers.")                                                           \
    X(METRIC_RECEIVED_QOS1, "mqfleet_messages_received_total", "qos=\"1\"", "")                    \
    X(METRIC_RECEIVED_QOS2, "mqfleet_messages_received_total", "qos=\"2\"", "")                    \
    X(METRIC_BYTES_RECEIVED, "mqfleet_messages_received_bytes_total", "",                          \
      "Payload bytes of received messages.")                                                       \
    X(METRIC_MESSAGES_SENT, "mqfleet_messages_sent_total", "",                                     \
      "Messages published by clients: acknowledged by the broker, or sent with QoS 0.")            \
    X(METRIC_BYTES_SENT, "mqfleet_messages_sent_bytes_total", "",                                  \
      "Payload bytes of published messages.")                                                      \
    X(METRIC_PUBLISH_FAILED, "mqfleet_publish_failures_total", "",                                 \
      "Publications that failed or whose outcome is unknown.")                                     \
    METRICS_OF_PUBLICATIONS(X)                                                                     \
    X(METRIC_DROPPED_SINK_FULL, "mqfleet_messages_dropped_total", "reason=\"sink_full\"",          \
      "Received messages that were dropped. QoS 0: the sink's queue was full, the client had its " \
      "share of the queue or exceeded its limits or a quota, the sink refused them, or memory "    \
      "ran out. "                                                                                  \
      "best_effort: copies for the sinks in `also` of a route, of any QoS. dead_letter_full: "     \
      "rejected messages of QoS 0, when the queue of the dead letter sink was full. "              \
      "QoS 1 and 2: they were waiting for the sink when a non-persistent session ended.")          \
    X(METRIC_DROPPED_OVER_SHARE, "mqfleet_messages_dropped_total", "reason=\"over_share\"", "")    \
    X(METRIC_DROPPED_OVER_LIMIT, "mqfleet_messages_dropped_total", "reason=\"over_limit\"", "")    \
    X(METRIC_DROPPED_OVER_QUOTA, "mqfleet_messages_dropped_total", "reason=\"over_quota\"", "")    \
    X(METRIC_DROPPED_SINK_REFUSED, "mqfleet_messages_dropped_total", "reason=\"sink_refused\"",    \
      "")                                                                                          \
    X(METRIC_DROPPED_BEST_EFFORT, "mqfleet_messages_dropped_total", "reason=\"best_effort\"", "")  \
    X(METRIC_DROPPED_MEMORY, "mqfleet_messages_dropped_total", "reason=\"memory\"", "")            \
    X(METRIC_DROPPED_SESSION_ENDED, "mqfleet_messages_dropped_total", "reason=\"session_ended\"",  \
      "")                                                                                          \
    X(METRIC_DROPPED_DEAD_LETTER, "mqfleet_messages_dropped_total", "reason=\"dead_letter_full\"", \
      "")                                                                                          \
    X(METRIC_LIMIT_PAUSES, "mqfleet_limit_pauses_total", "",                                       \
      "How often a message of QoS 1 or 2 had to wait because of the limits of its client.")        \
    X(METRIC_QUOTA_CONNECTS, "mqfleet_quota_exceeded_total", "quota=\"connects_per_s\"",           \
      "How often a client waited before it connected, a message waited or was dropped, or a "      \
      "publication was refused, because this quota of its scope was used up.")                     \
    X(METRIC_QUOTA_MESSAGES, "mqfleet_quota_exceeded_total", "quota=\"messages_per_s\"", "")       \
    X(METRIC_QUOTA_PUBLICATIONS, "mqfleet_quota_exceeded_total", "quota=\"publications_per_s\"",   \
      "")                                                                                          \
    X(METRIC_MESSAGES_FILTERED, "mqfleet_messages_filtered_total", "",                             \
      "Received messages of which the script of a route made nothing.")                            \
    X(METRIC_SKIPPED_OVERSIZE, "mqfleet_messages_skipped_total", "reason=\"oversize\"",            \
      "Messages that were discarded and acknowledged without reaching a sink. oversize: larger "   \
      "than max_packet_bytes. Others: the broker repeated a message that had ended a connection.") \
    X(METRIC_SKIPPED_TOPIC, "mqfleet_messages_skipped_total", "reason=\"malformed_topic\"", "")    \
    X(METRIC_SKIPPED_ALIAS, "mqfleet_messages_skipped_total", "reason=\"unknown_alias\"", "")      \
    X(METRIC_SKIPPED_CONTENT, "mqfleet_messages_skipped_total", "reason=\"malformed_packet\"", "") \
    X(METRIC_SINK_ACCEPTED, "mqfleet_sink_accepted_total", "", "Messages stored by a sink.")       \
    X(METRIC_SINK_ERRORS, "mqfleet_sink_errors_total", "",                                         \
      "Failed writes to a sink; each is retried.")                                                 \
    X(METRIC_DEAD_LETTERS_WRITTEN, "mqfleet_dead_letters_written_total", "",                       \
      "Dead letters stored by a sink.")                                                            \
    X(METRIC_DEAD_LETTERS_REPLAYED, "mqfleet_dead_letters_replayed_total", "",                     \
      "Dead letters that were replayed and stored, by callers of this node.")                      \
    X(METRIC_DEAD_LETTERS_DROPPED, "mqfleet_dead_letters_dropped_total", "",                       \
      "Dead letters that callers of this node deleted.")                                           \
    X(METRIC_SINK_LOOPS, "mqfleet_sink_loops_total", "",                                           \
      "Messages that a sink of the type mqtt did not forward, because they had passed it before.") \
    X(METRIC_SINK_PAUSES, "mqfleet_sink_pauses_total", "",                                         \
      "How often the sink paused (mqfleet_sink_paused).")                                          \
    X(METRIC_CONNECT_ONLINE, "mqfleet_connect_attempts_total", "result=\"online\"",                \
      "Attempts to bring a client online, by result: online, or the step that failed. refused: "   \
      "by the broker with a reason code; denied: by broker_allow or broker_deny.")                 \
    X(METRIC_CONNECT_DNS, "mqfleet_connect_attempts_total", "result=\"dns\"", "")                  \
    X(METRIC_CONNECT_DENIED, "mqfleet_connect_attempts_total", "result=\"denied\"", "")            \
    X(METRIC_CONNECT_TCP, "mqfleet_connect_attempts_total", "result=\"tcp\"", "")                  \
    X(METRIC_CONNECT_TLS, "mqfleet_connect_attempts_total", "result=\"tls\"", "")                  \
    X(METRIC_CONNECT_TIMEOUT, "mqfleet_connect_attempts_total", "result=\"timeout\"", "")          \
    X(METRIC_CONNECT_REFUSED, "mqfleet_connect_attempts_total", "result=\"refused\"", "")          \
    X(METRIC_CONNECT_OTHER, "mqfleet_connect_attempts_total", "result=\"other\"", "")              \
    X(METRIC_TLS_FULL, "mqfleet_tls_handshakes_total", "session=\"new\"",                          \
      "TLS handshakes with brokers, new or resumed. Engine reactor only.")                         \
    X(METRIC_TLS_RESUMED, "mqfleet_tls_handshakes_total", "session=\"resumed\"", "")               \
    X(METRIC_LOST_CLOSED, "mqfleet_connections_lost_total", "reason=\"closed\"",                   \
      "Lost connections of online clients. closed: without a reason; keepalive: the broker did "   \
      "not answer in time; disconnected: with a reason code; protocol: a protocol error; sink: "   \
      "no such sink.")                                                                             \
    X(METRIC_LOST_KEEPALIVE, "mqfleet_connections_lost_total", "reason=\"keepalive\"", "")         \
    X(METRIC_LOST_TOLD, "mqfleet_connections_lost_total", "reason=\"disconnected\"", "")           \
    X(METRIC_LOST_PROTOCOL, "mqfleet_connections_lost_total", "reason=\"protocol\"", "")           \
    X(METRIC_LOST_SINK, "mqfleet_connections_lost_total", "reason=\"sink\"", "")                   \
    X(METRIC_LOST_OTHER, "mqfleet_connections_lost_total", "reason=\"other\"", "")                 \
    X(METRIC_SESSIONS_LOST, "mqfleet_sessions_lost_total", "",                                     \
      "Connections on which the broker no longer had the client's session: messages that "         \
      "arrived in the meantime are lost.")                                                         \
    X(METRIC_SILENCES, "mqfleet_client_silences_total", "",                                        \
      "How often a client became silent: no message for its expect_message_within_s.")             \
    X(METRIC_SILENCE_RESUBSCRIBES, "mqfleet_silence_actions_total", "action=\"resubscribe\"",      \
      "What nodes did about silent clients (on_silence).")                                         \
    X(METRIC_SILENCE_RECONNECTS, "mqfleet_silence_actions_total", "action=\"reconnect\"", "")      \
    X(METRIC_INCIDENTS, "mqfleet_broker_incidents_total", "",                                      \
      "Broker incidents that began: no client of this node could reach the broker any more.")      \
    X(METRIC_CONFLICTS, "mqfleet_kicks_total", "",                                                 \
      "Clients disconnected because another connection uses their identifier; a cool-down "        \
      "follows.")                                                                                  \
    X(METRIC_CLAIMED, "mqfleet_clients_claimed_total", "",                                         \
      "Clients that were assigned to this node and started.")                                      \
    X(METRIC_RELEASED, "mqfleet_clients_released_total", "", "Clients given back by this node.")   \
    X(METRIC_REBALANCED, "mqfleet_clients_rebalanced_total", "",                                   \
      "Clients that this node moved to an emptier one, by itself or because an operator asked.")   \
    X(METRIC_NODES_REAPED, "mqfleet_nodes_reaped_total", "",                                       \
      "Dead nodes whose clients this node took away while it was leader.")                         \
    X(METRIC_REAPED, "mqfleet_clients_reaped_total", "",                                           \
      "Clients taken away from dead nodes by this node while it was leader.")                      \
    X(METRIC_FENCED, "mqfleet_fenced_total", "",                                                   \
      "How often this node was fenced: it drops all connections and joins again.")                 \
    X(METRIC_RESTORED, "mqfleet_clients_restored_total", "",                                       \
      "Clients restored after Redis lost data.")                                                   \
    X(METRIC_HEARTBEATS_OK, "mqfleet_heartbeats_total", "result=\"ok\"",                           \
      "Heartbeats, by result: ok if Redis answered.")                                              \
    X(METRIC_HEARTBEATS_FAILED, "mqfleet_heartbeats_total", "result=\"failed\"", "")               \
    X(METRIC_REDIS_ERRORS, "mqfleet_redis_errors_total", "",                                       \
      "Failed Redis calls, including failed connection attempts.")                                 \
    X(METRIC_PEER_ERRORS, "mqfleet_peer_errors_total", "", "Failed calls to other nodes.")         \
    X(METRIC_HTTP_2XX, "mqfleet_http_requests_total", "code=\"2xx\"",                              \
      "Answered HTTP requests, by class of the status code.")                                      \
    X(METRIC_HTTP_3XX, "mqfleet_http_requests_total", "code=\"3xx\"", "")                          \
    X(METRIC_HTTP_4XX, "mqfleet_http_requests_total", "code=\"4xx\"", "")                          \
    X(METRIC_HTTP_5XX, "mqfleet_http_requests_total", "code=\"5xx\"", "")                          \
    X(METRIC_HTTP_DENIED, "mqfleet_http_denied_total", "",                                         \
      "HTTP requests without a valid token or with an insufficient role.")                         \
    X(METRIC_HTTP_REFUSED, "mqfleet_http_overload_total", "",                                      \
      "HTTP requests refused and connections closed because of overload.")                         \
    X(METRIC_STREAM_DROPPED, "mqfleet_stream_events_dropped_total", "",                            \
      "Events that readers of streams missed because they read too slowly or too many arrived "    \
      "at once.")                                                                                  \
    X(METRIC_HISTORIES_SAVED, "mqfleet_histories_saved_total", "",                                 \
      "Histories of clients that this node stored in Redis while the clients ran.")                \
    X(METRIC_EVENTS_KEPT, "mqfleet_events_kept_total", "",                                         \
      "Events of this node that were added to the stream of events in Redis.")                     \
    X(METRIC_EVENTS_UNKEPT_RATE, EVENTS_UNKEPT_TOTAL, "reason=\"rate\"",                           \
      "Events of this node that are not in the stream in Redis. rate: more than "                  \
      "events.client_rate; queue_full: more than the node could send, or memory ran out; redis: "  \
      "Redis did not answer or was full.")                                                         \
    X(METRIC_EVENTS_UNKEPT_QUEUE, EVENTS_UNKEPT_TOTAL, "reason=\"queue_full\"", "")                \
    X(METRIC_EVENTS_UNKEPT_REDIS, EVENTS_UNKEPT_TOTAL, "reason=\"redis\"", "")                     \
    X(METRIC_OUT_OF_MEMORY, "mqfleet_out_of_memory_total", "",                                     \
      "Failed memory allocations; the operation was refused or is retried.")                       \
    METRICS_OF_LOG(X)

/* X(symbol, name, labels, help): seconds, in the same buckets for all. Rows as above. */
#define METRICS_HISTOGRAMS(X)                                                                      \
    X(HISTOGRAM_CONNECT, "mqfleet_connect_duration_seconds", "",                                   \
      "From the start of a connection attempt until the client is online.")                        \
    X(HISTOGRAM_PUBLISH, "mqfleet_publish_duration_seconds", "",                                   \
      "From accepting a publication until the broker has acknowledged it; QoS 0: until it is "     \
      "sent.")                                                                                     \
    X(HISTOGRAM_SINK, "mqfleet_sink_latency_seconds", "",                                          \
      "From receiving a message until the sink has stored it.")                                    \
    X(HISTOGRAM_REDIS, "mqfleet_redis_call_duration_seconds", "", "Duration of calls to Redis.")   \
    X(HISTOGRAM_HEARTBEAT, "mqfleet_heartbeat_duration_seconds", "",                               \
      "From sending a heartbeat until Redis has answered it.")                                     \
    X(HISTOGRAM_PEER, "mqfleet_peer_call_duration_seconds", "",                                    \
      "Duration of calls to other nodes; parallel calls count as one.")                            \
    X(HISTOGRAM_HTTP, "mqfleet_http_request_duration_seconds", "",                                 \
      "From the first line of a request until its answer is complete; without streams.")           \
    X(HISTOGRAM_REHOME, "mqfleet_rehome_duration_seconds", "",                                     \
      "From the leader's first check that missed a dead node's heartbeat until the last of its "   \
      "clients could be assigned again.")

enum metric {
#define METRIC_SYMBOL(symbol, name, labels, help) symbol,
    METRICS_TABLE(METRIC_SYMBOL) METRIC_COUNT
};

enum histogram { METRICS_HISTOGRAMS(METRIC_SYMBOL) HISTOGRAM_COUNT };
#undef METRIC_SYMBOL

struct metric_description {
    const char *name;
    const char *labels; /* `a="b"`; "": none */
    const char *help;   /* "": as in the row above */
};

void metric_add(enum metric metric, int64_t amount);
int64_t metric_get(enum metric metric);
const struct metric_description *metric_describe(enum metric metric); /* static */

#define HISTOGRAM_BUCKETS 17 /* the last bucket: everything above the largest bound */

/* Bounds of all buckets but the last, in microseconds, ascending. */
extern const int64_t histogram_bounds_us[HISTOGRAM_BUCKETS - 1];

struct histogram_values {
    int64_t counts[HISTOGRAM_BUCKETS]; /* one count per bucket, not cumulative */
    int64_t sum_us;
};

/* One more observation of that many microseconds (negative: 0). Pure. */
void histogram_values_add(struct histogram_values *values, int64_t us);
int64_t histogram_values_count(const struct histogram_values *values);
/* Microseconds that this part (0 to 1) of the observations did not exceed, interpolated within a
 * bucket; above the largest bound: that bound. -1: there are no observations. Pure. */
int64_t histogram_values_quantile(const struct histogram_values *values, double part);

/* Adds `count` observations of that many microseconds (negative: 0). */
void histogram_add(enum histogram histogram, int64_t us, int64_t count);
void histogram_add_values(enum histogram histogram, const struct histogram_values *values);
void histogram_get(enum histogram histogram, struct histogram_values *out);
const struct metric_description *histogram_describe(enum histogram histogram); /* static */

#endif
