/* Tests of joining, of being fenced, and of a Redis that lost data, with calls that fail, lose
 * their reply, are late or run twice. */
#include "cluster/agent_fixture.h"

#define JOIN_RETRY_MS 250 /* and some: how far apart the turns are */
#define TURN_MS       (JOIN_RETRY_MS + 10)

static const char *registered(const char *name) {
    struct store_node *nodes;
    size_t n;
    static char incarnation[TEXT_ID_LEN];
    incarnation[0] = '\0';
    ck_assert_int_eq(store_nodes(store, TTL_MS, &nodes, &n, NULL), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(nodes[i].name, name) == 0) {
            snprintf(incarnation, sizeof incarnation, "%s", nodes[i].incarnation);
        }
    }
    store_nodes_free(nodes, n);
    return incarnation;
}

/* The node is a member, Redis has it, and the workers accept clients of exactly this incarnation.
 */
static void check_joined(void) {
    ck_assert_int_eq(node_membership(node), NODE_MEMBER);
    ck_assert_str_eq(registered("n1"), me().incarnation);
    ck_assert_str_eq(workers_double_last("accept"), me().incarnation);
    ck_assert(agent->reconcile_now);
    ck_assert_int_eq(agent->applied_rev, -1);
}

/* ---- joining ------------------------------------------------------------------------------- */

START_TEST(a_join_that_fails_is_tried_again_and_not_at_full_speed) {
    store_double_plan((struct store_plan){
        .script = "join", .times = 2, .fault = STORE_FAILS, .err = ERR_UNAVAILABLE});
    for (int i = 0; i < 50; i++) {
        ck_assert(!turn());
    }
    ck_assert_uint_eq(store_double_calls("join"), 1);
    ck_assert_uint_eq(workers_double_calls("accept", NULL), 0);
    become_member(TURN_MS);
    ck_assert_uint_eq(store_double_calls("join"), 3);
    check_joined();
}
END_TEST

/* The node is registered, but with an unknown incarnation: that heartbeat must expire first. */
START_TEST(a_join_whose_reply_is_lost_is_no_other_node_under_this_name) {
    store_double_plan((struct store_plan){.script = "join", .times = 1, .fault = STORE_REPLY_LOST});
    ck_assert(!turn());
    ck_assert_str_ne(registered("n1"), "");
    clock_advance_ms(TURN_MS);
    ck_assert(!turn());
    ck_assert(agent->name_taken_since_ms != 0);
    stop_beating(member("n1", ""));
    clock_advance_ms(TURN_MS);
    ck_assert(!turn()); /* silent from now on: the node waits for its lease */
    become_member(TURN_MS);
    ck_assert_ptr_null(agent_fault(agent));
    check_joined();
}
END_TEST

START_TEST(a_join_that_runs_twice_is_one_join) {
    store_double_plan((struct store_plan){.script = "join", .fault = STORE_TWICE});
    become_member(TURN_MS);
    ck_assert_uint_eq(workers_double_calls("accept", NULL), 1);
    check_joined();
}
END_TEST

START_TEST(a_live_node_under_this_name_is_a_fault_after_two_times_to_live) {
    joined("n1", "another", 10);
    int64_t bound_ms = 2 * conf->heartbeat_ttl_ms + 2 * conf->heartbeat_ms;
    ck_assert(!turn());
    clock_advance_ms(bound_ms - 1000);
    ck_assert(!turn());
    ck_assert_ptr_null(agent_fault(agent));
    clock_advance_ms(2000);
    ck_assert(!turn());
    ck_assert_ptr_nonnull(agent_fault(agent));
    ck_assert_str_eq(registered("n1"), "another");
}
END_TEST

/* While Redis was stopped, the other node's heartbeat could not expire either. */
START_TEST(the_time_of_slow_answers_is_no_proof_of_another_node) {
    joined("n1", "another", 10);
    store_double_plan((struct store_plan){
        .script = "join", .fault = STORE_LATE, .late_ms = conf->heartbeat_ttl_ms});
    for (int i = 0; i < 10; i++) {
        ck_assert(!turn());
        clock_advance_ms(TURN_MS);
    }
    ck_assert_uint_ge(store_double_calls("join"), 10);
    ck_assert_ptr_null(agent_fault(agent));
}
END_TEST

