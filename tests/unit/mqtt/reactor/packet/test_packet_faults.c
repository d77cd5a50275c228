/* Tests of mqtt/reactor/packet: what a server must not send, and which reason code answers it. */
#include "mqtt/packet_fixture.h"

#define MALFORMED 0x81
#define PROTOCOL  0x82
#define ALIAS     0x94

static const struct fault_row {
    const char *what;
    int version; /* 0: both */
    const char *bytes;
    uint8_t code;
} faults[] = {
    /* Framing */
    {"type 0", 0, "00 00", MALFORMED},
    {"a length of five bytes", 0, "D0 80 80 80 80", MALFORMED},
    {"a length of five bytes that is 0", 0, "D0 FF FF FF FF 00", MALFORMED},
    {"CONNECT", 0, "10 00", PROTOCOL},
    {"SUBSCRIBE", 0, "82 00", PROTOCOL},
    {"UNSUBSCRIBE", 0, "A2 00", PROTOCOL},
    {"PINGREQ", 0, "C0 00", PROTOCOL},
    {"flags of CONNACK", 0, "21 02 00 00", MALFORMED},
    {"flags of PUBACK", 0, "42 02 00 01", MALFORMED},
    {"flags of PUBREC", 0, "52 02 00 01", MALFORMED},
    {"flags of PUBREL left out", 0, "60 02 00 01", MALFORMED},
    {"flags of PUBREL", 0, "6A 02 00 01", MALFORMED},
    {"flags of PUBCOMP", 0, "72 02 00 01", MALFORMED},
    {"flags of SUBACK", 0, "98 03 00 01 00", MALFORMED},
    {"flags of UNSUBACK", 0, "B4 02 00 01", MALFORMED},
    {"flags of PINGRESP", 0, "D1 00", MALFORMED},
    {"flags of DISCONNECT", 0, "E8 00", MALFORMED},
    {"flags of AUTH", 0, "F2 00", MALFORMED},
    {"QoS 3", 0, "36 07 0003 'a/b' 0001", MALFORMED},
    {"QoS 3 and DUP", 0, "3F 07 0003 'a/b' 0001", MALFORMED},
    {"DUP with QoS 0", 0, "38 05 0003 'a/b'", PROTOCOL},
    /* What a version does not have */
    {"DISCONNECT of a server", 4, "E0 00", PROTOCOL},
    {"AUTH", 4, "F0 00", MALFORMED},
    /* CONNACK */
    {"CONNACK that is empty", 0, "20 00", MALFORMED},
    {"CONNACK of one byte", 0, "20 01 00", MALFORMED},
    {"CONNACK without properties", 5, "20 02 00 00", MALFORMED},
    {"CONNACK without properties that refuses", 5, "20 02 00 87", MALFORMED},
    {"CONNACK with more", 4, "20 03 00 00 00", MALFORMED},
    {"CONNACK with more", 5, "20 04 00 00 00 00", MALFORMED},
    {"CONNACK with reserved flags", 0, "20 02 02 00", MALFORMED},
    {"CONNACK with all flags", 0, "20 02 FF 00", MALFORMED},
    {"CONNACK with code 6", 4, "20 02 00 06", PROTOCOL},
    {"CONNACK with a code of MQTT 5", 4, "20 02 00 87", PROTOCOL},
    {"CONNACK with a code of 3.1.1 and properties", 5, "20 03 00 01 00", PROTOCOL},
    {"CONNACK with a code of DISCONNECT", 5, "20 03 00 8E 00", PROTOCOL},
    {"CONNACK with session present and a code", 4, "20 02 01 05", PROTOCOL},
    {"CONNACK with session present and a code", 5, "20 03 01 87 00", PROTOCOL},
    {"old CONNACK with session present and a code", 5, "20 02 01 01", PROTOCOL},
    /* PUBLISH */
    {"PUBLISH that is empty", 0, "30 00", MALFORMED},
    {"PUBLISH with half a length", 0, "30 01 00", MALFORMED},
    {"a topic longer than its packet", 0, "30 04 0003 'a/'", MALFORMED},
    {"PUBLISH without its packet identifier", 0, "32 05 0003 'a/b'", MALFORMED},
    {"PUBLISH with half a packet identifier", 0, "32 06 0003 'a/b' 00", MALFORMED},
    {"PUBLISH with packet identifier 0", 4, "32 07 0003 'a/b' 0000", PROTOCOL},
    {"PUBLISH with packet identifier 0", 5, "34 08 0003 'a/b' 0000 00", PROTOCOL},
    {"an empty topic", 4, "30 03 0000 'x'", PROTOCOL},
    {"an empty topic without alias", 5, "30 03 0000 00", PROTOCOL},
    {"an empty topic with another property", 5, "30 05 0000 02 01 01", PROTOCOL},
    {"a topic with +", 4, "30 05 0003 'a/+'", PROTOCOL},
    {"a topic with #", 5, "30 06 0003 'a/#' 00", PROTOCOL},
    {"a topic with U+0000", 0, "30 06 0003 'a' 00 'b' 00", MALFORMED},
    {"a topic with a surrogate", 0, "30 06 0003 ED A0 80 00", MALFORMED},
    {"a topic of overlong UTF-8", 0, "30 05 0002 C0 80 00", MALFORMED},
    {"a topic that ends within a character", 0, "30 05 0002 'a' C3 00", MALFORMED},
    {"PUBLISH without properties", 5, "30 05 0003 'a/b'", MALFORMED},
    {"properties beyond the packet", 5, "30 08 0003 'a/b' 03 01 01", MALFORMED},
    {"a property length that is cut", 5, "30 06 0003 'a/b' 80", MALFORMED},
    {"a property length in a long form", 5, "30 07 0003 'a/b' 80 00", MALFORMED},
    {"a property length of five bytes", 5, "30 0A 0003 'a/b' 80 80 80 80 01", MALFORMED},
    /* PUBACK, PUBREC, PUBREL, PUBCOMP */
    {"PUBACK that is empty", 0, "40 00", MALFORMED},
    {"PUBREC of one byte", 0, "50 01 00", MALFORMED},
    {"PUBACK with packet identifier 0", 0, "40 02 0000", PROTOCOL},
    {"PUBREC with packet identifier 0", 0, "50 02 0000", PROTOCOL},
    {"PUBREL with packet identifier 0", 0, "62 02 0000", PROTOCOL},
    {"PUBCOMP with packet identifier 0", 0, "70 02 0000", PROTOCOL},
    {"PUBACK with more", 4, "40 03 0001 00", MALFORMED},
    {"PUBACK with more", 5, "40 05 0001 00 00 00", MALFORMED},
    {"PUBREL with more", 4, "62 04 0001 00 00", MALFORMED},
    {"PUBACK with a code of SUBACK", 5, "40 03 0001 01", PROTOCOL},
    {"PUBREL with a code of PUBREC", 5, "62 03 0001 10", PROTOCOL},
    {"PUBCOMP with a code of PUBREC", 5, "70 03 0001 91", PROTOCOL},
    /* SUBACK, UNSUBACK */
    {"SUBACK that is empty", 0, "90 00", MALFORMED},
    {"SUBACK with packet identifier 0", 4, "90 03 0000 00", PROTOCOL},
    {"SUBACK with packet identifier 0", 5, "90 04 0000 00 00", PROTOCOL},
    {"SUBACK without codes", 4, "90 02 0001", PROTOCOL},
    {"SUBACK without codes", 5, "90 03 0001 00", PROTOCOL},
    {"SUBACK without properties", 5, "90 02 0001", MALFORMED},
    {"SUBACK with code 3", 0, "90 04 0001 00 03", PROTOCOL},
    {"SUBACK with a wrong code behind right ones", 5, "90 07 0001 00 01 02 87 03", PROTOCOL},
    {"UNSUBACK with packet identifier 0", 4, "B0 02 0000", PROTOCOL},
    {"UNSUBACK with codes", 4, "B0 03 0001 00", MALFORMED},
    {"UNSUBACK without codes", 5, "B0 03 0001 00", PROTOCOL},
    {"UNSUBACK with a code of SUBACK", 5, "B0 04 0001 00 01", PROTOCOL},
    /* PINGRESP, DISCONNECT, AUTH */
    {"PINGRESP with a body", 0, "D0 01 00", MALFORMED},
    {"DISCONNECT with a client's code", 5, "E0 01 04", PROTOCOL},
    {"DISCONNECT with a code of CONNACK", 5, "E0 01 85", PROTOCOL},
    {"DISCONNECT with more", 5, "E0 03 00 00 00", MALFORMED},
    {"DISCONNECT with half its properties", 5, "E0 02 00 03", MALFORMED},
    {"AUTH with a client's code", 5, "F0 08 19 06 15 0003 'abc'", PROTOCOL},
    {"AUTH with a code alone", 5, "F0 01 18", MALFORMED},
    {"AUTH without a method", 5, "F0 02 18 00", PROTOCOL},
    {"AUTH with data alone", 5, "F0 06 18 04 16 0001 00", PROTOCOL},
    /* Properties: form */
    {"an undefined property", 5, "20 05 00 00 02 04 00", MALFORMED},
    {"property 0", 5, "20 05 00 00 02 00 00", MALFORMED},
    {"a property beyond the table", 5, "20 05 00 00 02 7E 00", MALFORMED},
    {"an identifier of two bytes", 5, "20 06 00 00 03 A4 00 01", MALFORMED},
    {"a number of two bytes that is cut", 5, "20 05 00 00 02 21 00", MALFORMED},
    {"a number of four bytes that is cut", 5, "20 07 00 00 04 27 00 00 01", MALFORMED},
    {"a property without value", 5, "20 04 00 00 01 24", MALFORMED},
    {"a text that is cut", 5, "20 07 00 00 04 12 0002 'a'", MALFORMED},
    {"a user property without value", 5, "20 07 00 00 04 26 0001 'a'", MALFORMED},
    {"a subscription identifier that is cut", 5, "30 06 0001 'a' 02 0B 80", MALFORMED},
    {"a subscription identifier in a long form", 5, "30 07 0001 'a' 03 0B 81 00", MALFORMED},
    {"a text that is no UTF-8", 5, "20 07 00 00 04 1F 0001 FF", MALFORMED},
    {"a text with U+0000", 5, "20 07 00 00 04 1F 0001 00", MALFORMED},
    {"a user property whose name is no UTF-8", 5, "20 09 00 00 06 26 0001 FF 0000", MALFORMED},
    {"a user property whose value is no UTF-8", 5, "20 09 00 00 06 26 0000 0001 FF", MALFORMED},
    /* Properties: values */
    {"Receive Maximum 0", 5, "20 06 00 00 03 21 0000", PROTOCOL},
    {"Maximum Packet Size 0", 5, "20 08 00 00 05 27 00000000", PROTOCOL},
    {"Maximum QoS 2", 5, "20 05 00 00 02 24 02", PROTOCOL},
    {"Retain Available 2", 5, "20 05 00 00 02 25 02", PROTOCOL},
    {"Wildcard Subscription Available 2", 5, "20 05 00 00 02 28 02", PROTOCOL},
    {"Subscription Identifiers Available 2", 5, "20 05 00 00 02 29 FF", PROTOCOL},
    {"Shared Subscription Available 2", 5, "20 05 00 00 02 2A 02", PROTOCOL},
    {"Payload Format Indicator 2", 5, "30 06 0001 'a' 02 01 02", PROTOCOL},
    {"Subscription Identifier 0", 5, "30 06 0001 'a' 02 0B 00", PROTOCOL},
    {"Topic Alias 0", 5, "30 07 0001 'a' 03 23 0000", ALIAS},
    {"Response Topic with #", 5, "30 08 0001 'a' 04 08 0001 '#'", PROTOCOL},
    {"Response Topic with +", 5, "30 0A 0001 'a' 06 08 0003 'a/+'", PROTOCOL},
    {"Response Topic that is empty", 5, "30 07 0001 'a' 03 08 0000", PROTOCOL},
    {"Response Topic that is no UTF-8", 5, "30 08 0001 'a' 04 08 0001 FF", MALFORMED},
    {"Content Type that is no UTF-8", 5, "30 08 0001 'a' 04 03 0001 FF", MALFORMED},
    /* Properties: places. test_packet_properties covers the whole table. */
    {"Session Expiry Interval from a server's DISCONNECT", 5, "E0 07 00 05 11 00000000", PROTOCOL},
    {"Will Delay Interval in PUBLISH", 5, "30 09 0001 'a' 05 18 00000001", MALFORMED},
};

