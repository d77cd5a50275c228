/* Decodes the packets of a server, and checks every rule that one packet alone can break. Copies
 * nothing; pure, any thread. Requests, negotiated limits and topic aliases are the caller's. */
#include "packet_internal.h"

#include <assert.h>
#include <string.h>
#include "base/text.h"
#include "mqtt/reason_codes.h"

/* ---- reason codes of each packet ---- */

struct decode_code_list {
    const uint8_t *codes;
    size_t count;
};

#define DECODE_CODES(...)                                                                          \
    { (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}) }

/* MQTT 3.1.1 section 3.2.2.3. */
static const struct decode_code_list decode_codes_v4[16] = {
    [PACKET_CONNACK] =
        DECODE_CODES(RETURN_ACCEPTED, RETURN_UNACCEPTABLE_VERSION, RETURN_IDENTIFIER_REJECTED,
                     RETURN_SERVER_UNAVAILABLE, RETURN_BAD_CREDENTIALS, RETURN_NOT_AUTHORIZED),
};

/* Of SUBACK and UNSUBACK, in both versions: sections 3.9.3 and 3.11.3. */
static const struct decode_code_list decode_granting_codes[16] = {
    [PACKET_SUBACK] =
        DECODE_CODES(REASON_GRANTED_QOS_0, REASON_GRANTED_QOS_1, REASON_GRANTED_QOS_2),
    [PACKET_UNSUBACK] = DECODE_CODES(REASON_SUCCESS, REASON_NO_SUBSCRIPTION_EXISTED),
};

/* MQTT 5.0 table 2-6, and the table of each packet in chapter 3, without codes that only a client
 * may send. DISCONNECT with 0x8C is only in the former. */
static const struct decode_code_list decode_codes_v5[16] = {
    [PACKET_CONNACK] = DECODE_CODES(
        REASON_SUCCESS, REASON_UNSPECIFIED, REASON_MALFORMED_PACKET, REASON_PROTOCOL_ERROR,
        REASON_IMPLEMENTATION_ERROR, REASON_UNSUPPORTED_VERSION, REASON_IDENTIFIER_REJECTED,
        REASON_BAD_CREDENTIALS, REASON_NOT_AUTHORIZED, REASON_SERVER_UNAVAILABLE,
        REASON_SERVER_BUSY, REASON_BANNED, REASON_BAD_AUTHENTICATION_METHOD,
        REASON_TOPIC_NAME_INVALID, REASON_PACKET_TOO_LARGE, REASON_QUOTA_EXCEEDED,
        REASON_PAYLOAD_FORMAT_INVALID, REASON_RETAIN_NOT_SUPPORTED, REASON_QOS_NOT_SUPPORTED,
        REASON_USE_ANOTHER_SERVER, REASON_SERVER_MOVED, REASON_CONNECTION_RATE),
    [PACKET_PUBACK] = DECODE_CODES(
        REASON_SUCCESS, REASON_NO_MATCHING_SUBSCRIBERS, REASON_UNSPECIFIED,
        REASON_IMPLEMENTATION_ERROR, REASON_NOT_AUTHORIZED, REASON_TOPIC_NAME_INVALID,
        REASON_PACKET_IDENTIFIER_IN_USE, REASON_QUOTA_EXCEEDED, REASON_PAYLOAD_FORMAT_INVALID),
    [PACKET_PUBREC] = DECODE_CODES(
        REASON_SUCCESS, REASON_NO_MATCHING_SUBSCRIBERS, REASON_UNSPECIFIED,
        REASON_IMPLEMENTATION_ERROR, REASON_NOT_AUTHORIZED, REASON_TOPIC_NAME_INVALID,
        REASON_PACKET_IDENTIFIER_IN_USE, REASON_QUOTA_EXCEEDED, REASON_PAYLOAD_FORMAT_INVALID),
    [PACKET_PUBREL] = DECODE_CODES(REASON_SUCCESS, REASON_PACKET_IDENTIFIER_NOT_FOUND),
    [PACKET_PUBCOMP] = DECODE_CODES(REASON_SUCCESS, REASON_PACKET_IDENTIFIER_NOT_FOUND),
    [PACKET_DISCONNECT] = DECODE_CODES(
        REASON_SUCCESS, REASON_UNSPECIFIED, REASON_MALFORMED_PACKET, REASON_PROTOCOL_ERROR,
        REASON_IMPLEMENTATION_ERROR, REASON_NOT_AUTHORIZED, REASON_SERVER_BUSY,
        REASON_SHUTTING_DOWN, REASON_BAD_AUTHENTICATION_METHOD, REASON_KEEP_ALIVE_TIMEOUT,
        REASON_TAKEN_OVER, REASON_TOPIC_FILTER_INVALID, REASON_TOPIC_NAME_INVALID,
        REASON_RECEIVE_MAXIMUM_EXCEEDED, REASON_TOPIC_ALIAS_INVALID, REASON_PACKET_TOO_LARGE,
        REASON_MESSAGE_RATE, REASON_QUOTA_EXCEEDED, REASON_ADMINISTRATIVE_ACTION,
        REASON_PAYLOAD_FORMAT_INVALID, REASON_RETAIN_NOT_SUPPORTED, REASON_QOS_NOT_SUPPORTED,
        REASON_USE_ANOTHER_SERVER, REASON_SERVER_MOVED, REASON_SHARED_NOT_SUPPORTED,
        REASON_CONNECTION_RATE, REASON_MAXIMUM_CONNECT_TIME,
        REASON_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, REASON_WILDCARD_NOT_SUPPORTED),
    [PACKET_AUTH] = DECODE_CODES(REASON_SUCCESS, REASON_CONTINUE_AUTHENTICATION),
};

