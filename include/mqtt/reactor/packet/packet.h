/* Encodes and decodes the MQTT control packets of 3.1.1 and 5.0 that a client sends and receives.
 * Pure; any thread.
 *
 * Decoding copies nothing: slices point into the given bytes and are valid as long as those are.
 * The decoder checks everything that follows from the packet alone: lengths, flags, UTF-8, and
 * which property may occur where, how often and with which values. The caller checks everything
 * that depends on the state of the connection. */
#ifndef MQFLEET_PACKET_PACKET_H
#define MQFLEET_PACKET_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/err.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"
#include "mqtt/engine.h"

enum packet_type { /* MQTT 5.0 section 2.1.2 */
                   PACKET_CONNECT = 1,
                   PACKET_CONNACK,
                   PACKET_PUBLISH,
                   PACKET_PUBACK,
                   PACKET_PUBREC,
                   PACKET_PUBREL,
                   PACKET_PUBCOMP,
                   PACKET_SUBSCRIBE,
                   PACKET_SUBACK,
                   PACKET_UNSUBSCRIBE,
                   PACKET_UNSUBACK,
                   PACKET_PINGREQ,
                   PACKET_PINGRESP,
                   PACKET_DISCONNECT,
                   PACKET_AUTH,
};

struct packet_slice {
    const uint8_t *data;
    size_t len;
};

/* Why a packet is refused: the reason code for DISCONNECT (0x81 malformed, 0x82 protocol error,
 * 0x95 ...), a static text, and the error of the client. */
struct packet_fault {
    uint8_t reason_code;
    const char *message;
    enum client_error error; /* NONE: reason_error_own(reason_code) */
};

/* ---- framing ---- */

struct packet_frame {
    enum packet_type type;
    uint8_t flags; /* the low four bits */
    size_t header_len;
    size_t total_len; /* header and body */
};

enum packet_framing {
    PACKET_PARTIAL, /* the fixed header is incomplete */
    PACKET_FRAMED,  /* the fixed header is complete; the body may be incomplete (total_len > len) */
    PACKET_MALFORMED, /* unknown type, wrong flags or overlong length: see fault */
};

/* Reads the fixed header (section 2.1) of a packet that a server may send. */
enum packet_framing packet_frame(const uint8_t *data, size_t len, struct packet_frame *out,
                                 struct packet_fault *fault);

/* ---- properties, section 2.2.2 ---- */

enum packet_property_id {
    PROPERTY_PAYLOAD_FORMAT = 0x01,
    PROPERTY_MESSAGE_EXPIRY = 0x02,
    PROPERTY_CONTENT_TYPE = 0x03,
    PROPERTY_RESPONSE_TOPIC = 0x08,
    PROPERTY_CORRELATION_DATA = 0x09,
    PROPERTY_SUBSCRIPTION_IDENTIFIER = 0x0B,
    PROPERTY_SESSION_EXPIRY = 0x11,
    PROPERTY_ASSIGNED_CLIENT_ID = 0x12,
    PROPERTY_SERVER_KEEPALIVE = 0x13,
    PROPERTY_AUTH_METHOD = 0x15,
    PROPERTY_AUTH_DATA = 0x16,
    PROPERTY_REQUEST_PROBLEM = 0x17,
    PROPERTY_WILL_DELAY = 0x18,
    PROPERTY_REQUEST_RESPONSE = 0x19,
    PROPERTY_RESPONSE_INFORMATION = 0x1A,
    PROPERTY_SERVER_REFERENCE = 0x1C,
    PROPERTY_REASON_STRING = 0x1F,
    PROPERTY_RECEIVE_MAXIMUM = 0x21,
    PROPERTY_TOPIC_ALIAS_MAXIMUM = 0x22,
    PROPERTY_TOPIC_ALIAS = 0x23,
    PROPERTY_MAXIMUM_QOS = 0x24,
    PROPERTY_RETAIN_AVAILABLE = 0x25,
    PROPERTY_USER_PROPERTY = 0x26,
    PROPERTY_MAXIMUM_PACKET_SIZE = 0x27,
    PROPERTY_WILDCARD_AVAILABLE = 0x28,
    PROPERTY_SUBSCRIPTION_IDENTIFIERS_AVAILABLE = 0x29,
    PROPERTY_SHARED_AVAILABLE = 0x2A,
};

struct packet_property {
    uint8_t id;
    uint32_t number;          /* of numeric properties */
    struct packet_slice key;  /* of a user property */
    struct packet_slice text; /* of text and binary properties */
};

