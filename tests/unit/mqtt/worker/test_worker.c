/* A worker with a real mosquitto: the life of a client. */
#include "base/telemetry/log.h"
#include "mqtt/owner_fixture.h"

static struct fixture_broker broker;
static struct fixture *f;

static const char *const quick[] = {
    "reconnect_min_ms=50",     "reconnect_max_ms=400",    "stable_ms=1000",
    "connect_timeout_ms=1500", "conflict_min_ms=200",     "conflict_max_ms=2000",
    "release_after_ms=3000",   "publish_timeout_ms=2000", "node_info.name=test",
};

static void setup(void) {
    log_setup(LOG_ERROR, LOG_LOGFMT);
    broker_start(&broker);
    f = fixture_create(quick, sizeof(quick) / sizeof(quick[0]));
}

static void teardown(void) {
    fixture_destroy(f);
    broker_end(&broker);
}

#define SUB_ALL "\"subscriptions\":[{\"filter\":\"t/#\",\"qos\":2}]"

static void publish_from_outside(const char *topic, int qos, const char *text) {
    fixture_run("mosquitto_pub -h 127.0.0.1 -p %d -t '%s' -q %d -m '%s'", broker.port, topic, qos,
                text);
}

static void start_online(const char *id, const char *fields) {
    fixture_start(f, fixture_client(id, broker.port, fields), 1);
    EVENTUALLY(fixture_state(f, id) == CLIENT_ONLINE);
}

/* ---- publish through the workers ---- */

struct cli_wait_result {
    atomic_int count;
    struct publish_result result;
};

static void on_published(void *context, const struct publish_result *result) {
    struct cli_wait_result *wait_result = context;
    wait_result->result = *result;
    wait_result->count++;
}

static enum err publish(const char *id, const struct engine_publication *publication,
                        struct cli_wait_result *wait_result) {
    return workers_publish(f->workers, id, publication, on_published, wait_result);
}

static enum err publish_bytes(const char *id, const char *topic, const void *data, size_t len,
                              uint8_t qos, struct cli_wait_result *wait_result) {
    struct engine_publication publication = {
        .topic = topic, .payload = data, .payload_len = len, .qos = qos};
    return publish(id, &publication, wait_result);
}

START_TEST(properties_need_a_client_that_speaks_mqtt_5) {
    const struct message_property property = {.name = "content_type", .value = "x", .value_len = 1};
    struct engine_publication publication = {
        .topic = "t", .qos = 1, .properties = &property, .property_count = 1};
    struct cli_wait_result wait_result = {0};
    start_online("a", "\"protocol_version\":4," SUB_ALL);
    ck_assert_int_eq(publish("a", &publication, &wait_result), ERR_ARGUMENT);
    publication.property_count = 0;
    ck_assert_int_eq(publish("a", &publication, &wait_result), ERR_OK);
    EVENTUALLY(wait_result.count == 1);
}
END_TEST

/* ---- messages ---- */

static const uint8_t binary[] = {0, 1, 0xFF, 0xFE, 0, 'x', 0x80, 0xC0};

START_TEST(binary_messages_of_every_qos_arrive_unchanged_in_both_protocol_versions) {
    static const char *const versions[] = {"\"protocol_version\":4," SUB_ALL,
                                           "\"protocol_version\":5," SUB_ALL};
    start_online("a", versions[_i]);
    for (uint8_t qos = 0; qos <= 2; qos++) {
        char topic[16];
        struct cli_wait_result wait_result = {0};
        snprintf(topic, sizeof(topic), "t/%u", qos);
        ck_assert_int_eq(publish_bytes("a", topic, binary, sizeof(binary), qos, &wait_result),
                         ERR_OK);
        EVENTUALLY(wait_result.count == 1);
        ck_assert_int_eq(wait_result.result.err, ERR_OK);
        ck_assert_int_eq(wait_result.result.reason_code, 0);
        EVENTUALLY(fixture_kept(f, topic, binary, sizeof(binary)));
        ck_assert_uint_eq(f->kept[qos].message->qos, qos);
        ck_assert_str_eq(f->kept[qos].message->id, "a");
    }
}
END_TEST

