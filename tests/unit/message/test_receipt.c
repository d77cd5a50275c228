/* Tests of answers from sinks to an engine that sleeps at times: each arrives once, and none is
 * missed. */
#include "message/receipt.h"

#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define WAIT_MS 20000
#define SINKS   3
#define ANSWERS 20000 /* of each */
#define BATCH   7

static struct receipts receipts;

static void setup(void) {
    ck_assert(receipts_init(&receipts));
}

static void teardown(void) {
    receipts_fini(&receipts);
}

START_TEST(answers_come_in_the_order_in_which_they_were_given) {
    struct receipt all[3] = {{.owner = &receipts}, {.owner = &receipts}, {.owner = &receipts}};
    ck_assert_ptr_null(receipts_take(&receipts));
    receipt_answer(&all[1], ERR_OK);
    receipt_answer(&all[0], ERR_CANCELED);
    receipt_answer(&all[2], ERR_OK);
    struct receipt *first = receipts_take(&receipts);
    ck_assert(first == &all[1] && first->next == &all[0] && first->next->next == &all[2]);
    ck_assert_ptr_null(all[2].next);
    ck_assert_int_eq(all[0].result, ERR_CANCELED);
    ck_assert_ptr_null(receipts_take(&receipts));
}
END_TEST

START_TEST(the_last_of_several_answers_returns_the_receipt) {
    struct receipt receipt = {.owner = &receipts};
    for (int failing = 0; failing < 4; failing++) { /* the last one: none fails */
        receipt_expect(&receipt, 3);
        for (int i = 0; i < 3; i++) {
            ck_assert_ptr_null(receipts_take(&receipts));
            receipt_answer(&receipt, i == failing ? ERR_CANCELED : ERR_OK);
        }
        ck_assert_ptr_eq(receipts_take(&receipts), &receipt);
        ck_assert_int_eq(receipt.result, failing < 3 ? ERR_CANCELED : ERR_OK);
    }
    receipt_expect(&receipt, 0); /* one answer, as at first */
    receipt_answer(&receipt, ERR_CANCELED);
    ck_assert_ptr_eq(receipts_take(&receipts), &receipt);
    ck_assert_int_eq(receipt.result, ERR_CANCELED);
}
END_TEST

START_TEST(only_a_thread_that_sleeps_is_woken_and_only_once) {
    struct receipt all[3] = {{.owner = &receipts}, {.owner = &receipts}, {.owner = &receipts}};
    eventfd_t count;
    receipt_answer(&all[0], ERR_OK);
    receipts_wake(&receipts); /* it does not sleep */
    ck_assert_int_ne(eventfd_read(receipts.wake_fd, &count), 0);
    ck_assert(receipts_begin_wait(&receipts)); /* there is something already */
    receipts_end_wait(&receipts);
    receipts_take(&receipts);
    ck_assert(!receipts_begin_wait(&receipts));
    receipts_wake(&receipts); /* nothing was answered */
    ck_assert_int_ne(eventfd_read(receipts.wake_fd, &count), 0);
    for (int i = 1; i < 3; i++) {
        receipt_answer(&all[i], ERR_OK);
        receipts_wake(&receipts);
    }
    ck_assert_int_eq(eventfd_read(receipts.wake_fd, &count), 0);
    ck_assert_uint_eq(count, 1);
}
END_TEST

static void *answer_all(void *context) {
    struct receipt *own = context;
    for (int i = 0; i < ANSWERS; i++) {
        receipt_answer(&own[i], ERR_OK);
        if (i % BATCH == 0 || i == ANSWERS - 1) {
            receipts_wake(&receipts);
        }
    }
    return NULL;
}

START_TEST(no_answer_is_slept_over_while_many_sinks_give_them) {
    pthread_t threads[SINKS];
    struct receipt *all = calloc(SINKS * ANSWERS, sizeof *all);
    int taken = 0;
    eventfd_t count;
    for (int i = 0; i < SINKS * ANSWERS; i++) {
        all[i] = (struct receipt){.owner = &receipts, .result = ERR_CANCELED};
    }
    for (int i = 0; i < SINKS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, answer_all, &all[i * ANSWERS]), 0);
    }
    while (taken < SINKS * ANSWERS) {
        if (!receipts_begin_wait(&receipts)) {
            struct pollfd wake = {.fd = receipts.wake_fd, .events = POLLIN};
            ck_assert_int_eq(poll(&wake, 1, WAIT_MS), 1);
            eventfd_read(receipts.wake_fd, &count);
        }
        receipts_end_wait(&receipts);
        for (struct receipt *one = receipts_take(&receipts); one; one = one->next) {
            ck_assert_int_eq(one->result, ERR_OK);
            one->result = ERR_CANCELED; /* again would be seen */
            taken++;
        }
    }
    for (int i = 0; i < SINKS; i++) {
        pthread_join(threads[i], NULL);
    }
    ck_assert_ptr_null(receipts_take(&receipts));
    free(all);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("receipt");
    TCase *tcase = tcase_create("receipt");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, answers_come_in_the_order_in_which_they_were_given);
    tcase_add_test(tcase, the_last_of_several_answers_returns_the_receipt);
    tcase_add_test(tcase, only_a_thread_that_sleeps_is_woken_and_only_once);
    tcase_add_test(tcase, no_answer_is_slept_over_while_many_sinks_give_them);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
