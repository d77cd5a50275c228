/* Runs the tests of one program. */
#ifndef MQFLEET_TEST_HTTP_CHECK_H
#define MQFLEET_TEST_HTTP_CHECK_H

#include <check.h>
#include <stddef.h>
#include <stdlib.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* more: NULL, or a second case. */
static inline int run_two_cases(TCase *cases, TCase *more, const char *name) {
    Suite *suite = suite_create(name);
    tcase_set_timeout(cases, 120);
    suite_add_tcase(suite, cases);
    if (more) {
        tcase_set_timeout(more, 120);
        suite_add_tcase(suite, more);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static inline int run_cases(TCase *cases, const char *name) {
    return run_two_cases(cases, NULL, name);
}

#endif