/* A process of this name that was not declared dead may hold its lease for GRACE_MS / 2. */
START_TEST(the_lease_of_an_earlier_process_is_waited_for) {
    struct store_member earlier = joined("n1", "earlier", 10);
    int64_t epoch = given(earlier, "a");
    stop_beating(earlier);
    ck_assert(!turn());
    clock_advance_ms(GRACE_MS / 2 - 100);
    ck_assert(!turn());
    ck_assert_uint_eq(store_double_calls("join"), 0);
    clock_advance_ms(TURN_MS);
    ck_assert(turn());
    ck_assert_int_eq(where("a"), STORE_WAITING);
    ck_assert_int_gt(epoch, 0);
}
END_TEST

/* The register could not be read, so it is unknown whether an earlier lease is still valid. The
 * join that follows in the same turn must then not succeed. */
START_TEST(a_register_that_cannot_be_read_is_no_licence_to_join) {
    struct store_member earlier = joined("n1", "earlier", 10);
    stop_beating(earlier);
    store_double_plan((struct store_plan){.fault = STORE_FAILS, .err = ERR_UNAVAILABLE});
    for (int i = 0; i < 20; i++) {
        ck_assert(!turn());
        clock_advance_ms(TURN_MS);
    }
    all_is_well();
    ck_assert(!turn());
    ck_assert_uint_eq(store_double_calls("join"), 0);
    become_member(TURN_MS);
    check_joined();
}
END_TEST

/* ---- fenced -------------------------------------------------------------------------------- */

/* Fences like the leader. */
static void fence_me(void) {
    struct store_member other = joined("n2", "i2", 10);
    struct store_member self = me();
    stop_beating(self);
    while (store_fence(store, &other, &self) != ERR_OK) { /* a heartbeat arrived in between */
        stop_beating(self);
    }
    wait_membership(NODE_FENCED);
}

START_TEST(a_fenced_node_drops_everything_before_it_joins_anew) {
    char before[TEXT_ID_LEN];
    become_member(TURN_MS);
    running("a");
    snprintf(before, sizeof before, "%s", me().incarnation);
    workers_double_answers.stop_all = ERR_TIMEOUT; /* still closing */
    fence_me();
    for (int i = 0; i < 3; i++) {
        ck_assert(!turn());
        clock_advance_ms(TURN_MS);
    }
    ck_assert_int_eq(node_membership(node), NODE_FENCED);
    ck_assert_uint_eq(workers_double_calls("stop_all", "fenced"), 3);
    ck_assert_uint_eq(store_double_calls("join"), 1);

    workers_double_answers.stop_all = ERR_OK;
    become_member(TURN_MS);
    ck_assert(!workers_double_runs("a", NULL));
    ck_assert_str_ne(me().incarnation, before);
    check_joined();
}
END_TEST

START_TEST(what_was_to_be_released_is_forgotten_when_fenced) {
    become_member(TURN_MS);
    int64_t epoch = running("a");
    joined("n2", "i2", 10);
    wait_not_alone();
    struct workers_release release = {
        .id = "a", .epoch = epoch, .error = CLIENT_ERROR_CONNECTION_REFUSED, .message = ""};
    agent_on_release_wanted(agent, &release);
    ck_assert(turn());
    ck_assert_ptr_nonnull(agent->releases);
    fence_me();
    ck_assert(!turn());
    ck_assert_ptr_null(agent->releases);
}
END_TEST

/* ---- Redis lost its data --------------------------------------------------------------------- */

static void lose_everything(void) {
    RAW("FLUSHALL");
    wait_membership(NODE_LOST);
}

START_TEST(a_node_that_redis_forgot_registers_under_the_same_incarnation) {
    char before[TEXT_ID_LEN];
    become_member(TURN_MS);
    running("a");
    agent->reconcile_now = false;
    snprintf(before, sizeof before, "%s", me().incarnation);
    lose_everything();
    store_double_plan((struct store_plan){.script = "join", .times = 3, .fault = STORE_REPLY_LOST});
    size_t forgotten = workers_double_calls("forget_saved", NULL);
    become_member(TURN_MS);
    ck_assert_str_eq(me().incarnation, before);
    ck_assert_uint_eq(workers_double_calls("forget_saved", NULL), forgotten + 1);
    ck_assert(workers_double_runs("a", NULL));
    ck_assert_uint_eq(workers_double_calls("stop_all", NULL), 0);
    check_joined();
}
END_TEST

