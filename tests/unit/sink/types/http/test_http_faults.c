/* Tests of the http sink with a server that is overloaded, broken, slow, silent or hostile. */
#include "http_fixture.h"

/* ---- tried again ------------------------------------------------------------------------------
 */

static const char *const retried[] = {"302 Found\r\nLocation: http://127.0.0.1:1/",
                                      "401 Unauthorized",
                                      "403 Forbidden",
                                      "404 Not Found",
                                      "405 Method Not Allowed",
                                      "408 Request Timeout",
                                      "409 Conflict",
                                      "415 Unsupported Media Type",
                                      "425 Too Early",
                                      "429 Too Many Requests",
                                      "502 Bad Gateway",
                                      "503 Service Unavailable",
                                      "507 Insufficient Storage"};

static _Atomic(const char *) always_status;

static bool answer_always(int fd, const struct web_request *request) {
    (void)request;
    return web_reply(fd, always_status, "sorry");
}

START_TEST(other_errors_are_tried_again_after_one_request_for_each_connection) {
    web_answers = answer_always;
    always_status = retried[_i];
    open_with(json_pack("{s:i}", "connections", 4));
    make_messages(100, 7, 999, "");
    ck_assert_int_ne(write_messages(100), ERR_OK);
    ck_assert_uint_eq(count_outcomes(100, SINK_RETRY), 100);
    ck_assert_int_eq(strncmp(type_error, "status ", 7), 0);
    ck_assert_int_eq(strncmp(type_error + 7, retried[_i], 3), 0);
    ck_assert_ptr_nonnull(strstr(type_error, "sorry"));
    ck_assert_int_le(web_count, 4);
}
END_TEST

START_TEST(a_message_that_breaks_the_server_delays_no_other) {
    web_answers = refuse_poison;
    poison_status = "500 Internal Server Error";
    open_with(json_pack("{s:s, s:i}", "format", _i == 0 ? "ndjson" : "json", "connections", 2));
    make_messages(500, 7, 123, "poison");
    ck_assert_int_ne(write_messages(500), ERR_OK);
    ck_assert_uint_eq(count_outcomes(500, SINK_ACCEPTED), 499);
    ck_assert_int_eq(type_outcomes[123], SINK_RETRY);
}
END_TEST

START_TEST(with_one_connection_nothing_overtakes_a_message_that_breaks_the_server) {
    web_answers = refuse_poison;
    poison_status = "500 Internal Server Error";
    open_with(json_pack("{s:s, s:i}", "format", _i == 0 ? "ndjson" : "json", "connections", 1));
    make_messages(100, 7, 40, "poison");
    ck_assert_int_ne(write_messages(100), ERR_OK);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(type_outcomes[i], i < 40 ? SINK_ACCEPTED : SINK_RETRY);
    }
}
END_TEST

START_TEST(a_server_that_is_broken_gets_few_requests) {
    web_answers = answer_always;
    always_status = "500 Internal Server Error";
    open_with(json_pack("{s:s, s:i}", "format", _i == 0 ? "ndjson" : "json", "connections", 2));
    make_messages(500, 7, 999, "");
    ck_assert_int_ne(write_messages(500), ERR_OK);
    ck_assert_uint_eq(count_outcomes(500, SINK_RETRY), 500);
    ck_assert_int_le(web_count, 40);
}
END_TEST

START_TEST(a_server_that_asks_to_wait_is_left_alone_without_blocking) {
    web_answers = answer_always;
    always_status = "429 Too Many Requests\r\nRetry-After: 3600";
    open_with(json_pack("{s:i}", "connections", 1));
    make_messages(10, 1, 99, "");
    ck_assert_int_ne(write_messages(10), ERR_OK);
    ck_assert_ptr_nonnull(strstr(type_error, "asks to wait 3600 s"));
    int64_t begin_ms = clock_ms();
    ck_assert_int_ne(write_messages(10), ERR_OK);
    ck_assert_int_lt(clock_ms() - begin_ms, 1000);
    ck_assert_int_eq(web_count, 1);
    ck_assert_ptr_nonnull(strstr(type_error, "the target asked to wait, 60 s are left"));
}
END_TEST

