/* Tests of what is wrong with a fleet, on plain registers. */
#include "http/api/nodes/problems.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define NODES 2

static struct store_node nodes[NODES];
static struct placement_node eligible[NODES];
static struct store_vanished vanished[1];
static struct fleet_view view;
static char name_a[] = "a", name_b[] = "b", host_a[] = "ha", host_b[] = "hb", version[] = "1",
            later[] = "2", incarnation[] = "i", drained[] = "{\"drain_wait\":\"no_room\"}";

/* Two nodes of 1000 with 100 clients each; "a" leads, and all is well. */
static void begin(void) {
    memset(eligible, 0, sizeof eligible);
    nodes[0] = (struct store_node){.name = name_a,
                                   .host = host_a,
                                   .incarnation = incarnation,
                                   .version = version,
                                   .size = 1000,
                                   .clients = 100,
                                   .heartbeat_valid = true};
    nodes[1] = nodes[0];
    nodes[1].name = name_b;
    nodes[1].host = host_b;
    for (int i = 0; i < NODES; i++) {
        eligible[i].name = nodes[i].name;
        eligible[i].clients = 100;
        eligible[i].size = 1000;
    }
    view = (struct fleet_view){.nodes = nodes,
                               .n = NODES,
                               .leader = name_a,
                               .eligible = eligible,
                               .eligible_count = NODES};
}

/* The codes and severities, such as "no_leader:problem capacity:warning". */
static const char *found(void) {
    static char out[400];
    json_t *list = problems_of(&view), *row;
    size_t i;
    out[0] = '\0';
    json_array_foreach(list, i, row) {
        const char *cause = json_string_value(json_object_get(row, "cause"));
        ck_assert(cause && cause[0] != '\0' && json_object_get(row, "advice"));
        size_t len = strlen(out);
        snprintf(out + len, sizeof out - len, "%s%s:%s", len > 0 ? " " : "",
                 json_string_value(json_object_get(row, "code")),
                 json_string_value(json_object_get(row, "severity")));
    }
    json_decref(list);
    return out;
}

START_TEST(a_fleet_that_is_well_has_no_problem) {
    begin();
    ck_assert_str_eq(found(), "");
}
END_TEST

START_TEST(nodes_that_are_missing_or_gone_are_told) {
    begin();
    view.leader = NULL;
    nodes[1].heartbeat_valid = false;
    view.eligible_count = 1;
    ck_assert_str_eq(found(), "no_leader:problem node_missing:problem no_failover:warning");
    begin();
    view.shared.vanished = vanished;
    view.shared.vanished_count = 1;
    vanished[0] = (struct store_vanished){.node = "c", .ago_ms = 42000, .clients = 7};
    ck_assert_str_eq(found(), "node_vanished:problem");
    vanished[0].node = name_b; /* it is back */
    ck_assert_str_eq(found(), "node_returned:warning");
    nodes[1].heartbeat_valid = false; /* it is missing again: said once */
    view.eligible_count = 1;
    ck_assert_str_eq(found(), "node_missing:problem no_failover:warning");
}
END_TEST

START_TEST(drains_are_told_and_why_they_do_not_end) {
    begin();
    nodes[1].state = STORE_NODE_DRAINING;
    ck_assert_str_eq(found(), "node_draining:warning");
    nodes[1].facts = drained;
    ck_assert_str_eq(found(), "drain_stuck:warning");
    nodes[1].state = STORE_NODE_LEAVING;
    ck_assert_str_eq(found(), "node_leaving:warning");
}
END_TEST

START_TEST(a_fleet_that_does_not_survive_its_largest_node_is_told) {
    begin();
    eligible[0].clients = 901;
    ck_assert_str_eq(found(), "no_failover:warning"); /* 900 free on b */
    eligible[0].clients = 900;
    ck_assert_str_eq(found(), "");
    eligible[0].clients = 1000;
    eligible[1].clients = 900;
    ck_assert_str_eq(found(), "capacity:warning no_failover:warning");
}
END_TEST

START_TEST(drift_of_versions_and_addresses_and_brokers_is_told) {
    begin();
    nodes[1].version = later;
    ck_assert_str_eq(found(), "version_differs:warning");
    nodes[1].version = version;
    nodes[1].host = host_a;
    ck_assert_str_eq(found(), "address_shared:problem");
    nodes[1].host = host_b;
    eligible[1].facts.incidents = 2;
    ck_assert_str_eq(found(), "broker_unreachable:warning");
    eligible[0].facts.incidents = 1; /* one for all nodes */
    ck_assert_str_eq(found(), "broker_unreachable:warning");
}
END_TEST

START_TEST(a_key_that_only_some_nodes_have_is_told) {
    begin();
    for (int i = 0; i < NODES; i++) {
        eligible[i].facts.known = true;
        eligible[i].facts.key_count = 1;
        strcpy(eligible[i].facts.keys[0], "k1");
    }
    ck_assert_str_eq(found(), "");
    strcpy(eligible[0].facts.keys[0], "k2");
    ck_assert_str_eq(found(), "keys_differ:warning"); /* one for both keys */
    eligible[1].facts = (struct facts){0};            /* an older version does not say */
    ck_assert_str_eq(found(), "");
    eligible[1].facts.known = true;
    ck_assert_str_eq(found(), "keys_differ:warning");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("problems");
    TCase *tests = tcase_create("problems");
    tcase_add_test(tests, a_fleet_that_is_well_has_no_problem);
    tcase_add_test(tests, nodes_that_are_missing_or_gone_are_told);
    tcase_add_test(tests, drains_are_told_and_why_they_do_not_end);
    tcase_add_test(tests, a_fleet_that_does_not_survive_its_largest_node_is_told);
    tcase_add_test(tests, drift_of_versions_and_addresses_and_brokers_is_told);
    tcase_add_test(tests, a_key_that_only_some_nodes_have_is_told);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
