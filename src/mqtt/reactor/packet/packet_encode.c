/* Encodes the packets of a client: structs to bytes, appended to a buffer. Pure; any thread. The
 * configuration has already been checked. */
#include "packet_internal.h"

#include <assert.h>
#include <string.h>
#include "base/text.h"

#define FIRST_BYTE(type, flags) ((uint8_t)((type) << 4 | (flags)))
#define REQUEST_FLAGS           2 /* of PUBREL, SUBSCRIBE, UNSUBSCRIBE: table 2-2 */
#define DUP_FLAG                8
#define RETAIN_FLAG             1

enum packet_connect_flags { /* section 3.1.2.3 */
                            CONNECT_CLEAN_START = 0x02,
                            CONNECT_WILL = 0x04,
                            CONNECT_WILL_QOS_SHIFT = 3,
                            CONNECT_WILL_RETAIN = 0x20,
                            CONNECT_PASSWORD = 0x40,
                            CONNECT_USERNAME = 0x80,
};

/* ---- parts of packets ---- */

void packet_write_u8(struct buffer *out, uint8_t value) {
    buffer_append(out, &value, 1);
}

void packet_write_u16(struct buffer *out, uint16_t value) {
    buffer_append(out, (const uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}

void packet_write_u32(struct buffer *out, uint32_t value) {
    packet_write_u16(out, (uint16_t)(value >> 16));
    packet_write_u16(out, (uint16_t)value);
}

void packet_write_varint(struct buffer *out, uint32_t value) {
    assert(value <= PACKET_REMAINING_LEN_MAX);
    for (; value > 0x7F; value >>= 7) {
        packet_write_u8(out, (uint8_t)(value | 0x80));
    }
    packet_write_u8(out, (uint8_t)value);
}

void packet_write_prefixed(struct buffer *out, const void *data, size_t len) {
    assert(len <= PACKET_STRING_LEN_MAX);
    packet_write_u16(out, (uint16_t)len);
    buffer_append(out, data, len);
}

static void encode_text(struct buffer *out, const char *text) {
    packet_write_prefixed(out, text, strlen(text));
}

static void encode_number_property(struct buffer *out, uint8_t id, uint32_t number) {
    packet_property_write(out, &(struct packet_property){.id = id, .number = number});
}

static void encode_text_property(struct buffer *out, uint8_t id, const char *text) {
    if (text) {
        packet_write_u8(out, id);
        encode_text(out, text);
    }
}

static void encode_user_properties(struct buffer *out, const struct client_pair *pairs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        packet_write_u8(out, PROPERTY_USER_PROPERTY);
        encode_text(out, pairs[i].name);
        encode_text(out, pairs[i].value);
    }
}

struct encode_number_row {
    uint8_t id;
    uint32_t number;
    uint32_t omitted; /* its default, or a value that must not be sent */
};

static void encode_numbers(struct buffer *out, const struct encode_number_row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (rows[i].number != rows[i].omitted) {
            encode_number_property(out, rows[i].id, rows[i].number);
        }
    }
}

/* Appends the length of `block` and `block`, and frees it. */
static void encode_block(struct buffer *out, struct buffer *block) {
    assert(block->len <= PACKET_REMAINING_LEN_MAX);
    packet_write_varint(out, (uint32_t)block->len);
    buffer_append(out, block->data, block->len);
    out->failed = out->failed || block->failed;
    buffer_fini(block);
}

/* ---- CONNECT, section 3.1 ---- */

/* A password without a user name exists only in MQTT 5. */
static bool encode_sends_password(const struct client_config *config) {
    return config->password && (config->username || config->protocol_version == 5);
}

static uint8_t encode_connect_flags(const struct client_config *config) {
    unsigned flags = config->clean_start ? CONNECT_CLEAN_START : 0;
    if (config->will) {
        flags |= CONNECT_WILL | (unsigned)config->will->qos << CONNECT_WILL_QOS_SHIFT |
                 (config->will->retain ? CONNECT_WILL_RETAIN : 0);
    }
    flags |= config->username ? CONNECT_USERNAME : 0;
    flags |= encode_sends_password(config) ? CONNECT_PASSWORD : 0;
    return (uint8_t)flags;
}

