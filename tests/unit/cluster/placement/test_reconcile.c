/* Tests of the comparison of running clients with Redis, with calls that fail, lose their reply,
 * are late or run twice. */
#include "cluster/agent_fixture.h"

#define REST_MS 1100 /* after which a pass is due again, however long the last one took */
#define FULL_MS 600100

static struct store_member other; /* n2 */

/* A member whose first pass has ended, and another member. */
static void begin(void) {
    other = joined("n2", "i2", 1000);
    become_member(REST_MS);
    reconcile_step(agent);
    ck_assert_int_eq(agent->applied_rev, rev_of("n1"));
}

/* One pass, as after a wake-up. */
static void reconcile(void) {
    agent->reconcile_now = true;
    clock_advance_ms(REST_MS);
    reconcile_step(agent);
}

/* A pass without a wake-up, `ms` later. */
static void reconcile_after(int64_t ms) {
    for (int64_t step; ms > 0; ms -= step) {
        step = ms > 10000 ? 10000 : ms;
        clock_advance_ms(step);
        node_set_applied_rev(node, agent->applied_rev);
    }
    agent->reconcile_now = false;
    reconcile_step(agent);
}

static void reconcile_until_applied(void) {
    for (int i = 0; agent->applied_rev != rev_of("n1"); i++) {
        ck_assert_msg(i < 200, "not applied after 200 passes");
        reconcile();
    }
}

/* Exactly the clients that Redis assigns to this node run here. */
static void check_same(void) {
    struct store_assignment *rows;
    struct store_set set;
    struct store_member self = me();
    size_t n;
    ck_assert_int_eq(store_list_assignments(store, &self, &rows, &n, &set), ERR_OK);
    ck_assert_uint_eq(workers_count(workers_double()), n);
    for (size_t i = 0; i < n; i++) {
        struct workers_client running = {.id = rows[i].id};
        ck_assert_msg(workers_has_client(workers_double(), rows[i].id, &running), "%s", rows[i].id);
        ck_assert_int_eq(running.epoch, rows[i].epoch);
        ck_assert_int_eq(running.version, rows[i].version);
    }
    store_assignments_free(rows, n);
}

static void give_many(struct store_member who, int from, int to) {
    for (int i = from; i < to; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%d", i);
        given(who, id);
    }
}

static void change(const char *id, const char *topic) {
    char config[200], identity[96];
    snprintf(
        config, sizeof config,
        "{\"id\":\"%s\",\"url\":\"mqtt://broker:1883\",\"subscriptions\":[{\"filter\":\"%s\"}]}",
        id, topic);
    snprintf(identity, sizeof identity, "broker:1883/%s", id);
    must_update(id, config, identity);
}

/* ---- changes -----------------------------------------------------------------------------------
 */

START_TEST(what_is_assigned_starts_with_its_change_and_not_with_a_call_each) {
    begin();
    give_many(me(), 0, 450);
    store_double_reset(agent_store);
    reconcile();
    check_same();
    ck_assert_int_eq(agent->applied_rev, rev_of("n1"));
    ck_assert_uint_eq(store_double_calls("get"), 0);
    ck_assert_uint_eq(store_double_calls("list_assignments"), 0);
    ck_assert_uint_le(store_double_calls("changes"), 5);
}
END_TEST

START_TEST(an_update_and_a_stop_are_changes_too) {
    begin();
    give_many(me(), 0, 3);
    reconcile();
    change("c0", "t");
    ck_assert_int_eq(store_delete(store, "c1", 0, NULL), ERR_OK);
    reconcile();
    check_same();
    ck_assert_str_eq(workers_double_last("stop"), "deleted");
    ck_assert(workers_double_runs("c0", NULL) && !workers_double_runs("c1", NULL));
}
END_TEST

START_TEST(changes_that_cannot_be_read_are_read_later) {
    static const enum store_fault FAULTS[] = {STORE_FAILS, STORE_REPLY_LOST, STORE_TWICE};
    begin();
    for (int i = 0; i < 3; i++) {
        give_many(me(), 10 * i, 10 * i + 5);
        store_double_plan((struct store_plan){.script = "changes", .times = 2, .fault = FAULTS[i]});
        reconcile();
        reconcile_until_applied();
        check_same();
    }
}
END_TEST

START_TEST(a_client_for_which_the_host_has_no_room_is_started_later) {
    begin();
    give_many(me(), 0, 5);
    workers_double_answers.start = ERR_FULL;
    reconcile();
    ck_assert_int_lt(agent->applied_rev, rev_of("n1"));
    ck_assert_uint_eq(workers_count(workers_double()), 0);
    workers_double_answers.start = ERR_OK;
    reconcile_until_applied();
    check_same();
}
END_TEST

