/* Every setting of a node. One table drives parsing, bounds, printing and the reference.
 * Precedence, highest first: flag (--set), environment (MQFLEET_ and the name in capitals, dots as
 * _), file (YAML), default. Read-only after the start; any thread may then read it. */
#ifndef MQFLEET_CONFIG_CONF_H
#define MQFLEET_CONFIG_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <jansson.h>
#include "base/err.h"

#define CONF_SECRET 1 /* printed as *** */

/* INT(field, name, unit, default, least, most, help)
 * STR(field, name, flags, default, help)
 * ENUM(field, name, "a|b|c", default, help)      kept as text
 * BOOL(field, name, default, help)
 * LIST(field, name, help)                        comma separated, or a YAML sequence; kept as text
 */
#define CONF_TABLE(INT, STR, ENUM, BOOL, LIST)                                                      \
    STR(node_name, "node_info.name", 0, "", "name in the fleet; empty: <hostname>-<port>")          \
    STR(node_host, "node_info.host", 0, "127.0.0.1",                                                \
        "host name or address at which the other nodes reach this node")                            \
    INT(node_port, "node_info.port", "", 8080, 1, 65535, "port of the HTTP API")                    \
    STR(node_type, "node_info.type", 0, "mqtt", "label of the node in lists")                       \
    INT(node_size, "node_info.size", "clients", 10000, 0, 1000000,                                  \
        "maximum number of clients on this node")                                                   \
    STR(redis_url, "redis_config.url", CONF_SECRET, "",                                             \
        "embedded, redis://[user:pass@]host:port/db, "                                              \
        "redis+sentinel://[user:pass@]host:port,.../master/db, rediss:// (TLS, see "                \
        "docs/redis.md) or unix:path; "                                                             \
        "empty: embedded unless redis_config.host is set")                                          \
    STR(redis_host, "redis_config.host", 0, "", "Redis host, as in Go IoT")                         \
    INT(redis_port, "redis_config.port", "", 6379, 1, 65535, "Redis port, as in Go IoT")            \
    INT(redis_db, "redis_config.db", "", 0, 0, 1000000, "Redis database, as in Go IoT")             \
    STR(redis_username, "redis_config.username", 0, "", "Redis ACL user")                           \
    STR(redis_password, "redis_config.password", CONF_SECRET, "", "Redis password")                 \
    INT(redis_timeout_ms, "redis_config.timeout_ms", "ms", 2000, 50, 60000,                         \
        "timeout of one Redis connect or call")                                                     \
    STR(redis_tls_ca_file, "redis_config.tls_ca_file", 0, "",                                       \
        "CA certificates (PEM) for a Redis reached with rediss://; empty: the system's")            \
    STR(redis_tls_cert_file, "redis_config.tls_cert_file", 0, "",                                   \
        "certificate chain (PEM) presented to a Redis that asks for one (tls-auth-clients); "       \
        "empty: none")                                                                              \
    STR(redis_tls_key_file, "redis_config.tls_key_file", 0, "",                                     \
        "private key of that certificate (PEM)")                                                    \
    STR(key_prefix, "key_prefix", 0, "",                                                            \
        "prefix of every Redis key; for a Redis Cluster it contains a hash tag, such as {fleet}:")  \
    INT(min_replicas, "min_replicas", "replicas", 0, 0, 16,                                         \
        "Redis replicas that must confirm a created, changed or deleted client before the API "     \
        "answers")                                                                                  \
    INT(min_replicas_timeout_ms, "min_replicas_timeout_ms", "ms", 1000, 1, 60000,                   \
        "how long to wait for min_replicas; then the answer is 503 with an unknown outcome")        \
    ENUM(engine, "engine", "reactor|paho", "reactor",                                               \
         "MQTT implementation: mqfleet's own, or Eclipse Paho MQTT C (docs/engines.md)")            \
    INT(workers, "workers", "threads", 0, 0, 1024,                                                  \
        "worker threads, which run the connections to brokers; 0: one per core of the machine, "    \
        "which is too many in a container that may use only some of them")                          \
    INT(max_packet_bytes, "max_packet_bytes", "bytes", 16777216, 1024, 268435460,                   \
        "largest message accepted from a broker; a client's max_packet_size may be smaller")        \
    ENUM(oversize, "oversize", "skip|close", "skip",                                                \
         "what happens to a larger message: it is discarded, acknowledged and counted, or the "     \
         "connection is closed")                                                                    \
    INT(buffer_bytes, "buffer_bytes", "bytes", 268435456, 1048576, 1099511627776,                   \
        "maximum memory of one worker thread for incomplete and unsent packets; half as much "      \
        "again "                                                                                    \
        "for unacknowledged QoS 1 and 2 messages")                                                  \
    LIST(source_addresses, "source_addresses",                                                      \
         "local addresses from which connections to brokers are made, in rotation; empty: the "     \
         "system's choice")                                                                         \
    STR(http_listen, "http.listen", 0, "127.0.0.1", "address the HTTP API listens on")              \
    STR(http_tokens_file, "http.tokens_file", 0, "",                                                \
        "file of accepted tokens, one \"name role sha256:hash\" per line (docs/access.md); "        \
        "empty: "                                                                                   \
        "anyone who can reach the API has full access")                                             \
    BOOL(http_insecure, "http.insecure", false,                                                     \
         "allow http.listen and ops.listen beyond loopback without http.tokens_file")               \
    STR(http_tls_cert_file, "http.tls_cert_file", 0, "",                                            \
        "certificate chain (PEM) for HTTPS; empty: the API uses HTTP")                              \
    STR(http_tls_key_file, "http.tls_key_file", 0, "", "private key of the certificate (PEM)")      \
    LIST(http_cors_origins, "http.cors_origins",                                                    \
         "web origins whose pages may call the API, such as https://console.example.org; empty: "   \
         "none")                                                                                    \
    INT(http_body_max_bytes, "http.body_max_bytes", "bytes", 16777216, 1024, 1073741824,            \
        "largest request body")                                                                     \
    INT(http_connections_max, "http.connections_max", "", 1000, 10, 100000,                         \
        "maximum number of open HTTP connections")                                                  \
    INT(http_workers, "http.workers", "threads", 4, 1, 256, "threads that answer requests")         \
    INT(http_waiters, "http.waiters", "requests", 1000, 1, 100000,                                  \
        "maximum number of requests that wait (without a thread) for a broker, a client or "        \
        "another node")                                                                             \
    INT(http_streams_max, "http.streams_max", "streams", 64, 0, 1000,                               \
        "maximum number of open event streams (events, messages of a client)")                      \
    STR(secrets_key_file, "secrets.key_file", 0, "",                                                \
        "file of keys that encrypt clients' secrets in Redis, one \"id:base64\" per line, the "     \
        "first "                                                                                    \
        "encrypts (docs/service.md); empty: secrets are stored unencrypted")                        \
    LIST(secrets_files_allow, "secrets.files_allow",                                                \
         "absolute folders in which clients may name files (secrets, tls); empty: none")            \
    STR(secrets_env_prefix, "secrets.env_prefix", 0, "",                                            \
        "prefix of the environment variables that clients may name as secrets; empty: none")        \
    STR(ops_listen, "ops.listen", 0, "127.0.0.1", "address of the listener on ops.port")            \
    INT(ops_port, "ops.port", "", 0, 0, 65535,                                                      \
        "separate port for /metrics and /debug/pprof, which then leave the API's port; 0: none")    \
    BOOL(metrics_by_broker, "metrics.by_broker", false,                                             \
         "count clients by broker in /metrics (mqfleet_broker_clients)")                            \
    LIST(metrics_by_label, "metrics.by_label",                                                      \
         "up to 8 names of labels, by whose values clients are counted in /metrics "                \
         "(mqfleet_label_clients); empty: none")                                                    \
    INT(metrics_groups_max, "metrics.groups_max", "values", 100, 1, 10000,                          \
        "values of each label, and brokers, that /metrics shows; those with the most clients that " \
        "are not online come first, and the rest is summed as other")                               \
    STR(fleet_name, "fleet.name", 0, "",                                                            \
        "name of the fleet, stored in Redis; a node does not join a fleet with another name; "      \
        "empty: any")                                                                               \
    STR(fleet_secret_file, "fleet.secret_file", 0, "",                                              \
        "file of the secret shared by all nodes; the first line is sent, every line is accepted")   \
    STR(fleet_ca_file, "fleet.ca_file", 0, "",                                                      \
        "CA certificates (PEM) of the other nodes; empty: the system's")                            \
    INT(operations_rate, "operations.rate", "clients/s", 5000, 1, 100000,                           \
        "rate of an operation that pauses, resumes, patches or deletes many clients, unless the "   \
        "request has one")                                                                          \
    INT(operations_move_rate, "operations.move_rate", "clients/s", 100, 1, 100000,                  \
        "the same for an operation that restarts or releases many clients")                         \
    INT(audit_keep_s, "audit.keep_s", "s", 2592000, 0, 315360000,                                   \
        "how long Redis keeps the last 16 changes of a client (who, when, which fields) and ended " \
        "operations; 0: no changes are kept")                                                       \
    INT(events_kept_max, "events.kept_max", "events", 50000, 1000, 1000000,                         \
        "how many of the last events of the fleet Redis keeps, about 250 bytes each, for readers "  \
        "of /api/v1/events that reconnect")                                                         \
    INT(events_client_rate, "events.client_rate", "events/s", 100, 1, 10000,                        \
        "events of clients that a node adds to these, ten times as many at once; the others only "  \
        "reach readers that are connected")                                                         \
    STR(events_sink, "events.sink", 0, "",                                                          \
        "sink that gets the events of the fleet as messages, from the leading node; empty: none")   \
    INT(history_save_rate, "history.save_rate", "clients/s", 100, 0, 1000,                          \
        "clients whose counters and last changes a node stores in Redis, if they have changed, so " \
        "that they are known when the node dies; 0: only when a client moves or the node stops")    \
    ENUM(log_level, "log.level", "debug|info|warn|error", "info", "lowest level written")           \
    ENUM(log_format, "log.format", "logfmt|json", "logfmt", "format of a log line")                 \
    INT(log_buffer_bytes, "log.buffer_bytes", "bytes", 4194304, 65536, 1073741824,                  \
        "buffer for log lines while nobody reads stderr; lines that do not fit are dropped and "    \
        "counted")                                                                                  \
    INT(profile_heap_sample_bytes, "profile.heap_sample_bytes", "bytes", 524288, 0, 1073741824,     \
        "average number of allocated bytes between two samples of the heap profile; 0: no "         \
        "samples")                                                                                  \
    STR(state_dir, "state_dir", 0, "",                                                              \
        "folder of the embedded Redis; empty: $STATE_DIRECTORY, else "                              \
        "$XDG_STATE_HOME/mqfleet/<name>, else ~/.local/state/mqfleet/<name>")                       \
    ENUM(sink_type, "sink.type", "redis_stream|file|null", "redis_stream",                          \
         "sink of received messages, unless a client names another")                                \
    STR(sink_url, "sink.url", CONF_SECRET, "",                                                      \
        "separate Redis for redis_stream, in any form of redis_config.url except embedded; "        \
        "empty: the fleet's")                                                                       \
    INT(sink_redis_bytes_max, "sink.redis_bytes_max", "bytes", 0, 0, 1099511627776,                 \
        "redis_stream pauses while the fleet's Redis uses more memory than this (no effect with "   \
        "sink.url); 0: three quarters of maxmemory")                                                \
    STR(sink_key, "sink.key", 0, "mqtt_msg",                                                        \
        "key of the Redis stream; a template such as site-{label.site|other} makes several")        \
    INT(sink_redis_shards, "sink.redis_shards", "streams", 1, 1, 256,                               \
        "Redis streams over which the clients are distributed by their id: <sink.key>:0 to "        \
        "<sink.key>:<n-1>; 1: the stream is sink.key itself")                                       \
    INT(sink_maxlen, "sink.maxlen", "messages", 1000000, 0, 1000000000,                             \
        "approximate length to which each stream is trimmed; 0: never trimmed. With "               \
        "sink.redis_trim consumed: length at which the sink pauses; 0: no limit")                   \
    ENUM(sink_redis_trim, "sink.redis_trim", "maxlen|bytes|consumed", "maxlen",                     \
         "what redis_stream trims: the oldest entries beyond sink.maxlen or "                       \
         "sink.redis_stream_bytes_max, read or not; or only entries that every consumer group "     \
         "has acknowledged")                                                                        \
    INT(sink_redis_stream_bytes_max, "sink.redis_stream_bytes_max", "bytes", 0, 0, 1099511627776,   \
        "approximate size to which sink.redis_trim bytes trims the stream; with consumed: size "    \
        "at which the sink pauses; 0: no limit")                                                    \
    INT(sink_redis_min_replicas, "sink.redis_min_replicas", "replicas", 0, 0, 16,                   \
        "Redis replicas that must confirm a message of redis_stream before it is acknowledged; "    \
        "the limit of the wait is min_replicas_timeout_ms")                                         \
    STR(sink_redis_ignore_groups, "sink.redis_ignore_groups", 0, "",                                \
        "consumer groups of the stream that hold nothing back and are not measured, separated "     \
        "by spaces or commas")                                                                      \
    INT(sink_retry_ms, "sink.retry_ms", "ms", 0, 0, 31536000000,                                    \
        "time after which a message that the sink does not accept becomes a dead letter; 0: "       \
        "never")                                                                                    \
    STR(sink_dead_letter, "sink.dead_letter", 0, "dead_letter",                                     \
        "sink that takes the messages that another one rejects: dead_letter (the stream "           \
        "mqtt_dead in the fleet's Redis), redis_stream, file or null; empty: none, they are "       \
        "tried again")                                                                              \
    LIST(sink_files_allow, "sink.files_allow",                                                      \
         "absolute folders in which sinks of the fleet may write files; empty: none")               \
    STR(sink_path, "sink.path", 0, "", "path of the file that the file sink writes")                \
    INT(sink_queue_messages, "sink.queue_messages", "messages", 10000, 1, 10000000,                 \
        "maximum number of messages waiting for a sink")                                            \
    INT(sink_queue_bytes, "sink.queue_bytes", "bytes", 67108864, 65536, 17179869184,                \
        "maximum number of bytes waiting for a sink")                                               \
    INT(sink_batch, "sink.batch", "messages", 500, 1, 10000,                                        \
        "maximum number of messages in one write")                                                  \
    INT(heartbeat_ms, "heartbeat_ms", "ms", 1000, 100, 60000, "time between two heartbeats")        \
    INT(heartbeat_ttl_ms, "heartbeat_ttl_ms", "ms", 1200, 120, 600000,                              \
        "time to live of a heartbeat in Redis; more than heartbeat_ms")                             \
    INT(reclaim_grace_ms, "reclaim_grace_ms", "ms", 1500, 100, 600000,                              \
        "how long a heartbeat must stay missing before the leader fences the node")                 \
    INT(mass_death_wait_ms, "mass_death_wait_ms", "ms", 10000, 0, 3600000,                          \
        "replaces reclaim_grace_ms when many nodes are missing or Redis has just come back")        \
    INT(reconcile_ms, "reconcile_ms", "ms", 10000, 500, 3600000,                                    \
        "time between two comparisons of this node's clients with Redis")                           \
    INT(peer_timeout_ms, "peer_timeout_ms", "ms", 5000, 100, 60000,                                 \
        "timeout of one call to another node")                                                      \
    INT(coalesce_ms, "coalesce_ms", "ms", 2, 0, 20,                                                 \
        "while at least 2 messages arrive per interval, sockets are read once per interval: "       \
        "less CPU, more delay")                                                                     \
    INT(connect_timeout_ms, "connect_timeout_ms", "ms", 10000, 1000, 600000,                        \
        "timeout from opening the connection to CONNACK, and again to SUBACK")                      \
    INT(connect_in_flight, "connect_in_flight", "connections", 64, 1, 10000,                        \
        "maximum number of connections being opened to one broker; the nodes of the fleet share "   \
        "it equally, and each may use at least 8 of it")                                            \
    INT(connect_rate, "connect_rate", "per s", 0, 0, 1000000,                                       \
        "maximum number of connections opened to one broker per second; 0: no limit")               \
    INT(reconnect_min_ms, "reconnect_min_ms", "ms", 1000, 10, 3600000,                              \
        "shortest delay before a reconnect")                                                        \
    INT(reconnect_max_ms, "reconnect_max_ms", "ms", 60000, 10, 86400000,                            \
        "longest delay before a reconnect")                                                         \
    INT(profile_change_rate, "profile_change_rate", "per s", 100, 1, 1000000,                       \
        "how many clients of the fleet get a changed profile per second; the nodes share it "       \
        "equally")                                                                                  \
    INT(subscribe_filters_max, "subscribe_filters_max", "filters", 64, 1, 256,                      \
        "maximum number of topic filters in one SUBSCRIBE or UNSUBSCRIBE; fewer if the broker "     \
        "accepts fewer")                                                                            \
    INT(stable_ms, "stable_ms", "ms", 10000, 100, 3600000,                                          \
        "how long a connection must last before the backoff is reset")                              \
    INT(conflict_losses, "conflict_losses", "times", 3, 1, 1000,                                    \
        "consecutive losses within stable_ms of CONNACK that count as a conflict")                  \
    INT(conflict_min_ms, "conflict_min_ms", "ms", 15000, 100, 86400000,                             \
        "first cool-down of a client in conflict; it doubles each time")                            \
    INT(conflict_max_ms, "conflict_max_ms", "ms", 600000, 100, 86400000,                            \
        "longest cool-down of a client in conflict")                                                \
    INT(release_after_ms, "release_after_ms", "ms", 300000, 1000, 86400000,                         \
        "time without a connection after which the client is given to another node")                \
    ENUM(rebalance, "rebalance", "persistent|all|off", "persistent",                                \
         "clients that move by themselves from fuller to emptier nodes: those with a persistent "   \
         "session (and paused ones), all, or none")                                                 \
    INT(rebalance_rate, "rebalance_rate", "clients/s", 10, 1, 10000,                                \
        "how many clients of the fleet move by themselves")                                         \
    INT(rebalance_tolerance, "rebalance_tolerance", "%", 5, 1, 100,                                 \
        "by how much a node may exceed its equal share before its clients move by themselves")      \
    INT(rebalance_settle_ms, "rebalance_settle_ms", "ms", 60000, 0, 3600000,                        \
        "how long the fleet must be well and its nodes the same before clients move by "            \
        "themselves, and how long a client stays where it came last")                               \
    INT(publish_timeout_ms, "publish_timeout_ms", "ms", 10000, 100, 600000,                         \
        "timeout of the broker's acknowledgement of a publication")                                 \
    INT(publish_resend_ms, "publish_resend_ms", "ms", 60000, 0, 86400000,                           \
        "how much longer an unacknowledged publication is sent again in a persistent session")      \
    INT(stop_timeout_ms, "stop_timeout_ms", "ms", 30000, 1000, 600000,                              \
        "timeout of a graceful stop")                                                               \
    INT(stall_ms, "stall_ms", "ms", 15000, 1000, 600000,                                            \
        "time without progress after which a thread counts as hung: /livez fails and systemd's "    \
        "watchdog acts")                                                                            \
    INT(resolver_threads, "resolver_threads", "threads", 2, 1, 64,                                  \
        "number of parallel DNS lookups")                                                           \
    INT(dns_ttl_ms, "dns_ttl_ms", "ms", 30000, 0, 86400000, "how long a DNS answer is cached")      \
    LIST(broker_allow, "broker_allow",                                                              \
         "host patterns and networks that clients may connect to; empty: any")                      \
    LIST(broker_deny, "broker_deny",                                                                \
         "host patterns and networks that clients may not connect to; if http.listen is not a "     \
         "loopback "                                                                                \
         "address, also loopback and link-local addresses unless broker_allow names them")