static bool decode_code_is_allowed(const struct decode_code_list *list, uint8_t code) {
    return memchr(list->codes, code, list->count) != NULL;
}

/* ---- parts of packets ---- */

/* Shared by all decoders. */
struct decode_state {
    struct packet_reader body; /* the rest of it */
    int version;
    struct packet *out;
    struct packet_fault *fault;
};

static bool decode_fail_malformed(struct decode_state *decode_state, const char *message) {
    return packet_refuse(decode_state->fault, PACKET_FAULT_MALFORMED, message);
}

static bool decode_fail_protocol(struct decode_state *decode_state, const char *message) {
    return packet_refuse(decode_state->fault, PACKET_FAULT_PROTOCOL, message);
}

static bool decode_at_end(struct decode_state *decode_state) {
    return packet_left(&decode_state->body) == 0 ||
           decode_fail_malformed(decode_state, "bytes after the end of a packet");
}

static bool decode_packet_id(struct decode_state *decode_state) {
    if (!packet_read_u16(&decode_state->body, &decode_state->out->packet_id)) {
        return decode_fail_malformed(decode_state, "a packet ends before its Packet Identifier");
    }
    return decode_state->out->packet_id != 0 ||
           decode_fail_protocol(decode_state, "a Packet Identifier is 0");
}

/* Any error code is allowed: mosquitto 2.0 reports in PUBACK that a packet is too large (0x95). */
static bool decode_refuses_publication(const struct packet *packet) {
    return (packet->type == PACKET_PUBACK || packet->type == PACKET_PUBREC) &&
           reason_is_error(packet->reason_code);
}

static bool decode_reason_code(struct decode_state *decode_state) {
    struct packet *out = decode_state->out;
    if (!packet_read_u8(&decode_state->body, &out->reason_code)) {
        return decode_fail_malformed(decode_state, "a packet ends before its reason code");
    }
    return decode_code_is_allowed(&decode_codes_v5[out->type], out->reason_code) ||
           decode_refuses_publication(out) ||
           decode_fail_protocol(decode_state, "a reason code that is not defined for this packet");
}

static bool decode_properties(struct decode_state *decode_state) {
    struct packet_reader *body = &decode_state->body;
    if (packet_left(body) > 0 && *body->at == 0) { /* in nearly every packet */
        body->at++;
        return true;
    }
    uint32_t len;
    if (!packet_read_varint(body, &len)) {
        return decode_fail_malformed(
            decode_state, "a Property Length is missing, too long or not in its shortest "
                          "form");
    }
    if (!packet_read_bytes(body, len, &decode_state->out->properties)) {
        return decode_fail_malformed(decode_state,
                                     "properties extend beyond the end of their packet");
    }
    return packet_properties_check(decode_state->out->properties, decode_state->out->type,
                                   decode_state->fault);
}

/* The end of acknowledgements and DISCONNECT, where the Property Length may be left out. */
static bool decode_reason_and_properties(struct decode_state *decode_state) {
    return decode_reason_code(decode_state) &&
           (packet_left(&decode_state->body) == 0 ||
            (decode_properties(decode_state) && decode_at_end(decode_state)));
}

