/* A worker with a short backoff and a real mosquitto, for tests of failures. Header-only. */
#ifndef MQFLEET_TEST_WORKER_TROUBLE_FIXTURE_H
#define MQFLEET_TEST_WORKER_TROUBLE_FIXTURE_H

#include "base/telemetry/log.h"
#include "mqtt/owner_fixture.h"

static struct fixture_broker broker;
static struct fixture *f;

#define QUICK                                                                                      \
    "reconnect_min_ms=50", "reconnect_max_ms=400", "stable_ms=4000", "connect_timeout_ms=1500",    \
        "conflict_min_ms=200", "conflict_max_ms=60000", "publish_timeout_ms=2000",                 \
        "node_info.name=test"

static inline void setup_with(const char *const *sets, size_t n) {
    log_setup(LOG_ERROR, LOG_LOGFMT);
    broker_start(&broker);
    f = fixture_create(sets, n);
}

static inline void setup(void) {
    static const char *const sets[] = {QUICK};
    setup_with(sets, sizeof(sets) / sizeof(sets[0]));
}

static inline void teardown(void) {
    fixture_destroy(f);
    broker_end(&broker);
}

static inline size_t release_count(void) {
    pthread_mutex_lock(&f->lock);
    size_t n = f->releases;
    pthread_mutex_unlock(&f->lock);
    return n;
}

#define SUB_ALL "\"subscriptions\":[{\"filter\":\"t/#\",\"qos\":1}]"

static inline void start_online(const char *id, const char *fields) {
    fixture_start(f, fixture_client(id, broker.port, fields), 1);
    EVENTUALLY(fixture_state(f, id) == CLIENT_ONLINE);
}

static inline void run_broker_with(const char *extra) {
    broker_stop(&broker);
    broker_configure(&broker, extra);
    broker_run(&broker);
}

/* Each test runs this many times. */
struct trouble_test {
    const TTest *test;
    int count;
};

static inline void add_tests(Suite *suite, const char *name, void (*prepare)(void),
                             const struct trouble_test *tests, size_t n) {
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, prepare, teardown);
    tcase_set_timeout(tcase, 120);
    for (size_t i = 0; i < n; i++) {
        tcase_add_loop_test(tcase, tests[i].test, 0, tests[i].count);
    }
    suite_add_tcase(suite, tcase);
}

static inline int run_suite(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

#endif
