/* One worker, step by step on the test's thread, with a simulated engine and owner: what is decided
 * just before something is opened, sent or freed. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "mqtt/workers/workers_internal.h"
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "doubles/queue_double.h"

#define PUBLICATION_BYTES_LEAST 100

static struct {
    struct conf *conf;
    struct workers workers; /* the facade, without threads */
    struct worker *worker;
    const struct engine_events *events;
    /* the owner */
    int lease_looks; /* how often it is still valid; negative: always */
    int64_t rest_ms[64];
    size_t rests;
    /* the engine */
    size_t opens, publishes, sessions_ended;
    struct engine_open opened;                 /* the last */
    const struct engine_session *session_then; /* existed when it was opened */
    struct client_config config_then;
    enum err open_result, publish_result;
    uint64_t token; /* of the last publication */
    bool read_blocked;
} stage;

/* ---- the engine ---- */

static int session_place, connection_place, engine_place;

static struct engine *fake_create(const struct conf *conf, const struct engine_events *events) {
    (void)conf;
    stage.events = events;
    return (struct engine *)&engine_place;
}

static void fake_destroy(struct engine *engine) {
    (void)engine;
}

static enum err fake_open(struct engine *engine, const struct engine_open *open,
                          struct engine_connection **out) {
    (void)engine;
    stage.opens++;
    stage.opened = *open;
    stage.session_then = *open->session;
    if (stage.open_result == ERR_OK) {
        *open->session = (struct engine_session *)&session_place;
        *out = (struct engine_connection *)&connection_place;
    }
    return stage.open_result;
}

static void fake_close(struct engine_connection *connection, bool with_will) {
    (void)connection;
    (void)with_will;
}

static void fake_session_end(struct engine *engine, struct engine_session *session) {
    (void)engine;
    stage.sessions_ended += session != NULL;
}

static enum err fake_subscribe(struct engine_connection *connection,
                               const struct client_subscription *subscriptions, size_t *n) {
    (void)connection;
    (void)subscriptions;
    (void)n;
    return ERR_OK;
}

static enum err fake_publish(struct engine_connection *connection,
                             const struct engine_publication *publication, uint64_t token) {
    (void)connection;
    (void)publication;
    stage.publishes++;
    stage.token = token;
    return stage.publish_result;
}

static bool fake_is_read_blocked(struct engine_connection *connection) {
    (void)connection;
    return stage.read_blocked;
}

static bool fake_watch(struct engine *engine, int fd) {
    (void)engine;
    (void)fd;
    return true;
}

static const struct engine_ops fake_engine = {.name = "fake",
                                              .create = fake_create,
                                              .destroy = fake_destroy,
                                              .open = fake_open,
                                              .close = fake_close,
                                              .session_end = fake_session_end,
                                              .subscribe = fake_subscribe,
                                              .publish = fake_publish,
                                              .is_read_blocked = fake_is_read_blocked,
                                              .watch = fake_watch};

/* ---- the owner ---- */

static bool owner_lease(void *context) {
    (void)context;
    if (stage.lease_looks == 0) {
        return false;
    }
    stage.lease_looks -= stage.lease_looks > 0;
    return true;
}

static void owner_release(void *context, const struct workers_release *release) {
    (void)context;
    if (release->cooldown_ms_max > 0) {
        ck_assert_uint_lt(stage.rests, 64);
        stage.rest_ms[stage.rests++] = release->delay_ms;
    }
}

static bool owner_has_room(const struct message_queue *queue) {
    (void)queue;
    return true;
}

/* ---- the stage ---- */