START_TEST(properties_of_mqtt_5_go_out_and_come_in) {
    start_online("a", "\"protocol_version\":5," SUB_ALL);
    const struct message_property properties[] = {
        {.name = "content_type", .value = "text/x", .value_len = 6},
        {.name = "user_property", .key = "k", .value = "v", .value_len = 1},
        {.name = "correlation_data", .value = "\0\1\2", .value_len = 3},
        {.name = "payload_format_indicator", .value = "1", .value_len = 1},
    };
    struct engine_publication publication = {.topic = "t/p",
                                             .payload = (const uint8_t *)"x",
                                             .payload_len = 1,
                                             .qos = 1,
                                             .properties = properties,
                                             .property_count = 4};
    struct cli_wait_result wait_result = {0};
    ck_assert_int_eq(publish("a", &publication, &wait_result), ERR_OK);
    EVENTUALLY(fixture_kept(f, "t/p", "x", 1));
    const struct message *message = f->kept[0].message;
    ck_assert_uint_eq(message->property_count, 4);
    for (size_t i = 0; i < 4; i++) {
        bool found = false;
        for (size_t k = 0; k < 4; k++) {
            const struct message_property *got = &message->properties[k];
            found = found || (strcmp(got->name, properties[i].name) == 0 &&
                              got->value_len == properties[i].value_len &&
                              memcmp(got->value, properties[i].value, got->value_len) == 0);
        }
        ck_assert_msg(found, "%s", properties[i].name);
    }
    EVENTUALLY(wait_result.count == 1);
}
END_TEST

#define PERSISTENT "\"clean_start\":false,\"subscriptions\":[{\"filter\":\"t/#\",\"qos\":2}]"

/* QoS 1 and 2, in both versions: what the client sends once it has the message. */
static const struct held_case {
    int qos;
    const char *fields, *answer;
} held_cases[] = {
    {1, "\"protocol_version\":4," PERSISTENT, "Received PUBACK from held"},
    {1, "\"protocol_version\":5," PERSISTENT, "Received PUBACK from held"},
    {2, "\"protocol_version\":4," PERSISTENT, "Received PUBREC from held"},
    {2, "\"protocol_version\":5," PERSISTENT, "Received PUBREC from held"},
};

/* KNOWN-FAILURES 24 */
START_TEST(kf24_the_broker_hears_nothing_before_the_sink_accepted) {
    const struct held_case *held = &held_cases[_i];
    f->accept = false;
    start_online("held", held->fields);
    publish_from_outside("t/1", held->qos, "wait");
    EVENTUALLY(fixture_kept_count(f) == 1);
    usleep(300000); /* time for a wrong acknowledgement to be sent */
    ck_assert_int_eq(broker_logged(&broker, held->answer), 0);
    fixture_accept_kept(f, ERR_OK);
    EVENTUALLY(broker_logged(&broker, held->answer) == 1);
    if (held->qos == 2) {
        EVENTUALLY(broker_logged(&broker, "Received PUBCOMP from held") == 1);
    }
    ck_assert_uint_eq(fixture_kept_count(f), 1);
}
END_TEST

START_TEST(kf24_a_message_not_accepted_is_sent_again) {
    const struct held_case *held = &held_cases[_i];
    f->accept = false;
    start_online("held", held->fields);
    publish_from_outside("t/1", held->qos, "again");
    EVENTUALLY(fixture_kept_count(f) == 1);
    fixture_accept_kept(f, ERR_CANCELED);
    f->accept = true;
    EVENTUALLY(fixture_kept_count(f) == 2);
    EVENTUALLY(broker_logged(&broker, held->answer) == 1);
    ck_assert(f->kept[1].message->qos == 2 || f->kept[1].message->dup);
}
END_TEST

