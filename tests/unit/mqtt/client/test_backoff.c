#include <check.h>
#include <stdlib.h>
#include "mqtt/client/backoff.h"

START_TEST(the_ceiling_doubles_up_to_the_maximum) {
    ck_assert_int_eq(backoff_ceiling_ms(0, 1000, 60000), 1000);
    ck_assert_int_eq(backoff_ceiling_ms(1, 1000, 60000), 2000);
    ck_assert_int_eq(backoff_ceiling_ms(5, 1000, 60000), 32000);
    ck_assert_int_eq(backoff_ceiling_ms(6, 1000, 60000), 60000);
    ck_assert_int_eq(backoff_ceiling_ms(4000000000u, 1000, 60000), 60000);
    ck_assert_int_eq(backoff_ceiling_ms(4000000000u, 1, INT64_MAX), INT64_MAX);
    ck_assert_int_eq(backoff_ceiling_ms(3, 5000, 100), 5000);
}
END_TEST

/* KNOWN-FAILURES 20 */
START_TEST(kf20_delays_are_spread_over_the_whole_range) {
    int low = 0, high = 0;
    for (int i = 0; i < 2000; i++) {
        int64_t delay_ms = backoff_ms(5, 1000, 60000);
        ck_assert_int_ge(delay_ms, 1000);
        ck_assert_int_le(delay_ms, 32000);
        low += delay_ms < 9000;
        high += delay_ms > 24000;
    }
    ck_assert_int_gt(low, 200);
    ck_assert_int_gt(high, 200);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("backoff");
    TCase *tcase = tcase_create("backoff");
    tcase_add_test(tcase, the_ceiling_doubles_up_to_the_maximum);
    tcase_add_test(tcase, kf20_delays_are_spread_over_the_whole_range);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
