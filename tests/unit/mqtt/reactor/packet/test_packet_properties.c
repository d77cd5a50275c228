/* Tests of mqtt/reactor/packet: every property in every packet, by table 2-4 of MQTT 5.0 and the
 * packets' own sections. */
#include "mqtt/packet_fixture.h"

#define MALFORMED 0x81
#define PROTOCOL  0x82

/* Columns: CONNACK PUBLISH PUBACK-PUBREC-PUBREL-PUBCOMP SUBACK-UNSUBACK DISCONNECT AUTH.
 * "1" once, "n" any number of times, "p" a protocol error, "." malformed. */
static const struct place_row {
    uint8_t id;
    const char *value;
    const char *places;
} places[] = {
    {0x01, "01", ".1...."},
    {0x02, "00000000", ".1...."},
    {0x03, "0001 'x'", ".1...."},
    {0x08, "0001 'x'", ".1...."},
    {0x09, "0001 00", ".1...."},
    {0x0B, "7F", ".n...."},
    {0x11, "FFFFFFFF", "1...p."},
    {0x12, "0001 'x'", "1....."},
    {0x13, "0000", "1....."},
    {0x15, "0001 'x'", "1....1"},
    {0x16, "0001 00", "1....1"},
    {0x17, "01", "......"},
    {0x18, "00000001", "......"},
    {0x19, "01", "......"},
    {0x1A, "0001 'x'", "1....."},
    {0x1C, "0001 'x'", "1...1."},
    {0x1F, "0001 'x'", "1.1111"},
    {0x21, "FFFF", "1....."},
    {0x22, "0000", "1....."},
    {0x23, "0001", ".1...."},
    {0x24, "00", "1....."},
    {0x25, "00", "1....."},
    {0x26, "0001 'x' 0000", "nnnnnn"},
    {0x27, "00000001", "1....."},
    {0x28, "00", "1....."},
    {0x29, "00", "1....."},
    {0x2A, "00", "1....."},
};

/* What comes before and after the properties. */
static const struct packet_row {
    int column;
    uint8_t first_byte;
    const char *before, *after;
} packets[] = {
    {0, 0x20, "00 00", ""},   {1, 0x32, "0001 'a' 0001", "'P'"}, {2, 0x40, "0001 00", ""},
    {2, 0x50, "0001 00", ""}, {2, 0x62, "0001 00", ""},          {2, 0x70, "0001 00", ""},
    {3, 0x90, "0001", "00"},  {3, 0xB0, "0001", "00"},           {4, 0xE0, "00", ""},
    {5, 0xF0, "18", ""},
};

static void append(struct buffer *out, const char *text) {
    struct block block = block_parse(text);
    buffer_append(out, block.data, block.len);
    block_free(&block);
}

static struct block packet_with(const struct packet_row *packet, const struct buffer *properties) {
    struct buffer body = {0};
    struct buffer whole = {0};
    append(&body, packet->before);
    buffer_append(&body, &(uint8_t){(uint8_t)properties->len}, 1);
    buffer_append(&body, properties->data, properties->len);
    append(&body, packet->after);
    buffer_append(&whole, (uint8_t[]){packet->first_byte, (uint8_t)body.len}, 2);
    buffer_append(&whole, body.data, body.len);
    struct block block = block_copy(whole.data, whole.len);
    buffer_fini(&body);
    buffer_fini(&whole);
    return block;
}

/* The reason code of the refusal; 0: it is accepted, and found again. */
static uint8_t try_property(const struct packet_row *packet, uint8_t id, const char *value,
                            int times) {
    struct buffer properties = {0};
    if (packet->first_byte == 0xF0 && id != PROPERTY_AUTH_METHOD) {
        append(&properties, "15 0001 'm'"); /* without it, AUTH is refused */
    }
    for (int i = 0; i < times; i++) {
        buffer_append(&properties, &id, 1);
        append(&properties, value);
    }
    struct block block = packet_with(packet, &properties);
    struct packet decoded;
    struct packet_fault fault;
    struct packet_property found;
    bool taken = block_decode(&block, 5, &decoded, &fault);
    if (taken) {
        slices_are_equal(decoded.properties, properties.data, properties.len);
        ck_assert(packet_property_find(decoded.properties, id, &found));
    }
    block_free(&block);
    buffer_fini(&properties);
    return taken ? 0 : fault.reason_code;
}

