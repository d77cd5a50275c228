/* Tests of mqtt/reactor/packet: decoding what a server sends, with the bytes of the specification.
 */
#include "mqtt/packet_fixture.h"

/* One valid packet of each kind and form; other tests cut and extend them. */
static const struct right_row {
    int version;
    const char *bytes;
} rights[] = {
    {4, "20 02 00 00"},
    {4, "20 02 01 00"},
    {4, "20 02 00 05"},
    {5, "20 03 00 00 00"},
    {5, "20 03 01 00 00"},
    {5, "20 03 00 87 00"},
    {5, "20 02 00 01"},
    {5, "20 0B 01 00 08 21 00 0A 13 00 05 24 01"},
    {4, "30 05 0003 'a/b'"},
    {4, "3B 0B 0003 'a/b' 000A 'hell'"},
    {5, "30 06 0003 'a/b' 00"},
    {5, "3D 0A 0003 'a/b' 000A 00 'hi'"},
    {5, "30 06 0000 03 23 0001"},
    {4, "40 02 1234"},
    {5, "40 02 1234"},
    {5, "40 03 1234 10"},
    {5, "40 04 1234 00 00"},
    {5, "50 08 1234 87 04 1F 0001 'x'"},
    {4, "62 02 FFFF"},
    {5, "62 03 1234 92"},
    {4, "70 02 0001"},
    {4, "90 04 000A 02 80"},
    {5, "90 05 000A 00 01 87"},
    {4, "B0 02 000A"},
    {5, "B0 05 000A 00 00 11"},
    {4, "D0 00"},
    {5, "D0 00"},
    {5, "E0 00"},
    {5, "E0 01 8E"},
    {5, "E0 02 8B 00"},
    {5, "F0 00"},
    {5, "F0 08 18 06 15 0003 'abc'"},
};

START_TEST(right_packets_are_decoded) {
    for (size_t i = 0; i < COUNT(rights); i++) {
        struct block block = block_parse(rights[i].bytes);
        struct packet packet;
        struct packet_fault fault;
        ck_assert_msg(block_decode(&block, rights[i].version, &packet, &fault), "%s: %s",
                      rights[i].bytes, fault.message);
        ck_assert_int_eq(packet.type, block.data[0] >> 4);
        block_free(&block);
    }
}
END_TEST

static void frame_byte_by_byte(const char *bytes) {
    struct block block = block_parse(bytes);
    for (size_t len = 0; len <= block.len; len++) {
        struct block part = block_copy(block.data, len);
        struct packet_frame frame;
        struct packet_fault fault;
        enum packet_framing framing = packet_frame(part.data, len, &frame, &fault);
        ck_assert_int_eq(framing, len < 2 ? PACKET_PARTIAL : PACKET_FRAMED);
        if (framing == PACKET_FRAMED) {
            ck_assert_uint_eq(frame.total_len, block.len);
            ck_assert_uint_eq(frame.header_len, 2);
            ck_assert_int_eq(frame.type, block.data[0] >> 4);
            ck_assert_uint_eq(frame.flags, block.data[0] & 15);
        }
        block_free(&part);
    }
    block_free(&block);
}

START_TEST(a_packet_that_arrives_byte_by_byte_is_framed_alike) {
    for (size_t i = 0; i < COUNT(rights); i++) {
        frame_byte_by_byte(rights[i].bytes);
    }
}
END_TEST

static void decode_cut_short(const char *bytes) {
    struct block block = block_parse(bytes);
    for (size_t len = 2; len < block.len; len++) {
        struct block part = block_copy(block.data, len);
        struct packet packet;
        struct packet_fault fault;
        part.data[1] = (uint8_t)(len - 2);
        for (int version = 4; version <= 5; version++) {
            if (!block_decode(&part, version, &packet, &fault)) {
                ck_assert_uint_ge(fault.reason_code, 0x81);
                ck_assert_ptr_nonnull(fault.message);
            }
        }
        block_free(&part);
    }
    block_free(&block);
}

/* Wherever the packet is cut, only existing bytes are read; a shorter packet may be valid. */
START_TEST(a_body_cut_anywhere_is_never_read_beyond_its_end) {
    for (size_t i = 0; i < COUNT(rights); i++) {
        decode_cut_short(rights[i].bytes);
    }
}
END_TEST

