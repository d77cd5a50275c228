/* Tests of http/api/clients/publication: the body of .../publish. */
#include "http/api/clients/publication.h"

#include <check.h>
#include <string.h>
#include "http/http_check.h"

static json_t *document;
static struct publication_input *input;

static void parse(const char *text) {
    json_error_t error;
    document = json_loads(text, JSON_ALLOW_NUL, &error);
    ck_assert_msg(document != NULL, "%s: %s", text, error.text);
    input = publication_parse(document);
    ck_assert_ptr_nonnull(input);
}

static void done(void) {
    publication_destroy(input);
    json_decref(document);
}

START_TEST(a_topic_and_a_payload_are_enough_even_an_empty_one) {
    parse("{\"topic\": \"a/b\", \"payload\": \"\"}");
    ck_assert_uint_eq(input->faults.count, 0);
    ck_assert_str_eq(input->publication.topic, "a/b");
    ck_assert_uint_eq(input->publication.payload_len, 0);
    ck_assert_int_eq(input->publication.qos, 0);
    ck_assert(!input->publication.retain);
    done();
}
END_TEST

START_TEST(a_payload_is_text_with_nul_or_base64) {
    parse("{\"topic\": \"t\", \"payload\": \"a\\u0000b\", \"qos\": 2, \"retain\": true}");
    ck_assert_uint_eq(input->faults.count, 0);
    ck_assert_uint_eq(input->publication.payload_len, 3);
    ck_assert_int_eq(memcmp(input->publication.payload, "a\0b", 3), 0);
    ck_assert_int_eq(input->publication.qos, 2);
    ck_assert(input->publication.retain);
    done();
    parse("{\"topic\": \"t\", \"payload_base64\": \"/wA=\"}");
    ck_assert_uint_eq(input->faults.count, 0);
    ck_assert_uint_eq(input->publication.payload_len, 2);
    ck_assert_int_eq(memcmp(input->publication.payload, "\xFF\0", 2), 0);
    done();
}
END_TEST

START_TEST(properties_are_taken_under_their_name_or_beside_the_rest) {
    static const char *const texts[] = {
        "{\"payload\": \"\", \"topic\": \"t\", \"properties\": {\"content_type\": \"text/plain\", \"correlation_data\":"
        " \"AAE=\", \"message_expiry_interval\": 4294967295, \"payload_format_indicator\": 1,"
        " \"response_topic\": \"r\", \"user_properties\": {\"k\": \"v\"}}}",
        "{\"payload\": \"\", \"topic\": \"t\", \"content_type\": \"text/plain\", \"correlation_data\":"
        " \"AAE=\", \"message_expiry_interval\": 4294967295, \"payload_format_indicator\": 1,"
        " \"response_topic\": \"r\", \"user_properties\": [{\"name\": \"k\", \"value\": \"v\"}]}"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        parse(texts[i]);
        ck_assert_uint_eq(input->faults.count, 0);
        ck_assert_uint_eq(input->publication.property_count, 6);
        const struct message_property *rows = input->publication.properties;
        ck_assert_str_eq(rows[0].name, "content_type");
        ck_assert_str_eq(rows[0].value, "text/plain");
        ck_assert_uint_eq(rows[1].value_len, 2);
        ck_assert_str_eq(rows[2].value, "4294967295");
        ck_assert_str_eq(rows[3].value, "1");
        ck_assert_str_eq(rows[5].name, "user_property");
        ck_assert_str_eq(rows[5].key, "k");
        ck_assert_str_eq(rows[5].value, "v");
        done();
    }
}
END_TEST

START_TEST(each_fault_is_named_by_its_pointer) {
    static const struct {
        const char *text, *pointer;
    } wrong[] = {
        {"{\"payload\": \"\"}", "/topic"},
        {"{\"payload\": \"\", \"topic\": \"a/#\"}", "/topic"},
        {"{\"payload\": \"\", \"topic\": \"\"}", "/topic"},
        {"{\"payload\": \"\", \"topic\": 1}", "/topic"},
        {"{\"payload\": \"\", \"topic\": \"a\\u0000\"}", "/topic"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"qos\": 3}", "/qos"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"qos\": \"1\"}", "/qos"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"retain\": 1}", "/retain"},
        {"{\"topic\": \"t\"}", "/payload"}, /* case E10 */
        {"{\"topic\": \"t\", \"retain\": true}", "/payload"},
        {"{\"topic\": \"t\", \"payload\": null}", "/payload"},
        {"{\"topic\": \"t\", \"payload\": {}}", "/payload"},
        {"{\"topic\": \"t\", \"payload_base64\": \"?\"}", "/payload_base64"},
        {"{\"topic\": \"t\", \"payload\": \"\", \"payload_base64\": \"\"}", "/payload_base64"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"bogus\": 1}", "/bogus"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"properties\": []}", "/properties"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"properties\": {\"topic\": \"x\"}}",
         "/properties/topic"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"properties\": {\"message_expiry_interval\": 4294967296}}",
         "/properties/message_expiry_interval"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"properties\": {\"response_topic\": \"+\"}}",
         "/properties/response_topic"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"user_properties\": [{\"name\": \"k\"}]}",
         "/user_properties/0"},
        {"{\"payload\": \"\", \"topic\": \"t\", \"user_properties\": {\"k\": 1}}",
         "/user_properties/k"},
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        parse(wrong[i].text);
        ck_assert_msg(input->faults.count == 1, "%s: %zu faults", wrong[i].text,
                      input->faults.count);
        ck_assert_str_eq(input->faults.items[0].pointer, wrong[i].pointer);
        done();
    }
}
END_TEST

START_TEST(too_many_properties_are_a_fault) {
    document = json_pack("{s:s, s:s, s:[]}", "topic", "t", "payload", "", "user_properties");
    for (int i = 0; i <= PUBLICATION_PROPERTIES_MAX; i++) {
        json_array_append_new(json_object_get(document, "user_properties"),
                              json_pack("{s:s, s:s}", "name", "k", "value", "v"));
    }
    input = publication_parse(document);
    ck_assert_uint_eq(input->faults.count, 1);
    ck_assert_uint_eq(input->publication.property_count, PUBLICATION_PROPERTIES_MAX);
    done();
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("publication");
    tcase_add_test(cases, a_topic_and_a_payload_are_enough_even_an_empty_one);
    tcase_add_test(cases, a_payload_is_text_with_nul_or_base64);
    tcase_add_test(cases, properties_are_taken_under_their_name_or_beside_the_rest);
    tcase_add_test(cases, each_fault_is_named_by_its_pointer);
    tcase_add_test(cases, too_many_properties_are_a_fault);
    return run_cases(cases, "publication");
}
