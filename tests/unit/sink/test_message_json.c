/* Tests of the JSON of a message: what a parser reads is what was received. */
#include "sink/message_json.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"

static struct buffer out;

static void setup(void) {
    buffer_init(&out);
}

static void teardown(void) {
    buffer_fini(&out);
}

static json_t *read_back(const struct message *message) {
    message_json_append(&out, message, "node-1");
    ck_assert(!out.failed);
    ck_assert_ptr_null(memchr(out.data, '\n', out.len));
    json_t *json = json_loadb(out.data, out.len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(json != NULL, "not JSON: %s", out.data);
    return json;
}

START_TEST(every_character_comes_back_in_payload_and_topic) {
    char text[] = {'a', (char)(_i + 1), 'b', '\0'};
    struct message message = {.id = text,
                              .client_id = text,
                              .topic = text,
                              .payload = (const uint8_t *)text,
                              .payload_len = sizeof text};
    json_t *json = read_back(&message);
    const json_t *topic = json_object_get(json, "topic");
    if (_i + 1 < 0x80) {
        ck_assert_str_eq(json_string_value(topic), text);
        const json_t *payload = json_object_get(json, "payload");
        ck_assert_uint_eq(json_string_length(payload), sizeof text);
        ck_assert_mem_eq(json_string_value(payload), text, sizeof text);
    } else { /* not UTF-8 */
        ck_assert_str_eq(json_string_value(topic), "a?b");
        char *encoded = text_base64_encode(text, sizeof text);
        ck_assert_str_eq(json_string_value(json_object_get(json, "payload_base64")), encoded);
        ck_assert_ptr_null(json_object_get(json, "payload"));
        free(encoded);
    }
    json_decref(json);
}
END_TEST

START_TEST(text_of_other_languages_is_unchanged_and_an_empty_payload_is_empty) {
    struct message message = {.id = "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80",
                              .client_id = "c",
                              .topic = "t",
                              .qos = 2,
                              .retain = true,
                              .received_at_ms = 1700000000123};
    json_t *json = read_back(&message);
    ck_assert_str_eq(json_string_value(json_object_get(json, "id")), message.id);
    ck_assert_str_eq(json_string_value(json_object_get(json, "payload")), "");
    ck_assert_str_eq(json_string_value(json_object_get(json, "node")), "node-1");
    ck_assert_int_eq(json_integer_value(json_object_get(json, "qos")), 2);
    ck_assert(json_is_true(json_object_get(json, "retain")));
    ck_assert_int_eq(json_integer_value(json_object_get(json, "received_at_ms")), 1700000000123);
    ck_assert_ptr_null(json_object_get(json, "properties"));
    json_decref(json);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("message_json");
    TCase *tcase = tcase_create("message_json");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, every_character_comes_back_in_payload_and_topic, 0, 255);
    tcase_add_test(tcase, text_of_other_languages_is_unchanged_and_an_empty_payload_is_empty);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
