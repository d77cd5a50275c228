/* Tests of mqtt/config/subscriptions: the packets that change one configuration into another. */
#include "mqtt/config/subscriptions.h"
#include "mqtt/client/subscribing.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A configuration with these members; ' stands for ". */
static struct client_config *config_of(const char *members) {
    struct client_config *config;
    struct client_faults faults;
    char text[4096];
    snprintf(text, sizeof(text), "{'id':'c','broker':'localhost'%s}", members);
    for (char *c = text; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    enum err err = client_config_parse_text(text, strlen(text), NULL, &config, &faults);
    ck_assert_msg(err == ERR_OK, "%s: %s", faults.items[0].pointer, faults.items[0].detail);
    return config;
}

/* What the plan asks for after everything of `from` was granted. */
static void describe_subscribes(const struct client_config *from, const struct client_config *to,
                                char *said, size_t size) {
    const struct subscribing_rules rules = {.packet_max = 64};
    struct subscribing plan;
    uint16_t asked[64];
    const struct client_config *first = !from ? to : from;
    ck_assert_int_eq(subscribing_init(&plan, first), ERR_OK);
    for (size_t i = 0; from && i < from->subscription_count; i++) {
        subscribing_acknowledged(&plan, from->subscription_count, (const int32_t[]){(int32_t)i},
                                 (const uint8_t[]){0}, 1, 0);
    }
    ck_assert_int_eq(subscribing_change(&plan, first, to), ERR_OK);
    size_t n = subscribing_next(&plan, to, &rules, asked);
    for (size_t i = 0; i < n; i++) {
        snprintf(said + strlen(said), size - strlen(said), "+%s:%d ",
                 to->subscriptions[asked[i]].filter, to->subscriptions[asked[i]].qos);
    }
    subscribing_fini(&plan);
}

/* "+a:1 +b:0 -c" means subscribe to a with QoS 1 and b with 0, unsubscribe c. */
static void expect(const char *from_members, const char *to_members, int session_present,
                   const char *expected) {
    char said[1024] = "";
    struct client_config *from = !from_members ? NULL : config_of(from_members);
    struct client_config *to = config_of(to_members);
    struct subscriptions_removed gone = {0};
    describe_subscribes(from, to, said, sizeof(said));
    if (from || session_present) {
        ck_assert_int_eq(subscriptions_removed_init(&gone, from, to), ERR_OK);
    }
    for (size_t i = 0; i < gone.count; i++) {
        snprintf(said + strlen(said), sizeof(said) - strlen(said), "-%s ", gone.filters[i]);
    }
    ck_assert_str_eq(said, expected);
    subscriptions_removed_fini(&gone);
    ck_assert_ptr_null(gone.filters);
    client_config_destroy(from);
    client_config_destroy(to);
}

START_TEST(new_connection_subscribes_to_all) {
    expect(NULL, ",'subscriptions':['b',{'filter':'a','qos':2}]", 0, "+b:1 +a:2 ");
    expect(NULL, ",'subscriptions':['b',{'filter':'a','qos':2}]", 1, "+b:1 +a:2 ");
    expect(NULL, "", 1, "");
}
END_TEST

START_TEST(retired_filters_are_dropped_from_a_session_that_outlived_them) {
    const char *to = ",'subscriptions':['a'],'retired_filters':['x','a','y']";
    expect(NULL, to, 1, "+a:1 -x -y ");
    expect(NULL, to, 0, "+a:1 ");
}
END_TEST

START_TEST(difference_is_all_that_is_said_on_a_known_connection) {
    expect(",'subscriptions':['a','b']", ",'subscriptions':['a','b']", 1, "");
    expect(",'subscriptions':['a','b']", ",'subscriptions':['b','a']", 1, "");
    expect(",'subscriptions':['a','b']", ",'subscriptions':['b','c']", 1, "+c:1 -a ");
    expect(",'subscriptions':['a','b']", "", 0, "-a -b ");
    expect("", ",'sub_topic':'a'", 0, "+a:1 ");
    expect(",'subscriptions':['$share/g/a']", ",'subscriptions':['$share/h/a']", 0,
           "+$share/h/a:1 -$share/g/a ");
}
END_TEST

START_TEST(changed_options_subscribe_again) {
    expect(",'subscriptions':['a']", ",'subscriptions':[{'filter':'a','qos':0}]", 1, "+a:0 ");
    expect(",'subscriptions':['a']", ",'subscriptions':[{'filter':'a','no_local':true}]", 1,
           "+a:1 ");
    expect(",'subscriptions':['a']", ",'subscriptions':[{'filter':'a','retain_as_published':true}]",
           1, "+a:1 ");
    expect(",'subscriptions':['a']", ",'subscriptions':[{'filter':'a','retain_handling':2}]", 1,
           "+a:1 ");
}
END_TEST

START_TEST(retired_filters_matter_only_for_unknown_sessions) {
    expect(",'subscriptions':['a']", ",'subscriptions':['a'],'retired_filters':['x']", 1, "");
}
END_TEST

/* ---- what fits into a packet ---- */

/* Against bytes counted by hand: MQTT 5.0 sections 3.8 and 3.10. */
START_TEST(as_many_filters_fit_as_the_largest_packet_holds) {
    char a[] = "abcd", b[] = "efgh";
    struct client_subscription two[] = {{.filter = a, .identifier = 200}, {.filter = b}};
    char *filters[] = {a, b};
    static const struct {
        int version;
        size_t bytes, subscribed, unsubscribed;
    } cases[] = {{4, 0, 2, 2},  {4, 18, 2, 2}, {4, 17, 1, 2}, {4, 16, 1, 2},
                 {4, 15, 1, 1}, {4, 11, 1, 1}, {4, 10, 0, 1}, {4, 9, 0, 0},
                 {5, 22, 2, 2}, {5, 21, 1, 2}, {5, 15, 1, 1}, {5, 14, 0, 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_uint_eq(subscriptions_fit(two, 2, cases[i].version, cases[i].bytes),
                          cases[i].subscribed);
        ck_assert_uint_eq(filters_fit(filters, 2, cases[i].version, cases[i].bytes),
                          cases[i].unsubscribed);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("subscriptions");
    TCase *tcase = tcase_create("subscriptions");
    tcase_add_test(tcase, new_connection_subscribes_to_all);
    tcase_add_test(tcase, retired_filters_are_dropped_from_a_session_that_outlived_them);
    tcase_add_test(tcase, difference_is_all_that_is_said_on_a_known_connection);
    tcase_add_test(tcase, changed_options_subscribe_again);
    tcase_add_test(tcase, retired_filters_matter_only_for_unknown_sessions);
    tcase_add_test(tcase, as_many_filters_fit_as_the_largest_packet_holds);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
