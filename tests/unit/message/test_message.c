/* Tests of message/message: a copy in one block that shares nothing with its source. */
#include "message/message.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(everything_is_copied_and_nothing_shared) {
    char id[] = "id-1";
    char client_id[] = "client-1";
    char topic[] = "a/b";
    uint8_t payload[] = {0, 255, 0, 'x'};
    char key[] = "k";
    char value[] = "v\0w";
    struct message_property properties[] = {
        {.name = "content_type", .value = "text/plain", .value_len = 10},
        {.name = "user_property", .key = key, .value = value, .value_len = 3},
        {.name = "correlation_data", .value = NULL, .value_len = 0},
    };
    struct message from = {.id = id,
                           .client_id = client_id,
                           .topic = topic,
                           .payload = payload,
                           .payload_len = sizeof(payload),
                           .properties = properties,
                           .property_count = 3,
                           .received_at_ms = 1234567890123,
                           .received_us = 77,
                           .qos = 2,
                           .retain = true,
                           .dup = true};
    struct message *message = message_create(&from);
    ck_assert_ptr_nonnull(message);
    memset(id, '?', 4);
    memset(client_id, '?', 8);
    memset(topic, '?', 3);
    memset(payload, '?', sizeof(payload));
    memset(key, '?', 1);
    memset(value, '?', 3);
    memset(properties, 0, sizeof(properties));
    ck_assert_str_eq(message->id, "id-1");
    ck_assert_str_eq(message->client_id, "client-1");
    ck_assert_str_eq(message->topic, "a/b");
    ck_assert_uint_eq(message->payload_len, 4);
    ck_assert_mem_eq(message->payload, "\0\377\0x", 4);
    ck_assert_uint_eq(message->property_count, 3);
    ck_assert_str_eq(message->properties[0].name, "content_type");
    ck_assert_ptr_null(message->properties[0].key);
    ck_assert_str_eq(message->properties[0].value, "text/plain");
    ck_assert_str_eq(message->properties[1].name, "user_property");
    ck_assert_str_eq(message->properties[1].key, "k");
    ck_assert_uint_eq(message->properties[1].value_len, 3);
    ck_assert_mem_eq(message->properties[1].value, "v\0w", 4);
    ck_assert_str_eq(message->properties[2].value, "");
    ck_assert_int_eq(message->received_at_ms, 1234567890123);
    ck_assert_int_eq(message->received_us, 77);
    ck_assert_uint_eq(message->qos, 2);
    ck_assert(message->retain);
    ck_assert(message->dup);
    message_destroy(message);
}
END_TEST

START_TEST(an_empty_payload_without_properties_is_legal) {
    struct message from = {.id = "", .client_id = "", .topic = "t", .size = 1};
    struct message *message = message_create(&from);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(message->payload_len, 0);
    ck_assert_ptr_nonnull(message->payload);
    ck_assert_ptr_null(message->properties);
    message_destroy(message);
    message_destroy(NULL);
}
END_TEST

START_TEST(size_counts_the_whole_block) {
    struct message from = {.id = "i", .client_id = "c", .topic = "t"};
    struct message *small = message_create(&from);
    uint8_t payload[1000] = {0};
    from.payload = payload;
    from.payload_len = sizeof(payload);
    struct message *large = message_create(&from);
    ck_assert_uint_ge(small->size, sizeof(struct message));
    ck_assert_uint_eq(large->size, small->size + 1000);
    message_destroy(small);
    message_destroy(large);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("message");
    tcase_add_test(cases, everything_is_copied_and_nothing_shared);
    tcase_add_test(cases, an_empty_payload_without_properties_is_legal);
    tcase_add_test(cases, size_counts_the_whole_block);
    Suite *suite = suite_create("message");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
