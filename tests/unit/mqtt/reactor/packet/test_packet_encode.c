/* Tests of mqtt/reactor/packet: encoding what a client sends, with the bytes of the specification.
 */
#include "mqtt/packet_fixture.h"

static struct buffer out;

static void set_up(void) {
    buffer_init(&out);
}

static void tear_down(void) {
    buffer_fini(&out);
}

static char a_user[] = "user", a_password[] = "pw", a_client[] = "dev", a_will[] = "w/t";
static char a_filter[] = "a/b", c_filter[] = "c/d", empty[] = "";

/* ---- CONNECT ---- */

static struct client_config config_of(int version) {
    return (struct client_config){.request_problem_information = true,
                                  .client_id = a_client,
                                  .protocol_version = version,
                                  .clean_start = true};
}

START_TEST(the_least_connect_has_a_client_id_and_no_more) {
    struct client_config config = config_of(4);
    packet_write_connect(&out, &config, 60, 0);
    buffer_is(&out, "10 0F 0004 'MQTT' 04 02 003C 0003 'dev'");
    config.protocol_version = 5;
    packet_write_connect(&out, &config, 60, 0);
    buffer_is(&out, "10 10 0004 'MQTT' 05 02 003C 00 0003 'dev'");
    config.client_id = empty;
    packet_write_connect(&out, &config, 0, 0);
    buffer_is(&out, "10 0D 0004 'MQTT' 05 02 0000 00 0000");
}
END_TEST

/* Figure 3-6 of 3.1.1: user name, password, will with QoS 1, clean session, keep alive 10; and
 * figure 3-13 of MQTT 5, the same with a session expiry of 10. */
START_TEST(connect_has_all_parts_in_their_order) {
    struct client_config config = config_of(4);
    config.username = a_user;
    config.password = a_password;
    config.will = &(struct client_will){
        .topic = a_will, .payload = (uint8_t *)a_password, .payload_len = 2, .qos = 1};
    config.session_expiry_s = 10;
    packet_write_connect(&out, &config, 10, 0);
    buffer_is(&out, "10 22 0004 'MQTT' 04 CE 000A"
                    "0003 'dev' 0003 'w/t' 0002 'pw' 0004 'user' 0002 'pw'");
    config.protocol_version = 5;
    packet_write_connect(&out, &config, 10, 0);
    buffer_is(&out, "10 29 0004 'MQTT' 05 CE 000A 05 11 0000000A"
                    "0003 'dev' 00 0003 'w/t' 0002 'pw' 0004 'user' 0002 'pw'");
}
END_TEST

START_TEST(each_choice_has_its_connect_flag) {
    static const struct {
        bool clean, will, retain, user, password;
        uint8_t qos, flags, flags_v4;
    } rows[] = {
        {.flags = 0x00, .flags_v4 = 0x00},
        {.clean = true, .flags = 0x02, .flags_v4 = 0x02},
        {.will = true, .flags = 0x04, .flags_v4 = 0x04},
        {.will = true, .qos = 2, .flags = 0x14, .flags_v4 = 0x14},
        {.will = true, .retain = true, .flags = 0x24, .flags_v4 = 0x24},
        {.user = true, .flags = 0x80, .flags_v4 = 0x80},
        {.password = true, .flags = 0x40, .flags_v4 = 0x00},
        {.user = true, .password = true, .flags = 0xC0, .flags_v4 = 0xC0},
        {true, true, true, true, true, 2, 0xF6, 0xF6},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (int version = 4; version <= 5; version++) {
            struct client_config config = config_of(version);
            config.clean_start = rows[i].clean;
            config.username = rows[i].user ? a_user : NULL;
            config.password = rows[i].password ? a_password : NULL;
            struct client_will will = {
                .topic = a_will, .qos = rows[i].qos, .retain = rows[i].retain};
            config.will = rows[i].will ? &will : NULL;
            packet_write_connect(&out, &config, 0, 0);
            ck_assert_uint_eq((uint8_t)out.data[9],
                              version == 4 ? rows[i].flags_v4 : rows[i].flags);
            buffer_clear(&out);
        }
    }
}
END_TEST

