/* Tests of placing waiting clients, with calls that fail, lose their reply, are late or run twice.
 */
#include "cluster/agent_fixture.h"

#define ROUND_MS 600

static struct store_member second; /* n2 */

static const char *generation(void) {
    return RAW_TEXT("GET", "mqtt_fleet:generation");
}

static void beat_with(struct store_member who, const char *facts) {
    struct store_heartbeat beat;
    ck_assert_int_eq(store_heartbeat(store, &who, generation(), TTL_MS, facts, &beat), ERR_OK);
}

/* n1 leads, with room for `room`; n2 has room for 1000. */
static void begin(int64_t room) {
    become_member(ROUND_MS);
    struct store_member self = me();
    char generation_now[TEXT_ID_LEN];
    ck_assert_int_eq(try_join(self, room, generation_now), ERR_OK);
    lead_fleet();
    second = joined("n2", "i2", 1000);
}

static void waits(const char *id, const char *more) {
    char config[256], identity[96];
    snprintf(config, sizeof config, "{\"id\":\"%s\",\"url\":\"mqtt://broker:1883\"%s}", id, more);
    snprintf(identity, sizeof identity, "broker:1883/%s", id);
    ck_assert_int_eq(create(id, config, identity).outcome, STORE_CREATED);
}

static void wait_many(int n) {
    for (int i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%d", i);
        waits(id, "");
    }
}

static int64_t owned_by(const char *name) {
    char key[64];
    snprintf(key, sizeof key, "node_bind:%s", name);
    return RAW_INT("LLEN", key);
}

static int64_t waiting(void) {
    return RAW_INT("HLEN", "mqtt_config:no");
}

/* Runs rounds until one finds nothing to do. */
static void schedule(void) {
    for (int i = 0; scheduler_round(leader); i++) {
        ck_assert_int_lt(i, 100);
    }
}

/* ---- where clients go ---------------------------------------------------------------------- */

START_TEST(clients_end_level_and_no_node_is_asked_anything) {
    begin(1000);
    wait_many(450);
    schedule();
    ck_assert_int_eq(waiting(), 0);
    ck_assert_int_eq(owned_by("n1"), 225);
    ck_assert_int_eq(owned_by("n2"), 225);
    ck_assert_str_eq(leader->unplaced_json, "{}");
}
END_TEST

START_TEST(what_finds_no_room_waits_and_is_counted_with_its_reason) {
    static const char wanted[] =
        "{\"no_room\":3,\"no_node_has_sink\":1,\"not_before\":1,\"bad_config\":1}";
    begin(2);
    second = joined("n2", "i2", 1);
    wait_many(6);
    waits("sink", ",\"sink\":\"file\"");
    beat_with(me(), "{\"sinks\":[{\"name\":\"redis_stream\"}],\"keys\":[]}");
    beat_with(second, "{\"sinks\":[{\"name\":\"redis_stream\"}],\"keys\":[]}");
    node_stop(node); /* its own heartbeat has no facts, and would count as able */
    clock_sleep_ms(100);
    beat_with(me(), "{\"sinks\":[{\"name\":\"redis_stream\"}],\"keys\":[]}");
    schedule();
    waits("later", "");
    ck_assert_int_eq(store_set_cooldown(store, "later", 60000, "x", "y", NULL), ERR_OK);
    RAW("HSET", "mqtt_config:no", "bad", "{");
    store_double_reset(agent_store);
    ck_assert(
        !scheduler_round(leader)); /* no node has room: the clients are not read again and again */
    ck_assert_uint_eq(store_double_calls("page"), 0);
    clock_advance_ms(5000);
    (void)scheduler_round(leader); /* records the failure, so the client is deferred */
    ck_assert_uint_gt(store_double_calls("page"), 0);
    ck_assert_int_eq(waiting(), 6);
    ck_assert_msg(strstr(leader->unplaced_json, "\"no_room\":3") &&
                      strstr(leader->unplaced_json, "\"no_node_has_sink\":1") &&
                      strstr(leader->unplaced_json, "\"not_before\":1") &&
                      strstr(leader->unplaced_json, "\"bad_config\":1"),
                  "%s, not %s", leader->unplaced_json, wanted);
    ck_assert_int_eq(owned_by("n1"), 2);
    ck_assert_int_eq(owned_by("n2"), 1);
}
END_TEST

START_TEST(a_missing_profile_is_not_looked_for_once_per_client) {
    begin(1000);
    for (int i = 0; i < 150; i++) {
        char id[32];
        snprintf(id, sizeof id, "p%d", i);
        waits(id, ",\"profile\":\"none\"");
    }
    store_double_reset(agent_store);
    (void)scheduler_round(leader);
    size_t calls = store_double_calls("list_resources");
    ck_assert_msg(calls >= 1 && calls <= 75, "%zu calls", calls);
    ck_assert_int_eq(waiting(), 150);
}
END_TEST

