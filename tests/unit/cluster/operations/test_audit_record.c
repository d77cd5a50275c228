/* Tests of cluster/operations/audit_record: names of fields, and never their values. */
#include "cluster/operations/audit_record.h"

#include <check.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *record(const char *before, const char *after, const char *operation) {
    char *text = audit_record(&(struct audit_change){.by = "al\"ice",
                                                     .action = "patch",
                                                     .operation = operation,
                                                     .before = before,
                                                     .before_len = before ? strlen(before) : 0,
                                                     .after = after});
    ck_assert_ptr_nonnull(text);
    ck_assert_ptr_null(strchr(text, '\n'));
    ck_assert_ptr_null(strstr(text, "secret"));
    json_t *read = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(read);
    free(text);
    return read;
}

static bool has(const json_t *read, const char *name) {
    size_t i;
    const json_t *field;
    json_array_foreach(json_object_get(read, "fields"), i, field) {
        if (strcmp(json_string_value(field), name) == 0) {
            return true;
        }
    }
    return false;
}

START_TEST(fields_that_differ_are_named_without_their_values) {
    json_t *read = record("{\"same\":{\"x\":1},\"password\":\"secret-1\",\"gone\":1,"
                          "\"labels\":{\"a\":\"b\"},\"retired_filters\":[\"a\"]}",
                          "{\"same\":{\"x\":1},\"password\":\"secret-2\",\"new\":\"secret-3\","
                          "\"labels\":{\"a\":\"c\"}}",
                          "o1");
    ck_assert_uint_eq(json_array_size(json_object_get(read, "fields")), 4);
    ck_assert(has(read, "password") && has(read, "gone") && has(read, "new"));
    ck_assert(has(read, "labels") && !has(read, "same") && !has(read, "retired_filters"));
    ck_assert_str_eq(json_string_value(json_object_get(read, "by")), "al\"ice");
    ck_assert_str_eq(json_string_value(json_object_get(read, "operation")), "o1");
    json_decref(read);
}
END_TEST

START_TEST(a_delete_or_a_text_that_is_no_json_has_no_fields) {
    json_t *read = record(NULL, NULL, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(read, "fields")), 0);
    ck_assert_ptr_null(json_object_get(read, "operation"));
    json_decref(read);
    read = record("secret, by hand", "{}", NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(read, "fields")), 0);
    json_decref(read);
}
END_TEST

START_TEST(a_record_is_bounded) {
    json_t *many = json_object();
    for (int i = 0; i < 100; i++) {
        char name[100];
        snprintf(name, sizeof name, "%d-%060d", i, i);
        json_object_set_new(many, name, json_integer(i));
    }
    char *text = json_dumps(many, 0);
    json_t *read = record("{}", text, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(read, "fields")), AUDIT_FIELDS_MAX);
    json_decref(read);
    json_decref(many);
    free(text);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("audit_record");
    tcase_add_test(cases, fields_that_differ_are_named_without_their_values);
    tcase_add_test(cases, a_delete_or_a_text_that_is_no_json_has_no_fields);
    tcase_add_test(cases, a_record_is_bounded);
    Suite *suite = suite_create("audit_record");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
