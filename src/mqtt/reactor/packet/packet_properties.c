/* The table of the properties of MQTT 5.0 (section 2.2.2), and the rules derived from it: where
 * each is allowed, and how it is read, checked and written. Pure; any thread. */
#include "packet_internal.h"

#include <assert.h>
#include <string.h>
#include "base/text.h"

#define COUNT(array)      (sizeof(array) / sizeof((array)[0]))
#define NUMBER_DIGITS_MAX 10

/* Table 2-4, "Type". */
enum packet_property_type {
    TYPE_NONE, /* no such property */
    TYPE_BYTE,
    TYPE_TWO_BYTES,
    TYPE_FOUR_BYTES,
    TYPE_VARINT,
    TYPE_BYTES, /* from here on not numbers */
    TYPE_TEXT,
    TYPE_TOPIC, /* text that is a topic name */
    TYPE_PAIR,
};

/* Sets of packets. Bit 0 is the will, because no packet type is 0. */
#define IN(type)    (1U << (type))
#define IN_WILL     1U
#define IN_MESSAGE  (IN(PACKET_PUBLISH) | IN_WILL)
#define IN_CONNECTS (IN(PACKET_CONNECT) | IN(PACKET_CONNACK))
#define IN_AUTHS    (IN_CONNECTS | IN(PACKET_AUTH))
#define IN_PUBACKS  (IN(PACKET_PUBACK) | IN(PACKET_PUBREC) | IN(PACKET_PUBREL) | IN(PACKET_PUBCOMP))
#define IN_ANSWERS                                                                                 \
    (IN_PUBACKS | IN(PACKET_CONNACK) | IN(PACKET_SUBACK) | IN(PACKET_UNSUBACK) |                   \
     IN(PACKET_DISCONNECT) | IN(PACKET_AUTH))
#define IN_REQUESTS (IN(PACKET_CONNECT) | IN(PACKET_SUBSCRIBE) | IN(PACKET_UNSUBSCRIBE))
#define IN_ALL      (IN_ANSWERS | IN_REQUESTS | IN_MESSAGE)

/* Texts for people name the property; faults are static. */
#define PROPERTY(label)                                                                            \
    .misplaced = label " is not for this packet", .repeated = label " comes more than once",       \
    .wrong_value = label " has a value that is not allowed",                                       \
    .wrong_text = label " is not well-formed UTF-8 without U+0000"
#define FLAG       .type = TYPE_BYTE, .most = 1
#define TWO_BYTES  .type = TYPE_TWO_BYTES, .most = UINT16_MAX
#define FOUR_BYTES .type = TYPE_FOUR_BYTES, .most = UINT32_MAX

