/* Tests of the http sink: the requests that a server receives, and the messages that it refuses. */
#include "http_fixture.h"

#include <openssl/hmac.h>

/* ---- what a server receives -------------------------------------------------------------------
 */

START_TEST(json_is_one_request_for_each_message_with_all_headers) {
    web_answers = accept_all;
    open_with(json_pack("{s:s, s:{s:s, s:s}, s:i}", "bearer_token", "t0k", "headers", "X-Site",
                        "north", "X-Empty", "", "connections", 1));
    make_messages(3, 1, 9, "");
    ck_assert_int_eq(write_messages(3), ERR_OK);
    ck_assert_uint_eq(count_outcomes(3, SINK_ACCEPTED), 3);
    ck_assert_int_eq(web_count, 3);
    ck_assert_int_eq(atomic_load(&web_connections), 1);
    for (int i = 0; i < 3; i++) {
        json_t *json = json_loads(web_requests[i].body, 0, NULL);
        char number[8];
        snprintf(number, sizeof number, "%d", i);
        ck_assert_str_eq(json_string_value(json_object_get(json, "payload")), number);
        ck_assert_str_eq(json_string_value(json_object_get(json, "message_id")),
                         web_header(&web_requests[i], "Idempotency-Key"));
        json_decref(json);
    }
    const struct web_request *first = &web_requests[0];
    ck_assert_int_eq(strncmp(first->head, "POST /in?x=1 HTTP/1.1\r\n", 23), 0);
    ck_assert_str_eq(web_header(first, "Content-Type"), "application/json");
    ck_assert_str_eq(web_header(first, "Authorization"), "Bearer t0k");
    ck_assert_str_eq(web_header(first, "X-Site"), "north");
    ck_assert_ptr_nonnull(strstr(first->head, "X-Empty:"));
    ck_assert_ptr_null(strcasestr(first->head, "\r\nExpect:"));
}
END_TEST

static const struct {
    const char *settings, *name, *value;
} credentials[] = {
    {"{\"username\":\"u\",\"password\":\"p:w\"}", "Authorization", "Basic dTpwOnc="},
    {"{\"auth_value\":\"ApiKey abc\"}", "Authorization", "ApiKey abc"},
    {"{\"auth_header\":\"X-Api-Key\",\"auth_value\":\"abc\"}", "X-Api-Key", "abc"},
    {"{\"headers\":{\"content-type\":\"text/x\"}}", "Content-Type", "text/x"},
    {"{\"format\":\"influx\"}", "Content-Type", "text/plain; charset=utf-8"},
};

START_TEST(credentials_and_types_are_sent) {
    web_answers = accept_all;
    open_with(json_loads(credentials[_i].settings, 0, NULL));
    make_messages(1, 1, 9, "");
    ck_assert_int_eq(write_messages(1), ERR_OK);
    ck_assert_str_eq(web_header(&web_requests[0], credentials[_i].name), credentials[_i].value);
}
END_TEST

START_TEST(a_poisoned_message_among_those_without_a_body_is_rejected_alone) {
    web_answers = refuse_poison;
    poison_status = "422 Unprocessable Content";
    open_with(json_pack("{s:s, s:s, s:i}", "format", "ndjson", "body", "{json./v:json}",
                        "connections", 1));
    for (size_t i = 0; i < 100; i++) {
        char payload[32];
        snprintf(payload, sizeof payload, "{\"%s\":\"%s%zu\"}", i % 3 == 0 ? "w" : "v",
                 i == 50 ? "poison" : "", i);
        messages[i] = message_of("c", payload, strlen(payload));
    }
    ck_assert_int_eq(write_messages(100), ERR_OK);
    ck_assert_uint_eq(count_outcomes(100, SINK_REJECTED), 35);
    ck_assert_uint_eq(count_outcomes(100, SINK_ACCEPTED), 65);
    ck_assert_int_eq(type_outcomes[50], SINK_REJECTED);
    ck_assert_ptr_nonnull(strstr(type_reasons[50], "status 422"));
}
END_TEST

static const char *const array_formats[] = {"json_array", "ndjson", "influx", "clickhouse"};

