/* Tests of releases and handovers, with calls that fail, lose their reply, are late or run twice.
 */
#include "cluster/agent_fixture.h"

#define RETRY_MS   510   /* plus a margin, as in handover.c */
#define DRAIN_MS   2100  /* until a drain that is stuck goes on, plus a margin */
#define LEAVING_MS 15100 /* until a stop is requested again, plus a margin */

/* A member that is not alone: n2 has a heartbeat, and this node's heartbeat has reported it. */
static void begin(void) {
    joined("n2", "i2", 1000);
    become_member(RETRY_MS);
    wait_not_alone();
}

static void give_up(const char *id, int64_t epoch) {
    struct workers_release release = {.id = id,
                                      .epoch = epoch,
                                      .error = CLIENT_ERROR_CONNECTION_REFUSED,
                                      .message = "nobody listens"};
    agent_on_release_wanted(agent, &release);
}

/* One turn, in which releases are written if they are due. */
static void step(void) {
    ck_assert(turn());
    handover_step(agent);
}

static void step_until_written(void) {
    step();
    for (int i = 0; agent->releases || agent->handovers; i++) {
        ck_assert_msg(i < 1000, "not written after 1000 turns");
        clock_advance_ms(RETRY_MS);
        step();
    }
}

static void assert_owner(const char *id, const char *wanted) {
    struct store_client client;
    ck_assert_int_eq(store_get(store, id, &client), ERR_OK);
    ck_assert_str_eq(client.owner.node ? client.owner.node : "", wanted);
    store_client_fini(&client);
}

/* The number of failed attempts in Redis. */
static int64_t attempts(const char *id) {
    struct store_client client;
    ck_assert_int_eq(store_get(store, id, &client), ERR_OK);
    int64_t n = client.attempts;
    store_client_fini(&client);
    return n;
}

/* ---- clients that workers give back
 * -------------------------------------------------------------------- */

START_TEST(what_a_host_gives_up_waits_for_another_node) {
    begin();
    give_up("a", running("a"));
    step();
    ck_assert_int_eq(where("a"), STORE_WAITING);
    ck_assert_int_eq(attempts("a"), 1);
    ck_assert(!workers_double_runs("a", NULL));
    ck_assert_ptr_null(agent->releases);
}
END_TEST

START_TEST(a_release_that_fails_is_kept_and_not_tried_at_full_speed) {
    begin();
    give_up("a", running("a"));
    store_double_plan((struct store_plan){
        .script = "release", .times = 2, .fault = STORE_FAILS, .err = ERR_UNAVAILABLE});
    for (int i = 0; i < 50; i++) {
        step();
    }
    ck_assert_uint_eq(store_double_calls("release"), 1);
    ck_assert(handover_is_pending(agent, "a"));
    ck_assert(workers_double_runs("a", NULL));
    step_until_written();
    ck_assert_uint_eq(store_double_calls("release"), 3);
    ck_assert_int_eq(where("a"), STORE_WAITING);
}
END_TEST

/* Redis has executed the release, so the second call moves nothing; this is recognized and is not a
 * failed attempt. */
START_TEST(a_release_whose_reply_is_lost_is_one_release) {
    begin();
    give_up("a", running("a"));
    store_double_plan(
        (struct store_plan){.script = "release", .times = 1, .fault = STORE_REPLY_LOST});
    agent->reconcile_now = false;
    step_until_written();
    ck_assert_int_eq(where("a"), STORE_WAITING);
    ck_assert_int_eq(attempts("a"), 1);
    ck_assert(agent->reconcile_now); /* which stops what runs here */
}
END_TEST

START_TEST(a_release_that_runs_twice_is_one_release) {
    begin();
    give_up("a", running("a"));
    store_double_plan((struct store_plan){.script = "release", .fault = STORE_TWICE});
    step_until_written();
    ck_assert_int_eq(where("a"), STORE_WAITING);
    ck_assert_int_eq(attempts("a"), 1);
}
END_TEST

static struct store_member other;

/* Another node has reaped this one's client and owns it: the release comes too late. */
static void taken(void *context) {
    struct store_member self = me();
    ck_assert_uint_eq(release(self, "a", *(int64_t *)context, 0, false), 1);
    must_assign(other, "a");
}

