/* Tests of the judgement of rejections. */
#include "sink/verdict.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 300

static struct verdict verdict;
static enum sink_outcome outcomes[BATCH_MAX];
static char reasons[BATCH_MAX][SINK_REASON_LEN];
static struct sink_batch batch;

static void setup(void) {
    verdict = (struct verdict){0};
}

/* The outcomes of a write: 'a' accepted, 'r' rejected, '?' failed for another reason, '-' not
 * attempted. */
static size_t judge(const char *written) {
    batch = (struct sink_batch){
        .count = strlen(written), .outcomes = outcomes, .reasons = reasons, .error = ""};
    for (size_t i = 0; written[i]; i++) {
        outcomes[i] = SINK_RETRY;
        if (written[i] == 'a') {
            sink_batch_accept(&batch, i);
        } else if (written[i] == 'r') {
            sink_batch_reject(&batch, i, "value %zu", i);
        } else if (written[i] == '?') {
            (void)sink_batch_fail(&batch, ERR_UNAVAILABLE, "failed");
        }
    }
    return verdict_judge(&verdict, &batch, true);
}

START_TEST(a_rejection_is_believed_if_another_message_was_accepted_in_the_same_write) {
    ck_assert_uint_eq(judge("rar"), 2);
    ck_assert_int_eq(outcomes[0], SINK_REJECTED);
    ck_assert_int_eq(outcomes[1], SINK_ACCEPTED);
    ck_assert_str_eq(batch.error, "");
}
END_TEST

START_TEST(without_anything_accepted_a_rejection_is_an_error_to_be_tried_again) {
    ck_assert_uint_eq(judge("rr"), 0);
    ck_assert_int_eq(outcomes[0], SINK_RETRY);
    ck_assert_int_eq(outcomes[1], SINK_RETRY);
    ck_assert_str_eq(batch.error, "value 0");
}
END_TEST

START_TEST(a_rejection_is_believed_while_the_sink_works) {
    judge("aa");
    ck_assert_uint_eq(judge("r"), 1);
    ck_assert_uint_eq(judge("rr"), 2);
}
END_TEST

START_TEST(after_another_error_something_must_be_accepted_first) {
    judge("a");
    judge("?");
    ck_assert_uint_eq(judge("r"), 0);
    judge("a?");
    ck_assert_uint_eq(judge("r"), 0);
    judge("a");
    ck_assert_uint_eq(judge("r"), 1);
}
END_TEST

START_TEST(a_message_that_was_not_attempted_says_nothing_about_the_target) {
    judge("a-");
    ck_assert_uint_eq(judge("r-"), 1);
}
END_TEST

START_TEST(a_hundred_rejections_in_a_row_are_the_fault_of_the_target) {
    char row[161];
    memset(row, 'r', 160);
    row[160] = '\0';
    judge("a");
    ck_assert_uint_eq(judge(row), VERDICT_REJECTIONS_MAX);
    ck_assert_int_eq(outcomes[VERDICT_REJECTIONS_MAX - 1], SINK_REJECTED);
    ck_assert_int_eq(outcomes[VERDICT_REJECTIONS_MAX], SINK_RETRY);
    ck_assert_uint_eq(judge("r"), 0);
    ck_assert_uint_eq(judge("ra"), 1);
    ck_assert_uint_eq(judge("r"), 1);
}
END_TEST

START_TEST(a_sink_that_may_not_reject_tries_again) {
    outcomes[0] = SINK_REJECTED;
    outcomes[1] = SINK_ACCEPTED;
    strcpy(reasons[0], "too large");
    batch = (struct sink_batch){.count = 2, .outcomes = outcomes, .reasons = reasons};
    ck_assert_uint_eq(verdict_judge(&verdict, &batch, false), 0);
    ck_assert_int_eq(outcomes[0], SINK_RETRY);
    ck_assert_str_eq(batch.error, "too large");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("verdict");
    TCase *tcase = tcase_create("verdict");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase,
                   a_rejection_is_believed_if_another_message_was_accepted_in_the_same_write);
    tcase_add_test(tcase, without_anything_accepted_a_rejection_is_an_error_to_be_tried_again);
    tcase_add_test(tcase, a_rejection_is_believed_while_the_sink_works);
    tcase_add_test(tcase, after_another_error_something_must_be_accepted_first);
    tcase_add_test(tcase, a_message_that_was_not_attempted_says_nothing_about_the_target);
    tcase_add_test(tcase, a_hundred_rejections_in_a_row_are_the_fault_of_the_target);
    tcase_add_test(tcase, a_sink_that_may_not_reject_tries_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
