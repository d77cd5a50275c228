/* When sockets are read for many messages at once. */
#include <check.h>
#include "mqtt/reactor/coalesce.h"

#define INTERVAL_US 2000

static struct coalesce coalesce;
static int64_t now_us;

static void setup(void) {
    now_us = 1000000;
    coalesce_init(&coalesce, INTERVAL_US);
    coalesce_note_poll(&coalesce, now_us);
}

/* A message every gap_us, each read as it comes. */
static void receive_for(int64_t time_us, int64_t gap_us) {
    for (int64_t end_us = now_us + time_us; now_us < end_us;) {
        now_us += gap_us;
        coalesce_note_poll(&coalesce, now_us);
        coalesce.messages++;
    }
}

static void receive_every(int64_t gap_us) {
    receive_for(100000, gap_us);
}

/* A broker sends 10 messages whenever the previous 10 were acknowledged, which happens one poll
 * after they arrive. Returns the messages of that time. */
static int64_t receive_by_acknowledgements(int64_t time_us) {
    int64_t messages = 0;
    for (int64_t end_us = now_us + time_us; now_us < end_us;) {
        coalesce_note_poll(&coalesce, now_us);
        coalesce.messages += 10;
        messages += 10;
        now_us += 50;
        now_us += coalesce_wait_us(&coalesce, now_us);
        coalesce_note_poll(&coalesce, now_us); /* acknowledges them */
        now_us += 50;
        now_us += coalesce_wait_us(&coalesce, now_us);
    }
    return messages;
}

START_TEST(a_lone_message_waits_for_nothing) {
    now_us += 500000;
    coalesce_note_poll(&coalesce, now_us);
    coalesce.messages++;
    ck_assert_int_eq(coalesce_wait_us(&coalesce, now_us + 50), 0);
}
END_TEST

START_TEST(messages_that_come_rarely_are_looked_at_one_by_one) {
    receive_every(INTERVAL_US * 3 / 4);
    ck_assert_int_eq(coalesce_wait_us(&coalesce, now_us + 50), 0);
}
END_TEST

START_TEST(many_messages_share_a_look_once_in_an_interval) {
    receive_every(INTERVAL_US / 4);
    ck_assert_int_eq(coalesce_wait_us(&coalesce, now_us + 50), INTERVAL_US - 50);
    ck_assert_int_eq(coalesce_wait_us(&coalesce, now_us + INTERVAL_US), 0);
}
END_TEST

START_TEST(a_turn_that_took_longer_than_the_interval_is_followed_at_once) {
    receive_every(INTERVAL_US / 4);
    ck_assert_int_eq(coalesce_wait_us(&coalesce, now_us + 10 * INTERVAL_US), 0);
}
END_TEST

START_TEST(a_burst_before_a_silence_keeps_no_later_message_waiting) {
    receive_every(INTERVAL_US / 4);
    coalesce.messages = 1000;
    now_us += 1000000;
    coalesce_note_poll(&coalesce, now_us);
    ck_assert_int_eq(coalesce_wait_us(&coalesce, now_us + 50), 0);
}
END_TEST

START_TEST(pauses_do_not_set_the_pace_of_a_broker_that_waits_for_acknowledgements) {
    int64_t messages = receive_by_acknowledgements(10000000);
    ck_assert_int_gt(messages, 10 * (10000000 / 100) * 9 / 10); /* of as many as without pauses */
}
END_TEST

START_TEST(pauses_come_back_when_acknowledgements_set_the_pace_no_more) {
    receive_by_acknowledgements(1000000);
    receive_for(2500000, INTERVAL_US / 4);
    int paused = 0;
    for (int i = 0; i < 100; i++) {
        receive_for(10000, INTERVAL_US / 4);
        paused += coalesce_wait_us(&coalesce, now_us) > 0;
    }
    ck_assert_int_ge(paused, 90);
}
END_TEST

START_TEST(a_broker_that_begins_to_wait_for_acknowledgements_is_noticed_within_seconds) {
    receive_every(INTERVAL_US / 4);
    receive_by_acknowledgements(2500000);
    ck_assert_int_gt(receive_by_acknowledgements(1000000), 10 * (1000000 / 100) * 9 / 10);
}
END_TEST

START_TEST(a_clock_that_went_back_puts_nothing_off) {
    receive_every(INTERVAL_US / 4);
    ck_assert_int_eq(coalesce_wait_us(&coalesce, now_us - 1000000), 0);
}
END_TEST

START_TEST(no_interval_means_no_wait) {
    coalesce_init(&coalesce, 0);
    receive_every(10);
    ck_assert_int_eq(coalesce_wait_us(&coalesce, now_us), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("coalesce");
    TCase *cases = tcase_create("coalesce");
    tcase_add_checked_fixture(cases, setup, NULL);
    tcase_add_test(cases, a_lone_message_waits_for_nothing);
    tcase_add_test(cases, messages_that_come_rarely_are_looked_at_one_by_one);
    tcase_add_test(cases, many_messages_share_a_look_once_in_an_interval);
    tcase_add_test(cases, a_turn_that_took_longer_than_the_interval_is_followed_at_once);
    tcase_add_test(cases, a_burst_before_a_silence_keeps_no_later_message_waiting);
    tcase_add_test(cases, pauses_do_not_set_the_pace_of_a_broker_that_waits_for_acknowledgements);
    tcase_add_test(cases, pauses_come_back_when_acknowledgements_set_the_pace_no_more);
    tcase_add_test(cases,
                   a_broker_that_begins_to_wait_for_acknowledgements_is_noticed_within_seconds);
    tcase_add_test(cases, a_clock_that_went_back_puts_nothing_off);
    tcase_add_test(cases, no_interval_means_no_wait);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
