/* Tests of join, heartbeat, fence, reap, leave, drain and the list of nodes with a real Redis. */
#include "fleet_check.h"

static const char *const NODES[] = {"a", "b", NULL};

static enum err beat(struct store_member who, const char *generation, struct store_heartbeat *out) {
    struct store_heartbeat unused;
    return store_heartbeat(store, &who, generation, TTL_MS, "{}", out ? out : &unused);
}

/* The generation there is. */
static const char *generation(void) {
    return RAW_TEXT("GET", "mqtt_fleet:generation");
}

static enum err fence(struct store_member caller, struct store_member target) {
    return store_fence(store, &caller, &target);
}

/* How many moved; the result in *err. */
static size_t reap(struct store_member target, enum err *err, bool *finished) {
    size_t moved;
    *err = store_reap(store, &target, &moved, finished);
    return moved;
}

static void create_and_assign(struct store_member who, int from, int to) {
    for (int i = from; i < to; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        must_create(id);
        must_assign(who, id);
    }
}

/* ---- join ---------------------------------------------------------------------------------- */

START_TEST(join_registers_as_go_iot_did_and_beats) {
    joined("a", "1", 10);
    json_t *info = json_loads(RAW_TEXT("HGET", "register:mqtt", "a"), 0, NULL);
    ck_assert_str_eq(json_string_value(json_object_get(info, "host")), "127.0.0.1");
    ck_assert_int_eq(json_integer_value(json_object_get(info, "port")), 8080);
    ck_assert_str_eq(json_string_value(json_object_get(info, "name")), "a");
    ck_assert_str_eq(json_string_value(json_object_get(info, "type")), "mqtt");
    ck_assert_int_eq(json_integer_value(json_object_get(info, "size")), 10);
    ck_assert_str_eq(json_string_value(json_object_get(info, "state")), "live");
    ck_assert_int_eq(json_integer_value(json_object_get(info, "started")), 1700000000123);
    json_decref(info);
    ck_assert_str_eq(RAW_TEXT("GET", "beat:mqtt:a"), "1");
    ck_assert_int_gt(RAW_INT("PTTL", "beat:mqtt:a"), 0);
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:a"), 0);
    ck_assert_uint_eq(strlen(generation()), TEXT_ID_LEN - 1);
}
END_TEST

START_TEST(join_refuses_while_another_incarnation_beats) {
    char unused[TEXT_ID_LEN];
    struct store_member old = joined("a", "1", 10);
    must_create("x");
    must_assign(old, "x");
    ck_assert_int_eq(try_join(member("a", "2"), 10, unused), ERR_EXISTS);
    ck_assert_int_eq(where("x"), STORE_OWNED);
    ck_assert_int_eq(beat(old, generation(), NULL), ERR_OK);
}
END_TEST

START_TEST(join_moves_what_an_earlier_incarnation_left) {
    struct store_member old = joined("a", "1", 500);
    create_and_assign(old, 0, 450);
    stop_beating(old);
    joined("a", "2", 500);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_config:no"), 450);
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:a"), 0);
    ck_assert_int_eq(beat(old, generation(), NULL), ERR_FENCED);
    assert_fleet(NODES);
}
END_TEST

START_TEST(join_twice_is_the_same_and_keeps_draining_and_clients) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    must_assign(a, "x");
    ck_assert_int_eq(store_drain(store, "a", true), ERR_OK);
    joined("a", "1", 10);
    struct store_heartbeat state;
    ck_assert_int_eq(beat(a, generation(), &state), ERR_OK);
    ck_assert(state.draining);
    ck_assert_int_eq(where("x"), STORE_OWNED);
    assert_fleet(NODES);
}
END_TEST

START_TEST(join_refuses_an_incarnation_that_was_declared_dead) {
    char unused[TEXT_ID_LEN];
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_int_eq(try_join(a, 10, unused), ERR_FENCED);
    joined("a", "2", 10);
}
END_TEST

