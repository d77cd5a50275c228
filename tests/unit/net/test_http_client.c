/* Tests of the HTTP client with a small server, one thread per connection, that can be slow,
 * silent, or send too much. */
#include "net/http_client.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/system/clock.h"

#define TIMEOUT_MS       2000
#define ANSWER_BYTES_MAX 65536
#define SLOW_MS          300
#define REQUEST_LEN      8192

static int listen_fd;
static int port;
static atomic_int connections;
static const struct http_client_options options = {.timeout_ms = TIMEOUT_MS,
                                                   .response_bytes_max = ANSWER_BYTES_MAX};
static struct http_client *client;

/* --- the server --- */

static void reply(int fd, const char *status, const char *more, const char *body, size_t len) {
    char head[512];
    int head_len = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n",
                            status, len, more);
    if (send(fd, head, (size_t)head_len, MSG_NOSIGNAL) > 0 && len > 0) {
        (void)!send(fd, body, len, MSG_NOSIGNAL);
    }
}

/* Reads one request, body included, NUL-terminated; false at the end of the connection. */
static bool read_request(int fd, char *request) {
    size_t len = 0;
    size_t wanted = 0;
    while (wanted == 0 || len < wanted) {
        ssize_t n = recv(fd, request + len, REQUEST_LEN - 1 - len, 0);
        if (n <= 0) {
            return false;
        }
        len += (size_t)n;
        request[len] = '\0';
        char *end = strstr(request, "\r\n\r\n");
        char *length = strcasestr(request, "\r\nContent-Length:");
        if (end) {
            wanted = (size_t)(end + 4 - request) + (length ? (size_t)atoi(length + 17) : 0);
        }
    }
    return true;
}

static bool answer(int fd, const char *request) {
    static char big[ANSWER_BYTES_MAX + 1];
    const char *path = strchr(request, ' ');
    if (!path || strncmp(path, " /never", 7) == 0) {
        char byte;
        (void)!recv(fd, &byte, 1, 0); /* until the client gives up */
        return false;
    }
    if (strncmp(path, " /slow", 6) == 0) {
        clock_sleep_ms(SLOW_MS);
        reply(fd, "204 No Content", "", "", 0);
    } else if (strncmp(path, " /big", 5) == 0) {
        reply(fd, "200 OK", "", big, sizeof big);
    } else if (strncmp(path, " /headers", 9) == 0) {
        (void)!send(fd, "HTTP/1.1 200 OK\r\n", 17, MSG_NOSIGNAL);
        for (int i = 0; i < 8000; i++) { /* 136,000 bytes */
            (void)!send(fd, "X-More: of them\r\n", 17, MSG_NOSIGNAL);
        }
        (void)!send(fd, "Content-Length: 0\r\n\r\n", 21, MSG_NOSIGNAL);
    } else if (strncmp(path, " /busy", 6) == 0) {
        reply(fd, "503 Service Unavailable", "Retry-After: 7\r\n", "busy", 4);
    } else if (strncmp(path, " /redirect", 10) == 0) {
        reply(fd, "302 Found", "Location: /echo\r\n", "", 0);
    } else if (strncmp(path, " /broken", 8) == 0) {
        reply(fd, "200 OK", "Content-Length: 10\r\n", "", 0);
        return false;
    } else {
        reply(fd, "409 Conflict", "", request, strlen(request));
    }
    return true;
}

static void *serve(void *argument) {
    int fd = (int)(intptr_t)argument;
    char request[REQUEST_LEN];
    while (read_request(fd, request) && answer(fd, request)) {
    }
    close(fd);
    return NULL;
}

static void *accept_all(void *argument) {
    (void)argument;
    for (;;) {
        int fd = accept(listen_fd, NULL, NULL);
        pthread_t thread;
        if (fd < 0) {
            return NULL;
        }
        atomic_fetch_add(&connections, 1);
        ck_assert_int_eq(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd), 0);
        pthread_detach(thread);
    }
}

static pthread_t acceptor;

static void setup(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    signal(SIGPIPE, SIG_IGN);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listen_fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(listen_fd, 128), 0);
    ck_assert_int_eq(getsockname(listen_fd, (struct sockaddr *)&address, &len), 0);
    port = ntohs(address.sin_port);
    ck_assert_int_eq(pthread_create(&acceptor, NULL, accept_all, NULL), 0);
    ck_assert_int_eq(http_client_global_init(), ERR_OK);
    client = http_client_create(&options);
    ck_assert_ptr_nonnull(client);
}

static void teardown(void) {
    http_client_destroy(client);
    shutdown(listen_fd, SHUT_RDWR);
    pthread_join(acceptor, NULL);
    close(listen_fd);
}

