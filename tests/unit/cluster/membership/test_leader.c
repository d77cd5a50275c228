/* Tests of leading, fencing, reaping and adopting, with calls that fail, lose their reply, are late
 * or run twice. */
#include "cluster/agent_fixture.h"

#define PROBE_ADDRESS_CHECK_MS 250

static struct store_member dead; /* n2, which stops its heartbeats */

static bool leads(void) {
    return leader->role == STORE_ROLE_LEADER;
}

/* A leader n1, and n2 with `clients` of its own. */
static void begin(size_t clients) {
    become_member(PROBE_ADDRESS_CHECK_MS);
    lead_fleet();
    ck_assert(leads());
    dead = joined("n2", "i2", 1000);
    for (size_t i = 0; i < clients; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%zu", i);
        given(dead, id);
    }
}

/* Checks for `ms` of the clock; the heartbeat stays fresh by real time. */
static void look_for_ms(int64_t ms) {
    for (int64_t at = 0; at < ms; at += PROBE_ADDRESS_CHECK_MS) {
        clock_advance_ms(PROBE_ADDRESS_CHECK_MS);
        leader_check_step(leader);
    }
}

static enum store_node_state state_of(const char *name) {
    struct store_node *nodes;
    size_t n;
    int state = -1;
    ck_assert_int_eq(store_nodes(store, TTL_MS, &nodes, &n, NULL), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(nodes[i].name, name) == 0) {
            state = (int)nodes[i].state;
        }
    }
    store_nodes_free(nodes, n);
    return (enum store_node_state)state;
}

#define GONE ((enum store_node_state) - 1)

static void check_counts(int64_t waiting, int64_t owned) {
    struct store_counts counts;
    ck_assert_int_eq(store_counts(store, &counts), ERR_OK);
    ck_assert_int_eq(counts.waiting, waiting);
    ck_assert_int_eq(counts.owned, owned);
}

static void beat_again(void *context) {
    (void)context;
    RAW("SET", "beat:mqtt:n2", "i2", "PX", "60000");
}

/* ---- leading ------------------------------------------------------------------------------- */

START_TEST(a_leader_that_is_not_told_so_does_not_act_as_one) {
    begin(0);
    store_double_plan((struct store_plan){.script = "lead", .times = 1, .fault = STORE_REPLY_LOST});
    leader_election_step(leader);
    ck_assert(!leads());
    leader_election_step(leader);
    ck_assert(leads());
}
END_TEST

START_TEST(who_does_not_lead_looks_but_buries_nobody) {
    begin(3);
    struct store_member other = joined("n3", "i3", 10), self = me();
    enum store_role role;
    ck_assert_int_eq(store_resign(store, &self), ERR_OK);
    ck_assert_int_eq(store_lead(store, &other, 1500, "", &role), ERR_OK);
    lead_fleet();
    ck_assert_int_eq(leader->role, STORE_ROLE_STANDBY);
    stop_beating(dead);
    look_for_ms(3 * GRACE_MS);
    ck_assert_int_eq(state_of("n2"), STORE_NODE_LIVE);
    ck_assert_uint_eq(store_double_calls("fence"), 0);
    ck_assert_int_eq(store_resign(store, &other), ERR_OK);
    leader_election_step(leader); /* and now knows since when the heartbeat is missing */
    ck_assert(leads());
    leader_check_step(leader);
    ck_assert_int_eq(state_of("n2"), GONE);
    check_counts(3, 0);
}
END_TEST

/* ---- fencing --------------------------------------------------------------------------------- */

START_TEST(a_beat_that_comes_back_before_the_fence_saves_the_node) {
    begin(3);
    stop_beating(dead);
    store_double_plan((struct store_plan){
        .script = "fence", .times = 1, .fault = STORE_PASSES, .before = beat_again});
    look_for_ms(2 * GRACE_MS);
    ck_assert_uint_eq(store_double_calls("fence"), 1);
    ck_assert_int_eq(state_of("n2"), STORE_NODE_LIVE);
    check_counts(0, 3);
}
END_TEST

