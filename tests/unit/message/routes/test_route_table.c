/* Tests of routes: order, stop, each condition with its neighbours, and wrong lists. */
#include "message/routes/route_table.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAULTS_LEN 4096

static struct route_table *table;
static struct message_origin *origin;
static char faults[FAULTS_LEN];
static char taken[256];

static void note_fault(void *context, const char *pointer, const char *detail) {
    (void)context;
    size_t len = strlen(faults);
    snprintf(faults + len, sizeof faults - len, "%s: %s\n", pointer, detail);
}

static void note_taken(void *context, const struct route_table *from, size_t route) {
    (void)context;
    ck_assert_ptr_eq(from, table);
    size_t len = strlen(taken);
    snprintf(taken + len, sizeof taken - len, "%zu ", route);
}

static void use(const char *list) {
    json_error_t error;
    json_t *json = json_loads(list, JSON_ALLOW_NUL, &error);
    ck_assert_msg(json != NULL, "%s: %s", list, error.text);
    *faults = '\0';
    route_table_release(table);
    table = route_table_create(json, note_fault, NULL);
    json_decref(json);
}

static void setup(void) {
    static const struct message_label labels[] = {{"site", "oslo"}, {"tier", "gold"}};
    origin = message_origin_create("mqtt.example.com:8883", labels, 2);
    table = NULL;
}

static void teardown(void) {
    route_table_release(table);
    message_origin_release(origin);
}

/* "to,to also,also" by name. */
static const char *decide(const struct message *message) {
    static char out[256];
    struct message_view view;
    message_view_init(&view, message, "node");
    *taken = '\0';
    struct route_decision decision;
    route_table_match(table, &view, &decision, note_taken, NULL);
    message_view_fini(&view);
    *out = '\0';
    for (int also = 0; also < 2; also++) {
        strcat(out, also ? "|" : "");
        for (size_t i = 0; i < route_table_sink_count(table); i++) {
            if ((also ? decision.also : decision.to) >> i & 1) {
                strcat(strcat(out, route_table_sink(table, i)), " ");
            }
        }
    }
    return out;
}

static const char *decide_topic(const char *topic) {
    struct message message = {.id = "i",
                              .client_id = "c",
                              .topic = topic,
                              .payload = (const uint8_t *)"",
                              .origin = origin};
    return decide(&message);
}

START_TEST(all_that_match_add_their_sinks_in_order_up_to_a_stop) {
    use("[{\"name\":\"one\",\"match\":{\"topic\":\"a/#\"},\"to\":[\"x\"],\"also\":[\"y\"]},"
        " {\"match\":{\"topic\":[\"a/b\",\"c\"]},\"to\":[\"y\",\"z\"]},"
        " {\"match\":{\"topic\":\"a/b\"},\"to\":[\"w\"],\"stop\":true},"
        " {\"to\":[\"rest\"]}]");
    ck_assert_str_eq(faults, "");
    ck_assert_str_eq(decide_topic("a"), "x rest |y ");
    ck_assert_str_eq(taken, "0 3 ");
    ck_assert_str_eq(decide_topic("a/b"), "x y z w |"); /* who must accept is not asked again */
    ck_assert_str_eq(taken, "0 1 2 ");
    ck_assert_str_eq(decide_topic("c"), "y z rest |");
    ck_assert_str_eq(decide_topic("d"), "rest |");
    ck_assert_str_eq(decide_topic("$SYS/x"), "rest |");
    ck_assert_str_eq(route_table_name(table, 0), "one");
    ck_assert_ptr_null(route_table_name(table, 1));
}
END_TEST

START_TEST(without_a_match_there_is_no_sink) {
    use("[{\"match\":{\"topic\":\"a\"},\"also\":[\"x\"]}]");
    ck_assert_str_eq(decide_topic("b"), "|");
    ck_assert_str_eq(decide_topic("a"), "|x ");
    use("[]");
    ck_assert_str_eq(faults, "");
    ck_assert_str_eq(decide_topic("a"), "|");
}
END_TEST

