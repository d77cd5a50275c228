/* Tests of http/server: Tests of Tests of HTTP itself, over real sockets. */
#include "http/server/server.h"

#include "base/system/clock.h"
#include "net/redis/redis.h"
#include "http/http_check.h"
#include "http/http_fixture.h"

START_TEST(livez_answers_and_head_has_no_body) {
    struct probe_answer answer = ask("GET", "/livez", "", NULL);
    ck_assert_int_eq(answer.status, 200);
    ck_assert_str_eq(answer.body, "{\"status\":\"ok\"}");
    ck_assert_str_eq(header_of(&answer, "Content-Type"), "application/json");
    answer_free(&answer);
    answer = ask("HEAD", "/livez", "", NULL);
    ck_assert_int_eq(answer.status, 200);
    ck_assert_str_eq(header_of(&answer, "Content-Length"), "15");
    answer_free(&answer);
}
END_TEST

START_TEST(unknown_paths_are_404_problems) {
    struct probe_answer answer = ask("GET", "/nope?x=1", "", NULL);
    ck_assert_int_eq(answer.status, 404);
    ck_assert_str_eq(header_of(&answer, "Content-Type"), "application/problem+json");
    ck_assert_str_eq(text_at(answer.json, "instance"), "/nope");
    answer_free(&answer);
}
END_TEST

START_TEST(wrong_methods_are_405_with_allow) {
    static const char *const methods[] = {"PATCH", "OPTIONS", "TRACE", "BREW", "post"};
    for (size_t i = 0; i < COUNT(methods); i++) {
        struct probe_answer answer = ask(methods[i], "/api/v1/clients", "", NULL);
        ck_assert_msg(answer.status == 405, "%s: %d", methods[i], answer.status);
        ck_assert_str_eq(header_of(&answer, "Allow"), "POST, GET, HEAD");
        answer_free(&answer);
    }
}
END_TEST

START_TEST(a_path_that_is_no_text_is_400) {
    static const char *const paths[] = {"/api/v1/clients/%00", "/api/v1/clients/%FF",
                                        "/api/v1/clients/%zz", "/api/v1/clients?limit=%",
                                        "/api/v1/clients/a%00b/pause"};
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct probe_answer answer = ask("GET", paths[i], "", NULL);
        ck_assert_msg(answer.status == 400 || answer.status == 405, "%s: %d", paths[i],
                      answer.status);
        answer_free(&answer);
    }
}
END_TEST

START_TEST(several_requests_go_over_one_connection) {
    int fd = dial();
    for (int i = 0; i < 20; i++) {
        send_text(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
                      "GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n");
        struct probe_answer answer = receive(fd, 0);
        ck_assert_int_eq(answer.status, 200);
        answer_free(&answer);
        answer = receive(fd, 0);
        ck_assert_int_eq(answer.status, 200);
        ck_assert_ptr_nonnull(at(answer.json, "nodes"));
        answer_free(&answer);
    }
    close(fd);
}
END_TEST

/* KNOWN-FAILURES 14: no request may end a node. */
START_TEST(known_failure_14_broken_json_is_400_with_line_and_column) {
    struct probe_answer answer = ask("POST", "/api/v1/clients", "", "{\n \"id\": oops}");
    ck_assert_int_eq(answer.status, 400);
    ck_assert_ptr_nonnull(strstr(text_at(answer.json, "detail"), "line 2, column"));
    answer_free(&answer);
    answer = ask("POST", "/api/v1/clients", "", NULL);
    ck_assert_int_eq(answer.status, 400);
    answer_free(&answer);
}
END_TEST

/* A body of `len` bytes after headers with a wrong length. */
static struct probe_answer post_bytes(const char *headers, size_t len) {
    char *body = malloc(len);
    memset(body, ' ', len);
    int fd = dial();
    send_text(fd, "POST /api/v1/clients HTTP/1.1\r\nHost: x\r\n");
    send_text(fd, headers);
    send_text(fd, "\r\n");
    send_bytes(fd, body, len);
    struct probe_answer answer = receive(fd, 0);
    free(body);
    close(fd);
    return answer;
}

START_TEST(a_body_over_the_limit_is_413_although_it_was_sent) {
    struct probe_answer answer = post_bytes("Content-Length: 20000000\r\n", 20000000);
    ck_assert_int_eq(answer.status, 413);
    ck_assert_ptr_nonnull(strstr(answer.body, "http.body_max_bytes"));
    answer_free(&answer);
}
END_TEST

START_TEST(a_body_over_the_limit_is_413_before_it_is_sent_when_leave_is_asked) {
    struct probe_answer answer =
        post_bytes("Content-Length: 16777217\r\nExpect: 100-continue\r\n", 0);
    ck_assert_int_eq(answer.status, 413);
    answer_free(&answer);
    answer = post_bytes("Content-Length: 16777216000\r\n", 0);
    ck_assert_int_eq(answer.status, 413);
    answer_free(&answer);
}
END_TEST

