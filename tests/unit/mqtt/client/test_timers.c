#include <check.h>
#include <stdlib.h>
#include "mqtt/client/timers.h"

#define MANY 500

START_TEST(timers_come_in_the_order_of_their_time) {
    struct timers timers;
    static struct timer all[MANY];
    timers_init(&timers);
    ck_assert_int_eq(timers_reserve(&timers, MANY), ERR_OK);
    srand(1);
    for (int i = 0; i < MANY; i++) {
        timers_set(&timers, &all[i], rand() % 1000);
    }
    for (int i = 0; i < MANY; i += 3) {
        timers_set(&timers, &all[i], rand() % 1000); /* moved */
    }
    for (int i = 0; i < MANY; i += 5) {
        timers_clear(&timers, &all[i]);
        timers_clear(&timers, &all[i]); /* twice is legal */
    }
    int64_t last_ms = 0;
    int count = 0;
    for (struct timer *timer; (timer = timers_due(&timers, 2000)); count++) {
        ck_assert_int_ge(timer->at_ms, last_ms);
        ck_assert_uint_eq(timer->position, 0);
        last_ms = timer->at_ms;
    }
    ck_assert_int_eq(count, MANY - MANY / 5);
    timers_fini(&timers);
}
END_TEST

START_TEST(a_timer_is_not_due_before_its_time) {
    struct timers timers;
    struct timer timer = {0};
    timers_init(&timers);
    ck_assert_int_eq(timers_reserve(&timers, 1), ERR_OK);
    ck_assert_int_eq(timers_wait_ms(&timers, 0, 77), 77);
    timers_set(&timers, &timer, 100);
    ck_assert_ptr_null(timers_due(&timers, 99));
    ck_assert_int_eq(timers_wait_ms(&timers, 40, 1000), 60);
    ck_assert_int_eq(timers_wait_ms(&timers, 40, 50), 50);
    ck_assert_int_eq(timers_wait_ms(&timers, 150, 50), 0);
    ck_assert_ptr_eq(timers_due(&timers, 100), &timer);
    ck_assert_ptr_null(timers_due(&timers, 100));
    timers_fini(&timers);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("timers");
    TCase *tcase = tcase_create("timers");
    tcase_add_test(tcase, timers_come_in_the_order_of_their_time);
    tcase_add_test(tcase, a_timer_is_not_due_before_its_time);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
