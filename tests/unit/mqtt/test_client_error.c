/* The table of errors, and the mapping of a broker's codes to it. */
#include <check.h>
#include <ctype.h>
#include <stdbool.h>
#include "mqtt/client_error.h"
#include "mqtt/reason_codes.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool is_snake_case(const char *code) {
    for (const char *c = code; *c != '\0'; c++) {
        if (!islower((unsigned char)*c) && *c != '_' && !isdigit((unsigned char)*c)) {
            return false;
        }
    }
    return code[0] != '\0';
}

START_TEST(every_error_has_a_code_a_text_and_where_something_helps_an_advice) {
    for (int i = CLIENT_ERROR_NONE + 1; i < CLIENT_ERROR_COUNT; i++) {
        enum client_error error = (enum client_error)i;
        const char *advice = client_error_advice(error);
        ck_assert_msg(is_snake_case(client_error_code(error)), "%d", i);
        ck_assert_msg(client_error_text(error)[0] != '\0', "%s", client_error_code(error));
        ck_assert_msg(advice || error == CLIENT_ERROR_CLOSED_BY_US, "%s", client_error_code(error));
    }
    ck_assert_ptr_null(client_error_code(CLIENT_ERROR_NONE));
}
END_TEST

START_TEST(a_code_of_redis_is_known_again) {
    for (int i = CLIENT_ERROR_NONE + 1; i < CLIENT_ERROR_COUNT; i++) {
        const char *code = client_error_code((enum client_error)i);
        ck_assert_str_eq(client_error_code(client_error_of_code(code)), code);
    }
    ck_assert_int_eq(client_error_of_code("tls_failed"), CLIENT_ERROR_TLS_FAILED);
    ck_assert_int_eq(client_error_of_code("connection_refused"), CLIENT_ERROR_CONNECTION_REFUSED);
    ck_assert_int_eq(client_error_of_code("protocol_error"), CLIENT_ERROR_PROTOCOL_ERROR);
    ck_assert_int_eq(client_error_of_code(NULL), CLIENT_ERROR_NONE);
    ck_assert_int_eq(client_error_of_code("released"), CLIENT_ERROR_NONE);
    ck_assert(client_error_is_conflict(client_error_of_code("taken_over")));
    ck_assert(client_error_is_conflict(CLIENT_ERROR_CONFLICT));
    ck_assert(!client_error_is_conflict(CLIENT_ERROR_NONE));
}
END_TEST

static const struct code_case {
    enum client_error (*of)(int value);
    int value;
    const char *code;
} code_cases[] = {
    {reason_error_connack, 1, "unsupported_protocol_version"},
    {reason_error_connack, 3, "server_unavailable"},
    {reason_error_connack, 5, "not_authorized"},
    {reason_error_connack, 6, "unknown_reason"},
    {reason_error_connack, 0x86, "bad_credentials"},
    {reason_error_connack, 0x9D, "server_moved"},
    {reason_error_disconnect, 0, "server_disconnect"},
    {reason_error_disconnect, 0x8E, "taken_over"},
    {reason_error_disconnect, 0x95, "packet_too_large"},
    {reason_error_disconnect, 0x92, "unknown_reason"},
    {reason_error_disconnect, 0xFF, "unknown_reason"},
    {reason_error_suback, 0x80, "subscription_refused"},
    {reason_error_suback, 0x87, "subscription_refused"},
    {reason_error_suback, 0x97, "subscription_refused"},
    {reason_error_suback, 0x83, "subscription_refused"},
    {reason_error_suback, 0xFF, "subscription_refused"},
    {reason_error_publication, 0x80, "publication_refused"},
    {reason_error_publication, 0x87, "publication_refused"},
    {reason_error_publication, 0xA2, "publication_refused"},
    {reason_error_own, 0x81, "malformed_packet"},
    {reason_error_own, 0x82, "protocol_error"},
    {reason_error_own, 0x95, "packet_too_large"},
};

START_TEST(codes_of_a_broker_keep_their_names) {
    const struct code_case *test = &code_cases[_i];
    ck_assert_str_eq(client_error_code(test->of(test->value)), test->code);
}
END_TEST

START_TEST(what_a_broker_says_and_what_we_say_of_it_are_counted_apart) {
    ck_assert_int_eq(client_error_loss_metric(reason_error_own(0x95)), METRIC_LOST_PROTOCOL);
    ck_assert_int_eq(client_error_loss_metric(reason_error_disconnect(0x95)), METRIC_LOST_TOLD);
    ck_assert_int_eq(client_error_loss_metric(CLIENT_ERROR_CONNECTION_LOST), METRIC_LOST_CLOSED);
    ck_assert_int_eq(client_error_connect_metric(CLIENT_ERROR_TLS_TIMEOUT), METRIC_CONNECT_TIMEOUT);
    ck_assert_int_eq(client_error_connect_metric(CLIENT_ERROR_TLS_NO_NAME), METRIC_CONNECT_TLS);
    ck_assert_int_eq(client_error_connect_metric(reason_error_connack(5)), METRIC_CONNECT_REFUSED);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client_error");
    TCase *tcase = tcase_create("client_error");
    tcase_add_test(tcase, every_error_has_a_code_a_text_and_where_something_helps_an_advice);
    tcase_add_test(tcase, a_code_of_redis_is_known_again);
    tcase_add_loop_test(tcase, codes_of_a_broker_keep_their_names, 0, COUNT(code_cases));
    tcase_add_test(tcase, what_a_broker_says_and_what_we_say_of_it_are_counted_apart);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