/* Returns the next of checked properties; *offset starts at 0. False: no more. */
bool packet_property_next(struct packet_slice properties, size_t *offset,
                          struct packet_property *out);
/* Returns the first property with that id. False: none. */
bool packet_property_find(struct packet_slice properties, uint8_t id, struct packet_property *out);
/* The name of the property in base/message.h ("content_type"); NULL if messages do not have it. */
const char *packet_property_name(uint8_t id);

/* ---- decoding ---- */

struct packet {
    enum packet_type type;
    uint16_t packet_id;          /* 0: the packet has none */
    uint8_t reason_code;         /* of CONNACK, acknowledgements, DISCONNECT, AUTH; 0 if left out */
    bool session_present;        /* CONNACK */
    bool dup, retain;            /* PUBLISH */
    uint8_t qos;                 /* PUBLISH */
    struct packet_slice topic;   /* PUBLISH; may be empty in MQTT 5, with a topic alias */
    struct packet_slice payload; /* PUBLISH */
    struct packet_slice codes;   /* SUBACK, and UNSUBACK of MQTT 5: one byte each */
    struct packet_slice properties; /* checked; empty in MQTT 3.1.1 */
};

/* Decodes a complete packet, total_len bytes at `data`, as framed by packet_frame(). version: 4 or
 * 5. With version 5, a CONNACK of MQTT 3.1.1 with return code 1 to 5 is accepted too: a server that
 * does not know version 5 refuses this way. False: see fault; *out is undefined. */
bool packet_decode(const uint8_t *data, const struct packet_frame *frame, int version,
                   struct packet *out, struct packet_fault *fault);

/* Decodes everything but the payload of a framed PUBLISH that begins at `data`. PARTIAL: this needs
 * more than len bytes. Properties beyond 64 KB are left out. */
enum packet_framing packet_decode_head(const uint8_t *data, size_t len,
                                       const struct packet_frame *frame, int version,
                                       struct packet *out, struct packet_fault *fault);
/* Whether a message may have that topic: well-formed, not empty, no wildcard. */
bool packet_topic_is_valid(struct packet_slice topic);
/* Reads the parts of a malformed PUBLISH that are still readable: frame, topic, QoS, DUP and packet
 * identifier (0: not readable). PARTIAL: this needs more than len bytes. MALFORMED: the end of the
 * packet is unknown.
 */
enum packet_framing packet_scan_publish(const uint8_t *data, size_t len, struct packet_frame *frame,
                                        struct packet *out);

/* ---- encoding: functions append; out of memory sets out->failed ---- */

#define PACKET_SIZE_MAX 268435460 /* 256 MiB and a header, section 2.1.4 */

/* Section 3.1. Takes will, credentials, user properties and session expiry from the configuration.
 * topic_alias_maximum is sent to MQTT 5 servers; 0: not sent. */
void packet_write_connect(struct buffer *out, const struct client_config *config,
                          uint16_t keepalive_s, uint16_t topic_alias_maximum);
/* The subscription identifier of the first filter applies to all: a packet has only one (section
 * 3.8.2.1.2). */
void packet_write_subscribe(struct buffer *out, int version, uint16_t packet_id,
                            const struct client_subscription *subscriptions, size_t n);
void packet_write_unsubscribe(struct buffer *out, int version, uint16_t packet_id,
                              char *const *filters, size_t n);
/* packet_id: 0 with QoS 0. Properties have their names of base/message.h and are ignored in 3.1.1.
 * ERR_ARGUMENT: a property that is unknown, malformed, repeated or not allowed in a client's
 * PUBLISH, an invalid topic, or a packet beyond PACKET_SIZE_MAX; nothing is appended. */
enum err packet_write_publish(struct buffer *out, int version,
                              const struct engine_publication *publication,
                              uint16_t packet_id) MUST_CHECK;
/* Sets DUP in an encoded PUBLISH. */
void packet_mark_duplicate(uint8_t *publish);
/* Reads DUP of an encoded PUBLISH. */
bool packet_publish_is_duplicate(const uint8_t *publish);
bool packet_publish_retains(const uint8_t *publish);
/* PUBACK, PUBREC, PUBREL, PUBCOMP. The reason code is omitted if it is 0, and in 3.1.1. */
void packet_write_ack(struct buffer *out, int version, enum packet_type type, uint16_t packet_id,
                      uint8_t reason_code);
void packet_write_pingreq(struct buffer *out);
void packet_write_disconnect(struct buffer *out, int version, uint8_t reason_code);

#endif