START_TEST(join_gives_what_a_go_iot_node_left_to_waiting) {
    RAW("HSET", "register:mqtt", "a", "{\"host\":\"h\",\"port\":1,\"name\":\"a\",\"size\":5}");
    RAW("RPUSH", "node_bind:a", "x", "y");
    RAW("HSET", "mqtt_config:use", "x", "{\"broker\":\"b\"}");
    RAW("SET", "mqtt_size:a", "-134000");
    joined("a", "1", 10);
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_config:no", "x"), "{\"broker\":\"b\"}");
    ck_assert_int_eq(where("y"), STORE_ABSENT);
    assert_fleet(NODES);
}
END_TEST

START_TEST(join_only_drops_from_its_list_what_another_owns) {
    struct store_member b = joined("b", "1", 10);
    must_create("x");
    must_assign(b, "x");
    RAW("RPUSH", "node_bind:a", "x");
    joined("a", "1", 10);
    ck_assert_int_eq(where("x"), STORE_OWNED);
    assert_fleet(NODES);
}
END_TEST

START_TEST(join_survives_rubbish_in_the_register) {
    static const char *const rubbish[] = {"", "{", "[1,2]", "{\"size\":1e999,\"state\":[]}"};
    for (size_t i = 0; i < 4; i++) {
        RAW("FLUSHALL");
        RAW("HSET", "register:mqtt", "a", rubbish[i]);
        joined("a", "1", 10);
        assert_fleet(NODES);
    }
}
END_TEST

/* ---- heartbeat ----------------------------------------------------------------------------------
 */

START_TEST(beat_answers_rev_time_draining_and_how_many_there_are) {
    struct store_member a = joined("a", "1", 10);
    struct store_heartbeat state;
    ck_assert_int_eq(beat(a, generation(), &state), ERR_OK);
    ck_assert(state.nodes == 1 && state.candidate_wanted && !state.draining);
    ck_assert_int_eq(state.rev, rev_of("a"));
    ck_assert_int_gt(state.redis_ms, 1600000000000);
    joined("b", "1", 10);
    must_create("x");
    must_create("y");
    must_create("z");
    must_assign(a, "x");
    ck_assert_int_eq(store_set_cooldown(store, "y", 60000, "unreadable", "", NULL), ERR_OK);
    ck_assert_int_eq(store_drain(store, "a", true), ERR_OK);
    int64_t before = state.rev;
    ck_assert_int_eq(beat(a, generation(), &state), ERR_OK);
    ck_assert(state.nodes == 2 && state.draining);
    ck_assert_int_gt(state.rev, before);
    ck_assert_int_eq(state.counts.waiting, 2);
    ck_assert_int_eq(state.counts.cooling_down, 1);
    ck_assert_int_eq(state.counts.owned, 1);
}
END_TEST

START_TEST(beat_lives_again_after_it_expired_unless_fenced) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    stop_beating(a);
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_OK);
    ck_assert_str_eq(RAW_TEXT("GET", "beat:mqtt:a"), "1");
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_FENCED);
    ck_assert_int_eq(RAW_INT("EXISTS", "beat:mqtt:a"), 0);
}
END_TEST

START_TEST(beat_of_an_unknown_incarnation_means_that_redis_lost_it_unless_it_was_fenced) {
    struct store_member a = joined("a", "1", 10);
    ck_assert_int_eq(beat(member("nobody", "1"), generation(), NULL), ERR_WRONG_STATE);
    ck_assert_int_eq(beat(member("a", "2"), generation(), NULL), ERR_WRONG_STATE);
    ck_assert_int_eq(beat(member("a", ""), generation(), NULL), ERR_WRONG_STATE);
    ck_assert_str_eq(RAW_TEXT("GET", "beat:mqtt:a"), "1");
    RAW("SET", "beat:mqtt:a", "2");
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_WRONG_STATE);
    ck_assert_str_eq(RAW_TEXT("GET", "beat:mqtt:a"), "2");
    stop_beating(a);
    joined("a", "3", 10);
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_FENCED);
    ck_assert_int_eq(beat(member("a", "2"), generation(), NULL), ERR_WRONG_STATE);
}
END_TEST

