#include <check.h>
#include <stdlib.h>
#include "mqtt/client/loss.h"

/* Each explanation takes precedence over all that follow it. */
static const struct {
    struct loss_facts facts;
    enum loss_verdict verdict;
} rows[] = {
    {{0}, LOSS_UNEXPLAINED},
    {{.early = true}, LOSS_BY_RIVAL},
    {{.early = true, .steady_age = true}, LOSS_BY_AGE},
    {{.steady_age = true}, LOSS_BY_AGE},
    {{.early = true, .steady_age = true, .publications_pending = true}, LOSS_BY_PUBLICATIONS},
    {{.publications_pending = true}, LOSS_BY_PUBLICATIONS},
    {{.early = true, .publications_pending = true, .subscribing = true}, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, LOSS_BY_SUBSCRIPTIONS},
    {{.early = true, .subscribing = true, .broker_unreachable = true}, LOSS_BY_BROKER},
    {{.publications_pending = true, .broker_unreachable = true}, LOSS_BY_BROKER},
    {{.early = true, .broker_unreachable = true, .steady_age = true}, LOSS_BY_BROKER},
};

START_TEST(the_first_explanation_that_holds_is_the_verdict) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_str_eq(loss_verdict_name(loss_judge(&rows[i].facts)),
                         loss_verdict_name(rows[i].verdict));
    }
}
END_TEST

static const struct {
    struct loss_facts facts;
    int reason_code;
    enum loss_verdict verdict;
} told[] = {
    {{0}, 0x87, LOSS_UNEXPLAINED},
    {{.publications_by_reason_code = true}, 0x87, LOSS_BY_PUBLICATIONS},
    {{.publications_by_reason_code = true, .broker_unreachable = true}, 0x95, LOSS_BY_PUBLICATIONS},
    {{.publications_by_reason_code = true, .subscribing = true}, 0x87, LOSS_BY_SUBSCRIPTIONS},
    {{.publications_pending = true}, 0x8B, LOSS_UNEXPLAINED}, /* server shutting down */
    {{.publications_pending = true}, 0x97, LOSS_UNEXPLAINED},
    {{.publications_pending = true}, -1, LOSS_UNEXPLAINED},
    {{.subscribing = true}, 0x87, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x8F, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x97, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x9E, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0xA1, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0xA2, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x95, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x82, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x98, LOSS_BY_SUBSCRIPTIONS},
    {{0}, 0x98, LOSS_UNEXPLAINED},
    {{.subscribing = true}, 0x8B, LOSS_UNEXPLAINED},
};

START_TEST(a_reason_code_speaks_of_the_packet_that_was_under_way) {
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        ck_assert_str_eq(
            loss_verdict_name(loss_judge_disconnect(&told[i].facts, told[i].reason_code)),
            loss_verdict_name(told[i].verdict));
    }
}
END_TEST

START_TEST(losing_many_at_once_is_told_from_losing_one) {
    struct loss_watch watch = {0};
    uint64_t single = loss_watch_note(&watch, 1, 10000, 100);
    ck_assert(!loss_watch_was_mass(&watch, single));
    uint64_t mass = 0;
    for (size_t i = 0; i < 10; i++) {
        mass = loss_watch_note(&watch, i, 12000 + (int64_t)i, 100 - i);
    }
    ck_assert(loss_watch_was_mass(&watch, mass));
    ck_assert(!loss_watch_was_mass(&watch, single));
    uint64_t only = loss_watch_note(&watch, 1, 20000, 1);
    loss_watch_note(&watch, 1, 20300, 1); /* the same window again */
    ck_assert(!loss_watch_was_mass(&watch, only));
    ck_assert(loss_watch_was_mass(&watch, mass));
    for (int i = 0; i < 100; i++) {
        loss_watch_note(&watch, 1, 30000 + i * 2000, 100);
    }
    ck_assert(loss_watch_was_mass(&watch, only)); /* too long ago for a judgement */
}
END_TEST

static bool steady_after(const int64_t losses[][2], size_t n, int64_t apart_ms) {
    struct loss_ages ages = {0};
    for (size_t i = 0; i < n; i++) {
        loss_ages_note(&ages, (uint64_t)losses[i][0], losses[i][1], 10000 + (int64_t)i * apart_ms);
    }
    return loss_ages_steady(&ages, losses[n - 1][1]);
}
#define STEADY(...)                                                                                \
    steady_after((const int64_t[][2]){__VA_ARGS__},                                                \
                 sizeof((const int64_t[][2]){__VA_ARGS__}) / sizeof(int64_t[2]), 1000)

START_TEST(an_age_is_steady_only_if_several_clients_show_it) {
    ck_assert(!STEADY({1, 3000}, {1, 3000}, {1, 3000}, {1, 3000}, {1, 3000}));
    ck_assert(!STEADY({1, 3000}, {1, 3000}, {1, 3000}, {2, 3000}));
    ck_assert(!STEADY({1, 3000}, {2, 3000}, {1, 3000}));
    ck_assert(STEADY({1, 3000}, {2, 3010}, {1, 2990}, {2, 3100}));
    ck_assert(
        !steady_after((const int64_t[][2]){{1, 9000}, {2, 9000}, {3, 9000}, {4, 9000}}, 4, 10));
    ck_assert(STEADY({1, 60000}, {2, 61000}, {3, 58000}, {4, 60000}));
    ck_assert(!STEADY({1, 1100}, {2, 1900}, {1, 1500}, {2, 1000}, {1, 1800}, {2, 1300}));
    ck_assert(STEADY({1, 3000}, {2, 3000}, {3, 9000}, {1, 3000}, {2, 3000}));
    ck_assert(!STEADY({1, 3000}, {2, 3000}, {3, 9000}, {4, 500}, {1, 3000}, {2, 3000}));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("loss");
    TCase *tcase = tcase_create("loss");
    tcase_add_test(tcase, the_first_explanation_that_holds_is_the_verdict);
    tcase_add_test(tcase, a_reason_code_speaks_of_the_packet_that_was_under_way);
    tcase_add_test(tcase, losing_many_at_once_is_told_from_losing_one);
    tcase_add_test(tcase, an_age_is_steady_only_if_several_clients_show_it);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
