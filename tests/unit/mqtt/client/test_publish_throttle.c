/* Tests of which publications are refused after similar ones ended the connection. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "mqtt/client/publish_throttle.h"

static struct publish_throttle *throttle;
static struct publish_throttled held;
static const struct publish_shape bad = {"bad", 10, 1, false}, good = {"good", 10, 1, false};

static void setup(void) {
    throttle = NULL;
}

static void teardown(void) {
    publish_throttle_destroy(throttle);
}

/* Separate losses, the last at now_ms. */
static void charge(struct publish_shape shape, int times, int64_t now_ms) {
    for (int i = 1; i <= times; i++) {
        publish_throttle_charge(&throttle, &shape, now_ms - times + i);
    }
}

static bool holds(struct publish_shape shape, int64_t now_ms) {
    return publish_throttle_refuses(throttle, &shape, now_ms, &held);
}

START_TEST(a_topic_rests_after_three_losses_and_each_further_one_doubles_it) {
    charge(bad, 2, -1);
    ck_assert(!holds(bad, 0));
    charge(bad, 1, 0);
    ck_assert(holds(bad, 9999) && !holds(bad, 10000) && !holds(good, 0));
    ck_assert_str_eq((holds(bad, 0), held.what), "to this topic");
    charge(bad, 1, 10000);
    ck_assert(holds(bad, 29999) && !holds(bad, 30000));
    charge(bad, 30, 30000);
    ck_assert(holds(bad, 629999) && !holds(bad, 630000));
}
END_TEST

/* Many publications to one topic were in flight: that is one loss, and no reason to refuse the
 * topic. */
START_TEST(what_is_in_doubt_together_counts_once) {
    static const char *const topics[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 40; i++) {
        struct publish_shape shape = {topics[i % 4], 100000, 2, true};
        publish_throttle_charge(&throttle, &shape, 7);
    }
    ck_assert(!holds((struct publish_shape){"a", 100000, 2, true}, 7));
    ck_assert(!holds((struct publish_shape){"x", 100000, 2, true}, 7));
}
END_TEST

START_TEST(an_acknowledgement_ends_the_row) {
    charge(bad, 2, 0);
    publish_throttle_clear(throttle, &bad);
    charge(bad, 2, 0);
    ck_assert(!holds(bad, 0));
    publish_throttle_clear(NULL, &bad);
}
END_TEST

START_TEST(one_topic_speaks_against_itself_alone) {
    charge((struct publish_shape){"bad", 100000, 2, true}, 10, 0);
    ck_assert(!holds((struct publish_shape){"good", 100000, 2, true}, 0));
}
END_TEST

static const struct {
    struct publish_shape charged, refused, taken;
} kinds[] = {
    {{"", 100000, 1, false}, {"x", 100000, 1, false}, {"x", 99999, 1, false}},
    {{"", 10, 2, false}, {"x", 10, 2, false}, {"x", 10, 1, false}},
    {{"", 10, 1, true}, {"x", 10, 1, true}, {"x", 10, 1, false}},
};

START_TEST(several_topics_speak_against_what_they_have_in_common) {
    static const char *const topics[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        struct publish_shape shape = kinds[_i].charged;
        shape.topic = topics[i];
        charge(shape, 1, (int64_t)i - 2);
    }
    ck_assert(holds(kinds[_i].refused, 0) && !holds(kinds[_i].taken, 0));
    publish_throttle_clear(throttle, &kinds[_i].refused);
    ck_assert(!holds(kinds[_i].refused, 0));
}
END_TEST

START_TEST(qos_0_must_be_charged_each_time) {
    struct publish_shape first = {"a", 1, 0, false}, second = {"b", 1, 0, false};
    for (int i = 0; i < 5; i++) {
        charge(first, 1, 0);
        charge(second, 1, 0);
    }
    ck_assert(!holds(first, 0) && !holds(second, 0));
    charge(first, 3, 0);
    ck_assert(holds(first, 0));
}
END_TEST

/* A broker that ends each connection after some time, whatever was sent. */
START_TEST(qos_0_must_be_charged_in_quick_succession) {
    static const char *const topics[] = {"a", "b"};
    struct publish_shape same = {"a", 1, 0, false};
    for (int i = 0; i < 20; i++) {
        charge((struct publish_shape){topics[i % 2], 100000, 0, true}, 1, i * 60001);
        ck_assert(!holds((struct publish_shape){"x", 100000, 1, true}, i * 60001));
    }
    for (int i = 20; i < 40; i++) {
        charge(same, 1, i * 60001);
        ck_assert(!holds(same, i * 60001));
    }
    charge(same, 2, 39 * 60001);
    int64_t now_ms = 39 * 60001 + 10000 + 60000; /* cool-down and time to forget */
    charge(same, 1, now_ms);
    ck_assert(holds(same, now_ms + 19999) && !holds(same, now_ms + 20000));
}
END_TEST

START_TEST(a_hundred_topics_need_no_more_room_than_sixteen) {
    char topic[8];
    for (int i = 0; i < 100; i++) {
        snprintf(topic, sizeof topic, "t%d", i);
        charge((struct publish_shape){topic, 1, 1, false}, 3, i);
    }
    ck_assert(holds((struct publish_shape){"t99", 1, 1, false}, 99));
    ck_assert(!holds((struct publish_shape){"t0", 1, 1, false}, 99));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("publish_throttle");
    TCase *tcase = tcase_create("publish_throttle");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_topic_rests_after_three_losses_and_each_further_one_doubles_it);
    tcase_add_test(tcase, an_acknowledgement_ends_the_row);
    tcase_add_test(tcase, what_is_in_doubt_together_counts_once);
    tcase_add_test(tcase, one_topic_speaks_against_itself_alone);
    tcase_add_loop_test(tcase, several_topics_speak_against_what_they_have_in_common, 0, 3);
    tcase_add_test(tcase, qos_0_must_be_charged_each_time);
    tcase_add_test(tcase, qos_0_must_be_charged_in_quick_succession);
    tcase_add_test(tcase, a_hundred_topics_need_no_more_room_than_sixteen);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