START_TEST(a_profile_that_could_not_be_read_does_not_make_its_client_invalid) {
    begin(1000);
    waits("p", ",\"profile\":\"unread\"");
    store_double_reset(agent_store);
    store_double_plan((struct store_plan){.script = "list_resources", .fault = STORE_FAILS});
    (void)scheduler_round(leader);
    ck_assert_uint_ge(store_double_calls("list_resources"), 1);
    ck_assert_int_eq(RAW_INT("ZCARD", "mqtt_fleet:retry"), 0);
}
END_TEST

START_TEST(clients_that_all_rest_are_looked_at_now_and_then_and_placed_at_their_time) {
    begin(1000);
    waits("later", "");
    ck_assert_int_eq(store_set_cooldown(store, "later", 60000, "x", "y", NULL), ERR_OK);
    ck_assert(!scheduler_round(leader));
    ck_assert_str_eq(leader->unplaced_json, "{\"not_before\":1}");
    store_double_reset(agent_store);
    ck_assert(!scheduler_round(leader));
    ck_assert_uint_eq(store_double_calls("nodes"), 0);
    ck_assert_uint_eq(store_double_calls("page"), 0);
    waits("another", "");
    ck_assert_int_eq(store_set_cooldown(store, "another", 60000, "x", "y", NULL), ERR_OK);
    ck_assert(!scheduler_round(leader)); /* one more is deferred: the reasons are counted again */
    ck_assert_str_eq(leader->unplaced_json, "{\"not_before\":2}");
    store_double_reset(agent_store);
    clock_advance_ms(5000); /* whatever was written by hand is found */
    ck_assert(!scheduler_round(leader));
    ck_assert_uint_gt(store_double_calls("page"), 0);
    RAW("ZREM", "mqtt_fleet:retry", "later");
    schedule();
    ck_assert_int_eq(waiting(), 1);
}
END_TEST

START_TEST(a_node_that_drains_leaves_or_lags_gets_nothing) {
    static const char *const NAMES[] = {"drains", "leaves", "lags", "silent"};
    begin(1000);
    struct store_member who[4];
    for (size_t i = 0; i < 4; i++) {
        who[i] = joined(NAMES[i], "1", 1000);
    }
    ck_assert_int_eq(store_drain(store, "drains", true), ERR_OK);
    ck_assert_int_eq(store_mark_leaving(store, &who[1]), ERR_OK);
    beat_with(who[2], "{\"lag_ms\":2500,\"sinks\":[],\"keys\":[]}");
    stop_beating(who[3]);
    wait_many(30);
    schedule();
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(owned_by(NAMES[i]), 0);
    }
    ck_assert_int_eq(owned_by("n1") + owned_by("n2"), 30);
}
END_TEST

/* A client whose state has changed since it was read does not delay the others. */
static void leaves_now(void *context) {
    (void)context;
    ck_assert_int_eq(store_mark_leaving(store, &second), ERR_OK);
}

START_TEST(a_node_that_begins_to_leave_during_the_round_gets_nothing_and_holds_nobody_up) {
    begin(1000);
    wait_many(40);
    store_double_plan((struct store_plan){
        .script = "assign", .times = 1, .fault = STORE_PASSES, .before = leaves_now});
    schedule();
    ck_assert_int_eq(owned_by("n2"), 0);
    ck_assert_int_eq(owned_by("n1"), 40);
}
END_TEST

static void dies_now(void *context) {
    (void)context;
    stop_beating(second);
}

START_TEST(a_node_whose_beat_ends_during_the_round_gets_nothing) {
    begin(1000);
    wait_many(40);
    store_double_plan((struct store_plan){
        .script = "assign", .times = 1, .fault = STORE_PASSES, .before = dies_now});
    schedule();
    ck_assert_int_eq(owned_by("n2"), 0);
    ck_assert_int_eq(owned_by("n1"), 40);
}
END_TEST

START_TEST(a_node_that_failed_a_client_gets_it_again_only_when_no_other_has_room) {
    begin(1000);
    waits("x", "");
    release(second, "x", must_assign(second, "x"), 0, true);
    wait_many(1);
    must_assign(me(), "c0"); /* n2 is the emptier one */
    schedule();
    ck_assert_int_eq(owned_by("n2"), 0);
    ck_assert_int_eq(owned_by("n1"), 2);
}
END_TEST

/* ---- clients that are not placed
 * -------------------------------------------------------------------- */

START_TEST(nothing_is_placed_while_nodes_put_back_what_redis_lost) {
    begin(1000);
    wait_many(500);
    RAW("SET", "mqtt_fleet:restoring", "60000", "PX", "60000");
    ck_assert(!scheduler_round(leader));
    ck_assert_int_eq(waiting(), 500);
    ck_assert_uint_eq(store_double_calls("assign"), 1); /* and it is not queried again and again */
    restoring_is_over();
    schedule();
    ck_assert_int_eq(waiting(), 0);
}
END_TEST

START_TEST(a_configuration_that_cannot_be_read_rests_and_holds_nobody_up) {
    begin(1000);
    RAW("HSET", "mqtt_config:no", "bad", "{\"url\":7}");
    wait_many(3);
    schedule();
    ck_assert_int_eq(waiting(), 1);
    struct store_client client;
    ck_assert_int_eq(store_get(store, "bad", &client), ERR_OK);
    ck_assert_str_eq(client.attempt_code, "bad_config");
    ck_assert_int_gt(client.cooldown_ms, 5000);
    store_client_fini(&client);
}
END_TEST