static const struct packet_property_row {
    const char *misplaced, *repeated, *wrong_value, *wrong_text;
    const char *message_name; /* in base/message.h */
    enum packet_property_type type;
    unsigned packets;         /* table 2-4, "Packet / Will Properties" */
    unsigned not_from_server; /* of these, where only a client may send it */
    unsigned not_from_client; /* of these, where only a server may send it */
    unsigned repeats;         /* of these, where it may occur more than once */
    uint32_t least, most;     /* bounds of numbers */
    uint8_t wrong_value_code; /* 0: protocol error */
} packet_property_rows[] = {
    [PROPERTY_PAYLOAD_FORMAT] = {PROPERTY("Payload Format Indicator"), FLAG, .packets = IN_MESSAGE,
                                 .message_name = "payload_format_indicator"},
    [PROPERTY_MESSAGE_EXPIRY] = {PROPERTY("Message Expiry Interval"), FOUR_BYTES,
                                 .packets = IN_MESSAGE, .message_name = "message_expiry_interval"},
    [PROPERTY_CONTENT_TYPE] = {PROPERTY("Content Type"), .type = TYPE_TEXT, .packets = IN_MESSAGE,
                               .message_name = "content_type"},
    [PROPERTY_RESPONSE_TOPIC] = {PROPERTY("Response Topic"), .type = TYPE_TOPIC,
                                 .packets = IN_MESSAGE, .message_name = "response_topic"},
    [PROPERTY_CORRELATION_DATA] = {PROPERTY("Correlation Data"), .type = TYPE_BYTES,
                                   .packets = IN_MESSAGE, .message_name = "correlation_data"},
    [PROPERTY_SUBSCRIPTION_IDENTIFIER] = {PROPERTY("Subscription Identifier"), .type = TYPE_VARINT,
                                          .least = 1, .most = PACKET_REMAINING_LEN_MAX,
                                          .packets = IN(PACKET_PUBLISH) | IN(PACKET_SUBSCRIBE),
                                          .not_from_client = IN(PACKET_PUBLISH),
                                          .repeats = IN(PACKET_PUBLISH),
                                          .message_name = "subscription_identifier"},
    [PROPERTY_SESSION_EXPIRY] = {PROPERTY("Session Expiry Interval"), FOUR_BYTES,
                                 .packets = IN_CONNECTS | IN(PACKET_DISCONNECT),
                                 .not_from_server = IN(PACKET_DISCONNECT)},
    [PROPERTY_ASSIGNED_CLIENT_ID] = {PROPERTY("Assigned Client Identifier"), .type = TYPE_TEXT,
                                     .packets = IN(PACKET_CONNACK)},
    [PROPERTY_SERVER_KEEPALIVE] = {PROPERTY("Server Keep Alive"), TWO_BYTES,
                                   .packets = IN(PACKET_CONNACK)},
    [PROPERTY_AUTH_METHOD] = {PROPERTY("Authentication Method"), .type = TYPE_TEXT,
                              .packets = IN_AUTHS},
    [PROPERTY_AUTH_DATA] = {PROPERTY("Authentication Data"), .type = TYPE_BYTES,
                            .packets = IN_AUTHS},
    [PROPERTY_REQUEST_PROBLEM] = {PROPERTY("Request Problem Information"), FLAG,
                                  .packets = IN(PACKET_CONNECT)},
    [PROPERTY_WILL_DELAY] = {PROPERTY("Will Delay Interval"), FOUR_BYTES, .packets = IN_WILL},
    [PROPERTY_REQUEST_RESPONSE] = {PROPERTY("Request Response Information"), FLAG,
                                   .packets = IN(PACKET_CONNECT)},
    [PROPERTY_RESPONSE_INFORMATION] = {PROPERTY("Response Information"), .type = TYPE_TEXT,
                                       .packets = IN(PACKET_CONNACK)},
    [PROPERTY_SERVER_REFERENCE] = {PROPERTY("Server Reference"), .type = TYPE_TEXT,
                                   .packets = IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT)},
    [PROPERTY_REASON_STRING] = {PROPERTY("Reason String"), .type = TYPE_TEXT,
                                .packets = IN_ANSWERS},
    [PROPERTY_RECEIVE_MAXIMUM] = {PROPERTY("Receive Maximum"), TWO_BYTES, .least = 1,
                                  .packets = IN_CONNECTS},
    [PROPERTY_TOPIC_ALIAS_MAXIMUM] = {PROPERTY("Topic Alias Maximum"), TWO_BYTES,
                                      .packets = IN_CONNECTS},
    [PROPERTY_TOPIC_ALIAS] = {PROPERTY("Topic Alias"), TWO_BYTES, .least = 1,
                              .wrong_value_code = PACKET_FAULT_TOPIC_ALIAS,
                              .packets = IN(PACKET_PUBLISH)},
    [PROPERTY_MAXIMUM_QOS] = {PROPERTY("Maximum QoS"), FLAG, .packets = IN(PACKET_CONNACK)},
    [PROPERTY_RETAIN_AVAILABLE] = {PROPERTY("Retain Available"), FLAG,
                                   .packets = IN(PACKET_CONNACK)},
    [PROPERTY_USER_PROPERTY] = {PROPERTY("User Property"), .type = TYPE_PAIR, .packets = IN_ALL,
                                .repeats = IN_ALL, .message_name = "user_property"},
    [PROPERTY_MAXIMUM_PACKET_SIZE] = {PROPERTY("Maximum Packet Size"), FOUR_BYTES, .least = 1,
                                      .packets = IN_CONNECTS},
    [PROPERTY_WILDCARD_AVAILABLE] = {PROPERTY("Wildcard Subscription Available"), FLAG,
                                     .packets = IN(PACKET_CONNACK)},
    [PROPERTY_SUBSCRIPTION_IDENTIFIERS_AVAILABLE] = {PROPERTY("Subscription Identifiers Available"),
                                                     FLAG, .packets = IN(PACKET_CONNACK)},
    [PROPERTY_SHARED_AVAILABLE] = {PROPERTY("Shared Subscription Available"), FLAG,
                                   .packets = IN(PACKET_CONNACK)},
};

_Static_assert(COUNT(packet_property_rows) <= 64, "a set of properties is 64 bits");

/* NULL: no such property. */
static const struct packet_property_row *packet_properties_row_of(uint8_t id) {
    return id < COUNT(packet_property_rows) && packet_property_rows[id].type != TYPE_NONE
               ? &packet_property_rows[id]
               : NULL;
}

const char *packet_property_name(uint8_t id) {
    const struct packet_property_row *row = packet_properties_row_of(id);
    return row ? row->message_name : NULL;
}