static void setup(void) {
    char fault[CONF_FAULT_LEN] = "";
    static const char *const sets[] = {"node_info.name=test", "reconnect_min_ms=50",
                                       "publish_timeout_ms=1000", "conflict_min_ms=1000"};
    log_setup(LOG_ERROR, LOG_LOGFMT);
    memset(&stage, 0, sizeof(stage));
    stage.lease_looks = -1;
    ck_assert_int_eq(conf_load(&stage.conf, NULL, sets, sizeof(sets) / sizeof(sets[0]), fault),
                     ERR_OK);
    struct workers *workers = &stage.workers;
    workers->conf = stage.conf;
    workers->owner =
        (struct workers_owner){.lease_valid = owner_lease, .wants_release = owner_release};
    queue_double = (struct queue_double){.has_room = owner_has_room};
    workers->resolver = resolver_create(1000);
    workers->good_addresses = good_addresses_create();
    workers->incidents = incidents_create();
    workers->quota = publish_quota_create(&(struct publish_use){.waiting = 1000, .bytes = 1000000});
    ck_assert_int_eq(address_policy_create(&workers->policy, "", "", "127.0.0.1"), ERR_OK);
    stage.worker = worker_create(stage.conf, &workers->owner, &fake_engine, workers->resolver,
                                 workers->policy);
    stage.worker->good_addresses = workers->good_addresses;
    stage.worker->brokers.incidents = workers->incidents;
    workers->all = &stage.worker;
    workers->count = 1;
    pthread_mutex_init(&workers->lock, NULL);
    workers_accept(workers, "inc");
}

/* Runs the loop until nothing is open. */
static void stop_client(void) {
    struct client *client = worker_find(stage.worker, "c");
    if (client) {
        worker_stop_client(client, "stopped", false);
    }
    client = worker_find(stage.worker, "c");
    if (client) {
        stage.events->closed(
            client, &(struct engine_closed){.error = CLIENT_ERROR_CLOSED_BY_US, .reason_code = -1});
    }
}

static void teardown(void) {
    struct workers *workers = &stage.workers;
    if (stage.worker) {
        stop_client();
        worker_destroy(stage.worker);
    }
    publish_quota_destroy(workers->quota); /* asserts that every publication was freed */
    incidents_destroy(workers->incidents);
    good_addresses_destroy(workers->good_addresses);
    resolver_destroy(workers->resolver);
    address_policy_destroy(workers->policy);
    free(workers->incarnation);
    pthread_mutex_destroy(&workers->lock);
    conf_destroy(stage.conf);
}

/* The loop's handling of commands. */
static void take_commands(void) {
    void *command;
    while (queue_pop(stage.worker->inbox, &command, 0) == ERR_OK) {
        worker_execute(stage.worker, command);
    }
}

static void turn(void) {
    take_commands();
    worker_check_lease(stage.worker);
    worker_admit(stage.worker, clock_us());
}

static void start(const char *fields, int64_t version) {
    char text[1024];
    struct client_config *config = NULL;
    struct client_faults faults = {0};
    snprintf(text, sizeof(text), "{\"id\":\"c\",\"clean_start\":false,%s}", fields);
    ck_assert_msg(client_config_parse_text(text, strlen(text), NULL, &config, &faults) == ERR_OK,
                  "%s %s", faults.items[0].pointer, faults.items[0].detail);
    ck_assert_int_eq(workers_start(&stage.workers, config,
                                   &(struct workers_assignment){"inc", 1, version, NULL}),
                     ERR_OK);
    turn();
}

static struct client *the_client(void) {
    return worker_find(stage.worker, "c");
}

static void let_in(void) {
    stage.events->connected(the_client(), &(struct engine_connack){.session_present = true});
    ck_assert_int_eq(the_client()->state, CLIENT_ONLINE);
}

static void lose(const struct engine_closed *closed) {
    stage.events->closed(the_client(), closed);
}

/* Everything it waits for happens at once. */
static void try_again(void) {
    for (int i = 0; i < 10 && the_client()->state != CLIENT_OPENING; i++) {
        if (the_client()->state == CLIENT_BACKOFF) {
            worker_handle_timer(the_client());
        }
        clock_advance_ms(1000);
        turn();
    }
    ck_assert_int_eq(the_client()->state, CLIENT_OPENING);
}

/* ---- opening ---- */

#define ONE "\"url\":\"mqtt://127.0.0.1:1883\",\"client_id\":\"me\""

