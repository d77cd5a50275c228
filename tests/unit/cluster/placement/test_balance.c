/* Tests of goals, quotas and obstacles of levelling, on plain arrays. */
#include "cluster/placement/balance.h"

#include <check.h>
#include <stdlib.h>

#define NODES_MAX 8

struct fleet {
    struct placement_node nodes[NODES_MAX];
    int64_t goals[NODES_MAX], quotas[NODES_MAX];
    size_t n;
    int64_t left;
};

static void add_node(struct fleet *fleet, const char *name, int64_t clients, int64_t size) {
    fleet->nodes[fleet->n++] = (struct placement_node){
        .name = name, .incarnation = name, .clients = clients, .size = size};
}

static void level(struct fleet *fleet) {
    fleet->left = balance_goals(fleet->nodes, fleet->n, fleet->goals);
}

START_TEST(nodes_become_level_with_the_fewest_moves) {
    static struct fleet fleet;
    fleet = (struct fleet){0};
    add_node(&fleet, "a", 0, 1000);
    add_node(&fleet, "b", 667, 1000);
    add_node(&fleet, "c", 668, 1000);
    add_node(&fleet, "d", 667, 1000);
    level(&fleet);
    ck_assert_int_eq(fleet.goals[0], 500);
    ck_assert_int_eq(fleet.goals[1], 501); /* two are left over: the fuller nodes keep them */
    ck_assert_int_eq(fleet.goals[2], 501);
    ck_assert_int_eq(fleet.goals[3], 500);
    ck_assert_int_eq(fleet.left, 500);
}
END_TEST

START_TEST(level_nodes_stay_as_they_are) {
    static struct fleet fleet;
    fleet = (struct fleet){0};
    add_node(&fleet, "a", 500, 1000);
    add_node(&fleet, "b", 501, 1000);
    add_node(&fleet, "c", 500, 1000);
    level(&fleet);
    ck_assert_int_eq(fleet.left, 0);
}
END_TEST

START_TEST(no_node_gets_more_than_its_size) {
    static struct fleet fleet;
    fleet = (struct fleet){0};
    add_node(&fleet, "large", 900, 1000);
    add_node(&fleet, "small", 0, 50);
    add_node(&fleet, "shrunk", 100, 20); /* its size was lowered */
    level(&fleet);
    ck_assert_int_eq(fleet.goals[0], 930);
    ck_assert_int_eq(fleet.goals[1], 50);
    ck_assert_int_eq(fleet.goals[2], 20);
    ck_assert_int_eq(fleet.left, 80);
}
END_TEST

START_TEST(without_room_for_all_nothing_moves) {
    static struct fleet fleet;
    fleet = (struct fleet){0};
    add_node(&fleet, "a", 100, 40);
    add_node(&fleet, "b", 0, 40);
    level(&fleet);
    ck_assert_int_eq(fleet.left, 0);
    ck_assert_int_eq(fleet.goals[0], 100);
    fleet.n = 0;
    level(&fleet);
    ck_assert_int_eq(fleet.left, 0);
}
END_TEST

/* All nodes that give compute their quotas separately, from the same list. */
START_TEST(what_all_give_together_is_exactly_what_is_missing) {
    for (unsigned seed = 1; seed <= 200; seed++) {
        static struct fleet fleet;
        int64_t got[NODES_MAX] = {0};
        fleet = (struct fleet){0};
        srand(seed);
        for (int i = 0; i < NODES_MAX; i++) {
            add_node(&fleet, "n", rand() % 300, 100 + rand() % 400);
        }
        level(&fleet);
        for (size_t from = 0; from < fleet.n; from++) {
            int64_t given = 0;
            balance_quotas(fleet.nodes, fleet.goals, fleet.n, from, fleet.quotas);
            for (size_t i = 0; i < fleet.n; i++) {
                ck_assert_int_ge(fleet.quotas[i], 0);
                given += fleet.quotas[i];
                got[i] += fleet.quotas[i];
            }
            int64_t excess = fleet.nodes[from].clients - fleet.goals[from];
            ck_assert_int_eq(given, excess > 0 ? excess : 0);
        }
        for (size_t i = 0; i < fleet.n; i++) {
            int64_t lacks = fleet.goals[i] - fleet.nodes[i].clients;
            ck_assert_int_eq(got[i], lacks > 0 ? lacks : 0);
        }
    }
}
END_TEST