START_TEST(a_message_held_while_its_broker_dies_is_sent_again) {
    broker_stop(&broker);
    broker_configure(&broker, "allow_anonymous true\npersistence true\nautosave_interval 1\n"
                              "autosave_on_changes true\n");
    broker_run(&broker);
    f->accept = false;
    start_online("held", PERSISTENT);
    publish_from_outside("t/1", 1, "again");
    EVENTUALLY(fixture_kept_count(f) == 1);
    fixture_kill(&broker.pid, SIGTERM);
    fixture_accept_kept(f, ERR_OK);
    f->accept = true;
    broker_run(&broker);
    EVENTUALLY(broker_logged(&broker, "Received PUBACK from held") == 1);
    EVENTUALLY(fixture_state(f, "held") == CLIENT_ONLINE);
}
END_TEST

/* KNOWN-FAILURES 25 */
START_TEST(kf25_a_full_sink_holds_qos_1_and_loses_nothing) {
    f->full = true;
    start_online("held", PERSISTENT);
    for (int i = 0; i < 20; i++) {
        char text[8];
        snprintf(text, sizeof(text), "%d", i);
        publish_from_outside("t/1", 1, text);
    }
    EVENTUALLY(f->room_waits > 3);
    ck_assert_uint_eq(fixture_kept_count(f), 0);
    f->full = false;
    EVENTUALLY(fixture_kept_count(f) == 20);
    ck_assert_int_eq(fixture_state(f, "held"), CLIENT_ONLINE);
}
END_TEST

/* KNOWN-FAILURES 27 */
START_TEST(kf27_a_stalled_sink_keeps_the_host_from_nothing) {
    struct cli_wait_result wait_result = {0};
    f->accept = false;
    start_online("held", PERSISTENT);
    start_online("other", "");
    publish_from_outside("t/1", 1, "wait");
    EVENTUALLY(fixture_kept_count(f) == 1);
    /* Runs while the waiting message holds Paho's mutex. */
    ck_assert_int_eq(publish_bytes("other", "x", "x", 1, 1, &wait_result), ERR_OK);
    usleep(200000); /* time for the worker to block there */
    ck_assert_int_eq(workers_stop_all(f->workers, "fenced", false, 10000), ERR_OK);
    EVENTUALLY(wait_result.count == 1);
    ck_assert_int_eq(broker_logged(&broker, "Received PUBACK from held"), 0);
}
END_TEST

/* ---- subscriptions ---- */

/* KNOWN-FAILURES 19 */
START_TEST(kf19_every_subscription_is_back_after_the_broker_restarted) {
    char fields[8192] = "\"subscriptions\":[", *at = fields + strlen(fields);
    for (int i = 0; i < 150; i++) {
        at += sprintf(at, "%s{\"filter\":\"t/%d\",\"qos\":1}", i ? "," : "", i);
    }
    strcat(at, "]");
    start_online("many", fields);
    broker_stop(&broker);
    EVENTUALLY(fixture_state(f, "many") != CLIENT_ONLINE);
    broker_run(&broker);
    EVENTUALLY(fixture_state(f, "many") == CLIENT_ONLINE);
    struct client_status status;
    ck_assert_int_eq(workers_status(f->workers, "many", &status), ERR_OK);
    ck_assert_uint_eq(status.subscription_count, 150);
    for (size_t i = 0; i < 150; i++) {
        ck_assert_int_eq(status.subscriptions[i].granted, 1);
    }
    ck_assert_int_eq(status.reconnects, 1);
    client_status_fini(&status);
    publish_from_outside("t/149", 1, "back");
    EVENTUALLY(fixture_kept(f, "t/149", "back", 4));
}
END_TEST

