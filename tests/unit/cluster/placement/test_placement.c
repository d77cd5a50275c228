/* Tests of which nodes may get clients, why a client waits, and which facts nodes report. */
#include "cluster/placement/placement_routes.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX   6
#define CLIENTS_MAX 600

static struct placement_node nodes[NODES_MAX];
static struct placement_client clients[CLIENTS_MAX];

static void setup(void) {
    static char names[NODES_MAX][2] = {"a", "b", "c", "d", "e", "f"};
    memset(clients, 0, sizeof clients);
    for (size_t i = 0; i < NODES_MAX; i++) {
        nodes[i] = (struct placement_node){.name = names[i], .incarnation = "1", .size = 1000};
        facts_read(&nodes[i].facts, "{\"lag_ms\":0,\"sinks\":[{\"name\":\"redis_stream\"}],"
                                    "\"keys\":[\"k1\"]}");
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        clients[i].avoid = PLACEMENT_NOWHERE;
    }
}

static void tells(size_t node, const char *facts) {
    facts_read(&nodes[node].facts, facts);
}

static size_t placed_on(size_t node, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += clients[i].node == node;
    }
    return count;
}

static struct placement_need with_sink(const char *sink) {
    return (struct placement_need){.sink = (char *)sink};
}

static struct placement_need with_key(const char *key) {
    struct placement_need need = {.keys.count = 1};
    snprintf(need.keys.ids[0], SECRET_KEY_ID_LEN, "%s", key);
    return need;
}

static void pour(size_t node_count, const struct placement_need *needs, size_t need_count,
                 size_t n) {
    ck_assert_int_eq(placement_level(nodes, node_count, needs, need_count, clients, n), ERR_OK);
}

/* ---- pouring -----------------------------------------------------------------------------------
 */

START_TEST(clients_of_many_needs_end_level_on_the_nodes_that_can_run_them) {
    struct placement_need needs[] = {with_sink(NULL), with_sink("file")};
    tells(0, "{\"sinks\":[{\"name\":\"redis_stream\"},{\"name\":\"file\"}],\"keys\":[]}");
    for (size_t i = 0; i < 90; i++) {
        clients[i].need = i % 3 == 0; /* 30 of them need a file sink */
    }
    pour(3, needs, 2, 90);
    for (size_t i = 0; i < 90; i++) {
        ck_assert(clients[i].need == 0 || clients[i].node == 0);
        ck_assert_uint_ne(clients[i].node, PLACEMENT_NOWHERE);
    }
    ck_assert_int_eq(nodes[0].clients + nodes[1].clients + nodes[2].clients, 90);
    ck_assert_int_ge(nodes[0].clients, 30);
    ck_assert_int_le(llabs(nodes[1].clients - nodes[2].clients), 1);
}
END_TEST

START_TEST(a_client_whose_need_no_node_meets_goes_nowhere) {
    struct placement_need needs[] = {with_sink("file"), with_key("k2")};
    clients[1].need = 1;
    pour(3, needs, 2, 2);
    ck_assert_uint_eq(clients[0].node, PLACEMENT_NOWHERE);
    ck_assert_uint_eq(clients[1].node, PLACEMENT_NOWHERE);
    tells(2, "{\"sinks\":[{\"name\":\"redis_stream\"}],\"keys\":[\"k1\",\"k2\"]}");
    pour(3, needs, 2, 2);
    ck_assert_uint_eq(clients[0].node, PLACEMENT_NOWHERE);
    ck_assert_uint_eq(clients[1].node, 2);
}
END_TEST

START_TEST(a_node_whose_sink_has_long_failed_is_the_last_choice) {
    struct placement_need needs[] = {with_sink(NULL)};
    tells(0, "{\"sinks\":[{\"name\":\"redis_stream\",\"failing_ms\":10000}],\"keys\":[]}");
    tells(1, "{\"sinks\":[{\"name\":\"redis_stream\",\"failing_ms\":9000}],\"keys\":[]}");
    nodes[1].size = nodes[2].size = 5;
    pour(3, needs, 1, 12);
    ck_assert_uint_eq(placed_on(1, 12), 5); /* it may just be restarting */
    ck_assert_uint_eq(placed_on(2, 12), 5);
    ck_assert_uint_eq(placed_on(0, 12), 2);
}
END_TEST

