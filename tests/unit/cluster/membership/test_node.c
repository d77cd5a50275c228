/* Tests of heartbeats, their contents and their answers, and of the lease. */
#include "cluster/agent_fixture.h"
#include <semaphore.h>
#include "base/system/thread_watchdog.h"

#define STEP_MS 300

/* Polls by real time. */
#define SOON(condition)                                                                            \
    for (int tries = 0; !(condition); tries++) {                                                   \
        ck_assert_msg(tries < BOUND_MS / 10, "%s", #condition);                                    \
        clock_sleep_ms(10);                                                                        \
    }

static bool beats(void) {
    return RAW_INT("EXISTS", "beat:mqtt:n1") == 1;
}

/* Whether a heartbeat arrives within some periods of real time. */
static bool beats_again(void) {
    RAW("DEL", "beat:mqtt:n1");
    for (int i = 0; i < 50 && !beats(); i++) {
        clock_sleep_ms(10);
    }
    return beats();
}

/* ---- the agent that stalls ----------------------------------------------------------------- */

static sem_t agent_turn;
static atomic_bool agent_begun;

/* Makes progress only on request. */
static void *slow_agent(void *argument) {
    thread_watchdog_register("agent", INT64_MAX);
    agent_begun = true;
    sem_wait(&agent_turn);
    thread_watchdog_kick();
    sem_wait(&agent_turn);
    thread_watchdog_unregister();
    return argument;
}

START_TEST(a_node_whose_agent_stalls_stops_beating_until_it_goes_on) {
    become_member(STEP_MS);
    ck_assert(beats_again());
    pthread_t slow;
    sem_init(&agent_turn, 0, 0);
    pthread_create(&slow, NULL, slow_agent, NULL);
    SOON(agent_begun);
    clock_advance_ms(conf->stall_ms - 2000);
    ck_assert(beats_again());
    clock_advance_ms(2100);
    SOON((RAW("DEL", "beat:mqtt:n1"), clock_sleep_ms(250), !beats()));
    ck_assert(!beats_again());
    sem_post(&agent_turn);
    ck_assert(beats_again());
    ck_assert_int_eq(node_membership(node), NODE_MEMBER);
    sem_post(&agent_turn);
    pthread_join(slow, NULL);
}
END_TEST

/* ---- contents of heartbeats
 * ----------------------------------------------------------------------- */

static _Atomic int64_t told_lag_ms = -1;

static char *tell(void *context, int64_t lag_ms) {
    (void)context;
    told_lag_ms = lag_ms;
    return strdup("{\"lag_ms\":7,\"sinks\":[],\"keys\":[]}");
}

static int64_t reported_rev(void) {
    struct node_fleet_view view;
    node_fleet_view(node, &view);
    return view.rev;
}

START_TEST(a_beat_tells_for_how_long_a_change_has_not_been_applied) {
    node_set_facts_source(node, tell, NULL);
    become_member(STEP_MS);
    struct store_member self = me();
    SOON(reported_rev() == rev_of("n1"));
    node_set_applied_rev(node, rev_of("n1"));
    SOON(told_lag_ms == 0);
    given(self, "c0");
    SOON(reported_rev() == rev_of("n1"));
    clock_advance_ms(3000);
    SOON(told_lag_ms >= 3000);
    given(self, "c1"); /* later changes do not make it younger */
    SOON(reported_rev() == rev_of("n1"));
    clock_advance_ms(1000);
    SOON(told_lag_ms >= 4000);
    node_set_applied_rev(node, rev_of("n1"));
    SOON(told_lag_ms == 0);
    struct store_node *nodes;
    size_t n;
    ck_assert_int_eq(store_nodes(store, BEAT_TTL_MS, &nodes, &n, NULL), ERR_OK);
    ck_assert_str_eq(nodes[0].facts, "{\"lag_ms\":7,\"sinks\":[],\"keys\":[]}");
    store_nodes_free(nodes, n);
}
END_TEST

START_TEST(facts_go_with_the_beat_that_told_them) {
    node_set_facts_source(node, tell, NULL);
    become_member(STEP_MS);
    SOON(RAW_INT("EXISTS", "mqtt_fleet:facts:n1") == 1);
    ck_assert_int_gt(RAW_INT("PTTL", "mqtt_fleet:facts:n1"), 0);
}
END_TEST

/* ---- answers to heartbeats ----------------------------------------------------------------------
 */

START_TEST(a_node_learns_from_its_beat_that_redis_went_back_since_it_was_answered) {
    become_member(STEP_MS);
    take_snapshot();
    char *generation = strdup(RAW_TEXT("GET", "mqtt_fleet:generation"));
    node_set_applied_rev(node, 0);
    SOON(beats_again());
    go_back();
    wait_membership(NODE_LOST);
    ck_assert_str_ne(RAW_TEXT("GET", "mqtt_fleet:generation"), generation);
    free(generation);
    ck_assert(!node_lease_valid(node));
    become_member(STEP_MS);
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:restoring"), 1);
    /* Running clients may now belong to another node. */
    ck_assert(!node_lease_valid(node));
    ck_assert(!node_reconciled_since(node, 0));
    node_mark_reconciled(node);
    ck_assert(node_lease_valid(node));
    ck_assert(node_reconciled_since(node, 0));
    ck_assert(!node_reconciled_since(node, clock_ms() +
                                               BEAT_TTL_MS)); /* no heartbeat was sent since then */
}
END_TEST

/* The node's stores share their call numbers: the heartbeat reports a loss that another store has
 * noticed. */
START_TEST(a_node_is_told_of_a_loss_that_another_of_its_stores_noticed) {
    become_member(STEP_MS);
    take_snapshot();
    for (int i = 0; i < 2; i++) { /* a heartbeat in progress may not include the last one */
        ck_assert_int_eq(store_set_cooldown(agent_store, "nobody", 0, "", "", NULL), ERR_OK);
    }
    go_back();
    wait_membership(NODE_LOST);
}
END_TEST

/* The generation is then the one that this node knows, and only its own call numbers reveal the
 * loss. */
START_TEST(a_node_learns_of_a_loss_while_an_earlier_one_is_being_put_right) {
    become_member(STEP_MS);
    RAW("SET", "mqtt_fleet:restoring", "60000", "PX", "60000");
    take_snapshot();
    SOON(beats_again());
    go_back();
    wait_membership(NODE_LOST);
}
END_TEST

START_TEST(a_beat_tells_whether_a_leader_is_wanted_and_how_many_clients_there_are) {
    struct store_counts counts;
    become_member(STEP_MS);
    SOON(node_leader_wanted(node));
    lead_fleet();
    ck_assert_int_eq(node_role(node), STORE_ROLE_LEADER);
    must_create("x");
    given(me(), "y");
    SOON(node_fleet_counts(node, &counts) && counts.waiting == 1 && counts.owned == 1);
    clock_advance_ms(6000); /* the last heartbeat is too old until the next one arrives */
    SOON(node_fleet_counts(node, &counts));
}
END_TEST

START_TEST(a_node_is_alone_as_long_as_no_other_beats) {
    become_member(STEP_MS);
    SOON(node_is_alone(node));
    struct store_member other = joined("n2", "i2", 10);
    SOON(!node_is_alone(node)); /* it is registered, with or without a heartbeat */
    stop_beating(other);
    lead_fleet();
    leader_check_step(leader); /* a check corrects this */
    ck_assert(node_is_alone(node));
    joined("n2", "i2", 10);
    leader_check_step(leader);
    ck_assert(!node_is_alone(node));
}
END_TEST

START_TEST(a_beat_tells_how_many_nodes_the_fleet_has) {
    ck_assert_uint_eq(node_fleet_size(node), 0);
    become_member(STEP_MS);
    SOON(node_fleet_size(node) == 1);
    struct store_member other = joined("n2", "i2", 10);
    SOON(node_fleet_size(node) == 2);
    ck_assert_int_eq(store_leave(store, &other), ERR_OK);
    SOON(node_fleet_size(node) == 1);
}
END_TEST

START_TEST(draining_is_told_by_the_beat_and_outlives_an_incarnation) {
    become_member(STEP_MS);
    ck_assert_int_eq(store_drain(store, "n1", true), ERR_OK);
    SOON(node_is_draining(node));
    struct store_member self = me(), other = joined("n2", "i2", 10);
    do {
        stop_beating(self);
    } while (store_fence(store, &other, &self) != ERR_OK);
    wait_membership(NODE_FENCED);
    become_member(STEP_MS);
    ck_assert_str_ne(me().incarnation, "");
    SOON(node_is_draining(node));
}
END_TEST

/* ---- lease --------------------------------------------------------------------------------- */

START_TEST(the_lease_ends_before_anybody_may_fence) {
    become_member(STEP_MS);
    node_stop(node); /* no more beats */
    clock_sleep_ms(150);
    ck_assert(node_lease_valid(node));
    clock_advance_ms(BEAT_TTL_MS + GRACE_MS / 2 - 2000);
    ck_assert(node_lease_valid(node));
    clock_advance_ms(2000);
    ck_assert(!node_lease_valid(node));
}
END_TEST

/* A node that cannot reach a Redis with older data still has its lease. */
START_TEST(nothing_is_assigned_after_a_loss_while_an_earlier_lease_may_last) {
    struct conf settings = {
        .heartbeat_ms = 1000, .heartbeat_ttl_ms = 1200, .reclaim_grace_ms = 1500};
    ck_assert_int_eq(node_restoring_ms(&settings), 3000);
    settings.heartbeat_ttl_ms = 10000;
    ck_assert_int_eq(node_restoring_ms(&settings), 10750);
}
END_TEST

START_TEST(there_is_no_lease_outside) {
    ck_assert(!node_lease_valid(node));
    become_member(STEP_MS);
    ck_assert(node_lease_valid(node));
    node_set_outside(node);
    ck_assert(!node_lease_valid(node));
}
END_TEST

static void add(TCase *tests) {
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_node_whose_agent_stalls_stops_beating_until_it_goes_on);
    tcase_add_test(tests, a_beat_tells_for_how_long_a_change_has_not_been_applied);
    tcase_add_test(tests, facts_go_with_the_beat_that_told_them);
    tcase_add_test(tests, a_node_learns_from_its_beat_that_redis_went_back_since_it_was_answered);
    tcase_add_test(tests, a_node_is_told_of_a_loss_that_another_of_its_stores_noticed);
    tcase_add_test(tests, a_node_learns_of_a_loss_while_an_earlier_one_is_being_put_right);
    tcase_add_test(tests, a_beat_tells_whether_a_leader_is_wanted_and_how_many_clients_there_are);
    tcase_add_test(tests, a_node_is_alone_as_long_as_no_other_beats);
    tcase_add_test(tests, a_beat_tells_how_many_nodes_the_fleet_has);
    tcase_add_test(tests, draining_is_told_by_the_beat_and_outlives_an_incarnation);
    tcase_add_test(tests, the_lease_ends_before_anybody_may_fence);
    tcase_add_test(tests, nothing_is_assigned_after_a_loss_while_an_earlier_lease_may_last);
    tcase_add_test(tests, there_is_no_lease_outside);
}

int main(void) {
    return agent_fixture_run("node", add);
}