/* By version 0.1, which does not know the newer keys. */
static void reap_by_older_version(const char *name) {
    RAW("HDEL", "register:mqtt", name);
    for (const char *const *head = (const char *const[]){"node_bind:", "mqtt_size:", "beat:mqtt:",
                                                         "mqtt_fleet:rev:", NULL};
         *head; head++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s", *head, name);
        RAW("DEL", key);
    }
}

START_TEST(beat_of_a_node_that_an_older_version_reaped_is_fenced) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    reap_by_older_version("a");
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_FENCED);
    a = joined("a", "2", 10);
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_OK);
    RAW("HDEL", "register:mqtt", "b"); /* by hand */
    ck_assert_int_eq(beat(b, generation(), NULL), ERR_WRONG_STATE);
}
END_TEST

START_TEST(beat_says_when_redis_lost_its_data_and_join_mends_it) {
    struct store_member a = joined("a", "1", 10);
    char old[TEXT_ID_LEN];
    snprintf(old, sizeof old, "%s", generation());
    RAW("FLUSHALL");
    ck_assert_int_eq(beat(a, old, NULL), ERR_WRONG_STATE);
    joined("b", "1", 10);
    ck_assert_int_eq(beat(a, old, NULL), ERR_WRONG_STATE);
    joined("a", "1", 10);
    ck_assert_str_ne(generation(), old);
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_OK);
    ck_assert(store_noticed_rollback(store) && !store_noticed_rollback(store));
}
END_TEST

/* ---- fence and reap ------------------------------------------------------------------------ */

START_TEST(fence_refuses_a_beating_target_another_incarnation_and_a_silent_caller) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    ck_assert_int_eq(fence(b, a), ERR_REFUSED);
    stop_beating(a);
    ck_assert_int_eq(fence(b, member("a", "0")), ERR_REFUSED);
    ck_assert_int_eq(fence(member("b", "0"), a), ERR_REFUSED);
    stop_beating(b);
    ck_assert_int_eq(fence(b, a), ERR_REFUSED);
    ck_assert_int_eq(beat(b, generation(), NULL), ERR_OK);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_int_eq(fence(b, a), ERR_OK);
}
END_TEST

START_TEST(reap_refuses_a_node_that_is_not_dead_or_has_another_incarnation) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    enum err err;
    bool finished;
    must_create("x");
    must_assign(a, "x");
    reap(a, &err, &finished);
    ck_assert_int_eq(err, ERR_REFUSED);
    stop_beating(a);
    reap(a, &err, &finished);
    ck_assert_int_eq(err, ERR_REFUSED);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    reap(member("a", "0"), &err, &finished);
    ck_assert_int_eq(err, ERR_REFUSED);
    ck_assert_int_eq(where("x"), STORE_OWNED);
}
END_TEST

/* A heartbeat proves that a process is alive: while it exists, no client is taken. */
START_TEST(reap_refuses_a_dead_node_whose_beat_is_there) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    enum err err;
    bool finished;
    must_create("x");
    must_assign(a, "x");
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    RAW("SET", "beat:mqtt:a", "1", "PX", "60000");
    ck_assert_uint_eq(reap(a, &err, &finished), 0);
    ck_assert_int_eq(err, ERR_REFUSED);
    ck_assert_int_eq(where("x"), STORE_OWNED);
    stop_beating(a);
    ck_assert_uint_eq(reap(a, &err, &finished), 1);
}
END_TEST

START_TEST(reap_moves_a_batch_a_call_and_then_the_node_is_gone) {
    struct store_member a = joined("a", "1", 500), b = joined("b", "1", 10);
    enum err err;
    bool finished;
    create_and_assign(a, 0, 350);
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_uint_eq(reap(a, &err, &finished), STORE_BATCH_MAX);
    ck_assert(err == ERR_OK && !finished);
    assert_fleet(NODES);
    ck_assert_uint_eq(reap(a, &err, &finished), 150);
    ck_assert(err == ERR_OK && finished);
    ck_assert_uint_eq(reap(a, &err, &finished), 0);
    ck_assert(err == ERR_OK && finished);
    ck_assert_int_eq(RAW_INT("HEXISTS", "register:mqtt", "a"), 0);
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_size:a", "node_bind:a", "mqtt_fleet:rev:a",
                             "mqtt_fleet:set:a", "mqtt_fleet:changed:a", "mqtt_fleet:facts:a"),
                     0);
    ck_assert_int_eq(assign(b, "id-7", NULL), STORE_ASSIGNED);
    assert_fleet(NODES);
}
END_TEST

