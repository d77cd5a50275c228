/* Tests of http/server/json and http/server/problem: bodies in, faults and problem documents out.
 */
#include "http/server/json.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/out_of_memory.h"
#include "http/server/problem.h"
#include "http/server/request.h"
#include "http/http_check.h"

static json_t *json;
static bool repaired;
static char detail[HTTP_JSON_DETAIL_LEN];

static enum err parse_bytes(const char *text, size_t len) {
    json_decref(json);
    json = NULL;
    /* A block of the exact size lets ASan see a read beyond the end. */
    char *block = malloc(len > 0 ? len : 1);
    memcpy(block, text, len);
    enum err err = http_json_parse(block, len, &json, &repaired, detail);
    free(block);
    return err;
}

static enum err parse(const char *text) {
    return parse_bytes(text, strlen(text));
}

static struct client_faults text_faults(void) {
    struct client_faults faults = {.count = 0};
    http_json_text_faults(json, repaired, &faults);
    return faults;
}

START_TEST(any_json_value_is_taken) {
    static const char *const right[] = {"{}",
                                        "[]",
                                        "1",
                                        "\"x\"",
                                        "null",
                                        " {\"a\": [1, 2.5]} ",
                                        "\xEF\xBB\xBF{}", /* case E9 */
                                        "\xEF\xBB\xBF \n[1]",
                                        "{\"a\":\"\\u0000\"}",
                                        "\"\\ud83d\\ude00\""};
    for (size_t i = 0; i < COUNT(right); i++) {
        ck_assert_msg(parse(right[i]) == ERR_OK && !repaired, "%s: %s", right[i], detail);
    }
}
END_TEST

START_TEST(broken_json_is_told_with_line_and_column) {
    static const char *const wrong[] = {"",
                                        " ",
                                        "{",
                                        "{\"a\"}",
                                        "[1,]",
                                        "{'a':1}",
                                        "nul",
                                        "1 2",
                                        "\"a",
                                        "\"\\",
                                        "\"\\u",
                                        "\"\\uD8",
                                        "{\"a\":1}}",
                                        "[1e999]",
                                        "\"\\x\"",
                                        "\xEF\xBB\xBF",
                                        "\xEF\xBB\xBF\xEF\xBB\xBF{}",
                                        "{}\xEF\xBB\xBF",
                                        "[99999999999999999999]"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        ck_assert_msg(parse(wrong[i]) == ERR_ARGUMENT, "%s", wrong[i]);
        ck_assert_ptr_null(json);
        ck_assert_msg(strncmp(detail, "line ", 5) == 0 && strstr(detail, "column "), "%s", detail);
    }
    ck_assert_int_eq(parse("{\n  \"a\": 1,\n  \"b\": oops\n}"), ERR_ARGUMENT);
    ck_assert_int_eq(strncmp(detail, "line 3, column ", 15), 0);
    ck_assert_int_eq(parse(" \n"), ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(detail, "the body is empty"));
}
END_TEST

START_TEST(what_is_told_of_broken_json_quotes_nothing_of_it) {
    ck_assert_int_eq(parse("{\"password\": \"s3cret\" oops}"), ERR_ARGUMENT);
    ck_assert_ptr_null(strstr(detail, "oops"));
    ck_assert_ptr_null(strstr(detail, "s3cret"));
}
END_TEST

START_TEST(a_field_given_twice_is_refused) {
    ck_assert_int_eq(parse("{\"a\": 1, \"a\": 2}"), ERR_ARGUMENT);
    ck_assert_int_eq(parse("[{\"a\": {\"b\": 1, \"b\": 1}}]"), ERR_ARGUMENT);
}
END_TEST

static enum err parse_repeated(const char *part, size_t times, const char *end) {
    size_t part_len = strlen(part);
    char *text = malloc(part_len * times + strlen(end) + 1);
    for (size_t i = 0; i < times; i++) {
        memcpy(text + part_len * i, part, part_len);
    }
    strcpy(text + part_len * times, end);
    enum err err = parse(text);
    free(text);
    return err;
}

