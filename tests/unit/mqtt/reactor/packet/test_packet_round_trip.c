/* Tests of mqtt/reactor/packet: generated packets, encoded, decoded and compared. */
#include "mqtt/packet_fixture.h"

#include "message/message.h"
#include "base/text.h"

#define ROUNDS         1000
#define PROPERTIES_MAX 12
#define TEXT_LEN       300

/* A small generator: the same seed repeats a failure. */
static uint32_t random_state;

static uint32_t random_below(uint32_t bound) {
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)random_state * bound >> 32);
}

static bool random_bool(void) {
    return random_below(2) == 1;
}

/* Well-formed, without U+0000 and wildcards; at least one character. */
static size_t random_text(char text[TEXT_LEN + 5]) {
    static const char *const characters[] = {"a",
                                             "/",
                                             "0",
                                             " ",
                                             "\x01",
                                             "\x7F",
                                             "\xC2\x80",
                                             "\xDF\xBF",
                                             "\xE0\xA0\x80",
                                             "\xEF\xBB\xBF",
                                             "\xED\x9F\xBF",
                                             "\xF0\x90\x80\x80",
                                             "\xF4\x8F\xBF\xBF"};
    size_t want = 1 + random_below(random_bool() ? 8 : TEXT_LEN);
    size_t len = 0;
    while (len < want) {
        const char *character = characters[random_below(COUNT(characters))];
        memcpy(text + len, character, strlen(character));
        len += strlen(character);
    }
    text[len] = '\0';
    return len;
}

static size_t random_payload(uint8_t *payload, size_t capacity) {
    static const uint32_t around[] = {1, 100, 128, 16384, 20000};
    size_t len = random_below(around[random_below(COUNT(around))]);
    ck_assert_uint_le(len, capacity);
    for (size_t i = 0; i < len; i++) {
        payload[i] = (uint8_t)random_below(256);
    }
    return len;
}

static struct {
    struct engine_publication publication;
    struct message_property properties[PROPERTIES_MAX];
    char keys[PROPERTIES_MAX][TEXT_LEN + 5], values[PROPERTIES_MAX][TEXT_LEN + 5];
    char topic[TEXT_LEN + 5];
    uint8_t payload[20000];
} made;

static void make_property(struct message_property *property, const char *name, size_t at) {
    property->name = name;
    property->value = made.values[at];
    property->value_len = random_text(made.values[at]);
    if (strcmp(name, "user_property") == 0) {
        random_text(made.keys[at]);
        property->key = made.keys[at];
    } else if (strcmp(name, "payload_format_indicator") == 0) {
        property->value_len = (size_t)sprintf(made.values[at], "%u", random_below(2));
    } else if (strcmp(name, "message_expiry_interval") == 0) {
        property->value_len = (size_t)sprintf(made.values[at], "%u", random_below(UINT32_MAX));
    }
}

static void make_publication(uint8_t qos) {
    static const char *const once[] = {"payload_format_indicator", "message_expiry_interval",
                                       "content_type", "response_topic", "correlation_data"};
    size_t n = 0;
    memset(made.properties, 0, sizeof(made.properties));
    for (size_t i = 0; i < COUNT(once); i++) {
        if (random_bool()) {
            make_property(&made.properties[n], once[i], n);
            n++;
        }
    }
    for (uint32_t left = random_below(PROPERTIES_MAX - (uint32_t)n); left > 0; left--) {
        make_property(&made.properties[n], "user_property", n);
        n++;
    }
    random_text(made.topic);
    made.publication = (struct engine_publication){
        .topic = made.topic,
        .payload = made.payload,
        .payload_len = random_payload(made.payload, sizeof(made.payload)),
        .qos = qos,
        .retain = random_bool(),
        .properties = made.properties,
        .property_count = n};
}

static void property_is(const struct packet_property *property,
                        const struct message_property *expected) {
    char number[16];
    ck_assert_str_eq(packet_property_name(property->id), expected->name);
    if (property->id == PROPERTY_PAYLOAD_FORMAT || property->id == PROPERTY_MESSAGE_EXPIRY) {
        snprintf(number, sizeof(number), "%u", property->number);
        ck_assert_str_eq(number, expected->value);
        return;
    }
    slices_are_equal(property->text, expected->value, expected->value_len);
    slice_is(property->key, expected->key ? expected->key : "");
}