START_TEST(no_node_exceeds_its_size_whatever_the_needs) {
    struct placement_need needs[] = {with_sink(NULL), with_key("k1")};
    nodes[0].size = 4;
    nodes[1].size = 3;
    nodes[1].clients = 3;
    for (size_t i = 0; i < 20; i++) {
        clients[i].need = i % 2;
    }
    pour(2, needs, 2, 20);
    ck_assert_int_eq(nodes[0].clients, 4);
    ck_assert_int_eq(nodes[1].clients, 3);
    ck_assert_uint_eq(placed_on(PLACEMENT_NOWHERE, 20), 16);
}
END_TEST

START_TEST(a_node_that_failed_a_client_is_avoided_among_those_that_can_run_it) {
    struct placement_need needs[] = {with_sink("file")};
    tells(1, "{\"sinks\":[{\"name\":\"redis_stream\"},{\"name\":\"file\"}],\"keys\":[]}");
    tells(3, "{\"sinks\":[{\"name\":\"redis_stream\"},{\"name\":\"file\"}],\"keys\":[]}");
    nodes[3].clients = 9;
    clients[0].avoid = 1;
    clients[1].avoid = 0; /* it could not run it anyway */
    pour(4, needs, 1, 2);
    ck_assert_uint_eq(clients[0].node, 3);
    ck_assert_uint_eq(clients[1].node, 1);
}
END_TEST

/* ---- why a client waits -------------------------------------------------------------------------
 */

static enum placement_wait why(size_t n, struct placement_need need) {
    return placement_wait_reason(nodes, n, &need);
}

START_TEST(why_a_client_waits_is_the_first_thing_that_is_lacking) {
    ck_assert_int_eq(why(0, with_sink(NULL)), PLACEMENT_NO_NODES);
    ck_assert_int_eq(why(2, with_sink("file")), PLACEMENT_NO_SINK);
    ck_assert_int_eq(why(2, with_key("k2")), PLACEMENT_NO_KEY);
    ck_assert_int_eq(why(2, with_key("k1")), PLACEMENT_SOON);
    nodes[0].clients = nodes[0].size;
    ck_assert_int_eq(why(2, with_sink(NULL)), PLACEMENT_SOON);
    nodes[1].size = 0;
    ck_assert_int_eq(why(2, with_sink(NULL)), PLACEMENT_NO_ROOM);
    ck_assert_int_eq(why(2, with_sink("file")), PLACEMENT_NO_SINK);
    struct placement_need both = with_key("k1");
    both.sink = (char *)"file";
    tells(2, "{\"sinks\":[{\"name\":\"file\"}],\"keys\":[]}");
    ck_assert_int_eq(why(3, both), PLACEMENT_NO_KEY);
}
END_TEST

START_TEST(a_node_of_an_older_version_tells_nothing_and_counts_as_able) {
    tells(0, NULL);
    ck_assert_int_eq(why(1, with_sink("file")), PLACEMENT_SOON);
    ck_assert_int_eq(why(1, with_key("k2")), PLACEMENT_SOON);
}
END_TEST

START_TEST(each_wait_has_a_code_of_its_own_and_a_text) {
    for (int i = 0; i < PLACEMENT_WAIT_COUNT; i++) {
        ck_assert_uint_gt(strlen(placement_wait_text((enum placement_wait)i)), 10);
        for (int j = 0; j < i; j++) {
            ck_assert_str_ne(placement_wait_code((enum placement_wait)i),
                             placement_wait_code((enum placement_wait)j));
        }
    }
}
END_TEST

/* ---- which nodes may get clients
 * ------------------------------------------------------------------- */