static void encode_connect_properties(struct buffer *out, const struct client_config *config,
                                      uint16_t topic_alias_maximum) {
    const struct encode_number_row numbers[] = {
        {PROPERTY_SESSION_EXPIRY, config->session_expiry_s, 0},
        {PROPERTY_RECEIVE_MAXIMUM, config->receive_maximum, 0},
        {PROPERTY_MAXIMUM_PACKET_SIZE, config->max_packet_size, 0},
        {PROPERTY_TOPIC_ALIAS_MAXIMUM, topic_alias_maximum, 0},
        {PROPERTY_REQUEST_RESPONSE, config->request_response_information, 0},
        {PROPERTY_REQUEST_PROBLEM, config->request_problem_information, 1},
    };
    struct buffer properties = {0};
    encode_numbers(&properties, numbers, sizeof(numbers) / sizeof(numbers[0]));
    encode_user_properties(&properties, config->user_properties, config->user_property_count);
    encode_block(out, &properties);
}

/* Section 3.1.3.2. */
static void encode_will_properties(struct buffer *out, const struct client_will *will) {
    const struct encode_number_row numbers[] = {
        {PROPERTY_WILL_DELAY, will->delay_s, 0},
        {PROPERTY_PAYLOAD_FORMAT, will->payload_format_indicator, 0},
        {PROPERTY_MESSAGE_EXPIRY, will->message_expiry_interval, 0},
    };
    struct buffer properties = {0};
    encode_numbers(&properties, numbers, sizeof(numbers) / sizeof(numbers[0]));
    encode_text_property(&properties, PROPERTY_CONTENT_TYPE, will->content_type);
    encode_text_property(&properties, PROPERTY_RESPONSE_TOPIC, will->response_topic);
    if (will->correlation_data) {
        packet_write_u8(&properties, PROPERTY_CORRELATION_DATA);
        packet_write_prefixed(&properties, will->correlation_data, will->correlation_data_len);
    }
    encode_user_properties(&properties, will->user_properties, will->user_property_count);
    encode_block(out, &properties);
}

static void encode_will(struct buffer *out, const struct client_will *will, int version) {
    if (version == 5) {
        encode_will_properties(out, will);
    }
    encode_text(out, will->topic);
    packet_write_prefixed(out, will->payload, will->payload_len);
}

void packet_write_connect(struct buffer *out, const struct client_config *config,
                          uint16_t keepalive_s, uint16_t topic_alias_maximum) {
    struct buffer body = {0};
    encode_text(&body, "MQTT");
    packet_write_u8(&body, (uint8_t)config->protocol_version);
    packet_write_u8(&body, encode_connect_flags(config));
    packet_write_u16(&body, keepalive_s);
    if (config->protocol_version == 5) {
        encode_connect_properties(&body, config, topic_alias_maximum);
    }
    encode_text(&body, config->client_id);
    if (config->will) {
        encode_will(&body, config->will, config->protocol_version);
    }
    if (config->username) {
        encode_text(&body, config->username);
    }
    if (encode_sends_password(config)) {
        encode_text(&body, config->password);
    }
    packet_write_u8(out, FIRST_BYTE(PACKET_CONNECT, 0));
    encode_block(out, &body);
}

/* ---- SUBSCRIBE and UNSUBSCRIBE, sections 3.8 and 3.10 ---- */

/* identifier: of the subscription; 0: none. */
static void encode_begin_request(struct buffer *body, int version, uint16_t packet_id,
                                 uint32_t identifier) {
    assert(packet_id != 0);
    packet_write_u16(body, packet_id);
    if (version == 5) {
        struct buffer properties = {0};
        if (identifier != 0) {
            encode_number_property(&properties, PROPERTY_SUBSCRIPTION_IDENTIFIER, identifier);
        }
        encode_block(body, &properties);
    }
}

static uint8_t encode_subscription_options(const struct client_subscription *subscription,
                                           int version) {
    if (version == 4) {
        return subscription->qos;
    }
    unsigned retain_handling = subscription->retain_handling == RETAIN_HANDLING_STANDARD
                                   ? 0
                                   : subscription->retain_handling;
    return (uint8_t)(subscription->qos | (subscription->no_local ? 0x04 : 0) |
                     (subscription->retain_as_published ? 0x08 : 0) | retain_handling << 4);
}

void packet_write_subscribe(struct buffer *out, int version, uint16_t packet_id,
                            const struct client_subscription *subscriptions, size_t n) {
    assert(n > 0);
    struct buffer body = {0};
    encode_begin_request(&body, version, packet_id, subscriptions[0].identifier);
    for (size_t i = 0; i < n; i++) {
        encode_text(&body, subscriptions[i].filter);
        packet_write_u8(&body, encode_subscription_options(&subscriptions[i], version));
    }
    packet_write_u8(out, FIRST_BYTE(PACKET_SUBSCRIBE, REQUEST_FLAGS));
    encode_block(out, &body);
}