START_TEST(what_is_missing_runs_on_until_redis_says_what_became_of_it) {
    begin();
    give_many(me(), 0, 2);
    reconcile();
    ck_assert_int_eq(store_delete(store, "c0", 0, NULL), ERR_OK);
    store_double_plan(
        (struct store_plan){.script = "ownership_status", .times = 3, .fault = STORE_FAILS});
    for (int i = 0; i < 3; i++) {
        reconcile();
        ck_assert(workers_double_runs("c0", NULL));
        ck_assert_int_lt(agent->applied_rev, rev_of("n1"));
    }
    reconcile();
    ck_assert(!workers_double_runs("c0", NULL));
    check_same();
}
END_TEST

START_TEST(a_client_that_another_node_has_by_now_is_stopped_here) {
    begin();
    int64_t epoch = given(me(), "c0");
    reconcile();
    ck_assert_uint_eq(release(me(), "c0", epoch, 0, false), 1);
    must_assign(other, "c0");
    reconcile();
    ck_assert(!workers_double_runs("c0", NULL));
    ck_assert_str_eq(workers_double_last("stop"), "owned_by_another_node");
}
END_TEST

/* Released and assigned to this node again: the newer epoch runs, without a stop in between. */
START_TEST(a_client_that_comes_back_goes_on_under_its_new_epoch) {
    begin();
    int64_t epoch = given(me(), "c0"), runs;
    reconcile();
    ck_assert_uint_eq(release(me(), "c0", epoch, 0, false), 1);
    epoch = must_assign(me(), "c0");
    reconcile();
    ck_assert(workers_double_runs("c0", &runs));
    ck_assert_int_eq(runs, epoch);
    ck_assert_uint_eq(workers_double_calls("stop", NULL), 0);
}
END_TEST

START_TEST(a_client_that_is_on_its_way_out_is_neither_started_nor_stopped) {
    begin();
    given(me(), "c0");
    reconcile();
    workers_double_answers.holds = true;
    ck_assert_int_eq(agent_hand_over(agent, "c0"), ERR_OK);
    ck_assert(turn());
    change("c0", "t");
    unsigned started = (unsigned)workers_double_calls("start", "c0");
    reconcile();
    ck_assert_uint_eq(workers_double_calls("start", "c0"), started);
    ck_assert_uint_eq(workers_double_calls("stop", "c0"), 1);
    workers_double_closed("c0");
}
END_TEST

START_TEST(a_change_that_was_not_noted_is_found_in_the_whole_list) {
    begin();
    given(me(), "c0");
    RAW("DEL", "mqtt_fleet:changed:n1"); /* as if a script of an older version had assigned it */
    RAW("INCR", "mqtt_fleet:rev:n1");
    reconcile();
    reconcile_until_applied();
    check_same();
}
END_TEST

START_TEST(a_configuration_that_cannot_be_run_is_given_back) {
    begin();
    RAW("HSET", "mqtt_config:no", "bad", "{\"id\":\"bad\",\"url\":7}");
    must_assign(me(), "bad");
    given(me(), "good");
    reconcile();
    ck_assert_int_eq(where("bad"), STORE_WAITING);
    ck_assert(workers_double_runs("good", NULL) && !workers_double_runs("bad", NULL));
}
END_TEST

/* ---- comparing ----------------------------------------------------------------------------- */

/* Silently ends a client that should run according to Redis. */
static void vanish(const char *id) {
    ck_assert_int_eq(workers_stop(workers_double(), id, 0, "by a fault", NULL, NULL), ERR_OK);
    ck_assert(!workers_double_runs(id, NULL));
}

START_TEST(case_G_what_vanished_without_a_change_is_found_by_comparing_the_sums) {
    begin();
    give_many(me(), 0, 3);
    reconcile();
    vanish("c1");
    reconcile_after(conf->reconcile_ms / 2);
    ck_assert(!workers_double_runs("c1", NULL));
    reconcile_after(conf->reconcile_ms);
    reconcile(); /* the first difference may be a client on its way out */
    reconcile();
    check_same();
}
END_TEST

START_TEST(case_G_what_runs_beyond_the_list_is_found_by_comparing_the_sums) {
    begin();
    give_many(me(), 0, 3);
    int64_t epoch = given(other, "theirs");
    reconcile();
    workers_double_run("theirs", epoch, version_of("theirs"));
    reconcile_after(conf->reconcile_ms);
    reconcile(); /* the first difference may be a client on its way out */
    reconcile();
    ck_assert(!workers_double_runs("theirs", NULL));
    check_same();
}
END_TEST

