/* Tests of mqtt/client/client_selector. */
#include "mqtt/client/client_selector.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct client_pair pump_labels[] = {{"tenant", "acme"}, {"site", "a,b\\c"}};
static const struct client_facts PUMP = {.id = "pump-1",
                                         .state = "backoff",
                                         .error = "dns_failed",
                                         .broker = "b1.example.com:1883",
                                         .node = "m1",
                                         .labels = pump_labels,
                                         .label_count = 2,
                                         .profile = "pumps",
                                         .silent = true};
static const struct client_facts WAITING = {.id = "pump-2", .state = "waiting"};

static struct client_selector *parse(const char *query) {
    struct client_selector *selector;
    char fault[CLIENT_SELECTOR_FAULT_LEN] = "";
    ck_assert_msg(client_selector_parse_query(query, &selector, fault) == ERR_OK, "%s: %s", query,
                  fault);
    return selector;
}

static bool matches(const char *query, const struct client_facts *facts) {
    struct client_selector *selector = parse(query);
    bool result = client_selector_matches(selector, facts);
    client_selector_destroy(selector);
    return result;
}

START_TEST(every_key_selects_by_its_fact) {
    static const char *const right[] = {"state=backoff",
                                        "error=dns_failed",
                                        "broker=b1.example.com:1883",
                                        "broker=B1.Example.com:1883",
                                        "node=m1",
                                        "label.tenant=acme",
                                        "id_prefix=pump-",
                                        "id_prefix=pump-1",
                                        "profile=pumps",
                                        "silent=true",
                                        "degraded=false"};
    static const char *const wrong[] = {
        "state=online",  "error=tls_failed",  "broker=b1.example.com:1884",
        "node=m2",       "label.tenant=Acme", "label.absent=acme",
        "id_prefix=ump", "id_prefix=pump-12", "profile=p",
        "silent=false",  "degraded=true"};
    for (size_t i = 0; i < COUNT(right); i++) {
        ck_assert_msg(matches(right[i], &PUMP), "%s", right[i]);
    }
    for (size_t i = 0; i < COUNT(wrong); i++) {
        ck_assert_msg(!matches(wrong[i], &PUMP), "%s", wrong[i]);
    }
}
END_TEST

START_TEST(a_client_without_a_fact_matches_no_value_of_it) {
    static const char *const wrong[] = {"error=dns_failed", "broker=b:1", "node=m1",
                                        "profile=pumps", "label.tenant=acme"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        ck_assert_msg(!matches(wrong[i], &WAITING), "%s", wrong[i]);
    }
    ck_assert(matches("state=waiting&id_prefix=pump&silent=false&degraded=false", &WAITING));
}
END_TEST

START_TEST(values_are_alternatives_and_keys_must_all_match) {
    ck_assert(matches("state=online,backoff&label.tenant=other,acme", &PUMP));
    ck_assert(!matches("state=online,backoff&label.tenant=other", &PUMP));
    ck_assert(!matches("state=online,paused&label.tenant=acme", &PUMP));
    ck_assert(matches("silent=true,false", &WAITING));
}
END_TEST

START_TEST(a_value_may_have_commas_and_backslashes) {
    ck_assert(matches("label.site=a%5C,b%5C%5Cc", &PUMP));
    ck_assert(matches("label.site=x,a%5C%2Cb%5C%5Cc", &PUMP));
    ck_assert(!matches("label.site=a,b%5C%5Cc", &PUMP));
    ck_assert(matches("label%5Btenant%5D=acme", &PUMP) && !matches("label[tenant]=x", &PUMP));
}
END_TEST

START_TEST(an_empty_selector_selects_everything) {
    struct client_selector *selector = parse("");
    ck_assert(client_selector_is_empty(selector) && client_selector_is_empty(NULL));
    ck_assert(client_selector_matches(selector, &PUMP) && client_selector_matches(NULL, &PUMP));
    client_selector_destroy(selector);
    selector = parse("state=online");
    ck_assert(!client_selector_is_empty(selector));
    client_selector_destroy(selector);
}
END_TEST

