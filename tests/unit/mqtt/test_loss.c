#include <check.h>
#include <stdlib.h>
#include "mqtt/loss.h"

/* Each explanation hides all that follow it. */
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
    {{.early = true, .subscribing = true, .broker_away = true}, LOSS_BY_BROKER},
    {{.publications_pending = true, .broker_away = true}, LOSS_BY_BROKER},
    {{.early = true, .broker_away = true, .steady_age = true}, LOSS_BY_BROKER},
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
    {{.publications_pending = true}, 0x87, LOSS_BY_PUBLICATIONS},
    {{.publications_pending = true, .broker_away = true}, 0x95, LOSS_BY_PUBLICATIONS},
    {{.publications_pending = true}, 0x99, LOSS_BY_PUBLICATIONS},
    {{.publications_pending = true}, 0x9A, LOSS_BY_PUBLICATIONS},
    {{.publications_pending = true}, 0x9B, LOSS_BY_PUBLICATIONS},
    {{.publications_pending = true}, 0x8B, LOSS_UNEXPLAINED}, /* server shutting down */
    {{.publications_pending = true}, 0x97, LOSS_UNEXPLAINED},
    {{.publications_pending = true}, -1, LOSS_UNEXPLAINED},
    {{.subscribing = true}, 0x87, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x8F, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x97, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x9E, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0xA1, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0xA2, LOSS_BY_SUBSCRIPTIONS},
    {{.subscribing = true}, 0x95, LOSS_UNEXPLAINED},
};

START_TEST(a_reason_code_speaks_of_the_packet_that_was_under_way) {
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        ck_assert_str_eq(loss_verdict_name(loss_judge_told(&told[i].facts, told[i].reason_code)),
                         loss_verdict_name(told[i].verdict));
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("loss");
    TCase *tcase = tcase_create("loss");
    tcase_add_test(tcase, the_first_explanation_that_holds_is_the_verdict);
    tcase_add_test(tcase, a_reason_code_speaks_of_the_packet_that_was_under_way);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