/* ---- reading ---- */

static bool packet_properties_read_number(struct packet_reader *reader, size_t len, uint32_t *out) {
    struct packet_slice bytes;
    if (!packet_read_bytes(reader, len, &bytes)) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < len; i++) {
        *out = *out << 8 | bytes.data[i];
    }
    return true;
}

static bool packet_properties_read_value(struct packet_reader *reader,
                                         enum packet_property_type type,
                                         struct packet_property *out) {
    switch (type) {
    case TYPE_BYTE:
        return packet_properties_read_number(reader, 1, &out->number);
    case TYPE_TWO_BYTES:
        return packet_properties_read_number(reader, 2, &out->number);
    case TYPE_FOUR_BYTES:
        return packet_properties_read_number(reader, 4, &out->number);
    case TYPE_VARINT:
        return packet_read_varint(reader, &out->number);
    case TYPE_PAIR:
        return packet_read_prefixed(reader, &out->key) && packet_read_prefixed(reader, &out->text);
    default:
        return packet_read_prefixed(reader, &out->text);
    }
}

bool packet_property_next(struct packet_slice properties, size_t *offset,
                          struct packet_property *out) {
    if (*offset >= properties.len) {
        return false;
    }
    struct packet_reader reader = {properties.data + *offset, properties.data + properties.len};
    *out = (struct packet_property){.id = *reader.at++};
    const struct packet_property_row *row = packet_properties_row_of(out->id);
    bool whole = row && packet_properties_read_value(&reader, row->type, out);
    assert(whole); /* properties have been checked before */
    *offset = (size_t)(reader.at - properties.data);
    return whole;
}

bool packet_property_find(struct packet_slice properties, uint8_t id, struct packet_property *out) {
    size_t offset = 0;
    while (packet_property_next(properties, &offset, out)) {
        if (out->id == id) {
            return true;
        }
    }
    return false;
}

/* ---- checks ---- */

static bool packet_properties_value_is_valid(const struct packet_property_row *row,
                                             const struct packet_property *property) {
    if (row->type == TYPE_TOPIC) {
        return property->text.len > 0 && !packet_has_wildcard(property->text);
    }
    return property->number >= row->least && property->number <= row->most;
}

static bool packet_properties_text_is_valid(const struct packet_property_row *row,
                                            const struct packet_property *property) {
    return row->type == TYPE_BYTES ||
           (text_is_mqtt_string(property->key.data, property->key.len) &&
            text_is_mqtt_string(property->text.data, property->text.len));
}

/* A property that the packet does not allow makes it malformed (2.2.2.2). One that only a client
 * may send is a protocol error. */
static bool packet_properties_place_is_valid(const struct packet_property_row *row,
                                             enum packet_type type, struct packet_fault *fault) {
    if ((row->packets & IN(type)) == 0) {
        return packet_refuse(fault, PACKET_FAULT_MALFORMED, row->misplaced);
    }
    if ((row->not_from_server & IN(type)) != 0) {
        return packet_refuse(fault, PACKET_FAULT_PROTOCOL, row->misplaced);
    }
    return true;
}

static bool packet_properties_one_is_valid(const struct packet_property_row *row,
                                           const struct packet_property *property,
                                           struct packet_fault *fault) {
    if (!packet_properties_text_is_valid(row, property)) {
        return packet_refuse(fault, PACKET_FAULT_MALFORMED, row->wrong_text);
    }
    if (!packet_properties_value_is_valid(row, property)) {
        uint8_t code = row->wrong_value_code;
        return packet_refuse(fault, code != 0 ? code : PACKET_FAULT_PROTOCOL, row->wrong_value);
    }
    return true;
}

/* Adds the property to those seen in this packet; false: it was already seen and may not be
 * repeated. */
static bool packet_properties_is_first(const struct packet_property_row *row, enum packet_type type,
                                       uint64_t *seen) {
    uint64_t bit = UINT64_C(1) << (row - packet_property_rows);
    bool first = (*seen & bit) == 0;
    *seen |= bit;
    return first || (row->repeats & IN(type)) != 0;
}

