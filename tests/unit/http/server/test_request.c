/* Tests of http/server/request and http/api/cursor: the target and headers of a request. */
#include "http/server/request.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "base/percent.h"
#include "http/api/cursor.h"
#include "http/http_check.h"

START_TEST(a_query_gives_its_values_by_name) {
    struct http_query query;
    ck_assert_int_eq(
        http_query_parse("state=online&label.a%20b=x%3Dy&&empty=&flag&state=paused", &query),
        ERR_OK);
    ck_assert_uint_eq(query.count, 5);
    ck_assert_str_eq(http_query_get(&query, "state"), "online");
    ck_assert_str_eq(http_query_get(&query, "label.a b"), "x=y");
    ck_assert_str_eq(http_query_get(&query, "empty"), "");
    ck_assert_str_eq(http_query_get(&query, "flag"), "");
    ck_assert_ptr_null(http_query_get(&query, "node"));
    http_query_fini(&query);
}
END_TEST

START_TEST(a_query_is_bounded_and_must_be_well_formed) {
    struct http_query query;
    char many[4 * (HTTP_QUERY_MAX + 1) + 1] = "";
    for (int i = 0; i <= HTTP_QUERY_MAX; i++) {
        strcat(many, "a=1&");
    }
    ck_assert_int_eq(http_query_parse(many, &query), ERR_ARGUMENT);
    ck_assert_int_eq(http_query_parse("a=1&b=%", &query), ERR_ARGUMENT);
    ck_assert_int_eq(http_query_parse("%FF=1", &query), ERR_ARGUMENT);
    ck_assert_int_eq(http_query_parse("", &query), ERR_OK);
    ck_assert_uint_eq(query.count, 0);
}
END_TEST

START_TEST(a_number_must_be_digits_within_its_bounds) {
    static const char *const wrong[] = {"",   "-1",  "+1",  "1.0",  "1e3",
                                        " 1", "abc", "101", "0x10", "99999999999999999999"};
    int64_t value = 0;
    ck_assert(http_int_parse("0", 0, 100, &value) && value == 0);
    ck_assert(http_int_parse("100", 0, 100, &value) && value == 100);
    ck_assert(http_int_parse("9223372036854775807", 0, INT64_MAX, &value) && value == INT64_MAX);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        ck_assert_msg(!http_int_parse(wrong[i], 0, 100, &value), "%s", wrong[i]);
    }
    struct http_query query;
    ck_assert_int_eq(http_query_parse("limit=7", &query), ERR_OK);
    ck_assert_int_eq(http_query_int(&query, "limit", 1, 10, 5, &value), ERR_OK);
    ck_assert_int_eq(value, 7);
    ck_assert_int_eq(http_query_int(&query, "other", 1, 10, 5, &value), ERR_OK);
    ck_assert_int_eq(value, 5);
    ck_assert_int_eq(http_query_int(&query, "limit", 1, 6, 5, &value), ERR_ARGUMENT);
    http_query_fini(&query);
}
END_TEST

START_TEST(an_etag_names_a_version) {
    static const struct {
        const char *text;
        int64_t version; /* -1: refused */
    } etags[] = {{"\"3\"", 3},
                 {"W/\"3\"", 3},
                 {"12", 12},
                 {"*", 0},
                 {"\"\"", -1},
                 {"\"0\"", -1},
                 {"\"x\"", -1},
                 {"", -1},
                 {"\"1\",\"2\"", -1},
                 {"\"-1\"", -1},
                 {"\"99999999999999999999999999\"", -1}};
    for (size_t i = 0; i < COUNT(etags); i++) {
        int64_t version;
        enum err err = http_etag_parse(etags[i].text, &version);
        ck_assert_msg((err == ERR_OK) == (etags[i].version >= 0), "%s", etags[i].text);
        ck_assert_msg(err != ERR_OK || version == etags[i].version, "%s", etags[i].text);
    }
}
END_TEST