/* --- the tests --- */

static char url[128];

static struct http_client_request exchange_to(const char *path) {
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, path);
    return (struct http_client_request){.method = "GET", .url = url};
}

START_TEST(a_post_carries_method_headers_and_body_and_brings_status_and_answer) {
    struct http_client_request request = exchange_to("/echo?x=1");
    request.method = "POST";
    request.headers = (const char *const[]){"X-Node: one", NULL};
    request.body = "{\"a\":1}, and not this";
    request.body_len = 7;
    http_client_run(client, &request, 1);
    ck_assert_int_eq(request.result, ERR_OK);
    ck_assert_int_eq(request.status, 409);
    ck_assert_ptr_nonnull(strstr(request.response.data, "POST /echo?x=1 HTTP/1.1"));
    ck_assert_ptr_nonnull(strstr(request.response.data, "X-Node: one"));
    ck_assert_ptr_nonnull(strstr(request.response.data, "Content-Type: application/json"));
    ck_assert_ptr_nonnull(strstr(request.response.data, "\r\n\r\n{\"a\":1}"));
    ck_assert_ptr_null(strstr(request.response.data, "not this"));
    buffer_fini(&request.response);
}
END_TEST

START_TEST(every_method_is_sent_as_it_is) {
    static const char *const methods[] = {"GET", "POST", "PUT", "DELETE", "PATCH"};
    struct http_client_request request = exchange_to("/echo");
    request.method = methods[_i];
    http_client_run(client, &request, 1);
    ck_assert_int_eq(request.result, ERR_OK);
    ck_assert_int_eq(strncmp(request.response.data, methods[_i], strlen(methods[_i])), 0);
    buffer_fini(&request.response);
}
END_TEST

START_TEST(connections_are_kept_and_used_again) {
    for (int i = 0; i < 20; i++) {
        struct http_client_request request = exchange_to("/echo");
        http_client_run(client, &request, 1);
        ck_assert_int_eq(request.result, ERR_OK);
        buffer_fini(&request.response);
    }
    ck_assert_int_eq(atomic_load(&connections), 1);
}
END_TEST

START_TEST(many_exchanges_run_at_once_and_one_that_hangs_delays_no_other) {
    enum { COUNT = 20 };
    struct http_client_request exchanges[COUNT];
    char urls[COUNT][128];
    for (int i = 0; i < COUNT; i++) {
        snprintf(urls[i], sizeof urls[i], "http://127.0.0.1:%d%s", port,
                 i == 7 ? "/never" : "/slow");
        exchanges[i] = (struct http_client_request){.method = "GET", .url = urls[i]};
    }
    int64_t begin_ms = clock_ms();
    http_client_run(client, exchanges, COUNT);
    ck_assert_int_lt(clock_ms() - begin_ms, TIMEOUT_MS + 1000);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(exchanges[i].result, i == 7 ? ERR_TIMEOUT : ERR_OK);
        ck_assert(!exchanges[i].unsent);
        ck_assert(i == 7 || exchanges[i].status == 204);
        buffer_fini(&exchanges[i].response);
    }
}
END_TEST

START_TEST(a_port_where_nobody_listens_is_unavailable) {
    struct http_client_request request = exchange_to("/echo");
    shutdown(listen_fd, SHUT_RDWR);
    pthread_join(acceptor, NULL);
    close(listen_fd);
    http_client_run(client, &request, 1);
    ck_assert_int_eq(request.result, ERR_UNAVAILABLE);
    ck_assert(request.unsent);
    buffer_fini(&request.response);
    http_client_destroy(client);
}
END_TEST

START_TEST(an_answer_over_the_limit_or_broken_off_is_unavailable) {
    struct http_client_request request = exchange_to(_i == 0 ? "/big" : "/broken");
    http_client_run(client, &request, 1);
    ck_assert_int_eq(request.result, ERR_UNAVAILABLE);
    ck_assert(!request.unsent);
    ck_assert_uint_le(request.response.len, ANSWER_BYTES_MAX);
    buffer_fini(&request.response);
}
END_TEST

START_TEST(headers_over_the_limit_are_unavailable) {
    struct http_client_request request = exchange_to("/headers");
    http_client_run(client, &request, 1);
    ck_assert_int_eq(request.result, ERR_UNAVAILABLE);
    ck_assert_str_ne(request.fault, "");
    buffer_fini(&request.response);
}
END_TEST