START_TEST(many_messages_are_one_request) {
    web_answers = accept_all;
    open_with(json_pack("{s:s, s:s}", "format", array_formats[_i], "method", "PUT"));
    make_messages(500, 7, 999, "");
    ck_assert_int_eq(write_messages(500), ERR_OK);
    ck_assert_uint_eq(count_outcomes(500, SINK_ACCEPTED), 500);
    ck_assert_int_eq(web_count, 1);
    ck_assert_int_eq(strncmp(web_requests[0].head, "PUT ", 4), 0);
    if (_i == 0) {
        json_t *json = json_loads(web_requests[0].body, 0, NULL);
        ck_assert_uint_eq(json_array_size(json), 500);
        json_decref(json);
    } else {
        size_t lines = 0;
        for (const char *at = web_requests[0].body; *at; at++) {
            lines += *at == '\n';
        }
        ck_assert_uint_eq(lines, 500);
    }
}
END_TEST

START_TEST(a_body_is_no_longer_than_its_limit_unless_it_is_one_message) {
    web_answers = accept_all;
    open_with(
        json_pack("{s:s, s:i, s:i}", "format", "ndjson", "body_bytes_max", 4096, "connections", 1));
    make_messages(100, 1, 999, "");
    char *large = calloc(1, 1000000);
    memset(large, 'x', 1000000);
    message_destroy(messages[50]);
    messages[50] = message_of("client-0", large, 1000000);
    ck_assert_int_eq(write_messages(100), ERR_OK);
    ck_assert_uint_eq(count_outcomes(100, SINK_ACCEPTED), 100);
    for (int i = 0; i < web_count; i++) {
        const char *body = web_requests[i].body;
        bool one = strchr(body, '\n') == body + web_requests[i].body_len - 1;
        ck_assert(one || web_requests[i].body_len <= 4096);
    }
    free(large);
}
END_TEST

static const struct {
    const char *format, *body;
    int requests;
} missing_values[] = {
    {"ndjson", "{{\"v\":{json./v:json}}}", 1},
    {"json", "{json./v:json}", 6},
    {"template", "value {json./v}", 6},
};

/* 0 to 9, of which four have no value. */
START_TEST(a_message_without_a_body_is_rejected_and_the_others_are_sent) {
    web_answers = accept_all;
    open_with(json_pack("{s:s, s:s, s:i}", "format", missing_values[_i].format, "body",
                        missing_values[_i].body, "connections", 1));
    for (size_t i = 0; i < 10; i++) {
        char payload[16];
        snprintf(payload, sizeof payload, "{\"%s\":%zu}", strchr("0459", '0' + (int)i) ? "w" : "v",
                 i);
        messages[i] = message_of("c", payload, strlen(payload));
    }
    ck_assert_int_eq(write_messages(10), ERR_OK);
    ck_assert_uint_eq(count_outcomes(10, SINK_ACCEPTED), 6);
    ck_assert_uint_eq(count_outcomes(10, SINK_REJECTED), 4);
    ck_assert_int_eq(type_outcomes[9], SINK_REJECTED);
    ck_assert_str_eq(type_reasons[0], _i == 2
                                          ? "body: the message has no json./v"
                                          : "body: the message has no json./v that can be JSON");
    ck_assert_int_eq(web_count, missing_values[_i].requests);
    ck_assert_ptr_nonnull(strchr(web_requests[0].body, '1'));
    if (_i == 0) {
        ck_assert_str_eq(web_requests[0].body,
                         "{\"v\":1}\n{\"v\":2}\n{\"v\":3}\n{\"v\":6}\n{\"v\":7}\n{\"v\":8}\n");
    }
}
END_TEST

START_TEST(without_any_body_there_is_no_request) {
    web_answers = accept_all;
    open_with(json_pack("{s:s, s:s}", "format", "ndjson", "body", "{json./v:json}"));
    make_messages(10, 3, 99, "");
    ck_assert_int_eq(write_messages(10), ERR_OK);
    ck_assert_uint_eq(count_outcomes(10, SINK_REJECTED), 10);
    ck_assert_int_eq(web_count, 0);
}
END_TEST

START_TEST(any_payload_and_topic_is_valid_json) {
    static const char *const payloads[] = {"", "\xff\xfe", "\"\n\\\t", "\xc3\xbc", "a\0b"};
    static const size_t lens[] = {0, 2, 4, 2, 3};
    web_answers = accept_all;
    open_with(json_pack("{s:s}", "format", "json_array"));
    for (size_t i = 0; i < 5; i++) {
        struct message from = {.id = "c",
                               .client_id = "c",
                               .topic = "a/\"b\"\n\\\x7f\xff",
                               .payload = (const uint8_t *)payloads[i],
                               .payload_len = lens[i]};
        messages[i] = message_create(&from);
    }
    ck_assert_int_eq(write_messages(5), ERR_OK);
    json_t *json = json_loads(web_requests[0].body, JSON_ALLOW_NUL, NULL);
    ck_assert_uint_eq(json_array_size(json), 5);
    json_decref(json);
}
END_TEST

