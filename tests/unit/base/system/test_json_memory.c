/* Tests of base/system/json_memory: a failed allocation is reported and leaks nothing. */
#include "base/system/json_memory.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "failing_malloc.h"

/* Long texts, numbers, escapes and names make the buffers of the parser grow. */
static char *document(void) {
    char text[600];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    char *out = NULL;
    int len = asprintf(
        &out,
        "{\"%.40s\": \"%s\", \"n\": 1234567890123456, \"r\": 0.1234567890123456789012,"
        " \"e\": \"\\u00e4\\u00e4\\u00e4\\u00e4\\u00e4\\u00e4\\u00e4\","
        " \"a\": [1,2,3,[4,[5]],6,7,8,9,10,11,12,13,14,15,16,17,true,null],"
        " \"o\": {\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9},"
        " \"l\": \"%.100s\"}",
        text, text, text);
    ck_assert_int_gt(len, 0);
    return out;
}

START_TEST(case_F15_memory_that_runs_out_anywhere_is_no_fault_of_the_text) {
    char *text = document();
    json_t *whole = json_loads(text, 0, NULL), *out;
    ck_assert_ptr_nonnull(whole);
    stays = _i == 1;
    bool ended = false;
    for (long n = 0; CAN_FAIL && !ended; n++) {
        long before = live;
        failed = 0;
        left = n;
        enum err err = json_parse(&out, text, strlen(text), JSON_REJECT_DUPLICATES, NULL);
        left = -1;
        ended = failed == 0;
        ck_assert_int_eq(err, ended ? ERR_OK : ERR_MEMORY);
        ck_assert(!ended == (!out));
        ck_assert(!ended || json_equal(out, whole));
        json_decref(out);
        ck_assert_int_eq(live, before);
        ck_assert_int_lt(n, 10000);
    }
    json_decref(whole);
    free(text);
}
END_TEST

START_TEST(case_F15_a_text_is_written_whole_or_not_at_all) {
    char *text = document();
    json_t *whole = json_loads(text, 0, NULL);
    char *written = json_dumps(whole, JSON_SORT_KEYS);
    stays = _i == 1;
    failed = 1;
    for (long n = 0; CAN_FAIL && failed > 0; n++) {
        long before = live;
        failed = 0;
        left = n;
        char *now = json_to_text(whole, JSON_SORT_KEYS);
        left = -1;
        ck_assert((!now) == (failed > 0));
        ck_assert(!now || strcmp(now, written) == 0);
        free(now);
        ck_assert_int_eq(live, before);
    }
    free(written);
    json_decref(whole);
    free(text);
}
END_TEST

START_TEST(a_text_that_is_wrong_is_told_as_by_jansson) {
    static const char *const texts[] = {"", "{", "[1,]", "{\"a\":1,\"a\":2}", "\"x", "[01]", "nul"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_error_t ours, theirs;
        json_t *out;
        ck_assert_ptr_null(json_loads(texts[i], JSON_REJECT_DUPLICATES, &theirs));
        ck_assert_int_eq(
            json_parse(&out, texts[i], strlen(texts[i]), JSON_REJECT_DUPLICATES, &ours),
            ERR_ARGUMENT);
        ck_assert_ptr_null(out);
        ck_assert_str_eq(ours.text, theirs.text);
        ck_assert_int_eq(ours.line, theirs.line);
        ck_assert_int_eq(ours.column, theirs.column);
    }
}
END_TEST

START_TEST(what_is_parsed_can_be_changed_and_freed_as_any_value) {
    json_t *out;
    ck_assert_int_eq(json_parse(&out, "{\"a\":[1]}", 9, 0, NULL), ERR_OK);
    ck_assert_int_eq(json_array_append_new(json_object_get(out, "a"), json_string("two")), 0);
    char *text = json_dumps(out, JSON_COMPACT);
    ck_assert_str_eq(text, "{\"a\":[1,\"two\"]}");
    free(text);
    json_decref(out);
}
END_TEST

/* The examples of RFC 7396, appendix A, whose target and patch are objects. */
START_TEST(a_merge_patch_changes_an_object_as_in_the_rfc) {
    static const char *const rows[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{\"a\":\"foo\"}", "{}", "{\"a\":\"foo\"}"},
    };
    json_t *target = json_loads(rows[_i][0], 0, NULL), *patch = json_loads(rows[_i][1], 0, NULL);
    json_t *wanted = json_loads(rows[_i][2], 0, NULL);
    ck_assert_int_eq(json_merge_patch(target, patch), ERR_OK);
    ck_assert_msg(json_equal(target, wanted), "%s", rows[_i][1]);
    json_decref(target);
    json_decref(patch);
    json_decref(wanted);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("json_memory");
    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, case_F15_memory_that_runs_out_anywhere_is_no_fault_of_the_text, 0,
                        2);
    tcase_add_loop_test(cases, case_F15_a_text_is_written_whole_or_not_at_all, 0, 2);
    tcase_add_test(cases, a_text_that_is_wrong_is_told_as_by_jansson);
    tcase_add_test(cases, what_is_parsed_can_be_changed_and_freed_as_any_value);
    tcase_add_loop_test(cases, a_merge_patch_changes_an_object_as_in_the_rfc, 0, 11);
    Suite *suite = suite_create("json_memory");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