START_TEST(a_node_that_was_declared_dead_while_redis_lost_its_data_drops_everything) {
    char before[TEXT_ID_LEN];
    become_member(TURN_MS);
    running("a");
    snprintf(before, sizeof before, "%s", me().incarnation);
    lose_everything();
    store_double_plan(
        (struct store_plan){.script = "join", .times = 1, .fault = STORE_FAILS, .err = ERR_FENCED});
    clock_advance_ms(TURN_MS);
    ck_assert(!turn());
    ck_assert_uint_eq(workers_double_calls("stop_all", "fenced"), 1);
    become_member(TURN_MS);
    ck_assert_str_ne(me().incarnation, before);
    check_joined();
}
END_TEST

/* The next incarnation restores the clients of a fenced one, including newer configurations;
 * clients deleted since then stay deleted. */
START_TEST(a_fenced_node_puts_back_what_redis_lost) {
    char before[TEXT_ID_LEN];
    become_member(TURN_MS);
    running("lost"), running("deleted");
    snprintf(before, sizeof before, "%s", me().incarnation);
    lose_everything();
    must_create("deleted");
    ck_assert_int_eq(store_delete(store, "deleted", 0, NULL), ERR_OK);
    store_double_plan(
        (struct store_plan){.script = "join", .times = 1, .fault = STORE_FAILS, .err = ERR_FENCED});
    clock_advance_ms(TURN_MS);
    ck_assert(!turn());
    become_member(TURN_MS);
    ck_assert_str_ne(me().incarnation, before);
    store_double_plan((struct store_plan){
        .script = "restore", .times = 1, .fault = STORE_FAILS, .err = ERR_UNAVAILABLE});
    salvage_step(agent);
    ck_assert_ptr_nonnull(agent->salvage); /* Redis did not answer */
    salvage_step(agent);
    ck_assert_ptr_null(agent->salvage);
    ck_assert_int_eq(RAW_INT("LLEN", "node_bind:n1"), 1);
    ck_assert_int_eq(RAW_INT("HEXISTS", "mqtt_config:use", "lost"), 1);
}
END_TEST

START_TEST(a_fenced_node_puts_nothing_back_that_redis_did_not_lose) {
    become_member(TURN_MS);
    running("a");
    fence_me();
    RAW("HDEL", "mqtt_config:no", "a"); /* by hand */
    RAW("HDEL", "mqtt_config:use", "a");
    become_member(TURN_MS);
    salvage_step(agent);
    ck_assert_ptr_null(agent->salvage);
    ck_assert_uint_eq(store_double_calls("restore"), 0);
}
END_TEST

/* It may have been deleted since, and the tombstone has expired. */
START_TEST(a_fenced_node_that_joins_late_puts_nothing_back) {
    become_member(TURN_MS);
    running("a");
    fence_me();
    store_double_plan((struct store_plan){
        .script = "join", .times = 1, .fault = STORE_FAILS, .err = ERR_UNAVAILABLE});
    ck_assert(!turn());
    ck_assert_ptr_nonnull(agent->salvage);
    RAW("FLUSHALL");
    clock_advance_ms(3600000);
    become_member(TURN_MS);
    salvage_step(agent);
    ck_assert_ptr_null(agent->salvage);
    ck_assert_uint_eq(store_double_calls("restore"), 0);
}
END_TEST

/* ---- at random ------------------------------------------------------------------------------- */

/* Whatever fails, the node is finally a member and the only one with its name. */
START_TEST(joining_comes_to_its_end_whatever_fails) {
    store_double_random(0, 40);
    for (int i = 0; !turn(); i++) {
        ck_assert_msg(i < 1000, "not a member after 1000 turns");
        if (agent->name_taken_since_ms != 0) {
            stop_beating(member("n1", "")); /* an unknown registration expires */
        }
        clock_advance_ms(TURN_MS);
    }
    ck_assert_ptr_null(agent_fault(agent));
    all_is_well();
    check_joined();
}
END_TEST

/* ---- the fleet's name ---------------------------------------------------------------------- */

static void name_fleet(const char *name) {
    free(conf->fleet_name);
    conf->fleet_name = strdup(name);
}

