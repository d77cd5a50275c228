/* Tests of message/topic: names, filters and shared filters by the specification. */
#include "message/topic.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const NAMES_RIGHT[] = {
    "a", "/", "a/b", "//", "/a/", "$SYS/x", "with blank", "gr\xC3\xBC\xC3\x9F/e", "$share/g/x"};
static const char *const NAMES_WRONG[] = {"",  "a/+", "a/#",  "+",
                                          "#", "a+b", "\xFF", "\xED\xA0\x80"};

static const char *const FILTERS_RIGHT[] = {
    "#",
    "+",
    "a/#",
    "+/+",
    "/+",
    "+/a/#",
    "/",
    "a//b",
    "$SYS/#",
    "$share",
    "$shared/x",
    "$share/g/#",
    "$share/g/+",
    "$share/g//",
    "$share/g/a/b",
    "$share/g/$SYS/#",
    "a b",
    "$SHARE/",
};
static const char *const FILTERS_WRONG[] = {
    "",           "a#",         "#/a",         "a/#/b",       "a/b#",
    "##",         "a+",         "+a",          "a/b+/c",      "++",
    "#+",         "$share/",    "$share//a",   "$share/g",    "$share/g/",
    "$share/+/a", "$share/#/a", "$share/g+/a", "$share/g/a#", "$share/g/+a",
    "\xC0\x80",
};

START_TEST(topic_names_are_judged_by_the_specification) {
    for (size_t i = 0; i < COUNT(NAMES_RIGHT); i++) {
        const char *fault = topic_name_fault(NAMES_RIGHT[i], strlen(NAMES_RIGHT[i]));
        ck_assert_msg(!fault, "\"%s\" %s", NAMES_RIGHT[i], fault);
    }
    for (size_t i = 0; i < COUNT(NAMES_WRONG); i++) {
        ck_assert_msg(topic_name_fault(NAMES_WRONG[i], strlen(NAMES_WRONG[i])) != NULL, "\"%s\"",
                      NAMES_WRONG[i]);
    }
}
END_TEST

START_TEST(topic_filters_are_judged_by_the_specification) {
    for (size_t i = 0; i < COUNT(FILTERS_RIGHT); i++) {
        const char *fault = topic_filter_fault(FILTERS_RIGHT[i], strlen(FILTERS_RIGHT[i]));
        ck_assert_msg(!fault, "\"%s\" %s", FILTERS_RIGHT[i], fault);
    }
    for (size_t i = 0; i < COUNT(FILTERS_WRONG); i++) {
        ck_assert_msg(topic_filter_fault(FILTERS_WRONG[i], strlen(FILTERS_WRONG[i])) != NULL,
                      "\"%s\"", FILTERS_WRONG[i]);
    }
}
END_TEST

START_TEST(a_topic_holds_no_nul_and_at_most_65535_bytes) {
    char *topic = malloc(65536);
    ck_assert_ptr_nonnull(topic);
    memset(topic, 'a', 65536);
    ck_assert_ptr_null(topic_name_fault(topic, 65535));
    ck_assert_ptr_null(topic_filter_fault(topic, 65535));
    ck_assert_ptr_nonnull(topic_name_fault(topic, 65536));
    ck_assert_ptr_nonnull(topic_filter_fault(topic, 65536));
    ck_assert_ptr_nonnull(topic_name_fault("a\0b", 3));
    ck_assert_ptr_nonnull(topic_filter_fault("a\0b", 3));
    free(topic);
}
END_TEST

START_TEST(a_topic_is_never_read_beyond_its_length) {
    /* Heap blocks without NUL, so that ASan detects reads beyond the end. */
    for (size_t i = 0; i < COUNT(FILTERS_RIGHT); i++) {
        for (size_t len = 1; len <= strlen(FILTERS_RIGHT[i]); len++) {
            char *filter = malloc(len);
            ck_assert_ptr_nonnull(filter);
            memcpy(filter, FILTERS_RIGHT[i], len);
            (void)topic_filter_fault(filter, len);
            (void)topic_name_fault(filter, len);
            free(filter);
        }
    }
}
END_TEST

START_TEST(shared_filters_are_told_from_others) {
    ck_assert(topic_filter_is_shared("$share/g/a"));
    ck_assert(!topic_filter_is_shared("$share"));
    ck_assert(!topic_filter_is_shared("$shared/g/a"));
    ck_assert(!topic_filter_is_shared("a/$share/g/a"));
    ck_assert(!topic_filter_is_shared(""));
}
END_TEST

START_TEST(filters_that_take_from_others_are_told_from_the_rest) {
    static const char *const take[] = {"$share/g/a", "$queue/a", "$exclusive/a/#", "$oshare/g/a"},
                             *const leave[] = {"queue/a", "a/$queue/a", "$queue", "$exclusivea",
                                               ""};
    for (size_t i = 0; i < sizeof take / sizeof *take; i++) {
        ck_assert_msg(topic_filter_takes_from_others(take[i]), "%s", take[i]);
    }
    for (size_t i = 0; i < sizeof leave / sizeof *leave; i++) {
        ck_assert_msg(!topic_filter_takes_from_others(leave[i]), "%s", leave[i]);
    }
}
END_TEST

START_TEST(filters_overlap_if_a_topic_matches_both) {
    static const char *const overlap[][2] = {
        {"a", "a"},         {"a/#", "a"},         {"a", "a/#"},     {"#", "a/b/c"},
        {"a/+/c", "a/b/+"}, {"+/b/#", "a/b/c/d"}, {"+", "a"},       {"$share/g/a/b", "a/+"},
        {"a/b/#", "a/+"},   {"$queue/a", "a"},    {"a//c", "a/+/c"}};
    static const char *const apart[][2] = {{"a", "b"},          {"a", "a/b"},     {"a/+", "a"},
                                           {"a/b", "a/c"},      {"a/b/#", "a/c"}, {"a/b/c", "a/+"},
                                           {"$share/g/b", "a"}, {"ab", "a"}};
    for (size_t i = 0; i < sizeof overlap / sizeof *overlap; i++) {
        ck_assert_msg(topic_filters_overlap(overlap[i][0], overlap[i][1]), "%s", overlap[i][0]);
        ck_assert_msg(topic_filters_overlap(overlap[i][1], overlap[i][0]), "%s", overlap[i][0]);
    }
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++) {
        ck_assert_msg(!topic_filters_overlap(apart[i][0], apart[i][1]), "%s", apart[i][0]);
        ck_assert_msg(!topic_filters_overlap(apart[i][1], apart[i][0]), "%s", apart[i][0]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("topic");
    TCase *tcase = tcase_create("topic");
    tcase_add_test(tcase, filters_overlap_if_a_topic_matches_both);
    tcase_add_test(tcase, topic_names_are_judged_by_the_specification);
    tcase_add_test(tcase, topic_filters_are_judged_by_the_specification);
    tcase_add_test(tcase, a_topic_holds_no_nul_and_at_most_65535_bytes);
    tcase_add_test(tcase, a_topic_is_never_read_beyond_its_length);
    tcase_add_test(tcase, shared_filters_are_told_from_others);
    tcase_add_test(tcase, filters_that_take_from_others_are_told_from_the_rest);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
