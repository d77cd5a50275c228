#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "http/api/ops/client_groups.h"

static struct conf conf;
static struct client_groups *groups;

static void choose(const char *labels, bool by_broker, int64_t most) {
    conf = (struct conf){.metrics_by_label = (char *)labels,
                         .metrics_by_broker = by_broker,
                         .metrics_groups_max = most};
    groups = client_groups_create(&conf);
}

static void add(const char *customer, const char *broker, const char *state, int n) {
    struct client_pair pair = {.name = "customer", .value = (char *)customer};
    struct workers_visited client = {.facts = {.id = "c",
                                               .state = state,
                                               .broker = broker,
                                               .labels = &pair,
                                               .label_count = customer ? 1 : 0}};
    for (int i = 0; i < n; i++) {
        client_groups_add(groups, &client);
    }
}

/* The caller frees. */
static char *page(void) {
    struct buffer out;
    buffer_init(&out);
    client_groups_put(groups, &out);
    client_groups_destroy(groups);
    buffer_append(&out, "", 1);
    return buffer_take(&out);
}

START_TEST(nothing_is_counted_unless_it_is_chosen) {
    choose("", false, 10);
    ck_assert(!client_groups_is_used(groups));
    add("acme", "b:1", "online", 3);
    char *text = page();
    ck_assert_ptr_null(strstr(text, "acme"));
    ck_assert_ptr_null(strstr(text, "b:1"));
    free(text);
}
END_TEST

START_TEST(clients_are_counted_by_label_and_by_broker) {
    choose("customer,site", true, 10);
    ck_assert(client_groups_is_used(groups));
    add("ac\"me", "b:1", "online", 3);
    add("ac\"me", "b:2", "backoff", 2);
    add(NULL, "b:2", "online", 5);
    char *text = page();
    ck_assert_ptr_nonnull(strstr(text,
                                 "mqfleet_label_clients{label=\"customer\",value=\"ac\\\"me\","
                                 "state=\"online\"} 3\n"));
    ck_assert_ptr_nonnull(strstr(text, "value=\"ac\\\"me\",state=\"backoff\"} 2\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "mqfleet_broker_clients{broker=\"b:2\",state=\"online\"} 5\n"));
    ck_assert_ptr_nonnull(strstr(text, "mqfleet_groups_in_other{by=\"label.site\"} 0\n"));
    free(text);
}
END_TEST

START_TEST(values_are_bounded_and_those_in_trouble_are_shown_first) {
    choose("customer", false, 2);
    add("large", "b:1", "online", 9);
    add("larger", "b:1", "online", 10);
    add("small", "b:1", "backoff", 1);
    add("other", "b:1", "conflict", 4); /* never a row of its own */
    char *text = page();
    ck_assert_ptr_nonnull(strstr(text, "value=\"small\",state=\"backoff\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "value=\"larger\",state=\"online\"} 10\n"));
    ck_assert_ptr_null(strstr(text, "value=\"large\""));
    ck_assert_ptr_nonnull(strstr(text, "value=\"other\",state=\"online\"} 9\n"));
    ck_assert_ptr_nonnull(strstr(text, "value=\"other\",state=\"conflict\"} 4\n"));
    ck_assert_ptr_nonnull(strstr(text, "mqfleet_groups_in_other{by=\"label.customer\"} 2\n"));
    free(text);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client_groups");
    TCase *tcase = tcase_create("client_groups");
    tcase_add_test(tcase, nothing_is_counted_unless_it_is_chosen);
    tcase_add_test(tcase, clients_are_counted_by_label_and_by_broker);
    tcase_add_test(tcase, values_are_bounded_and_those_in_trouble_are_shown_first);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