START_TEST(a_chunked_body_over_the_limit_is_413) {
    enum { CHUNK = 1024 * 1024, CHUNKS = 18 };
    char *chunk = malloc(CHUNK);
    memset(chunk, ' ', CHUNK);
    int fd = dial();
    send_text(fd, "POST /api/v1/clients HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < CHUNKS; i++) {
        send_text(fd, "100000\r\n");
        send_bytes(fd, chunk, CHUNK);
        send_text(fd, "\r\n");
    }
    send_text(fd, "0\r\n\r\n");
    struct probe_answer answer = receive(fd, 0);
    ck_assert_int_eq(answer.status, 413);
    answer_free(&answer);
    free(chunk);
    close(fd);
}
END_TEST

START_TEST(a_refused_request_leaves_its_connection_usable) {
    int fd = dial();
    send_text(fd, "POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
                  "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    struct probe_answer answer = receive(fd, 0);
    ck_assert_int_eq(answer.status, 404);
    answer_free(&answer);
    answer = receive(fd, 0);
    ck_assert_int_eq(answer.status, 200);
    answer_free(&answer);
    close(fd);
}
END_TEST

START_TEST(callers_that_go_away_early_do_no_harm) {
    static const char *const parts[] = {
        "GET /api/v1/clients HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /api/v1/clients HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[",
        "POST /api/v1/clients HTTP/1.1\r\nHost: x\r\n",
        "G",
        "\r\n\r\n",
        "\x16\x03\x01\x02\xFF"};
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < COUNT(parts); i++) {
            int fd = dial();
            send_text(fd, parts[i]);
            close(fd);
        }
    }
    struct probe_answer answer = ask("GET", "/api/v1/clients", "", NULL);
    ck_assert_int_eq(answer.status, 200);
    answer_free(&answer);
}
END_TEST

static void *ask_often(void *argument) {
    (void)argument;
    for (int i = 0; i < 100; i++) {
        struct probe_answer answer = ask("GET", "/api/v1/clients?limit=1", "", NULL);
        ck_assert_int_eq(answer.status, 200);
        answer_free(&answer);
    }
    return NULL;
}

START_TEST(many_callers_at_once_are_all_answered) {
    pthread_t callers[8];
    for (size_t i = 0; i < COUNT(callers); i++) {
        pthread_create(&callers[i], NULL, ask_often, NULL);
    }
    for (size_t i = 0; i < COUNT(callers); i++) {
        pthread_join(callers[i], NULL);
    }
}
END_TEST

/* ---- without Redis, and at the end ------------------------------------------------------------
 */

START_TEST(redis_away_is_503_and_livez_lives) {
    server_begin("unix:/nonexistent/redis.sock", NULL);
    struct probe_answer answer = ask("GET", "/api/v1/clients", "", NULL);
    ck_assert_int_eq(answer.status, 503);
    ck_assert_str_eq(header_of(&answer, "Retry-After"), "1");
    ck_assert_ptr_nonnull(strstr(text_at(answer.json, "title"), "Redis"));
    answer_free(&answer);
    json_decref(ask_json("POST", "/api/v1/clients",
                         "{\"id\": \"a\", \"broker\": \"127.0.0.1\", \"port\": 1883}", 503));
    json_decref(ask_json("POST", "/api/v1/clients",
                         "[{\"id\": \"a\", \"broker\": \"127.0.0.1\", \"port\": 1883}]", 503));
    json_decref(ask_json("GET", "/api/v1/clients/a", NULL, 503));
    json_decref(ask_json("DELETE", "/api/v1/clients/a", NULL, 503));
    json_decref(ask_json("GET", "/api/v1/nodes", NULL, 503));
    json_decref(ask_json("GET", "/livez", NULL, 200));
    server_end();
}
END_TEST

START_TEST(a_small_limit_is_kept_and_told) {
    server_begin("unix:/nonexistent/redis.sock", "http.body_max_bytes=1024");
    char body[1026];
    memset(body, ' ', sizeof(body) - 1);
    body[1025] = '\0';
    json_decref(ask_json("POST", "/api/v1/clients", body, 413));
    body[1024] = '\0';
    json_decref(ask_json("POST", "/api/v1/clients", body, 400));
    server_end();
}
END_TEST

START_TEST(more_connections_than_allowed_wait_their_turn) {
    server_begin("unix:/nonexistent/redis.sock", "http.connections_max=10");
    for (int round = 0; round < 20; round++) {
        int many[30];
        for (size_t i = 0; i < COUNT(many); i++) {
            many[i] = dial();
        }
        for (size_t i = 0; i < COUNT(many); i++) {
            close(many[i]);
        }
        json_decref(ask_json("GET", "/livez", NULL, 200));
    }
    server_end();
}
END_TEST

START_TEST(a_taken_port_is_told_with_address_and_port) {
    server_begin("unix:/nonexistent/redis.sock", NULL);
    struct peer_calls *other = peer_calls_create(conf, peers);
    struct http_context context = {.conf = conf, .store = store, .peer_calls = other};
    struct http_server *second = NULL;
    char fault[256];
    ck_assert_int_eq(http_server_start(&second, &context, fault), ERR_UNAVAILABLE);
    ck_assert_ptr_null(second);
    ck_assert_ptr_nonnull(strstr(fault, "127.0.0.1"));
    ck_assert_ptr_nonnull(strstr(fault, "in use"));
    peer_calls_destroy(other);
    server_end();
}
END_TEST

