/* Tests of base/percent. */
#include "base/percent.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

START_TEST(percent_escapes_are_decoded_and_encoded_back) {
    char *text = NULL;
    ck_assert_int_eq(percent_decode("a%2Fb%20c+d%C3%A4", 17, false, &text), ERR_OK);
    ck_assert_str_eq(text, "a/b c+d\xC3\xA4");
    char *again = percent_encode(text);
    ck_assert_str_eq(again, "a%2Fb%20c%2Bd%C3%A4");
    free(again);
    free(text);
    again = percent_encode("");
    ck_assert_str_eq(again, "");
    free(again);
}
END_TEST

START_TEST(a_plus_is_a_blank_only_in_queries) {
    char *text = NULL;
    ck_assert_int_eq(percent_decode("a+b", 3, true, &text), ERR_OK);
    ck_assert_str_eq(text, "a b");
    free(text);
}
END_TEST

START_TEST(broken_escapes_nul_and_bytes_that_are_no_utf8_are_refused) {
    static const char *const wrong[] = {"%",   "%2",  "%zz",       "a%0",         "%00",
                                        "%FF", "%C3", "%ED%A0%80", "ok%C0%80",    "\xFF",
                                        "%-1", "% 1", "%u0041",    "%F4%90%80%80"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        char *text = NULL;
        ck_assert_msg(percent_decode(wrong[i], strlen(wrong[i]), false, &text) == ERR_ARGUMENT,
                      "%s", wrong[i]);
        ck_assert_ptr_null(text);
    }
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("percent");
    tcase_add_test(cases, percent_escapes_are_decoded_and_encoded_back);
    tcase_add_test(cases, a_plus_is_a_blank_only_in_queries);
    tcase_add_test(cases, broken_escapes_nul_and_bytes_that_are_no_utf8_are_refused);
    Suite *suite = suite_create("percent");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