START_TEST(the_lease_is_looked_at_just_before_something_is_opened) {
    stage.lease_looks = 1; /* valid for worker_check_lease, lapsed when the address is known */
    start(ONE, 1);
    ck_assert_uint_eq(stage.opens, 0);
    ck_assert_int_eq(the_client()->state, CLIENT_QUEUED);
    stage.lease_looks = -1;
    try_again();
    ck_assert_uint_eq(stage.opens, 1);
    lose(&(struct engine_closed){
        .error = CLIENT_ERROR_CONNECTION_REFUSED, .reason_code = -1, .address = -1});
}
END_TEST

static const struct {
    const char *fields;
    bool keeps;
} changes[] = {
    {ONE ",\"labels\":{\"a\":\"b\"}", true},
    {"\"url\":\"mqtt://127.0.0.1:1884\",\"client_id\":\"me\"", false},
    {"\"url\":\"mqtt://127.0.0.2:1883\",\"client_id\":\"me\"", false},
    {"\"url\":\"mqtt://127.0.0.1:1883\",\"client_id\":\"other\"", false},
};

START_TEST(a_session_goes_with_its_broker_and_its_identifier) {
    start(ONE, 1);
    ck_assert_ptr_null(stage.session_then);
    let_in();
    lose(&(struct engine_closed){.error = CLIENT_ERROR_CONNECTION_LOST, .reason_code = -1});
    try_again();
    ck_assert_ptr_nonnull(stage.session_then); /* the same session, with its content */
    let_in();
    start(changes[_i].fields, 2);
    if (!changes[_i].keeps) {
        lose(&(struct engine_closed){.error = CLIENT_ERROR_CLOSED_BY_US, .reason_code = -1});
        try_again();
        ck_assert_ptr_null(stage.session_then);
    }
    ck_assert_uint_eq(stage.sessions_ended, changes[_i].keeps ? 0 : 1);
    ck_assert_uint_eq(stage.opens, changes[_i].keeps ? 2 : 3);
    lose(&(struct engine_closed){.error = CLIENT_ERROR_CONNECTION_LOST, .reason_code = -1});
}
END_TEST

START_TEST(who_rests_in_conflict_rests_each_time_for_another_time) {
    start(ONE, 1);
    for (int i = 0; i < 20; i++) {
        if (i > 0) {
            ck_assert_int_eq(workers_retry(&stage.workers, "c", 1, 1), ERR_OK);
            turn();
            try_again();
        }
        let_in();
        lose(&(struct engine_closed){.error = CLIENT_ERROR_MQTT_TAKEN_OVER, .reason_code = 0x8E});
        ck_assert_int_eq(the_client()->state, CLIENT_CONFLICT);
    }
    ck_assert_uint_ge(stage.rests, 20);
    size_t others = 0;
    for (size_t i = 0; i < stage.rests; i++) {
        ck_assert_int_ge(stage.rest_ms[i], 1000);
        ck_assert_int_le(stage.rest_ms[i], 1250);
        others += stage.rest_ms[i] != stage.rest_ms[0];
    }
    ck_assert_uint_ge(others, 10);
}
END_TEST

/* ---- publications ---- */

static struct {
    int count;
    struct publish_result result;
} answer;

static void on_published(void *context, const struct publish_result *result) {
    (void)context;
    answer.count++;
    answer.result = *result;
}

static enum err publish(uint8_t qos) {
    const struct engine_publication publication = {
        .topic = "t", .payload = (const uint8_t *)"payload", .payload_len = 7, .qos = qos};
    memset(&answer, 0, sizeof(answer));
    return workers_publish(&stage.workers, "c", &publication, on_published, NULL);
}

static void go_online(void) {
    start(ONE, 1);
    let_in();
}

static struct publish_use use(void) {
    return workers_publish_use(&stage.workers);
}

