/* Tests of the moves for the sake of balance: when a node begins, what it moves, when it stops. */
#include "cluster/agent_fixture.h"

#define SETTLE_MS 61000 /* the default, plus a margin */
#define STEP_MS   1000

/* n1 (this node) runs `clients`, and n2 has none. */
static void begin(int clients) {
    joined("n2", "i2", 1000);
    become_member(STEP_MS);
    for (int i = 0; i < clients; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%03d", i);
        running(id);
    }
}

/* The heartbeat has reported so many owned clients. */
static void wait_reported(int64_t owned) {
    struct node_fleet_view view;
    for (int i = 0;; i++) {
        node_fleet_view(node, &view);
        if (view.owned == owned && view.nodes == 2) {
            return;
        }
        ck_assert_int_lt(i, BOUND_MS / 10);
        clock_sleep_ms(10);
    }
}

static void step(void) {
    ck_assert(turn());
    handover_step(agent);
    rebalance_step(agent);
    for (int i = 0; i < 50 && (agent->handovers || agent->releases); i++) {
        ck_assert(turn());
        handover_step(agent);
        clock_advance_ms(20);
    }
}

/* What the last heartbeat said is never old. */
static void advance(void) {
    clock_advance_ms(STEP_MS);
    node_heartbeat_now(node);
    for (int i = 0; node_heartbeat_age_ms(node) >= STEP_MS / 2; i++) {
        ck_assert_int_lt(i, BOUND_MS);
        clock_sleep_ms(1);
    }
}

static void steps(int64_t ms) {
    for (; ms > 0; ms -= STEP_MS) {
        step();
        advance();
    }
}

static int64_t on(const char *name) {
    char key[64];
    snprintf(key, sizeof key, "node_bind:%s", name);
    return RAW_INT("LLEN", key);
}

/* Epochs are times of Redis: clients are as old as the fixture. They count as old enough. */
static void let_clients_be_old(void) {
    conf->rebalance_settle_ms = 0;
}

START_TEST(clients_move_slowly_until_the_nodes_are_level) {
    begin(60);
    wait_reported(60);
    let_clients_be_old();
    step();
    advance();
    step();
    ck_assert_int_gt(on("n2"), 0);
    ck_assert_int_le(on("n2"), 20); /* 10 per second */
    steps(20000);
    ck_assert_int_eq(on("n1"), 30);
    ck_assert_int_eq(on("n2"), 30);
    steps(20000);
    ck_assert_int_eq(on("n1"), 30);
    ck_assert_uint_eq(workers_double_calls("stop", NULL),
                      60); /* each twice: closed, then dropped */
}
END_TEST

START_TEST(nothing_moves_before_the_fleet_has_settled) {
    begin(60);
    wait_reported(60);
    conf->rebalance_settle_ms = 60000;
    steps(50000);
    ck_assert_int_eq(on("n2"), 0);
}
END_TEST

START_TEST(a_small_difference_is_tolerated) {
    begin(41);
    struct store_member n2 = {"n2", "i2"};
    for (int i = 0; i < 39; i++) {
        char id[32];
        snprintf(id, sizeof id, "d%03d", i);
        given(n2, id);
    }
    wait_reported(80);
    let_clients_be_old();
    steps(5000);
    ck_assert_int_eq(on("n1"), 41);
}
END_TEST

START_TEST(clients_without_a_session_move_only_if_all_may) {
    begin(40);
    wait_reported(40);
    let_clients_be_old();
    workers_double_answers.no_sessions = true;
    size_t listed = workers_double_calls("list", NULL);
    steps(20000);
    ck_assert_int_eq(on("n2"), 0);
    listed = workers_double_calls("list", NULL) - listed;
    ck_assert_msg(listed >= 1 && listed <= 5, "%zu times", listed); /* it rests in between */
    free(conf->rebalance);
    conf->rebalance = text_dup("all");
    steps(10000);
    ck_assert_int_eq(on("n2"), 20);
}
END_TEST

