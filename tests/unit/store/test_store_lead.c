/* Tests of leadership, leaving and the search for missing heartbeats, with a real Redis. */
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

/* ---- leadership ---------------------------------------------------------------------------- */

static enum store_role lead(struct store_member who) {
    enum store_role role;
    ck_assert_int_eq(store_lead(store, &who, TTL_MS, "", &role), ERR_OK);
    return role;
}

static bool wanted(struct store_member who) {
    struct store_heartbeat state;
    ck_assert_int_eq(beat(who, generation(), &state), ERR_OK);
    return state.candidate_wanted;
}

START_TEST(one_leads_until_it_gives_up_or_its_time_is_over) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    ck_assert_int_eq(lead(a), STORE_ROLE_LEADER);
    ck_assert_int_eq(lead(a), STORE_ROLE_LEADER);
    ck_assert_int_eq(lead(b), STORE_ROLE_STANDBY);
    ck_assert_int_eq(store_resign(store, &b), ERR_OK);
    ck_assert_int_eq(lead(b), STORE_ROLE_STANDBY);
    ck_assert_int_eq(store_resign(store, &a), ERR_OK);
    ck_assert_int_eq(lead(b), STORE_ROLE_LEADER);
    ck_assert_int_eq(lead(a), STORE_ROLE_STANDBY);
    RAW("DEL", "mqtt_fleet:leader");
    ck_assert_int_eq(lead(a), STORE_ROLE_LEADER);
    RAW("SET", "mqtt_fleet:leader", "rubbish");
    ck_assert_int_eq(lead(b), STORE_ROLE_LEADER);
    ck_assert_int_gt(RAW_INT("PTTL", "mqtt_fleet:leader"), 0);
}
END_TEST

/* As if a had died, and Redis' clock had gone back by an hour, since the key was set. */
static void clock_back_an_hour(const char *key) {
    ck_assert_int_eq(RAW_INT("PEXPIRE", key, "3600000"), 1);
}

START_TEST(what_was_to_expire_soon_is_over_when_the_clock_goes_back_F13) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    struct store_node *nodes;
    size_t n;
    must_create("x");
    must_assign(a, "x");
    ck_assert_int_eq(lead(a), STORE_ROLE_LEADER);
    ck_assert_int_eq(lead(b), STORE_ROLE_STANDBY);
    clock_back_an_hour("mqtt_fleet:leader");
    clock_back_an_hour("beat:mqtt:a");
    ck_assert_int_eq(lead(b), STORE_ROLE_LEADER);
    ck_assert_int_eq(lead(a), STORE_ROLE_STANDBY);
    ck_assert_int_eq(store_nodes(store, TTL_MS, &nodes, &n, NULL), ERR_OK);
    ck_assert(n == 2 && !nodes[0].heartbeat_valid && nodes[1].heartbeat_valid);
    store_nodes_free(nodes, n);
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_OK); /* it is alive: no effect */
    ck_assert_int_eq(fence(b, a), ERR_REFUSED);
    clock_back_an_hour("beat:mqtt:a");
    ck_assert_int_eq(fence(b, a), ERR_OK);
    enum err err;
    bool finished;
    ck_assert_uint_eq(reap(a, &err, &finished), 1);
    ck_assert(err == ERR_OK && finished);
    joined("a", "2", 10);
    clock_back_an_hour("beat:mqtt:a");
    joined("a", "3", 10); /* restarted under its name */
    assert_fleet(NODES);
}
END_TEST

START_TEST(a_node_that_does_not_beat_does_not_lead) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    ck_assert_int_eq(lead(member("a", "0")), STORE_ROLE_NONE);
    ck_assert_int_eq(lead(member("nobody", "1")), STORE_ROLE_NONE);
    ck_assert_int_eq(lead(a), STORE_ROLE_LEADER);
    stop_beating(a);
    ck_assert_int_eq(lead(a), STORE_ROLE_NONE); /* and gives up what it was */
    ck_assert_int_eq(lead(b), STORE_ROLE_LEADER);
}
END_TEST