START_TEST(reap_leaves_ids_of_other_owners) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    enum err err;
    bool finished;
    must_create("mine");
    must_create("theirs");
    must_assign(a, "mine");
    must_assign(b, "theirs");
    RAW("RPUSH", "node_bind:a", "theirs");
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_uint_eq(reap(a, &err, &finished), 1);
    ck_assert_int_eq(where("mine"), STORE_WAITING);
    ck_assert_int_eq(where("theirs"), STORE_OWNED);
    assert_fleet(NODES);
}
END_TEST

START_TEST(reap_does_not_bring_back_what_was_deleted) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    enum err err;
    bool finished;
    must_create("x");
    must_assign(a, "x");
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    RAW("RPUSH", "node_bind:a", "x");
    ck_assert_uint_eq(reap(a, &err, &finished), 0);
    ck_assert(finished);
    ck_assert_int_eq(where("x"), STORE_ABSENT);
}
END_TEST

START_TEST(reap_lets_a_text_written_by_hand_over_an_owned_id_win) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    enum err err;
    bool finished;
    must_create("x");
    must_assign(a, "x");
    int64_t version = version_of("x");
    RAW("HSET", "mqtt_config:no", "x", "{\"c\":9}");
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_uint_eq(reap(a, &err, &finished), 1);
    struct store_client client;
    ck_assert_int_eq(store_get(store, "x", &client), ERR_OK);
    ck_assert_str_eq(client.config, "{\"c\":9}");
    ck_assert_int_gt(client.version, version);
    store_client_fini(&client);
    assert_fleet(NODES);
}
END_TEST

START_TEST(a_vanished_go_iot_node_is_fenced_and_reaped_a_beating_one_is_not) {
    struct store_member b = joined("b", "1", 10), stranger = member("go", "");
    enum err err;
    bool finished;
    RAW("HSET", "register:mqtt", "go", "{\"host\":\"h\",\"port\":1,\"name\":\"go\",\"size\":5}");
    RAW("RPUSH", "node_bind:go", "x");
    RAW("HSET", "mqtt_config:use", "x", "{}");
    RAW("SET", "beat:mqtt:go", "go");
    ck_assert_int_eq(fence(b, stranger), ERR_REFUSED);
    RAW("DEL", "beat:mqtt:go");
    ck_assert_int_eq(fence(b, stranger), ERR_OK);
    ck_assert_uint_eq(reap(stranger, &err, &finished), 1);
    ck_assert(finished);
    ck_assert_int_eq(where("x"), STORE_WAITING);
}
END_TEST

/* ---- leave and drain ----------------------------------------------------------------------- */

START_TEST(leave_refuses_while_the_node_owns_ids) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x");
    ck_assert_int_eq(store_leave(store, &a), ERR_REFUSED);
    ck_assert_uint_eq(release(a, "x", epoch, 0, false), 1);
    ck_assert_int_eq(store_leave(store, &a), ERR_OK);
    ck_assert_int_eq(store_leave(store, &a), ERR_OK);
    ck_assert_int_eq(RAW_INT("EXISTS", "register:mqtt", "beat:mqtt:a", "mqtt_size:a"), 0);
}
END_TEST

START_TEST(leave_of_an_earlier_incarnation_changes_nothing) {
    struct store_member a = joined("a", "1", 10), old = member("a", "0");
    ck_assert_int_eq(store_leave(store, &old), ERR_OK);
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_OK);
}
END_TEST

START_TEST(drain_refuses_unknown_and_dead_nodes) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    RAW("HSET", "register:mqtt", "rubbish", "no json");
    ck_assert_int_eq(store_drain(store, "nobody", true), ERR_NOT_FOUND);
    ck_assert_int_eq(store_drain(store, "rubbish", true), ERR_NOT_FOUND);
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_int_eq(store_drain(store, "a", true), ERR_REFUSED);
}
END_TEST

