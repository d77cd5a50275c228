#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "mqtt/worker/worker.h"
#include "mqtt/broker/incident.h"

static struct incidents *incidents;
static struct incident *incident;

static void setup(void) {
    incidents = incidents_create();
    for (int i = 0; i < 10; i++) {
        incident = incident_acquire(incidents, "b:1883");
    }
}

static void teardown(void) {
    incidents_destroy(incidents);
}

static void refused(uint64_t client, int64_t now_ms) {
    struct incident_failure failure = {client, CLIENT_ERROR_CONNECTION_REFUSED, NULL, true};
    incident_failed(incident, &failure, now_ms);
}

static void begin(int64_t now_ms) {
    for (uint64_t client = 1; client <= INCIDENT_CLIENTS_MIN; client++) {
        refused(client, now_ms);
    }
    ck_assert(incident_is_open(incident));
}

START_TEST(it_begins_when_several_clients_fail_in_a_row) {
    refused(1, 10000);
    refused(1, 11000);
    refused(1, 12000);
    refused(2, 13000);
    ck_assert(!incident_is_open(incident));
    incident_answered(incident, 4, 13500);
    refused(3, 14000);
    refused(1, 15000);
    ck_assert(!incident_is_open(incident));
    refused(2, 16000);
    ck_assert(incident_is_open(incident));
    ck_assert_uint_eq(incidents_snapshot(incidents, NULL, 0, 16000), 1);
}
END_TEST

static char reports[64]; /* a letter for each phase, and the number of clients */

static void on_report(void *context, const struct incident_report *report) {
    (void)context;
    size_t len = strlen(reports);
    snprintf(reports + len, sizeof reports - len, "%c%zu ", "B-EA"[report->phase],
             report -> view.clients);
}

START_TEST(each_begin_and_end_is_reported_once_and_each_minute) {
    reports[0] = '\0';
    incidents_observe(incidents, on_report, NULL);
    begin(10000);
    refused(7, 11000);
    incident_tick(incident, 80000);
    incident_online(incident, 4, 90000);
    incident_tick(incident, 90000 + INCIDENT_STABLE_MS);
    incident_tick(incident, 100000);
    ck_assert_str_eq(reports, "B10 -10 E10 ");
    incident_offline(incident, 4, 110000);
    begin(110000);
    for (int i = 0; i < 10; i++) {
        incident_release(incident);
    }
    ck_assert_str_eq(reports, "B10 -10 E10 B10 A0 ");
}
END_TEST

START_TEST(one_client_online_proves_that_the_broker_is_there) {
    incident_online(incident, 9, 10000);
    for (uint64_t client = 1; client < 9; client++) {
        refused(client, 11000);
    }
    ck_assert(!incident_is_open(incident));
    incident_offline(incident, 9, 12000);
    begin(13000);
}
END_TEST

START_TEST(two_clients_are_several_when_there_are_no_more_but_one_is_not) {
    struct incident *of_two = incident_acquire(incidents, "two:1");
    incident_acquire(incidents, "two:1");
    struct incident *of_one = incident_acquire(incidents, "one:1");
    struct incident_failure failure = {1, CLIENT_ERROR_TCP_TIMEOUT, "timed out", false};
    for (int i = 0; i < 5; i++) {
        incident_failed(of_two, &failure, 10000);
        incident_failed(of_one, &failure, 10000);
    }
    ck_assert(!incident_is_open(of_two));
    failure.client = 2;
    incident_failed(of_two, &failure, 10000);
    ck_assert(incident_is_open(of_two));
    ck_assert(!incident_is_open(of_one));
}
END_TEST

START_TEST(a_few_may_probe_each_second) {
    ck_assert(!incident_may_probe(incident, 9000));
    begin(10000);
    int probes = 0;
    for (int64_t now_ms = 10000; now_ms < 20000; now_ms += 10) {
        probes += incident_may_probe(incident, now_ms);
    }
    ck_assert_int_eq(probes, 10000 / INCIDENT_PROBE_MS);
}
END_TEST

START_TEST(case_D5_one_second_of_life_ends_it) {
    begin(10000);
    incident_answered(incident, 5, 20000);
    incident_online(incident, 5, 20100);
    incident_tick(incident, 21000);
    ck_assert(incident_is_open(incident));
    incident_tick(incident, 20100 + INCIDENT_STABLE_MS);
    ck_assert(!incident_is_open(incident));
    ck_assert_int_eq(incident_ended_at_ms(incident), 20100 + INCIDENT_STABLE_MS);
    ck_assert_uint_eq(incidents_snapshot(incidents, NULL, 0, 22000), 0);
}
END_TEST

START_TEST(case_D5_a_broker_that_is_back_for_half_a_second_ends_nothing) {
    begin(10000);
    for (uint64_t client = 4; client < 8; client++) {
        incident_answered(incident, client, 20000 + (int64_t)client);
        incident_online(incident, client, 20000 + (int64_t)client);
    }
    for (uint64_t client = 4; client < 8; client++) {
        incident_offline(incident, client, 20500);
    }
    refused(9, 20600);
    for (int64_t now_ms = 20000; now_ms < 40000; now_ms += 100) {
        incident_tick(incident, now_ms);
    }
    ck_assert(incident_is_open(incident));
}
END_TEST