/* ---- order ------------------------------------------------------------------------------------
 */

static bool accept_slowly(int fd, const struct web_request *request) {
    clock_sleep_ms(request->body_len % 3); /* so that connections overtake each other */
    return web_reply(fd, "204 No Content", "");
}

static int number_of(const struct web_request *request) {
    json_t *json = json_loads(request->body, 0, NULL);
    const char *payload = json_string_value(json_object_get(json, "payload"));
    ck_assert_msg(payload, "no payload: %s", request->body ? request->body : "(no request)");
    int number = atoi(payload);
    json_decref(json);
    return number;
}

START_TEST(the_messages_of_a_client_stay_in_order_over_parallel_connections) {
    int last[7] = {-1, -1, -1, -1, -1, -1, -1};
    web_answers = accept_slowly;
    open_with(json_pack("{s:i}", "connections", 4));
    make_messages(280, 7, 999, "");
    ck_assert_int_eq(write_messages(280), ERR_OK);
    ck_assert_int_eq(web_count, 280);
    ck_assert_int_le(atomic_load(&web_connections), 4);
    ck_assert_int_ge(atomic_load(&web_connections), 2);
    for (int i = 0; i < 280; i++) {
        int number = number_of(&web_requests[i]);
        ck_assert_int_gt(number, last[number % 7]);
        last[number % 7] = number;
    }
}
END_TEST

START_TEST(with_one_connection_all_messages_stay_in_order) {
    web_answers = accept_slowly;
    open_with(json_pack("{s:i}", "connections", 1));
    make_messages(100, 7, 999, "");
    ck_assert_int_eq(write_messages(100), ERR_OK);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(number_of(&web_requests[i]), i);
    }
}
END_TEST

/* ---- rejected messages ------------------------------------------------------------------------
 */

static const struct {
    const char *format, *status;
} poisons[] = {{"json", "400 Bad Request"},
               {"ndjson", "400 Bad Request"},
               {"json_array", "422 Unprocessable Content"},
               {"influx", "413 Content Too Large"}};

START_TEST(one_poisoned_message_among_many_is_rejected_alone) {
    web_answers = refuse_poison;
    poison_status = poisons[_i].status;
    open_with(json_pack("{s:s}", "format", poisons[_i].format));
    make_messages(500, 7, 123, "poison");
    ck_assert_int_eq(write_messages(500), ERR_OK);
    ck_assert_uint_eq(count_outcomes(500, SINK_ACCEPTED), 499);
    ck_assert_int_eq(type_outcomes[123], SINK_REJECTED);
    ck_assert_ptr_nonnull(strstr(type_reasons[123], "row 3 is bad"));
    ck_assert_int_eq(strncmp(type_reasons[123] + 7, poisons[_i].status, 3), 0);
    ck_assert_int_le(web_count, strcmp(poisons[_i].format, "json") == 0 ? 500 : 20);
}
END_TEST

static bool refuse_all(int fd, const struct web_request *request) {
    (void)request;
    return web_reply(fd, "400 Bad Request", "no");
}

START_TEST(a_target_that_refuses_everything_gets_a_bounded_number_of_requests) {
    web_answers = refuse_all;
    open_with(json_pack("{s:s}", "format", "ndjson"));
    make_messages(500, 7, 999, "");
    (void)write_messages(500);
    ck_assert_int_lt(web_count, 1000);
    ck_assert_uint_eq(count_outcomes(500, SINK_ACCEPTED), 0);
}
END_TEST

static bool limit_size(int fd, const struct web_request *request) {
    return web_reply(fd, request->body_len > 2000 ? "413 Content Too Large" : "200 OK", "");
}

START_TEST(a_server_with_a_smaller_limit_gets_smaller_requests) {
    web_answers = limit_size;
    open_with(json_pack("{s:s}", "format", "ndjson"));
    make_messages(100, 3, 999, "");
    char large[3000];
    memset(large, 'x', sizeof large);
    message_destroy(messages[42]);
    messages[42] = message_of("client-0", large, sizeof large);
    ck_assert_int_eq(write_messages(100), ERR_OK);
    ck_assert_uint_eq(count_outcomes(100, SINK_ACCEPTED), 99);
    ck_assert_int_eq(type_outcomes[42], SINK_REJECTED);
}
END_TEST