static void expect_fault(const struct fault_row *row, int version) {
    struct block block = block_parse(row->bytes);
    struct packet packet;
    struct packet_fault fault;
    ck_assert_msg(!block_decode(&block, version, &packet, &fault), "%s is taken (version %d)",
                  row->what, version);
    ck_assert_msg(fault.reason_code == row->code, "%s: 0x%02X %s, not 0x%02X (version %d)",
                  row->what, fault.reason_code, fault.message, row->code, version);
    ck_assert_ptr_nonnull(fault.message);
    block_free(&block);
}

START_TEST(what_a_server_must_not_send_is_refused_with_its_reason_code) {
    for (size_t i = 0; i < COUNT(faults); i++) {
        for (int version = 4; version <= 5; version++) {
            if (faults[i].version == 0 || faults[i].version == version) {
                expect_fault(&faults[i], version);
            }
        }
    }
}
END_TEST

/* Types and flags are checked before the length has arrived: a wrong first byte is enough. */
START_TEST(every_first_byte_is_judged_alone) {
    static const char right[] = {
        0x20, 0x30, 0x31, 0x32, 0x33, 0x34,       0x35,       0x3A,       0x3B,       0x3C,
        0x3D, 0x40, 0x50, 0x62, 0x70, (char)0x90, (char)0xB0, (char)0xD0, (char)0xE0, (char)0xF0};
    for (int byte = 0; byte < 256; byte++) {
        struct block block = block_copy(&(uint8_t){(uint8_t)byte}, 1);
        struct packet_frame frame;
        struct packet_fault fault;
        bool expected = memchr(right, byte, sizeof(right)) != NULL;
        enum packet_framing framing = packet_frame(block.data, 1, &frame, &fault);
        ck_assert_msg(framing == (expected ? PACKET_PARTIAL : PACKET_MALFORMED), "0x%02X", byte);
        block_free(&block);
    }
}
END_TEST

