/* Tests of how publications are divided among brokers. */
#include "mqtt/client/publish_quota.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define BYTES_MAX 3000000
#define TAKEN_MAX 4000

static struct publish_quota *quota;
static struct {
    struct publish_share *share;
    size_t bytes;
} taken[TAKEN_MAX];
static size_t taken_count;

static void setup(void) {
    quota = publish_quota_create(&(struct publish_use){.waiting = 750, .bytes = BYTES_MAX});
    taken_count = 0;
}

static void teardown(void) {
    publish_quota_destroy(quota);
}

static enum err take(const char *broker, size_t bytes) {
    ck_assert_uint_lt(taken_count, TAKEN_MAX);
    enum err err = publish_quota_take(quota, broker, bytes, &taken[taken_count].share);
    if (err == ERR_OK) {
        taken[taken_count++].bytes = bytes;
    }
    return err;
}

/* Takes as many as are permitted. */
static size_t fill(const char *broker, size_t bytes) {
    size_t n = 0;
    enum err err;
    while ((err = take(broker, bytes)) == ERR_OK) {
        n++;
    }
    ck_assert_int_eq(err, ERR_BUSY);
    return n;
}

static void give_all_back(void) {
    while (taken_count > 0) {
        taken_count--;
        publish_share_answered(taken[taken_count].share);
        publish_share_release(taken[taken_count].share, taken[taken_count].bytes);
    }
    struct publish_use use = publish_quota_use(quota, NULL);
    ck_assert(use.waiting == 0 && use.bytes == 0);
}

START_TEST(case_F5_one_silent_broker_leaves_a_third) {
    size_t silent = fill("silent:1883", 100);
    ck_assert_uint_eq(silent, 500);
    ck_assert_uint_eq(fill("good:1883", 100), 167); /* and more would be allowed */
    ck_assert_uint_eq(publish_quota_use(quota, "silent:1883").waiting, 500);
    give_all_back();
}
END_TEST

START_TEST(case_F5_however_many_are_silent_the_next_gets_some) {
    for (int i = 0; i < 50; i++) {
        char broker[32];
        snprintf(broker, sizeof broker, "silent%d:1883", i);
        ck_assert_uint_ge(fill(broker, 100), 4);
    }
    ck_assert_uint_le(publish_quota_use(quota, NULL).waiting, 750 + 50 * 4);
    ck_assert_int_eq(take("good:1883", 100), ERR_OK);
    give_all_back();
}
END_TEST

START_TEST(bytes_are_shared_like_callers_and_kept_after_the_answer) {
    ck_assert_uint_eq(fill("silent:1883", 100000), 20);
    for (size_t i = 0; i < taken_count; i++) {
        publish_share_answered(taken[i].share);
    }
    struct publish_use use = publish_quota_use(quota, "silent:1883");
    ck_assert_uint_eq(use.waiting, 0);
    ck_assert_uint_eq(use.bytes, 2000000);
    ck_assert_int_eq(take("silent:1883", 100000), ERR_BUSY);
    ck_assert_int_eq(take("good:1883", 1000000), ERR_OK);
    publish_share_answered(taken[20].share);
    for (size_t i = 0; i < taken_count; i++) {
        publish_share_release(taken[i].share, taken[i].bytes);
    }
    taken_count = 0;
    give_all_back();
}
END_TEST

START_TEST(one_larger_than_all_is_taken_where_there_is_nothing_else) {
    ck_assert_int_eq(take("a:1883", 2 * BYTES_MAX), ERR_OK);
    ck_assert_int_eq(take("b:1883", 100000), ERR_BUSY);
    give_all_back();
    ck_assert_int_eq(take("b:1883", 1), ERR_OK);
    ck_assert_int_eq(take("a:1883", 2 * BYTES_MAX), ERR_BUSY);
    give_all_back();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("publish_quota");
    TCase *tcase = tcase_create("publish_quota");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, case_F5_one_silent_broker_leaves_a_third);
    tcase_add_test(tcase, case_F5_however_many_are_silent_the_next_gets_some);
    tcase_add_test(tcase, bytes_are_shared_like_callers_and_kept_after_the_answer);
    tcase_add_test(tcase, one_larger_than_all_is_taken_where_there_is_nothing_else);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