START_TEST(deep_nesting_is_refused_before_it_is_parsed) {
    ck_assert_int_eq(parse_repeated("[", 1000, ""), ERR_ARGUMENT);
    ck_assert_int_eq(parse_repeated("{\"a\":", HTTP_JSON_DEPTH_MAX + 1, "1"), ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(detail, "nested"));
    char text[2 * HTTP_JSON_DEPTH_MAX + 1] = "";
    memset(text, '[', HTTP_JSON_DEPTH_MAX);
    memset(text + HTTP_JSON_DEPTH_MAX, ']', HTTP_JSON_DEPTH_MAX);
    ck_assert_int_eq(parse_bytes(text, 2 * HTTP_JSON_DEPTH_MAX), ERR_OK);
}
END_TEST

START_TEST(more_values_than_memory_is_meant_for_are_refused) {
    ck_assert_int_eq(parse_repeated("[],", HTTP_JSON_VALUES_MAX, ""), ERR_FULL);
    ck_assert_int_eq(parse_repeated("\\\",[{", 10, ""), ERR_ARGUMENT);
    char *text = malloc((size_t)HTTP_JSON_VALUES_MAX + 3);
    memset(text, ',', (size_t)HTTP_JSON_VALUES_MAX + 2);
    text[0] = '"';
    text[HTTP_JSON_VALUES_MAX + 1] = '"';
    ck_assert_int_eq(parse_bytes(text, (size_t)HTTP_JSON_VALUES_MAX + 2), ERR_OK); /* one string */
    free(text);
}
END_TEST

START_TEST(a_string_that_is_no_utf8_is_named_by_its_pointer) {
    ck_assert_int_eq(parse("[{\"ok\": \"a\"}, {\"x\": [\"b\", \"\xFF\"], \"y/~\": \"\xC3\"}]"),
                     ERR_OK);
    ck_assert(repaired);
    struct client_faults faults = text_faults();
    ck_assert_uint_eq(faults.count, 2);
    ck_assert_str_eq(faults.items[0].pointer, "/1/x/1");
    ck_assert_str_eq(faults.items[1].pointer, "/1/y~1~0");
    ck_assert_ptr_nonnull(strstr(faults.items[0].detail, "UTF-8"));
}
END_TEST

START_TEST(half_a_surrogate_pair_is_named_by_its_pointer) {
    static const char *const halves[] = {"{\"a\": \"\\ud800\"}", "{\"a\": \"\\udc00x\"}",
                                         "{\"a\": \"\\ud800\\u0041\"}", "{\"a\": \"\\uD83d\\\\\"}"};
    for (size_t i = 0; i < COUNT(halves); i++) {
        ck_assert_msg(parse(halves[i]) == ERR_OK, "%s: %s", halves[i], detail);
        struct client_faults faults = text_faults();
        ck_assert_uint_eq(faults.count, 1);
        ck_assert_str_eq(faults.items[0].pointer, "/a");
    }
}
END_TEST

START_TEST(a_field_name_that_is_no_utf8_is_a_fault_of_its_object) {
    ck_assert_int_eq(parse("{\"a\": {\"\xFF\": 1}}"), ERR_OK);
    struct client_faults faults = text_faults();
    ck_assert_uint_eq(faults.count, 1);
    ck_assert_str_eq(faults.items[0].pointer, "/a");
}
END_TEST

START_TEST(a_string_with_nul_is_named_by_its_pointer) {
    ck_assert_int_eq(parse("{\"client_id\": \"a\\u0000b\", \"ok\": \"\\\\u0000\"}"), ERR_OK);
    struct client_faults faults = text_faults();
    ck_assert_uint_eq(faults.count, 1);
    ck_assert_str_eq(faults.items[0].pointer, "/client_id");
}
END_TEST

