#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "http/api/brokers/broker_table.h"

static void add_clients(struct broker_table *table, const char *broker, const char *state, int n) {
    for (int i = 0; i < n; i++) {
        struct workers_visited client = {
            .facts = {.id = "c", .state = state, .broker = broker, .degraded = i == 0}};
        broker_table_add_client(table, &client);
    }
}

static void add_view(struct broker_table *table, const char *broker, int64_t since_ms,
                     int64_t expires_at_ms, int64_t ping_us) {
    struct broker_view view = {.broker = broker,
                               .incident_since_ms = since_ms,
                               .first_error =
                                   since_ms ? CLIENT_ERROR_CONNECTION_REFUSED : CLIENT_ERROR_NONE,
                               .certificate_expires_at_ms = expires_at_ms,
                               .rates = {.connects_per_s = 0.5}};
    histogram_values_add(&view.rates.pings, ping_us);
    broker_table_add_view(table, &view);
}

static void merge(struct broker_table *into, const struct broker_table *from) {
    json_t *json = broker_table_to_json(from);
    ck_assert_int_eq(broker_table_merge_json(into, json), ERR_OK);
    json_decref(json);
}

static struct broker_row *first_row(const struct broker_table *table, const char *broker) {
    size_t n;
    struct broker_row **rows = broker_table_sorted(table, &n);
    struct broker_row *row = rows[0];
    free(rows);
    ck_assert_str_eq(row->broker, broker);
    return row;
}

START_TEST(counts_rates_and_histograms_of_nodes_are_added) {
    struct broker_table one = {.node = "n1"}, two = {.node = "n2"}, all = {0};
    add_clients(&one, "b:1", "online", 3);
    add_clients(&two, "b:1", "backoff", 2);
    add_view(&one, "b:1", 0, 7000, 900);
    add_view(&two, "b:1", 0, 5000, 40000);
    merge(&all, &one);
    merge(&all, &two);
    const struct broker_row *row = first_row(&all, "b:1");
    ck_assert_int_eq(row->counts[BROKER_CLIENTS], 5);
    ck_assert_int_eq(row->counts[BROKER_ONLINE], 3);
    ck_assert_int_eq(row->counts[BROKER_BACKOFF], 2);
    ck_assert_int_eq(row->counts[BROKER_DEGRADED], 2);
    ck_assert_int_eq(row->certificate_expires_at_ms, 5000);
    ck_assert_double_eq(row->connects_per_s, 1);
    ck_assert_int_eq(histogram_values_count(&row->pings), 2);
    ck_assert_int_gt(histogram_values_quantile(&row->pings, 0.99), 25000);
    ck_assert_uint_eq(json_array_size(row->nodes), 2);
    ck_assert_uint_eq(json_array_size(row->incident_nodes), 0);
    broker_table_fini(&one);
    broker_table_fini(&two);
    broker_table_fini(&all);
}
END_TEST

START_TEST(a_scope_is_told_of_its_own_clients_only) {
    struct client_pair pair = {.name = "label.tenant", .value = "acme"};
    struct client_pair acme = {.name = "tenant", .value = "acme"};
    struct client_pair globex = {.name = "tenant", .value = "globex"};
    char fault[CLIENT_SELECTOR_FAULT_LEN];
    struct client_selector *scope;
    ck_assert_int_eq(client_selector_parse(&pair, 1, &scope, fault), ERR_OK);
    struct broker_table table = {.node = "n1", .scope = scope};
    const struct client_facts clients[] = {
        {.id = "a", .state = "online", .broker = "shared:1", .labels = &acme, .label_count = 1},
        {.id = "b", .state = "backoff", .broker = "shared:1", .labels = &globex, .label_count = 1},
        {.id = "c", .state = "backoff", .broker = "away:1", .labels = &acme, .label_count = 1},
        {.id = "d", .state = "backoff", .broker = "theirs:1", .labels = &globex, .label_count = 1},
        {.id = "e", .state = "online", .broker = "theirs:1"}};
    for (size_t i = 0; i < sizeof clients / sizeof clients[0]; i++) {
        broker_table_add_client(&table, &(struct workers_visited){.facts = clients[i]});
    }
    add_view(&table, "shared:1", 1000, 7000, 900);
    add_view(&table, "away:1", 2000, 7000, 900);
    add_view(&table, "theirs:1", 3000, 7000, 900);
    size_t n;
    struct broker_row **rows = broker_table_sorted(&table, &n);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(rows[0]->broker, "away:1");
    ck_assert_int_eq(rows[0]->incident_since_ms, 2000);
    ck_assert_str_eq(rows[1]->broker, "shared:1");
    ck_assert_int_eq(rows[1]->counts[BROKER_CLIENTS], 1);
    ck_assert_int_eq(rows[1]->incident_since_ms, 0); /* its own client is online */
    for (size_t i = 0; i < n; i++) {
        json_t *json = broker_row_to_json(rows[i], true);
        ck_assert(json_is_null(json_object_get(json, "connects_per_s")));
        ck_assert(json_is_null(json_object_get(json, "ping_ms")));
        ck_assert(json_is_null(json_object_get(json, "certificate_expires_at")));
        json_decref(json);
    }
    free(rows);
    broker_table_fini(&table);
    client_selector_destroy(scope);
}
END_TEST

START_TEST(the_first_incident_is_told_and_its_broker_comes_first) {
    struct broker_table one = {.node = "n1"}, two = {.node = "n2"}, all = {0};
    add_clients(&one, "large:1", "online", 9);
    add_clients(&one, "failing:1", "backoff", 2);
    add_clients(&one, "away:1", "backoff", 1);
    add_clients(&two, "away:1", "backoff", 1);
    add_view(&one, "away:1", 2000, 0, 1);
    add_view(&two, "away:1", 1000, 0, 1);
    merge(&all, &one);
    merge(&all, &two);
    const struct broker_row *row = first_row(&all, "away:1");
    ck_assert_int_eq(row->incident_since_ms, 1000);
    ck_assert_int_eq(row->first_error, CLIENT_ERROR_CONNECTION_REFUSED);
    ck_assert_uint_eq(json_array_size(row->incident_nodes), 2);
    size_t n;
    struct broker_row **rows = broker_table_sorted(&all, &n);
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(rows[1]->broker, "failing:1");
    free(rows);
    broker_table_fini(&one);
    broker_table_fini(&two);
    broker_table_fini(&all);
}
END_TEST

START_TEST(a_document_of_another_kind_is_refused) {
    static const char *const texts[] = {"{}", "[]", "{\"brokers\":5}", "{\"brokers\":[{}]}",
                                        "{\"brokers\":[5]}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct broker_table all = {0};
        json_t *json = json_loads(texts[i], 0, NULL);
        ck_assert_int_eq(broker_table_merge_json(&all, json), ERR_ARGUMENT);
        json_decref(json);
        broker_table_fini(&all);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("broker_table");
    TCase *tcase = tcase_create("broker_table");
    tcase_add_test(tcase, counts_rates_and_histograms_of_nodes_are_added);
    tcase_add_test(tcase, a_scope_is_told_of_its_own_clients_only);
    tcase_add_test(tcase, the_first_incident_is_told_and_its_broker_comes_first);
    tcase_add_test(tcase, a_document_of_another_kind_is_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
