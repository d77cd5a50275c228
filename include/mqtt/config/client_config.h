/* The configuration of one client: parsed from JSON and checked field by field, completely or not
 * at all. Pure; any thread. */
#ifndef MQFLEET_CONFIG_CLIENT_CONFIG_H
#define MQFLEET_CONFIG_CLIENT_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "message/rate_limit.h"
#include "message/routes/route_table.h"
#include "mqtt/config/client_label.h"

enum client_scheme { SCHEME_MQTT, SCHEME_MQTTS, SCHEME_WS, SCHEME_WSS };
/* The treatment of a message above the node's max_packet_bytes. */
enum client_oversize { OVERSIZE_DEFAULT, OVERSIZE_SKIP, OVERSIZE_CLOSE };
enum client_desired { DESIRED_RUNNING, DESIRED_PAUSED };

/* What a node does about a client that has become silent. */
enum client_on_silence { ON_SILENCE_REPORT, ON_SILENCE_RESUBSCRIBE, ON_SILENCE_RECONNECT };

enum client_urls_order { URLS_IN_ORDER, URLS_RANDOM };

#define CLIENT_URLS_MAX   8
#define CLIENT_ROUTES_MAX 100

struct client_profile;

struct client_endpoint { /* a broker and its scheme */
    enum client_scheme scheme;
    uint16_t port;
    char *host, *path;
};

struct client_pair {
    char *name;
    char *value;
};

#define SUBSCRIBE_FILTERS_MAX    256 /* in one SUBSCRIBE, whatever the setting */
#define RETAIN_HANDLING_STANDARD 3   /* not given: 0, or 1 in a resumed session */

struct client_subscription {
    char *filter; /* "$share/..." too */
    uint8_t qos;
    bool no_local;
    bool retain_as_published;
    uint8_t retain_handling; /* 0 to 2, or RETAIN_HANDLING_STANDARD */
    uint32_t identifier;     /* MQTT 5 subscription identifier; 0: none */
};

struct client_will {
    char *topic;
    uint8_t *payload;
    size_t payload_len;
    uint8_t qos;
    bool retain;
    /* the MQTT 5 properties, with the same names as those of messages */
    uint32_t delay_s;
    uint8_t payload_format_indicator;    /* 1: the payload is UTF-8 */
    uint32_t message_expiry_interval;    /* seconds; 0: does not expire */
    char *content_type, *response_topic; /* NULL: none */
    uint8_t *correlation_data;           /* NULL: none */
    size_t correlation_data_len;
    struct client_pair *user_properties;
    uint8_t user_property_count;
};

struct client_tls {  /* ca, cert, key: PEM text, or the absolute path of a file that contains it */
    char *ca, *cert; /* of shared_text.h */
    char *key, *server_name;
    char *key_from; /* "file:path" or "env:name" that the key is read from; NULL: `key` is used */
    char *key_password, *key_password_from; /* of an encrypted key; secret */
    char **alpn;
    size_t alpn_count;
    bool insecure;          /* no verification at all */
    uint8_t min_version;    /* enum client_tls_version */
    uint8_t security_level; /* of OpenSSL, 0 to 5, plus 1; 0: not given, the library's default */
};

enum client_tls_version { TLS_FROM_1_2, TLS_FROM_1_0, TLS_FROM_1_1, TLS_FROM_1_3 };

struct client_websocket {
    struct client_pair *headers; /* additional headers of the handshake; the values are secret */
    uint8_t header_count;
    char *subprotocol; /* NULL: mqtt */
};

/* Of received messages. See client_config_limits and client_config_routes. */
struct client_reception {
    struct rate_limit_values limits;
    bool limited;
    struct route_table *routes; /* before those of the fleet; NULL: none */
};

/* Every client of a node has one, so counts have the smallest types that the bounds of
 * client_config_tables.c allow. */
struct client_config {
    char *id; /* key in Redis; 1 to 256 bytes of UTF-8, no control characters, no "/" */
    char *
        client_id; /* MQTT client identifier; defaults to the id and then points to the same text */
    char *host;    /* name or address, lower case, no brackets */
    char *path;    /* of ws and wss; default "/mqtt" */
    struct client_endpoint
        *urls; /* several brokers, of which the first is the one above; NULL: one broker */
    char *username, *password; /* NULL: none. An empty username means none, and so does an empty
                                  password without a username. The password is secret, and encrypted
                                  (enc:v1:...) until client_secrets_open */
    char *password_from;       /* like tls.key_from */
    uint16_t port;
    uint8_t scheme : 4, url_count : 4; /* enum client_scheme; of `urls` */
    uint8_t urls_order;                /* enum client_urls_order */
    uint8_t desired;                   /* enum client_desired */
    uint8_t on_silence;                /* enum client_on_silence */
    uint16_t keepalive_s;              /* default 60; 0: none */
    uint16_t receive_maximum;          /* default 0: not sent; MQTT 5 */
    uint16_t subscribe_filters_max;    /* in one SUBSCRIBE; 0: the node's setting */
    uint32_t session_expiry_s;         /* default 0, or 86400 when not clean_start; MQTT 5 */
    uint32_t max_packet_size;          /* default 0: not sent; MQTT 5 */
    uint16_t topic_alias_maximum;      /* default 0: not sent; at most 1024; MQTT 5 */
    uint8_t oversize;                  /* enum client_oversize; default: the node's setting */
    uint8_t protocol_version;          /* 4: MQTT 3.1.1; 5: MQTT 5.0 */
    bool clean_start;                  /* default true */
    bool request_response_information; /* default false; MQTT 5 */
    bool request_problem_information;  /* default true; MQTT 5 */
    uint8_t user_property_count, label_count, retired_filter_count;
    uint16_t subscription_count;
    uint32_t expect_message_within_s;                                /* 0: off */
    uint32_t reconnect_min_ms, reconnect_max_ms, connect_timeout_ms; /* 0: the node's setting */
    struct client_pair *user_properties;
    struct client_will *will;           /* NULL: none */
    struct client_tls *tls;             /* NULL: nothing given; see client_config_tls */
    struct client_websocket *websocket; /* NULL: nothing given */
    struct client_subscription *subscriptions;
    char *sink;                         /* NULL: the node's default */
    struct client_reception *reception; /* NULL: nothing given */
    struct client_pair *labels;
    /* Filters of earlier versions that must be unsubscribed from a session that survived them.
     * Stored as "retired_filters"; never accepted from or shown to a user. */
    char **retired_filters;
    struct client_profile *profile; /* whose fields it has too, held; NULL: none */
    char *source; /* the text from which it was parsed (client_config_parse_text), otherwise NULL;
                     without the fields of the profile; secret */
};

