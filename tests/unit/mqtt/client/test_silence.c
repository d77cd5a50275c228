#include <check.h>
#include <stdlib.h>
#include "mqtt/client/silence.h"

/* A client that expects a message within 60 s and got the last one at 1,000 s. */
static struct silence quiet(void) {
    return (struct silence){.expect_s = 60, .since_ms = 1000000};
}

START_TEST(a_silence_begins_when_the_time_has_passed) {
    struct silence silence = quiet();
    ck_assert_int_eq(silence_due_ms(&silence), 1060000);
    silence.acts = true;
    ck_assert_int_eq(silence_due_ms(&silence), 1060000);
    ck_assert(!silence_action_is_due(&silence, 2000000)); /* it is not silent yet */
}
END_TEST

START_TEST(a_silence_that_is_only_reported_has_nothing_due) {
    struct silence silence = quiet();
    silence.silent = true;
    ck_assert_int_eq(silence_due_ms(&silence), 0);
    ck_assert(!silence_action_is_due(&silence, 2000000));
}
END_TEST

START_TEST(the_first_action_is_due_at_once_and_the_next_at_doubling_intervals) {
    static const int64_t after_s[] = {120, 240, 480, 960, 1920, 3600, 3600};
    struct silence silence = quiet();
    silence.silent = silence.acts = true;
    ck_assert(!silence_action_is_due(&silence, 1059999));
    ck_assert(silence_action_is_due(&silence, 1060000));
    int64_t at_s = 1060;
    for (unsigned i = 0; i < sizeof after_s / sizeof *after_s; i++) {
        silence.actions = i + 1;
        silence.acted_at_s = (uint32_t)at_s;
        at_s += after_s[i];
        ck_assert_int_eq(silence_due_ms(&silence), at_s * 1000);
        ck_assert(!silence_action_is_due(&silence, at_s * 1000 - 1));
        ck_assert(silence_action_is_due(&silence, at_s * 1000));
    }
}
END_TEST

START_TEST(an_expectation_above_the_longest_interval_is_the_interval) {
    struct silence silence = {.expect_s = 2592000,
                              .since_ms = 5000,
                              .silent = true,
                              .acts = true,
                              .actions = SILENCE_ACTIONS_MAX,
                              .acted_at_s = 2592005};
    ck_assert_int_eq(silence_due_ms(&silence), (2592005LL + 2592000) * 1000);
}
END_TEST

/* A reconnect or a SUBSCRIBE brings retained messages. */
START_TEST(a_message_soon_after_an_action_does_not_reset_the_intervals) {
    struct silence silence = quiet();
    silence.actions = 3;
    silence.acted_at_s = 1000;
    ck_assert(!silence_is_over(&silence, 1059000));
    ck_assert(!silence_is_over(&silence, 1061000)); /* silent again */
    silence.since_ms = 1050000;
    ck_assert(silence_is_over(&silence, 1061000));
    silence.silent = true;
    ck_assert(!silence_is_over(&silence, 1061000));
}
END_TEST

START_TEST(a_client_that_is_silent_again_waits_for_its_interval) {
    struct silence silence = quiet();
    silence.silent = silence.acts = true;
    silence.actions = 4;
    silence.acted_at_s = 999;
    ck_assert_int_eq(silence_due_ms(&silence), (999 + 960) * 1000);
    silence.acted_at_s = 10; /* long ago */
    ck_assert_int_eq(silence_due_ms(&silence), 1060000);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("silence");
    TCase *tcase = tcase_create("silence");
    tcase_add_test(tcase, a_silence_begins_when_the_time_has_passed);
    tcase_add_test(tcase, a_silence_that_is_only_reported_has_nothing_due);
    tcase_add_test(tcase, the_first_action_is_due_at_once_and_the_next_at_doubling_intervals);
    tcase_add_test(tcase, an_expectation_above_the_longest_interval_is_the_interval);
    tcase_add_test(tcase, a_message_soon_after_an_action_does_not_reset_the_intervals);
    tcase_add_test(tcase, a_client_that_is_silent_again_waits_for_its_interval);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
