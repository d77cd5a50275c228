/* Tests of the trie against the rules of MQTT 5.0 section 4.7, and against a plain matcher. */
#include "message/routes/topic_trie.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static uint64_t found;

static void note(void *context, uint32_t value) {
    (void)context;
    ck_assert_msg(!(found & UINT64_C(1) << value), "%u was found twice", value);
    found |= UINT64_C(1) << value;
}

static bool matches(const char *filter, const char *topic) {
    struct topic_trie *trie = topic_trie_create();
    ck_assert_int_eq(topic_trie_add(trie, filter, 1), ERR_OK);
    found = 0;
    topic_trie_match(trie, topic, note, NULL);
    topic_trie_destroy(trie);
    return found != 0;
}

static const struct {
    const char *filter, *topic;
    bool matches;
} rows[] = {
    {"a", "a", true},
    {"a", "b", false},
    {"a", "a/b", false},
    {"a/b", "a", false},
    {"a", "ab", false},
    {"ab", "a", false},
    {"a", "a/", false},
    {"a/", "a/", true},
    {"/a", "/a", true},
    {"/a", "a", false},
    {"+", "a", true},
    {"+", "", true},
    {"+", "a/b", false},
    {"+/+", "/finance", true},
    {"/+", "/finance", true},
    {"+", "/finance", false},
    {"a/+/c", "a/b/c", true},
    {"a/+/c", "a//c", true},
    {"a/+/c", "a/b/d", false},
    {"a/+", "a", false},
    {"a/+", "a/", true},
    {"#", "a", true},
    {"#", "a/b/c", true},
    {"#", "/", true},
    {"a/#", "a", true},
    {"a/#", "a/b/c", true},
    {"a/#", "ab", false},
    {"a/+/#", "a", false},
    {"a/+/#", "a/b", true},
    {"+/#", "a", true},
    {"#", "$SYS/uptime", false},
    {"+/uptime", "$SYS/uptime", false},
    {"$SYS/#", "$SYS/uptime", true},
    {"$SYS/+", "$SYS/uptime", true},
    {"$SYS", "$SYS", true},
    {"a/+", "a/$b", true},
    {"a/#", "a/$b", true},
};

START_TEST(a_filter_matches_by_the_specification) {
    ck_assert_msg(matches(rows[_i].filter, rows[_i].topic) == rows[_i].matches, "%s and %s",
                  rows[_i].filter, rows[_i].topic);
}
END_TEST

/* Level by level, one filter at a time. */
static bool plainly_matches(const char *filter, const char *topic) {
    for (;;) {
        size_t filter_len = strcspn(filter, "/"), topic_len = strcspn(topic, "/");
        if (strcmp(filter, "#") == 0) {
            return true;
        }
        bool any = filter_len == 1 && *filter == '+';
        if (!any && (filter_len != topic_len || memcmp(filter, topic, topic_len) != 0)) {
            return false;
        }
        filter += filter_len;
        topic += topic_len;
        if (!*filter || !*topic) {
            return (!*filter && !*topic) || (!*topic && strcmp(filter, "/#") == 0);
        }
        filter++;
        topic++;
    }
}

static void random_levels(char *out, const char *const *levels, size_t count) {
    int depth = 1 + rand() % 4;
    *out = '\0';
    for (int i = 0; i < depth; i++) {
        const char *level = levels[(size_t)rand() % count];
        strcat(strcat(out, i ? "/" : ""), level);
        if (strcmp(level, "#") == 0) {
            return;
        }
    }
}

START_TEST(it_finds_what_a_plain_matcher_finds) {
    static const char *const of_filters[] = {"a", "b", "aa", "", "+", "+", "#"};
    static const char *const of_topics[] = {"a", "b", "aa", ""};
    enum { FILTERS = 60 };
    char filters[FILTERS][64];
    srand(1);
    for (int round = 0; round < 60; round++) {
        struct topic_trie *trie = topic_trie_create();
        for (uint32_t i = 0; i < FILTERS; i++) {
            random_levels(filters[i], of_filters, 7);
            ck_assert_int_eq(topic_trie_add(trie, filters[i], i), ERR_OK);
        }
        for (int k = 0; k < 50; k++) {
            char topic[64];
            random_levels(topic, of_topics, 4);
            found = 0;
            topic_trie_match(trie, topic, note, NULL);
            for (uint32_t i = 0; i < FILTERS; i++) {
                ck_assert_msg((found >> i & 1) == plainly_matches(filters[i], topic), "%s and %s",
                              filters[i], topic);
            }
        }
        topic_trie_destroy(trie);
    }
}
END_TEST

START_TEST(a_filter_has_at_most_so_many_levels_and_a_topic_any_number) {
    char filter[2 * TOPIC_TRIE_LEVELS_MAX + 4] = "+";
    static char topic[65536];
    struct topic_trie *trie = topic_trie_create();
    for (int i = 1; i < TOPIC_TRIE_LEVELS_MAX; i++) {
        strcat(filter, "/+");
    }
    ck_assert_int_eq(topic_trie_add(trie, filter, 1), ERR_OK);
    strcat(filter, "/+");
    ck_assert_int_eq(topic_trie_add(trie, filter, 2), ERR_ARGUMENT);
    ck_assert_int_eq(topic_trie_add(trie, "#", 3), ERR_OK);
    memset(topic, '/', sizeof topic - 1);
    found = 0;
    topic_trie_match(trie, topic, note, NULL);
    ck_assert_uint_eq(found, 1 << 3);
    topic_trie_destroy(trie);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("topic_trie");
    TCase *tcase = tcase_create("topic_trie");
    tcase_add_loop_test(tcase, a_filter_matches_by_the_specification, 0,
                        sizeof rows / sizeof rows[0]);
    tcase_add_test(tcase, it_finds_what_a_plain_matcher_finds);
    tcase_add_test(tcase, a_filter_has_at_most_so_many_levels_and_a_topic_any_number);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