bool packet_properties_check(struct packet_slice properties, enum packet_type type,
                             struct packet_fault *fault) {
    struct packet_reader reader = {properties.data, properties.data + properties.len};
    uint64_t seen = 0;
    while (packet_left(&reader) > 0) {
        struct packet_property property = {.id = *reader.at++};
        const struct packet_property_row *row = packet_properties_row_of(property.id);
        if (!row) {
            return packet_refuse(fault, PACKET_FAULT_MALFORMED, "an undefined property");
        }
        if (!packet_properties_place_is_valid(row, type, fault)) {
            return false;
        }
        if (!packet_properties_read_value(&reader, row->type, &property)) {
            return packet_refuse(fault, PACKET_FAULT_MALFORMED, "a property is truncated");
        }
        if (!packet_properties_one_is_valid(row, &property, fault)) {
            return false;
        }
        if (!packet_properties_is_first(row, type, &seen)) {
            return packet_refuse(fault, PACKET_FAULT_PROTOCOL, row->repeated);
        }
    }
    return true;
}

/* ---- writing ---- */

void packet_property_write(struct buffer *out, const struct packet_property *property) {
    const struct packet_property_row *row = packet_properties_row_of(property->id);
    assert(row);
    packet_write_u8(out, property->id);
    switch (row->type) {
    case TYPE_BYTE:
        packet_write_u8(out, (uint8_t)property->number);
        break;
    case TYPE_TWO_BYTES:
        packet_write_u16(out, (uint16_t)property->number);
        break;
    case TYPE_FOUR_BYTES:
        packet_write_u32(out, property->number);
        break;
    case TYPE_VARINT:
        packet_write_varint(out, property->number);
        break;
    case TYPE_PAIR:
        packet_write_prefixed(out, property->key.data, property->key.len);
        packet_write_prefixed(out, property->text.data, property->text.len);
        break;
    default:
        packet_write_prefixed(out, property->text.data, property->text.len);
        break;
    }
}

static size_t packet_properties_one_len(const struct packet_property_row *row,
                                        const struct packet_property *property) {
    switch (row->type) {
    case TYPE_BYTE:
        return 1 + 1;
    case TYPE_TWO_BYTES:
        return 1 + 2;
    case TYPE_FOUR_BYTES:
        return 1 + 4;
    case TYPE_VARINT:
        return 1 + packet_varint_len(property->number);
    case TYPE_PAIR:
        return 1 + 2 + property->key.len + 2 + property->text.len;
    default:
        return 1 + 2 + property->text.len;
    }
}

/* ---- properties of messages ---- */

static const struct packet_property_row *packet_properties_row_of_name(const char *name) {
    for (size_t i = 0; i < COUNT(packet_property_rows); i++) {
        if (packet_property_rows[i].message_name &&
            strcmp(packet_property_rows[i].message_name, name) == 0) {
            return &packet_property_rows[i];
        }
    }
    return NULL;
}

/* Decimal digits only, at most UINT32_MAX. */
static bool packet_properties_parse_number(const char *text, size_t len, uint32_t *out) {
    uint64_t number = 0;
    if (len == 0 || len > NUMBER_DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    *out = (uint32_t)number;
    return number <= UINT32_MAX;
}

/* The slices borrow from the message. False: the value has no valid form. */
static bool packet_properties_from_message(const struct packet_property_row *row,
                                           const struct message_property *from,
                                           struct packet_property *out) {
    *out = (struct packet_property){.id = (uint8_t)(row - packet_property_rows)};
    if (row->type < TYPE_BYTES) {
        return packet_properties_parse_number(from->value, from->value_len, &out->number);
    }
    out->text = (struct packet_slice){(const uint8_t *)from->value, from->value_len};
    if (row->type != TYPE_PAIR) {
        return from->value_len <= PACKET_STRING_LEN_MAX;
    }
    if (!from->key) {
        return false;
    }
    out->key = (struct packet_slice){(const uint8_t *)from->key, strlen(from->key)};
    return true;
}

enum err packet_message_properties_len(const struct message_property *properties, size_t n,
                                       size_t *out_len) {
    const unsigned here = IN(PACKET_PUBLISH);
    uint64_t seen = 0;
    *out_len = 0;
    for (size_t i = 0; i < n; i++) {
        struct packet_property property;
        struct packet_fault fault;
        const struct packet_property_row *row = packet_properties_row_of_name(properties[i].name);
        if (!row || (row->packets & ~row->not_from_client & here) == 0 ||
            !packet_properties_from_message(row, &properties[i], &property) ||
            !packet_properties_one_is_valid(row, &property, &fault) ||
            !packet_properties_is_first(row, PACKET_PUBLISH, &seen)) {
            return ERR_ARGUMENT;
        }
        *out_len += packet_properties_one_len(row, &property);
    }
    return ERR_OK;
}

void packet_message_properties_write(struct buffer *out, const struct message_property *properties,
                                     size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct packet_property property;
        bool right = packet_properties_from_message(
            packet_properties_row_of_name(properties[i].name), &properties[i], &property);
        assert(right);
        packet_property_write(out, &property);
    }
}
