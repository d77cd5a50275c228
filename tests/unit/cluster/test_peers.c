/* Calls to nodes that do not answer: each ends in its own time. */
#include "cluster/peers.h"

#include <arpa/inet.h>
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/http_client.h"

static struct conf conf = {.peer_timeout_ms = 20000, .fleet_ca_file = "", .http_tls_cert_file = ""};
static struct peers *peers;
static int silent; /* accepts and says nothing */
static int64_t port;

static void setup(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(silent, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(silent, 16), 0);
    ck_assert_int_eq(getsockname(silent, (struct sockaddr *)&address, &len), 0);
    port = ntohs(address.sin_port);
    ck_assert_int_eq(http_client_global_init(), ERR_OK);
    peers = peers_create(&conf, NULL, 1);
    ck_assert_ptr_nonnull(peers);
}

static void teardown(void) {
    peers_destroy(peers);
    close(silent);
}

static enum err call(int64_t timeout_ms) {
    struct peer_call one = {.host = "127.0.0.1", .port = port, .method = "GET", .path = "/"};
    peers_run(peers, &one, 1, timeout_ms);
    buffer_fini(&one.answer);
    return one.result;
}

static void *long_call(void *argument) {
    *(enum err *)argument = call(4000);
    return NULL;
}

START_TEST(a_silent_node_costs_no_more_than_the_timeout) {
    int64_t begun_ms = clock_ms();
    ck_assert_int_eq(call(300), ERR_TIMEOUT);
    ck_assert_int_lt(clock_ms() - begun_ms, 3000);
}
END_TEST

START_TEST(a_call_does_not_wait_behind_a_longer_one) {
    enum err longer = ERR_OK;
    pthread_t thread;
    pthread_create(&thread, NULL, long_call, &longer);
    int connected = accept(silent, NULL, NULL); /* now the only client is taken */
    int64_t begun_ms = clock_ms();
    ck_assert_int_eq(call(300), ERR_TIMEOUT);
    ck_assert_int_lt(clock_ms() - begun_ms, 3000);
    pthread_join(thread, NULL);
    ck_assert_int_eq(longer, ERR_TIMEOUT);
    close(connected);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("peers");
    TCase *cases = tcase_create("peers");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_silent_node_costs_no_more_than_the_timeout);
    tcase_add_test(cases, a_call_does_not_wait_behind_a_longer_one);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