/* ---- signature --------------------------------------------------------------------------------
 */

START_TEST(a_server_can_verify_the_signature) {
    char signed_text[4096], expected[80] = "sha256=";
    unsigned char digest[32];
    web_answers = accept_all;
    open_with(json_pack("{s:s, s:s}", "hmac_secret", "s3cret", "hmac_header", "X-Hub"));
    make_messages(1, 1, 99, "");
    ck_assert_int_eq(write_messages(1), ERR_OK);
    const struct web_request *request = &web_requests[0];
    long long at = atoll(web_header(request, "X-Signature-Timestamp"));
    ck_assert_int_lt(llabs(at - clock_wall_ms() / 1000), 60);
    snprintf(signed_text, sizeof signed_text, "%lld.%s", at, request->body);
    HMAC(EVP_sha256(), "s3cret", 6, (unsigned char *)signed_text, strlen(signed_text), digest,
         NULL);
    for (size_t i = 0; i < sizeof digest; i++) {
        snprintf(expected + 7 + 2 * i, 3, "%02x", digest[i]);
    }
    ck_assert_str_eq(web_header(request, "X-Hub"), expected);
}
END_TEST

/* ---- settings ---------------------------------------------------------------------------------
 */

static const struct {
    const char *settings, *field;
} faults[] = {
    {"{\"body\":\"{{\"}", "body does not make JSON"},
    {"{\"body\":\"{x}\"}", "body {x} is unknown"},
    {"{\"body\":\"{{\\\"p\\\":\\\"{payload}\\\"}}\"}", "body has {payload}, whose value may break"},
    {"{\"format\":\"clickhouse\",\"body\":\"[{payload:json}]\"}",
     "body does not make a JSON object"},
    {"{\"format\":\"influx\",\"body\":\"x\"}", "body is not possible with this format"},
    {"{\"format\":\"template\"}", "body is required with the format template"},
    {"{\"url\":\"ftp://h/\"}", "url"},
    {"{\"url\":\"h/in\"}", "url"},
    {"{\"url\":\"https:///in\"}", "url"},
    {"{\"url\":\"https://h/a b\"}", "url"},
    {"{\"url\":\"https://h\\\\@g/\"}", "url"},
    {"{\"url\":\"https://h/#f\"}", "url"},
    {"{\"url\":\"https://u@/in\"}", "url"},
    {"{\"headers\":{\"a b\":\"c\"}}", "headers"},
    {"{\"headers\":{\"a\":\"c\\r\\nX: y\"}}", "headers"},
    {"{\"headers\":{\"Content-Length\":\"7\"}}", "headers"},
    {"{\"headers\":{\"authorization\":\"x\"}}", "headers"},
    {"{\"bearer_token\":\"a\\n\"}", "auth_header"},
    {"{\"bearer_token\":\"a\",\"username\":\"u\"}", "auth_value"},
    {"{\"username\":\"u:v\"}", "username"},
    {"{\"hmac_header\":\"a b\"}", "hmac_header"},
    {"{\"tls_ca\":\"ca.pem\"}", "tls_ca"},
    {"{\"clickhouse_table\":\"a; DROP\"}", "clickhouse_table"},
    {"{\"influx_measurement\":\"\"}", "influx_measurement"},
};

START_TEST(a_wrong_setting_is_named) {
    void *state = NULL;
    char fault[SINK_FAULT_LEN] = "";
    json_t *given = json_loads(faults[_i].settings, 0, NULL);
    if (!json_object_get(given, "url")) {
        json_object_set_new(given, "url", json_string("https://h/"));
    }
    json_t *settings = type_complete(&sink_type_http, "o", given);
    ck_assert_msg(settings != NULL, "%s", type_fault);
    ck_assert_int_eq(sink_type_http.open(&state, &type_environment, settings, fault), ERR_ARGUMENT);
    ck_assert_int_eq(strncmp(fault, faults[_i].field, strlen(faults[_i].field)), 0);
    json_decref(settings);
}
END_TEST

/* ---- test of the settings ---------------------------------------------------------------------
 */

static char steps[512];

static void note_step(void *context, const char *step, bool ok, const char *detail,
                      const char *advice) {
    size_t len = strlen(steps);
    (void)context;
    snprintf(steps + len, sizeof steps - len, "%s %s: %s%s%s\n", step, ok ? "ok" : "fails", detail,
             advice ? "; " : "", advice ? advice : "");
}