/* ---- packets ---- */

/* Whether a server that does not know MQTT 5 answers in its own version (3.1.1 section 3.1.2.2). */
static bool decode_is_v4_refusal(const struct packet_reader *body, uint8_t code) {
    return packet_left(body) == 0 && code != 0 &&
           decode_code_is_allowed(&decode_codes_v4[PACKET_CONNACK], code);
}

/* Section 3.2. */
static bool decode_connack(struct decode_state *decode_state) {
    struct packet *out = decode_state->out;
    uint8_t flags;
    if (!packet_read_u8(&decode_state->body, &flags) ||
        !packet_read_u8(&decode_state->body, &out->reason_code)) {
        return decode_fail_malformed(decode_state, "CONNACK is too short");
    }
    if (flags > 1) {
        return decode_fail_malformed(decode_state, "reserved flags of CONNACK are set");
    }
    bool old_form =
        decode_state->version == 4 || decode_is_v4_refusal(&decode_state->body, out->reason_code);
    const struct decode_code_list *codes = old_form ? decode_codes_v4 : decode_codes_v5;
    if (!decode_code_is_allowed(&codes[PACKET_CONNACK], out->reason_code)) {
        return decode_fail_protocol(decode_state, "CONNACK has an undefined reason code");
    }
    out->session_present = flags == 1;
    if (out->session_present && out->reason_code != 0) {
        return decode_fail_protocol(decode_state,
                                    "CONNACK refuses the connection but has Session Present set");
    }
    return (old_form || decode_properties(decode_state)) && decode_at_end(decode_state);
}

static bool decode_topic(struct decode_state *decode_state) {
    struct packet_slice *topic = &decode_state->out->topic;
    if (!packet_read_prefixed(&decode_state->body, topic)) {
        return decode_fail_malformed(decode_state, "PUBLISH ends within its topic");
    }
    if (!text_is_mqtt_string(topic->data, topic->len)) {
        return decode_fail_malformed(decode_state,
                                     "a topic is not well-formed UTF-8 without U+0000");
    }
    return !packet_has_wildcard(*topic) ||
           decode_fail_protocol(decode_state, "a topic has a wildcard");
}

/* Section 3.3.2.1: without a topic there must be a topic alias. */
static bool decode_has_topic(struct decode_state *decode_state) {
    struct packet_property alias;
    return decode_state->out->topic.len > 0 ||
           packet_property_find(decode_state->out->properties, PROPERTY_TOPIC_ALIAS, &alias) ||
           decode_fail_protocol(decode_state, "PUBLISH has neither topic nor topic alias");
}

/* Section 3.3. */
static bool decode_variable_header(struct decode_state *decode_state, uint8_t flags) {
    struct packet *out = decode_state->out;
    out->dup = (flags & 8) != 0;
    out->qos = flags >> 1 & 3;
    out->retain = (flags & 1) != 0;
    return decode_topic(decode_state) && (out->qos == 0 || decode_packet_id(decode_state)) &&
           (decode_state->version != 5 || decode_properties(decode_state));
}

static bool decode_publish(struct decode_state *decode_state, uint8_t flags) {
    struct packet *out = decode_state->out;
    if (!decode_variable_header(decode_state, flags) || !decode_has_topic(decode_state)) {
        return false;
    }
    return packet_read_bytes(&decode_state->body, packet_left(&decode_state->body), &out->payload);
}

/* PUBACK, PUBREC, PUBREL, PUBCOMP: sections 3.4 to 3.7. The Property Length, or both it and the
 * reason code, may be left out. */
static bool decode_ack(struct decode_state *decode_state) {
    if (!decode_packet_id(decode_state)) {
        return false;
    }
    if (decode_state->version == 4 || packet_left(&decode_state->body) == 0) {
        return decode_at_end(decode_state);
    }
    return decode_reason_and_properties(decode_state);
}

static bool decode_fail_answer(struct decode_state *decode_state, const char *message) {
    decode_fail_protocol(decode_state, message);
    decode_state->fault->error = CLIENT_ERROR_ANSWER_UNFIT;
    return false;
}

/* SUBACK and UNSUBACK of MQTT 5: sections 3.9, 3.11. Any code from 0x80 on refuses the filter, even
 * if MQTT does not define it: no reason to end the connection. */