START_TEST(an_identity_of_another_client_rests) {
    begin(1000);
    waits("x", "");
    RAW("HSET", "mqtt_config:no", "y",
        "{\"id\":\"y\",\"client_id\":\"x\",\"url\":\"mqtt://broker:1883\"}");
    schedule();
    ck_assert_int_eq(where("x"), STORE_OWNED);
    struct store_client client;
    ck_assert_int_eq(store_get(store, "y", &client), ERR_OK);
    ck_assert_int_eq(client.state, STORE_WAITING);
    ck_assert_str_eq(client.attempt_code, "identity_taken");
    store_client_fini(&client);
}
END_TEST

/* ---- failures ------------------------------------------------------------------------------ */

START_TEST(a_round_that_fails_anywhere_places_the_rest_later) {
    static const struct {
        const char *script;
        enum store_fault fault;
        enum err err;
    } rows[] = {{"counts", STORE_FAILS, ERR_TIMEOUT},      {"nodes", STORE_FAILS, ERR_UNAVAILABLE},
                {"page", STORE_REPLY_LOST, ERR_TIMEOUT},   {"assign", STORE_FAILS, ERR_TIMEOUT},
                {"assign", STORE_REPLY_LOST, ERR_TIMEOUT}, {"assign", STORE_TWICE, ERR_OK}};
    begin(1000);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        RAW("DEL", "mqtt_fleet:tombstones");
        wait_many(0);
        for (int c = 0; c < 20; c++) {
            char id[32];
            snprintf(id, sizeof id, "r%zu-%d", i, c);
            waits(id, "");
        }
        store_double_plan((struct store_plan){
            .script = rows[i].script, .times = 1, .fault = rows[i].fault, .err = rows[i].err});
        (void)scheduler_round(leader);
        all_is_well();
        schedule();
        ck_assert_int_eq(waiting(), 0);
        ck_assert_int_eq(owned_by("n1") + owned_by("n2"), 20 * ((int64_t)i + 1));
        ck_assert_int_le(llabs(owned_by("n1") - owned_by("n2")), 20);
    }
}
END_TEST

START_TEST(a_node_that_is_fenced_meanwhile_costs_one_call) {
    begin(1000);
    wait_many(900);
    store_double_plan((struct store_plan){
        .script = "assign", .times = 1, .fault = STORE_FAILS, .err = ERR_FENCED});
    (void)scheduler_round(leader);
    ck_assert_int_le(owned_by("n1") + owned_by("n2"), 450);
    schedule();
    ck_assert_int_eq(waiting(), 0);
}
END_TEST

/* Whatever fails, each client finally has one owner, and no node exceeds its size. */
START_TEST(everything_is_placed_in_the_end_whatever_fails) {
    begin(130);
    wait_many(400);
    store_double_random(0, 35);
    for (int i = 0; i < 500 && waiting() > 0; i++) {
        (void)scheduler_round(leader);
        ck_assert_int_le(owned_by("n1"), 130);
    }
    all_is_well();
    schedule();
    ck_assert_int_eq(waiting(), 0);
    ck_assert_int_eq(owned_by("n1") + owned_by("n2"), 400);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_config:use"), 400);
}
END_TEST

static void add(TCase *tests) {
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, clients_end_level_and_no_node_is_asked_anything);
    tcase_add_test(tests, what_finds_no_room_waits_and_is_counted_with_its_reason);
    tcase_add_test(tests, a_missing_profile_is_not_looked_for_once_per_client);
    tcase_add_test(tests, a_profile_that_could_not_be_read_does_not_make_its_client_invalid);
    tcase_add_test(tests,
                   clients_that_all_rest_are_looked_at_now_and_then_and_placed_at_their_time);
    tcase_add_test(tests, a_node_that_drains_leaves_or_lags_gets_nothing);
    tcase_add_test(tests,
                   a_node_that_begins_to_leave_during_the_round_gets_nothing_and_holds_nobody_up);
    tcase_add_test(tests, a_node_whose_beat_ends_during_the_round_gets_nothing);
    tcase_add_test(tests, a_node_that_failed_a_client_gets_it_again_only_when_no_other_has_room);
    tcase_add_test(tests, nothing_is_placed_while_nodes_put_back_what_redis_lost);
    tcase_add_test(tests, a_configuration_that_cannot_be_read_rests_and_holds_nobody_up);
    tcase_add_test(tests, an_identity_of_another_client_rests);
    tcase_add_test(tests, a_round_that_fails_anywhere_places_the_rest_later);
    tcase_add_test(tests, a_node_that_is_fenced_meanwhile_costs_one_call);
    tcase_add_loop_test(tests, everything_is_placed_in_the_end_whatever_fails, 0, 5);
}

int main(void) {
    return agent_fixture_run("schedule", add);
}
