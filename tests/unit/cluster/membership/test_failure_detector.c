/* Tests of the failure detector's verdicts, snapshot by snapshot. */
#include "cluster/membership/failure_detector.h"

#include <check.h>
#include <stdlib.h>

static struct failure_detector *failure_detector;
/* The whole register; nodes without a heartbeat are passed to the failure detector. */
static struct {
    struct store_missing row;
    bool beating;
} nodes[5];
static bool verdicts[5]; /* of nodes */
static bool braked;

static void setup(void) {
    static char names[5][2] = {"a", "b", "c", "d", "e"};
    failure_detector = failure_detector_create(&(struct failure_detector_rules){
        .reclaim_grace_ms = 1500, .mass_death_wait_ms = 10000, .check_gap_ms_max = 100000});
    for (size_t i = 0; i < 5; i++) {
        nodes[i].row = (struct store_missing){.name = names[i], .incarnation = names[i]};
        nodes[i].beating = true;
    }
}

static void teardown(void) {
    failure_detector_destroy(failure_detector);
}

/* Checks the first n nodes; returns how many must be fenced. */
static size_t look_as(struct failure_detector_snapshot look, size_t n) {
    struct store_missing missing[5];
    size_t of[5], count = 0;
    bool found[5];
    look.registered_count = n;
    for (size_t i = 0; i < n; i++) {
        verdicts[i] = false;
        if (!nodes[i].beating) {
            of[look.missing_count] = i;
            missing[look.missing_count++] = nodes[i].row;
        }
    }
    look.missing = missing;
    failure_detector_check(failure_detector, &look, found, &braked);
    for (size_t i = 0; i < look.missing_count; i++) {
        verdicts[of[i]] = found[i];
        count += found[i];
    }
    return count;
}

static size_t look(int64_t now_ms, size_t n) {
    return look_as((struct failure_detector_snapshot){.now_ms = now_ms, .own_is_fresh = true}, n);
}

START_TEST(one_missing_beat_is_suspicion_only) {
    nodes[1].beating = false;
    ck_assert_uint_eq(look(1000, 3), 0);
    ck_assert_uint_eq(look(2499, 3), 0);
    ck_assert_uint_eq(look(2500, 3), 1);
    ck_assert(verdicts[1]);
}
END_TEST

START_TEST(a_beat_in_between_clears_the_suspicion) {
    nodes[1].beating = false;
    look(1000, 3);
    nodes[1].beating = true;
    look(1500, 3);
    nodes[1].beating = false;
    ck_assert_uint_eq(look(2600, 3), 0);
    ck_assert_uint_eq(look(4000, 3), 0);
    ck_assert_uint_eq(look(4200, 3), 1);
}
END_TEST

START_TEST(a_new_incarnation_is_judged_anew) {
    static char other[] = "other";
    nodes[1].beating = false;
    look(1000, 3);
    nodes[1].row.incarnation = other;
    ck_assert_uint_eq(look(3000, 3), 0);
}
END_TEST

START_TEST(a_judge_without_a_beat_of_its_own_judges_nobody) {
    nodes[1].beating = false;
    look(1000, 3);
    ck_assert_uint_eq(look_as((struct failure_detector_snapshot){.now_ms = 2000}, 3), 0);
    ck_assert_uint_eq(look(3000, 3), 0); /* earlier snapshots are forgotten */
    ck_assert_uint_eq(look(4500, 3), 1);
}
END_TEST

START_TEST(looks_too_far_apart_prove_nothing) {
    struct failure_detector_rules rules = {.reclaim_grace_ms = 1500, .check_gap_ms_max = 1200};
    failure_detector_destroy(failure_detector);
    failure_detector = failure_detector_create(&rules);
    nodes[1].beating = false;
    look(1000, 3);
    ck_assert_uint_eq(look(2600, 3), 0); /* a heartbeat may have arrived in between */
    look(3400, 3);
    ck_assert_uint_eq(look(4100, 3), 1);
}
END_TEST

START_TEST(a_failed_look_proves_nothing) {
    nodes[1].beating = false;
    look(1000, 3);
    failure_detector_reset(failure_detector);
    ck_assert_uint_eq(look(3000, 3), 0);
}
END_TEST

START_TEST(one_node_of_two_is_no_mass_death) {
    nodes[1].beating = false;
    look(1000, 2);
    ck_assert_uint_eq(look(2500, 2), 1);
    ck_assert(!braked);
}
END_TEST

START_TEST(two_of_five_at_once_make_reaping_wait) {
    nodes[1].beating = nodes[2].beating = false;
    look(1000, 5);
    ck_assert_uint_eq(look(5000, 5), 0);
    ck_assert(braked);
    ck_assert_uint_eq(look(11000, 5), 2);
}
END_TEST

START_TEST(reaping_waits_when_redis_has_just_come_back) {
    nodes[1].beating = false;
    struct failure_detector_snapshot after = {
        .now_ms = 1000, .redis_recovered_ms = 900, .own_is_fresh = true};
    look_as(after, 3);
    after.now_ms = 5000;
    ck_assert_uint_eq(look_as(after, 3), 0);
    ck_assert(braked);
    after.now_ms = 11000;
    ck_assert_uint_eq(look_as(after, 3), 1);
    ck_assert(verdicts[1]);
}
END_TEST

START_TEST(the_dead_are_not_judged_again) {
    nodes[1].beating = false;
    nodes[1].row.state = STORE_NODE_DEAD;
    look(1000, 3);
    ck_assert_uint_eq(look(9000, 3), 0);
}
END_TEST

START_TEST(entries_that_are_not_ours_are_neither_judged_nor_counted) {
    static char none[] = "";
    nodes[1].beating = nodes[2].beating = nodes[3].beating = false;
    nodes[2].row.incarnation = nodes[3].row.incarnation = none;
    look(1000, 4);
    ck_assert_uint_eq(look(2500, 4), 1);
    ck_assert(verdicts[1] && !braked);
}
END_TEST

START_TEST(a_leaving_or_draining_node_that_dies_is_judged_like_any_other) {
    nodes[1].row.state = STORE_NODE_LEAVING;
    nodes[1].beating = false;
    look(1000, 3);
    ck_assert_uint_eq(look(2500, 3), 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("failure_detector");
    TCase *tests = tcase_create("failure_detector");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, one_missing_beat_is_suspicion_only);
    tcase_add_test(tests, a_beat_in_between_clears_the_suspicion);
    tcase_add_test(tests, a_new_incarnation_is_judged_anew);
    tcase_add_test(tests, a_judge_without_a_beat_of_its_own_judges_nobody);
    tcase_add_test(tests, looks_too_far_apart_prove_nothing);
    tcase_add_test(tests, a_failed_look_proves_nothing);
    tcase_add_test(tests, one_node_of_two_is_no_mass_death);
    tcase_add_test(tests, two_of_five_at_once_make_reaping_wait);
    tcase_add_test(tests, reaping_waits_when_redis_has_just_come_back);
    tcase_add_test(tests, the_dead_are_not_judged_again);
    tcase_add_test(tests, entries_that_are_not_ours_are_neither_judged_nor_counted);
    tcase_add_test(tests, a_leaving_or_draining_node_that_dies_is_judged_like_any_other);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
