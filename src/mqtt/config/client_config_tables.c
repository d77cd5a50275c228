/* The fields of a client configuration, one row each. To add a field, add a row here and a member
 * in client_config.h. Only constants; any thread. */
#include "client_config_fields.h"

#include <ctype.h>
#include <string.h>
#include "base/text.h"
#include "message/sink_name.h"
#include "message/topic.h"
#include "mqtt/config/client_profile.h"

/* A field with the name of its member in the struct. */
#define MEMBER(type, member, reader)                                                               \
    .name = #member, .read = (reader), .offset = offsetof(struct type, member),                    \
    .size = sizeof(((struct type *)0)->member)
#define BOOL(type, member) MEMBER(type, member, client_field_read_bool)
#define INTEGER(type, member, low, high)                                                           \
    MEMBER(type, member, client_field_read_integer), .least = (low), .most = (high)
#define TEXT(type, member, low, high)                                                              \
    MEMBER(type, member, client_field_read_text), .least = (low), .most = (high)
/* The same, stored once for all clients. */
#define SHARED_TEXT(type, member, low, high)                                                       \
    MEMBER(type, member, client_field_read_shared_text), .least = (low), .most = (high)
/* A secret: also encrypted, or a reference to where it is stored. */
#define SECRET(type, member, low, high)                                                            \
    MEMBER(type, member, client_field_read_secret),                                                \
        .least = (low), .most = (high), .offset_from = offsetof(struct type, member##_from)
/* Elements or bytes, and the member that counts them. */
#define COUNTED(type, member, count, reader, high)                                                 \
    MEMBER(type, member, reader), .most = (high), .offset_count = offsetof(struct type, count)
#define PAIRS(type)                                                                                \
    COUNTED(type, user_properties, user_property_count, client_field_read_user_properties, 100),   \
        .members = &client_pair_fields
/* A nested struct, allocated when the object is given. */
#define OBJECT(type, member, table)                                                                \
    .name = #member, .read = client_field_read_object, .members = (table),                         \
    .offset = offsetof(struct type, member), .size = sizeof(*((struct type *)0)->member)
/* Several members, or none directly: the reader gets the whole struct. */
#define OTHER(field, reader, high) .name = (field), .read = (reader), .most = (high)
/* clang-format off */
#define TABLE(rows) {(rows), sizeof(rows) / sizeof((rows)[0])}
/* clang-format on */

#define MQTT_STRING_MAX     65535     /* MQTT 5.0 section 1.5.4; for binary data 1.5.6 */
#define PACKET_MAX          268435460 /* the largest packet: a header of 5 bytes and 268,435,455 more */
#define PEM_MAX             65536
#define BUNDLE_MAX          1048576 /* the certificates of all authorities of a system */
#define URL_MAX             CLIENT_URL_LEN_MAX
#define EXPECT_WITHIN_S_MAX 2592000 /* 30 days */
#define TOPIC_ALIASES_MAX   1024    /* each up to 64 KB of the node's memory */

static const char *config_table_mqtt_string_fault(const char *text, size_t len) {
    if (!text_is_mqtt_string(text, len)) {
        return "must be well-formed UTF-8 without U+0000";
    }
    return text_has_control(text, len)
               ? "must not contain control characters, because brokers close the connection on them"
               : NULL;
}

const char *client_id_fault(const char *text, size_t len) {
    if (len < 1 || len > 256) {
        return "must have 1 to 256 bytes";
    }
    if (!text_is_utf8(text, len) || text_has_control(text, len)) {
        return "must be UTF-8 without control characters";
    }
    if (memchr(text, '/', len) || strcmp(text, ".") == 0 || strcmp(text, "..") == 0) {
        return "must fit into a URL path: without \"/\", and not \".\" or \"..\"";
    }
    return NULL;
}

/* A relative path would depend on the working directory of the node. */
static const char *config_table_pem_fault(const char *text, size_t len) {
    if (text[0] == '/') {
        return text_has_control(text, len) || len > 4095 ? "must be the path of a file, or PEM text"
                                                         : NULL;
    }
    return !strstr(text, "-----BEGIN ")
               ? "must be PEM text (-----BEGIN ...) or the absolute path of a file that contains it"
               : NULL;
}

static const char *config_table_host_name_fault(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            return "must be a host name in ASCII, without blanks";
        }
    }
    return NULL;
}