START_TEST(a_password_without_user_name_is_sent_in_mqtt_5_only) {
    struct client_config config = config_of(5);
    config.password = a_password;
    packet_write_connect(&out, &config, 0, 0);
    buffer_is(&out, "10 14 0004 'MQTT' 05 42 0000 00 0003 'dev' 0002 'pw'");
    config.protocol_version = 4;
    packet_write_connect(&out, &config, 0, 0);
    buffer_is(&out, "10 0F 0004 'MQTT' 04 02 0000 0003 'dev'");
}
END_TEST

START_TEST(an_empty_will_of_mqtt_5_has_its_delay) {
    struct client_config config = config_of(5);
    config.will = &(struct client_will){.topic = a_will, .delay_s = 0x01020304};
    packet_write_connect(&out, &config, 0, 0);
    buffer_is(&out, "10 1D 0004 'MQTT' 05 06 0000 00 0003 'dev'"
                    "05 18 01020304 0003 'w/t' 0000");
    config.protocol_version = 4;
    packet_write_connect(&out, &config, 0, 0);
    buffer_is(&out, "10 16 0004 'MQTT' 04 06 0000 0003 'dev' 0003 'w/t' 0000");
}
END_TEST

START_TEST(a_will_of_mqtt_5_has_all_its_properties) {
    struct client_config config = config_of(5);
    struct client_pair pairs[] = {{a_user, a_password}, {a_user, empty}};
    config.will = &(struct client_will){.topic = a_will,
                                        .delay_s = 9,
                                        .payload_format_indicator = 1,
                                        .message_expiry_interval = 0x01020304,
                                        .content_type = a_password,
                                        .response_topic = a_will,
                                        .correlation_data = (uint8_t *)"\0\xFF",
                                        .correlation_data_len = 2,
                                        .user_properties = pairs,
                                        .user_property_count = 2};
    packet_write_connect(&out, &config, 0, 0);
    buffer_is(&out, "10 48 0004 'MQTT' 05 06 0000 00 0003 'dev'"
                    "30 18 00000009 01 01 02 01020304 03 0002 'pw' 08 0003 'w/t' 09 0002 00FF"
                    "26 0004 'user' 0002 'pw' 26 0004 'user' 0000 0003 'w/t' 0000");
    config.will = &(struct client_will){.topic = a_will, .correlation_data = (uint8_t *)""};
    packet_write_connect(&out, &config, 0, 0);
    buffer_is(&out, "10 1B 0004 'MQTT' 05 06 0000 00 0003 'dev' 03 09 0000 0003 'w/t' 0000");
}
END_TEST

START_TEST(what_is_asked_of_the_server_is_sent_when_it_is_not_the_default) {
    struct client_config config = config_of(5);
    config.request_problem_information = false;
    config.request_response_information = true;
    packet_write_connect(&out, &config, 0, 0);
    buffer_is(&out, "10 14 0004 'MQTT' 05 02 0000 04 19 01 17 00 0003 'dev'");
}
END_TEST

START_TEST(connect_of_mqtt_5_has_its_properties) {
    struct client_config config = config_of(5);
    struct client_pair pairs[] = {{a_user, a_password}, {a_user, empty}};
    config.clean_start = false;
    config.session_expiry_s = UINT32_MAX;
    config.receive_maximum = 100;
    config.user_properties = pairs;
    config.user_property_count = 2;
    config.max_packet_size = 65536;
    packet_write_connect(&out, &config, 0, 7);
    buffer_is(&out, "10 34 0004 'MQTT' 05 00 0000"
                    "24 11 FFFFFFFF 21 0064 27 00010000 22 0007"
                    "26 0004 'user' 0002 'pw' 26 0004 'user' 0000"
                    "0003 'dev'");
    config.protocol_version = 4;
    packet_write_connect(&out, &config, 0, 7);
    buffer_is(&out, "10 0F 0004 'MQTT' 04 00 0000 0003 'dev'");
}
END_TEST