START_TEST(a_short_wait_ends) {
    web_answers = answer_always;
    always_status = "503 Service Unavailable\r\nRetry-After: 1";
    open_with(json_object());
    make_messages(1, 1, 99, "");
    ck_assert_int_ne(write_messages(1), ERR_OK);
    always_status = "200 OK";
    int64_t deadline_ms = clock_ms() + 10000;
    while (write_messages(1) != ERR_OK && clock_ms() < deadline_ms) {
        clock_sleep_ms(50);
    }
    ck_assert_int_eq(type_outcomes[0], SINK_ACCEPTED);
    ck_assert_int_eq(web_count, 2);
}
END_TEST

static bool accept_after_10_ms(int fd, const struct web_request *request) {
    (void)request;
    clock_sleep_ms(10);
    return web_reply(fd, "204 No Content", "");
}

START_TEST(a_slow_target_gets_part_of_a_batch_and_that_is_no_error) {
    web_answers = accept_after_10_ms;
    open_with(json_pack("{s:i}", "connections", 1));
    make_messages(1000, 1, 9999, "");
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(write_messages(1000), ERR_OK);
    ck_assert_int_lt(clock_ms() - begin_ms, 5000);
    ck_assert_uint_gt(count_outcomes(1000, SINK_ACCEPTED), 10);
    ck_assert_uint_gt(count_outcomes(1000, SINK_RETRY), 10);
    ck_assert_str_eq(type_error, "");
}
END_TEST

/* ---- hostile servers --------------------------------------------------------------------------
 */

static bool stall(int fd, const struct web_request *request) {
    char byte;
    (void)request;
    (void)!recv(fd, &byte, 1, 0); /* until the sink gives up */
    return false;
}

static bool stall_after_head(int fd, const struct web_request *request) {
    const char *head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal";
    (void)web_send(fd, head, strlen(head));
    return stall(fd, request);
}

static bool close_within_body(int fd, const struct web_request *request) {
    const char *head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal";
    (void)request;
    (void)web_send(fd, head, strlen(head));
    return false;
}

static bool close_at_once(int fd, const struct web_request *request) {
    (void)fd;
    (void)request;
    return false;
}

static bool endless_headers(int fd, const struct web_request *request) {
    const char *head = "HTTP/1.1 200 OK\r\n";
    (void)request;
    for (bool sent = web_send(fd, head, strlen(head)); sent;) {
        sent = web_send(fd, "X-More: of them\r\n", 17);
    }
    return false;
}

static bool endless_continue(int fd, const struct web_request *request) {
    (void)request;
    while (web_send(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25)) {
    }
    return false;
}

static bool no_http(int fd, const struct web_request *request) {
    (void)request;
    (void)web_send(fd, "SSH-2.0-OpenSSH\r\n", 17);
    return false;
}

static web_answer *const hostile[] = {stall,         stall_after_head, close_within_body,
                                      close_at_once, endless_headers,  endless_continue,
                                      no_http};

START_TEST(a_hostile_server_costs_bounded_time_and_no_message) {
    web_answers = hostile[_i];
    open_with(json_pack("{s:i, s:s}", "timeout_ms", 500, "format", _i % 2 ? "ndjson" : "json"));
    make_messages(20, 7, 999, "");
    int64_t begin_ms = clock_ms();
    ck_assert_int_ne(write_messages(20), ERR_OK);
    ck_assert_int_lt(clock_ms() - begin_ms, 10000);
    ck_assert_uint_eq(count_outcomes(20, SINK_RETRY), 20);
    web_answers = accept_all;
    ck_assert_int_eq(write_messages(20), ERR_OK);
    ck_assert_uint_eq(count_outcomes(20, SINK_ACCEPTED), 20);
}
END_TEST

START_TEST(a_write_ends_when_the_time_of_the_stop_is_up) {
    static enum sink_outcome outcomes[20];
    _Atomic int64_t end_ms = clock_ms() + 300;
    struct sink_batch batch = {
        .messages = messages, .count = 20, .outcomes = outcomes, .end_ms = &end_ms};
    web_answers = stall;
    open_with(json_pack("{s:i}", "timeout_ms", 60000));
    make_messages(20, 7, 999, "");
    ck_assert_int_ne(sink_type_http.write(type_state, &batch), ERR_OK);
    ck_assert_int_lt(clock_ms() - end_ms, 10000);
    ck_assert_str_eq(batch.error, "the sink stops");
}
END_TEST