/* RFC 9110 section 5.6.2. */
static const char *config_table_token_fault(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr("!#$%&'*+-.^_`|~", text[i])) {
            return "must consist of letters, digits and any of !#$%&'*+-.^_`|~";
        }
    }
    return NULL;
}

static const char *config_table_sink_fault(const char *text, size_t len) {
    (void)len;
    return sink_name_is_valid(text) ? NULL : "must be the name of a sink: " SINK_NAME_FORMAT;
}

static const char *config_table_profile_fault(const char *text, size_t len) {
    (void)len;
    return client_profile_name_is_valid(text) ? NULL : "must be " CLIENT_PROFILE_NAME_FORMAT;
}

static const char *const config_table_version_choices[] = {[TLS_FROM_1_2] = "1.2",
                                                           [TLS_FROM_1_0] = "1.0",
                                                           [TLS_FROM_1_1] = "1.1",
                                                           [TLS_FROM_1_3] = "1.3",
                                                           NULL};
static const char *const config_table_desired_choices[] = {
    [DESIRED_RUNNING] = "running", [DESIRED_PAUSED] = "paused", NULL};
static const char *const config_table_oversize_choices[] = {
    [OVERSIZE_DEFAULT] = "default", [OVERSIZE_SKIP] = "skip", [OVERSIZE_CLOSE] = "close", NULL};
static const char *const config_table_silence_choices[] = {[ON_SILENCE_REPORT] = "report",
                                                           [ON_SILENCE_RESUBSCRIBE] = "resubscribe",
                                                           [ON_SILENCE_RECONNECT] = "reconnect",
                                                           NULL};
static const char *const config_table_order_choices[] = {
    [URLS_IN_ORDER] = "in_order", [URLS_RANDOM] = "random", NULL};

const char *client_desired_name(enum client_desired desired) {
    return config_table_desired_choices[desired];
}

static const struct client_field config_table_pair_rows[] = {
    {TEXT(client_pair, name, 0, MQTT_STRING_MAX), .check = config_table_mqtt_string_fault,
     .flags = CLIENT_FIELD_REQUIRED},
    {TEXT(client_pair, value, 0, MQTT_STRING_MAX), .check = config_table_mqtt_string_fault,
     .flags = CLIENT_FIELD_REQUIRED},
};
const struct client_field_table client_pair_fields = TABLE(config_table_pair_rows);

static const struct client_field config_table_subscription_rows[] = {
    {TEXT(client_subscription, filter, 0, MQTT_STRING_MAX), .check = topic_filter_fault,
     .flags = CLIENT_FIELD_REQUIRED},
    {INTEGER(client_subscription, qos, 0, 2)},
    {BOOL(client_subscription, no_local), .flags = CLIENT_FIELD_MQTT5},
    {BOOL(client_subscription, retain_as_published), .flags = CLIENT_FIELD_MQTT5},
    {INTEGER(client_subscription, retain_handling, 0, 2), .flags = CLIENT_FIELD_MQTT5},
    {INTEGER(client_subscription, identifier, 1, 268435455), .flags = CLIENT_FIELD_MQTT5},
};
const struct client_field_table client_subscription_fields = TABLE(config_table_subscription_rows);

