/* When connections are checked. */
#include <check.h>
#include "mqtt/reactor/timer_wheel.h"

#define ENTRIES 1000

static struct timer_wheel wheel;

static void setup(void) {
    timer_wheel_init(&wheel, 1000000);
}

START_TEST(a_look_comes_within_two_ticks_after_its_time_and_never_before) {
    struct timer_wheel_entry entry = {0};
    int64_t at_ms = 1000000 + _i;
    timer_wheel_set(&wheel, &entry, at_ms);
    int64_t now_ms = 1000000;
    while (!timer_wheel_due(&wheel, now_ms)) {
        now_ms += 10;
        ck_assert_int_le(now_ms, at_ms + 2 * TIMER_WHEEL_TICK_MS);
    }
    ck_assert_int_ge(now_ms, at_ms);
    ck_assert_ptr_null(entry.next);
}
END_TEST

START_TEST(a_look_beyond_the_wheel_is_put_off_until_its_time) {
    struct timer_wheel_entry entry = {0};
    int64_t span_ms = (int64_t)TIMER_WHEEL_SLOTS * TIMER_WHEEL_TICK_MS;
    timer_wheel_set(&wheel, &entry, 1000000 + 5 * span_ms);
    ck_assert_ptr_null(timer_wheel_due(&wheel, 1000000 + span_ms));
    ck_assert_ptr_null(timer_wheel_due(&wheel, 1000000 + 5 * span_ms - 1));
    ck_assert_ptr_eq(timer_wheel_due(&wheel, 1000000 + 5 * span_ms + 2 * TIMER_WHEEL_TICK_MS),
                     &entry);
}
END_TEST

START_TEST(a_time_that_has_passed_comes_with_the_next_tick) {
    struct timer_wheel_entry entry = {0};
    timer_wheel_set(&wheel, &entry, 0);
    ck_assert_ptr_null(timer_wheel_due(&wheel, 1000000));
    ck_assert_ptr_eq(timer_wheel_due(&wheel, 1000000 + TIMER_WHEEL_TICK_MS), &entry);
}
END_TEST

START_TEST(a_look_that_is_moved_or_cleared_does_not_come) {
    struct timer_wheel_entry moved = {0}, cleared = {0};
    timer_wheel_set(&wheel, &moved, 1000300);
    timer_wheel_set(&wheel, &cleared, 1000300);
    timer_wheel_set(&wheel, &moved, 1009000);
    timer_wheel_clear(&cleared);
    timer_wheel_clear(&cleared);
    ck_assert_ptr_null(timer_wheel_due(&wheel, 1008000));
    ck_assert_ptr_eq(timer_wheel_due(&wheel, 1010000), &moved);
    ck_assert_ptr_null(timer_wheel_due(&wheel, 1010000));
}
END_TEST

START_TEST(each_of_many_comes_once_also_when_the_clock_leaps_and_when_it_is_set_again) {
    static struct timer_wheel_entry entries[ENTRIES];
    size_t came = 0;
    for (int i = 0; i < ENTRIES; i++) {
        entries[i] = (struct timer_wheel_entry){0};
        timer_wheel_set(&wheel, &entries[i], 1000000 + i * 97);
    }
    struct timer_wheel_entry *entry;
    while ((entry = timer_wheel_due(&wheel, 9000000))) {
        came++;
        timer_wheel_set(&wheel, entry, 9001000);
    }
    ck_assert_uint_eq(came, ENTRIES);
    while (timer_wheel_due(&wheel, 9001000 + 2 * TIMER_WHEEL_TICK_MS)) {
        came++;
    }
    ck_assert_uint_eq(came, 2 * ENTRIES);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("timer_wheel");
    TCase *tcase = tcase_create("wheel");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, a_look_comes_within_two_ticks_after_its_time_and_never_before, 1,
                        3 * TIMER_WHEEL_TICK_MS);
    tcase_add_test(tcase, a_look_beyond_the_wheel_is_put_off_until_its_time);
    tcase_add_test(tcase, a_time_that_has_passed_comes_with_the_next_tick);
    tcase_add_test(tcase, a_look_that_is_moved_or_cleared_does_not_come);
    tcase_add_test(tcase,
                   each_of_many_comes_once_also_when_the_clock_leaps_and_when_it_is_set_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