START_TEST(faults_are_bounded_in_number_and_length) {
    char name[2000];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    json_decref(json);
    json = json_object();
    json_object_set_new(json, name, json_stringn("\0", 1));
    struct client_faults faults = text_faults();
    ck_assert_uint_eq(faults.count, 1);
    ck_assert_uint_lt(strlen(faults.items[0].pointer), sizeof(faults.items[0].pointer));
    for (int i = 0; i < 2 * CLIENT_FAULTS_MAX; i++) {
        http_fault_add(&faults, name, "%s", name);
    }
    ck_assert_uint_eq(faults.count, CLIENT_FAULTS_MAX);
}
END_TEST

START_TEST(foreign_bytes_become_text) {
    json_t *text = http_json_stringn("a\xFF\xC3\xA4", 4);
    ck_assert_str_eq(json_string_value(text), "a\xEF\xBF\xBD\xC3\xA4");
    json_decref(text);
    ck_assert(json_is_null(http_json_string(NULL)));
    ck_assert(json_is_null(http_json_time(0)));
    text = http_json_time(1000);
    ck_assert_str_eq(json_string_value(text), "1970-01-01T00:00:01.000Z");
    json_decref(text);
}
END_TEST

/* ---- problems ------------------------------------------------------------------------------- */

static json_t *finished(struct http_response *response) {
    http_response_finish(response, &(struct http_request){.path = (char *)"/api/v1/clients/x"});
    return json_loadb(response->body, response->body_len, 0, NULL);
}

START_TEST(a_problem_has_the_members_of_rfc_9457) {
    struct http_response response = {0};
    http_problem(&response, PROBLEM_NOT_FOUND, "there is no client %s", "x");
    json_t *problem = finished(&response);
    ck_assert_int_eq(response.status, 404);
    ck_assert_str_eq(response.content_type, "application/problem+json");
    ck_assert_int_eq(json_integer_value(json_object_get(problem, "status")), 404);
    ck_assert_str_eq(json_string_value(json_object_get(problem, "type")),
                     "urn:mqfleet:problem:not-found");
    ck_assert_str_eq(json_string_value(json_object_get(problem, "detail")), "there is no client x");
    ck_assert_str_eq(json_string_value(json_object_get(problem, "instance")), "/api/v1/clients/x");
    ck_assert_ptr_nonnull(json_object_get(problem, "title"));
    json_decref(problem);
    http_response_fini(&response);
}
END_TEST

START_TEST(faults_become_a_422_with_a_pointer_each) {
    struct http_response response = {0};
    struct client_faults faults = {.count = 0};
    http_fault_add(&faults, "/port", "must be a number");
    http_fault_add(&faults, "", "must be an object");
    http_problem_faults(&response, &faults);
    json_t *problem = finished(&response);
    json_t *errors = json_object_get(problem, "errors");
    ck_assert_int_eq(response.status, 422);
    ck_assert_uint_eq(json_array_size(errors), 2);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(errors, 0), "pointer")),
                     "/port");
    json_decref(problem);
    http_response_fini(&response);
    size_t left = 3;
    json_t *prefixed = http_faults_json(&faults, "/3", &left);
    ck_assert_uint_eq(json_array_size(prefixed), 2);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(prefixed, 0), "pointer")),
                     "/3/port");
    json_decref(prefixed);
    json_t *cut = http_faults_json(&faults, "/4", &left); /* one is left */
    ck_assert_uint_eq(json_array_size(cut), 1);
    ck_assert_uint_eq(left, 1);
    json_decref(cut);
}
END_TEST

START_TEST(unavailability_asks_to_come_again_and_names_redis) {
    struct http_response response = {0};
    http_problem_store(&response, ERR_UNAVAILABLE);
    ck_assert_int_eq(response.status, 503);
    ck_assert_str_eq(response.headers[0].name, "Retry-After");
    json_t *problem = finished(&response);
    ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(problem, "title")), "Redis"));
    json_decref(problem);
    http_response_fini(&response);
    http_problem_store(&response, ERR_PROTOCOL);
    ck_assert_int_eq(response.status, 500);
    http_response_fini(&response);
}
END_TEST