START_TEST(what_another_node_owns_by_now_is_left_alone) {
    begin();
    other = member("n2", "i2");
    int64_t epoch = running("a");
    give_up("a", epoch);
    store_double_plan((struct store_plan){.script = "release",
                                          .times = 1,
                                          .fault = STORE_PASSES,
                                          .before = taken,
                                          .context = &epoch});
    step_until_written();
    ck_assert_int_eq(where("a"), STORE_OWNED);
    ck_assert_int_eq(attempts("a"), 0);
}
END_TEST

START_TEST(what_became_of_a_release_is_asked_until_it_is_known) {
    begin();
    give_up("a", running("a"));
    store_double_plan(
        (struct store_plan){.script = "release", .times = 1, .fault = STORE_REPLY_LOST});
    store_double_plan(
        (struct store_plan){.script = "ownership_status", .times = 2, .fault = STORE_FAILS});
    step_until_written();
    ck_assert_uint_eq(store_double_calls("ownership_status"), 3);
    ck_assert_int_eq(where("a"), STORE_WAITING);
}
END_TEST

START_TEST(the_newest_epoch_of_a_client_is_released_whatever_comes_last) {
    begin();
    int64_t old = running("a");
    struct store_member self = me();
    ck_assert_uint_eq(release(self, "a", old, 0, false), 1);
    int64_t new = must_assign(self, "a");
    workers_double_run("a", new, version_of("a"));
    give_up("a", new);
    give_up("a", old);
    step_until_written();
    ck_assert_int_eq(where("a"), STORE_WAITING);
}
END_TEST

START_TEST(a_node_that_is_alone_goes_on_trying) {
    become_member(RETRY_MS);
    for (int i = 0; !node_is_alone(node); i++) {
        ck_assert_int_lt(i, BOUND_MS / 10);
        clock_sleep_ms(10);
    }
    give_up("a", running("a"));
    step();
    ck_assert_uint_eq(workers_double_calls("retry", "a"), 1);
    ck_assert_uint_eq(store_double_calls("release"), 0);
    ck_assert_int_eq(where("a"), STORE_OWNED);
}
END_TEST

/* ---- clients that are stopped before they are released
 * ----------------------------------------------------- */

START_TEST(a_client_given_away_is_released_once_it_has_closed) {
    begin();
    running("a");
    workers_double_answers.holds = true;
    ck_assert_int_eq(agent_hand_over(agent, "a"), ERR_OK);
    step();
    ck_assert_str_eq(workers_double_last("stop"), "operator");
    for (int i = 0; i < 10; i++) {
        clock_advance_ms(RETRY_MS);
        step();
    }
    ck_assert_int_eq(where("a"), STORE_OWNED); /* still closing */
    workers_double_answers.holds = false;
    workers_double_closed("a");
    step_until_written();
    assert_owner("a", "n2"); /* in the same step */
    ck_assert_int_eq(attempts("a"), 0);
}
END_TEST

START_TEST(a_client_given_away_waits_if_its_target_takes_no_more) {
    begin();
    running("a");
    workers_double_answers.holds = true;
    ck_assert_int_eq(agent_hand_over(agent, "a"), ERR_OK);
    step();
    ck_assert_int_eq(store_drain(store, "n2", true), ERR_OK);
    workers_double_answers.holds = false;
    workers_double_closed("a");
    step_until_written();
    ck_assert_int_eq(where("a"), STORE_WAITING);
    ck_assert_int_eq(attempts("a"), 1); /* another node is preferred */
}
END_TEST

START_TEST(a_stop_for_which_there_was_no_room_is_asked_for_again) {
    begin();
    running("a");
    workers_double_answers.stop = ERR_FULL;
    ck_assert_int_eq(agent_hand_over(agent, "a"), ERR_OK);
    step();
    step();
    ck_assert_uint_eq(workers_double_calls("stop", "a"), 1);
    workers_double_answers.stop = ERR_OK;
    clock_advance_ms(LEAVING_MS);
    step();
    step_until_written();
    assert_owner("a", "n2");
}
END_TEST