/* Answered once, with this; nothing waits for it or is kept of it. */
static void expect_over(enum err err, enum give_up give_up) {
    ck_assert_int_eq(answer.count, 1);
    ck_assert_int_eq(answer.result.err, err);
    ck_assert_int_eq(answer.result.give_up, give_up);
    ck_assert_int_eq(answer.result.reason_code, 0);
    ck_assert_uint_eq(use().waiting, 0);
    ck_assert_uint_eq(use().bytes, 0);
    ck_assert_uint_eq(the_client()->publication_count, 0);
}

static void end(void) {
    lose(&(struct engine_closed){.error = CLIENT_ERROR_CONNECTION_LOST, .reason_code = -1});
}

START_TEST(a_publication_is_over_once_the_broker_has_acknowledged_it) {
    go_online();
    ck_assert_int_eq(publish(1), ERR_OK);
    ck_assert_uint_eq(use().waiting, 1);
    ck_assert_uint_ge(use().bytes, PUBLICATION_BYTES_LEAST);
    take_commands();
    ck_assert_uint_eq(stage.publishes, 1);
    stage.events->published(the_client(), stage.token, &(struct publish_result){.err = ERR_OK});
    expect_over(ERR_OK, (enum give_up)0);
    end();
}
END_TEST

START_TEST(a_publication_past_its_deadline_is_not_sent) {
    go_online();
    ck_assert_int_eq(publish(1), ERR_OK);
    clock_advance_ms(1001); /* the worker was busy */
    take_commands();
    ck_assert_uint_eq(stage.publishes, 0);
    expect_over(ERR_TIMEOUT, (enum give_up)0);
    end();
}
END_TEST

START_TEST(a_publication_that_the_engine_does_not_take_is_over) {
    go_online();
    stage.publish_result = ERR_FULL;
    stage.read_blocked = _i == 1;
    ck_assert_int_eq(publish(1), ERR_OK);
    take_commands();
    ck_assert_uint_eq(stage.publishes, 1);
    expect_over(_i == 1 ? ERR_REFUSED : ERR_FULL, _i == 1 ? GIVE_UP_SINK_FULL : (enum give_up)0);
    end();
}
END_TEST

START_TEST(a_publication_whose_client_went_offline_meanwhile_is_over) {
    go_online();
    ck_assert_int_eq(publish(1), ERR_OK);
    end();
    take_commands();
    ck_assert_uint_eq(stage.publishes, 0);
    expect_over(ERR_WRONG_STATE, (enum give_up)0);
}
END_TEST

START_TEST(a_publication_for_a_record_that_is_gone_is_over) {
    go_online();
    ck_assert_int_eq(workers_stop(&stage.workers, "c", 0, "stopped", NULL, NULL), ERR_OK);
    ck_assert_int_eq(publish(1), ERR_OK);
    void *command;
    ck_assert_int_eq(queue_pop(stage.worker->inbox, &command, 0), ERR_OK);
    worker_execute(stage.worker, command);
    lose(&(struct engine_closed){.error = CLIENT_ERROR_CLOSED_BY_US, .reason_code = -1});
    ck_assert_ptr_null(the_client());
    take_commands();
    ck_assert_int_eq(answer.count, 1);
    ck_assert_int_eq(answer.result.err, ERR_WRONG_STATE);
    ck_assert_uint_eq(use().waiting + use().bytes, 0);
}
END_TEST

START_TEST(a_publication_that_nobody_will_look_at_is_over) {
    go_online();
    ck_assert_int_eq(publish(1), ERR_OK);
    end();
    stop_client();
    worker_destroy(stage.worker); /* with it in the inbox */
    stage.worker = NULL;
    ck_assert_int_eq(answer.count, 1);
    ck_assert_int_eq(answer.result.err, ERR_UNAVAILABLE);
    struct publish_use left = publish_quota_use(stage.workers.quota, NULL);
    ck_assert_uint_eq(left.waiting + left.bytes, 0);
}
END_TEST