START_TEST(answers_of_several_clients_for_a_while_end_it_too) {
    begin(10000);
    incident_answered(incident, 4, 20000);
    incident_answered(incident, 5, 20200);
    incident_answered(incident, 6, 20400);
    incident_tick(incident, 20500);
    ck_assert(incident_is_open(incident));
    refused(7, 20600);
    incident_answered(incident, 4, 21000);
    incident_answered(incident, 5, 21200);
    incident_answered(incident, 6, 21400);
    incident_tick(incident, 21000 + INCIDENT_ANSWERS_MS - 1);
    ck_assert(incident_is_open(incident));
    incident_tick(incident, 21000 + INCIDENT_ANSWERS_MS);
    ck_assert(!incident_is_open(incident));
}
END_TEST

START_TEST(answers_of_one_client_end_it_where_all_others_are_paused) {
    begin(10000);
    incident_answered(incident, 4, 20000);
    refused(4, 21000);
    incident_answered(incident, 4, 22000);
    incident_answered(incident, 4, 24000);
    incident_tick(incident, 26000);
    ck_assert(incident_is_open(incident));
    incident_answered(incident, 4, 28000);
    incident_tick(incident, 28000);
    ck_assert(!incident_is_open(incident));
}
END_TEST

/* The more specific errors differ only in their text. */
START_TEST(whatever_says_that_nobody_is_there_speaks_against_the_broker) {
    static const char *const codes[] = {"connection_refused", "connect_timeout",
                                        "server_unavailable"};
    size_t n = 0;
    for (enum client_error error = 0; error < CLIENT_ERROR_COUNT; error++) {
        const char *code = client_error_code(error);
        for (size_t i = 0; code && i < sizeof codes / sizeof *codes; i++) {
            if (strcmp(code, codes[i]) == 0) {
                ck_assert_msg(worker_is_broker_failure(error), "%s", client_error_name(error));
                n++;
            }
        }
    }
    ck_assert_uint_gt(n, 10);
    ck_assert(!worker_is_broker_failure(CLIENT_ERROR_TLS_CERTIFICATE_EXPIRED));
    ck_assert(!worker_is_broker_failure(CLIENT_ERROR_MQTT_BAD_CREDENTIALS));
}
END_TEST

/* A client that had nothing unacknowledged. */
static void lost(uint64_t client, int64_t now_ms) {
    incident_lost(incident, &(struct incident_loss){client, true, true}, now_ms);
}

START_TEST(case_A9_what_explains_a_loss) {
    ck_assert_int_eq(incident_explain(incident, 10000), INCIDENT_EXPLAINS_NOTHING);
    incident_online(incident, 1, 5000);
    lost(1, 10000);
    incident_offline(incident, 1, 10000);
    incident_online(incident, 1, 10100);
    lost(1, 10200);
    incident_offline(incident, 1, 10200);
    ck_assert_int_eq(incident_explain(incident, 10000),
                     INCIDENT_EXPLAINS_NOTHING); /* the only client: no other one confirms it */
    refused(2, 10300);
    ck_assert_int_eq(incident_explain(incident, 10000),
                     INCIDENT_EXPLAINS_UNREACHABLE); /* a refused connect does */
    ck_assert_int_eq(incident_explain(incident, 12000), INCIDENT_EXPLAINS_NOTHING);
    for (uint64_t client = 1; client < 9; client++) {
        incident_online(incident, client, 15000);
    }
    for (uint64_t client = 1; client < 8; client++) {
        lost(client, 20000);
        incident_offline(incident, client, 20000);
    }
    ck_assert_int_eq(incident_explain(incident, 20000),
                     INCIDENT_EXPLAINS_NOTHING); /* one is still there */
    lost(8, 20900);
    incident_offline(incident, 8, 20900);
    ck_assert_int_eq(incident_explain(incident, 20000), INCIDENT_EXPLAINS_ALL_LOST);
    ck_assert_int_eq(incident_explain(incident, 20900), INCIDENT_EXPLAINS_ALL_LOST);
    ck_assert_int_eq(incident_explain(incident, 22000), INCIDENT_EXPLAINS_NOTHING);
}
END_TEST

/* All of them had sent something that the broker may not accept. */
START_TEST(case_A3_losses_without_a_bystander_explain_nothing) {
    for (uint64_t client = 1; client < 9; client++) {
        incident_online(incident, client, 5000);
    }
    for (uint64_t client = 1; client < 9; client++) {
        incident_lost(incident, &(struct incident_loss){client, true, false}, 10000);
        incident_offline(incident, client, 10000);
    }
    ck_assert_int_eq(incident_explain(incident, 10000), INCIDENT_EXPLAINS_NOTHING);
    /* The next burst is a new one. */
    incident_online(incident, 1, 15000);
    incident_online(incident, 2, 15000);
    incident_lost(incident, &(struct incident_loss){1, true, false}, 20000);
    incident_offline(incident, 1, 20000);
    lost(2, 20100);
    incident_offline(incident, 2, 20100);
    ck_assert_int_eq(incident_explain(incident, 20000), INCIDENT_EXPLAINS_ALL_LOST);
}
END_TEST