/* Table 2-6 of MQTT 5.0; for DISCONNECT and AUTH without the codes that only a client may send.
 * PUBACK, PUBREC, SUBACK and UNSUBACK may have any error code: it refuses, whatever its name. */
static const struct {
    enum packet_type type;
    int version;
    const char *codes;
} codes[] = {
    {PACKET_CONNACK, 4, "00 01 02 03 04 05"},
    {PACKET_CONNACK, 5, "00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F"},
    {PACKET_PUBACK, 5, "00 10 80 83 87 90 91 97 99"},
    {PACKET_PUBREC, 5, "00 10 80 83 87 90 91 97 99"},
    {PACKET_PUBREL, 5, "00 92"},
    {PACKET_PUBCOMP, 5, "00 92"},
    {PACKET_SUBACK, 4, "00 01 02"},
    {PACKET_SUBACK, 5, "00 01 02"},
    {PACKET_UNSUBACK, 5, "00 11"},
    {PACKET_DISCONNECT, 5,
     "00 80 81 82 83 87 89 8B 8C 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2"},
    {PACKET_AUTH, 5, "00 18"},
};

/* A packet with that code and no other fault. */
static struct block packet_with_code(enum packet_type type, int version, uint8_t code) {
    char text[64];
    switch (type) {
    case PACKET_CONNACK:
        snprintf(text, sizeof(text), version == 4 ? "20 02 00 %02X" : "20 03 00 %02X 00", code);
        break;
    case PACKET_SUBACK:
    case PACKET_UNSUBACK:
        snprintf(text, sizeof(text), version == 4 ? "%X0 03 0001 %02X" : "%X0 04 0001 00 %02X",
                 type, code);
        break;
    case PACKET_DISCONNECT:
        snprintf(text, sizeof(text), "E0 01 %02X", code);
        break;
    case PACKET_AUTH:
        snprintf(text, sizeof(text), "F0 06 %02X 04 15 0001 'm'", code);
        break;
    default:
        snprintf(text, sizeof(text), "%X%d 03 0001 %02X", type, type == PACKET_PUBREL ? 2 : 0,
                 code);
        break;
    }
    return block_parse(text);
}