/* The client has closed on this node, and Redis does not know it: only this node can restore it. */
START_TEST(a_client_that_redis_loses_while_it_leaves_is_put_back) {
    begin();
    running("a");
    workers_double_answers.holds = true;
    ck_assert_int_eq(agent_hand_over(agent, "a"), ERR_OK);
    step();
    RAW("FLUSHALL");
    wait_membership(NODE_LOST);
    become_member(RETRY_MS);
    store_double_plan((struct store_plan){.script = "restore", .times = 1, .fault = STORE_FAILS});
    store_double_plan(
        (struct store_plan){.script = "restore", .times = 1, .fault = STORE_REPLY_LOST});
    workers_double_answers.holds = false;
    workers_double_closed("a");
    step_until_written();
    ck_assert_int_eq(where("a"), STORE_OWNED);
    ck_assert_uint_ge(store_double_calls("restore"), 2);
    ck_assert(agent->reconcile_now);
}
END_TEST

/* Before the running clients have been compared with Redis. */
START_TEST(a_text_that_redis_loses_while_its_client_leaves_is_put_back) {
    begin();
    int64_t epoch = running("a");
    take_snapshot();
    int64_t version = must_update("a", "{\"newer\":1}", "a");
    workers_double_run("a", epoch, version);
    workers_double_answers.holds = true;
    ck_assert_int_eq(agent_hand_over(agent, "a"), ERR_OK);
    step();
    go_back();
    must_create("found-out-by-another");
    wait_membership(NODE_LOST);
    become_member(RETRY_MS);
    workers_double_answers.holds = false;
    workers_double_closed("a");
    step_until_written();
    ck_assert_int_eq(version_of("a"), version);
    ck_assert_int_eq(where("a"), STORE_OWNED); /* and it runs here again */
}
END_TEST

START_TEST(a_stable_client_is_noted_until_redis_has_it) {
    begin();
    int64_t epoch = running("a");
    struct store_member self = me();
    ck_assert_uint_eq(release(self, "a", epoch, 0, true), 1);
    running("b");
    must_assign(self, "a");
    ck_assert_int_eq(attempts("a"), 1);
    store_double_plan(
        (struct store_plan){.script = "mark_stable", .times = 1, .fault = STORE_FAILS});
    agent_on_client_stable(agent, "a");
    step();
    ck_assert_int_eq(attempts("a"), 1);
    clock_advance_ms(RETRY_MS);
    step();
    ck_assert_int_eq(attempts("a"), 0);
}
END_TEST

/* ---- drain ----------------------------------------------------------------------------------- */

static void begin_draining(size_t clients, int64_t room) {
    joined("n2", "i2", room);
    become_member(RETRY_MS);
    for (size_t i = 0; i < clients; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%zu", i);
        running(id);
    }
    ck_assert_int_eq(store_drain(store, "n1", true), ERR_OK);
    for (int i = 0; !node_is_draining(node); i++) {
        ck_assert_int_lt(i, BOUND_MS / 10);
        clock_sleep_ms(10);
    }
}

START_TEST(a_draining_node_gives_away_what_others_have_room_for) {
    begin_draining(20, 8);
    for (int i = 0; i < 5; i++) {
        drain_step(agent);
        step_until_written();
        clock_advance_ms(DRAIN_MS);
    }
    struct store_counts counts;
    ck_assert_int_eq(store_counts(store, &counts), ERR_OK);
    ck_assert_int_eq(counts.waiting, 0);
    ck_assert_int_eq(RAW_INT("LLEN", "node_bind:n2"), 8);
    ck_assert_uint_eq(workers_count(workers_double()), 12);
    drain_step(agent); /* nothing leaves any more */
    ck_assert_int_eq(agent->drain_wait, PLACEMENT_NO_ROOM);
}
END_TEST

/* No heartbeat has told the node of it yet. */
START_TEST(a_drain_that_was_cancelled_gives_nothing_away) {
    begin_draining(20, 100);
    store_double_plan(
        (struct store_plan){.script = "heartbeat", .times = 1000, .fault = STORE_FAILS});
    ck_assert_int_eq(store_drain(store, "n1", false), ERR_OK);
    drain_step(agent);
    ck_assert(node_is_draining(node));
    ck_assert_uint_eq(workers_double_calls("stop", NULL), 0);
}
END_TEST