START_TEST(clients_that_are_stopped_together_explain_nothing) {
    incident_online(incident, 1, 5000);
    incident_online(incident, 2, 5000);
    lost(1, 10000);
    incident_offline(incident, 1, 10000);
    incident_offline(incident, 2, 10100); /* paused */
    ck_assert_int_eq(incident_explain(incident, 10000), INCIDENT_EXPLAINS_NOTHING);
}
END_TEST

START_TEST(it_is_described_and_forgotten_with_its_last_client) {
    struct incident_view view;
    enum client_error error;
    char text[400];
    ck_assert(!incident_describe(incident, &error, text, sizeof text));
    begin(10000);
    incident_wait(incident, true);
    ck_assert(incident_describe(incident, &error, text, sizeof text));
    ck_assert_int_eq(error, CLIENT_ERROR_CONNECTION_REFUSED);
    ck_assert_ptr_nonnull(strstr(text, "Connection refused"));
    incident_failed(incident,
                    &(struct incident_failure){.client = 1, .error = CLIENT_ERROR_DNS_NAME_UNKNOWN},
                    10000);
    ck_assert(incident_describe(incident, &error, text, sizeof text));
    ck_assert_int_eq(error, CLIENT_ERROR_DNS_NAME_UNKNOWN); /* the last cause */
    ck_assert_ptr_null(strstr(text, "Connection refused"));
    ck_assert_uint_eq(incidents_snapshot(incidents, &view, 1, 10000), 1);
    ck_assert_str_eq(view.broker, "b:1883");
    ck_assert_uint_eq(view.clients, 10);
    struct incidents_sum sum = incidents_sum(incidents, 10000);
    ck_assert(sum.open == 1 && sum.clients == 10);
    sum = incidents_sum(incidents, 10000 + INCIDENT_FRESH_MS);
    ck_assert(sum.open == 1 && sum.clients == 0);
    ck_assert_uint_eq(view.waiting, 1);
    incident_wait(incident, false);
    for (int i = 0; i < 10; i++) {
        incident_release(incident);
    }
    ck_assert_uint_eq(incidents_snapshot(incidents, &view, 1, 10000), 0);
    ck_assert_int_eq(incidents_sum(incidents, 10000).clients, 0);
}
END_TEST

START_TEST(one_that_nobody_tries_any_more_is_not_told_of) {
    begin(10000);
    ck_assert_uint_eq(incidents_snapshot(incidents, NULL, 0, 10000 + INCIDENT_STALE_MS), 0);
    incident_wait(incident, true);
    ck_assert_uint_eq(incidents_snapshot(incidents, NULL, 0, 10000 + INCIDENT_STALE_MS), 1);
}
END_TEST

START_TEST(after_long_a_few_are_given_to_other_nodes_then_more) {
    int64_t at_ms[6];
    size_t n = 0;
    ck_assert(!incident_may_release(incident, 3000, 9000));
    begin(10000);
    for (int64_t now_ms = 10000; n < 6; now_ms += 100) {
        if (incident_may_release(incident, 3000, now_ms)) {
            at_ms[n++] = now_ms;
        }
    }
    static const int64_t expected_ms[] = {22000, 25000, 26500, 27500, 28500, 29500};
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(at_ms[i], expected_ms[i]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("incident");
    TCase *tcase = tcase_create("incident");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, it_begins_when_several_clients_fail_in_a_row);
    tcase_add_test(tcase, each_begin_and_end_is_reported_once_and_each_minute);
    tcase_add_test(tcase, one_client_online_proves_that_the_broker_is_there);
    tcase_add_test(tcase, two_clients_are_several_when_there_are_no_more_but_one_is_not);
    tcase_add_test(tcase, a_few_may_probe_each_second);
    tcase_add_test(tcase, case_D5_one_second_of_life_ends_it);
    tcase_add_test(tcase, case_D5_a_broker_that_is_back_for_half_a_second_ends_nothing);
    tcase_add_test(tcase, answers_of_several_clients_for_a_while_end_it_too);
    tcase_add_test(tcase, answers_of_one_client_end_it_where_all_others_are_paused);
    tcase_add_test(tcase, whatever_says_that_nobody_is_there_speaks_against_the_broker);
    tcase_add_test(tcase, case_A9_what_explains_a_loss);
    tcase_add_test(tcase, case_A3_losses_without_a_bystander_explain_nothing);
    tcase_add_test(tcase, clients_that_are_stopped_together_explain_nothing);
    tcase_add_test(tcase, it_is_described_and_forgotten_with_its_last_client);
    tcase_add_test(tcase, one_that_nobody_tries_any_more_is_not_told_of);
    tcase_add_test(tcase, after_long_a_few_are_given_to_other_nodes_then_more);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