/* Table 2-1 of MQTT 5.0. */
START_TEST(remaining_lengths_are_read_at_their_bounds) {
    static const struct {
        const char *bytes;
        size_t header_len, remaining_len;
    } rows[] = {
        {"30 00", 2, 0},
        {"30 7F", 2, 127},
        {"30 80 01", 3, 128},
        {"30 FF 7F", 3, 16383},
        {"30 80 80 01", 4, 16384},
        {"30 FF FF 7F", 4, 2097151},
        {"30 80 80 80 01", 5, 2097152},
        {"30 FF FF FF 7F", 5, 268435455},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct block block = block_parse(rows[i].bytes);
        struct packet_frame frame;
        struct packet_fault fault;
        ck_assert_int_eq(packet_frame(block.data, block.len, &frame, &fault), PACKET_FRAMED);
        ck_assert_uint_eq(frame.header_len, rows[i].header_len);
        ck_assert_uint_eq(frame.total_len, rows[i].header_len + rows[i].remaining_len);
        for (size_t len = 0; len < block.len; len++) {
            struct block part = block_copy(block.data, len);
            ck_assert_int_eq(packet_frame(part.data, len, &frame, &fault), PACKET_PARTIAL);
            block_free(&part);
        }
        block_free(&block);
    }
}
END_TEST

START_TEST(a_long_form_of_the_remaining_length_is_for_3_1_1_only) {
    struct block block = block_parse("D0 80 00");
    struct packet packet;
    struct packet_fault fault;
    ck_assert(block_decode(&block, 4, &packet, &fault));
    ck_assert(!block_decode(&block, 5, &packet, &fault));
    ck_assert_uint_eq(fault.reason_code, 0x81);
    block_free(&block);
}
END_TEST

START_TEST(connack_tells_code_session_and_properties) {
    struct block block = block_parse("20 0E 01 00 0B 12 0003 'abc' 27 00010000");
    struct packet packet = block_decode_right(&block, 5);
    struct packet_property property;
    ck_assert_int_eq(packet.type, PACKET_CONNACK);
    ck_assert(packet.session_present);
    ck_assert_uint_eq(packet.reason_code, 0);
    ck_assert(packet_property_find(packet.properties, PROPERTY_ASSIGNED_CLIENT_ID, &property));
    slice_is(property.text, "abc");
    ck_assert(packet_property_find(packet.properties, PROPERTY_MAXIMUM_PACKET_SIZE, &property));
    ck_assert_uint_eq(property.number, 65536);
    ck_assert(!packet_property_find(packet.properties, PROPERTY_RECEIVE_MAXIMUM, &property));
    block_free(&block);
}
END_TEST

/* 3.1.1 section 3.1.2.2: such a server answers with return code 1 in its own version. */
START_TEST(a_server_of_3_1_1_refuses_a_client_of_5_in_its_own_form) {
    struct block block = block_parse("20 02 00 01");
    struct packet packet = block_decode_right(&block, 5);
    ck_assert_uint_eq(packet.reason_code, 1);
    ck_assert(!packet.session_present);
    block_free(&block);
}
END_TEST

/* Figure 3-9: topic a/b, packet identifier 10. */
START_TEST(publish_is_sliced_without_copying) {
    struct block block = block_parse("3B 0C 0003 'a/b' 000A 'hello'");
    struct packet packet = block_decode_right(&block, 4);
    ck_assert_int_eq(packet.type, PACKET_PUBLISH);
    ck_assert(packet.dup && packet.retain);
    ck_assert_uint_eq(packet.qos, 1);
    ck_assert_uint_eq(packet.packet_id, 10);
    slice_is(packet.topic, "a/b");
    slice_is(packet.payload, "hello");
    ck_assert_ptr_eq(packet.topic.data, block.data + 4);
    ck_assert_ptr_eq(packet.payload.data, block.data + 9);
    ck_assert_uint_eq(packet.properties.len, 0);
    block_free(&block);
}
END_TEST