START_TEST(a_cursor_comes_back_as_it_was) {
    static const struct http_cursor cursors[] = {{CURSOR_OWNED, 0, 0},
                                                 {CURSOR_OWNED, 12345, 0xFEDCBA9876543210U},
                                                 {CURSOR_WAITING, UINT64_MAX, UINT64_MAX}};
    for (size_t i = 0; i < COUNT(cursors); i++) {
        char text[HTTP_CURSOR_LEN];
        struct http_cursor back;
        http_cursor_format(&cursors[i], text);
        char *escaped = percent_encode(text);
        ck_assert_str_eq(escaped, text); /* safe in a URL as it is */
        free(escaped);
        ck_assert_int_eq(http_cursor_parse(text, &back), ERR_OK);
        ck_assert_int_eq(back.phase, cursors[i].phase);
        ck_assert(back.scan == cursors[i].scan && back.after == cursors[i].after);
    }
}
END_TEST

START_TEST(a_cursor_of_an_order_comes_back_as_it_was) {
    static const struct http_key_cursor cursors[] = {
        {0, 0, "pump-7"}, {7, -1, "a,b/c \xC3\xA4"}, {255, INT64_MIN, "x"}};
    for (size_t i = 0; i < COUNT(cursors); i++) {
        struct http_key_cursor back;
        char *text = http_key_cursor_format(&cursors[i]);
        char *escaped = percent_encode(text);
        ck_assert_str_eq(escaped, text); /* safe in a URL as it is */
        ck_assert_int_eq(http_key_cursor_parse(text, &back), ERR_OK);
        ck_assert(back.order == cursors[i].order && back.key == cursors[i].key);
        ck_assert_str_eq(back.id, cursors[i].id);
        free(back.id);
        free(escaped);
        free(text);
    }
}
END_TEST

START_TEST(what_is_no_cursor_of_an_order_is_refused) {
    static const char *const wrong[] = {"",        "k",       "k0",      "k0-0",      "k0-0-",
                                        "o-1-1",   "k0-0-6",  "k0-0-6g", "k100-0-61", "k0--61",
                                        "k0-0-ff", "K0-0-61", "k0-0-61-"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct http_key_cursor cursor;
        ck_assert_msg(http_key_cursor_parse(wrong[i], &cursor) == ERR_ARGUMENT, "%s", wrong[i]);
        ck_assert_ptr_null(cursor.id);
    }
}
END_TEST

START_TEST(what_is_no_cursor_is_refused) {
    static const char *const wrong[] = {"",
                                        "o",
                                        "o-",
                                        "o-1",
                                        "o-1-",
                                        "x-1-1",
                                        "o-1-1-1",
                                        "o-g-1",
                                        "o-1-1 ",
                                        "o--1",
                                        "O-1-1",
                                        "o-11111111111111111-1",
                                        "w-1-11111111111111111"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct http_cursor cursor;
        ck_assert_msg(http_cursor_parse(wrong[i], &cursor) == ERR_ARGUMENT, "%s", wrong[i]);
    }
}
END_TEST

START_TEST(the_hash_of_an_id_is_never_0_and_tells_ids_apart) {
    ck_assert(http_cursor_hash("") != 0);
    ck_assert(http_cursor_hash("a") != http_cursor_hash("b"));
    ck_assert(http_cursor_hash("a") == http_cursor_hash("a"));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("request");
    tcase_add_test(cases, a_query_gives_its_values_by_name);
    tcase_add_test(cases, a_query_is_bounded_and_must_be_well_formed);
    tcase_add_test(cases, a_number_must_be_digits_within_its_bounds);
    tcase_add_test(cases, an_etag_names_a_version);
    tcase_add_test(cases, a_cursor_comes_back_as_it_was);
    tcase_add_test(cases, a_cursor_of_an_order_comes_back_as_it_was);
    tcase_add_test(cases, what_is_no_cursor_of_an_order_is_refused);
    tcase_add_test(cases, what_is_no_cursor_is_refused);
    tcase_add_test(cases, the_hash_of_an_id_is_never_0_and_tells_ids_apart);
    return run_cases(cases, "request");
}
