/* How a rate is divided among nodes, and what nodes report. */
#include "cluster/resources/quota_shares.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define NEAR(a, b) ck_assert_msg(fabs((a) - (b)) < 0.01, "%f, not %f", (double)(a), (double)(b))

static void divide(double per_s, struct quota_demand *nodes, size_t n) {
    double sum = 0;
    quota_shares_divide(per_s, nodes, n);
    for (size_t i = 0; i < n; i++) {
        ck_assert(nodes[i].share > 0);
        sum += nodes[i].share;
    }
    NEAR(sum, per_s);
}

START_TEST(one_node_has_all) {
    struct quota_demand nodes[] = {{.use = 3, .clients = 5}};
    divide(100, nodes, 1);
    nodes[0].limited = true;
    divide(100, nodes, 1);
}
END_TEST

START_TEST(nodes_without_enough_divide_the_rate_by_their_clients) {
    struct quota_demand nodes[] = {{.limited = true, .clients = 10},
                                   {.limited = true, .clients = 30}};
    divide(100, nodes, 2);
    NEAR(nodes[0].share, 25);
    NEAR(nodes[1].share, 75);
}
END_TEST

START_TEST(a_node_with_enough_keeps_a_quarter_more_and_the_other_gets_the_rest) {
    struct quota_demand nodes[] = {{.use = 16, .clients = 10},
                                   {.use = 50, .limited = true, .clients = 10},
                                   {.use = 0, .clients = 10}};
    divide(100, nodes, 3);
    NEAR(nodes[0].share, 20);
    NEAR(nodes[2].share, 100.0 / 30); /* a tenth of an equal part, to begin with */
    NEAR(nodes[1].share, 100 - 20 - 100.0 / 30);
}
END_TEST

START_TEST(what_nobody_needs_is_divided_too) {
    struct quota_demand nodes[] = {{.use = 8, .clients = 1}, {.use = 16, .clients = 1}};
    divide(100, nodes, 2);
    NEAR(nodes[0].share, 10 + 35);
    NEAR(nodes[1].share, 20 + 35);
}
END_TEST

START_TEST(nodes_that_use_more_than_there_is_share_it_fairly) {
    struct quota_demand nodes[] = {
        {.use = 90, .clients = 1}, {.use = 90, .clients = 1}, {.use = 4, .clients = 1}};
    divide(100, nodes, 3);
    NEAR(nodes[2].share, 5);
    NEAR(nodes[0].share, 47.5);
}
END_TEST

START_TEST(the_sum_is_the_rate_whatever_nodes_report) {
    struct quota_demand nodes[50];
    srand(7);
    for (int round = 0; round < 1000; round++) {
        size_t n = 1 + (size_t)rand() % 50;
        for (size_t i = 0; i < n; i++) {
            nodes[i] = (struct quota_demand){
                .use = rand() % 200, .limited = rand() % 3 == 0, .clients = rand() % 1000};
        }
        divide(1 + rand() % 1000, nodes, n);
    }
}
END_TEST

START_TEST(a_report_has_the_limited_rates_and_is_summed) {
    struct rate_quota_sample sample = {
        .scope = (char[]){"label.tenant=acme"},
        .clients = 3,
        .uses = {[RATE_MESSAGES] = {
                     .per_s = 100, .use = 2.5, .allowed = 10, .delayed = 4, .refused = 1}}};
    json_t *report = quota_shares_report(&sample, 1);
    struct quota_use_sum sum = {0};
    quota_shares_add_use(report, "label.tenant=acme", RATE_MESSAGES, &sum);
    quota_shares_add_use(report, "label.tenant=acme", RATE_MESSAGES, &sum);
    ck_assert(sum.nodes == 2 && sum.allowed == 20 && sum.delayed == 8 && sum.refused == 2);
    NEAR(sum.use, 5);
    sum = (struct quota_use_sum){0};
    quota_shares_add_use(report, "label.tenant=acme", RATE_CONNECTS, &sum);
    quota_shares_add_use(report, "label.tenant=globex", RATE_MESSAGES, &sum);
    ck_assert_int_eq(sum.nodes, 0);
    json_decref(report);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("quota_shares");
    TCase *tcase = tcase_create("quota_shares");
    tcase_add_test(tcase, one_node_has_all);
    tcase_add_test(tcase, nodes_without_enough_divide_the_rate_by_their_clients);
    tcase_add_test(tcase, a_node_with_enough_keeps_a_quarter_more_and_the_other_gets_the_rest);
    tcase_add_test(tcase, what_nobody_needs_is_divided_too);
    tcase_add_test(tcase, nodes_that_use_more_than_there_is_share_it_fairly);
    tcase_add_test(tcase, the_sum_is_the_rate_whatever_nodes_report);
    tcase_add_test(tcase, a_report_has_the_limited_rates_and_is_summed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