/* ---- requests ---- */

/* Sections 3.8.3 and 3.10.3: a/b and c/d, packet identifier 10. */
START_TEST(subscribe_has_filters_with_their_options) {
    struct client_subscription subscriptions[] = {
        {.filter = a_filter, .qos = 1},
        {.filter = c_filter, .qos = 2, .no_local = true, .retain_handling = 2}};
    packet_write_subscribe(&out, 4, 10, subscriptions, 2);
    buffer_is(&out, "82 0E 000A 0003 'a/b' 01 0003 'c/d' 02");
    packet_write_subscribe(&out, 5, 10, subscriptions, 2);
    buffer_is(&out, "82 0F 000A 00 0003 'a/b' 01 0003 'c/d' 26");
    subscriptions[0].qos = 0;
    subscriptions[0].retain_as_published = true;
    subscriptions[0].retain_handling = 1;
    packet_write_subscribe(&out, 5, 0xFFFE, subscriptions, 1);
    buffer_is(&out, "82 09 FFFE 00 0003 'a/b' 18");
}
END_TEST

START_TEST(unsubscribe_has_filters) {
    char *filters[] = {a_filter, c_filter};
    packet_write_unsubscribe(&out, 4, 10, filters, 2);
    buffer_is(&out, "A2 0C 000A 0003 'a/b' 0003 'c/d'");
    packet_write_unsubscribe(&out, 5, 10, filters, 2);
    buffer_is(&out, "A2 0D 000A 00 0003 'a/b' 0003 'c/d'");
}
END_TEST

/* ---- PUBLISH ---- */

static struct engine_publication publication_of(uint8_t qos) {
    return (struct engine_publication){
        .topic = "a/b", .payload = (const uint8_t *)"hi", .payload_len = 2, .qos = qos};
}

static struct message_property property_of(const char *name, const char *key, const char *value) {
    return (struct message_property){name, key, value, strlen(value)};
}

START_TEST(publish_has_a_packet_identifier_above_qos_0_only) {
    struct engine_publication publication = publication_of(0);
    ck_assert_int_eq(packet_write_publish(&out, 4, &publication, 0), ERR_OK);
    buffer_is(&out, "30 07 0003 'a/b' 'hi'");
    ck_assert_int_eq(packet_write_publish(&out, 5, &publication, 0), ERR_OK);
    buffer_is(&out, "30 08 0003 'a/b' 00 'hi'");
    publication.qos = 1;
    publication.retain = true;
    ck_assert_int_eq(packet_write_publish(&out, 4, &publication, 10), ERR_OK);
    buffer_is(&out, "33 09 0003 'a/b' 000A 'hi'");
    publication = publication_of(2);
    publication.payload = NULL;
    publication.payload_len = 0;
    ck_assert_int_eq(packet_write_publish(&out, 5, &publication, 0x0102), ERR_OK);
    buffer_is(&out, "34 08 0003 'a/b' 0102 00");
}
END_TEST

START_TEST(publish_has_the_properties_by_their_names) {
    struct message_property properties[] = {
        property_of("payload_format_indicator", NULL, "1"),
        property_of("message_expiry_interval", NULL, "4294967295"),
        property_of("content_type", NULL, "ct"),
        property_of("response_topic", NULL, "r/t"),
        {"correlation_data", NULL, "\0\xFF", 2},
        property_of("user_property", "k", "v"),
        property_of("user_property", "k", ""),
    };
    struct engine_publication publication = publication_of(1);
    publication.properties = properties;
    publication.property_count = COUNT(properties);
    ck_assert_int_eq(packet_write_publish(&out, 5, &publication, 1), ERR_OK);
    buffer_is(&out, "32 2E 0003 'a/b' 0001 24 01 01 02 FFFFFFFF 03 0002 'ct' 08 0003 'r/t'"
                    "09 0002 00FF 26 0001 'k' 0001 'v' 26 0001 'k' 0000 'hi'");
    ck_assert_int_eq(packet_write_publish(&out, 4, &publication, 1), ERR_OK);
    buffer_is(&out, "32 09 0003 'a/b' 0001 'hi'");
}
END_TEST