void packet_write_unsubscribe(struct buffer *out, int version, uint16_t packet_id,
                              char *const *filters, size_t n) {
    assert(n > 0);
    struct buffer body = {0};
    encode_begin_request(&body, version, packet_id, 0);
    for (size_t i = 0; i < n; i++) {
        encode_text(&body, filters[i]);
    }
    packet_write_u8(out, FIRST_BYTE(PACKET_UNSUBSCRIBE, REQUEST_FLAGS));
    encode_block(out, &body);
}

/* ---- PUBLISH, section 3.3 ---- */

static bool encode_topic_is_valid(const char *topic, size_t len) {
    return len > 0 && text_is_mqtt_string(topic, len) &&
           !packet_has_wildcard((struct packet_slice){(const uint8_t *)topic, len});
}

struct encode_publish_lens {
    size_t topic, properties;
    size_t remaining; /* the remaining length */
};

/* Checks and counts everything before the first byte is written, because payloads are large and
 * copied only once. */
static enum err encode_measure_publish(const struct engine_publication *publication, int version,
                                       struct encode_publish_lens *out) {
    out->topic = strlen(publication->topic);
    out->properties = 0;
    if (!encode_topic_is_valid(publication->topic, out->topic) ||
        publication->payload_len > PACKET_REMAINING_LEN_MAX) {
        return ERR_ARGUMENT;
    }
    out->remaining = 2 + out->topic + (publication->qos > 0 ? 2 : 0) + publication->payload_len;
    if (version == 5) {
        enum err err = packet_message_properties_len(publication->properties,
                                                     publication->property_count, &out->properties);
        if (err != ERR_OK || out->properties > PACKET_REMAINING_LEN_MAX) {
            return ERR_ARGUMENT;
        }
        out->remaining += packet_varint_len((uint32_t)out->properties) + out->properties;
    }
    return out->remaining <= PACKET_REMAINING_LEN_MAX ? ERR_OK : ERR_ARGUMENT;
}

enum err packet_write_publish(struct buffer *out, int version,
                              const struct engine_publication *publication, uint16_t packet_id) {
    assert(publication->qos <= 2 && (packet_id != 0) == (publication->qos > 0));
    struct encode_publish_lens lens;
    enum err err = encode_measure_publish(publication, version, &lens);
    if (err != ERR_OK) {
        return err;
    }
    unsigned flags = (unsigned)publication->qos << 1 | (publication->retain ? 1 : 0);
    packet_write_u8(out, FIRST_BYTE(PACKET_PUBLISH, flags));
    packet_write_varint(out, (uint32_t)lens.remaining);
    packet_write_prefixed(out, publication->topic, lens.topic);
    if (publication->qos > 0) {
        packet_write_u16(out, packet_id);
    }
    if (version == 5) {
        packet_write_varint(out, (uint32_t)lens.properties);
        packet_message_properties_write(out, publication->properties, publication->property_count);
    }
    buffer_append(out, publication->payload, publication->payload_len);
    return ERR_OK;
}

void packet_mark_duplicate(uint8_t *publish) {
    publish[0] |= DUP_FLAG;
}

bool packet_publish_is_duplicate(const uint8_t *publish) {
    return (publish[0] & DUP_FLAG) != 0;
}

bool packet_publish_retains(const uint8_t *publish) {
    return (publish[0] & RETAIN_FLAG) != 0;
}

/* ---- packets of a few bytes ---- */

void packet_write_ack(struct buffer *out, int version, enum packet_type type, uint16_t packet_id,
                      uint8_t reason_code) {
    assert(type >= PACKET_PUBACK && type <= PACKET_PUBCOMP && packet_id != 0);
    bool with_reason = version == 5 && reason_code != 0;
    const uint8_t bytes[] = {FIRST_BYTE(type, type == PACKET_PUBREL ? REQUEST_FLAGS : 0),
                             with_reason ? 3 : 2, (uint8_t)(packet_id >> 8), (uint8_t)packet_id,
                             reason_code};
    buffer_append(out, bytes, with_reason ? 5 : 4);
}

void packet_write_pingreq(struct buffer *out) {
    buffer_append(out, (const uint8_t[]){FIRST_BYTE(PACKET_PINGREQ, 0), 0}, 2);
}

void packet_write_disconnect(struct buffer *out, int version, uint8_t reason_code) {
    bool with_reason = version == 5 && reason_code != 0;
    const uint8_t bytes[] = {FIRST_BYTE(PACKET_DISCONNECT, 0), with_reason ? 1 : 0, reason_code};
    buffer_append(out, bytes, with_reason ? 3 : 2);
}