static const char *endless_status;

static bool endless_body(int fd, const struct web_request *request) {
    char head[128], block[4096];
    (void)request;
    memset(block, 'x', sizeof block);
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\n\r\n", endless_status);
    for (bool sent = web_send(fd, head, strlen(head)); sent;) {
        sent = web_send(fd, block, sizeof block);
    }
    return false;
}

START_TEST(a_body_without_an_end_does_not_hide_the_status) {
    web_answers = endless_body;
    endless_status = _i == 0 ? "200 OK" : "400 Bad Request";
    open_with(json_object());
    make_messages(1, 1, 99, "");
    ck_assert_int_eq(write_messages(1), ERR_OK);
    ck_assert_int_eq(type_outcomes[0], _i == 0 ? SINK_ACCEPTED : SINK_REJECTED);
}
END_TEST

START_TEST(a_port_where_nobody_listens_is_said_to_be_one) {
    web_stop();
    open_with(json_object());
    make_messages(1, 1, 99, "");
    ck_assert_int_ne(write_messages(1), ERR_OK);
    ck_assert_ptr_nonnull(strstr(type_error, "127.0.0.1"));
}
END_TEST

static bool denies_all(const void *context, const char *host, const struct sockaddr *address,
                       const char **why) {
    ck_assert_str_eq(host, "127.0.0.1");
    ck_assert_int_eq(address->sa_family, AF_INET);
    *why = context;
    return false;
}

START_TEST(an_address_that_is_not_allowed_is_not_connected_to) {
    web_answers = accept_all;
    type_environment.address_allowed = denies_all;
    type_environment.address_context = "it is in the list";
    open_with(json_object());
    make_messages(1, 1, 99, "");
    ck_assert_int_ne(write_messages(1), ERR_OK);
    ck_assert_str_eq(type_error, "it is in the list");
    ck_assert_int_eq(atomic_load(&web_connections), 0);
}
END_TEST

START_TEST(a_response_of_another_program_is_not_taken_for_one_of_elasticsearch) {
    web_answers = accept_all;
    open_with(json_pack("{s:s}", "format", "elasticsearch"));
    make_messages(3, 1, 99, "");
    ck_assert_int_ne(write_messages(3), ERR_OK);
    ck_assert_uint_eq(count_outcomes(3, SINK_RETRY), 3);
    ck_assert_ptr_nonnull(strstr(type_error, "_bulk"));
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void) {
    Suite *suite = suite_create("http_faults");
    TCase *tcase = tcase_create("http_faults");
    TCase *alone = tcase_create("settings");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, other_errors_are_tried_again_after_one_request_for_each_connection,
                        0, COUNT(retried));
    tcase_add_loop_test(tcase, a_message_that_breaks_the_server_delays_no_other, 0, 2);
    tcase_add_loop_test(
        tcase, with_one_connection_nothing_overtakes_a_message_that_breaks_the_server, 0, 2);
    tcase_add_loop_test(tcase, a_server_that_is_broken_gets_few_requests, 0, 2);
    tcase_add_test(tcase, a_server_that_asks_to_wait_is_left_alone_without_blocking);
    tcase_add_test(tcase, a_short_wait_ends);
    tcase_add_test(tcase, a_slow_target_gets_part_of_a_batch_and_that_is_no_error);
    tcase_add_loop_test(tcase, a_hostile_server_costs_bounded_time_and_no_message, 0,
                        COUNT(hostile));
    tcase_add_test(tcase, a_write_ends_when_the_time_of_the_stop_is_up);
    tcase_add_loop_test(tcase, a_body_without_an_end_does_not_hide_the_status, 0, 2);
    tcase_add_test(tcase, a_port_where_nobody_listens_is_said_to_be_one);
    tcase_add_test(tcase, an_address_that_is_not_allowed_is_not_connected_to);
    tcase_add_test(tcase, a_response_of_another_program_is_not_taken_for_one_of_elasticsearch);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, alone);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