START_TEST(two_stand_by_and_the_others_need_not_ask) {
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    struct store_member who[5];
    for (size_t i = 0; i < 5; i++) {
        who[i] = joined(names[i], "1", 10);
    }
    for (size_t i = 0; i < 5; i++) {
        ck_assert(wanted(who[4]) == (i < 3));
        ck_assert_int_eq(lead(who[i]), i == 0  ? STORE_ROLE_LEADER
                                       : i < 3 ? STORE_ROLE_STANDBY
                                               : STORE_ROLE_NONE);
    }
    RAW("DEL", "mqtt_fleet:leader"); /* its time has passed */
    ck_assert(wanted(who[4]));
    ck_assert_int_eq(lead(who[2]), STORE_ROLE_LEADER);
    ck_assert_int_eq(lead(who[1]), STORE_ROLE_STANDBY);
    ck_assert(wanted(who[4])); /* one standby is lacking */
    ck_assert_int_eq(lead(who[3]), STORE_ROLE_STANDBY);
    ck_assert_int_eq(lead(who[4]), STORE_ROLE_NONE);
    ck_assert(!wanted(who[4]));
    RAW("ZADD", "mqtt_fleet:standby", "1", "b"); /* the time of one has passed */
    ck_assert(wanted(who[4]));
    ck_assert_int_eq(lead(who[4]), STORE_ROLE_STANDBY);
}
END_TEST

START_TEST(standbys_of_the_future_do_not_bar_others_when_the_clock_went_back) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    RAW("ZADD", "mqtt_fleet:standby", "4000000000000", "x", "4000000000000", "y");
    ck_assert_int_eq(lead(a), STORE_ROLE_LEADER);
    ck_assert_int_eq(lead(b), STORE_ROLE_STANDBY);
    RAW("DEL", "mqtt_fleet:standby");
    RAW("SET", "mqtt_fleet:standby", "of another type");
    ck_assert(wanted(a));
    ck_assert_int_eq(lead(b), STORE_ROLE_STANDBY);
}
END_TEST

/* Why clients wait, as returned by a heartbeat; valid until the next call. */
static const char *unplaced(struct store_member who) {
    static struct store_heartbeat state;
    ck_assert_int_eq(beat(who, generation(), &state), ERR_OK);
    return state.unplaced;
}

START_TEST(only_the_leader_tells_why_clients_wait) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    enum store_role role;
    ck_assert_str_eq(unplaced(b), "");
    ck_assert_int_eq(store_lead(store, &a, TTL_MS, "{\"no_room\":7}", &role), ERR_OK);
    ck_assert_int_eq(store_lead(store, &b, TTL_MS, "{\"no_room\":8}", &role), ERR_OK);
    ck_assert_int_eq(store_lead(store, &a, TTL_MS, "", &role), ERR_OK);
    ck_assert_str_eq(unplaced(b), "{\"no_room\":7}");
    ck_assert_int_gt(RAW_INT("PTTL", "mqtt_fleet:unplaced"), 0);
    RAW("DEL", "mqtt_fleet:unplaced");
    RAW("RPUSH", "mqtt_fleet:unplaced", "of another type");
    ck_assert_str_eq(unplaced(b), "");
}
END_TEST

/* ---- leaving ------------------------------------------------------------------------------- */

START_TEST(a_leaving_node_gets_nothing_and_what_it_releases_goes_to_others) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x");
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(store_mark_leaving(store, &a), ERR_OK);
    }
    ck_assert_int_eq(beat(a, generation(), NULL), ERR_OK);
    ck_assert_uint_eq(release(a, "x", epoch, 0, false), 1);
    ck_assert_int_eq(assign_err(a, "x"), ERR_REFUSED);
    ck_assert_int_eq(store_drain(store, "a", false), ERR_REFUSED);
    ck_assert_int_eq(assign_err(a, "x"), ERR_REFUSED);
    must_assign(b, "x");
    ck_assert_int_eq(store_leave(store, &a), ERR_OK);
    assert_fleet(NODES);
}
END_TEST

