/* Finds where one packet ends and the next begins (MQTT 5.0 section 2.1, the same in 3.1.1). Also
 * the integers and faults that the whole codec uses. Pure; any thread. */
#include "packet_internal.h"

#include <string.h>

#define VARINT_LEN_MAX 4

/* Section 2.1.2, direction of flow, and table 2-2, reserved flags. */
static const struct frame_type_row {
    bool from_server;
    uint8_t flags; /* of PUBLISH they have a meaning */
} frame_type_rows[16] = {
    [PACKET_CONNACK] = {true, 0},    [PACKET_PUBLISH] = {true, 0},  [PACKET_PUBACK] = {true, 0},
    [PACKET_PUBREC] = {true, 0},     [PACKET_PUBREL] = {true, 2},   [PACKET_PUBCOMP] = {true, 0},
    [PACKET_SUBACK] = {true, 0},     [PACKET_UNSUBACK] = {true, 0}, [PACKET_PINGRESP] = {true, 0},
    [PACKET_DISCONNECT] = {true, 0}, [PACKET_AUTH] = {true, 0},
};

bool packet_refuse(struct packet_fault *fault, uint8_t reason_code, const char *message) {
    *fault = (struct packet_fault){.reason_code = reason_code, .message = message};
    return false;
}

int packet_varint_read(const uint8_t *data, size_t len, uint32_t *out) {
    uint32_t value = 0;
    for (int i = 0; i < VARINT_LEN_MAX; i++) {
        if ((size_t)i == len) {
            return 0;
        }
        value |= (uint32_t)(data[i] & 0x7F) << (7 * i);
        if (data[i] < 0x80) {
            *out = value;
            return i + 1;
        }
    }
    return -1;
}

size_t packet_varint_len(uint32_t value) {
    size_t len = 1;
    for (value >>= 7; value > 0; value >>= 7) {
        len++;
    }
    return len;
}

bool packet_read_varint(struct packet_reader *reader, uint32_t *out) {
    int len = packet_varint_read(reader->at, packet_left(reader), out);
    if (len <= 0 || (size_t)len != packet_varint_len(*out)) {
        return false;
    }
    reader->at += len;
    return true;
}

bool packet_has_wildcard(struct packet_slice topic) {
    return topic.len > 0 &&
           (memchr(topic.data, '+', topic.len) || memchr(topic.data, '#', topic.len));
}

/* Section 3.3.1. */
static bool frame_publish_flags_are_valid(uint8_t flags, struct packet_fault *fault) {
    unsigned qos = flags >> 1 & 3;
    if (qos == 3) {
        return packet_refuse(fault, PACKET_FAULT_MALFORMED, "PUBLISH has QoS 3");
    }
    if (qos == 0 && (flags & 8) != 0) {
        return packet_refuse(fault, PACKET_FAULT_PROTOCOL, "PUBLISH has DUP with QoS 0");
    }
    return true;
}

static bool frame_first_byte_is_valid(enum packet_type type, uint8_t flags,
                                      struct packet_fault *fault) {
    if (type == PACKET_PUBLISH) {
        return frame_publish_flags_are_valid(flags, fault);
    }
    if (type == 0) {
        return packet_refuse(fault, PACKET_FAULT_MALFORMED, "a packet of the reserved type 0");
    }
    if (!frame_type_rows[type].from_server) {
        return packet_refuse(fault, PACKET_FAULT_PROTOCOL, "a packet that only a client may send");
    }
    if (frame_type_rows[type].flags != flags) {
        return packet_refuse(fault, PACKET_FAULT_MALFORMED, "reserved flags of a packet are wrong");
    }
    return true;
}

enum packet_framing packet_frame(const uint8_t *data, size_t len, struct packet_frame *out,
                                 struct packet_fault *fault) {
    if (len == 0) {
        return PACKET_PARTIAL;
    }
    out->type = (enum packet_type)(data[0] >> 4);
    out->flags = data[0] & 0x0F;
    if (!frame_first_byte_is_valid(out->type, out->flags, fault)) {
        return PACKET_MALFORMED;
    }
    uint32_t remaining_len;
    int length_len = packet_varint_read(data + 1, len - 1, &remaining_len);
    if (length_len < 0) {
        packet_refuse(fault, PACKET_FAULT_MALFORMED, "the Remaining Length exceeds four bytes");
        return PACKET_MALFORMED;
    }
    if (length_len == 0) {
        return PACKET_PARTIAL;
    }
    out->header_len = 1 + (size_t)length_len;
    out->total_len = out->header_len + remaining_len;
    return PACKET_FRAMED;
}
