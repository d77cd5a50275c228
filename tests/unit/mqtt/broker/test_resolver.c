/* The resolver with a fake getaddrinfo: names like "slow.test" say how they behave. */
#include <arpa/inet.h>
#include <check.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "mqtt/broker_fixture.h"
#include "mqtt/broker/resolver.h"

#define THREADS 3

static struct resolver *resolver;
static pthread_t threads[THREADS];
static atomic_int lookups;
static atomic_bool released;

/* Replaces the C library's; knows only address literals. */
int getaddrinfo(const char *restrict node, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict result) {
    (void)service;
    struct in_addr literal;
    const char *text = node;
    if (hints->ai_flags & AI_NUMERICHOST) {
        if (inet_pton(AF_INET, node, &literal) != 1) {
            return EAI_NONAME;
        }
    } else {
        lookups++;
        while (strncmp(node, "hanging", 7) == 0 && !released) {
            usleep(1000);
        }
        if (strcmp(node, "unknown.test") == 0) {
            return EAI_NONAME;
        }
        text = "192.0.2.7";
    }
    struct addrinfo *one = calloc(1, sizeof *one);
    struct sockaddr_in *address = calloc(1, sizeof *address);
    address->sin_family = AF_INET;
    inet_pton(AF_INET, text, &address->sin_addr);
    *one = (struct addrinfo){
        .ai_family = AF_INET, .ai_addrlen = sizeof *address, .ai_addr = (struct sockaddr *)address};
    *result = one;
    return 0;
}

void freeaddrinfo(struct addrinfo *list) {
    free(list->ai_addr);
    free(list);
}

static void setup_ttl(int64_t ttl_ms) {
    resolver = resolver_create(ttl_ms);
    lookups = 0;
    released = false;
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, resolver_run, resolver);
    }
}

static void setup(void) {
    setup_ttl(30000);
}

static void teardown(void) {
    released = true;
    resolver_stop(resolver);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    resolver_destroy(resolver);
}

static void on_done(struct resolver_request *request) {
    (*(atomic_int *)request->context)++;
}

static int ask(const char *name, struct resolver_request *request, atomic_int *done) {
    int at_once;
    *request = (struct resolver_request){.done = on_done, .context = done};
    ck_assert_int_eq(resolver_ask(resolver, name, request, &at_once), ERR_OK);
    return at_once;
}

START_TEST(address_literals_are_answered_at_once) {
    struct resolver_request request;
    atomic_int done = 0;
    ck_assert(ask("127.0.0.1", &request, &done));
    ck_assert_uint_eq(request.answer.count, 1);
    ck_assert_int_eq(lookups, 0);
}
END_TEST

START_TEST(an_answer_is_cached_and_then_forgotten) {
    struct resolver_request request;
    atomic_int done = 0;
    ck_assert(!ask("good.test", &request, &done));
    EVENTUALLY(done == 1);
    ck_assert_int_eq(request.answer.result, ERR_OK);
    ck_assert(ask("good.test", &request, &done));
    ck_assert_int_eq(lookups, 1);
    clock_advance_ms(31000);
    ck_assert(!ask("good.test", &request, &done));
    EVENTUALLY(done == 2);
    ck_assert_int_eq(lookups, 2);
}
END_TEST

START_TEST(no_such_name_is_remembered_briefly) {
    struct resolver_request request;
    atomic_int done = 0;
    ck_assert(!ask("unknown.test", &request, &done));
    EVENTUALLY(done == 1);
    ck_assert_int_eq(request.answer.result, ERR_NOT_FOUND);
    ck_assert(ask("unknown.test", &request, &done));
    clock_advance_ms(1500);
    ck_assert(!ask("unknown.test", &request, &done));
    EVENTUALLY(done == 2);
}
END_TEST

START_TEST(many_waiters_share_one_look_up) {
    struct resolver_request requests[100];
    atomic_int done = 0;
    for (int i = 0; i < 100; i++) {
        ck_assert(!ask("hanging.test", &requests[i], &done));
    }
    resolver_cancel(resolver, &requests[7]);
    resolver_cancel(resolver, &requests[7]);
    released = true;
    EVENTUALLY(done == 99);
    ck_assert_int_eq(lookups, 1);
}
END_TEST

/* KNOWN-FAILURES 21 */
START_TEST(kf21_a_name_server_that_hangs_stalls_no_other_name) {
    struct resolver_request hanging[2], good;
    atomic_int done = 0, hung = 0;
    ck_assert(!ask("hanging.test", &hanging[0], &hung));
    ck_assert(!ask("hanging2.test", &hanging[1], &hung));
    ck_assert(!ask("good.test", &good, &done));
    EVENTUALLY(done == 1);
    ck_assert_int_eq(hung, 0);
    resolver_cancel(resolver, &hanging[0]);
    resolver_cancel(resolver, &hanging[1]);
}
END_TEST

START_TEST(the_queue_is_bounded) {
    static struct resolver_request requests[12000];
    atomic_int done = 0;
    enum err err = ERR_OK;
    int n = 0, at_once;
    for (; n < 12000 && err == ERR_OK; n++) {
        char name[64];
        snprintf(name, sizeof(name), "hanging%d.test", n);
        requests[n] = (struct resolver_request){.done = on_done, .context = &done};
        err = resolver_ask(resolver, name, &requests[n], &at_once);
    }
    ck_assert_int_eq(err, ERR_FULL);
    ck_assert_int_eq(n - 1, 10000);
    released = true;
    EVENTUALLY(done == 10000);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("resolver");
    TCase *tcase = tcase_create("resolver");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, address_literals_are_answered_at_once);
    tcase_add_test(tcase, an_answer_is_cached_and_then_forgotten);
    tcase_add_test(tcase, no_such_name_is_remembered_briefly);
    tcase_add_test(tcase, many_waiters_share_one_look_up);
    tcase_add_test(tcase, kf21_a_name_server_that_hangs_stalls_no_other_name);
    tcase_add_test(tcase, the_queue_is_bounded);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