START_TEST(a_fault_says_what_would_be_right) {
    static const struct {
        const char *query, *says;
    } cases[] = {
        {"state=a", "must be waiting, connecting, online, backoff, conflict or paused"},
        {"state=online,a", "\"a\" is not a state"},
        {"state=online&state=paused", "state: is given twice; give it once"},
        {"label.a=1&node=m&label.a=2", "label.a: is given twice"},
        {"colour=red", "the keys are state error broker node label.*"},
        {"label=tenant", "label: unknown key"},
        {"label[]=x", "must have a name of 1 to 63 letters"},
        {"label[a=x", "label[a: unknown key"},
        {"labels=x", "labels: unknown key"},
        {"label[b]=1&label.b=2", "is given twice"},
        {"label.=x", "must have a name of 1 to 63 letters"},
        {"label.a%20b=x", "must have a name of 1 to 63 letters"},
        {"error=dns_faild", "such as dns_failed"},
        {"broker=b1.example.com", "must be host:port, such as b1.example.com:1883"},
        {"broker=:1883", "must be host:port"},
        {"broker=b:0", "must be host:port"},
        {"broker=b:65536", "must be host:port"},
        {"broker=b:99999999999999999999", "must be host:port"},
        {"silent=1", "must be true or false, not \"1\""},
        {"degraded=True", "must be true or false"},
        {"node=", "node: has an empty value"},
        {"node=m1,,m2", "node: has an empty value"},
        {"node=m1,", "node: has an empty value"},
        {"label.a=%5Cx", "write \\\\ for one backslash"},
        {"label.a=%5C", "write \\\\ for one backslash"},
        {"node", "must be key=value"},
        {"node=%zz", "percent-encoded"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct client_selector *selector;
        char fault[CLIENT_SELECTOR_FAULT_LEN] = "";
        ck_assert_msg(client_selector_parse_query(cases[i].query, &selector, fault) == ERR_ARGUMENT,
                      "%s", cases[i].query);
        ck_assert_ptr_null(selector);
        ck_assert_msg(strstr(fault, cases[i].says) != NULL, "%s: %s", cases[i].query, fault);
    }
}
END_TEST

/* "node=m0,m1,..." or "label.l0=x&label.l1=x...". */
static enum err parse_many(const char *first, const char *next, int count) {
    char query[4096], fault[CLIENT_SELECTOR_FAULT_LEN] = "";
    int len = 0;
    for (int i = 0; i < count; i++) {
        len += sprintf(query + len, i == 0 ? first : next, i);
    }
    struct client_selector *selector;
    enum err err = client_selector_parse_query(query, &selector, fault);
    client_selector_destroy(selector);
    ck_assert(err == ERR_OK || strstr(fault, "at most") != NULL);
    return err;
}

START_TEST(keys_and_values_are_bounded) {
    ck_assert_int_eq(parse_many("node=m%d", ",m%d", CLIENT_SELECTOR_VALUES_MAX), ERR_OK);
    ck_assert_int_eq(parse_many("node=m%d", ",m%d", CLIENT_SELECTOR_VALUES_MAX + 1), ERR_ARGUMENT);
    ck_assert_int_eq(parse_many("label.l%d=x", "&label.l%d=x", CLIENT_SELECTOR_KEYS_MAX), ERR_OK);
    ck_assert_int_eq(parse_many("label.l%d=x", "&label.l%d=x", CLIENT_SELECTOR_KEYS_MAX + 1),
                     ERR_ARGUMENT);
}
END_TEST

START_TEST(the_query_of_a_selector_gives_it_back) {
    static const struct {
        const char *query, *back;
    } cases[] = {
        {"", ""},
        {"degraded=true&label.b=2&state=online,paused&label.a=1",
         "state=online,paused&label.a=1&label.b=2&degraded=true"},
        {"label.a=x%5C,y,%5C%5C,%26%3D+%C3%A4", "label.a=x%5C%2Cy,%5C%5C,%26%3D%20%C3%A4"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct client_selector *selector = parse(cases[i].query);
        char *query = client_selector_query(selector);
        ck_assert_str_eq(query, cases[i].back);
        client_selector_destroy(selector);
        selector = parse(query);
        char *again = client_selector_query(selector);
        ck_assert_str_eq(query, again);
        client_selector_destroy(selector);
        free(query);
        free(again);
    }
}
END_TEST

START_TEST(the_values_of_a_key_can_be_read) {
    struct client_selector *selector = parse("state=online&node=m1,m2");
    size_t count;
    char *const *values = client_selector_values(selector, CLIENT_SELECTOR_NODE, &count);
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(values[1], "m2");
    ck_assert_ptr_null(client_selector_values(selector, CLIENT_SELECTOR_BROKER, &count));
    ck_assert_uint_eq(count, 0);
    client_selector_destroy(selector);
}
END_TEST

START_TEST(keys_are_recognized) {
    ck_assert(client_selector_is_key("state") && client_selector_is_key("label.x"));
    ck_assert(!client_selector_is_key("cursor") && !client_selector_is_key("label"));
    const char *label;
    ck_assert_int_eq(client_selector_key_of("label.x", &label), CLIENT_SELECTOR_LABEL);
    ck_assert_str_eq(label, "x");
    ck_assert_int_eq(client_selector_key_of("node", &label), CLIENT_SELECTOR_NODE);
    ck_assert_ptr_null(label);
    ck_assert_int_eq(client_selector_key_of("label.", &label), CLIENT_SELECTOR_KEY_COUNT);
    ck_assert_int_eq(client_selector_key_of("label[x]", &label), CLIENT_SELECTOR_KEY_COUNT);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("client_selector");
    tcase_add_test(cases, every_key_selects_by_its_fact);
    tcase_add_test(cases, a_client_without_a_fact_matches_no_value_of_it);
    tcase_add_test(cases, values_are_alternatives_and_keys_must_all_match);
    tcase_add_test(cases, a_value_may_have_commas_and_backslashes);
    tcase_add_test(cases, an_empty_selector_selects_everything);
    tcase_add_test(cases, a_fault_says_what_would_be_right);
    tcase_add_test(cases, keys_and_values_are_bounded);
    tcase_add_test(cases, the_query_of_a_selector_gives_it_back);
    tcase_add_test(cases, the_values_of_a_key_can_be_read);
    tcase_add_test(cases, keys_are_recognized);
    Suite *suite = suite_create("client_selector");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