/* It is dead nevertheless, so it is reaped at the next check. */
START_TEST(a_fence_whose_reply_is_lost_is_followed_by_its_reaping) {
    begin(3);
    stop_beating(dead);
    store_double_plan(
        (struct store_plan){.script = "fence", .times = 1, .fault = STORE_REPLY_LOST});
    look_for_ms(GRACE_MS + PROBE_ADDRESS_CHECK_MS);
    ck_assert_int_eq(state_of("n2"), STORE_NODE_DEAD);
    ck_assert_uint_eq(store_double_calls("reap"), 0);
    look_for_ms(PROBE_ADDRESS_CHECK_MS);
    ck_assert_int_eq(state_of("n2"), GONE);
    check_counts(3, 0);
}
END_TEST

START_TEST(a_fence_that_fails_is_tried_at_the_next_look) {
    begin(3);
    stop_beating(dead);
    store_double_plan((struct store_plan){.script = "fence", .times = 3, .fault = STORE_FAILS});
    look_for_ms(GRACE_MS + 5 * PROBE_ADDRESS_CHECK_MS);
    ck_assert_uint_eq(store_double_calls("fence"), 4);
    check_counts(3, 0);
}
END_TEST

/* ---- checks that prove nothing ----------------------------------------------------------------
 */

START_TEST(a_look_that_fails_makes_the_grace_begin_anew) {
    begin(3);
    stop_beating(dead);
    look_for_ms(GRACE_MS - PROBE_ADDRESS_CHECK_MS);
    store_double_plan(
        (struct store_plan){.script = "find_missing", .times = 1, .fault = STORE_FAILS});
    look_for_ms(PROBE_ADDRESS_CHECK_MS);
    look_for_ms(GRACE_MS);
    ck_assert_int_eq(state_of("n2"), STORE_NODE_LIVE);
    look_for_ms(PROBE_ADDRESS_CHECK_MS);
    ck_assert_int_eq(state_of("n2"), GONE);
}
END_TEST

/* If an answer took half a time to live, the moment that it describes is unknown. */
START_TEST(a_look_that_comes_late_proves_nothing) {
    begin(3);
    stop_beating(dead);
    store_double_plan((struct store_plan){
        .script = "find_missing", .fault = STORE_LATE, .late_ms = BEAT_TTL_MS / 2});
    look_for_ms(10 * GRACE_MS);
    ck_assert_uint_eq(store_double_calls("fence"), 0);
    check_counts(0, 3);
}
END_TEST

/* ---- reaping --------------------------------------------------------------------------------- */

START_TEST(reaping_goes_on_where_a_reply_was_lost) {
    begin(2 * STORE_BATCH_MAX + 50);
    stop_beating(dead);
    store_double_plan(
        (struct store_plan){.script = "reap", .after = 1, .times = 1, .fault = STORE_REPLY_LOST});
    look_for_ms(GRACE_MS + PROBE_ADDRESS_CHECK_MS);
    check_counts(2 * STORE_BATCH_MAX, 50);
    ck_assert_int_eq(state_of("n2"), STORE_NODE_DEAD);
    look_for_ms(PROBE_ADDRESS_CHECK_MS);
    check_counts(2 * STORE_BATCH_MAX + 50, 0);
    ck_assert_int_eq(state_of("n2"), GONE);
}
END_TEST

START_TEST(reaping_that_runs_twice_moves_each_client_once) {
    begin(STORE_BATCH_MAX + 1);
    stop_beating(dead);
    store_double_plan((struct store_plan){.script = "reap", .fault = STORE_TWICE});
    look_for_ms(GRACE_MS + PROBE_ADDRESS_CHECK_MS);
    check_counts(STORE_BATCH_MAX + 1, 0);
    ck_assert_int_eq(state_of("n2"), GONE);
}
END_TEST