struct conf {
#define CONF_INT_FIELD(field, name, unit, standard, least, most, help) int64_t field;
#define CONF_STR_FIELD(field, name, flags, standard, help)             char *field;
#define CONF_ENUM_FIELD(field, name, choices, standard, help)          char *field;
#define CONF_BOOL_FIELD(field, name, standard, help)                   bool field;
#define CONF_LIST_FIELD(field, name, help)                             char *field;
    CONF_TABLE(CONF_INT_FIELD, CONF_STR_FIELD, CONF_ENUM_FIELD, CONF_BOOL_FIELD, CONF_LIST_FIELD)
    /* sinks.NAME.FIELD: an object of objects. Values are texts, lists and maps of them, or null. */
    json_t *sinks;
    json_t *sink_origins; /* "NAME" and "NAME.FIELD": where it is given, "mqfleet.yml:7" */
};

#define CONF_FAULT_LEN  2048 /* of all faults together */
#define CONF_FAULTS_MAX 10   /* that are told at once */

/* Applies the defaults, the file (NULL: none), the environment and `sets` ("key=value" each), in
 * this order. Then checks the rules between settings and fills in computed values (node_name,
 * state_dir, redis_url). On ERR_ARGUMENT, fault is one line that names key, value and bounds. The
 * caller always calls conf_destroy. */
enum err conf_load(struct conf **out, const char *path, const char *const *sets, size_t set_count,
                   char fault[CONF_FAULT_LEN]) MUST_CHECK;
void conf_destroy(struct conf *conf);

/* The names of the settings that differ, at most names_max of them. Names are static. */
size_t conf_differences(const struct conf *a, const struct conf *b, const char **names,
                        size_t names_max);

/* Writes YAML that --config accepts; secrets are shown as ***. Without `sinks`. */
void conf_print(const struct conf *conf, FILE *out);
/* Writes the settings reference as a Markdown table. */
void conf_print_reference(FILE *out);

#endif
