/* Owns the table of reason codes of MQTT 5.0 (section 2.4) and return codes of 3.1.1. Pure. */
#include "mqtt/reason_codes.h"

#include <stddef.h>
#include <string.h>

static const struct reason_code return_codes[] = {
    {1, "unsupported_protocol_version", "the broker does not speak this protocol version"},
    {2, "identifier_rejected", "the broker rejects the client identifier"},
    {3, "server_unavailable", "the broker is not available"},
    {4, "bad_credentials", "bad user name or password"},
    {5, "not_authorized", "not authorized"},
};

static const struct reason_code reason_codes[] = {
    {0x00, "server_disconnect", "the broker closed the connection"},
    {0x80, "unspecified_error", "unspecified error"},
    {0x81, "malformed_packet", "malformed packet"},
    {0x82, "protocol_error", "protocol error"},
    {0x83, "implementation_error", "implementation specific error"},
    {0x84, "unsupported_protocol_version", "the broker does not speak this protocol version"},
    {0x85, "identifier_rejected", "the broker rejects the client identifier"},
    {0x86, "bad_credentials", "bad user name or password"},
    {0x87, "not_authorized", "not authorized"},
    {0x88, "server_unavailable", "the broker is not available"},
    {0x89, "server_busy", "the broker is busy"},
    {0x8A, "banned", "banned by the broker"},
    {0x8B, "server_shutting_down", "the broker is shutting down"},
    {0x8C, "bad_authentication_method", "bad authentication method"},
    {0x8D, "keep_alive_timeout", "the broker heard nothing for too long"},
    {0x8E, "taken_over", "another connection uses this client identifier"},
    {0x8F, "topic_filter_invalid", "topic filter invalid"},
    {0x90, "topic_name_invalid", "topic name invalid"},
    {0x91, "packet_identifier_in_use", "packet identifier in use"},
    {0x93, "receive_maximum_exceeded", "receive maximum exceeded"},
    {0x94, "topic_alias_invalid", "topic alias invalid"},
    {0x95, "packet_too_large", "packet too large"},
    {0x96, "message_rate_too_high", "message rate too high"},
    {0x97, "quota_exceeded", "quota exceeded"},
    {0x98, "administrative_action", "closed by an administrator of the broker"},
    {0x99, "payload_format_invalid", "payload format invalid"},
    {0x9A, "retain_not_supported", "the broker does not support retained messages"},
    {0x9B, "qos_not_supported", "the broker does not support this QoS"},
    {0x9C, "use_another_server", "the broker names another server"},
    {0x9D, "server_moved", "the broker has moved"},
    {0x9E, "shared_subscriptions_not_supported", "shared subscriptions are not supported"},
    {0x9F, "connection_rate_exceeded", "connection rate exceeded"},
    {0xA0, "maximum_connect_time", "the longest connect time is over"},
    {0xA1, "subscription_identifiers_not_supported", "subscription identifiers not supported"},
    {0xA2, "wildcard_subscriptions_not_supported", "wildcard subscriptions are not supported"},
};

static const struct reason_code unknown = {-1, "unknown_reason", "a reason code of no meaning"};

static const struct reason_code *find(const struct reason_code *table, size_t n, int value) {
    for (size_t i = 0; i < n; i++) {
        if (table[i].value == value) {
            return &table[i];
        }
    }
    return &unknown;
}

static const struct reason_code *find_reason(int value) {
    return find(reason_codes, sizeof(reason_codes) / sizeof(reason_codes[0]), value);
}

const struct reason_code *reason_code_connack(int value) {
    if (value < 0x80) {
        return find(return_codes, sizeof(return_codes) / sizeof(return_codes[0]), value);
    }
    return find_reason(value);
}

const struct reason_code *reason_code_disconnect(int value) {
    return find_reason(value);
}

const struct reason_code *reason_code_suback(int value) {
    return find_reason(value);
}

static bool has_code(const struct reason_code *table, size_t n, const char *code) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].code, code) == 0) {
            return true;
        }
    }
    return strcmp(unknown.code, code) == 0;
}

bool reason_code_known(const char *code) {
    return has_code(return_codes, sizeof(return_codes) / sizeof(return_codes[0]), code) ||
           has_code(reason_codes, sizeof(reason_codes) / sizeof(reason_codes[0]), code);
}