/* Any client may subscribe to t/... and to nothing else. */
static void run_broker_that_refuses(void) {
    char path[128], extra[512];
    snprintf(path, sizeof(path), "%s/security.json", broker.folder);
    FILE *file = fopen(path, "w");
    fputs("{\"defaultACLAccess\":{\"publishClientSend\":true,\"publishClientReceive\":true,"
          "\"subscribe\":false,\"unsubscribe\":true},\"clients\":[],\"groups\":[{\"groupname\":"
          "\"all\",\"roles\":[{\"rolename\":\"r\"}]}],\"roles\":[{\"rolename\":\"r\",\"acls\":[{"
          "\"acltype\":\"subscribePattern\",\"topic\":\"t/#\",\"allow\":true}]}],"
          "\"anonymousGroup\":\"all\"}",
          file);
    fclose(file);
    snprintf(extra, sizeof(extra), "allow_anonymous true\nplugin %s\nplugin_opt_config_file %s\n",
             "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so", path);
    broker_stop(&broker);
    broker_configure(&broker, extra);
    broker_run(&broker);
}

START_TEST(kf19_a_refused_subscription_is_shown_and_the_rest_works) {
    static const char *const versions[] = {"4", "5"};
    char fields[256];
    run_broker_that_refuses();
    snprintf(fields, sizeof(fields),
             "\"protocol_version\":%s,\"subscriptions\":[{\"filter\":\"t/1\",\"qos\":1},"
             "{\"filter\":\"secret/#\",\"qos\":1}]",
             versions[_i]);
    start_online("a", fields);
    struct client_status status;
    ck_assert_int_eq(workers_status(f->workers, "a", &status), ERR_OK);
    ck_assert_int_eq(status.subscriptions[0].granted, 1);
    ck_assert_int_ge(status.subscriptions[1].granted, 0x80);
    ck_assert_str_eq(client_error_code(status.error), "subscription_refused");
    client_status_fini(&status);
    snprintf(fields, sizeof(fields),
             "\"protocol_version\":%s,\"subscriptions\":[{\"filter\":\"secret/1\",\"qos\":1}]",
             versions[_i]);
    start_online("all-refused", fields);
    EVENTUALLY(fixture_error_is(f, "all-refused", "subscription_refused"));
}
END_TEST

/* KNOWN-FAILURES 18, 22 */
START_TEST(kf18_changed_topics_are_subscribed_and_unsubscribed_in_place) {
    start_online("a", "\"subscriptions\":[{\"filter\":\"t/old\",\"qos\":1},"
                      "{\"filter\":\"t/both\",\"qos\":1}]");
    fixture_start(f,
                  fixture_client("a", broker.port,
                                 "\"subscriptions\":[{\"filter\":\"t/both\",\"qos\":1},"
                                 "{\"filter\":\"t/new\",\"qos\":1}]"),
                  2);
    EVENTUALLY(broker_logged(&broker, "Received UNSUBSCRIBE from a") == 1);
    struct client_status status = {0};
    EVENTUALLY((client_status_fini(&status), workers_status(f->workers, "a", &status) == ERR_OK) &&
               status.version == 2 && status.subscriptions[1].granted == 1);
    ck_assert_int_eq(status.subscriptions[0].granted, 1);
    ck_assert_int_eq(status.reconnects, 0);
    client_status_fini(&status);
    publish_from_outside("t/old", 1, "no");
    publish_from_outside("t/new", 1, "yes");
    EVENTUALLY(fixture_kept(f, "t/new", "yes", 3));
    ck_assert(!fixture_kept(f, "t/old", "no", 2));
    ck_assert_int_eq(broker_logged(&broker, "New client connected from 127.0.0.1:") -
                         broker_logged(&broker, " as mosq-") - broker_logged(&broker, " as auto-"),
                     1); /* without those of publish_from_outside */
}
END_TEST

