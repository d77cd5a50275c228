/* Tests of http/api/clients/client_waits: what ends a request's ?wait_ms=, over real sockets. No
 * node runs the clients: the test reports their states instead of the workers. */
#include "http/api/clients/client_waits.h"

#include <poll.h>
#include "base/system/clock.h"
#include "http/http_check.h"
#include "http/http_fixture.h"

#define DOCUMENT(id) "{\"id\":\"" id "\",\"url\":\"mqtt://127.0.0.1:1\"}"

static int send_request(const char *method, const char *path, const char *body) {
    struct buffer request;
    int fd = dial();
    buffer_init(&request);
    buffer_printf(&request, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", method,
                  path, strlen(body), body);
    send_bytes(fd, request.data, request.len);
    buffer_fini(&request);
    return fd;
}

static bool is_answered(int fd, int within_ms) {
    struct pollfd answer = {.fd = fd, .events = POLLIN};
    return poll(&answer, 1, within_ms) == 1;
}

static void check_status(int fd, int status) {
    struct probe_answer answer = receive(fd, 0);
    ck_assert_msg(answer.status == status, "%d: %s", answer.status, answer.body);
    answer_free(&answer);
    close(fd);
}

static void wait_stored(const char *path) {
    int64_t end_ms = clock_ms() + 20000;
    int status = 0;
    while (status != 200 && clock_ms() < end_ms) {
        struct probe_answer answer = ask("GET", path, "", NULL);
        status = answer.status;
        answer_free(&answer);
    }
    ck_assert_int_eq(status, 200);
}

START_TEST(a_request_waits_until_a_host_tells_that_its_client_is_settled) {
    int fd = send_request("POST", "/api/v1/clients?wait_ms=60000", DOCUMENT("a"));
    wait_stored("/api/v1/clients/a");
    http_server_client_changed(server, "a", CLIENT_OPENING, 1000);
    http_server_client_changed(server, "other", CLIENT_ONLINE, 1000);
    ck_assert(!is_answered(fd, 100));
    http_server_client_changed(server, "a", _i == 0 ? CLIENT_ONLINE : CLIENT_BACKOFF, INT64_MAX);
    check_status(fd, 201);
}
END_TEST

START_TEST(an_older_version_does_not_end_the_wait_for_a_newer_one) {
    json_decref(ask_json("POST", "/api/v1/clients", DOCUMENT("a"), 201));
    json_t *before = ask_json("GET", "/api/v1/clients/a", NULL, 200);
    int fd = send_request("PUT", "/api/v1/clients/a?wait_ms=60000",
                          "{\"id\":\"a\",\"url\":\"mqtt://127.0.0.1:2\"}");
    int64_t version = int_at(before, "version"), now = version;
    int64_t end_ms = clock_ms() + 20000;
    while (now == version && clock_ms() < end_ms) {
        json_t *after = ask_json("GET", "/api/v1/clients/a", NULL, 200);
        now = int_at(after, "version");
        json_decref(after);
    }
    ck_assert_int_gt(now, version);
    http_server_client_changed(server, "a", CLIENT_ONLINE, version);
    ck_assert(!is_answered(fd, 100));
    http_server_client_changed(server, "a", CLIENT_ONLINE, now);
    check_status(fd, 200);
    json_decref(before);
}
END_TEST

START_TEST(all_who_wait_for_a_client_are_told_and_a_batch_waits_for_its_last) {
    int fds[20];
    int batch = send_request("POST", "/api/v1/clients?wait_ms=60000",
                             "[" DOCUMENT("a") "," DOCUMENT("b") "," DOCUMENT("c") "]");
    wait_stored("/api/v1/clients/c");
    for (size_t i = 0; i < COUNT(fds); i++) {
        fds[i] = send_request("POST", "/api/v1/clients?wait_ms=60000", DOCUMENT("a"));
    }
    ck_assert(!is_answered(fds[COUNT(fds) - 1], 300));
    http_server_client_changed(server, "a", CLIENT_ONLINE, INT64_MAX);
    for (size_t i = 0; i < COUNT(fds); i++) {
        check_status(fds[i], 200);
    }
    http_server_client_changed(server, "c", CLIENT_PAUSED, INT64_MAX);
    ck_assert(!is_answered(batch, 100));
    http_server_client_changed(server, "b", CLIENT_CONFLICT, INT64_MAX);
    check_status(batch, 201);
}
END_TEST

START_TEST(when_its_time_is_over_it_is_answered_and_nobody_is_told_any_more) {
    int64_t begun_ms = clock_ms();
    check_status(send_request("POST", "/api/v1/clients?wait_ms=200", DOCUMENT("a")), 201);
    ck_assert_int_ge(clock_ms() - begun_ms, 200);
    http_server_client_changed(server, "a", CLIENT_ONLINE, INT64_MAX);
    check_status(send_request("POST", "/api/v1/clients", DOCUMENT("a")), 200);
}
END_TEST

START_TEST(a_stop_answers_those_who_wait) {
    int fd = send_request("POST", "/api/v1/clients?wait_ms=60000", DOCUMENT("a"));
    wait_stored("/api/v1/clients/a");
    ck_assert(!is_answered(fd, 100));
    int64_t begun_ms = clock_ms();
    server_end();
    ck_assert_int_lt(clock_ms() - begun_ms, 20000);
    check_status(fd, 201);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("client_waits");
    TCase *alone = tcase_create("stop");
    tcase_add_unchecked_fixture(cases, fixture_redis_start, redis_fixture_stop);
    tcase_add_checked_fixture(cases, fixture_begin, server_end);
    tcase_add_loop_test(cases, a_request_waits_until_a_host_tells_that_its_client_is_settled, 0, 2);
    tcase_add_test(cases, an_older_version_does_not_end_the_wait_for_a_newer_one);
    tcase_add_test(cases, all_who_wait_for_a_client_are_told_and_a_batch_waits_for_its_last);
    tcase_add_test(cases, when_its_time_is_over_it_is_answered_and_nobody_is_told_any_more);
    tcase_add_unchecked_fixture(alone, fixture_redis_start, redis_fixture_stop);
    tcase_add_checked_fixture(alone, fixture_begin, NULL);
    tcase_add_test(alone, a_stop_answers_those_who_wait);
    return run_two_cases(cases, alone, "http/client_waits");
}
