/* Owns the messages that are read and discarded: those above the node's bound, and those whose kind
 * has already ended a connection and would end every further one. Their topic and identifier are
 * read from the head; the rest is discarded as it arrives, whatever its length. A completely
 * received message is acknowledged in its turn, and the worker is notified. Worker thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "mqtt/reason_codes.h"
#include "mqtt/reactor/reactor.h"

#define TOPIC_SHOWN_LEN 256

struct skip {
    size_t left;  /* bytes still to come */
    size_t bytes; /* of the packet */
    uint16_t packet_id;
    uint8_t qos;
    uint8_t reason; /* enum engine_skip */
    bool dup;
    char topic[TOPIC_SHOWN_LEN];
};

/* The reason code of PUBACK and PUBREC in MQTT 5. */
static const uint8_t skip_reason_codes[] = {
    [ENGINE_SKIP_OVERSIZE] = REASON_QUOTA_EXCEEDED,
    [ENGINE_SKIP_TOPIC] = REASON_TOPIC_NAME_INVALID,
    [ENGINE_SKIP_ALIAS] = REASON_TOPIC_NAME_INVALID,
    [ENGINE_SKIP_CONTENT] = REASON_UNSPECIFIED,
};

/* A printable topic: other bytes are shown as \xNN. */
static void skip_format_topic(struct packet_slice topic, char out[TOPIC_SHOWN_LEN]) {
    size_t at = 0, len = 0;
    while (at < topic.len && len < TOPIC_SHOWN_LEN - 8) {
        size_t n = text_utf8_char_len(topic.data + at, topic.len - at);
        if (n > 0 && !text_has_control(topic.data + at, n)) {
            memcpy(out + len, topic.data + at, n);
            len += n;
            at += n;
        } else {
            len += (size_t)snprintf(out + len, 5, "\\x%02x", topic.data[at++]);
        }
    }
    snprintf(out + len, 4, "%s", at < topic.len ? "..." : "");
}

static void skip_report(struct engine_connection *connection, const struct skip *skip) {
    const struct engine_events *events = connection->engine->events;
    if (events->skipped) {
        events->skipped(connection->session->client,
                        &(struct engine_skipped){.reason = (enum engine_skip)skip->reason,
                                                 .topic = skip->topic,
                                                 .bytes = skip->bytes,
                                                 .qos = skip->qos});
    }
}

/* The message was completely received. Without an identifier, there is nothing to acknowledge. */
static void skip_finish(struct engine_connection *connection) {
    struct skip *skip = connection->skip;
    struct packet packet = {
        .type = PACKET_PUBLISH, .packet_id = skip->packet_id, .qos = skip->qos, .dup = skip->dup};
    connection->skip = NULL;
    if (skip->packet_id == 0 ||
        deliver_discard(connection, &packet, skip_reason_codes[skip->reason])) {
        skip_report(connection, skip);
    }
    free(skip);
}

size_t skip_go_on(struct engine_connection *connection, size_t len) {
    struct skip *skip = connection->skip;
    size_t used = len < skip->left ? len : skip->left;
    skip->left -= used;
    if (skip->left == 0) {
        skip_finish(connection);
    }
    return used;
}

/* len: the available bytes of the packet. */
static size_t skip_begin(struct engine_connection *connection, const struct packet_frame *frame,
                         const struct packet *packet, struct packet_slice topic,
                         enum engine_skip reason, size_t len) {
    if (packet->packet_id != 0 && !deliver_has_packet_id(connection, packet->packet_id) &&
        !deliver_may_accept(connection)) {
        reactor_pause(connection, READING_AHEAD);
        return 0;
    }
    struct skip *skip = calloc(1, sizeof *skip);
    if (!skip) {
        connection_end(connection, &(struct engine_closed){.error = CLIENT_ERROR_OUT_OF_MEMORY,
                                                           .message = "out of memory",
                                                           .reason_code = -1});
        return 0;
    }
    skip->left = skip->bytes = frame->total_len;
    skip->packet_id = packet->packet_id;
    skip->qos = packet->qos;
    skip->dup = packet->dup;
    skip->reason = (uint8_t)reason;
    skip_format_topic(topic, skip->topic);
    connection->skip = skip;
    return skip_go_on(connection, len);
}

static const struct packet_fault skip_too_large = {
    .reason_code = REASON_PACKET_TOO_LARGE,
    .message = "the broker sent a packet larger than allowed (max_packet_size of the client, "
               "setting max_packet_bytes of the node)"};

static bool skip_exceeds_announced(const struct engine_connection *connection,
                                   const struct packet_frame *frame) {
    uint32_t announced = connection->config->max_packet_size;
    return announced > 0 && frame->total_len > announced;
}

static bool skip_is_allowed(const struct engine_connection *connection,
                            const struct packet_frame *frame) {
    return frame->type == PACKET_PUBLISH && connection->state == CONNECTION_UP &&
           connection->skips_oversize && !skip_exceeds_announced(connection, frame);
}

size_t skip_oversize(struct engine_connection *connection, const uint8_t *data, size_t len,
                     const struct packet_frame *frame) {
    struct packet packet;
    struct packet_fault fault;
    struct packet_slice topic;
    if (!skip_is_allowed(connection, frame)) {
        connection_refuse(connection, &skip_too_large);
        return 0;
    }
    switch (packet_decode_head(data, len, frame, connection->version, &packet, &fault)) {
    case PACKET_PARTIAL:
        return 0;
    case PACKET_MALFORMED:
        return skip_malformed(connection, data, len, &fault);
    default:
        break;
    }
    if (alias_topic(connection, &packet, &topic) == ALIAS_ENDED) {
        return 0;
    }
    return skip_begin(connection, frame, &packet, topic, ENGINE_SKIP_OVERSIZE, len);
}

size_t skip_malformed(struct engine_connection *connection, const uint8_t *data, size_t len,
                      const struct packet_fault *fault) {
    struct packet_frame frame;
    struct packet packet;
    bool is_message = data[0] >> 4 == PACKET_PUBLISH && connection->state == CONNECTION_UP;
    if (!is_message || !(connection->workarounds & ENGINE_WORKAROUND_SKIP_MALFORMED)) {
        connection_refuse_with_workaround(connection, fault,
                                          is_message ? ENGINE_WORKAROUND_SKIP_MALFORMED : 0);
        return 0;
    }
    enum packet_framing framing = packet_scan_publish(data, len, &frame, &packet);
    if (framing == PACKET_PARTIAL) {
        return 0;
    }
    if (framing == PACKET_MALFORMED || skip_exceeds_announced(connection, &frame)) {
        connection_refuse(connection, framing == PACKET_MALFORMED ? fault : &skip_too_large);
        return 0;
    }
    return skip_begin(connection, &frame, &packet, packet.topic,
                      packet_topic_is_valid(packet.topic) ? ENGINE_SKIP_CONTENT : ENGINE_SKIP_TOPIC,
                      len);
}

bool skip_unknown_alias(struct engine_connection *connection, const struct packet *packet) {
    struct packet_property alias = {0};
    char name[32];
    bool found = packet_property_find(packet->properties, PROPERTY_TOPIC_ALIAS, &alias);
    int len = snprintf(name, sizeof(name), "alias %u", found ? alias.number : 0);
    struct packet_frame frame = {.total_len = packet->properties.len + packet->payload.len};
    struct packet_slice topic = {(const uint8_t *)name, (size_t)len};
    return skip_begin(connection, &frame, packet, topic, ENGINE_SKIP_ALIAS, frame.total_len) > 0;
}

void skip_forget(struct engine_connection *connection) {
    free(connection->skip);
    connection->skip = NULL;
}
