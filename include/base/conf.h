/* Every setting of a node: one table drives parsing, bounds, printing and the reference.
 * Order of precedence: flag (--set), environment (MQFLEET_ and the name in capitals, dots as _),
 * file (YAML), default. Read-only after the start; any thread may read then. */
#ifndef MQFLEET_BASE_CONF_H
#define MQFLEET_BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"

#define CONF_SECRET 1 /* printed as *** */

/* INT(field, name, unit, default, least, most, help)
 * STR(field, name, flags, default, help)
 * ENUM(field, name, "a|b|c", default, help)      kept as text
 * BOOL(field, name, default, help)
 * LIST(field, name, help)                        comma separated, or a YAML sequence; kept as text
 */
#define CONF_TABLE(INT, STR, ENUM, BOOL, LIST)                                                                         \
    STR(node_name, "node_info.name", 0, "", "name in the fleet; empty: <hostname>-<port>")                             \
    STR(node_host, "node_info.host", 0, "127.0.0.1", "address the other nodes reach this node at")                     \
    INT(node_port, "node_info.port", "", 8080, 1, 65535, "port of the HTTP API")                                       \
    STR(node_type, "node_info.type", 0, "mqtt", "label shown with the node")                                           \
    INT(node_size, "node_info.size", "clients", 10000, 0, 1000000, "most clients on this node")                        \
    STR(redis_url, "redis_config.url", CONF_SECRET, "",                                                                \
        "embedded, redis://[user:pass@]host:port/db, "                                                                 \
        "redis+sentinel://[user:pass@]host:port,.../master/db, rediss:// (TLS, see docs/redis.md) or unix:path; "      \
        "empty: embedded unless redis_config.host is set")                                                             \
    STR(redis_host, "redis_config.host", 0, "", "Redis host, as in Go IoT")                                            \
    INT(redis_port, "redis_config.port", "", 6379, 1, 65535, "Redis port, as in Go IoT")                               \
    INT(redis_db, "redis_config.db", "", 0, 0, 1000000, "Redis database, as in Go IoT")                                \
    STR(redis_username, "redis_config.username", 0, "", "Redis ACL user")                                              \
    STR(redis_password, "redis_config.password", CONF_SECRET, "", "Redis password")                                    \
    INT(redis_timeout_ms, "redis_config.timeout_ms", "ms", 2000, 50, 60000,                                            \
        "limit of one Redis connect or call")                                                                          \
    STR(redis_tls_ca_file, "redis_config.tls_ca_file", 0, "",                                                          \
        "certificates, PEM, that one of a Redis reached by rediss:// must be signed by; empty: the system's")          \
    STR(redis_tls_cert_file, "redis_config.tls_cert_file", 0, "",                                                      \
        "certificate chain, PEM, presented to a Redis that asks for one (tls-auth-clients); empty: none")              \
    STR(redis_tls_key_file, "redis_config.tls_key_file", 0, "",                                                        \
        "private key of that certificate, PEM")                                                                        \
    STR(key_prefix, "key_prefix", 0, "",                                                                               \
        "put before every Redis key; on a Redis Cluster with a hash tag, such as {fleet}:")                            \
    INT(min_replicas, "min_replicas", "replicas", 0, 0, 16,                                                            \
        "Redis replicas that must have a created, changed or deleted client before the answer")                        \
    INT(min_replicas_timeout_ms, "min_replicas_timeout_ms", "ms", 1000, 1, 60000,                                      \
        "how long to wait for min_replicas; then the answer is 503, outcome unknown")                                  \
    ENUM(engine, "engine", "reactor|paho", "reactor",                                                                  \
         "what speaks MQTT: ours, or Eclipse Paho MQTT C (docs/engines.md)")                                           \
    INT(max_packet_bytes, "max_packet_bytes", "bytes", 16777216, 1024, 268435460,                                      \
        "largest message taken from a broker; a client's max_packet_size may be less")                                 \
    ENUM(                                                                                                              \
        oversize, "oversize", "skip|close", "skip",                                                                    \
        "a larger message is read, thrown away, acknowledged and counted, or ends the connection")                     \
    INT(buffer_bytes, "buffer_bytes", "bytes", 268435456, 1048576, 1099511627776,                                      \
        "most bytes that one host thread keeps of unfinished and unsent packets; half as much again for "              \
        "messages of QoS 1 and 2 under way")                                                                           \
    LIST(source_addresses, "source_addresses",                                                                         \
         "local addresses that connections to brokers are made from, in turn; empty: the "                             \
         "system's choice")                                                                                            \
    STR(http_listen, "http.listen", 0, "127.0.0.1", "address the HTTP API listens on")                                 \
    STR(http_tokens_file, "http.tokens_file", 0, "",                                                                   \
        "file of the tokens that callers must present, \"name role sha256:hash\" in a line "                           \
        "(docs/access.md); empty: everyone who reaches the API may do all")                                            \
    BOOL(http_insecure, "http.insecure", false,                                                                        \
         "allow http.listen and ops.listen beyond loopback without http.tokens_file")                                  \
    STR(http_tls_cert_file, "http.tls_cert_file", 0, "",                                                               \
        "certificate chain, PEM: the API speaks HTTPS; empty: HTTP")                                                   \
    STR(http_tls_key_file, "http.tls_key_file", 0, "", "private key of the certificate, PEM")                          \
    LIST(http_cors_origins, "http.cors_origins",                                                                       \
         "origins, as https://console.example.org, whose pages may use the API; empty: none")                          \
    INT(http_body_max_bytes, "http.body_max_bytes", "bytes", 16777216, 1024, 1073741824,                               \
        "largest request body")                                                                                        \
    INT(http_connections_max, "http.connections_max", "", 1000, 10, 100000,                                            \
        "most open HTTP connections")                                                                                  \
    INT(http_workers, "http.workers", "threads", 4, 1, 256, "threads that answer requests")                            \
    INT(http_waiters, "http.waiters", "requests", 1000, 1, 100000,                                                     \
        "requests that wait at once for a broker, a client or another node, without a thread")                         \
    INT(http_streams_max, "http.streams_max", "streams", 64, 0, 1000,                                                  \
        "most event streams open at once (events, messages of a client)")                                              \
    STR(secrets_key_file, "secrets.key_file", 0, "",                                                                   \
        "file of the keys that encrypt clients' secrets in Redis, \"id:base64\" in a line, the "                       \
        "first encrypts (docs/service.md); empty: they are kept as they come")                                         \
    LIST(secrets_files_allow, "secrets.files_allow",                                                                   \
         "absolute folders below which a client's secrets and tls files may be; empty: nowhere")                       \
    STR(secrets_env_prefix, "secrets.env_prefix", 0, "",                                                               \
        "what the variables begin with that a client's secret may be; empty: none")                                    \
    STR(ops_listen, "ops.listen", 0, "127.0.0.1", "address of the listener at ops.port")                               \
    INT(ops_port, "ops.port", "", 0, 0, 65535,                                                                         \
        "port for /metrics and /debug/pprof alone, which the API's port has not then; 0: none")                        \
    STR(fleet_name, "fleet.name", 0, "",                                                                               \
        "name of the fleet, kept in Redis; a node does not join a fleet with another name; empty: any")                \
    STR(fleet_secret_file, "fleet.secret_file", 0, "",                                                                 \
        "file of the secret that nodes show each other; the first line is sent, each is accepted")                     \
    STR(fleet_ca_file, "fleet.ca_file", 0, "",                                                                         \
        "certificates, PEM, that the other nodes' must be signed by; empty: the system's")                             \
    ENUM(log_level, "log.level", "debug|info|warn|error", "info", "least level written")                               \
    ENUM(log_format, "log.format", "logfmt|json", "logfmt", "form of a log line")                                      \
    INT(log_buffer_bytes, "log.buffer_bytes", "bytes", 4194304, 65536, 1073741824,                                     \
        "log lines that wait while nobody reads stderr; beyond, they are dropped and counted")                         \
    INT(profile_heap_sample_bytes, "profile.heap_sample_bytes", "bytes", 524288, 0, 1073741824,                        \
        "allocated bytes from one sample of the heap profile to the next, on average; 0: none")                        \
    STR(state_dir, "state_dir", 0, "",                                                                                 \
        "folder of the embedded Redis; empty: $STATE_DIRECTORY, else "                                                 \
        "$XDG_STATE_HOME/mqfleet/<name>, else ~/.local/state/mqfleet/<name>")                                          \
    ENUM(sink_type, "sink.type", "redis_stream|file|null", "redis_stream",                                             \
         "where received messages go unless a client names another sink")                                              \
    STR(sink_url, "sink.url", CONF_SECRET, "",                                                                         \
        "a Redis for redis_stream alone, as in redis_config.url but embedded; empty: the fleet's")                     \
    INT(sink_redis_bytes_max, "sink.redis_bytes_max", "bytes", 0, 0, 1099511627776,                                    \
        "redis_stream pauses while the fleet's Redis, when it has no other, uses more memory; "                        \
        "0: three quarters of maxmemory")                                                                              \
    STR(sink_key, "sink.key", 0, "mqtt_msg", "key of the stream of redis_stream")                                      \
    INT(sink_maxlen, "sink.maxlen", "messages", 1000000, 0, 1000000000,                                                \
        "approximate length the stream is trimmed to; 0: never trimmed")                                               \
    STR(sink_path, "sink.path", 0, "", "path of the file sink")                                                        \
    INT(sink_queue_messages, "sink.queue_messages", "messages", 10000, 1, 10000000,                                    \
        "most messages waiting for a sink")                                                                            \
    INT(sink_queue_bytes, "sink.queue_bytes", "bytes", 67108864, 65536, 17179869184,                                   \
        "most bytes waiting for a sink")                                                                               \
    INT(sink_batch, "sink.batch", "messages", 500, 1, 10000, "most messages in one write")                             \
    INT(heartbeat_ms, "heartbeat_ms", "ms", 1000, 100, 60000, "time between two beats")                                \
    INT(heartbeat_ttl_ms, "heartbeat_ttl_ms", "ms", 1200, 120, 600000,                                                 \
        "time a beat lives in Redis; more than heartbeat_ms")                                                          \
    INT(reclaim_grace_ms, "reclaim_grace_ms", "ms", 1500, 100, 600000,                                                 \
        "time between the first and the second look at a missing beat")                                                \
    INT(mass_death_wait_ms, "mass_death_wait_ms", "ms", 10000, 0, 3600000,                                             \
        "how long reaping waits when many nodes go missing at once or Redis came back")                                \
    INT(reconcile_ms, "reconcile_ms", "ms", 10000, 500, 3600000,                                                       \
        "time between two full comparisons of this node's clients with Redis")                                         \
    INT(peer_timeout_ms, "peer_timeout_ms", "ms", 5000, 100, 60000,                                                    \
        "limit of one call to another node")                                                                           \
    INT(coalesce_ms, "coalesce_ms", "ms", 2, 0, 20,                                                                    \
        "while at least 2 messages come in this time, sockets are looked at once in it: cheaper, and that much later") \
    INT(connect_timeout_ms, "connect_timeout_ms", "ms", 10000, 1000, 600000,                                           \
        "limit from opening the connection to CONNACK, and again to SUBACK")                                           \
    INT(connect_in_flight, "connect_in_flight", "connections", 64, 1, 10000,                                           \
        "most connections being opened to one broker at once")                                                         \
    INT(connect_rate, "connect_rate", "per s", 0, 0, 1000000,                                                          \
        "most connections begun to one broker per second; 0: no limit")                                                \
    INT(reconnect_min_ms, "reconnect_min_ms", "ms", 1000, 10, 3600000,                                                 \
        "least time before a retry")                                                                                   \
    INT(reconnect_max_ms, "reconnect_max_ms", "ms", 60000, 10, 86400000,                                               \
        "most time before a retry")                                                                                    \
    INT(subscribe_filters_max, "subscribe_filters_max", "filters", 64, 1, 256,                                         \
        "most topic filters in one SUBSCRIBE or UNSUBSCRIBE; fewer where the broker takes fewer")                      \
    INT(stable_ms, "stable_ms", "ms", 10000, 100, 3600000,                                                             \
        "time a connection must last before its backoff starts anew")                                                  \
    INT(conflict_losses, "conflict_losses", "times", 3, 1, 1000,                                                       \
        "losses within stable_ms of CONNACK, in a row, that count as a conflict")                                      \
    INT(conflict_min_ms, "conflict_min_ms", "ms", 15000, 100, 86400000,                                                \
        "first time a client in conflict rests; doubles each time")                                                    \
    INT(conflict_max_ms, "conflict_max_ms", "ms", 600000, 100, 86400000,                                               \
        "longest time a client in conflict rests")                                                                     \
    INT(release_after_ms, "release_after_ms", "ms", 300000, 1000, 86400000,                                            \
        "time without a connection after which another node is tried")                                                 \
    INT(publish_timeout_ms, "publish_timeout_ms", "ms", 10000, 100, 600000,                                            \
        "limit for the broker's acknowledgement of a publication")                                                     \
    INT(publish_resend_ms, "publish_resend_ms", "ms", 60000, 0, 86400000,                                              \
        "how much longer it is sent again, in a session that lasts, before it is given up")                            \
    INT(stop_timeout_ms, "stop_timeout_ms", "ms", 30000, 1000, 600000, "limit of a graceful stop")                     \
    INT(stall_ms, "stall_ms", "ms", 15000, 1000, 600000,                                                               \
        "time without progress after which a thread hangs: /livez fails, systemd's watchdog acts")                     \
    INT(resolver_threads, "resolver_threads", "threads", 2, 1, 64, "DNS look-ups at once")                             \
    INT(dns_ttl_ms, "dns_ttl_ms", "ms", 30000, 0, 86400000, "time a DNS answer is kept")                               \
    LIST(broker_allow, "broker_allow", "host patterns and networks brokers may be at; empty: any")                     \
    LIST(broker_deny, "broker_deny",                                                                                   \
         "host patterns and networks brokers may not be at; with http.listen beyond loopback "                         \
         "also loopback and link-local addresses, unless broker_allow names them")

