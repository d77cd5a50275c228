/* Tests of http/api/selection/selection: the clients of several nodes, as one list. */
#include "http/api/selection/selection.h"

#include <stdio.h>
#include <string.h>
#include "http/http_check.h"

#define NODES   3
#define CLIENTS 2000

/* Client i runs on node i % NODES; every tenth is in backoff. */
static void add_client(struct selection *selection, int i) {
    char id[16], node[8];
    snprintf(id, sizeof(id), "c%04d", i);
    snprintf(node, sizeof(node), "m%d", i % NODES);
    struct workers_visited client = {
        .facts = {.id = id, .state = i % 10 == 0 ? "backoff" : "online", .node = node},
        .since_ms = (i * 7919) % 101, /* many are equal */
        .version = 5000 - i};
    selection_add(selection, &client);
}

static void query_begin(struct selection_query *query, const char *selector, const char *sort,
                        size_t limit) {
    char fault[CLIENT_SELECTOR_FAULT_LEN];
    *query = (struct selection_query){.limit = limit};
    ck_assert_int_eq(client_selector_parse_query(selector, &query->selector, fault), ERR_OK);
    ck_assert_int_eq(selection_query_sort(query, sort), ERR_OK);
}

/* The answer of each node, through its text, merged. */
static void select_all(struct selection *merged, const struct selection_query *query) {
    selection_init(merged, query);
    for (int node = 0; node < NODES; node++) {
        struct selection_query received;
        struct selection part;
        char fault[CLIENT_SELECTOR_FAULT_LEN];
        json_t *json = selection_query_to_json(query);
        ck_assert_int_eq(selection_query_from_json(json, &received, fault), ERR_OK);
        json_decref(json);
        selection_init(&part, &received);
        for (int i = node; i < CLIENTS; i += NODES) {
            add_client(&part, (i * 11) % CLIENTS); /* in no order */
        }
        selection_finish(&part);
        json = selection_to_json(&part);
        ck_assert_int_eq(selection_merge_json(merged, json), ERR_OK);
        json_decref(json);
        selection_fini(&part);
        selection_query_fini(&received);
    }
    selection_finish(merged);
}

/* Reads all pages; *n: clients in all of them. Each client occurs once, in order. */
static void read_pages(const char *selector, const char *sort, size_t limit, size_t *n) {
    struct selection_query query;
    bool seen[CLIENTS] = {false};
    query_begin(&query, selector, sort, limit);
    *n = 0;
    for (bool more = true; more;) {
        struct selection page;
        select_all(&page, &query);
        ck_assert_uint_le(page.item_count, limit);
        for (size_t i = 0; i < page.item_count; i++) {
            const struct selection_item *item = &page.items[i];
            int number = atoi(item->id + 1);
            ck_assert_msg(!seen[number], "%s occurs twice by %s", item->id, sort);
            seen[number] = true;
            if (query.after.id) {
                int64_t up = item->key != query.after.key ? item->key - query.after.key
                                                          : strcmp(item->id, query.after.id);
                ck_assert(query.descending ? up < 0 : up > 0);
            }
            free(query.after.id);
            query.after = (struct selection_item){strdup(item->id), item->key};
        }
        *n += page.item_count;
        more = page.more;
        ck_assert(page.seen == CLIENTS && (!more || page.item_count == limit));
        selection_fini(&page);
    }
    selection_query_fini(&query);
}