static const struct client_field config_table_will_rows[] = {
    {TEXT(client_will, topic, 0, MQTT_STRING_MAX), .check = topic_name_fault,
     .flags = CLIENT_FIELD_REQUIRED},
    {OTHER("payload", client_field_read_payload, MQTT_STRING_MAX)},
    {OTHER("payload_base64", client_field_read_payload_base64, MQTT_STRING_MAX)},
    {INTEGER(client_will, qos, 0, 2)},
    {BOOL(client_will, retain)},
    {INTEGER(client_will, delay_s, 0, UINT32_MAX), .flags = CLIENT_FIELD_MQTT5},
    {INTEGER(client_will, payload_format_indicator, 0, 1), .flags = CLIENT_FIELD_MQTT5},
    {INTEGER(client_will, message_expiry_interval, 1, UINT32_MAX), .flags = CLIENT_FIELD_MQTT5},
    {TEXT(client_will, content_type, 0, MQTT_STRING_MAX), .check = config_table_mqtt_string_fault,
     .flags = CLIENT_FIELD_MQTT5},
    {TEXT(client_will, response_topic, 0, MQTT_STRING_MAX), .check = topic_name_fault,
     .flags = CLIENT_FIELD_MQTT5},
    {COUNTED(client_will, correlation_data, correlation_data_len, client_field_read_base64,
             MQTT_STRING_MAX),
     .flags = CLIENT_FIELD_MQTT5},
    {PAIRS(client_will), .flags = CLIENT_FIELD_MQTT5},
};
static const struct client_field_table config_table_will_fields = TABLE(config_table_will_rows);

static const struct client_field config_table_tls_rows[] = {
    {SHARED_TEXT(client_tls, ca, 1, BUNDLE_MAX), .check = config_table_pem_fault},
    {SHARED_TEXT(client_tls, cert, 1, PEM_MAX), .check = config_table_pem_fault},
    {SECRET(client_tls, key, 1, PEM_MAX), .check = config_table_pem_fault,
     .flags = CLIENT_FIELD_SECRET_PEM},
    {SECRET(client_tls, key_password, 1, 1024), .flags = CLIENT_FIELD_SECRET},
    {OTHER("alpn", client_field_read_alpn, 16)},
    {TEXT(client_tls, server_name, 1, 253), .check = config_table_host_name_fault},
    {BOOL(client_tls, insecure)},
    {MEMBER(client_tls, min_version, client_field_read_choice), .most = 64,
     .choices = config_table_version_choices},
    {MEMBER(client_tls, security_level, client_field_read_security_level), .most = 5},
};
static const struct client_field_table config_table_tls_fields = TABLE(config_table_tls_rows);

static const struct client_field config_table_websocket_rows[] = {
    {COUNTED(client_websocket, headers, header_count, client_field_read_headers, 32),
     .flags = CLIENT_FIELD_SECRET | CLIENT_FIELD_SENT},
    {TEXT(client_websocket, subprotocol, 1, 64), .check = config_table_token_fault},
};
static const struct client_field_table config_table_websocket_fields =
    TABLE(config_table_websocket_rows);

static const struct client_field config_table_limits_rows[] = {
    {INTEGER(rate_limit_values, messages_per_s, 1, RATE_LIMIT_MESSAGES_MAX)},
    {INTEGER(rate_limit_values, bytes_per_s, 1, UINT32_MAX)},
    {INTEGER(rate_limit_values, burst, RATE_LIMIT_BURST_MIN, RATE_LIMIT_BURST_MAX)},
};
static const struct client_field_table config_table_limits_fields = TABLE(config_table_limits_rows);