START_TEST(a_draining_node_gets_nothing_until_it_drains_no_more) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(store_drain(store, "a", true), ERR_OK);
    }
    ck_assert_int_eq(assign_err(a, "x"), ERR_REFUSED);
    ck_assert_int_eq(store_drain(store, "a", false), ERR_OK);
    ck_assert_int_eq(assign_err(a, "x"), ERR_OK);
}
END_TEST

START_TEST(a_drain_is_remembered_until_the_node_is_undrained) {
    struct store_member a = joined("a", "1", 10);
    struct store_heartbeat state;
    ck_assert_int_eq(store_drain(store, "a", true), ERR_OK);
    ck_assert_int_eq(store_leave(store, &a), ERR_OK);
    a = joined("a", "2", 10);
    ck_assert_int_eq(beat(a, generation(), &state), ERR_OK);
    ck_assert(state.draining);
    ck_assert_int_eq(store_leave(store, &a), ERR_OK);
    ck_assert_int_eq(store_drain(store, "a", true), ERR_NOT_FOUND);
    ck_assert_int_eq(store_drain(store, "a", false), ERR_OK);
    ck_assert_int_eq(store_drain(store, "a", false), ERR_NOT_FOUND);
    a = joined("a", "3", 10);
    ck_assert_int_eq(beat(a, generation(), &state), ERR_OK);
    ck_assert(!state.draining);
}
END_TEST

START_TEST(a_node_that_ends_without_leaving_is_remembered_for_an_hour) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    struct store_fleet out;
    must_create("x");
    must_assign(a, "x");
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    struct store_member c = joined("c", "3", 10);
    stop_beating(c);
    ck_assert_int_eq(fence(b, c), ERR_OK);
    c = joined("c", "4", 10);
    ck_assert_int_eq(store_leave(store, &c), ERR_OK); /* it was back, and has left: forgotten */
    ck_assert_int_eq(store_leave(store, &b), ERR_OK); /* as asked: not remembered */
    ck_assert_int_eq(store_publish_settings(store, "", "", "", &out), ERR_OK);
    ck_assert_uint_eq(out.vanished_count, 1);
    ck_assert_str_eq(out.vanished[0].node, "a");
    ck_assert_int_eq(out.vanished[0].clients, 1);
    ck_assert_int_lt(out.vanished[0].ago_ms, 60000);
    store_fleet_fini(&out);
    RAW("HSET", "mqtt_fleet:vanished", "a", "1000 1");
    ck_assert_int_eq(store_publish_settings(store, "", "", "", &out), ERR_OK);
    ck_assert_uint_eq(out.vanished_count, 0);
    store_fleet_fini(&out);
}
END_TEST

START_TEST(a_request_to_rebalance_reaches_every_node_and_ends) {
    struct store_member a = joined("a", "1", 10);
    struct store_heartbeat state;
    ck_assert_int_eq(store_renew_rebalance(store), ERR_OK);
    ck_assert_int_eq(beat(a, generation(), &state), ERR_OK);
    ck_assert_int_eq(state.rebalance_rate, 0); /* nothing to renew */
    ck_assert_int_eq(store_rebalance(store, 50), ERR_OK);
    RAW("PEXPIRE", "mqtt_fleet:rebalance", "1000");
    ck_assert_int_eq(store_renew_rebalance(store), ERR_OK);
    ck_assert_int_gt(RAW_INT("PTTL", "mqtt_fleet:rebalance"), 10000);
    ck_assert_int_eq(beat(a, generation(), &state), ERR_OK);
    ck_assert_int_eq(state.rebalance_rate, 50);
    ck_assert_int_eq(store_rebalance(store, 0), ERR_OK);
    ck_assert_int_eq(beat(a, generation(), &state), ERR_OK);
    ck_assert_int_eq(state.rebalance_rate, 0);
}
END_TEST

/* ---- the fleet ------------------------------------------------------------------------------ */