START_TEST(each_property_is_taken_where_the_specification_has_it) {
    const struct place_row *row = &places[_i];
    for (size_t i = 0; i < COUNT(packets); i++) {
        char place = row->places[packets[i].column];
        uint8_t once = place == '.' ? MALFORMED : place == 'p' ? PROTOCOL : 0;
        uint8_t twice = place == '1' ? PROTOCOL : once;
        ck_assert_msg(try_property(&packets[i], row->id, row->value, 1) == once,
                      "0x%02X in packet 0x%02X", row->id, packets[i].first_byte);
        ck_assert_msg(try_property(&packets[i], row->id, row->value, 2) == twice,
                      "0x%02X twice in packet 0x%02X", row->id, packets[i].first_byte);
    }
}
END_TEST

START_TEST(identifiers_that_are_not_in_the_specification_are_malformed) {
    for (int id = 0; id < 256; id++) {
        bool known = false;
        for (size_t i = 0; i < COUNT(places); i++) {
            known = known || places[i].id == id;
        }
        for (size_t i = 0; !known && i < COUNT(packets); i++) {
            ck_assert_uint_eq(try_property(&packets[i], (uint8_t)id, "0000", 1), MALFORMED);
        }
        if (!known) {
            ck_assert_ptr_null(packet_property_name((uint8_t)id));
        }
    }
}
END_TEST

/* The Property Length cuts a value, while the packet continues behind it. */
START_TEST(a_value_never_reaches_beyond_the_property_length) {
    const struct place_row *row = &places[_i];
    struct block value = block_parse(row->value);
    for (size_t i = 0; i < COUNT(packets); i++) {
        for (size_t len = 0; len < value.len; len++) {
            struct buffer properties = {0};
            struct packet packet;
            struct packet_fault fault;
            buffer_append(&properties, &row->id, 1);
            buffer_append(&properties, value.data, len);
            struct block block = packet_with(&packets[i], &properties);
            ck_assert(!block_decode(&block, 5, &packet, &fault));
            block_free(&block);
            buffer_fini(&properties);
        }
    }
    block_free(&value);
}
END_TEST

START_TEST(numbers_are_read_whole) {
    static const struct {
        const char *bytes;
        uint8_t id;
        uint32_t number;
    } rows[] = {
        {"20 06 00 00 03 13 1234", PROPERTY_SERVER_KEEPALIVE, 0x1234},
        {"20 06 00 00 03 21 FFFF", PROPERTY_RECEIVE_MAXIMUM, 65535},
        {"20 08 00 00 05 11 FFFFFFFF", PROPERTY_SESSION_EXPIRY, UINT32_MAX},
        {"20 08 00 00 05 27 12345678", PROPERTY_MAXIMUM_PACKET_SIZE, 0x12345678},
        {"20 05 00 00 02 24 01", PROPERTY_MAXIMUM_QOS, 1},
        {"30 09 0001 'a' 05 0B FF FF FF 7F", PROPERTY_SUBSCRIPTION_IDENTIFIER, 268435455},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct block block = block_parse(rows[i].bytes);
        struct packet packet = block_decode_right(&block, 5);
        struct packet_property property;
        ck_assert(packet_property_find(packet.properties, rows[i].id, &property));
        ck_assert_uint_eq(property.number, rows[i].number);
        block_free(&block);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    int n = (int)COUNT(places);
    tcase_add_loop_test(cases, each_property_is_taken_where_the_specification_has_it, 0, n);
    tcase_add_loop_test(cases, a_value_never_reaches_beyond_the_property_length, 0, n);
    tcase_add_test(cases, identifiers_that_are_not_in_the_specification_are_malformed);
    tcase_add_test(cases, numbers_are_read_whole);
}

int main(void) {
    return run_tests("packet_properties", add_tests);
}