START_TEST(equal_sums_cost_one_call) {
    begin();
    give_many(me(), 0, 50);
    reconcile();
    reconcile_after(conf->reconcile_ms);
    store_double_reset(agent_store);
    for (int i = 0; i < 5; i++) {
        reconcile_after(conf->reconcile_ms);
    }
    ck_assert_uint_eq(store_double_calls(NULL), 5);
    ck_assert_uint_eq(store_double_calls("changes"), 5);
}
END_TEST

/* Both checksums are equal but wrong: an owner record was changed by hand. */
START_TEST(what_was_spoilt_by_hand_is_found_by_the_full_pass) {
    begin();
    give_many(me(), 0, 3);
    reconcile();
    RAW("HSET", "mqtt_fleet:owner", "c1",
        "{\"node\":\"n2\",\"incarnation\":\"i2\",\"epoch\":\"4000000000000000\",\"version\":1}");
    for (int i = 0; i < 3; i++) {
        reconcile_after(conf->reconcile_ms);
    }
    ck_assert(workers_double_runs("c1", NULL));
    reconcile_after(FULL_MS);
    ck_assert(!workers_double_runs("c1", NULL)); /* according to Redis, n2 owns it now */
}
END_TEST

START_TEST(a_full_pass_that_fails_leaves_the_next_one_due) {
    begin();
    give_many(me(), 0, 3);
    agent->applied_rev = -1;
    store_double_plan(
        (struct store_plan){.script = "list_assignments", .times = 2, .fault = STORE_REPLY_LOST});
    reconcile();
    ck_assert_int_eq(agent->applied_rev, -1);
    reconcile();
    ck_assert_int_eq(agent->applied_rev, -1);
    reconcile();
    check_same();
    ck_assert_int_eq(agent->applied_rev, rev_of("n1"));
}
END_TEST

START_TEST(a_pass_that_failed_is_not_tried_at_full_speed) {
    begin();
    give_many(me(), 0, 3);
    agent->applied_rev = -1;
    store_double_plan((struct store_plan){
        .script = "list_assignments", .fault = STORE_LATE, .err = ERR_TIMEOUT, .late_ms = 700});
    workers_double_answers.start = ERR_FULL;
    agent->reconcile_now = true;
    clock_advance_ms(REST_MS);
    for (int i = 0; i < 50; i++) {
        agent->reconcile_now = true;
        reconcile_step(agent);
    }
    ck_assert_uint_le(store_double_calls("list_assignments"), 3);
}
END_TEST

/* ---- Redis that went back ------------------------------------------------------------------ */

/* Redis loses everything since the snapshot; the node is notified and joins again. */
static void lose(void) {
    go_back();
    must_create("found-out-by-another");
    wait_membership(NODE_LOST);
    become_member(REST_MS);
}

START_TEST(case_F2_what_runs_and_redis_lost_is_put_back) {
    static const enum store_fault FAULTS[] = {STORE_PASSES, STORE_FAILS, STORE_REPLY_LOST,
                                              STORE_TWICE};
    begin();
    take_snapshot();
    give_many(me(), 0, 5);
    reconcile();
    lose();
    ck_assert_int_eq(where("c0"), STORE_ABSENT);
    store_double_plan((struct store_plan){.script = "restore", .times = 2, .fault = FAULTS[_i]});
    ck_assert(!node_lease_valid(node));
    reconcile();
    ck_assert_int_eq(node_lease_valid(node),
                     FAULTS[_i] != STORE_FAILS && FAULTS[_i] != STORE_REPLY_LOST);
    reconcile_until_applied();
    ck_assert(node_lease_valid(node));
    check_same();
    ck_assert_int_eq(where("c0"), STORE_OWNED);
    ck_assert_uint_eq(workers_count(workers_double()), 5);
    ck_assert_uint_eq(workers_double_calls("stop", NULL), 0);
}
END_TEST

START_TEST(many_that_redis_lost_are_put_back_with_few_calls) {
    enum { MANY = 2 * STORE_RESTORE_MAX + 5 };
    begin();
    take_snapshot();
    give_many(me(), 0, MANY);
    reconcile();
    lose();
    reconcile();
    ck_assert_uint_eq(store_double_calls("restore"), 3);
    reconcile_until_applied();
    check_same();
    ck_assert_uint_eq(workers_count(workers_double()), MANY);
    ck_assert_uint_eq(workers_double_calls("stop", NULL), 0);
}
END_TEST