START_TEST(clients_that_leave_already_count_as_soon_as_they_are_stopped) {
    begin_draining(20, 8);
    workers_double_answers.holds = true;
    drain_step(agent);
    drain_step(agent);
    ck_assert_uint_eq(workers_double_calls("stop", NULL), 8);
    workers_double_answers.holds = false;
    for (int i = 0; i < 8; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%d", i);
        workers_double_closed(id);
    }
    step_until_written();
    ck_assert_int_eq(RAW_INT("LLEN", "node_bind:n2"), 8);
}
END_TEST

START_TEST(a_draining_node_that_cannot_read_the_room_gives_nothing_away) {
    begin_draining(20, 100);
    store_double_plan((struct store_plan){.script = "nodes", .times = 1, .fault = STORE_FAILS});
    store_double_plan((struct store_plan){.script = "counts", .times = 1, .fault = STORE_FAILS});
    drain_step(agent);
    drain_step(agent);
    ck_assert_uint_eq(workers_double_calls("stop", NULL), 0);
    drain_step(agent);
    ck_assert_uint_eq(workers_double_calls("stop", NULL), 20);
}
END_TEST

/* ---- at random ------------------------------------------------------------------------------- */

/* Whatever fails, each client finally waits, was counted once, and no longer runs on this node
 * unless a reconciliation is due. */
START_TEST(every_client_given_up_waits_in_the_end_whatever_fails) {
    enum { CLIENTS = 450 };
    begin();
    for (int i = 0; i < CLIENTS; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%d", i);
        give_up(id, running(id));
    }
    agent->reconcile_now = false;
    store_double_random(0, 40);
    step_until_written();
    all_is_well();
    struct store_counts counts;
    ck_assert_int_eq(store_counts(store, &counts), ERR_OK);
    ck_assert_int_eq(counts.waiting, CLIENTS);
    ck_assert_int_eq(counts.owned, 0);
    for (int i = 0; i < CLIENTS; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%d", i);
        ck_assert_int_eq(attempts(id), 1);
        ck_assert(agent->reconcile_now || !workers_double_runs(id, NULL));
    }
}
END_TEST

static void add(TCase *tests) {
    tcase_add_test(tests, what_a_host_gives_up_waits_for_another_node);
    tcase_add_test(tests, a_release_that_fails_is_kept_and_not_tried_at_full_speed);
    tcase_add_test(tests, a_release_whose_reply_is_lost_is_one_release);
    tcase_add_test(tests, a_release_that_runs_twice_is_one_release);
    tcase_add_test(tests, what_another_node_owns_by_now_is_left_alone);
    tcase_add_test(tests, what_became_of_a_release_is_asked_until_it_is_known);
    tcase_add_test(tests, the_newest_epoch_of_a_client_is_released_whatever_comes_last);
    tcase_add_test(tests, a_node_that_is_alone_goes_on_trying);
    tcase_add_test(tests, a_client_given_away_is_released_once_it_has_closed);
    tcase_add_test(tests, a_client_given_away_waits_if_its_target_takes_no_more);
    tcase_add_test(tests, a_stop_for_which_there_was_no_room_is_asked_for_again);
    tcase_add_test(tests, a_client_that_redis_loses_while_it_leaves_is_put_back);
    tcase_add_test(tests, a_text_that_redis_loses_while_its_client_leaves_is_put_back);
    tcase_add_test(tests, a_stable_client_is_noted_until_redis_has_it);
    tcase_add_test(tests, a_draining_node_gives_away_what_others_have_room_for);
    tcase_add_test(tests, clients_that_leave_already_count_as_soon_as_they_are_stopped);
    tcase_add_test(tests, a_drain_that_was_cancelled_gives_nothing_away);
    tcase_add_test(tests, a_draining_node_that_cannot_read_the_room_gives_nothing_away);
    tcase_add_loop_test(tests, every_client_given_up_waits_in_the_end_whatever_fails, 0, 5);
}

int main(void) {
    return agent_fixture_run("releases", add);
}
