/* Tests of base/telemetry/log_ring: order across the end of the memory, shares of levels,
 * losses. */
#include "base/telemetry/log_ring.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING_BYTES 65536
#define LINE_LEN   100

static struct log_ring *ring;
static char batch[2 * LOG_LINE_LEN_MAX];

static void setup(void) {
    ck_assert_int_eq(log_ring_create(&ring, RING_BYTES), ERR_OK);
}

static void teardown(void) {
    log_ring_destroy(ring);
}

/* Puts lines until one is dropped; returns how many fitted. */
static int fill(enum log_level level) {
    char line[LINE_LEN];
    memset(line, 'x', sizeof line);
    int n = 0;
    while (log_ring_put(ring, level, line, sizeof line)) {
        n++;
    }
    return n;
}

static struct log_lost lost(void) {
    struct log_lost out;
    log_ring_take_lost(ring, &out);
    return out;
}

START_TEST(lines_come_out_whole_and_in_order_many_times_around) {
    int put = 0, taken = 0;
    for (int turn = 0; turn < 5000; turn++) {
        for (int i = 0; i < turn % 40; i++) {
            char line[LOG_LINE_LEN_MAX];
            int len = snprintf(line, sizeof line, "%d%*s\n", put, 1 + (put * 7) % 900, "");
            ck_assert(log_ring_put(ring, LOG_INFO, line, (size_t)len));
            put++;
        }
        size_t len;
        while ((len = log_ring_take(ring, batch, LOG_LINE_LEN_MAX)) > 0) {
            batch[len] = '\0';
            char *rest = batch;
            for (char *line = strsep(&rest, "\n"); rest; line = strsep(&rest, "\n")) {
                ck_assert_int_eq(atoi(line), taken);
                ck_assert_uint_eq(strcspn(line, " "), (size_t)snprintf(NULL, 0, "%d", taken));
                taken++;
            }
            log_ring_release(ring);
        }
        ck_assert(log_ring_is_empty(ring));
        if (turn % 3 == 0) {
            log_ring_reset(ring);
        }
    }
    ck_assert_int_eq(taken, put);
    ck_assert(!log_ring_has_lost(ring));
}
END_TEST

START_TEST(what_was_taken_stays_until_it_is_released) {
    ck_assert(log_ring_put(ring, LOG_INFO, "a\n", 2));
    ck_assert_uint_eq(log_ring_take(ring, batch, LOG_LINE_LEN_MAX), 2);
    ck_assert(!log_ring_is_empty(ring));
    log_ring_reset(ring); /* not empty: stays as it is */
    ck_assert_uint_eq(log_ring_take(ring, batch, LOG_LINE_LEN_MAX), 2);
    log_ring_release(ring);
    ck_assert(log_ring_is_empty(ring));
}
END_TEST

START_TEST(a_burst_of_informative_lines_leaves_room_for_errors_and_these_for_the_audit_trail) {
    ck_assert_int_gt(fill(LOG_INFO), 0);
    ck_assert_int_eq(fill(LOG_DEBUG), 0);
    ck_assert_int_gt(fill(LOG_ERROR), 0);
    ck_assert_int_eq(fill(LOG_WARN), 0);
    ck_assert_int_eq(fill(LOG_INFO), 0);
    ck_assert_int_gt(fill(LOG_AUDIT), 0);
    struct log_lost told = lost();
    const int64_t expected[LOG_LEVEL_COUNT] = {1, 2, 1, 1, 1};
    ck_assert_mem_eq(told.lines, expected, sizeof expected);
    ck_assert_int_gt(told.first_ms, 0);
    ck_assert_int_ge(told.last_ms, told.first_ms);
}
END_TEST

START_TEST(losses_are_handed_over_once) {
    fill(LOG_INFO);
    ck_assert(log_ring_has_lost(ring));
    ck_assert_int_eq(lost().lines[LOG_INFO], 1);
    ck_assert(!log_ring_has_lost(ring));
    fill(LOG_INFO);
    ck_assert_int_eq(lost().lines[LOG_INFO], 1);
}
END_TEST

START_TEST(the_longest_line_fits_into_the_smallest_ring) {
    char line[LOG_LINE_LEN_MAX];
    memset(line, 'x', sizeof line);
    for (int i = 0; i < 100; i++) {
        ck_assert(log_ring_put(ring, LOG_INFO, line, sizeof line));
        ck_assert_uint_eq(log_ring_take(ring, batch, LOG_LINE_LEN_MAX), sizeof line);
        log_ring_release(ring);
    }
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("log_ring");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, lines_come_out_whole_and_in_order_many_times_around);
    tcase_add_test(cases, what_was_taken_stays_until_it_is_released);
    tcase_add_test(
        cases, a_burst_of_informative_lines_leaves_room_for_errors_and_these_for_the_audit_trail);
    tcase_add_test(cases, losses_are_handed_over_once);
    tcase_add_test(cases, the_longest_line_fits_into_the_smallest_ring);
    Suite *suite = suite_create("log_ring");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
