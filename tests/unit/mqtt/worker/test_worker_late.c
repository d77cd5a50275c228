/* Work that is outdated when the worker thread gets to it. */
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "mqtt/owner_fixture.h"

#define SUB_ALL "\"subscriptions\":[{\"filter\":\"t/#\",\"qos\":1}]"
#define KEPT    "\"clean_start\":false,"

static struct fixture_broker broker;
static struct fixture *f;

static void setup(void) {
    static const char *const sets[] = {"node_info.name=test", "publish_timeout_ms=2000",
                                       "reconnect_min_ms=20"};
    log_setup(LOG_ERROR, LOG_LOGFMT);
    broker_start(&broker);
    f = fixture_create(sets, sizeof sets / sizeof sets[0]);
}

static void teardown(void) {
    fixture_destroy(f);
    broker_end(&broker);
}

/* ---- the lease lapses between its check in a turn and the opening of a connection ---- */

static atomic_uint lease_looks;

static bool lease_for_one_look(void) {
    return atomic_fetch_add(&lease_looks, 1) == 0;
}

static bool was_ever(const char *id, enum client_state state) {
    struct client_change changes[CLIENT_CHANGES_MAX];
    size_t n = 0;
    ck_assert_int_eq(workers_changes(f->workers, id, changes, &n), ERR_OK);
    while (n > 0 && changes[n - 1].to != state) {
        n--;
    }
    return n > 0;
}

/* A turn checks the lease and then admits clients; it is checked again for each before it opens. */
START_TEST(the_lease_is_looked_at_just_before_a_connection_is_opened) {
    f->lease = false;
    for (int i = 0; i < 8; i++) {
        char id[] = {(char)('a' + i), '\0'};
        fixture_start(f, fixture_client(id, broker.port, SUB_ALL), 1);
        EVENTUALLY(fixture_state(f, id) == CLIENT_QUEUED);
    }
    f->lease_asked = lease_for_one_look;
    EVENTUALLY(lease_looks > 20);
    for (int i = 0; i < 8; i++) {
        char id[] = {(char)('a' + i), '\0'};
        ck_assert(!was_ever(id, CLIENT_OPENING));
    }
    f->lease_asked = NULL;
    f->lease = true;
    EVENTUALLY(fixture_online_count(f) == 8);
}
END_TEST

/* ---- the deadline of a publication passes while the thread is blocked ---- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_int held; /* worker threads that wait at the gate */

static bool lease_behind_a_gate(void) {
    atomic_fetch_add(&held, 1);
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    atomic_fetch_sub(&held, 1);
    return true;
}

static atomic_int answer = -1;

static void on_published(void *context, const struct publish_result *result) {
    (void)context;
    answer = (int)result->err;
}

START_TEST(a_publication_past_its_deadline_is_not_sent) {
    fixture_start(f, fixture_client("a", broker.port, SUB_ALL), 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
    pthread_mutex_lock(&gate);
    f->lease_asked = lease_behind_a_gate;
    EVENTUALLY(held == (int)workers_thread_count(f->workers));
    struct engine_publication publication = {
        .topic = "late", .payload = (const uint8_t *)"x", .payload_len = 1, .qos = 1};
    ck_assert_int_eq(workers_publish(f->workers, "a", &publication, on_published, NULL), ERR_OK);
    clock_advance_ms(2100);
    pthread_mutex_unlock(&gate);
    EVENTUALLY(answer == ERR_TIMEOUT);
    f->lease_asked = NULL;
    usleep(200000); /* time for it to be sent */
    ck_assert_int_eq(broker_logged(&broker, "Received PUBLISH from a"), 0);
    ck_assert_int_eq(fixture_state(f, "a"), CLIENT_ONLINE);
}
END_TEST

/* ---- a session ends because the client has another identity for its broker ---- */

/* The client was online there before, so a session waits for it; then its broker stops with a
 * publication that it has not acknowledged. */
static void leave_unacknowledged(const char *fields, int port) {
    fixture_start(f, fixture_client("a", port, fields), 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
    fixture_start(f, fixture_client("a", broker.port, KEPT SUB_ALL), 2);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE && broker_logged(&broker, " as a ") == 1);
    kill(broker.pid, SIGSTOP);
    struct engine_publication publication = {
        .topic = "for/one", .payload = (const uint8_t *)"x", .payload_len = 1, .qos = 1};
    ck_assert_int_eq(workers_publish(f->workers, "a", &publication, on_published, NULL), ERR_OK);
    usleep(50000);
    ck_assert_int_eq(answer, -1);
    fixture_start(f, fixture_client("a", port, fields), 3);
}

START_TEST(what_was_for_one_broker_does_not_go_to_another) {
    struct fixture_broker second;
    broker_start(&second);
    leave_unacknowledged(KEPT SUB_ALL, second.port);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE && broker_logged(&second, " as a ") == 2);
    EVENTUALLY(answer != -1);
    usleep(200000); /* time for it to be sent */
    ck_assert_int_ne(answer, ERR_OK);
    ck_assert_int_eq(broker_logged(&second, "Received PUBLISH from"), 0);
    kill(broker.pid, SIGCONT);
    broker_end(&second);
}
END_TEST

START_TEST(what_was_sent_under_one_identifier_is_not_sent_under_another) {
    leave_unacknowledged("\"client_id\":\"other\"," KEPT SUB_ALL, broker.port);
    kill(broker.pid, SIGCONT);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE && broker_logged(&broker, " as other ") == 2);
    EVENTUALLY(answer != -1);
    usleep(200000);
    ck_assert_int_eq(broker_logged(&broker, "Received PUBLISH from other"), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("worker_late");
    TCase *tests = tcase_create("host_late");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_lease_is_looked_at_just_before_a_connection_is_opened);
    tcase_add_test(tests, a_publication_past_its_deadline_is_not_sent);
    tcase_add_test(tests, what_was_for_one_broker_does_not_go_to_another);
    tcase_add_test(tests, what_was_sent_under_one_identifier_is_not_sent_under_another);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
