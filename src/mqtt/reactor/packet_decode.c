/* What a server sends: bytes to struct packet, with every rule that one packet alone can break.
 * Owns nothing, copies nothing; pure, any thread. Must not know the state of a connection: what was
 * asked for, which limits were agreed, which topic aliases are known. */
#include "packet_internal.h"

#include <assert.h>
#include <string.h>
#include "base/text.h"

/* ---- reason codes that may be in a packet ---- */

struct code_list {
    const uint8_t *codes;
    size_t count;
};

#define CODES(...)                                                                                 \
    { (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}) }

/* MQTT 3.1.1 section 3.2.2.3. */
static const struct code_list codes_v4[16] = {
    [PACKET_CONNACK] = CODES(0, 1, 2, 3, 4, 5),
};

/* Of SUBACK and UNSUBACK, in both versions: sections 3.9.3 and 3.11.3. */
static const struct code_list granting[16] = {
    [PACKET_SUBACK] = CODES(0x00, 0x01, 0x02),
    [PACKET_UNSUBACK] = CODES(0x00, 0x11),
};

/* MQTT 5.0 table 2-6, and the table of each packet in chapter 3; what only a client may say is left
 * out. DISCONNECT with 0x8C is in the first only. */
static const struct code_list codes_v5[16] = {
    [PACKET_CONNACK] = CODES(0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A,
                             0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F),
    [PACKET_PUBACK] = CODES(0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
    [PACKET_PUBREC] = CODES(0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
    [PACKET_PUBREL] = CODES(0x00, 0x92),
    [PACKET_PUBCOMP] = CODES(0x00, 0x92),
    [PACKET_DISCONNECT] = CODES(0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E,
                                0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B,
                                0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2),
    [PACKET_AUTH] = CODES(0x00, 0x18),
};

static bool code_fits(const struct code_list *list, uint8_t code) {
    return memchr(list->codes, code, list->count) != NULL;
}

/* ---- parts of packets ---- */

/* What all decoders take along. */
struct decoding {
    struct packet_reader body; /* what is left of it */
    int version;
    struct packet *out;
    struct packet_fault *fault;
};

static bool malformed(struct decoding *decoding, const char *message) {
    return packet_refuse(decoding->fault, PACKET_FAULT_MALFORMED, message);
}

static bool protocol_error(struct decoding *decoding, const char *message) {
    return packet_refuse(decoding->fault, PACKET_FAULT_PROTOCOL, message);
}

static bool at_end(struct decoding *decoding) {
    return packet_left(&decoding->body) == 0 ||
           malformed(decoding, "bytes after the end of a packet");
}

static bool decode_packet_id(struct decoding *decoding) {
    if (!packet_read_u16(&decoding->body, &decoding->out->packet_id)) {
        return malformed(decoding, "a packet ends before its Packet Identifier");
    }
    return decoding->out->packet_id != 0 || protocol_error(decoding, "a Packet Identifier is 0");
}

/* Whatever the error: mosquitto 2.0 says so in PUBACK that a packet is too large (0x95). */
static bool refuses_publication(const struct packet *packet) {
    return (packet->type == PACKET_PUBACK || packet->type == PACKET_PUBREC) &&
           packet->reason_code >= 0x80;
}

static bool decode_reason_code(struct decoding *decoding) {
    struct packet *out = decoding->out;
    if (!packet_read_u8(&decoding->body, &out->reason_code)) {
        return malformed(decoding, "a packet ends before its reason code");
    }
    return code_fits(&codes_v5[out->type], out->reason_code) || refuses_publication(out) ||
           protocol_error(decoding, "a reason code that this packet does not have");
}

static bool decode_properties(struct decoding *decoding) {
    struct packet_reader *body = &decoding->body;
    if (packet_left(body) > 0 && *body->at == 0) { /* as in nearly every packet */
        body->at++;
        return true;
    }
    uint32_t len;
    if (!packet_read_varint(body, &len)) {
        return malformed(decoding, "a Property Length is missing, too long or not in its shortest "
                                   "form");
    }
    if (!packet_read_bytes(body, len, &decoding->out->properties)) {
        return malformed(decoding, "properties reach beyond their packet");
    }
    return packet_properties_check(decoding->out->properties, decoding->out->type, decoding->fault);
}

/* The end of acknowledgements and DISCONNECT, where the Property Length may be left out. */
static bool decode_reason_and_properties(struct decoding *decoding) {
    return decode_reason_code(decoding) &&
           (packet_left(&decoding->body) == 0 || (decode_properties(decoding) && at_end(decoding)));
}

/* ---- packets ---- */

/* Whether a server that does not know MQTT 5 answers in its own version (3.1.1 section 3.1.2.2). */
static bool is_old_refusal(const struct packet_reader *body, uint8_t code) {
    return packet_left(body) == 0 && code != 0 && code_fits(&codes_v4[PACKET_CONNACK], code);
}

/* Section 3.2. */
static bool decode_connack(struct decoding *decoding) {
    struct packet *out = decoding->out;
    uint8_t flags;
    if (!packet_read_u8(&decoding->body, &flags) ||
        !packet_read_u8(&decoding->body, &out->reason_code)) {
        return malformed(decoding, "CONNACK is too short");
    }
    if (flags > 1) {
        return malformed(decoding, "reserved flags of CONNACK are set");
    }
    bool old_form = decoding->version == 4 || is_old_refusal(&decoding->body, out->reason_code);
    const struct code_list *codes = old_form ? codes_v4 : codes_v5;
    if (!code_fits(&codes[PACKET_CONNACK], out->reason_code)) {
        return protocol_error(decoding, "CONNACK has a reason code that does not exist");
    }
    out->session_present = flags == 1;
    if (out->session_present && out->reason_code != 0) {
        return protocol_error(decoding, "CONNACK refuses and has Session Present");
    }
    return (old_form || decode_properties(decoding)) && at_end(decoding);
}

static bool decode_topic(struct decoding *decoding) {
    struct packet_slice *topic = &decoding->out->topic;
    if (!packet_read_prefixed(&decoding->body, topic)) {
        return malformed(decoding, "PUBLISH ends within its topic");
    }
    if (!text_is_mqtt_string(topic->data, topic->len)) {
        return malformed(decoding, "a topic is not well-formed UTF-8 without U+0000");
    }
    return !packet_has_wildcard(*topic) || protocol_error(decoding, "a topic has a wildcard");
}

/* Section 3.3.2.1: without a topic there must be an alias of one. */
static bool topic_is_given(struct decoding *decoding) {
    struct packet_property alias;
    return decoding->out->topic.len > 0 ||
           packet_property_find(decoding->out->properties, PROPERTY_TOPIC_ALIAS, &alias) ||
           protocol_error(decoding, "PUBLISH has neither topic nor topic alias");
}

/* Section 3.3. */
static bool decode_variable_header(struct decoding *decoding, uint8_t flags) {
    struct packet *out = decoding->out;
    out->dup = (flags & 8) != 0;
    out->qos = flags >> 1 & 3;
    out->retain = (flags & 1) != 0;
    return decode_topic(decoding) && (out->qos == 0 || decode_packet_id(decoding)) &&
           (decoding->version != 5 || decode_properties(decoding));
}

static bool decode_publish(struct decoding *decoding, uint8_t flags) {
    struct packet *out = decoding->out;
    if (!decode_variable_header(decoding, flags) || !topic_is_given(decoding)) {
        return false;
    }
    return packet_read_bytes(&decoding->body, packet_left(&decoding->body), &out->payload);
}

/* PUBACK, PUBREC, PUBREL, PUBCOMP: sections 3.4 to 3.7. Reason code and Property Length may be left
 * out from the end. */
static bool decode_ack(struct decoding *decoding) {
    if (!decode_packet_id(decoding)) {
        return false;
    }
    if (decoding->version == 4 || packet_left(&decoding->body) == 0) {
        return at_end(decoding);
    }
    return decode_reason_and_properties(decoding);
}

static bool unfit_answer(struct decoding *decoding, const char *message) {
    protocol_error(decoding, message);
    decoding->fault->error = CLIENT_ERROR_ANSWER_UNFIT;
    return false;
}

/* SUBACK and UNSUBACK of MQTT 5: sections 3.9, 3.11. A code from 0x80 on refuses the filter, also
 * where MQTT does not know it: no reason to end the connection. */
static bool decode_codes(struct decoding *decoding) {
    struct packet *out = decoding->out;
    if (!decode_packet_id(decoding) || (decoding->version == 5 && !decode_properties(decoding)) ||
        !packet_read_bytes(&decoding->body, packet_left(&decoding->body), &out->codes)) {
        return false;
    }
    if (out->codes.len == 0) {
        return unfit_answer(decoding, "SUBACK or UNSUBACK has no reason code");
    }
    const struct code_list *successes = &granting[out->type];
    for (size_t i = 0; i < out->codes.len; i++) {
        uint8_t code = out->codes.data[i];
        if (code < 0x80 && !code_fits(successes, code)) {
            return unfit_answer(decoding, "SUBACK or UNSUBACK has a reason code that it must not "
                                          "have");
        }
    }
    return true;
}

static bool decode_unsuback(struct decoding *decoding) {
    if (decoding->version == 5) {
        return decode_codes(decoding);
    }
    return decode_packet_id(decoding) && at_end(decoding);
}

/* Section 3.14; both parts may be left out from the end. */
static bool decode_disconnect(struct decoding *decoding) {
    if (decoding->version == 4) {
        return protocol_error(decoding, "a server of MQTT 3.1.1 sends no DISCONNECT");
    }
    if (packet_left(&decoding->body) == 0) {
        return true;
    }
    return decode_reason_and_properties(decoding);
}

/* Section 3.15. Left out, reason code and Property Length are left out together, and then there is
 * no Authentication Method (3.15.2.1); in all other forms there must be one (3.15.2.2.2). */
static bool decode_auth(struct decoding *decoding) {
    struct packet_property method;
    if (decoding->version == 4) {
        return malformed(decoding, "a packet of type 15, which MQTT 3.1.1 does not have");
    }
    if (packet_left(&decoding->body) == 0) {
        return true;
    }
    if (!decode_reason_code(decoding) || !decode_properties(decoding) || !at_end(decoding)) {
        return false;
    }
    return packet_property_find(decoding->out->properties, PROPERTY_AUTH_METHOD, &method) ||
           protocol_error(decoding, "AUTH has no Authentication Method");
}

static bool decode_body(struct decoding *decoding, uint8_t flags) {
    switch (decoding->out->type) {
    case PACKET_PUBLISH:
        return decode_publish(decoding, flags);
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBREL:
    case PACKET_PUBCOMP:
        return decode_ack(decoding);
    case PACKET_CONNACK:
        return decode_connack(decoding);
    case PACKET_SUBACK:
        return decode_codes(decoding);
    case PACKET_UNSUBACK:
        return decode_unsuback(decoding);
    case PACKET_PINGRESP:
        return at_end(decoding);
    case PACKET_DISCONNECT:
        return decode_disconnect(decoding);
    case PACKET_AUTH:
        return decode_auth(decoding);
    default:
        assert(false); /* packet_frame() lets no other type through */
        return false;
    }
}

bool packet_decode(const uint8_t *data, const struct packet_frame *frame, int version,
                   struct packet *out, struct packet_fault *fault) {
    assert(version == 4 || version == 5);
    struct decoding decoding = {.body = {data + frame->header_len, data + frame->total_len},
                                .version = version,
                                .out = out,
                                .fault = fault};
    *out = (struct packet){.type = frame->type};
    /* 3.1.1 does not ask for the shortest form, MQTT 5 does (1.5.5). */
    size_t body_len = frame->total_len - frame->header_len;
    if (version == 5 && frame->header_len != 1 + packet_varint_len((uint32_t)body_len)) {
        return malformed(&decoding, "the Remaining Length is not in its shortest form");
    }
    return decode_body(&decoding, frame->flags);
}

bool packet_decode_publish_head(const uint8_t *data, const struct packet_frame *frame,
                                size_t head_len, int version, struct packet *out,
                                struct packet_fault *fault) {
    struct decoding decoding = {.body = {data + frame->header_len, data + head_len},
                                .version = version,
                                .out = out,
                                .fault = fault};
    *out = (struct packet){.type = PACKET_PUBLISH};
    return decode_variable_header(&decoding, frame->flags) &&
           (version == 0 || topic_is_given(&decoding));
}