START_TEST(only_nodes_that_live_beat_and_keep_up_get_clients) {
    static char name[] = "n", lagging[] = "{\"lag_ms\":2000,\"sinks\":[],\"keys\":[]}",
                keeps_up[] = "{\"lag_ms\":1999,\"sinks\":[],\"keys\":[]}", rubbish[] = "[1,";
    static const struct {
        enum store_node_state state;
        bool beating;
        char *facts;
        bool taken;
    } rows[] = {
        {STORE_NODE_LIVE, true, keeps_up, true},     {STORE_NODE_LIVE, true, lagging, false},
        {STORE_NODE_LIVE, false, keeps_up, false},   {STORE_NODE_DRAINING, true, keeps_up, false},
        {STORE_NODE_LEAVING, true, keeps_up, false}, {STORE_NODE_DEAD, true, keeps_up, false},
        {STORE_NODE_LIVE, true, NULL, true},         {STORE_NODE_LIVE, true, rubbish, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct placement_node out;
        struct store_node node = {.name = name,
                                  .incarnation = name,
                                  .size = 7,
                                  .clients = 3,
                                  .state = rows[i].state,
                                  .heartbeat_valid = rows[i].beating,
                                  .facts = rows[i].facts};
        ck_assert_uint_eq(placement_eligible_nodes(&node, 1, &out), rows[i].taken);
        ck_assert(!rows[i].taken || (out.size == 7 && out.clients == 3));
    }
}
END_TEST

/* ---- needs --------------------------------------------------------------------------------- */

static struct placement_routes routes;

static struct placement_need need_of(const char *more) {
    char text[512];
    struct client_config *config;
    struct client_faults faults;
    struct placement_need need;
    snprintf(text, sizeof text, "{\"id\":\"x\"%s%s}",
             strstr(more, "\"urls\"") ? "" : ",\"url\":\"mqtt://h:1883\"", more);
    ck_assert_msg(client_config_parse_text(text, strlen(text), "x", &config, &faults) == ERR_OK,
                  "%s", text);
    ck_assert_int_eq(placement_need_of(config, &routes, &need), ERR_OK);
    client_config_destroy(config);
    return need;
}

static void fail_on_route(void *context, const char *pointer, const char *detail) {
    (void)context;
    ck_abort_msg("%s: %s", pointer, detail);
}

/* Two nodes: both have "everywhere", only the first has "files". */
START_TEST(a_client_needs_the_sinks_that_its_messages_may_be_routed_to) {
    static const char *const needs[] = {
        ",\"subscriptions\":[\"a/+/c\"],\"labels\":{\"site\":\"oslo\"}"};
    static const char *const others[] = {
        ",\"subscriptions\":[\"b/#\"],\"labels\":{\"site\":\"oslo\"}",
        ",\"subscriptions\":[\"a/#\"],\"labels\":{\"site\":\"rome\"}"};
    struct placement_node two[2] = {{.name = "m1", .size = 9, .facts.known = true},
                                    {.name = "m2", .size = 9, .facts.known = true}};
    json_t *list = json_loads("[{\"to\":[\"everywhere\"],\"also\":[\"nowhere\"]},"
                              "{\"match\":{\"topic\":\"a/b/#\",\"labels\":{\"site\":\"oslo\"}},"
                              "\"to\":[\"files\"]}]",
                              0, NULL);
    facts_read(&two[0].facts, "{\"sinks\":[{\"name\":\"d\"},{\"name\":\"everywhere\"},"
                              "{\"name\":\"files\"}],\"keys\":[]}");
    facts_read(&two[1].facts,
               "{\"sinks\":[{\"name\":\"d\"},{\"name\":\"everywhere\"}],\"keys\":[]}");
    struct router *router = router_create();
    struct sinks *sinks = sinks_create(&(struct sink_environment){.node = "n"}, router);
    ck_assert(sinks_set_routes(sinks, route_table_create(list, fail_on_route, NULL)));
    placement_routes_init(&routes, sinks, two, 2);
    struct placement_need need = need_of(needs[0]);
    ck_assert_uint_eq(placement_choose(two, 2, &need, NULL), 0);
    two[0].clients = 9;
    ck_assert_int_eq(placement_wait_reason(two, 2, &need), PLACEMENT_NO_ROOM);
    ck_assert_int_eq(placement_wait_reason(&two[1], 1, &need), PLACEMENT_NO_SINK);
    for (size_t i = 0; i < 2; i++) {
        struct placement_need other = need_of(others[i]);
        ck_assert_uint_eq(placement_choose(two, 2, &other, NULL), 1);
        ck_assert(!placement_need_equal(&need, &other));
        placement_need_fini(&other);
    }
    placement_need_fini(&need);
    placement_routes_fini(&routes);
    sinks_destroy(sinks);
    router_destroy(router);
    json_decref(list);
}
END_TEST

START_TEST(a_client_needs_the_sinks_of_its_own_routes) {
    static const struct {
        const char *more;
        size_t node;
    } rows[] = {
        {",\"subscriptions\":[\"a/#\"],\"routes\":[{\"to\":[\"everywhere\",\"files\"]}]", 0},
        {",\"subscriptions\":[\"a/#\"],\"routes\":[{\"to\":[\"everywhere\"],\"also\":[\"files\"]}]",
         1},
        {",\"subscriptions\":[\"a/#\"],\"routes\":[{\"match\":{\"topic\":\"b\"},\"to\":[\"files\"]}]",
         1},
        /* at the second of its brokers */
        {",\"subscriptions\":[\"a\"],\"urls\":[\"mqtt://h\",\"mqtts://i\"],"
         "\"routes\":[{\"match\":{\"broker\":\"i:8883\"},\"to\":[\"files\"]}]",
         0},
        {",\"subscriptions\":[\"a\"],\"urls\":[\"mqtt://h\",\"mqtts://i\"],"
         "\"routes\":[{\"match\":{\"broker\":\"i:1883\"},\"to\":[\"files\"]}]",
         1}};
    struct placement_node two[2] = {{.name = "m1", .size = 9, .clients = 1, .facts.known = true},
                                    {.name = "m2", .size = 9, .facts.known = true}};
    struct placement_need need[sizeof rows / sizeof rows[0]];
    facts_read(&two[0].facts, "{\"sinks\":[{\"name\":\"d\"},{\"name\":\"everywhere\"},"
                              "{\"name\":\"files\"}],\"keys\":[]}");
    facts_read(&two[1].facts,
               "{\"sinks\":[{\"name\":\"d\"},{\"name\":\"everywhere\"}],\"keys\":[]}");
    placement_routes_init(&routes, NULL, two, 2);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        need[i] = need_of(rows[i].more);
        ck_assert_uint_eq(placement_choose(two, 2, &need[i], NULL), rows[i].node);
    }
    ck_assert_int_eq(placement_wait_reason(&two[1], 1, &need[0]), PLACEMENT_NO_SINK);
    ck_assert(!placement_need_equal(&need[0], &need[1]) &&
              placement_need_equal(&need[1], &need[2]));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        placement_need_fini(&need[i]);
    }
    placement_routes_fini(&routes);
}
END_TEST

