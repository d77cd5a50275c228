/* Tests of base/shared_text. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include "base/shared_text.h"

START_TEST(equal_texts_are_stored_once) {
    char copy[] = "-----BEGIN CERTIFICATE-----";
    char *first = shared_text_hold(copy), *second;
    copy[5] = 'b';
    second = shared_text_hold("-----BEGIN CERTIFICATE-----");
    ck_assert_ptr_eq(first, second);
    ck_assert_uint_eq(shared_text_count(), 1);
    shared_text_release(first);
    ck_assert_str_eq(second, "-----BEGIN CERTIFICATE-----");
    shared_text_release(second);
    ck_assert_uint_eq(shared_text_count(), 0);
    shared_text_release(NULL);
}
END_TEST

START_TEST(many_texts_are_kept_apart) {
    enum { COUNT = 20000 };
    static char *held[COUNT];
    char text[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "text %d", i);
        held[i] = shared_text_hold(text);
        ck_assert_ptr_nonnull(held[i]);
    }
    ck_assert_uint_eq(shared_text_count(), COUNT);
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "text %d", i);
        ck_assert_str_eq(held[i], text);
        shared_text_release(held[i]);
    }
    ck_assert_uint_eq(shared_text_count(), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shared_text");
    TCase *usual = tcase_create("usual");
    tcase_add_test(usual, equal_texts_are_stored_once);
    tcase_add_test(usual, many_texts_are_kept_apart);
    suite_add_tcase(suite, usual);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