/* How many others have other settings; -1: it is the fleet called `wanted`. */
static int fleet(const char *name, const char *node, const char *settings, const char *wanted) {
    struct store_fleet out;
    enum err err = store_publish_settings(store, name, node, settings, &out);
    ck_assert(err == ERR_OK || (err == ERR_REFUSED && out.n == 0));
    ck_assert_str_eq(out.name, wanted);
    int n = err == ERR_OK ? (int)out.n : -1;
    store_fleet_fini(&out);
    return n;
}

START_TEST(a_fleet_keeps_its_first_name_and_refuses_another_F14) {
    ck_assert_int_eq(fleet("", "a", "{}", ""), 0);
    ck_assert_int_eq(fleet("plant", "", "", ""), 0); /* only reads */
    ck_assert_int_eq(fleet("plant", "a", "{}", "plant"), 0);
    ck_assert_int_eq(fleet("", "b", "{}", "plant"), 0);
    ck_assert_int_eq(fleet("plant", "b", "{}", "plant"), 0);
    ck_assert_int_eq(fleet("other", "c", "{}", "plant"), -1);
    ck_assert_int_eq(fleet("Plant", "", "", "plant"), -1);
    ck_assert_int_eq(RAW_INT("HEXISTS", "mqtt_fleet:settings", "c"), 0);
}
END_TEST

START_TEST(settings_of_registered_nodes_are_told_when_they_differ_F14) {
    joined("a", "1", 10);
    struct store_member b = joined("b", "1", 10);
    ck_assert_int_eq(fleet("", "a", "{\"x\":1}", ""), 0);
    ck_assert_int_eq(fleet("", "b", "{\"x\":2}", ""), 1);
    ck_assert_int_eq(fleet("", "a", "{\"x\":2}", ""), 0);
    ck_assert_int_eq(fleet("", "gone", "{\"x\":3}", ""), 2); /* not registered yet */
    ck_assert_int_eq(fleet("", "", "", ""), 2);
    stop_beating(b);
    ck_assert_int_eq(store_leave(store, &b), ERR_OK);
    ck_assert_int_eq(RAW_INT("HEXISTS", "mqtt_fleet:settings", "b"), 0);
    RAW("DEL", "mqtt_fleet:settings", "mqtt_fleet:name");
    RAW("SET", "mqtt_fleet:settings", "rubbish");
    RAW("RPUSH", "mqtt_fleet:name", "rubbish");
    ck_assert_int_eq(fleet("plant", "a", "{}", "plant"), 0);
}
END_TEST

/* ---- the list ------------------------------------------------------------------------------ */

START_TEST(nodes_are_sorted_and_those_not_ours_have_no_incarnation) {
    struct store_node *nodes;
    char *leader;
    size_t n;
    struct store_member b = joined("b: 2", "1", 20), a = joined("a", "7", 10);
    must_create("x");
    must_assign(b, "x");
    enum store_role role;
    ck_assert_int_eq(store_lead(store, &a, TTL_MS, "", &role), ERR_OK);
    RAW("HSET", "register:mqtt", "go", "{\"host\":\"h\",\"port\":1,\"name\":\"go\",\"size\":5}");
    RAW("HSET", "register:mqtt", "rubbish", "[");
    RAW("SET", "beat:mqtt:go", "go");
    RAW("PEXPIRE", "beat:mqtt:a", "59000");
    stop_beating(b);
    ck_assert_int_eq(store_nodes(store, TTL_MS, &nodes, &n, &leader), ERR_OK);
    ck_assert_uint_eq(n, 4);
    ck_assert_str_eq(leader, "a");
    ck_assert_str_eq(nodes[0].name, "a");
    ck_assert_str_eq(nodes[0].incarnation, "7");
    ck_assert_str_eq(nodes[0].version, "1.2.3");
    ck_assert(nodes[0].heartbeat_valid && nodes[0].state == STORE_NODE_LIVE);
    ck_assert_int_ge(nodes[0].heartbeat_age_ms, 1000);
    ck_assert_int_eq(nodes[0].started_at_ms, 1700000000123);
    ck_assert_str_eq(nodes[1].name, "b: 2");
    ck_assert_int_eq(nodes[1].clients, 1);
    ck_assert_int_eq(nodes[1].size, 20);
    ck_assert(!nodes[1].heartbeat_valid && nodes[1].heartbeat_age_ms == -1);
    ck_assert_str_eq(nodes[2].host, "h");
    ck_assert_int_eq(nodes[2].port, 1);
    for (size_t i = 2; i < 4; i++) {
        ck_assert_str_eq(nodes[i].incarnation, "");
        ck_assert(!nodes[i].heartbeat_valid);
    }
    store_nodes_free(nodes, n);
    free(leader);
}
END_TEST