START_TEST(properties_that_cannot_be_sent_are_refused_and_nothing_is_written) {
    static char long_text[65537];
    memset(long_text, 'x', 65536);
    const struct message_property rows[] = {
        property_of("unknown", NULL, "1"),
        property_of("topic_alias", NULL, "1"),
        property_of("subscription_identifier", NULL, "1"),
        property_of("payload_format_indicator", NULL, "2"),
        property_of("payload_format_indicator", NULL, ""),
        property_of("payload_format_indicator", NULL, "1 "),
        property_of("payload_format_indicator", NULL, "0x1"),
        property_of("message_expiry_interval", NULL, "4294967296"),
        property_of("message_expiry_interval", NULL, "99999999999"),
        property_of("message_expiry_interval", NULL, "-1"),
        property_of("content_type", NULL, "\xFF"),
        property_of("content_type", NULL, long_text),
        {"content_type", NULL, "a\0b", 3},
        property_of("response_topic", NULL, "a/+"),
        property_of("response_topic", NULL, ""),
        property_of("correlation_data", NULL, long_text),
        property_of("user_property", NULL, "v"),
        property_of("user_property", "\xC0\x80", "v"),
        property_of("user_property", "k", "\xED\xA0\x80"),
        property_of("user_property", long_text, "v"),
        property_of("user_property", "k", long_text),
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct engine_publication publication = publication_of(0);
        publication.properties = &rows[i];
        publication.property_count = 1;
        ck_assert_msg(packet_write_publish(&out, 5, &publication, 0) == ERR_ARGUMENT, "row %zu %s",
                      i, rows[i].name);
        ck_assert_uint_eq(out.len, 0);
    }
    struct message_property twice[] = {rows[0], rows[0]};
    twice[0] = twice[1] = property_of("content_type", NULL, "x");
    struct engine_publication publication = publication_of(0);
    publication.properties = twice;
    publication.property_count = 2;
    ck_assert_int_eq(packet_write_publish(&out, 5, &publication, 0), ERR_ARGUMENT);
    ck_assert_uint_eq(out.len, 0);
}
END_TEST

START_TEST(topics_that_cannot_be_sent_are_refused) {
    static char long_topic[65537];
    memset(long_topic, 'x', 65536);
    const char *const topics[] = {"", "a/+", "#", "\xFF", long_topic};
    for (size_t i = 0; i < COUNT(topics); i++) {
        struct engine_publication publication = publication_of(0);
        publication.topic = topics[i];
        ck_assert_int_eq(packet_write_publish(&out, 4, &publication, 0), ERR_ARGUMENT);
        ck_assert_uint_eq(out.len, 0);
    }
    long_topic[65535] = '\0';
    struct engine_publication publication = publication_of(0);
    publication.topic = long_topic;
    ck_assert_int_eq(packet_write_publish(&out, 5, &publication, 0), ERR_OK);
    ck_assert_uint_eq(out.len, 1 + 3 + 2 + 65535 + 1 + 2);
}
END_TEST

/* Before any of the payload is looked at. */
START_TEST(a_packet_beyond_the_largest_is_refused) {
    struct engine_publication publication = publication_of(0);
    publication.payload_len = PACKET_SIZE_MAX - 5 - 5 + 1;
    ck_assert_int_eq(packet_write_publish(&out, 4, &publication, 0), ERR_ARGUMENT);
    publication.payload_len--;
    ck_assert_int_eq(packet_write_publish(&out, 5, &publication, 0), ERR_ARGUMENT);
    publication.payload_len = SIZE_MAX - 6;
    ck_assert_int_eq(packet_write_publish(&out, 5, &publication, 0), ERR_ARGUMENT);
    publication.payload_len = SIZE_MAX;
    ck_assert_int_eq(packet_write_publish(&out, 4, &publication, 0), ERR_ARGUMENT);
    ck_assert_uint_eq(out.len, 0);
}
END_TEST

