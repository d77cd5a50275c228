/* Comparison of the settings that a fleet shares. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "cluster/membership/fleet_settings.h"

static char *text_of(const struct fleet_differences *differences, const struct store_fleet *fleet,
                     const char *node) {
    json_t *shown = fleet_settings_differing(differences, fleet, node);
    char *text = json_dumps(shown, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(shown);
    return text;
}

START_TEST(only_what_is_not_the_same_everywhere_is_shown_F14) {
    struct store_fleet_row rows[] = {
        {(char *)"a", (char *)"{\"heartbeat_ms\":1000,\"stable_ms\":5,\"own\":1}"},
        {(char *)"b", (char *)"{\"heartbeat_ms\":5000,\"stable_ms\":5,\"own\":2}"},
        {(char *)"c",
         (char *)"{\"heartbeat_ms\":1000,\"conflict_losses\":3}"}, /* another version */
        {(char *)"d", (char *)"rubbish"},
        {(char *)"e", NULL},
    };
    static const char *const shown[] = {"{\"heartbeat_ms\":1000}", "{\"heartbeat_ms\":5000}",
                                        "{\"heartbeat_ms\":1000}", "{}", "{}"};
    struct store_fleet fleet = {.rows = rows, .n = 5};
    struct fleet_differences differences;
    fleet_settings_compare(&fleet, &differences);
    for (size_t i = 0; i < 5; i++) {
        char *text = text_of(&differences, &fleet, rows[i].node);
        ck_assert_str_eq(text, shown[i]);
        free(text);
    }
    char *text = text_of(&differences, &fleet, "nobody");
    ck_assert_str_eq(text, "{}");
    free(text);
    fleet.n = 1;
    fleet_settings_compare(&fleet, &differences);
    text = text_of(&differences, &fleet, "a");
    ck_assert_str_eq(text, "{}");
    free(text);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fleet_settings");
    TCase *tcase = tcase_create("fleet_settings");
    tcase_add_test(tcase, only_what_is_not_the_same_everywhere_is_shown_F14);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