/* ---- obstacles ------------------------------------------------------------------------------- */

static struct store_node registered(enum store_node_state state, bool heartbeat) {
    static char name[] = "n", incarnation[] = "i";
    return (struct store_node){
        .name = name, .incarnation = incarnation, .state = state, .heartbeat_valid = heartbeat};
}

static enum balance_obstacle obstacle(struct store_node second, int64_t incident_clients,
                                      int64_t waiting, bool restoring) {
    struct store_node nodes[] = {registered(STORE_NODE_LIVE, true), second};
    static struct placement_node eligible[2];
    bool both = second.state == STORE_NODE_LIVE && second.heartbeat_valid;
    eligible[0].clients = 20;
    eligible[0].facts.incident_clients = incident_clients;
    return balance_find_obstacle(&(struct balance_fleet){.registered = nodes,
                                                         .registered_count = 2,
                                                         .eligible = eligible,
                                                         .eligible_count = both ? 2 : 1,
                                                         .waiting = waiting,
                                                         .restoring = restoring});
}

START_TEST(nothing_moves_while_the_fleet_is_unwell) {
    struct store_node well = registered(STORE_NODE_LIVE, true);
    static char none[] = "";
    struct store_node foreign = registered(STORE_NODE_LIVE, false);
    foreign.incarnation = none; /* of another program */
    ck_assert_int_eq(obstacle(well, 0, 0, false), BALANCE_CLEAR);
    ck_assert_int_eq(obstacle(foreign, 0, 0, false), BALANCE_CLEAR);
    ck_assert_int_eq(obstacle(registered(STORE_NODE_DRAINING, true), 0, 0, false), BALANCE_CLEAR);
    ck_assert_int_eq(obstacle(well, 0, 0, true), BALANCE_RESTORING);
    ck_assert_int_eq(obstacle(registered(STORE_NODE_LIVE, false), 0, 0, false),
                     BALANCE_NODE_MISSING);
    ck_assert_int_eq(obstacle(registered(STORE_NODE_DEAD, false), 0, 0, false),
                     BALANCE_NODE_MISSING);
    ck_assert_int_eq(obstacle(registered(STORE_NODE_LEAVING, true), 0, 0, false),
                     BALANCE_NODE_LEAVING);
    ck_assert_int_eq(obstacle(well, 3, 0, false), BALANCE_INCIDENT);
    ck_assert_int_eq(obstacle(well, 2, 0, false), BALANCE_CLEAR);
    ck_assert_int_eq(obstacle(well, 0, 3, false), BALANCE_CLIENTS_WAIT);
}
END_TEST

START_TEST(a_node_that_is_behind_is_an_obstacle) {
    struct store_node nodes[] = {registered(STORE_NODE_LIVE, true),
                                 registered(STORE_NODE_LIVE, true)};
    static struct placement_node eligible[1];
    ck_assert_int_eq(
        balance_find_obstacle(&(struct balance_fleet){
            .registered = nodes, .registered_count = 2, .eligible = eligible, .eligible_count = 1}),
        BALANCE_NODE_BEHIND);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("balance");
    TCase *tests = tcase_create("balance");
    tcase_add_test(tests, nodes_become_level_with_the_fewest_moves);
    tcase_add_test(tests, level_nodes_stay_as_they_are);
    tcase_add_test(tests, no_node_gets_more_than_its_size);
    tcase_add_test(tests, without_room_for_all_nothing_moves);
    tcase_add_test(tests, what_all_give_together_is_exactly_what_is_missing);
    tcase_add_test(tests, nothing_moves_while_the_fleet_is_unwell);
    tcase_add_test(tests, a_node_that_is_behind_is_an_obstacle);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