START_TEST(stop_ends_soon_with_idle_connections_open) {
    server_begin("unix:/nonexistent/redis.sock", NULL);
    int idle = dial();
    send_text(idle, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    struct probe_answer answer = receive(idle, 0);
    answer_free(&answer);
    int64_t begun_ms = clock_ms();
    server_end();
    ck_assert_int_lt(clock_ms() - begun_ms, 4000);
    close(idle);
}
END_TEST

START_TEST(a_server_whose_threads_never_ran_ends_with_requests_queued) {
    server_begin("unix:/nonexistent/redis.sock", NULL);
    server_threads_end();
    http_server_destroy(server);
    char fault[256];
    struct http_context context = {.conf = conf, .store = store, .peer_calls = calls};
    ck_assert_msg(http_server_start(&server, &context, fault) == ERR_OK, "%s", fault);
    int fd = dial();
    send_text(fd, "GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n");
    int alive = dial(); /* two MHD threads, either may have taken it: give both a request */
    send_text(alive, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    struct probe_answer answer = receive(alive, 0);
    answer_free(&answer);
    http_server_destroy(server);
    answer = receive(fd, 0);
    ck_assert_msg(answer.status == 503 || answer.status == 0, "%d", answer.status);
    answer_free(&answer);
    close(alive);
    close(fd);
    event_bus_destroy(news);
    message_taps_destroy(taps);
    workers_destroy(hosts);
    peer_calls_destroy(calls);
    peers_destroy(peers);
    node_destroy(node);
    store_close(store);
    conf_destroy(conf);
}
END_TEST

/* MHD aborts when it is stopped with a connection suspended. */
START_TEST(streams_end_with_the_server_also_those_that_nobody_reads) {
    static const char *const requests[] = {
        "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /api/v1/events?kind=node HTTP/1.0\r\n\r\n",
        "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"};
    int fds[COUNT(requests)];
    char byte;
    server_begin("unix:/nonexistent/redis.sock", NULL);
    for (size_t i = 0; i < COUNT(requests); i++) {
        fds[i] = dial();
        send_text(fds[i], requests[i]);
        struct probe_answer answer = receive(fds[i], 1);
        ck_assert_int_eq(answer.status, 200);
        ck_assert_str_eq(header_of(&answer, "Content-Type"), "text/event-stream");
        ck_assert_int_eq(recv(fds[i], &byte, 1, 0), 1);
        answer_free(&answer);
    }
    struct probe_answer answer = ask("HEAD", "/api/v1/events", "", NULL);
    ck_assert_int_eq(answer.status, 200);
    answer_free(&answer);
    int64_t begun_ms = clock_ms();
    server_end();
    ck_assert_int_lt(clock_ms() - begun_ms, 4500); /* answers that were begun get five seconds */
    for (size_t i = 0; i < COUNT(requests); i++) {
        ssize_t n;
        do {
            n = recv(fds[i], &byte, 1, 0);
        } while (n == 1);
        ck_assert_int_eq(n, 0);
        close(fds[i]);
    }
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("server");
    TCase *alone = tcase_create("alone");
    tcase_add_unchecked_fixture(cases, fixture_redis_start, redis_fixture_stop);
    tcase_add_checked_fixture(cases, fixture_begin, server_end);
    tcase_add_test(cases, livez_answers_and_head_has_no_body);
    tcase_add_test(cases, unknown_paths_are_404_problems);
    tcase_add_test(cases, wrong_methods_are_405_with_allow);
    tcase_add_test(cases, a_path_that_is_no_text_is_400);
    tcase_add_test(cases, several_requests_go_over_one_connection);
    tcase_add_test(cases, known_failure_14_broken_json_is_400_with_line_and_column);
    tcase_add_test(cases, a_body_over_the_limit_is_413_although_it_was_sent);
    tcase_add_test(cases, a_body_over_the_limit_is_413_before_it_is_sent_when_leave_is_asked);
    tcase_add_test(cases, a_chunked_body_over_the_limit_is_413);
    tcase_add_test(cases, a_refused_request_leaves_its_connection_usable);
    tcase_add_test(cases, callers_that_go_away_early_do_no_harm);
    tcase_add_test(cases, many_callers_at_once_are_all_answered);
    tcase_add_test(alone, redis_away_is_503_and_livez_lives);
    tcase_add_test(alone, a_small_limit_is_kept_and_told);
    tcase_add_test(alone, more_connections_than_allowed_wait_their_turn);
    tcase_add_test(alone, a_taken_port_is_told_with_address_and_port);
    tcase_add_test(alone, stop_ends_soon_with_idle_connections_open);
    tcase_add_test(alone, streams_end_with_the_server_also_those_that_nobody_reads);
    tcase_add_test(alone, a_server_whose_threads_never_ran_ends_with_requests_queued);
    return run_two_cases(cases, alone, "server");
}