START_TEST(each_packet_has_its_reason_codes_and_no_others) {
    struct block right = block_parse(codes[_i].codes);
    for (int code = 0; code < 256; code++) {
        struct block block = packet_with_code(codes[_i].type, codes[_i].version, (uint8_t)code);
        struct packet packet;
        struct packet_fault fault;
        enum packet_type type = codes[_i].type;
        bool refuses = code >= 0x80 && (type == PACKET_PUBACK || type == PACKET_PUBREC ||
                                        type == PACKET_SUBACK || type == PACKET_UNSUBACK);
        bool expected = refuses || memchr(right.data, code, right.len);
        bool taken = block_decode(&block, codes[_i].version, &packet, &fault);
        ck_assert_msg(taken == expected, "type %d, version %d, code 0x%02X", codes[_i].type,
                      codes[_i].version, code);
        ck_assert(taken || fault.reason_code == PROTOCOL);
        block_free(&block);
    }
    block_free(&right);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, what_a_server_must_not_send_is_refused_with_its_reason_code);
    tcase_add_test(cases, every_first_byte_is_judged_alone);
    tcase_add_loop_test(cases, each_packet_has_its_reason_codes_and_no_others, 0,
                        (int)COUNT(codes));
}

int main(void) {
    return run_tests("packet_faults", add_tests);
}