static const struct {
    const char *status, *steps;
} probes[] = {
    {"204 No Content", "connect ok: the server answers\n"
                       "authenticate ok: status 204 to OPTIONS\n"},
    {"405 Method Not Allowed", "connect ok: the server answers\n"
                               "authenticate ok: status 405 to OPTIONS: row 3 is bad\n"},
    {"401 Unauthorized", "connect ok: the server answers\n"
                         "authenticate fails: status 401 to OPTIONS: row 3 is bad; check "
                         "bearer_token, username and password, or auth_value\n"},
};

static bool answer_probe(int fd, const struct web_request *request) {
    ck_assert_int_eq(strncmp(request->head, "OPTIONS /in", 11), 0);
    ck_assert_str_eq(web_header(request, "Authorization"), "Bearer t0k");
    ck_assert_uint_eq(request->body_len, 0);
    return web_reply(fd, poison_status, *poison_status == '2' ? "" : "row 3\nis bad");
}

START_TEST(a_test_of_the_settings_says_how_far_it_comes_and_sends_no_message) {
    web_answers = answer_probe;
    poison_status = probes[_i].status;
    open_with(json_pack("{s:s}", "bearer_token", "t0k"));
    sink_type_http.test(&type_environment, type_settings,
                        &(struct sink_test_report){.step = note_step});
    ck_assert_str_eq(steps, probes[_i].steps);
}
END_TEST

START_TEST(a_test_names_the_reason_why_there_is_no_connection) {
    web_stop();
    open_with(json_object());
    sink_type_http.test(&type_environment, type_settings,
                        &(struct sink_test_report){.step = note_step});
    ck_assert_int_eq(strncmp(steps, "connect fails: ", 15), 0);
    ck_assert_ptr_nonnull(strstr(steps, "127.0.0.1"));
}
END_TEST

START_TEST(the_table_of_clickhouse_becomes_a_query) {
    web_answers = accept_all;
    open_with(json_pack("{s:s, s:s}", "format", "clickhouse", "clickhouse_table", "iot.mqtt"));
    make_messages(1, 1, 99, "");
    ck_assert_int_eq(write_messages(1), ERR_OK);
    const char *target = "POST /in?x=1&query=INSERT%20INTO%20iot.mqtt%20FORMAT%20JSONEachRow HTTP";
    ck_assert_int_eq(strncmp(web_requests[0].head, target, strlen(target)), 0);
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void) {
    Suite *suite = suite_create("http");
    TCase *tcase = tcase_create("http");
    TCase *alone = tcase_create("settings");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, json_is_one_request_for_each_message_with_all_headers);
    tcase_add_loop_test(tcase, credentials_and_types_are_sent, 0, COUNT(credentials));
    tcase_add_test(tcase, a_poisoned_message_among_those_without_a_body_is_rejected_alone);
    tcase_add_loop_test(tcase, many_messages_are_one_request, 0, COUNT(array_formats));
    tcase_add_test(tcase, a_body_is_no_longer_than_its_limit_unless_it_is_one_message);
    tcase_add_loop_test(tcase, a_message_without_a_body_is_rejected_and_the_others_are_sent, 0,
                        COUNT(missing_values));
    tcase_add_test(tcase, without_any_body_there_is_no_request);
    tcase_add_test(tcase, any_payload_and_topic_is_valid_json);
    tcase_add_test(tcase, the_messages_of_a_client_stay_in_order_over_parallel_connections);
    tcase_add_test(tcase, with_one_connection_all_messages_stay_in_order);
    tcase_add_loop_test(tcase, one_poisoned_message_among_many_is_rejected_alone, 0,
                        COUNT(poisons));
    tcase_add_test(tcase, a_target_that_refuses_everything_gets_a_bounded_number_of_requests);
    tcase_add_test(tcase, a_server_with_a_smaller_limit_gets_smaller_requests);
    tcase_add_test(tcase, a_server_can_verify_the_signature);
    tcase_add_loop_test(tcase, a_test_of_the_settings_says_how_far_it_comes_and_sends_no_message, 0,
                        COUNT(probes));
    tcase_add_test(tcase, a_test_names_the_reason_why_there_is_no_connection);
    tcase_add_test(tcase, the_table_of_clickhouse_becomes_a_query);
    tcase_add_loop_test(alone, a_wrong_setting_is_named, 0, COUNT(faults));
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, alone);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