START_TEST(an_older_version_is_ignored) {
    start_online("a", SUB_ALL);
    fixture_start(f, fixture_client("a", broker.port, "\"keepalive_s\":30"), 3);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
    fixture_start(f, fixture_client("a", broker.port, "\"keepalive_s\":40"), 2);
    struct client_status status = {0};
    EVENTUALLY((client_status_fini(&status), workers_status(f->workers, "a", &status) == ERR_OK) &&
               status.version == 3 && status.state == CLIENT_ONLINE);
    client_status_fini(&status);
    EVENTUALLY(broker_logged(&broker, "k30") == 1);
    ck_assert_int_eq(broker_logged(&broker, "k40"), 0);
}
END_TEST

/* ---- notifications ---- */

static void on_stopped(void *context) {
    (*(atomic_int *)context)++;
}

/* KNOWN-FAILURES 18 */
START_TEST(kf18_stop_sends_disconnect_and_forgets) {
    atomic_int stopped = 0;
    start_online("a", SUB_ALL);
    ck_assert_uint_eq(workers_count(f->workers), 1);
    ck_assert_int_eq(workers_stop(f->workers, "a", 1, "test", on_stopped, &stopped), ERR_OK);
    EVENTUALLY(stopped == 1);
    EVENTUALLY(workers_count(f->workers) == 0);
    EVENTUALLY(broker_logged(&broker, "Received DISCONNECT from a") == 1);
    ck_assert_int_eq(workers_stop(f->workers, "nobody", 0, "test", on_stopped, &stopped), ERR_OK);
    EVENTUALLY(stopped == 2);
}
END_TEST

START_TEST(start_right_after_stop_starts_anew) {
    start_online("a", SUB_ALL);
    ck_assert_int_eq(workers_stop(f->workers, "a", 1, "test", NULL, NULL), ERR_OK);
    ck_assert_int_eq(workers_start(f->workers, fixture_client("a", broker.port, SUB_ALL),
                                   &(struct workers_assignment){"inc", 2, 1, NULL}),
                     ERR_OK);
    struct client_status status = {0};
    EVENTUALLY((client_status_fini(&status), workers_status(f->workers, "a", &status) == ERR_OK) &&
               status.epoch == 2 && status.state == CLIENT_ONLINE);
    client_status_fini(&status);
}
END_TEST

START_TEST(a_stop_of_an_older_epoch_leaves_the_newer_alone) {
    atomic_int stopped = 0;
    ck_assert_int_eq(workers_start(f->workers, fixture_client("a", broker.port, SUB_ALL),
                                   &(struct workers_assignment){"inc", 5, 1, NULL}),
                     ERR_OK);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
    ck_assert_int_eq(workers_stop(f->workers, "a", 4, "test", on_stopped, &stopped), ERR_OK);
    EVENTUALLY(stopped == 1);
    ck_assert_int_eq(fixture_state(f, "a"), CLIENT_ONLINE);
}
END_TEST

START_TEST(a_client_that_is_being_stopped_runs_no_more) {
    atomic_int stopped = 0;
    struct workers_client running = {.id = "left alone"}, *rows;
    size_t n;
    ck_assert(!workers_has_client(f->workers, "a", &running));
    ck_assert_int_eq(workers_start(f->workers, fixture_client("a", broker.port, SUB_ALL),
                                   &(struct workers_assignment){"inc", 5, 7, NULL}),
                     ERR_OK);
    EVENTUALLY(workers_has_client(f->workers, "a", &running));
    ck_assert(running.epoch == 5 && running.version == 7 && !running.closing);
    ck_assert_str_eq(running.id, "left alone");
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
    ck_assert_int_eq(workers_list(f->workers, &rows, &n), ERR_OK);
    ck_assert(n == 1 && !rows[0].closing);
    workers_list_free(rows, n);
    ck_assert_int_eq(workers_stop(f->workers, "a", 5, "test", on_stopped, &stopped), ERR_OK);
    EVENTUALLY(!workers_has_client(f->workers, "a", &running));
    EVENTUALLY(stopped == 1);
    ck_assert(!workers_has_client(f->workers, "a", &running));
}
END_TEST