START_TEST(one_that_cannot_be_put_back_holds_up_no_other) {
    begin();
    take_snapshot();
    give_many(me(), 0, 5);
    reconcile();
    lose();
    RAW("HSET", "mqtt_config:use", "c1", "{}");
    RAW("HSET", "mqtt_fleet:owner", "c1",
        "{\"node\":\"n9\",\"incarnation\":\"i9\",\"epoch\":\"1\",\"version\":1}");
    RAW("SET", "node_bind:n9", "of another type");
    reconcile();
    ck_assert_int_eq(RAW_INT("LLEN", "node_bind:n1"), 4);
    ck_assert(workers_double_runs("c1", NULL));
    RAW("DEL", "node_bind:n9");
    reconcile();
    reconcile_until_applied();
    check_same();
    ck_assert_int_eq(RAW_INT("LLEN", "node_bind:n1"), 5);
}
END_TEST

START_TEST(case_F1_a_newer_text_that_redis_lost_is_put_back) {
    begin();
    given(me(), "c0");
    reconcile();
    take_snapshot();
    change("c0", "newer");
    int64_t version = version_of("c0");
    reconcile();
    lose();
    ck_assert_int_lt(version_of("c0"), version);
    reconcile();
    reconcile_until_applied();
    ck_assert_int_eq(version_of("c0"), version);
    check_same();
}
END_TEST

START_TEST(case_F1_a_text_that_was_acknowledged_after_the_loss_runs) {
    begin();
    given(me(), "c0");
    reconcile();
    take_snapshot();
    change("c0", "lost");
    reconcile();
    go_back();
    clock_sleep_ms(2);
    change("c0", "acknowledged");
    int64_t version = version_of("c0");
    wait_membership(NODE_LOST);
    become_member(REST_MS);
    reconcile();
    reconcile_until_applied();
    struct workers_client running = {.version = 0};
    ck_assert(workers_has_client(workers_double(), "c0", &running));
    ck_assert_int_eq(running.version, version);
    check_same();
}
END_TEST

START_TEST(nothing_is_opened_while_others_may_still_put_back_what_they_run) {
    begin();
    given(me(), "runs");
    reconcile();
    given(me(), "new"); /* which this node has not read when Redis goes back */
    RAW("SET", "mqtt_fleet:restoring", "60000", "PX", "60000");
    reconcile();
    change("runs", "t");
    reconcile();
    ck_assert(workers_double_runs("runs", NULL) && !workers_double_runs("new", NULL));
    struct workers_client running = {.id = "runs"};
    ck_assert(workers_has_client(workers_double(), "runs", &running));
    ck_assert_int_eq(running.version, version_of("runs")); /* waiting clients do not delay others */
    ck_assert_int_lt(agent->applied_rev, rev_of("n1"));
    restoring_is_over();
    reconcile();
    reconcile_until_applied();
    check_same();
}
END_TEST

START_TEST(a_client_that_was_deleted_after_the_loss_is_stopped) {
    begin();
    given(me(), "c0");
    reconcile();
    ck_assert_int_eq(store_delete(store, "c0", 0, NULL), ERR_OK);
    RAW("FLUSHALL"); /* with the tombstone: the client is then restored */
    must_create("found-out-by-another");
    wait_membership(NODE_LOST);
    become_member(REST_MS);
    reconcile();
    ck_assert_int_eq(where("c0"), STORE_OWNED);
    ck_assert_int_eq(store_delete(store, "c0", 0, NULL), ERR_OK);
    reconcile();
    reconcile_until_applied();
    ck_assert(!workers_double_runs("c0", NULL));
    ck_assert_int_eq(where("c0"), STORE_ABSENT);
}
END_TEST

START_TEST(what_another_owns_with_a_newer_epoch_is_not_put_back_but_stopped) {
    begin();
    given(me(), "c0");
    reconcile();
    take_snapshot();
    go_back();
    ck_assert_uint_eq(release(me(), "c0", 0, 0, false), 0);
    struct store_client client;
    ck_assert_int_eq(store_get(store, "c0", &client), ERR_OK);
    ck_assert_uint_eq(release(me(), "c0", client.owner.epoch, 0, false), 1);
    store_client_fini(&client);
    must_assign(other, "c0");
    reconcile();
    reconcile_until_applied();
    ck_assert(!workers_double_runs("c0", NULL));
    ck_assert_int_eq(where("c0"), STORE_OWNED);
}
END_TEST

/* ---- at random ----------------------------------------------------------------------------- */

static uint64_t dice;

static unsigned roll(unsigned sides) {
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(dice >> 33) % sides;
}

