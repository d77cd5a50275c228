/* Tests of asynchronous calls: each callback runs once, independently of the others, however many
 * there are. */
#include "cluster/peers/peer_calls.h"

#include <arpa/inet.h>
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/system/clock.h"
#include "net/http_client.h"

static struct conf conf = {.peer_timeout_ms = 20000, .fleet_ca_file = "", .http_tls_cert_file = ""};
static struct peers *peers;
static struct peer_calls *calls;
static pthread_t thread;
static int listener;
static int64_t port;
static atomic_int done, turns;
static atomic_int results[32];

static void note(struct peer_call *call, void *context) {
    (void)context;
    atomic_fetch_add(&results[call->result], 1);
    if (call->result == ERR_OK) {
        ck_assert_int_eq(call->status, 200);
        ck_assert_str_eq(call->answer.data, "yes");
    }
    atomic_fetch_add(&done, 1);
}

static int64_t turn(void *context, int64_t now_ms) {
    (void)context;
    (void)now_ms;
    atomic_fetch_add(&turns, 1);
    return 1000;
}

static void setup(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(listener, 256), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    port = ntohs(address.sin_port);
    ck_assert_int_eq(http_client_global_init(), ERR_OK);
    peers = peers_create(&conf, NULL);
    calls = peer_calls_create(&conf, peers);
    ck_assert(peers && calls);
    peer_calls_set_turn(calls, turn, NULL);
    pthread_create(&thread, NULL, peer_calls_run, calls);
}

static void stop(void) {
    peer_calls_stop(calls);
    pthread_join(thread, NULL);
}

static void teardown(void) {
    peer_calls_destroy(calls);
    peers_destroy(peers);
    close(listener);
}

static void post(int64_t timeout_ms) {
    const struct peer_call call = {.host = "127.0.0.1",
                                   .port = port,
                                   .method = "POST",
                                   .path = "/",
                                   .body = "b",
                                   .body_len = 1};
    ck_assert_int_eq(peer_calls_post(calls, &call, timeout_ms, note, NULL), ERR_OK);
}

static void wait_done(int count) {
    int64_t end_ms = clock_ms() + 20000;
    while (atomic_load(&done) < count && clock_ms() < end_ms) {
        clock_sleep_ms(2);
    }
    ck_assert_int_eq(done, count);
}

/* Sends one answer on one connection. */
static void answer_one(void) {
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nyes";
    char request[4096];
    int fd = accept(listener, NULL, NULL);
    ck_assert_int_gt(recv(fd, request, sizeof request, 0), 0);
    ck_assert_int_eq(send(fd, answer, strlen(answer), MSG_NOSIGNAL), (ssize_t)strlen(answer));
    close(fd);
}

START_TEST(each_call_is_answered_also_those_that_waited_for_their_turn) {
    const int count = PEER_CALLS_PER_NODE_MAX * 2;
    for (int i = 0; i < count; i++) {
        post(20000);
    }
    for (int i = 0; i < count; i++) {
        answer_one();
    }
    wait_done(count);
    ck_assert_int_eq(results[ERR_OK], count);
    ck_assert_int_gt(turns, 0);
    stop();
}
END_TEST

START_TEST(a_silent_node_costs_each_its_own_time_also_those_whose_turn_never_came) {
    const int count = PEER_CALLS_PER_NODE_MAX * 2;
    int64_t begun_ms = clock_ms();
    for (int i = 0; i < count; i++) {
        post(300);
    }
    wait_done(count);
    ck_assert_int_lt(clock_ms() - begun_ms, 10000);
    ck_assert_int_eq(results[ERR_TIMEOUT], count);
    stop();
}
END_TEST

START_TEST(a_stop_cancels_what_is_under_way_and_refuses_what_comes) {
    const int count = PEER_CALLS_PER_NODE_MAX + 5;
    for (int i = 0; i < count; i++) {
        post(20000);
    }
    stop();
    ck_assert_int_eq(done, count);
    ck_assert_int_eq(results[ERR_CANCELED], count);
    const struct peer_call call = {.host = "a", .port = 1, .method = "GET", .path = "/"};
    ck_assert_int_eq(peer_calls_post(calls, &call, 1, note, NULL), ERR_WRONG_STATE);
}
END_TEST

START_TEST(a_node_that_does_not_listen_is_told_at_once) {
    close(listener);
    post(20000);
    wait_done(1);
    ck_assert_int_eq(results[ERR_UNAVAILABLE], 1);
    stop();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("peer_calls");
    TCase *cases = tcase_create("peer_calls");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, each_call_is_answered_also_those_that_waited_for_their_turn);
    tcase_add_test(cases, a_silent_node_costs_each_its_own_time_also_those_whose_turn_never_came);
    tcase_add_test(cases, a_stop_cancels_what_is_under_way_and_refuses_what_comes);
    tcase_add_test(cases, a_node_that_does_not_listen_is_told_at_once);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