/* One condition, and whether the message below fulfils it. */
static const struct {
    const char *condition;
    bool holds;
} conditions[] = {
    {"\"labels\":{\"site\":\"oslo\"}", true},
    {"\"labels\":{\"site\":[\"bergen\",\"oslo\"]}", true},
    {"\"labels\":{\"site\":\"bergen\"}", false},
    {"\"labels\":{\"site\":\"oslo\",\"tier\":\"gold\"}", true},
    {"\"labels\":{\"site\":\"oslo\",\"tier\":\"tin\"}", false},
    {"\"labels\":{\"room\":\"1\"}", false},
    {"\"broker\":\"mqtt.example.com:8883\"", true},
    {"\"broker\":\"*.example.com:*\"", true},
    {"\"broker\":\"mqtt.example.com:1883\"", false},
    {"\"qos\":1", true},
    {"\"qos\":[1,2]", true},
    {"\"qos\":[0,2]", false},
    {"\"retain\":true", true},
    {"\"retain\":false", false},
    {"\"size\":{\"min\":1}", true},
    {"\"size\":{\"max\":3}", false},
    {"\"size\":{\"min\":1,\"max\":1000}", true},
    {"\"when\":{\"pointer\":\"/t\",\"eq\":21}", true},
    {"\"when\":{\"pointer\":\"/t\",\"eq\":21.0}", true},
    {"\"when\":{\"pointer\":\"/t\",\"eq\":\"21\"}", false},
    {"\"when\":{\"pointer\":\"/t\",\"ne\":20}", true},
    {"\"when\":{\"pointer\":\"/t\",\"ne\":21}", false},
    {"\"when\":{\"pointer\":\"/t\",\"gt\":20.5}", true},
    {"\"when\":{\"pointer\":\"/t\",\"gt\":21}", false},
    {"\"when\":{\"pointer\":\"/t\",\"lt\":22}", true},
    {"\"when\":{\"pointer\":\"/t\",\"lt\":\"22\"}", false},
    {"\"when\":{\"pointer\":\"/s\",\"gt\":\"a\"}", true},
    {"\"when\":{\"pointer\":\"/s\",\"gt\":0}", false},
    {"\"when\":{\"pointer\":\"/s\",\"in\":[1,\"on\"]}", true},
    {"\"when\":{\"pointer\":\"/s\",\"in\":[1]}", false},
    {"\"when\":{\"pointer\":\"/n\",\"eq\":null}", true},
    {"\"when\":{\"pointer\":\"/n\",\"exists\":true}", true},
    {"\"when\":{\"pointer\":\"/s\",\"exists\":false}", false},
    {"\"when\":{\"pointer\":\"/x\",\"exists\":false}", true},
    {"\"when\":{\"pointer\":\"/x\",\"eq\":null}", false}, /* missing is false */
    {"\"when\":{\"pointer\":\"/x\",\"ne\":1}", false},
    {"\"when\":{\"pointer\":\"/x\",\"lt\":1}", false},
    {"\"when\":{\"pointer\":\"/o/0\",\"eq\":true}", true},
    {"\"when\":[{\"pointer\":\"/t\",\"gt\":20},{\"pointer\":\"/s\",\"eq\":\"on\"}]", true},
    {"\"when\":[{\"pointer\":\"/t\",\"gt\":20},{\"pointer\":\"/s\",\"eq\":\"off\"}]", false},
    {"\"topic\":\"a/+\",\"qos\":1", true},
    {"\"topic\":\"a/+\",\"qos\":0", false},
    {"\"topic\":[\"a/+\",\"a/b\",\"#\"]", true}, /* counted once */
};

START_TEST(a_condition_holds_or_not) {
    static const char payload[] = "{\"t\":21,\"s\":\"on\",\"n\":null,\"o\":[true]}";
    char list[512];
    snprintf(list, sizeof list, "[{\"match\":{%s},\"to\":[\"x\"]}]", conditions[_i].condition);
    use(list);
    ck_assert_str_eq(faults, "");
    struct message message = {.id = "i",
                              .client_id = "c",
                              .topic = "a/b",
                              .payload = (const uint8_t *)payload,
                              .payload_len = sizeof payload - 1,
                              .qos = 1,
                              .retain = true,
                              .origin = origin};
    ck_assert_msg((strcmp(decide(&message), "x |") == 0) == conditions[_i].holds, "%s",
                  conditions[_i].condition);
    ck_assert_str_eq(taken, conditions[_i].holds ? "0 " : "");
}
END_TEST

