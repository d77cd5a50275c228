/* Tests of http/api/selection/tally. */
#include "http/api/selection/tally.h"

#include <stdio.h>
#include <string.h>
#include "http/http_check.h"

START_TEST(groups_are_counted_and_sorted) {
    struct tally tally = {0};
    size_t n;
    for (int i = 0; i < 30; i++) {
        tally_add(&tally, i % 3 == 0 ? "rare" : "frequent", 1, NULL);
    }
    tally_add(&tally, "also", 10, NULL);
    tally_add(&tally, NULL, 15, NULL);
    struct tally_row *rows = tally_rows(&tally, &n);
    ck_assert_uint_eq(n, 4);
    ck_assert(strcmp(rows[0].value, "frequent") == 0 && rows[0].count == 20);
    ck_assert(!rows[1].value && rows[1].count == 15);
    ck_assert(strcmp(rows[2].value, "also") == 0 && strcmp(rows[3].value, "rare") == 0);
    free(rows);
    tally_fini(&tally);
}
END_TEST

START_TEST(the_tallies_of_nodes_are_added) {
    struct tally one = {0}, other = {0};
    size_t n;
    tally_add(&one, "a", 1, "pump-1");
    tally_add(&one, NULL, 2, NULL);
    tally_add(&other, "a", 10, NULL);
    tally_add(&other, "b", 3, NULL);
    json_t *json = tally_to_json(&one);
    ck_assert_int_eq(tally_merge_json(&other, json), ERR_OK);
    json_decref(json);
    struct tally_row *rows = tally_rows(&other, &n);
    ck_assert_str_eq(rows[0].example, "pump-1");
    ck_assert(!rows[1].example && !rows[2].example);
    ck_assert(n == 3 && rows[0].count == 11 && rows[1].count == 3 && rows[2].count == 2);
    free(rows);
    tally_fini(&one);
    tally_fini(&other);
}
END_TEST

START_TEST(what_is_no_tally_is_refused) {
    struct tally tally = {0};
    json_t *wrong = json_pack("{s:[]}", "groups");
    ck_assert_int_eq(tally_merge_json(&tally, wrong), ERR_ARGUMENT);
    ck_assert_int_eq(tally_merge_json(&tally, NULL), ERR_ARGUMENT);
    json_decref(wrong);
    wrong = json_pack("{s:{s:i, s:s}}", "groups", "a", -5, "b", "x");
    ck_assert_int_eq(tally_merge_json(&tally, wrong), ERR_OK);
    size_t n;
    struct tally_row *rows = tally_rows(&tally, &n);
    ck_assert(n == 2 && rows[0].count == 0 && rows[1].count == 0);
    free(rows);
    json_decref(wrong);
    tally_fini(&tally);
}
END_TEST

START_TEST(groups_are_bounded_and_no_client_is_lost) {
    struct tally tally = {0};
    char value[16];
    for (int i = 0; i < TALLY_GROUPS_MAX + 7; i++) {
        snprintf(value, sizeof(value), "%d", i);
        tally_add(&tally, value, 1, NULL);
    }
    tally_add(&tally, "0", 1, NULL);
    size_t n;
    struct tally_row *rows = tally_rows(&tally, &n);
    ck_assert_uint_eq(n, TALLY_GROUPS_MAX);
    ck_assert(strcmp(rows[0].value, "0") == 0 && rows[0].count == 2);
    ck_assert_int_eq(tally.others, 7);
    free(rows);
    tally_fini(&tally);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("tally");
    tcase_add_test(cases, groups_are_counted_and_sorted);
    tcase_add_test(cases, the_tallies_of_nodes_are_added);
    tcase_add_test(cases, what_is_no_tally_is_refused);
    tcase_add_test(cases, groups_are_bounded_and_no_client_is_lost);
    return run_cases(cases, "tally");
}
