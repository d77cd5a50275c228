/* Tests of the suspicion against messages that end connections. */
#include "sink/types/mqtt/mqtt_doubt.h"

#include <check.h>

static struct mqtt_doubt doubt;

static enum mqtt_doubt_verdict lose(size_t in_flight, uint64_t first, size_t sent,
                                    bool others_pass) {
    return mqtt_doubt_note_loss(&doubt, &(struct mqtt_doubt_loss){.in_flight = in_flight,
                                                                  .first = first,
                                                                  .sent = sent,
                                                                  .others_pass = others_pass});
}

static void setup(void) {
    doubt = (struct mqtt_doubt){0};
}

/* Two connections end with messages in flight, a third one with the first alone. */
static void suspect(uint64_t number) {
    ck_assert_int_eq(lose(3, number, 3, false), MQTT_DOUBT_OPEN);
    ck_assert_int_eq(lose(3, number, 3, false), MQTT_DOUBT_OPEN);
    ck_assert_int_eq(lose(1, number, 1, false), MQTT_DOUBT_OPEN);
    ck_assert(mqtt_doubt_has(&doubt.suspects, number));
}

START_TEST(one_restart_of_the_broker_changes_nothing) {
    lose(10, 1, 10, true);
    ck_assert(!mqtt_doubt_sends_alone(&doubt));
    mqtt_doubt_note_success(&doubt);
    lose(10, 5, 10, true);
    ck_assert(!mqtt_doubt_sends_alone(&doubt));
}
END_TEST

START_TEST(after_two_losses_those_in_flight_are_sent_alone) {
    lose(2, 1, 9, true);
    lose(2, 1, 9, false);
    ck_assert(mqtt_doubt_sends_alone(&doubt));
    mqtt_doubt_note_answer(&doubt, 1);
    ck_assert(mqtt_doubt_sends_alone(&doubt));
    mqtt_doubt_note_answer(&doubt, 2);
    ck_assert(!mqtt_doubt_sends_alone(&doubt));
}
END_TEST

START_TEST(a_suspect_is_guilty_only_if_another_passed_before_it) {
    suspect(7);
    ck_assert_int_eq(lose(1, 7, 1, false), MQTT_DOUBT_OPEN);
    ck_assert_int_eq(lose(1, 7, 2, true), MQTT_DOUBT_GUILTY);
    ck_assert(!mqtt_doubt_has(&doubt.suspects, 7));
}
END_TEST

START_TEST(one_that_is_answered_is_no_suspect) {
    suspect(7);
    mqtt_doubt_note_answer(&doubt, 7);
    ck_assert(!mqtt_doubt_has(&doubt.suspects, 7));
    suspect(7);
    mqtt_doubt_note_refused(&doubt, 7);
    ck_assert(!mqtt_doubt_has(&doubt.suspects, 7));
    ck_assert(mqtt_doubt_has(&doubt.refused, 7));
}
END_TEST

/* Some brokers acknowledge a message and end the connection for it. */
START_TEST(one_sent_behind_another_is_no_suspect) {
    lose(3, 1, 3, false);
    lose(3, 1, 3, false);
    ck_assert_int_eq(lose(1, 2, 2, true), MQTT_DOUBT_OPEN);
    ck_assert(!mqtt_doubt_has(&doubt.suspects, 2));
}
END_TEST

START_TEST(a_broker_that_ends_every_connection_accuses_nobody_for_good) {
    lose(3, 1, 3, false);
    lose(3, 1, 3, false);
    for (uint64_t number = 1; number <= 3 * MQTT_DOUBT_LIST_MAX; number++) {
        ck_assert_int_eq(lose(1, number, 1, false), MQTT_DOUBT_OPEN);
        ck_assert_uint_le(doubt.suspects.count, MQTT_DOUBT_LIST_MAX);
    }
}
END_TEST

START_TEST(refused_messages_are_bounded) {
    for (uint64_t number = 1; number <= MQTT_DOUBT_LIST_MAX; number++) {
        ck_assert(mqtt_doubt_note_refused(&doubt, number));
    }
    ck_assert(mqtt_doubt_note_refused(&doubt, 1));
    ck_assert(!mqtt_doubt_note_refused(&doubt, MQTT_DOUBT_LIST_MAX + 1));
    mqtt_doubt_note_answer(&doubt, 1);
    ck_assert(mqtt_doubt_note_refused(&doubt, MQTT_DOUBT_LIST_MAX + 1));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("mqtt_doubt");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, one_restart_of_the_broker_changes_nothing);
    tcase_add_test(tcase, after_two_losses_those_in_flight_are_sent_alone);
    tcase_add_test(tcase, a_suspect_is_guilty_only_if_another_passed_before_it);
    tcase_add_test(tcase, one_that_is_answered_is_no_suspect);
    tcase_add_test(tcase, one_sent_behind_another_is_no_suspect);
    tcase_add_test(tcase, a_broker_that_ends_every_connection_accuses_nobody_for_good);
    tcase_add_test(tcase, refused_messages_are_bounded);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