START_TEST(a_register_of_hundreds_is_listed_whole) {
    struct store_node *nodes;
    size_t n;
    for (int i = 0; i < 600; i++) {
        char name[16];
        snprintf(name, sizeof name, "node-%03d", i);
        joined(name, "1", 10);
    }
    ck_assert_int_eq(store_nodes(store, TTL_MS, &nodes, &n, NULL), ERR_OK);
    ck_assert_uint_eq(n, 600);
    ck_assert_str_eq(nodes[599].name, "node-599");
    store_nodes_free(nodes, n);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, join_registers_as_go_iot_did_and_beats);
    tcase_add_test(tcase, join_refuses_while_another_incarnation_beats);
    tcase_add_test(tcase, join_moves_what_an_earlier_incarnation_left);
    tcase_add_test(tcase, join_twice_is_the_same_and_keeps_draining_and_clients);
    tcase_add_test(tcase, join_refuses_an_incarnation_that_was_declared_dead);
    tcase_add_test(tcase, join_gives_what_a_go_iot_node_left_to_waiting);
    tcase_add_test(tcase, join_only_drops_from_its_list_what_another_owns);
    tcase_add_test(tcase, join_survives_rubbish_in_the_register);
    tcase_add_test(tcase, beat_answers_rev_time_draining_and_how_many_there_are);
    tcase_add_test(tcase, beat_lives_again_after_it_expired_unless_fenced);
    tcase_add_test(tcase,
                   beat_of_an_unknown_incarnation_means_that_redis_lost_it_unless_it_was_fenced);
    tcase_add_test(tcase, beat_of_a_node_that_an_older_version_reaped_is_fenced);
    tcase_add_test(tcase, beat_says_when_redis_lost_its_data_and_join_mends_it);
    tcase_add_test(tcase, fence_refuses_a_beating_target_another_incarnation_and_a_silent_caller);
    tcase_add_test(tcase, reap_refuses_a_node_that_is_not_dead_or_has_another_incarnation);
    tcase_add_test(tcase, reap_refuses_a_dead_node_whose_beat_is_there);
    tcase_add_test(tcase, reap_moves_a_batch_a_call_and_then_the_node_is_gone);
    tcase_add_test(tcase, reap_leaves_ids_of_other_owners);
    tcase_add_test(tcase, reap_does_not_bring_back_what_was_deleted);
    tcase_add_test(tcase, reap_lets_a_text_written_by_hand_over_an_owned_id_win);
    tcase_add_test(tcase, a_vanished_go_iot_node_is_fenced_and_reaped_a_beating_one_is_not);
    tcase_add_test(tcase, leave_refuses_while_the_node_owns_ids);
    tcase_add_test(tcase, leave_of_an_earlier_incarnation_changes_nothing);
    tcase_add_test(tcase, drain_refuses_unknown_and_dead_nodes);
    tcase_add_test(tcase, a_draining_node_gets_nothing_until_it_drains_no_more);
    tcase_add_test(tcase, a_drain_is_remembered_until_the_node_is_undrained);
    tcase_add_test(tcase, a_request_to_rebalance_reaches_every_node_and_ends);
    tcase_add_test(tcase, a_node_that_ends_without_leaving_is_remembered_for_an_hour);
    tcase_add_test(tcase, a_fleet_keeps_its_first_name_and_refuses_another_F14);
    tcase_add_test(tcase, settings_of_registered_nodes_are_told_when_they_differ_F14);
    tcase_add_test(tcase, nodes_are_sorted_and_those_not_ours_have_no_incarnation);
    tcase_add_test(tcase, a_register_of_hundreds_is_listed_whole);
}

int main(void) {
    return fixture_run("store_node", add);
}