static const struct client_field config_table_client_rows[] = {
    {TEXT(client_config, id, 1, 256), .check = client_id_fault},
    {OTHER("profile", client_field_read_profile, CLIENT_PROFILE_NAME_MAX), .least = 1,
     .check = config_table_profile_fault},
    {TEXT(client_config, client_id, 0, MQTT_STRING_MAX), .check = config_table_mqtt_string_fault},
    {OTHER("broker", client_field_read_broker, URL_MAX), .least = 1, .flags = CLIENT_FIELD_URL},
    {OTHER("url", client_field_read_url, URL_MAX), .least = 1, .flags = CLIENT_FIELD_URL},
    {OTHER("urls", client_field_read_urls, CLIENT_URLS_MAX), .least = 1, .flags = CLIENT_FIELD_URL},
    {MEMBER(client_config, urls_order, client_field_read_choice), .most = 64,
     .choices = config_table_order_choices},
    {OTHER("port", client_field_read_port, 65535), .least = 1},
    {TEXT(client_config, username, 0, MQTT_STRING_MAX), .check = config_table_mqtt_string_fault},
    {SECRET(client_config, password, 0, MQTT_STRING_MAX),
     .flags = CLIENT_FIELD_SECRET | CLIENT_FIELD_SENT},
    {INTEGER(client_config, protocol_version, 4, 5)},
    {INTEGER(client_config, keepalive_s, 0, 65535)},
    {BOOL(client_config, clean_start)},
    {INTEGER(client_config, session_expiry_s, 0, UINT32_MAX), .flags = CLIENT_FIELD_MQTT5},
    {INTEGER(client_config, receive_maximum, 1, 65535), .flags = CLIENT_FIELD_MQTT5},
    {INTEGER(client_config, max_packet_size, 1, PACKET_MAX), .flags = CLIENT_FIELD_MQTT5},
    {INTEGER(client_config, topic_alias_maximum, 0, TOPIC_ALIASES_MAX),
     .flags = CLIENT_FIELD_MQTT5},
    {MEMBER(client_config, oversize, client_field_read_choice), .most = 64,
     .choices = config_table_oversize_choices},
    {BOOL(client_config, request_response_information), .flags = CLIENT_FIELD_MQTT5},
    {BOOL(client_config, request_problem_information), .flags = CLIENT_FIELD_MQTT5},
    {PAIRS(client_config), .flags = CLIENT_FIELD_MQTT5},
    {OBJECT(client_config, will, &config_table_will_fields)},
    {OBJECT(client_config, tls, &config_table_tls_fields), .flags = CLIENT_FIELD_SECRET},
    {OBJECT(client_config, websocket, &config_table_websocket_fields),
     .flags = CLIENT_FIELD_SECRET},
    {OTHER("sub_topic", client_field_read_sub_topic, MQTT_STRING_MAX), .check = topic_filter_fault},
    {OTHER("subscriptions", client_field_read_subscriptions, CLIENT_SUBSCRIPTIONS_MAX),
     .members = &client_subscription_fields},
    {TEXT(client_config, sink, 0, SINK_NAME_MAX), .check = config_table_sink_fault},
    {OTHER("routes", client_field_read_routes, CLIENT_ROUTES_MAX)},
    {OTHER("limits", client_field_read_limits, 0), .members = &config_table_limits_fields},
    {INTEGER(client_config, expect_message_within_s, 0, EXPECT_WITHIN_S_MAX)},
    {MEMBER(client_config, on_silence, client_field_read_choice), .most = 64,
     .choices = config_table_silence_choices},
    {OTHER("labels", client_field_read_labels, 64)},
    {MEMBER(client_config, desired, client_field_read_choice), .most = 64,
     .choices = config_table_desired_choices},
    {INTEGER(client_config, subscribe_filters_max, 1, SUBSCRIBE_FILTERS_MAX)},
    {INTEGER(client_config, reconnect_min_ms, 10, 86400000)},
    {INTEGER(client_config, reconnect_max_ms, 10, 86400000)},
    {INTEGER(client_config, connect_timeout_ms, 1000, 600000)},
    {OTHER("retired_filters", client_field_read_retired_filters, CLIENT_RETIRED_MAX),
     .flags = CLIENT_FIELD_INTERNAL},
};
const struct client_field_table client_fields = TABLE(config_table_client_rows);