START_TEST(pages_have_every_client_once_in_every_order) {
    static const char *const sorts[] = {"id",    "-id",    "state",   "-state",
                                        "since", "-since", "changed", "-changed"};
    size_t n;
    for (size_t i = 0; i < COUNT(sorts); i++) {
        read_pages("", sorts[i], 300, &n);
        ck_assert_uint_eq(n, CLIENTS);
        read_pages("state=backoff", sorts[i], 50, &n);
        ck_assert_uint_eq(n, CLIENTS / 10);
    }
    read_pages("node=m1", "id", 7, &n);
    ck_assert_uint_eq(n, CLIENTS / NODES + 1);
    read_pages("node=nosuch", "id", 7, &n);
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(all_ids_come_in_one_answer_and_are_counted) {
    struct selection_query query;
    struct selection all;
    query_begin(&query, "state=online", "id", SELECTION_ALL);
    select_all(&all, &query);
    ck_assert(all.item_count == CLIENTS * 9 / 10 && all.count == CLIENTS * 9 / 10 && !all.more);
    ck_assert_str_eq(all.items[0].id, "c0001");
    selection_fini(&all);
    selection_query_fini(&query);
}
END_TEST

START_TEST(groups_are_summed_over_nodes_without_items) {
    struct selection_query query;
    struct selection sums;
    size_t n;
    query_begin(&query, "", "id", 0);
    ck_assert_int_eq(selection_query_group(&query, "state"), ERR_OK);
    select_all(&sums, &query);
    struct tally_row *rows = tally_rows(&sums.tally, &n);
    ck_assert(n == 2 && rows[0].count == CLIENTS * 9 / 10 && rows[1].count == CLIENTS / 10);
    ck_assert(sums.item_count == 0 && sums.count == CLIENTS);
    free(rows);
    selection_fini(&sums);
    selection_query_fini(&query);
}
END_TEST

START_TEST(a_scope_narrows_what_the_selector_selects) {
    struct selection_query query;
    struct selection selection;
    char fault[CLIENT_SELECTOR_FAULT_LEN];
    query_begin(&query, "state=backoff", "id", SELECTION_ALL);
    ck_assert_int_eq(client_selector_parse_query("node=m1", &query.scope, fault), ERR_OK);
    select_all(&selection, &query);
    ck_assert_uint_eq(selection.item_count, CLIENTS / 10 / NODES + 1);
    selection_fini(&selection);
    selection_query_fini(&query);
}
END_TEST

START_TEST(a_client_that_two_nodes_report_occurs_once) {
    struct selection_query query;
    struct selection selection;
    query_begin(&query, "", "since", 10);
    selection_init(&selection, &query);
    add_client(&selection, 5);
    json_t *json =
        json_loads("{\"seen\":1,\"count\":1,\"items\":[[3,\"c0005\"]],\"more\":false}", 0, NULL);
    ck_assert_int_eq(selection_merge_json(&selection, json), ERR_OK);
    selection_finish(&selection);
    ck_assert_uint_eq(selection.item_count, 1);
    json_decref(json);
    selection_fini(&selection);
    selection_query_fini(&query);
}
END_TEST

START_TEST(what_is_no_answer_or_no_query_is_refused) {
    static const char *const answers[] = {"{}", "[]", "{\"seen\":1,\"count\":1}",
                                          "{\"seen\":1,\"count\":\"1\",\"items\":[]}"};
    static const char *const queries[] = {
        "{}",
        "{\"selector\":\"\"}",
        "{\"selector\":5,\"sort\":\"id\",\"limit\":1}",
        "{\"scope\":5,\"sort\":\"id\",\"limit\":1}",
        "{\"sort\":\"id\",\"limit\":\"1\"}",
        "{\"selector\":\"x=1\",\"sort\":\"id\",\"limit\":1}",
        "{\"selector\":\"\",\"sort\":\"size\",\"limit\":1}",
        "{\"selector\":\"\",\"sort\":\"id\",\"limit\":1,\"by\":\"id_prefix\"}",
        "{\"selector\":\"\",\"sort\":\"id\",\"limit\":1,\"by\":\"label.\"}",
        "{\"selector\":\"\",\"sort\":\"id\",\"limit\":1,\"after\":[1]}"};
    struct selection_query query = {0};
    struct selection selection;
    selection_init(&selection, &query);
    for (size_t i = 0; i < COUNT(answers); i++) {
        json_t *json = json_loads(answers[i], 0, NULL);
        ck_assert_int_eq(selection_merge_json(&selection, json), ERR_ARGUMENT);
        json_decref(json);
    }
    for (size_t i = 0; i < COUNT(queries); i++) {
        char fault[CLIENT_SELECTOR_FAULT_LEN];
        json_t *json = json_loads(queries[i], 0, NULL);
        ck_assert_msg(selection_query_from_json(json, &query, fault) == ERR_ARGUMENT, "%s",
                      queries[i]);
        selection_query_fini(&query);
        json_decref(json);
    }
    selection_fini(&selection);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("selection");
    tcase_add_test(cases, pages_have_every_client_once_in_every_order);
    tcase_add_test(cases, all_ids_come_in_one_answer_and_are_counted);
    tcase_add_test(cases, groups_are_summed_over_nodes_without_items);
    tcase_add_test(cases, a_scope_narrows_what_the_selector_selects);
    tcase_add_test(cases, a_client_that_two_nodes_report_occurs_once);
    tcase_add_test(cases, what_is_no_answer_or_no_query_is_refused);
    return run_cases(cases, "selection");
}