START_TEST(a_later_answer_replaces_the_one_before) {
    struct http_response response = {0};
    for (int i = 0; i < 2 * HTTP_HEADERS_MAX; i++) {
        http_problem(&response, PROBLEM_OVERLOAD, "x");
    }
    http_answer_json(&response, 200, json_object());
    ck_assert_uint_eq(response.header_count, 0);
    http_response_finish(&response, &(struct http_request){.path = (char *)"/"});
    ck_assert_str_eq(response.body, "{}");
    ck_assert_str_eq(response.content_type, "application/json");
    http_response_fini(&response);
}
END_TEST

START_TEST(case_F15_no_answer_is_a_500_and_no_memory_a_503) {
    struct http_response response = {0};
    out_of_memory_forget();
    http_response_finish(&response, &(struct http_request){.path = (char *)"/"});
    ck_assert_int_eq(response.status, 500);
    http_response_fini(&response);
    http_answer_json(&response, 200, NULL);
    http_response_finish(&response, &(struct http_request){.path = (char *)"/"});
    ck_assert_int_eq(response.status, 500);
    ck_assert_ptr_nonnull(response.body_static);
    http_response_fini(&response);
    out_of_memory_note(1);
    http_answer_json(&response, 200, NULL);
    http_response_finish(&response, &(struct http_request){.path = (char *)"/"});
    ck_assert_int_eq(response.status, 503);
    ck_assert_ptr_nonnull(strstr(response.body_static, "urn:mqfleet:problem:out-of-memory"));
    ck_assert_uint_eq(response.body_len, strlen(response.body_static));
    ck_assert(http_response_is_problem(&response));
    http_response_fini(&response);
    out_of_memory_forget();
}
END_TEST

START_TEST(case_F15_no_error_of_memory_is_the_callers) {
    struct http_response response = {0};
    http_problem_store(&response, ERR_MEMORY);
    ck_assert_int_eq(response.status, 503);
    http_problem_error(&response, ERR_MEMORY);
    ck_assert_int_eq(response.status, 503);
    ck_assert_int_eq(http_problem_status(http_problem_of_store(ERR_MEMORY)), 503);
    http_problem_error(&response, ERR_PROTOCOL);
    ck_assert_int_eq(response.status, 500);
    ck_assert(out_of_memory_seen()); /* so that it is told */
    http_response_fini(&response);
    out_of_memory_forget();
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("json");
    tcase_add_test(cases, any_json_value_is_taken);
    tcase_add_test(cases, broken_json_is_told_with_line_and_column);
    tcase_add_test(cases, what_is_told_of_broken_json_quotes_nothing_of_it);
    tcase_add_test(cases, a_field_given_twice_is_refused);
    tcase_add_test(cases, deep_nesting_is_refused_before_it_is_parsed);
    tcase_add_test(cases, more_values_than_memory_is_meant_for_are_refused);
    tcase_add_test(cases, a_string_that_is_no_utf8_is_named_by_its_pointer);
    tcase_add_test(cases, half_a_surrogate_pair_is_named_by_its_pointer);
    tcase_add_test(cases, a_field_name_that_is_no_utf8_is_a_fault_of_its_object);
    tcase_add_test(cases, a_string_with_nul_is_named_by_its_pointer);
    tcase_add_test(cases, faults_are_bounded_in_number_and_length);
    tcase_add_test(cases, foreign_bytes_become_text);
    tcase_add_test(cases, a_problem_has_the_members_of_rfc_9457);
    tcase_add_test(cases, faults_become_a_422_with_a_pointer_each);
    tcase_add_test(cases, unavailability_asks_to_come_again_and_names_redis);
    tcase_add_test(cases, a_later_answer_replaces_the_one_before);
    tcase_add_test(cases, case_F15_no_answer_is_a_500_and_no_memory_a_503);
    tcase_add_test(cases, case_F15_no_error_of_memory_is_the_callers);
    return run_cases(cases, "json");
}