static bool decode_codes(struct decode_state *decode_state) {
    struct packet *out = decode_state->out;
    if (!decode_packet_id(decode_state) ||
        (decode_state->version == 5 && !decode_properties(decode_state)) ||
        !packet_read_bytes(&decode_state->body, packet_left(&decode_state->body), &out->codes)) {
        return false;
    }
    if (out->codes.len == 0) {
        return decode_fail_answer(decode_state, "SUBACK or UNSUBACK has no reason code");
    }
    const struct decode_code_list *successes = &decode_granting_codes[out->type];
    for (size_t i = 0; i < out->codes.len; i++) {
        uint8_t code = out->codes.data[i];
        if (!reason_is_error(code) && !decode_code_is_allowed(successes, code)) {
            return decode_fail_answer(
                decode_state, "SUBACK or UNSUBACK has a reason code that is not permitted there");
        }
    }
    return true;
}

static bool decode_unsuback(struct decode_state *decode_state) {
    if (decode_state->version == 5) {
        return decode_codes(decode_state);
    }
    return decode_packet_id(decode_state) && decode_at_end(decode_state);
}

/* Section 3.14; the Property Length, or both it and the reason code, may be left out. */
static bool decode_disconnect(struct decode_state *decode_state) {
    if (decode_state->version == 4) {
        return decode_fail_protocol(decode_state, "an MQTT 3.1.1 server must not send DISCONNECT");
    }
    if (packet_left(&decode_state->body) == 0) {
        return true;
    }
    return decode_reason_and_properties(decode_state);
}

/* Section 3.15. Reason code and Property Length can only be left out together. Then there is no
 * Authentication Method (3.15.2.1); in all other forms there must be one (3.15.2.2.2). */
static bool decode_auth(struct decode_state *decode_state) {
    struct packet_property method;
    if (decode_state->version == 4) {
        return decode_fail_malformed(decode_state,
                                     "a packet of type 15, which MQTT 3.1.1 does not define");
    }
    if (packet_left(&decode_state->body) == 0) {
        return true;
    }
    if (!decode_reason_code(decode_state) || !decode_properties(decode_state) ||
        !decode_at_end(decode_state)) {
        return false;
    }
    return packet_property_find(decode_state->out->properties, PROPERTY_AUTH_METHOD, &method) ||
           decode_fail_protocol(decode_state, "AUTH has no Authentication Method");
}

static bool decode_body(struct decode_state *decode_state, uint8_t flags) {
    switch (decode_state->out->type) {
    case PACKET_PUBLISH:
        return decode_publish(decode_state, flags);
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBREL:
    case PACKET_PUBCOMP:
        return decode_ack(decode_state);
    case PACKET_CONNACK:
        return decode_connack(decode_state);
    case PACKET_SUBACK:
        return decode_codes(decode_state);
    case PACKET_UNSUBACK:
        return decode_unsuback(decode_state);
    case PACKET_PINGRESP:
        return decode_at_end(decode_state);
    case PACKET_DISCONNECT:
        return decode_disconnect(decode_state);
    case PACKET_AUTH:
        return decode_auth(decode_state);
    default:
        assert(false); /* packet_frame() accepts no other type */
        return false;
    }
}

bool packet_decode(const uint8_t *data, const struct packet_frame *frame, int version,
                   struct packet *out, struct packet_fault *fault) {
    assert(version == 4 || version == 5);
    struct decode_state decode_state = {.body = {data + frame->header_len, data + frame->total_len},
                                        .version = version,
                                        .out = out,
                                        .fault = fault};
    *out = (struct packet){.type = frame->type};
    /* 3.1.1 does not require the shortest form, MQTT 5 does (1.5.5). */
    size_t body_len = frame->total_len - frame->header_len;
    if (version == 5 && frame->header_len != 1 + packet_varint_len((uint32_t)body_len)) {
        return decode_fail_malformed(&decode_state,
                                     "the Remaining Length is not in its shortest form");
    }
    return decode_body(&decode_state, frame->flags);
}

bool packet_decode_publish_head(const uint8_t *data, const struct packet_frame *frame,
                                size_t head_len, int version, struct packet *out,
                                struct packet_fault *fault) {
    struct decode_state decode_state = {.body = {data + frame->header_len, data + head_len},
                                        .version = version,
                                        .out = out,
                                        .fault = fault};
    *out = (struct packet){.type = PACKET_PUBLISH};
    return decode_variable_header(&decode_state, frame->flags) &&
           (version == 0 || decode_has_topic(&decode_state));
}
