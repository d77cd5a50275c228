/* Fuzzes mqtt/reactor/packet: the input is what a server sends, any number of packets, read by both
 * versions. Each packet lies in a block of its own size, so that a byte read beyond it is seen.
 * Decoded packets must be consistent (slices within the packet, properties that can be iterated),
 * and packets that a client could have sent must encode to the same bytes again. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "mqtt/reactor/packet/packet.h"

#define PROPERTIES_MAX 64
#define NUMBER_LEN     12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void slice_is_within(struct packet_slice slice, const uint8_t *data, size_t len) {
    assert(slice.len == 0 || (slice.data >= data && slice.data + slice.len <= data + len));
}

/* How many there are. */
static size_t walk_properties(struct packet_slice properties) {
    struct packet_property property, found;
    size_t offset = 0, count = 0, before = 0;
    while (packet_property_next(properties, &offset, &property)) {
        assert(offset > before && offset <= properties.len);
        slice_is_within(property.key, properties.data, properties.len);
        slice_is_within(property.text, properties.data, properties.len);
        assert(text_is_mqtt_string(property.key.data, property.key.len));
        assert(packet_property_find(properties, property.id, &found));
        before = offset;
        count++;
    }
    assert(offset == properties.len);
    return count;
}

/* ---- encoding again ---- */

struct copies {
    struct message_property properties[PROPERTIES_MAX];
    char numbers[PROPERTIES_MAX][NUMBER_LEN];
    char *keys[PROPERTIES_MAX];
    size_t count;
};

static char *copy_text(struct packet_slice slice) {
    char *text = text_copy(slice.data, slice.len);
    assert(text);
    return text;
}

/* False: a client cannot send it. */
static bool copy_property(const struct packet_property *from, struct copies *copies) {
    size_t at = copies->count++;
    struct message_property *to = &copies->properties[at];
    if (from->id == PROPERTY_SUBSCRIPTION_IDENTIFIER || from->id == PROPERTY_TOPIC_ALIAS) {
        return false;
    }
    *to = (struct message_property){packet_property_name(from->id), NULL,
                                    (const char *)from->text.data, from->text.len};
    assert(to->name);
    if (from->id == PROPERTY_USER_PROPERTY) {
        to->key = copies->keys[at] = copy_text(from->key);
    } else if (from->id == PROPERTY_PAYLOAD_FORMAT || from->id == PROPERTY_MESSAGE_EXPIRY) {
        to->value = copies->numbers[at];
        to->value_len = (size_t)snprintf(copies->numbers[at], NUMBER_LEN, "%u", from->number);
    }
    return true;
}

static bool copy_properties(struct packet_slice properties, struct copies *copies) {
    struct packet_property property;
    size_t offset = 0;
    bool sendable = true;
    while (sendable && packet_property_next(properties, &offset, &property)) {
        sendable = copies->count < PROPERTIES_MAX && copy_property(&property, copies);
    }
    return sendable;
}

static void publish_again(const struct packet *packet, const uint8_t *data, size_t len,
                          int version) {
    struct copies copies = {.count = 0};
    struct buffer out = {0};
    char *topic = copy_text(packet->topic);
    struct engine_publication publication = {.topic = topic,
                                             .payload = packet->payload.data,
                                             .payload_len = packet->payload.len,
                                             .qos = packet->qos,
                                             .retain = packet->retain};
    if (packet->topic.len > 0 && copy_properties(packet->properties, &copies)) {
        publication.properties = copies.properties;
        publication.property_count = copies.count;
        enum err err = packet_write_publish(&out, version, &publication, packet->packet_id);
        assert(err == ERR_OK && !out.failed);
        if (packet->dup) {
            packet_mark_duplicate((uint8_t *)out.data);
        }
        /* The length may have had a long form under 3.1.1. */
        assert(out.len <= len && (version == 4 || out.len == len));
        assert(out.len < len || memcmp(out.data, data, len) == 0);
    }
    for (size_t i = 0; i < copies.count; i++) {
        free(copies.keys[i]);
    }
    free(topic);
    buffer_fini(&out);
}

static void acknowledge_again(const struct packet *packet, int version) {
    struct buffer out = {0};
    struct packet_frame frame;
    struct packet_fault fault;
    struct packet again;
    packet_write_ack(&out, version, packet->type, packet->packet_id, packet->reason_code);
    const uint8_t *bytes = (const uint8_t *)out.data;
    assert(packet_frame(bytes, out.len, &frame, &fault) == PACKET_FRAMED);
    assert(frame.total_len == out.len);
    assert(packet_decode(bytes, &frame, version, &again, &fault));
    assert(again.type == packet->type && again.packet_id == packet->packet_id);
    assert(again.reason_code == packet->reason_code);
    buffer_fini(&out);
}

/* ---- decoding ---- */

static void check_packet(const struct packet *packet, const uint8_t *data, size_t len,
                         int version) {
    slice_is_within(packet->topic, data, len);
    slice_is_within(packet->payload, data, len);
    slice_is_within(packet->codes, data, len);
    slice_is_within(packet->properties, data, len);
    size_t property_count = walk_properties(packet->properties);
    assert(version == 5 || property_count == 0);
    if (packet->type == PACKET_PUBLISH) {
        publish_again(packet, data, len, version);
    } else if (packet->type >= PACKET_PUBACK && packet->type <= PACKET_PUBCOMP) {
        acknowledge_again(packet, version);
    }
}

static void decode(const uint8_t *data, const struct packet_frame *frame) {
    uint8_t *exact = malloc(frame->total_len);
    assert(exact);
    memcpy(exact, data, frame->total_len);
    for (int version = 4; version <= 5; version++) {
        struct packet packet;
        struct packet_fault fault = {0};
        if (packet_decode(exact, frame, version, &packet, &fault)) {
            check_packet(&packet, exact, frame->total_len, version);
        } else {
            assert(fault.reason_code >= 0x81 && fault.message);
        }
    }
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (size_t at = 0; at < size;) {
        struct packet_frame frame;
        struct packet_fault fault = {0};
        enum packet_framing framing = packet_frame(data + at, size - at, &frame, &fault);
        if (framing != PACKET_FRAMED) {
            assert(framing == PACKET_PARTIAL ? size - at < 5 : fault.message != NULL);
            break;
        }
        assert(frame.header_len >= 2 && frame.header_len <= 5);
        if (frame.total_len > size - at) {
            break;
        }
        decode(data + at, &frame);
        at += frame.total_len;
    }
    return 0;
}