START_TEST(without_an_origin_no_label_and_no_broker_matches) {
    message_origin_release(origin);
    origin = NULL;
    use("[{\"match\":{\"broker\":\"*:*\"},\"to\":[\"x\"]},"
        "{\"match\":{\"labels\":{\"site\":\"oslo\"}},\"to\":[\"y\"]}]");
    ck_assert_str_eq(decide_topic("a"), "|");
    use("[{\"match\":{\"qos\":0},\"to\":[\"x\"]}]");
}
END_TEST

static const struct {
    const char *list, *fault;
} wrong[] = {
    {"{}", ": must be an array of at most 10000 routes"},
    {"[1]", "/0: must be an object"},
    {"[{}]", "/0: must name sinks in to, in also, or in both"},
    {"[{\"to\":[]}]", "/0/to: must be an array of 1 to 64 names of sinks"},
    {"[{\"to\":\"x\"}]", "/0/to: must be an array"},
    {"[{\"to\":[\"X y\"]}]", "/0/to: must be an array"},
    {"[{\"to\":[\"x\"],\"also\":[\"x\"]}]", "/0/also: must not name a sink that is in to"},
    {"[{\"to\":[\"x\"],\"sink\":1}]", "/0: has no sink; there are name, match, to"},
    {"[{\"to\":[\"x\"],\"lua\":1}]", "/0/lua: must be a text"},
    {"[{\"to\":[\"x\"],\"lua\":\"return 1\"}]", "/0/lua: must return a function"},
    {"[{\"to\":[\"x\"],\"stop\":1}]", "/0/stop: must be true or false"},
    {"[{\"to\":[\"x\"],\"name\":\"\"}]", "/0/name: must be 1 to 64 of"},
    {"[{\"to\":[\"x\"],\"match\":[]}]", "/0/match: must be an object of conditions"},
    {"[{\"to\":[\"x\"],\"match\":{\"topics\":\"a\"}}]", "/0/match: has no topics; there are topic"},
    {"[{\"to\":[\"x\"],\"match\":{\"topic\":[]}}]", "/0/match/topic: must be a topic filter or 1"},
    {"[{\"to\":[\"x\"],\"match\":{\"topic\":\"a/#/b\"}}]",
     "/0/match/topic: \"a/#/b\" may have # only"},
    {"[{\"to\":[\"x\"],\"match\":{\"topic\":\"\"}}]",
     "/0/match/topic: \"\" must have at least one"},
    {"[{\"to\":[\"x\"],\"match\":{\"topic\":\"$share/g/a\"}}]", "must not be shared"},
    {"[{\"to\":[\"x\"],\"match\":{\"topic\":\"a\\u0000\"}}]",
     "/0/match/topic: must be a topic filter"},
    {"[{\"to\":[\"x\"],\"match\":{\"labels\":{}}}]", "/0/match/labels: must be an object of 1"},
    {"[{\"to\":[\"x\"],\"match\":{\"labels\":{\"a\":1}}}]",
     "/0/match/labels: label a must be a value"},
    {"[{\"to\":[\"x\"],\"match\":{\"broker\":\"host\"}}]", "/0/match/broker: must be host:port"},
    {"[{\"to\":[\"x\"],\"match\":{\"qos\":3}}]", "/0/match/qos: must be 0, 1 or 2"},
    {"[{\"to\":[\"x\"],\"match\":{\"qos\":[]}}]", "/0/match/qos: must be"},
    {"[{\"to\":[\"x\"],\"match\":{\"retain\":1}}]", "/0/match/retain: must be true or false"},
    {"[{\"to\":[\"x\"],\"match\":{\"size\":5}}]", "/0/match/size: must be {\"min\": bytes"},
    {"[{\"to\":[\"x\"],\"match\":{\"size\":{}}}]", "/0/match/size: must be"},
    {"[{\"to\":[\"x\"],\"match\":{\"size\":{\"min\":2,\"max\":1}}}]", "/0/match/size: must be"},
    {"[{\"to\":[\"x\"],\"match\":{\"size\":{\"most\":1}}}]", "/0/match/size: must be"},
    {"[{\"to\":[\"x\"],\"match\":{\"when\":[]}}]", "/0/match/when: must be a condition or 1"},
    {"[{\"to\":[\"x\"],\"match\":{\"when\":{\"pointer\":\"/a\"}}}]",
     "/0/match/when/0: must be {\"pointer\""},
    {"[{\"to\":[\"x\"],\"match\":{\"when\":{\"eq\":1}}}]", "/0/match/when/0: must be {\"pointer\""},
    {"[{\"to\":[\"x\"],\"match\":{\"when\":{\"pointer\":\"a\",\"eq\":1}}}]",
     "/0/match/when/0: must have a JSON pointer"},
    {"[{\"to\":[\"x\"],\"match\":{\"when\":{\"pointer\":\"/a\",\"eq\":[1]}}}]",
     "/0/match/when/0: must have a string, a number, true, false or null in eq"},
    {"[{\"to\":[\"x\"],\"match\":{\"when\":{\"pointer\":\"/a\",\"gt\":true}}}]",
     "/0/match/when/0: must have a number or a string in gt"},
    {"[{\"to\":[\"x\"],\"match\":{\"when\":{\"pointer\":\"/a\",\"in\":1}}}]", "in in"},
    {"[{\"to\":[\"x\"],\"match\":{\"when\":{\"pointer\":\"/a\",\"eq\":1,\"ne\":2}}}]",
     "/0/match/when/0: must be {\"pointer\""},
};