START_TEST(nothing_moves_if_it_is_off_or_the_fleet_is_unwell) {
    begin(40);
    wait_reported(40);
    let_clients_be_old();
    RAW("DEL", "beat:mqtt:n2");
    steps(5000);
    ck_assert_int_eq(on("n1"), 40);
    RAW("SET", "beat:mqtt:n2", "i2");
    RAW("PEXPIRE", "beat:mqtt:n2", "60000");
    free(conf->rebalance);
    conf->rebalance = text_dup("off");
    agent->rebalance.active = true; /* an operator's request has just ended */
    steps(5000);
    ck_assert_int_eq(on("n1"), 40);
}
END_TEST

/* Its target gives it back, for example because it cannot read its secrets. */
static void give_back_first_of_n2(void) {
    struct store_client client;
    ck_assert_int_eq(store_get(store, RAW_TEXT("LINDEX", "node_bind:n2", "0"), &client), ERR_OK);
    ck_assert_uint_eq(
        release((struct store_member){"n2", "i2"}, client.id, client.owner.epoch, 0, true), 1);
    int64_t epoch = must_assign(me(), client.id);
    workers_double_run(client.id, epoch, client.version);
    store_client_fini(&client);
}

static void delete_those_that_stayed(void) {
    for (int i = 0; i < 8; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%03d", i);
        if (workers_double_runs(id, NULL)) {
            ck_assert_int_eq(store_delete(store, id, 0, NULL), ERR_OK);
            ck_assert_int_eq(workers_stop(workers_double(), id, INT64_MAX, "deleted", NULL, NULL),
                             ERR_OK);
        }
    }
}

START_TEST(a_client_that_comes_back_is_not_moved_again) {
    begin(8);
    wait_reported(8);
    let_clients_be_old();
    steps(3000);
    ck_assert_int_eq(on("n2"), 4);
    delete_those_that_stayed();
    for (int i = 0; i < 4; i++) {
        give_back_first_of_n2();
    }
    steps(10000);
    ck_assert_int_eq(on("n1"), 4);
    ck_assert_int_eq(on("n2"), 0);
}
END_TEST

static void ask(int64_t owned) {
    struct node_fleet_view view = {0};
    ck_assert_int_eq(store_rebalance(store, 1000), ERR_OK);
    for (int i = 0; view.rebalance_rate == 0 || view.owned != owned; i++) {
        ck_assert_int_lt(i, BOUND_MS / 10);
        clock_sleep_ms(10);
        node_fleet_view(node, &view);
    }
}

/* Each move would renew the request. */
START_TEST(a_request_does_not_move_a_client_to_and_fro) {
    begin(8);
    ask(8);
    step();
    advance();
    step();
    ck_assert_int_eq(on("n2"), 4);
    delete_those_that_stayed();
    for (int i = 0; i < 4; i++) {
        give_back_first_of_n2();
    }
    ask(4);
    steps(10000);
    ck_assert_int_eq(on("n1"), 4);
}
END_TEST

START_TEST(an_operator_has_all_moved_at_once_and_exactly) {
    begin(41);
    workers_double_answers.no_sessions = true;
    ask(41);
    steps(3000);
    ck_assert_int_eq(on("n2"), 20);
    ck_assert_int_eq(on("n1"), 21);
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:rebalance"), 0); /* the request has ended */
}
END_TEST

static void add(TCase *tests) {
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, clients_move_slowly_until_the_nodes_are_level);
    tcase_add_test(tests, nothing_moves_before_the_fleet_has_settled);
    tcase_add_test(tests, a_small_difference_is_tolerated);
    tcase_add_test(tests, clients_without_a_session_move_only_if_all_may);
    tcase_add_test(tests, nothing_moves_if_it_is_off_or_the_fleet_is_unwell);
    tcase_add_test(tests, a_client_that_comes_back_is_not_moved_again);
    tcase_add_test(tests, an_operator_has_all_moved_at_once_and_exactly);
    tcase_add_test(tests, a_request_does_not_move_a_client_to_and_fro);
}

int main(void) {
    return agent_fixture_run("rebalance", add);
}