START_TEST(pause_disconnects_and_resume_connects) {
    start_online("a", SUB_ALL);
    fixture_start(f, fixture_client("a", broker.port, "\"desired\":\"paused\"," SUB_ALL), 2);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_PAUSED);
    EVENTUALLY(broker_logged(&broker, "Received DISCONNECT from a") == 1);
    ck_assert_int_eq(workers_restart(f->workers, "a", "test"), ERR_WRONG_STATE);
    fixture_start(f, fixture_client("a", broker.port, SUB_ALL), 3);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
}
END_TEST

START_TEST(restart_connects_anew) {
    start_online("a", SUB_ALL);
    ck_assert_int_eq(workers_restart(f->workers, "nobody", "test"), ERR_NOT_FOUND);
    ck_assert_int_eq(workers_restart(f->workers, "a", "test"), ERR_OK);
    struct client_status status = {0};
    EVENTUALLY((client_status_fini(&status), workers_status(f->workers, "a", &status) == ERR_OK) &&
               status.reconnects == 1);
    client_status_fini(&status);
    struct client_change changes[CLIENT_CHANGES_MAX];
    size_t n;
    ck_assert_int_eq(workers_changes(f->workers, "a", changes, &n), ERR_OK);
    ck_assert_uint_ge(n, 8);
    ck_assert_int_eq(changes[0].from, CLIENT_CLOSED);
    ck_assert_int_eq(changes[n - 1].to, CLIENT_ONLINE);
}
END_TEST

START_TEST(a_start_for_another_incarnation_is_refused) {
    ck_assert_int_eq(workers_start(f->workers, fixture_client("a", broker.port, ""),
                                   &(struct workers_assignment){"old", 1, 1, NULL}),
                     ERR_WRONG_STATE);
    ck_assert_uint_eq(workers_count(f->workers), 0);
}
END_TEST

START_TEST(stop_all_closes_everything_and_accepts_nothing_until_told) {
    for (int i = 0; i < 50; i++) {
        char id[16];
        snprintf(id, sizeof(id), "c%d", i);
        fixture_start(f, fixture_client(id, broker.port, SUB_ALL), 1);
    }
    EVENTUALLY(fixture_online_count(f) == 50);
    bool with_disconnect = _i == 1;
    ck_assert_int_eq(workers_stop_all(f->workers, "fenced", with_disconnect, 10000), ERR_OK);
    ck_assert_uint_eq(workers_count(f->workers), 0);
    EVENTUALLY(broker_logged(&broker, "Received DISCONNECT from c") == (with_disconnect ? 50 : 0));
    ck_assert_int_eq(workers_start(f->workers, fixture_client("a", broker.port, ""),
                                   &(struct workers_assignment){"inc", 1, 1, NULL}),
                     ERR_WRONG_STATE);
    workers_accept(f->workers, "next");
    ck_assert_int_eq(workers_start(f->workers, fixture_client("a", broker.port, ""),
                                   &(struct workers_assignment){"next", 1, 1, NULL}),
                     ERR_OK);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
}
END_TEST

START_TEST(the_hosts_can_be_ended_while_a_message_is_held) {
    f->accept = false;
    start_online("held", PERSISTENT);
    start_online("other", SUB_ALL);
    publish_from_outside("t/1", 1, "wait");
    EVENTUALLY(fixture_kept_count(f) >= 1);
    /* teardown ends them: it must not hang */
}
END_TEST

START_TEST(publishing_needs_a_client_that_is_online) {
    struct cli_wait_result wait_result = {0};
    ck_assert_int_eq(publish_bytes("nobody", "t/1", "x", 1, 1, &wait_result), ERR_NOT_FOUND);
    fixture_start(f, fixture_client("p", broker.port, "\"desired\":\"paused\""), 1);
    EVENTUALLY(fixture_state(f, "p") == CLIENT_PAUSED);
    ck_assert_int_eq(publish_bytes("p", "t/1", "x", 1, 1, &wait_result), ERR_WRONG_STATE);
    ck_assert_int_eq(wait_result.count, 0);
}
END_TEST