START_TEST(dup_is_set_in_place) {
    struct engine_publication publication = publication_of(1);
    ck_assert_int_eq(packet_write_publish(&out, 4, &publication, 10), ERR_OK);
    packet_mark_duplicate((uint8_t *)out.data);
    packet_mark_duplicate((uint8_t *)out.data);
    buffer_is(&out, "3A 09 0003 'a/b' 000A 'hi'");
}
END_TEST

/* ---- packets of a few bytes ---- */

START_TEST(acknowledgements_leave_out_a_code_of_0) {
    packet_write_ack(&out, 4, PACKET_PUBACK, 0x1234, 0);
    buffer_is(&out, "40 02 1234");
    packet_write_ack(&out, 4, PACKET_PUBREC, 0x1234, 0x80);
    buffer_is(&out, "50 02 1234");
    packet_write_ack(&out, 5, PACKET_PUBREL, 0x1234, 0);
    buffer_is(&out, "62 02 1234");
    packet_write_ack(&out, 5, PACKET_PUBREL, 0x1234, 0x92);
    buffer_is(&out, "62 03 1234 92");
    packet_write_ack(&out, 5, PACKET_PUBCOMP, 1, 0x92);
    buffer_is(&out, "70 03 0001 92");
    packet_write_ack(&out, 5, PACKET_PUBACK, 65535, 0x97);
    buffer_is(&out, "40 03 FFFF 97");
}
END_TEST

START_TEST(pingreq_and_disconnect_are_two_bytes) {
    packet_write_pingreq(&out);
    buffer_is(&out, "C0 00");
    packet_write_disconnect(&out, 4, 0x04);
    buffer_is(&out, "E0 00");
    packet_write_disconnect(&out, 5, 0);
    buffer_is(&out, "E0 00");
    packet_write_disconnect(&out, 5, 0x81);
    buffer_is(&out, "E0 01 81");
}
END_TEST

START_TEST(packets_are_appended_to_what_is_there) {
    packet_write_pingreq(&out);
    packet_write_ack(&out, 4, PACKET_PUBACK, 1, 0);
    struct engine_publication publication = publication_of(0);
    ck_assert_int_eq(packet_write_publish(&out, 4, &publication, 0), ERR_OK);
    buffer_is(&out, "C0 00 40 02 0001 30 07 0003 'a/b' 'hi'");
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, the_least_connect_has_a_client_id_and_no_more);
    tcase_add_test(cases, connect_has_all_parts_in_their_order);
    tcase_add_test(cases, each_choice_has_its_connect_flag);
    tcase_add_test(cases, a_password_without_user_name_is_sent_in_mqtt_5_only);
    tcase_add_test(cases, an_empty_will_of_mqtt_5_has_its_delay);
    tcase_add_test(cases, a_will_of_mqtt_5_has_all_its_properties);
    tcase_add_test(cases, what_is_asked_of_the_server_is_sent_when_it_is_not_the_default);
    tcase_add_test(cases, connect_of_mqtt_5_has_its_properties);
    tcase_add_test(cases, subscribe_has_filters_with_their_options);
    tcase_add_test(cases, unsubscribe_has_filters);
    tcase_add_test(cases, publish_has_a_packet_identifier_above_qos_0_only);
    tcase_add_test(cases, publish_has_the_properties_by_their_names);
    tcase_add_test(cases, properties_that_cannot_be_sent_are_refused_and_nothing_is_written);
    tcase_add_test(cases, topics_that_cannot_be_sent_are_refused);
    tcase_add_test(cases, a_packet_beyond_the_largest_is_refused);
    tcase_add_test(cases, dup_is_set_in_place);
    tcase_add_test(cases, acknowledgements_leave_out_a_code_of_0);
    tcase_add_test(cases, pingreq_and_disconnect_are_two_bytes);
    tcase_add_test(cases, packets_are_appended_to_what_is_there);
}

int main(void) {
    return run_tests("packet_encode", add_tests);
}