struct client_fault {
    char pointer[256]; /* RFC 6901, e.g. "/subscriptions/2/filter"; "" the whole document */
    char detail[256];  /* the error and the expected value; never the value of a secret */
};

#define CLIENT_FAULTS_MAX 32

struct client_faults {
    struct client_fault items[CLIENT_FAULTS_MAX];
    size_t count; /* at most CLIENT_FAULTS_MAX; more faults are dropped */
};

enum client_source {
    CLIENT_FROM_API,  /* unknown fields, "***" for a secret, and a quoted port are faults */
    CLIENT_FROM_STORE /* may be hand-written: unknown fields are ignored, id_hint is the id */
};

/* The document may name a profile (mqtt/config/client_profiles.h), whose fields the configuration
 * gets too. A profile that this node does not know is a fault at /profile.
 * id_hint: the id from the path or the hash key; NULL: none. A document without "id" takes the
 * hint, then "client_id". A document with an id other than the hint is a fault at /id.
 * ERR_ARGUMENT: see faults (at least one). The caller frees with client_config_destroy. */
enum err client_config_parse(json_t *document, enum client_source source, const char *id_hint,
                             struct client_config **out, struct client_faults *faults) MUST_CHECK;
/* The same for text. Text that is not a JSON object is one fault with line and column. */
enum err client_config_parse_text(const char *text, size_t len, const char *id_hint,
                                  struct client_config **out,
                                  struct client_faults *faults) MUST_CHECK;
/* The same with the given profile (NULL: none), not the one that the document names. */
enum err client_config_parse_with(json_t *document, struct client_profile *profile,
                                  enum client_source source, const char *id_hint,
                                  struct client_config **out,
                                  struct client_faults *faults) MUST_CHECK;
enum err client_config_parse_text_with(const char *text, size_t len, const char *id_hint,
                                       struct client_profile *profile, struct client_config **out,
                                       struct client_faults *faults) MUST_CHECK;
void client_config_destroy(struct client_config *config);
/* The TLS settings, with defaults for omitted fields; never NULL. Borrowed. */
const struct client_tls *client_config_tls(const struct client_config *config);
const struct rate_limit_values *client_config_limits(const struct client_config *config);
/* The routes of the client; NULL: none. Borrowed. */
struct route_table *client_config_routes(const struct client_config *config);
/* Whether the broker is asked to keep the session when the connection ends. */
bool client_config_keeps_session(const struct client_config *config);
/* Removes the will. */
void client_config_drop_will(struct client_config *config);

/* "host:port/client_id": how a broker distinguishes clients; "host:port?id" if client_id is "" and
 * the broker assigns one. One line for each broker. NULL: out of memory. The caller frees. */
char *client_config_identity(const struct client_config *config);

/* The text kept in Redis: the document as given, compact and with sorted keys. Equal documents give
 * equal text. NULL: out of memory. The caller frees. */
char *client_config_canonical(json_t *document);
/* A deep copy that may be shown to a user: secrets, and the values of unknown fields of a
 * hand-written document, are replaced by "***"; internal fields are omitted. NULL: out of memory.
 */
json_t *client_config_redacted(json_t *document);
/* Replaces each "***" in `document` by the secret of `stored`, so that a document can be read and
 * written back. A secret that is sent to the broker stays "***" unless every broker of the document
 * is on a host of `stored`. Otherwise anyone who may change a client could have the secret sent to
 * their own broker. */
void client_config_keep_secrets(json_t *document, json_t *stored);
/* Sets retired_filters of the document: the newest 100 among the retired filters and subscriptions
 * of `stored` that `config` (parsed from the document) does not have. */
enum err client_config_retire(json_t *document, const struct client_config *config,
                              const struct client_config *stored) MUST_CHECK;

const char *client_desired_name(enum client_desired desired); /* "running" "paused" */
const char *client_scheme_name(enum client_scheme scheme);

#endif
