/* Internals of the packet codec: bounded reading, the variable-length integers of MQTT, faults, and
 * encoded properties. Pure; any thread. */
#ifndef MQFLEET_PACKET_PACKET_INTERNAL_H
#define MQFLEET_PACKET_PACKET_INTERNAL_H

#include "mqtt/reactor/packet/packet.h"
#include "mqtt/reason_codes.h"

#define PACKET_STRING_LEN_MAX    65535     /* MQTT 5.0 section 1.5.4 */
#define PACKET_REMAINING_LEN_MAX 268435455 /* section 2.1.4 */
#define PACKET_HEADER_LEN_MAX    5
#define PACKET_HEAD_LEN_MAX      (2 + 65535 + 2 + 4 + 65536) /* topic, identifier, properties */

/* Section 1.2: a malformed packet cannot be parsed; a protocol error can be parsed but is not
 * allowed. */
enum {
    PACKET_FAULT_MALFORMED = REASON_MALFORMED_PACKET,
    PACKET_FAULT_PROTOCOL = REASON_PROTOCOL_ERROR,
    PACKET_FAULT_TOPIC_ALIAS = REASON_TOPIC_ALIAS_INVALID,
};

/* Always false, so that a check can end with `return packet_refuse(...)`. */
bool packet_refuse(struct packet_fault *fault, uint8_t reason_code, const char *message);

/* ---- reading; false or 0: too few bytes, nothing is consumed ---- */

struct packet_reader {
    const uint8_t *at, *end;
};

static inline size_t packet_left(const struct packet_reader *reader) {
    return (size_t)(reader->end - reader->at);
}

static inline bool packet_read_bytes(struct packet_reader *reader, size_t len,
                                     struct packet_slice *out) {
    if (packet_left(reader) < len) {
        return false;
    }
    *out = (struct packet_slice){reader->at, len};
    reader->at += len;
    return true;
}

static inline bool packet_read_u8(struct packet_reader *reader, uint8_t *out) {
    if (packet_left(reader) < 1) {
        return false;
    }
    *out = *reader->at++;
    return true;
}

static inline bool packet_read_u16(struct packet_reader *reader, uint16_t *out) {
    if (packet_left(reader) < 2) {
        return false;
    }
    *out = (uint16_t)(reader->at[0] << 8 | reader->at[1]);
    reader->at += 2;
    return true;
}

/* A string or binary data after its length of two bytes (sections 1.5.4, 1.5.6). */
static inline bool packet_read_prefixed(struct packet_reader *reader, struct packet_slice *out) {
    if (packet_left(reader) < 2) {
        return false;
    }
    size_t len = (size_t)(reader->at[0] << 8 | reader->at[1]);
    if (packet_left(reader) < 2 + len) {
        return false;
    }
    *out = (struct packet_slice){reader->at + 2, len};
    reader->at += 2 + len;
    return true;
}

/* Section 1.5.5. Returns the number of bytes, 1 to 4; 0: incomplete; -1: more than four. */
int packet_varint_read(const uint8_t *data, size_t len, uint32_t *out);
/* The number of bytes of its shortest form, the only one that MQTT 5 allows. */
size_t packet_varint_len(uint32_t value);
/* The same from a reader, shortest form only. */
bool packet_read_varint(struct packet_reader *reader, uint32_t *out);

/* Whether a topic name contains a wildcard, which is not allowed (section 4.7). For checked MQTT
 * strings. */
bool packet_has_wildcard(struct packet_slice topic);

/* ---- the head of a PUBLISH ---- */

/* Decodes everything before the payload, in the first head_len bytes. version 0: MQTT 5, but
 * without its properties and without the check that there is a topic. */
bool packet_decode_publish_head(const uint8_t *data, const struct packet_frame *frame,
                                size_t head_len, int version, struct packet *out,
                                struct packet_fault *fault);

/* ---- properties ---- */

/* Whether a server may send these properties, in this order, in that packet. */
bool packet_properties_check(struct packet_slice properties, enum packet_type type,
                             struct packet_fault *fault);
void packet_property_write(struct buffer *out, const struct packet_property *property);

/* The number of bytes of a message's properties in a PUBLISH, without their length field; checks
 * all of them. ERR_ARGUMENT: a property is unknown, malformed, repeated or not allowed for a
 * client. */
enum err packet_message_properties_len(const struct message_property *properties, size_t n,
                                       size_t *out_len) MUST_CHECK;
/* For checked properties. */
void packet_message_properties_write(struct buffer *out, const struct message_property *properties,
                                     size_t n);

/* ---- writing ---- */

void packet_write_u8(struct buffer *out, uint8_t value);
void packet_write_u16(struct buffer *out, uint16_t value);
void packet_write_u32(struct buffer *out, uint32_t value);
void packet_write_varint(struct buffer *out, uint32_t value);
/* Writes a length of two bytes and the data; len is at most PACKET_STRING_LEN_MAX. */
void packet_write_prefixed(struct buffer *out, const void *data, size_t len);

#endif