START_TEST(a_node_of_another_fleet_does_not_join_and_gives_up_at_its_start_F14) {
    char trouble[FLEET_FAULT_LEN];
    RAW("SET", "mqtt_fleet:name", "other");
    name_fleet("ours");
    ck_assert(!turn());
    ck_assert_ptr_nonnull(agent_fault(agent));
    ck_assert(agent_in_other_fleet(agent));
    agent_fleet_fault(agent, trouble);
    ck_assert_str_eq(trouble, "Redis belongs to fleet other, but this node to fleet ours");
    ck_assert_str_eq(registered("n1"), "");
    ck_assert_uint_eq(store_double_calls("join"), 0);
}
END_TEST

START_TEST(a_running_node_waits_for_its_own_fleet_F14) {
    name_fleet("ours");
    become_member(TURN_MS);
    ck_assert_str_eq(RAW_TEXT("GET", "mqtt_fleet:name"), "ours");
    RAW("FLUSHALL");
    RAW("SET", "mqtt_fleet:name", "other");
    RAW("SET", "mqtt_fleet:generation", "another");
    wait_membership(NODE_LOST);
    for (int i = 0; i < 5; i++) {
        clock_advance_ms(TURN_MS);
        ck_assert(!turn());
    }
    ck_assert_ptr_null(agent_fault(agent));
    ck_assert(agent_in_other_fleet(agent));
    ck_assert_str_eq(registered("n1"), "");
    RAW("DEL", "mqtt_fleet:name");
    become_member(TURN_MS);
    ck_assert(!agent_in_other_fleet(agent));
    RAW("SET", "mqtt_fleet:name", "other"); /* by hand: it is reported, and nothing else happens */
    membership_fleet_step(agent);
    ck_assert(agent_in_other_fleet(agent) && turn());
    RAW("SET", "mqtt_fleet:name", "ours");
    membership_fleet_step(agent);
    ck_assert(!agent_in_other_fleet(agent));
}
END_TEST

START_TEST(a_name_that_cannot_be_asked_for_is_no_reason_to_join_F14) {
    name_fleet("ours");
    RAW("SET", "mqtt_fleet:name", "other");
    store_double_plan((struct store_plan){
        .script = "publish_settings", .times = 2, .fault = STORE_FAILS, .err = ERR_UNAVAILABLE});
    for (int i = 0; i < 2; i++) {
        ck_assert(!turn());
        ck_assert_ptr_null(agent_fault(agent));
        clock_advance_ms(TURN_MS);
    }
    ck_assert(!turn());
    ck_assert_ptr_nonnull(agent_fault(agent));
    ck_assert_uint_eq(store_double_calls("join"), 0);
}
END_TEST

static void add(TCase *tests) {
    tcase_add_test(tests, a_node_of_another_fleet_does_not_join_and_gives_up_at_its_start_F14);
    tcase_add_test(tests, a_running_node_waits_for_its_own_fleet_F14);
    tcase_add_test(tests, a_name_that_cannot_be_asked_for_is_no_reason_to_join_F14);
    tcase_add_test(tests, a_join_that_fails_is_tried_again_and_not_at_full_speed);
    tcase_add_test(tests, a_join_whose_reply_is_lost_is_no_other_node_under_this_name);
    tcase_add_test(tests, a_join_that_runs_twice_is_one_join);
    tcase_add_test(tests, a_live_node_under_this_name_is_a_fault_after_two_times_to_live);
    tcase_add_test(tests, the_time_of_slow_answers_is_no_proof_of_another_node);
    tcase_add_test(tests, the_lease_of_an_earlier_process_is_waited_for);
    tcase_add_test(tests, a_register_that_cannot_be_read_is_no_licence_to_join);
    tcase_add_test(tests, a_fenced_node_drops_everything_before_it_joins_anew);
    tcase_add_test(tests, what_was_to_be_released_is_forgotten_when_fenced);
    tcase_add_test(tests, a_node_that_redis_forgot_registers_under_the_same_incarnation);
    tcase_add_test(tests, a_node_that_was_declared_dead_while_redis_lost_its_data_drops_everything);
    tcase_add_test(tests, a_fenced_node_puts_back_what_redis_lost);
    tcase_add_test(tests, a_fenced_node_puts_nothing_back_that_redis_did_not_lose);
    tcase_add_test(tests, a_fenced_node_that_joins_late_puts_nothing_back);
    tcase_add_loop_test(tests, joining_comes_to_its_end_whatever_fails, 0, 10);
}

int main(void) {
    return agent_fixture_run("membership", add);
}