START_TEST(needs_are_the_sink_that_is_named_and_the_keys_of_what_is_encrypted) {
    struct placement_need none = need_of(""), sink = need_of(",\"sink\":\"file\"");
    struct placement_need again = need_of(",\"sink\":\"file\",\"username\":\"u\"");
    ck_assert_ptr_null(none.sink);
    ck_assert_uint_eq(none.keys.count, 0);
    ck_assert_str_eq(sink.sink, "file");
    ck_assert(placement_need_equal(&sink, &again) && placement_need_equal(&none, &none));
    ck_assert(!placement_need_equal(&none, &sink) && !placement_need_equal(&sink, &none));
    struct placement_need one = with_key("k1"), other = with_key("k2");
    ck_assert(!placement_need_equal(&one, &other) && !placement_need_equal(&one, &none));
    placement_need_fini(&none);
    placement_need_fini(&sink);
    placement_need_fini(&again);
}
END_TEST

/* ---- facts --------------------------------------------------------------------------------- */

START_TEST(facts_travel_whole) {
    struct facts facts = {.lag_ms = 1234, .sink_count = 2, .key_count = 1}, read;
    snprintf(facts.sinks[0].name, FACTS_SINK_NAME_LEN, "redis_stream");
    snprintf(facts.sinks[1].name, FACTS_SINK_NAME_LEN, "file");
    facts.sinks[1].failing_ms = 77;
    snprintf(facts.keys[0], SECRET_KEY_ID_LEN, "0123456789abcdef");
    char *text = facts_text(&facts);
    facts_read(&read, text);
    free(text);
    ck_assert(read.known && read.lag_ms == 1234);
    ck_assert_str_eq(facts_sink(&read, NULL)->name, "redis_stream"); /* the first is the default */
    ck_assert_int_eq(facts_sink(&read, NULL)->failing_ms, 0);
    ck_assert_int_eq(facts_sink(&read, "file")->failing_ms, 77);
    ck_assert_ptr_null(facts_sink(&read, "nosuch"));
    ck_assert(facts_has_key(&read, "0123456789abcdef") && !facts_has_key(&read, "0123"));
}
END_TEST