START_TEST(a_wrong_list_is_explained) {
    use(wrong[_i].list);
    ck_assert_ptr_null(table);
    ck_assert_msg(strstr(faults, wrong[_i].fault) != NULL, "%s: %s", wrong[_i].list, faults);
}
END_TEST

START_TEST(all_faults_are_told_at_once) {
    use("[{\"to\":[\"x\"],\"match\":{\"qos\":3,\"retain\":0}},{\"to\":[\"x\"]},{\"also\":1}]");
    ck_assert_ptr_null(table);
    ck_assert_ptr_nonnull(strstr(faults, "/0/match/qos"));
    ck_assert_ptr_nonnull(strstr(faults, "/0/match/retain"));
    ck_assert_ptr_nonnull(strstr(faults, "/2/also"));
}
END_TEST

START_TEST(a_table_names_at_most_sixty_four_sinks) {
    json_t *list = json_array();
    for (int i = 0; i < ROUTE_SINKS_MAX + 1; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        json_array_append_new(list, json_pack("{s:[s]}", "to", name));
    }
    *faults = '\0';
    ck_assert_ptr_null(route_table_create(list, note_fault, NULL));
    ck_assert_str_eq(faults, "/64/to: all routes together may name 64 sinks\n");
    json_decref(list);
}
END_TEST

/* Every word of the bits is used, and routes come in the order of the list. */
START_TEST(of_ten_thousand_routes_all_or_one_match) {
    json_t *list = json_array();
    for (int i = 0; i < ROUTES_MAX; i++) {
        char topic[32];
        snprintf(topic, sizeof topic, i % 100 == 0 ? "hot" : "t/%d", i);
        json_array_append_new(list, json_pack("{s:{s:s}, s:[s]}", "match", "topic", topic, "to",
                                              i % 100 == 0 ? "many" : "one"));
    }
    *faults = '\0';
    table = route_table_create(list, note_fault, NULL);
    json_decref(list);
    ck_assert_str_eq(faults, "");
    ck_assert_uint_eq(route_table_count(table), ROUTES_MAX);
    ck_assert_str_eq(decide_topic("t/9999"), "one |");
    ck_assert_str_eq(taken, "9999 ");
    ck_assert_str_eq(decide_topic("t/0"), "|");
    ck_assert_str_eq(decide_topic("hot"), "many |");
    ck_assert_ptr_nonnull(strstr(taken, "0 100 200 300 "));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("route_table");
    TCase *tcase = tcase_create("route_table");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, all_that_match_add_their_sinks_in_order_up_to_a_stop);
    tcase_add_test(tcase, without_a_match_there_is_no_sink);
    tcase_add_loop_test(tcase, a_condition_holds_or_not, 0,
                        sizeof conditions / sizeof conditions[0]);
    tcase_add_test(tcase, without_an_origin_no_label_and_no_broker_matches);
    tcase_add_loop_test(tcase, a_wrong_list_is_explained, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tcase, all_faults_are_told_at_once);
    tcase_add_test(tcase, a_table_names_at_most_sixty_four_sinks);
    tcase_add_test(tcase, of_ten_thousand_routes_all_or_one_match);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
