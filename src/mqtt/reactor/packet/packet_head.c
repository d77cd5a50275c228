/* Reads the head of a PUBLISH that is incomplete or malformed: what must be known to skip it. Pure;
 * any thread. */
#include "packet_internal.h"

#include "base/text.h"

#define PROPERTIES_MAX 65536 /* bytes; the decoder does not wait for more */

static uint8_t packet_head_qos(const struct packet_frame *frame) {
    return frame->flags >> 1 & 3;
}

/* Moves the reader to the end of the properties. If they are too long, leaves it before them and
 * sets *version to 0. False: the data ends within them. */
static bool packet_head_skip_properties(struct packet_reader *reader, int *version) {
    struct packet_slice properties;
    uint32_t len = 0;
    int len_len = packet_varint_read(reader->at, packet_left(reader), &len);
    if (len_len <= 0) {
        return false;
    }
    if (len > PROPERTIES_MAX) {
        *version = 0;
        return true;
    }
    reader->at += len_len;
    return packet_read_bytes(reader, len, &properties);
}

/* False: the data ends within. */
static bool packet_head_skip(struct packet_reader *reader, uint8_t qos, int *version) {
    struct packet_slice topic;
    uint16_t packet_id;
    return packet_read_prefixed(reader, &topic) &&
           (qos == 0 || packet_read_u16(reader, &packet_id)) &&
           (*version == 4 || packet_head_skip_properties(reader, version));
}

static size_t packet_head_min(size_t a, size_t b) {
    return a < b ? a : b;
}

enum packet_framing packet_decode_head(const uint8_t *data, size_t len,
                                       const struct packet_frame *frame, int version,
                                       struct packet *out, struct packet_fault *fault) {
    size_t there = packet_head_min(len, frame->total_len);
    struct packet_reader reader = {data + frame->header_len, data + there};
    bool whole = packet_head_skip(&reader, packet_head_qos(frame), &version);
    if (!whole &&
        there < packet_head_min(frame->total_len, frame->header_len + PACKET_HEAD_LEN_MAX)) {
        return PACKET_PARTIAL;
    }
    size_t head_len =
        whole ? (size_t)(reader.at - data) : there; /* otherwise the decoder says why */
    return packet_decode_publish_head(data, frame, head_len, version, out, fault)
               ? PACKET_FRAMED
               : PACKET_MALFORMED;
}

enum packet_framing packet_scan_publish(const uint8_t *data, size_t len, struct packet_frame *frame,
                                        struct packet *out) {
    uint32_t body_len;
    int len_len = packet_varint_read(data + 1, len - 1, &body_len);
    if (len_len <= 0) {
        return len_len == 0 ? PACKET_PARTIAL : PACKET_MALFORMED;
    }
    *frame = (struct packet_frame){.type = PACKET_PUBLISH,
                                   .flags = data[0] & 0x0F,
                                   .header_len = 1 + (size_t)len_len,
                                   .total_len = 1 + (size_t)len_len + body_len};
    *out = (struct packet){.type = PACKET_PUBLISH, .dup = (frame->flags & 8) != 0};
    struct packet_reader reader = {data + frame->header_len,
                                   data + packet_head_min(len, frame->total_len)};
    out->qos = packet_head_qos(frame) == 3 ? 0 : packet_head_qos(frame);
    bool whole = packet_read_prefixed(&reader, &out->topic) &&
                 (out->qos == 0 || packet_read_u16(&reader, &out->packet_id));
    return whole || len >= frame->total_len ? PACKET_FRAMED : PACKET_PARTIAL;
}

bool packet_topic_is_valid(struct packet_slice topic) {
    return topic.len > 0 && text_is_mqtt_string(topic.data, topic.len) &&
           !packet_has_wildcard(topic);
}