START_TEST(rubbish_tells_nothing_and_too_much_is_cut) {
    static const char *const rubbish[] = {"",
                                          "{",
                                          "[]",
                                          "7",
                                          "null",
                                          "{\"sinks\":7,\"keys\":{}}",
                                          "{\"sinks\":[]}",
                                          "{\"lag_ms\":\"x\"}"};
    struct facts facts;
    for (size_t i = 0; i < sizeof rubbish / sizeof rubbish[0]; i++) {
        facts_read(&facts, rubbish[i]);
        ck_assert(!facts.known && facts.sink_count == 0 && facts.key_count == 0);
    }
    static char text[16384] = "{\"lag_ms\":1e99,\"sinks\":[7,{},{\"name\":[]}";
    for (int i = 0; i < 100; i++) {
        char one[120];
        snprintf(
            one, sizeof one,
            ",{\"name\":\"a-name-that-is-much-longer-than-the-one-which-a-sink-of-a-node-can-have-%d\"}",
            i);
        strcat(text, one);
    }
    strcat(text, "],\"keys\":[1,null");
    for (int i = 0; i < 50; i++) {
        strcat(text, ",\"a key whose name is longer than a name may be\"");
    }
    strcat(text, "]}");
    facts_read(&facts, text);
    ck_assert(facts.known && facts.sink_count == FACTS_SINKS_MAX);
    ck_assert_uint_eq(facts.key_count, SECRET_KEYS_MAX);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("placement");
    TCase *tests = tcase_create("placement");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, clients_of_many_needs_end_level_on_the_nodes_that_can_run_them);
    tcase_add_test(tests, a_client_whose_need_no_node_meets_goes_nowhere);
    tcase_add_test(tests, a_node_whose_sink_has_long_failed_is_the_last_choice);
    tcase_add_test(tests, no_node_exceeds_its_size_whatever_the_needs);
    tcase_add_test(tests, a_node_that_failed_a_client_is_avoided_among_those_that_can_run_it);
    tcase_add_test(tests, why_a_client_waits_is_the_first_thing_that_is_lacking);
    tcase_add_test(tests, a_node_of_an_older_version_tells_nothing_and_counts_as_able);
    tcase_add_test(tests, each_wait_has_a_code_of_its_own_and_a_text);
    tcase_add_test(tests, only_nodes_that_live_beat_and_keep_up_get_clients);
    tcase_add_test(tests, needs_are_the_sink_that_is_named_and_the_keys_of_what_is_encrypted);
    tcase_add_test(tests, a_client_needs_the_sinks_that_its_messages_may_be_routed_to);
    tcase_add_test(tests, a_client_needs_the_sinks_of_its_own_routes);
    tcase_add_test(tests, facts_travel_whole);
    tcase_add_test(tests, rubbish_tells_nothing_and_too_much_is_cut);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