START_TEST(publications_end_with_the_connection_or_their_time) {
    struct cli_wait_result outcomes[150] = {0};
    start_online("a", "");
    kill(broker.pid, SIGSTOP);
    size_t taken = 0;
    for (size_t i = 0; i < 150; i++) {
        enum err err = publish_bytes("a", "t/1", "x", 1, 1, &outcomes[i]);
        ck_assert(err == ERR_OK || err == ERR_FULL);
        taken += err == ERR_OK;
    }
    ck_assert_uint_eq(taken, WORKER_PUBLICATIONS_MAX);
    EVENTUALLY(outcomes[0].count == 1 && outcomes[99].count == 1);
    ck_assert_int_eq(outcomes[0].result.err, ERR_TIMEOUT);
    kill(broker.pid, SIGCONT);
    EVENTUALLY(publish_bytes("a", "t/1", "x", 1, 1, &outcomes[149]) == ERR_OK);
    EVENTUALLY(outcomes[149].count == 1);
    ck_assert_int_eq(outcomes[149].result.err, ERR_OK);
    kill(broker.pid, SIGSTOP);
    ck_assert_int_eq(publish_bytes("a", "t/1", "x", 1, 1, &outcomes[148]), ERR_OK);
    kill(broker.pid, SIGKILL);
    EVENTUALLY(outcomes[148].count == 1);
    ck_assert(outcomes[148].result.err == ERR_UNAVAILABLE ||
              outcomes[148].result.err == ERR_WRONG_STATE);
    for (size_t i = 0; i < 148; i++) {
        ck_assert_int_eq(outcomes[i].count, i < 100);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("worker");
    TCase *tcase = tcase_create("host");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(
        tcase, binary_messages_of_every_qos_arrive_unchanged_in_both_protocol_versions, 0, 2);
    tcase_add_test(tcase, properties_of_mqtt_5_go_out_and_come_in);
    tcase_add_test(tcase, properties_need_a_client_that_speaks_mqtt_5);
    tcase_add_loop_test(tcase, kf24_the_broker_hears_nothing_before_the_sink_accepted, 0, 4);
    tcase_add_loop_test(tcase, kf24_a_message_not_accepted_is_sent_again, 0, 4);
    tcase_add_test(tcase, a_message_held_while_its_broker_dies_is_sent_again);
    tcase_add_test(tcase, kf25_a_full_sink_holds_qos_1_and_loses_nothing);
    tcase_add_test(tcase, kf27_a_stalled_sink_keeps_the_host_from_nothing);
    tcase_add_test(tcase, kf19_every_subscription_is_back_after_the_broker_restarted);
    tcase_add_loop_test(tcase, kf19_a_refused_subscription_is_shown_and_the_rest_works, 0, 2);
    tcase_add_test(tcase, kf18_changed_topics_are_subscribed_and_unsubscribed_in_place);
    tcase_add_test(tcase, an_older_version_is_ignored);
    tcase_add_test(tcase, kf18_stop_sends_disconnect_and_forgets);
    tcase_add_test(tcase, start_right_after_stop_starts_anew);
    tcase_add_test(tcase, a_stop_of_an_older_epoch_leaves_the_newer_alone);
    tcase_add_test(tcase, a_client_that_is_being_stopped_runs_no_more);
    tcase_add_test(tcase, pause_disconnects_and_resume_connects);
    tcase_add_test(tcase, restart_connects_anew);
    tcase_add_test(tcase, a_start_for_another_incarnation_is_refused);
    tcase_add_loop_test(tcase, stop_all_closes_everything_and_accepts_nothing_until_told, 0, 2);
    tcase_add_test(tcase, the_hosts_can_be_ended_while_a_message_is_held);
    tcase_add_test(tcase, publishing_needs_a_client_that_is_online);
    tcase_add_test(tcase, publications_end_with_the_connection_or_their_time);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