static void publication_is(const struct packet *packet, int version, uint16_t packet_id) {
    const struct engine_publication *expected = &made.publication;
    struct packet_property property;
    size_t offset = 0;
    ck_assert_int_eq(packet->type, PACKET_PUBLISH);
    ck_assert_uint_eq(packet->qos, expected->qos);
    ck_assert_uint_eq(packet->packet_id, packet_id);
    ck_assert_int_eq(packet->retain, expected->retain);
    slice_is(packet->topic, expected->topic);
    slices_are_equal(packet->payload, expected->payload, expected->payload_len);
    for (size_t i = 0; version == 5 && i < expected->property_count; i++) {
        ck_assert(packet_property_next(packet->properties, &offset, &property));
        property_is(&property, &expected->properties[i]);
    }
    ck_assert(!packet_property_next(packet->properties, &offset, &property));
}

START_TEST(a_publication_comes_back_as_it_went) {
    int version = _i;
    random_state = 1;
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t qos = (uint8_t)random_below(3);
        uint16_t packet_id = (uint16_t)(qos > 0 ? 1 + random_below(65535) : 0);
        struct buffer out = {0};
        make_publication(qos);
        ck_assert_int_eq(packet_write_publish(&out, version, &made.publication, packet_id), ERR_OK);
        bool dup = qos > 0 && random_bool();
        if (dup) {
            packet_mark_duplicate((uint8_t *)out.data);
        }
        struct block block = block_copy(out.data, out.len);
        struct packet packet = block_decode_right(&block, version);
        publication_is(&packet, version, packet_id);
        ck_assert_int_eq(packet.dup, dup);
        block_free(&block);
        buffer_fini(&out);
    }
}
END_TEST

START_TEST(every_acknowledgement_comes_back_as_it_went) {
    static const uint8_t reasons[][2] = {{0x00, 0x99}, {0x00, 0x80}, {0x00, 0x92}, {0x00, 0x92}};
    for (uint32_t packet_id = 1; packet_id <= 65535; packet_id += 127) {
        for (int type = PACKET_PUBACK; type <= PACKET_PUBCOMP; type++) {
            for (int version = 4; version <= 5; version++) {
                struct buffer out = {0};
                uint8_t reason = reasons[type - PACKET_PUBACK][packet_id & 1];
                packet_write_ack(&out, version, (enum packet_type)type, (uint16_t)packet_id,
                                 reason);
                struct block block = block_copy(out.data, out.len);
                struct packet packet = block_decode_right(&block, version);
                ck_assert_int_eq(packet.type, type);
                ck_assert_uint_eq(packet.packet_id, packet_id);
                ck_assert_uint_eq(packet.reason_code, version == 5 ? reason : 0);
                block_free(&block);
                buffer_fini(&out);
            }
        }
    }
}
END_TEST

START_TEST(remaining_lengths_come_back_at_their_bounds) {
    static const size_t payload_lens[] = {122, 123, 124, 16378, 16379, 2097146, 2097147, 2097148};
    uint8_t *payload = calloc(1, 2097148);
    ck_assert_ptr_nonnull(payload);
    for (size_t i = 0; i < COUNT(payload_lens); i++) {
        struct engine_publication publication = {
            .topic = "abc", .payload = payload, .payload_len = payload_lens[i]};
        struct buffer out = {0};
        ck_assert_int_eq(packet_write_publish(&out, 4, &publication, 0), ERR_OK);
        struct block block = block_copy(out.data, out.len);
        struct packet packet = block_decode_right(&block, 4);
        ck_assert_uint_eq(packet.payload.len, payload_lens[i]);
        block_free(&block);
        buffer_fini(&out);
    }
    free(payload);
}
END_TEST

/* Valid packets with one bit flipped: nothing is read beyond the end, and a refusal always has a
 * reason. */
START_TEST(a_turned_bit_is_refused_or_taken_but_never_read_beyond) {
    random_state = 2;
    for (int round = 0; round < 200; round++) {
        struct buffer out = {0};
        make_publication(1);
        made.publication.payload_len = 3;
        ck_assert_int_eq(packet_write_publish(&out, 5, &made.publication, 1), ERR_OK);
        size_t header_len = out.len > 129 ? 3 : 2;
        for (int turn = 0; turn < 200; turn++) {
            size_t bit = 8 * header_len + random_below(8 * (uint32_t)(out.len - header_len));
            struct block block = block_copy(out.data, out.len);
            struct packet packet;
            struct packet_fault fault;
            block.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            if (!block_decode(&block, 5, &packet, &fault)) {
                ck_assert_uint_ge(fault.reason_code, 0x81);
                ck_assert_ptr_nonnull(fault.message);
            }
            block_free(&block);
        }
        buffer_fini(&out);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, a_publication_comes_back_as_it_went, 4, 6);
    tcase_add_test(cases, every_acknowledgement_comes_back_as_it_went);
    tcase_add_test(cases, remaining_lengths_come_back_at_their_bounds);
    tcase_add_test(cases, a_turned_bit_is_refused_or_taken_but_never_read_beyond);
}

int main(void) {
    return run_tests("packet_round_trip", add_tests);
}