START_TEST(publish_of_qos_0_has_no_packet_identifier_and_may_be_empty) {
    struct block block = block_parse("30 06 0003 'a/b' 00");
    struct packet packet = block_decode_right(&block, 5);
    ck_assert(!packet.dup && !packet.retain);
    ck_assert_uint_eq(packet.qos, 0);
    ck_assert_uint_eq(packet.packet_id, 0);
    ck_assert_uint_eq(packet.payload.len, 0);
    block_free(&block);
}
END_TEST

START_TEST(publish_with_an_alias_may_leave_out_its_topic) {
    struct block block = block_parse("34 09 0000 000A 03 23 0102 'x'");
    struct packet packet = block_decode_right(&block, 5);
    struct packet_property property;
    ck_assert_uint_eq(packet.topic.len, 0);
    ck_assert(packet_property_find(packet.properties, PROPERTY_TOPIC_ALIAS, &property));
    ck_assert_uint_eq(property.number, 0x0102);
    slice_is(packet.payload, "x");
    block_free(&block);
}
END_TEST

START_TEST(all_properties_of_a_message_are_given_in_their_order) {
    struct block block = block_parse("30 34 0001 'a' 2F"
                                     "01 01"
                                     "02 00000E10"
                                     "03 0002 'ct'"
                                     "08 0002 'rt'"
                                     "09 0003 00FF00"
                                     "0B 80 01"
                                     "23 0007"
                                     "26 0001 'k' 0002 'v1'"
                                     "0B 01"
                                     "26 0001 'k' 0002 'v2'"
                                     "'P'");
    struct packet packet = block_decode_right(&block, 5);
    static const struct {
        uint8_t id;
        uint32_t number;
        const char *key, *text;
        size_t text_len;
        const char *name;
    } rows[] = {
        {PROPERTY_PAYLOAD_FORMAT, 1, "", "", 0, "payload_format_indicator"},
        {PROPERTY_MESSAGE_EXPIRY, 3600, "", "", 0, "message_expiry_interval"},
        {PROPERTY_CONTENT_TYPE, 0, "", "ct", 2, "content_type"},
        {PROPERTY_RESPONSE_TOPIC, 0, "", "rt", 2, "response_topic"},
        {PROPERTY_CORRELATION_DATA, 0, "", "\0\xFF\0", 3, "correlation_data"},
        {PROPERTY_SUBSCRIPTION_IDENTIFIER, 128, "", "", 0, "subscription_identifier"},
        {PROPERTY_TOPIC_ALIAS, 7, "", "", 0, NULL},
        {PROPERTY_USER_PROPERTY, 0, "k", "v1", 2, "user_property"},
        {PROPERTY_SUBSCRIPTION_IDENTIFIER, 1, "", "", 0, "subscription_identifier"},
        {PROPERTY_USER_PROPERTY, 0, "k", "v2", 2, "user_property"},
    };
    size_t offset = 0;
    struct packet_property property;
    for (size_t i = 0; i < COUNT(rows); i++) {
        ck_assert(packet_property_next(packet.properties, &offset, &property));
        ck_assert_uint_eq(property.id, rows[i].id);
        ck_assert_uint_eq(property.number, rows[i].number);
        slice_is(property.key, rows[i].key);
        slices_are_equal(property.text, rows[i].text, rows[i].text_len);
        ck_assert_pstr_eq(packet_property_name(property.id), rows[i].name);
    }
    ck_assert(!packet_property_next(packet.properties, &offset, &property));
    ck_assert(!packet_property_next(packet.properties, &offset, &property));
    slice_is(packet.payload, "P");
    block_free(&block);
}
END_TEST

START_TEST(acknowledgements_have_a_code_of_0_when_it_is_left_out) {
    static const struct {
        int version;
        const char *bytes;
        enum packet_type type;
        uint8_t code;
    } rows[] = {
        {4, "40 02 1234", PACKET_PUBACK, 0},
        {5, "40 02 1234", PACKET_PUBACK, 0},
        {5, "50 03 1234 97", PACKET_PUBREC, 0x97},
        {5, "62 04 1234 92 00", PACKET_PUBREL, 0x92},
        {5, "70 08 1234 92 04 1F 0001 'x'", PACKET_PUBCOMP, 0x92},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct block block = block_parse(rows[i].bytes);
        struct packet packet = block_decode_right(&block, rows[i].version);
        ck_assert_int_eq(packet.type, rows[i].type);
        ck_assert_uint_eq(packet.packet_id, 0x1234);
        ck_assert_uint_eq(packet.reason_code, rows[i].code);
        block_free(&block);
    }
}
END_TEST