START_TEST(publications_that_are_refused_at_once_are_over) {
    start(ONE, 1);
    ck_assert_int_eq(publish(1), ERR_WRONG_STATE);
    let_in();
    for (int i = 0; i < WORKER_PUBLICATIONS_MAX; i++) {
        ck_assert_int_eq(publish(1), ERR_OK);
    }
    ck_assert_uint_eq(use().waiting, WORKER_PUBLICATIONS_MAX);
    ck_assert_int_eq(publish(1), ERR_FULL);
    ck_assert_uint_eq(use().waiting, WORKER_PUBLICATIONS_MAX);
    clock_advance_ms(1001);
    take_commands();
    ck_assert_uint_eq(use().waiting + use().bytes, 0);
    end();
}
END_TEST

START_TEST(case_F5_a_broker_that_has_its_share_is_named) {
    struct workers_busy busy;
    go_online();
    publish_quota_destroy(stage.workers.quota);
    stage.workers.quota =
        publish_quota_create(&(struct publish_use){.waiting = 15, .bytes = 100000});
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(publish(1), ERR_OK);
    }
    ck_assert_int_eq(publish(1), ERR_BUSY);
    ck_assert_uint_eq(the_client()->publication_count, 10);
    ck_assert(workers_publish_busy(&stage.workers, "c", &busy));
    ck_assert_str_eq(busy.broker, "127.0.0.1:1883");
    ck_assert_uint_eq(busy.use.waiting, 10);
    clock_advance_ms(1001);
    take_commands();
    ck_assert_int_eq(publish(1), ERR_OK); /* answered publications make room */
    clock_advance_ms(1001);
    take_commands();
    end();
}
END_TEST

START_TEST(case_F7_who_waits_is_told_whether_it_is_the_broker_or_the_sink) {
    go_online();
    stage.read_blocked = _i == 1;
    ck_assert_int_eq(publish(1), ERR_OK);
    take_commands();
    clock_advance_ms(1001);
    worker_expire_publications(stage.worker, clock_ms());
    ck_assert_int_eq(answer.count, 1);
    ck_assert_int_eq(answer.result.err, ERR_TIMEOUT);
    ck_assert_int_eq(answer.result.timeout,
                     _i == 1 ? PUBLISH_TIMEOUT_READ_BLOCKED : PUBLISH_TIMEOUT_SILENT);
    ck_assert_uint_eq(use().waiting, 0);
    ck_assert_uint_ge(use().bytes, PUBLICATION_BYTES_LEAST); /* it may still be acknowledged */
    stage.events->published(the_client(), stage.token, &(struct publish_result){.err = ERR_OK});
    ck_assert_int_eq(answer.count, 1);
    ck_assert_uint_eq(use().bytes, 0);
    end();
}
END_TEST

static void add_publications(TCase *tcase) {
    tcase_add_test(tcase, a_publication_is_over_once_the_broker_has_acknowledged_it);
    tcase_add_test(tcase, a_publication_past_its_deadline_is_not_sent);
    tcase_add_loop_test(tcase, a_publication_that_the_engine_does_not_take_is_over, 0, 2);
    tcase_add_test(tcase, a_publication_whose_client_went_offline_meanwhile_is_over);
    tcase_add_test(tcase, a_publication_for_a_record_that_is_gone_is_over);
    tcase_add_test(tcase, a_publication_that_nobody_will_look_at_is_over);
    tcase_add_test(tcase, publications_that_are_refused_at_once_are_over);
    tcase_add_test(tcase, case_F5_a_broker_that_has_its_share_is_named);
    tcase_add_loop_test(tcase, case_F7_who_waits_is_told_whether_it_is_the_broker_or_the_sink, 0,
                        2);
}

int main(void) {
    Suite *suite = suite_create("worker_steps");
    TCase *tcase = tcase_create("host_steps");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_lease_is_looked_at_just_before_something_is_opened);
    tcase_add_loop_test(tcase, a_session_goes_with_its_broker_and_its_identifier, 0,
                        (int)(sizeof(changes) / sizeof(changes[0])));
    tcase_add_test(tcase, who_rests_in_conflict_rests_each_time_for_another_time);
    add_publications(tcase);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
