/* Tests of http/api/document_changes. */
#include "http/api/document_changes.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "http/http_check.h"

static json_t *compare(const json_t *before, const json_t *after, size_t bytes_left) {
    return document_changes((struct document_side){before, before},
                            (struct document_side){after, after}, &bytes_left);
}

static void expect(const char *before, const char *after, const char *changes) {
    json_t *old = json_loads(before, 0, NULL), *new = json_loads(after, 0, NULL);
    json_t *found = compare(old, new, DOCUMENT_CHANGES_BYTES_MAX);
    json_t *expected = json_loads(changes, 0, NULL);
    char *text = json_dumps(found, 0);
    ck_assert_msg(json_equal(found, expected), "%s -> %s: %s", before, after, text);
    free(text);
    json_decref(old);
    json_decref(new);
    json_decref(found);
    json_decref(expected);
}

START_TEST(changes_have_a_pointer_and_both_values) {
    expect("{}", "{}", "[]");
    expect("{\"a\": 1}", "{\"a\": 1}", "[]");
    expect("{\"a\": 1}", "{\"a\": 2}", "[{\"field\": \"/a\", \"before\": 1, \"after\": 2}]");
    expect("{\"a\": 1}", "{}", "[{\"field\": \"/a\", \"before\": 1}]");
    expect("{}", "{\"a\": null}", "[{\"field\": \"/a\", \"after\": null}]");
    expect("{\"a\": {\"b\": {\"c\": 1, \"d\": 2}}}", "{\"a\": {\"b\": {\"c\": 1, \"d\": 3}}}",
           "[{\"field\": \"/a/b/d\", \"before\": 2, \"after\": 3}]");
    expect("{\"a/b\": 1, \"~\": 1}", "{\"a/b\": 2, \"~\": 2}",
           "[{\"field\": \"/a~1b\", \"before\": 1, \"after\": 2},"
           " {\"field\": \"/~0\", \"before\": 1, \"after\": 2}]");
}
END_TEST

START_TEST(lists_of_one_length_are_compared_by_element) {
    expect("[1, 2]", "[1, 3]", "[{\"field\": \"/1\", \"before\": 2, \"after\": 3}]");
    expect("{\"a\": [1]}", "{\"a\": [1, 2]}",
           "[{\"field\": \"/a\", \"before\": [1], \"after\": [1, 2]}]");
    expect("{\"a\": []}", "{\"a\": {}}", "[{\"field\": \"/a\", \"before\": [], \"after\": {}}]");
}
END_TEST

START_TEST(values_are_shown_as_their_masks) {
    json_t *old = json_pack("{s:s}", "p", "hush"), *new = json_pack("{s:s}", "p", "hush2");
    json_t *mask = json_pack("{s:s}", "p", "***");
    size_t left = 1000;
    json_t *found = document_changes((struct document_side){old, mask},
                                     (struct document_side){new, mask}, &left);
    ck_assert_uint_eq(left,
                      1000 - strlen("{\"field\":\"/p\",\"before\":\"***\",\"after\":\"***\"}"));
    char *text = json_dumps(found, 0);
    ck_assert_ptr_null(strstr(text, "hush"));
    ck_assert_uint_eq(json_array_size(found), 1);
    free(text);
    json_decref(old);
    json_decref(new);
    json_decref(mask);
    json_decref(found);
}
END_TEST

START_TEST(their_number_is_bounded) {
    json_t *old = json_object(), *new = json_object();
    for (int i = 0; i < DOCUMENT_CHANGES_MAX + 7; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        json_object_set_new(old, name, json_integer(i));
        json_object_set_new(new, name, json_integer(i + 1));
    }
    json_t *found = compare(old, new, DOCUMENT_CHANGES_BYTES_MAX);
    ck_assert_uint_eq(json_array_size(found), DOCUMENT_CHANGES_MAX + 1);
    json_t *last = json_array_get(found, DOCUMENT_CHANGES_MAX);
    ck_assert_int_eq(json_integer_value(json_object_get(last, "more")), 7);
    json_decref(old);
    json_decref(new);
    json_decref(found);
}
END_TEST

START_TEST(their_bytes_are_bounded) {
    json_t *old = json_pack("{s:s, s:s, s:i}", "a", "x", "b", "a long text", "c", 1);
    json_t *new = json_pack("{s:s, s:s, s:i}", "a", "y", "b", "another text", "c", 2);
    json_t *found =
        compare(old, new, strlen("{\"field\":\"/a\",\"before\":\"x\",\"after\":\"y\"}"));
    json_t *expected = json_pack("[{s:s, s:s, s:s}, {s:i}]", "field", "/a", "before", "x", "after",
                                 "y", "more", 2);
    ck_assert(json_equal(found, expected));
    json_t *none = compare(old, new, 0);
    ck_assert_uint_eq(json_array_size(none), 1); /* not equal, although no change has room */
    json_decref(none);
    json_decref(old);
    json_decref(new);
    json_decref(found);
    json_decref(expected);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("document_changes");
    tcase_add_test(cases, changes_have_a_pointer_and_both_values);
    tcase_add_test(cases, lists_of_one_length_are_compared_by_element);
    tcase_add_test(cases, values_are_shown_as_their_masks);
    tcase_add_test(cases, their_number_is_bounded);
    tcase_add_test(cases, their_bytes_are_bounded);
    return run_cases(cases, "document_changes");
}