START_TEST(leaving_is_fenced_unless_the_member_is_registered) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    struct store_member old = member("a", "0"), nobody = member("nobody", "1");
    ck_assert_int_eq(store_mark_leaving(store, &old), ERR_FENCED);
    ck_assert_int_eq(store_mark_leaving(store, &nobody), ERR_FENCED);
    must_create("x");
    must_assign(a, "x");
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_int_eq(store_mark_leaving(store, &a), ERR_FENCED);
}
END_TEST

START_TEST(a_node_that_dies_while_it_leaves_is_fenced_and_reaped) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    enum err err;
    bool finished;
    must_create("x");
    must_assign(a, "x");
    ck_assert_int_eq(store_mark_leaving(store, &a), ERR_OK);
    stop_beating(a);
    ck_assert_int_eq(fence(b, a), ERR_OK);
    ck_assert_uint_eq(reap(a, &err, &finished), 1);
    ck_assert(finished);
    assert_fleet(NODES);
}
END_TEST

/* ---- who has a name, who has an address -------------------------------------------------------
 */

START_TEST(nodes_are_found_by_name_and_by_port_whichever_way_they_are_written) {
    struct store_node *nodes;
    size_t n;
    for (int i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof name, "node-%d", i);
        joined(name, "1", 10);
    }
    RAW("HSET", "register:mqtt", "go", "{ \"host\": \"h\", \"port\" : 1, \"name\": \"go\" }");
    RAW("HSET", "register:mqtt", "near", "{\"host\":\"h\",\"port\":12,\"name\":\"near\"}");
    RAW("HSET", "register:mqtt", "rubbish", "[");
    ck_assert_int_eq(store_nodes_at_port(store, TTL_MS, 1, &nodes, &n), ERR_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(nodes[0].name, "go");
    store_nodes_free(nodes, n);
    ck_assert_int_eq(store_nodes_named(store, TTL_MS, "node-137", &nodes, &n), ERR_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(nodes[0].name, "node-137");
    ck_assert(nodes[0].heartbeat_valid);
    ck_assert_int_eq(nodes[0].size, 10);
    store_nodes_free(nodes, n);
    ck_assert_int_eq(store_nodes_named(store, TTL_MS, "nobody", &nodes, &n), ERR_OK);
    ck_assert_uint_eq(n, 0);
    store_nodes_free(nodes, n);
}
END_TEST

/* ---- the search for missing heartbeats
 * ---------------------------------------------------------------- */

START_TEST(look_names_those_that_do_not_beat_and_counts_all) {
    struct store_missing *missing;
    size_t n, all, found = 0;
    struct store_member a = joined("a", "1", 10), b = joined("b", "7", 10),
                        d = joined("d", "1", 10);
    joined("c", "1", 10);
    RAW("HSET", "register:mqtt", "go", "{\"host\":\"h\",\"port\":1,\"name\":\"go\",\"size\":5}");
    RAW("SET", "beat:mqtt:go", "go");
    RAW("SET", "beat:mqtt:c", "another incarnation");
    RAW("DEL", "beat:mqtt:d");
    RAW("RPUSH", "beat:mqtt:d", "of another type");
    stop_beating(b);
    RAW("DEL", "mqtt_fleet:sequence"); /* a check writes nothing, so it is not affected */
    ck_assert_int_eq(store_find_missing(store, &missing, &n, &all), ERR_OK);
    ck_assert_uint_eq(all, 5);
    ck_assert_uint_eq(n, 4);
    for (size_t i = 0; i < n; i++) {
        ck_assert_str_ne(missing[i].name, "a");
        bool is_b = strcmp(missing[i].name, "b") == 0, is_go = strcmp(missing[i].name, "go") == 0;
        found += is_b || is_go;
        ck_assert(!is_b || (strcmp(missing[i].incarnation, "7") == 0 &&
                            missing[i].state == STORE_NODE_LIVE));
        ck_assert(!is_go || missing[i].incarnation[0] == '\0');
    }
    ck_assert_uint_eq(found, 2);
    store_missing_free(missing, n);
    RAW("DEL", "beat:mqtt:d");
    ck_assert_int_eq(fence(a, d), ERR_OK);
    ck_assert_int_eq(store_find_missing(store, &missing, &n, &all), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        ck_assert((strcmp(missing[i].name, "d") == 0) == (missing[i].state == STORE_NODE_DEAD));
    }
    store_missing_free(missing, n);
}
END_TEST

/* In either form of the entry, and although the clock went back. */
START_TEST(look_misses_a_beat_that_would_outlive_its_time_to_live) {
    static const char *const beating[] = {"60000", "61000"}, *const stale[] = {"63000", "900000"};
    struct store_missing *missing;
    size_t n, all;
    struct store_member a = joined("a", "1", 10);
    RAW("HSET", "register:mqtt", "hand", "{ \"ttl\" : 60000, \"incarnation\" : \"1\" }");
    RAW("HSET", "register:mqtt", "a",
        "{\"name\":\"a\",\"incarnation\":\"1\",\"ttl\":60000,\"state\":\"live\"}");
    for (size_t i = 0; i < 2; i++) {
        RAW("SET", "beat:mqtt:a", a.incarnation, "PX", beating[i]);
        RAW("SET", "beat:mqtt:hand", "1", "PX", beating[i]);
        ck_assert_int_eq(store_find_missing(store, &missing, &n, &all), ERR_OK);
        ck_assert_uint_eq(n, 0);
        store_missing_free(missing, n);
        RAW("SET", "beat:mqtt:a", a.incarnation, "PX", stale[i]);
        RAW("SET", "beat:mqtt:hand", "1", "PX", stale[i]);
        ck_assert_int_eq(store_find_missing(store, &missing, &n, &all), ERR_OK);
        ck_assert_uint_eq(n, 2);
        store_missing_free(missing, n);
    }
}
END_TEST

START_TEST(look_over_a_thousand_nodes_misses_none) {
    enum { MANY = 1000, SILENT = 137 };
    struct store_missing *missing;
    size_t n, all;
    bool seen[MANY] = {false};
    for (int i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof name, "node-%d", i);
        struct store_member who = joined(name, "1", 10);
        if (i < SILENT) {
            stop_beating(who);
        }
    }
    ck_assert_int_eq(store_find_missing(store, &missing, &n, &all), ERR_OK);
    ck_assert_uint_ge(all, MANY);
    for (size_t i = 0; i < n; i++) {
        seen[atoi(missing[i].name + strlen("node-"))] = true;
    }
    for (int i = 0; i < MANY; i++) {
        ck_assert(seen[i] == (i < SILENT));
    }
    store_missing_free(missing, n);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, one_leads_until_it_gives_up_or_its_time_is_over);
    tcase_add_test(tcase, what_was_to_expire_soon_is_over_when_the_clock_goes_back_F13);
    tcase_add_test(tcase, a_node_that_does_not_beat_does_not_lead);
    tcase_add_test(tcase, two_stand_by_and_the_others_need_not_ask);
    tcase_add_test(tcase, standbys_of_the_future_do_not_bar_others_when_the_clock_went_back);
    tcase_add_test(tcase, only_the_leader_tells_why_clients_wait);
    tcase_add_test(tcase, a_leaving_node_gets_nothing_and_what_it_releases_goes_to_others);
    tcase_add_test(tcase, leaving_is_fenced_unless_the_member_is_registered);
    tcase_add_test(tcase, a_node_that_dies_while_it_leaves_is_fenced_and_reaped);
    tcase_add_test(tcase, nodes_are_found_by_name_and_by_port_whichever_way_they_are_written);
    tcase_add_test(tcase, look_names_those_that_do_not_beat_and_counts_all);
    tcase_add_test(tcase, look_misses_a_beat_that_would_outlive_its_time_to_live);
    tcase_add_test(tcase, look_over_a_thousand_nodes_misses_none);
}

int main(void) {
    return fixture_run("store_lead", add);
}
