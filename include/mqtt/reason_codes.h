/* The reason codes of MQTT 5.0 (section 2.4), and what each means for a client. Pure; any thread.
 */
#ifndef MQFLEET_MQTT_REASON_CODES_H
#define MQFLEET_MQTT_REASON_CODES_H

#include <stdbool.h>

#include "mqtt/client_error.h"

enum reason_code {
    REASON_SUCCESS = 0x00,
    REASON_GRANTED_QOS_0 = 0x00,
    REASON_GRANTED_QOS_1 = 0x01,
    REASON_GRANTED_QOS_2 = 0x02,
    REASON_DISCONNECT_WITH_WILL = 0x04,
    REASON_NO_MATCHING_SUBSCRIBERS = 0x10,
    REASON_NO_SUBSCRIPTION_EXISTED = 0x11,
    REASON_CONTINUE_AUTHENTICATION = 0x18,
    REASON_RE_AUTHENTICATE = 0x19,
    REASON_UNSPECIFIED = 0x80,
    REASON_MALFORMED_PACKET = 0x81,
    REASON_PROTOCOL_ERROR = 0x82,
    REASON_IMPLEMENTATION_ERROR = 0x83,
    REASON_UNSUPPORTED_VERSION = 0x84,
    REASON_IDENTIFIER_REJECTED = 0x85,
    REASON_BAD_CREDENTIALS = 0x86,
    REASON_NOT_AUTHORIZED = 0x87,
    REASON_SERVER_UNAVAILABLE = 0x88,
    REASON_SERVER_BUSY = 0x89,
    REASON_BANNED = 0x8A,
    REASON_SHUTTING_DOWN = 0x8B,
    REASON_BAD_AUTHENTICATION_METHOD = 0x8C,
    REASON_KEEP_ALIVE_TIMEOUT = 0x8D,
    REASON_TAKEN_OVER = 0x8E,
    REASON_TOPIC_FILTER_INVALID = 0x8F,
    REASON_TOPIC_NAME_INVALID = 0x90,
    REASON_PACKET_IDENTIFIER_IN_USE = 0x91,
    REASON_PACKET_IDENTIFIER_NOT_FOUND = 0x92,
    REASON_RECEIVE_MAXIMUM_EXCEEDED = 0x93,
    REASON_TOPIC_ALIAS_INVALID = 0x94,
    REASON_PACKET_TOO_LARGE = 0x95,
    REASON_MESSAGE_RATE = 0x96,
    REASON_QUOTA_EXCEEDED = 0x97,
    REASON_ADMINISTRATIVE_ACTION = 0x98,
    REASON_PAYLOAD_FORMAT_INVALID = 0x99,
    REASON_RETAIN_NOT_SUPPORTED = 0x9A,
    REASON_QOS_NOT_SUPPORTED = 0x9B,
    REASON_USE_ANOTHER_SERVER = 0x9C,
    REASON_SERVER_MOVED = 0x9D,
    REASON_SHARED_NOT_SUPPORTED = 0x9E,
    REASON_CONNECTION_RATE = 0x9F,
    REASON_MAXIMUM_CONNECT_TIME = 0xA0,
    REASON_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1,
    REASON_WILDCARD_NOT_SUPPORTED = 0xA2,
};

/* CONNACK of MQTT 3.1.1, section 3.2.2.3. */
enum return_code {
    RETURN_ACCEPTED,
    RETURN_UNACCEPTABLE_VERSION,
    RETURN_IDENTIFIER_REJECTED,
    RETURN_SERVER_UNAVAILABLE,
    RETURN_BAD_CREDENTIALS,
    RETURN_NOT_AUTHORIZED,
};

/* Section 2.4: 0x80 and above report a failure. */
static inline bool reason_is_error(int value) {
    return value >= REASON_UNSPECIFIED;
}

/* The client error of a broker's reason code; unknown values give CLIENT_ERROR_MQTT_UNKNOWN.
 * CONNACK: a return code of MQTT 3.1.1 section 3.2.2.3 (1 to 5), or a reason code. */
enum client_error reason_error_connack(int value);
/* DISCONNECT of a server, MQTT 5.0 section 3.14.2.1. */
enum client_error reason_error_disconnect(int value);
/* SUBACK, section 3.9.3; for values that are errors. */
enum client_error reason_error_suback(int value);
/* PUBACK and PUBREC, sections 3.4.2.1 and 3.5.2.1; for values that are errors. */
enum client_error reason_error_publication(int value);
/* The error for a reason code that this node sends to a broker that violated the protocol. */
enum client_error reason_error_own(int value);

#endif