/* An action of another process. */
static void something_happens(void) {
    char id[32];
    struct store_client client;
    snprintf(id, sizeof id, "c%u", roll(30));
    enum store_client_state now = where(id);
    switch (roll(5)) {
    case 0:
    case 1:
        if (now == STORE_ABSENT) {
            given(roll(4) ? me() : other, id);
        } else if (now == STORE_WAITING) {
            RAW("ZREM", "mqtt_fleet:retry", id);
            (void)assign(roll(4) ? me() : other, id, NULL);
        }
        return;
    case 2:
        if (now != STORE_ABSENT) {
            change(id, roll(2) ? "one" : "two");
        }
        return;
    case 3:
        if (now == STORE_OWNED && store_get(store, id, &client) == ERR_OK) {
            struct store_member owner = member(client.owner.node, client.owner.incarnation);
            (void)release(owner, id, client.owner.epoch, 0, false);
            store_client_fini(&client);
        }
        return;
    default:
        if (now != STORE_ABSENT && roll(3) == 0) {
            ck_assert_int_eq(store_delete(store, id, 0, NULL), ERR_OK);
        }
    }
}

START_TEST(in_the_end_what_runs_is_what_redis_says_whatever_fails) {
    begin();
    dice = (uint64_t)clock_us() + (uint64_t)_i;
    printf("dice=%" PRIu64 "\n", dice);
    store_double_random(0, 30);
    for (int i = 0; i < 150; i++) {
        for (unsigned n = roll(8); n > 0; n--) {
            something_happens();
        }
        workers_double_answers.start = roll(5) ? ERR_OK : ERR_FULL;
        workers_double_answers.list = roll(8) ? ERR_OK : ERR_MEMORY;
        workers_double_answers.stop = roll(8) ? ERR_OK : ERR_FULL;
        reconcile();
    }
    all_is_well();
    workers_double_answers = (struct workers_double_answers){0};
    for (int i = 0; i < 4; i++) {
        reconcile();
        reconcile_after(conf->reconcile_ms);
    }
    reconcile_until_applied();
    check_same();
}
END_TEST

static void add(TCase *tests) {
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, what_is_assigned_starts_with_its_change_and_not_with_a_call_each);
    tcase_add_test(tests, an_update_and_a_stop_are_changes_too);
    tcase_add_test(tests, changes_that_cannot_be_read_are_read_later);
    tcase_add_test(tests, a_client_for_which_the_host_has_no_room_is_started_later);
    tcase_add_test(tests, what_is_missing_runs_on_until_redis_says_what_became_of_it);
    tcase_add_test(tests, a_client_that_another_node_has_by_now_is_stopped_here);
    tcase_add_test(tests, a_client_that_comes_back_goes_on_under_its_new_epoch);
    tcase_add_test(tests, a_client_that_is_on_its_way_out_is_neither_started_nor_stopped);
    tcase_add_test(tests, a_change_that_was_not_noted_is_found_in_the_whole_list);
    tcase_add_test(tests, a_configuration_that_cannot_be_run_is_given_back);
    tcase_add_test(tests, case_G_what_vanished_without_a_change_is_found_by_comparing_the_sums);
    tcase_add_test(tests, case_G_what_runs_beyond_the_list_is_found_by_comparing_the_sums);
    tcase_add_test(tests, equal_sums_cost_one_call);
    tcase_add_test(tests, what_was_spoilt_by_hand_is_found_by_the_full_pass);
    tcase_add_test(tests, a_full_pass_that_fails_leaves_the_next_one_due);
    tcase_add_test(tests, a_pass_that_failed_is_not_tried_at_full_speed);
    tcase_add_loop_test(tests, case_F2_what_runs_and_redis_lost_is_put_back, 0, 4);
    tcase_add_test(tests, many_that_redis_lost_are_put_back_with_few_calls);
    tcase_add_test(tests, one_that_cannot_be_put_back_holds_up_no_other);
    tcase_add_test(tests, case_F1_a_newer_text_that_redis_lost_is_put_back);
    tcase_add_test(tests, case_F1_a_text_that_was_acknowledged_after_the_loss_runs);
    tcase_add_test(tests, nothing_is_opened_while_others_may_still_put_back_what_they_run);
    tcase_add_test(tests, a_client_that_was_deleted_after_the_loss_is_stopped);
    tcase_add_test(tests, what_another_owns_with_a_newer_epoch_is_not_put_back_but_stopped);
    tcase_add_loop_test(tests, in_the_end_what_runs_is_what_redis_says_whatever_fails, 0, 5);
}

int main(void) {
    return agent_fixture_run("reconcile", add);
}
