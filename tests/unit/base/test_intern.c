/* Tests of base/intern. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include "base/intern.h"

START_TEST(equal_texts_are_one) {
    char copy[] = "subscribed";
    const char *first = intern("subscribed");
    ck_assert_ptr_eq(first, intern(copy));
    copy[0] = 'x';
    ck_assert_str_eq(first, "subscribed");
    ck_assert_str_eq(intern(""), "");
}
END_TEST

START_TEST(the_table_is_bounded) {
    char text[32];
    for (int i = 0; i < INTERN_MAX; i++) {
        snprintf(text, sizeof(text), "reason %d", i);
        intern(text);
    }
    ck_assert_str_eq(intern("one too many"), "other");
    ck_assert_str_eq(intern("reason 7"), "reason 7");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("intern");
    TCase *usual = tcase_create("usual");
    tcase_add_test(usual, equal_texts_are_one);
    tcase_add_test(usual, the_table_is_bounded);
    suite_add_tcase(suite, usual);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