START_TEST(a_client_may_cut_long_responses_off) {
    struct http_client_options cutting = options;
    cutting.cuts_responses = true;
    struct http_client *cutter = http_client_create(&cutting);
    struct http_client_request request = exchange_to("/big");
    http_client_run(cutter, &request, 1);
    ck_assert_int_eq(request.result, ERR_OK);
    ck_assert_int_eq(request.status, 200);
    ck_assert_uint_eq(request.response.len, ANSWER_BYTES_MAX);
    buffer_fini(&request.response);
    http_client_destroy(cutter);
}
END_TEST

START_TEST(the_time_that_a_server_asks_to_wait_is_told) {
    struct http_client_request request = exchange_to("/busy");
    http_client_run(client, &request, 1);
    ck_assert_int_eq(request.status, 503);
    ck_assert_int_eq(request.retry_after_s, 7);
    buffer_fini(&request.response);
}
END_TEST

static bool denies_all(const void *context, const struct sockaddr *address, const char **why) {
    ck_assert_int_eq(address->sa_family, AF_INET);
    *why = context;
    return false;
}

START_TEST(a_denied_address_is_not_connected_to_and_the_reason_is_told) {
    struct http_client_options denying = options;
    denying.address_allowed = denies_all;
    denying.address_context = "because";
    struct http_client *denied = http_client_create(&denying);
    struct http_client_request request = exchange_to("/echo");
    http_client_run(denied, &request, 1);
    ck_assert_int_eq(request.result, ERR_UNAVAILABLE);
    ck_assert_str_eq(request.fault, "because");
    ck_assert_int_eq(atomic_load(&connections), 0);
    buffer_fini(&request.response);
    http_client_destroy(denied);
}
END_TEST

START_TEST(a_body_has_the_type_that_is_asked_for_once) {
    struct http_client_request request = exchange_to("/echo");
    request.method = "POST";
    request.body = "a";
    request.body_len = 1;
    request.content_type = "application/x-ndjson";
    http_client_run(client, &request, 1);
    const char *type = strcasestr(request.response.data, "content-type:");
    ck_assert_ptr_nonnull(type);
    ck_assert_int_eq(strncmp(type + 14, "application/x-ndjson\r", 21), 0);
    ck_assert_ptr_null(strcasestr(type + 1, "content-type:"));
    buffer_fini(&request.response);
}
END_TEST

START_TEST(a_redirect_is_an_answer_and_not_followed) {
    struct http_client_request request = exchange_to("/redirect");
    http_client_run(client, &request, 1);
    ck_assert_int_eq(request.result, ERR_OK);
    ck_assert_int_eq(request.status, 302);
    buffer_fini(&request.response);
}
END_TEST

START_TEST(a_proxy_of_the_environment_is_ignored) {
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    struct http_client_request request = exchange_to("/echo");
    http_client_run(client, &request, 1);
    ck_assert_int_eq(request.result, ERR_OK);
    buffer_fini(&request.response);
}
END_TEST

START_TEST(other_schemes_are_refused) {
    struct http_client_request request = {.method = "GET", .url = "file:///etc/passwd"};
    http_client_run(client, &request, 1);
    ck_assert_int_eq(request.result, ERR_UNAVAILABLE);
    ck_assert_uint_eq(request.response.len, 0);
    buffer_fini(&request.response);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("http_client");
    TCase *tcase = tcase_create("http_client");
    TCase *alone = tcase_create("without a server");
    tcase_set_timeout(tcase, 60);
    tcase_set_timeout(alone, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_checked_fixture(alone, setup, NULL);
    tcase_add_test(tcase, a_post_carries_method_headers_and_body_and_brings_status_and_answer);
    tcase_add_loop_test(tcase, every_method_is_sent_as_it_is, 0, 5);
    tcase_add_test(tcase, connections_are_kept_and_used_again);
    tcase_add_test(tcase, many_exchanges_run_at_once_and_one_that_hangs_delays_no_other);
    tcase_add_loop_test(tcase, an_answer_over_the_limit_or_broken_off_is_unavailable, 0, 2);
    tcase_add_test(tcase, headers_over_the_limit_are_unavailable);
    tcase_add_test(tcase, a_client_may_cut_long_responses_off);
    tcase_add_test(tcase, the_time_that_a_server_asks_to_wait_is_told);
    tcase_add_test(tcase, a_denied_address_is_not_connected_to_and_the_reason_is_told);
    tcase_add_test(tcase, a_body_has_the_type_that_is_asked_for_once);
    tcase_add_test(tcase, a_redirect_is_an_answer_and_not_followed);
    tcase_add_test(tcase, a_proxy_of_the_environment_is_ignored);
    tcase_add_test(tcase, other_schemes_are_refused);
    tcase_add_test(alone, a_port_where_nobody_listens_is_unavailable);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, alone);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