/* Figure 3.25 of 3.1.1, and the same with properties. */
START_TEST(suback_and_unsuback_give_one_code_per_filter) {
    static const uint8_t codes[] = {0x00, 0x02, 0x80, 0x8F, 0x91};
    struct block old = block_parse("90 07 000A 00 02 80 8F 91");
    struct block new = block_parse("90 0C 000A 04 1F 0001 'x' 00 02 80 8F 91");
    struct packet packet = block_decode_right(&old, 4);
    ck_assert_uint_eq(packet.packet_id, 10);
    slices_are_equal(packet.codes, codes, sizeof(codes));
    packet = block_decode_right(&new, 5);
    slices_are_equal(packet.codes, codes, sizeof(codes));
    block_free(&old);
    block_free(&new);

    old = block_parse("B0 02 000A");
    new = block_parse("B0 05 000A 00 00 11");
    packet = block_decode_right(&old, 4);
    ck_assert_uint_eq(packet.packet_id, 10);
    ck_assert_uint_eq(packet.codes.len, 0);
    packet = block_decode_right(&new, 5);
    slices_are_equal(packet.codes, "\x00\x11", 2);
    block_free(&old);
    block_free(&new);
}
END_TEST

START_TEST(disconnect_tells_why_and_where_to_go) {
    struct block block = block_parse("E0 09 9D 07 1C 0004 'h:18'");
    struct packet packet = block_decode_right(&block, 5);
    struct packet_property property;
    ck_assert_uint_eq(packet.reason_code, 0x9D);
    ck_assert(packet_property_find(packet.properties, PROPERTY_SERVER_REFERENCE, &property));
    slice_is(property.text, "h:18");
    block_free(&block);
    block = block_parse("E0 00");
    packet = block_decode_right(&block, 5);
    ck_assert_uint_eq(packet.reason_code, 0);
    block_free(&block);
}
END_TEST

/* Figure 1-2: a character of four bytes; and U+FEFF, which is not to be skipped (1.5.4). */
START_TEST(strings_are_utf_8_of_every_length) {
    struct block block = block_parse("30 0A 0008 41 F0AA9B94 EFBBBF");
    struct packet packet = block_decode_right(&block, 4);
    slice_is(packet.topic, "A\xF0\xAA\x9B\x94\xEF\xBB\xBF");
    block_free(&block);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, right_packets_are_decoded);
    tcase_add_test(cases, a_packet_that_arrives_byte_by_byte_is_framed_alike);
    tcase_add_test(cases, a_body_cut_anywhere_is_never_read_beyond_its_end);
    tcase_add_test(cases, remaining_lengths_are_read_at_their_bounds);
    tcase_add_test(cases, a_long_form_of_the_remaining_length_is_for_3_1_1_only);
    tcase_add_test(cases, connack_tells_code_session_and_properties);
    tcase_add_test(cases, a_server_of_3_1_1_refuses_a_client_of_5_in_its_own_form);
    tcase_add_test(cases, publish_is_sliced_without_copying);
    tcase_add_test(cases, publish_of_qos_0_has_no_packet_identifier_and_may_be_empty);
    tcase_add_test(cases, publish_with_an_alias_may_leave_out_its_topic);
    tcase_add_test(cases, all_properties_of_a_message_are_given_in_their_order);
    tcase_add_test(cases, acknowledgements_have_a_code_of_0_when_it_is_left_out);
    tcase_add_test(cases, suback_and_unsuback_give_one_code_per_filter);
    tcase_add_test(cases, disconnect_tells_why_and_where_to_go);
    tcase_add_test(cases, strings_are_utf_8_of_every_length);
}

int main(void) {
    return run_tests("packet_decode", add_tests);
}
