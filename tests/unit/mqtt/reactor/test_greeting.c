/* Answers other than CONNACK: which first bytes can begin a packet, and which error each way of
 * closing gives for the client's configuration. */
#include <check.h>
#include "mqtt/reactor/reactor.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct first_bytes {
    const char *bytes;
    size_t len;
    bool may_be_mqtt;
} first_bytes[] = {
    {"\x20\x02\x00\x00", 4, true},
    {" ", 1, true},
    {"\x20\x03", 2, true},
    {"\x30\x05\x00\x01", 4, true},
    {"\xF0\x02\x18\x00", 4, true},
    {"\xE0\x00", 2, true},
    {"\x80\x01\x02\x03", 4, false},
    {"\x10\x14\x00\x04MQTT", 8, false},
    {"\x15\x03\x01\x00", 4, false},
    {"HTTP/1.1 400", 12, false},
    {"SSH-2.0-", 8, false},
    {"220 mail", 8, false},
    {"-ERR unk", 8, false},
    {"{\"a\": 1}", 8, false},
    {"\x00\x00\x00\x00", 4, false},
    {"\x4A\x00\x00\x00\x0A", 5, false},
    {"\x50\x00\x00\x00\x0A", 5, false},
    {"\xE3\x00\x00", 3, false},
    {"\x21\x02\x00\x00", 4, false},
    {"\x30\x00\x00\x00\x0A", 5, false},
    {"\x4A", 1, false},
    {"\x90", 1, true},
    {"\xD0\x00", 2, true},
    {"\x62\x02\x00\x01", 4, true},
};

START_TEST(case_E6_the_first_bytes_of_an_answer_tell_MQTT_from_other_protocols) {
    const struct first_bytes *test = &first_bytes[_i];
    ck_assert_int_eq(greeting_may_be_mqtt((const uint8_t *)test->bytes, test->len),
                     test->may_be_mqtt);
}
END_TEST

static char *alpn[] = {"mqtt"};
static struct client_tls bare_tls, alpn_tls = {.alpn = alpn, .alpn_count = 1},
                                   cert_tls = {.cert = "cert"};

static const struct closed_case {
    enum client_scheme scheme;
    uint16_t port;
    uint8_t version;
    struct client_tls *tls;
    int64_t received_at_ms;
    enum client_error error;
} closed_cases[] = {
    {SCHEME_MQTT, 1883, 4, NULL, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK},
    {SCHEME_MQTT, 1883, 5, NULL, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_V5},
    {SCHEME_MQTT, 443, 5, NULL, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_TLS_PORT},
    {SCHEME_MQTT, 8883, 4, NULL, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_TLS_PORT},
    {SCHEME_MQTTS, 8883, 4, &bare_tls, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_TLS},
    {SCHEME_MQTTS, 443, 5, &bare_tls, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_ALPN},
    {SCHEME_MQTTS, 443, 4, &bare_tls, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_ALPN},
    {SCHEME_MQTTS, 443, 4, &alpn_tls, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_TLS},
    {SCHEME_MQTTS, 8883, 5, &bare_tls, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_V5},
    {SCHEME_WSS, 443, 5, &bare_tls, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_PATH},
    {SCHEME_WS, 80, 4, NULL, 0, CLIENT_ERROR_CLOSED_BEFORE_CONNACK_PATH},
    {SCHEME_MQTT, 1883, 5, NULL, 1, CLIENT_ERROR_CLOSED_IN_CONNACK},
};

START_TEST(case_E4_E5_who_closes_before_CONNACK_is_judged_by_the_configuration) {
    const struct closed_case *test = &closed_cases[_i];
    struct client_config config = {.scheme = test->scheme, .port = test->port, .tls = test->tls};
    struct engine_connection connection = {.config = &config,
                                           .version = test->version,
                                           .received_at_ms = test->received_at_ms,
                                           .state = CONNECTION_AWAITING_CONNACK};
    ck_assert_int_eq(greeting_closed(&connection), test->error);
}
END_TEST

START_TEST(a_fault_of_tls_is_judged_by_what_the_client_has) {
    struct client_config config = {.scheme = SCHEME_MQTTS, .port = 443, .tls = &bare_tls};
    struct engine_connection connection = {.config = &config, .state = CONNECTION_OPENING};
    ck_assert_int_eq(greeting_fault(&connection, CLIENT_ERROR_TLS_CLOSED),
                     CLIENT_ERROR_TLS_CLOSED_ALPN);
    ck_assert_int_eq(greeting_fault(&connection, CLIENT_ERROR_TLS_ALPN_REFUSED),
                     CLIENT_ERROR_TLS_ALPN_WANTED);
    ck_assert_int_eq(greeting_fault(&connection, CLIENT_ERROR_TLS_HANDSHAKE_REFUSED),
                     CLIENT_ERROR_TLS_HANDSHAKE_REFUSED);
    config.tls = &alpn_tls;
    ck_assert_int_eq(greeting_fault(&connection, CLIENT_ERROR_TLS_ALPN_REFUSED),
                     CLIENT_ERROR_TLS_ALPN_REFUSED);
    config.tls = &cert_tls;
    ck_assert_int_eq(greeting_fault(&connection, CLIENT_ERROR_TLS_HANDSHAKE_REFUSED),
                     CLIENT_ERROR_TLS_NOTHING_IN_COMMON);
    ck_assert_int_eq(greeting_fault(&connection, CLIENT_ERROR_WEBSOCKET_FRAMES),
                     CLIENT_ERROR_WEBSOCKET_FRAMES);
    connection.state = CONNECTION_AWAITING_CONNACK;
    ck_assert_int_eq(greeting_fault(&connection, CLIENT_ERROR_WEBSOCKET_FRAMES),
                     CLIENT_ERROR_NO_MQTT_IN_FRAMES);
}
END_TEST

START_TEST(each_step_that_takes_too_long_has_an_error_of_its_own) {
    struct client_config config = {.scheme = SCHEME_WSS, .tls = &bare_tls};
    struct engine_connection connection = {.config = &config, .state = CONNECTION_OPENING};
    connection.stream.step = STREAM_CONNECTING;
    ck_assert_int_eq(greeting_timeout(&connection), CLIENT_ERROR_TCP_TIMEOUT);
    connection.stream.step = STREAM_TLS;
    ck_assert_int_eq(greeting_timeout(&connection), CLIENT_ERROR_TLS_TIMEOUT);
    connection.stream.step = STREAM_WEBSOCKET;
    ck_assert_int_eq(greeting_timeout(&connection), CLIENT_ERROR_WEBSOCKET_TIMEOUT);
    connection.state = CONNECTION_AWAITING_CONNACK;
    ck_assert_int_eq(greeting_timeout(&connection), CLIENT_ERROR_CONNACK_TIMEOUT_PATH);
    config.scheme = SCHEME_MQTTS;
    ck_assert_int_eq(greeting_timeout(&connection), CLIENT_ERROR_CONNACK_TIMEOUT);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("greeting");
    TCase *tcase = tcase_create("greeting");
    tcase_add_loop_test(tcase, case_E6_the_first_bytes_of_an_answer_tell_MQTT_from_other_protocols,
                        0, (int)COUNT(first_bytes));
    tcase_add_loop_test(tcase, case_E4_E5_who_closes_before_CONNACK_is_judged_by_the_configuration,
                        0, (int)COUNT(closed_cases));
    tcase_add_test(tcase, a_fault_of_tls_is_judged_by_what_the_client_has);
    tcase_add_test(tcase, each_step_that_takes_too_long_has_an_error_of_its_own);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