struct conf {
#define CONF_INT_FIELD(field, name, unit, standard, least, most, help) int64_t field;
#define CONF_STR_FIELD(field, name, flags, standard, help)             char *field;
#define CONF_ENUM_FIELD(field, name, choices, standard, help)          char *field;
#define CONF_BOOL_FIELD(field, name, standard, help)                   bool field;
#define CONF_LIST_FIELD(field, name, help)                             char *field;
    CONF_TABLE(CONF_INT_FIELD, CONF_STR_FIELD, CONF_ENUM_FIELD, CONF_BOOL_FIELD, CONF_LIST_FIELD)
};

#define CONF_FAULT_LEN 512

/* Defaults, then the file (NULL: none), then the environment, then `sets` ("key=value" each), then
 * the rules between settings, then what is computed (node_name, state_dir, redis_url) is filled in.
 * On ERR_ARGUMENT, fault holds one line that names key, value and bounds. Caller: conf_destroy. */
enum err conf_load(struct conf **out, const char *path, const char *const *sets, size_t set_count,
                   char fault[CONF_FAULT_LEN]) MUST_CHECK;
void conf_destroy(struct conf *conf);

/* The names of the settings that differ, at most names_max of them; static. */
size_t conf_differences(const struct conf *a, const struct conf *b, const char **names,
                        size_t names_max);

/* YAML that --config accepts again; secrets as ***. */
void conf_print(const struct conf *conf, FILE *out);
/* The settings reference as a Markdown table. */
void conf_print_reference(FILE *out);

#endif