/* It joined again with another incarnation while the leader was about to reap the old one. */
static void join_anew(void *context) {
    (void)context;
    dead = joined("n2", "i2-again", 1000);
    given(dead, "new");
}

START_TEST(a_node_that_joins_anew_before_it_is_reaped_keeps_its_new_clients) {
    begin(3);
    stop_beating(dead);
    store_double_plan((struct store_plan){
        .script = "reap", .times = 1, .fault = STORE_PASSES, .before = join_anew});
    look_for_ms(3 * GRACE_MS);
    ck_assert_int_eq(state_of("n2"), STORE_NODE_LIVE);
    ck_assert_int_eq(where("new"), STORE_OWNED);
    check_counts(3, 1);
}
END_TEST

START_TEST(reaping_stops_when_the_leader_does) {
    begin(3 * STORE_BATCH_MAX);
    stop_beating(dead);
    look_for_ms(GRACE_MS - PROBE_ADDRESS_CHECK_MS);
    leader_stop(leader);
    look_for_ms(3 * PROBE_ADDRESS_CHECK_MS);
    ck_assert_uint_eq(store_double_calls("reap"), 0);
}
END_TEST

/* ---- orphans --------------------------------------------------------------------------------- */

START_TEST(orphans_are_adopted_once_redis_answers) {
    begin(1);
    RAW("HDEL", "mqtt_fleet:owner", "c0"); /* as Go IoT leaves them */
    RAW("DEL", "node_bind:n2");
    store_double_plan((struct store_plan){.script = "orphans", .times = 1, .fault = STORE_FAILS});
    leader_orphans_step(leader);
    check_counts(0, 1);
    store_double_plan(
        (struct store_plan){.script = "orphans", .times = 1, .fault = STORE_REPLY_LOST});
    for (int i = 0; i < 3; i++) {
        leader_orphans_step(leader);
    }
    check_counts(1, 0);
}
END_TEST

/* ---- at random ------------------------------------------------------------------------------- */

START_TEST(a_dead_nodes_clients_all_wait_in_the_end_whatever_fails) {
    begin(STORE_BATCH_MAX + 50);
    stop_beating(dead);
    store_double_random(0, 30);
    for (int i = 0; i < 2000 && state_of("n2") != GONE; i++) {
        leader_election_step(leader);
        look_for_ms(PROBE_ADDRESS_CHECK_MS);
    }
    all_is_well();
    ck_assert_int_eq(state_of("n2"), GONE);
    check_counts(STORE_BATCH_MAX + 50, 0);
}
END_TEST

static void add(TCase *tests) {
    tcase_add_test(tests, a_leader_that_is_not_told_so_does_not_act_as_one);
    tcase_add_test(tests, who_does_not_lead_looks_but_buries_nobody);
    tcase_add_test(tests, a_beat_that_comes_back_before_the_fence_saves_the_node);
    tcase_add_test(tests, a_fence_whose_reply_is_lost_is_followed_by_its_reaping);
    tcase_add_test(tests, a_fence_that_fails_is_tried_at_the_next_look);
    tcase_add_test(tests, a_look_that_fails_makes_the_grace_begin_anew);
    tcase_add_test(tests, a_look_that_comes_late_proves_nothing);
    tcase_add_test(tests, reaping_goes_on_where_a_reply_was_lost);
    tcase_add_test(tests, reaping_that_runs_twice_moves_each_client_once);
    tcase_add_test(tests, a_node_that_joins_anew_before_it_is_reaped_keeps_its_new_clients);
    tcase_add_test(tests, reaping_stops_when_the_leader_does);
    tcase_add_test(tests, orphans_are_adopted_once_redis_answers);
    tcase_add_loop_test(tests, a_dead_nodes_clients_all_wait_in_the_end_whatever_fails, 0, 5);
}

int main(void) {
    return agent_fixture_run("leader", add);
}
