/* The grammar of a Redis address, from a table of good and bad ones. */
#include "net/redis_url.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "net/redis.h"

static const struct {
    const char *text, *host;
    int port, db;
    const char *user, *password;
} GOOD[] = {
    {"redis://h", "h", 6379, 0, NULL, NULL},
    {"redis://h/", "h", 6379, 0, NULL, NULL},
    {"redis://redis.local:7000/15", "redis.local", 7000, 15, NULL, NULL},
    {"redis://[::1]:7000", "::1", 7000, 0, NULL, NULL},
    {"redis://[::1]", "::1", 6379, 0, NULL, NULL},
    {"redis://:secret@h", "h", 6379, 0, NULL, "secret"},
    {"redis://u:a%40b%3Ac@h:1/2", "h", 1, 2, "u", "a@b:c"},
    {"redis://u:a@b@h", "h", 6379, 0, "u", "a@b"},
    {"redis://u:@h", "h", 6379, 0, "u", ""},
};

static const char *const BAD[] = {
    "",
    "h:6379",
    "http://h",
    "redis:h",
    "redis://",
    "redis://:7000",
    "redis://h:",
    "redis://h:0",
    "redis://h:65536",
    "redis://h:99999999999999999999",
    "redis://h:7x",
    "redis://h/x",
    "redis://h/-1",
    "redis://h/1/2",
    "redis://u@h",
    "redis://u:%4@h",
    "redis://u:%zz@h",
    "redis://u:a%00b@h",
    "redis://[::1",
    "redis://[::1]x",
    "redis://[]",
    "unix:",
};

static void check_text(const char *got, const char *want) {
    ck_assert_int_eq(got == NULL, want == NULL);
    if (want) {
        ck_assert_str_eq(got, want);
    }
}

START_TEST(good_addresses_are_taken_apart) {
    struct redis_url url;
    ck_assert_int_eq(redis_url_parse(GOOD[_i].text, &url, NULL), ERR_OK);
    check_text(url.host, GOOD[_i].host);
    ck_assert_int_eq(url.port, GOOD[_i].port);
    ck_assert_int_eq(url.db, GOOD[_i].db);
    check_text(url.user, GOOD[_i].user);
    check_text(url.password, GOOD[_i].password);
    redis_url_fini(&url);
}
END_TEST

START_TEST(bad_addresses_are_refused_with_a_reason) {
    char fault[REDIS_URL_FAULT_LEN] = "";
    ck_assert_int_eq(redis_url_check(BAD[_i], fault), ERR_ARGUMENT);
    ck_assert_str_ne(fault, "");
    ck_assert_ptr_null(redis_create(BAD[_i], 100));
}
END_TEST

START_TEST(tls_is_refused_as_unsupported) {
    char fault[REDIS_URL_FAULT_LEN] = "";
    ck_assert_int_eq(redis_url_check("rediss://u:secret@h", fault), ERR_UNSUPPORTED);
    ck_assert_ptr_null(strstr(fault, "secret"));
}
END_TEST

START_TEST(a_unix_socket_has_a_path_of_limited_length) {
    struct redis_url url;
    char text[200] = "unix:/";
    ck_assert_int_eq(redis_url_parse("unix:/run/redis.sock", &url, NULL), ERR_OK);
    ck_assert_str_eq(url.path, "/run/redis.sock");
    redis_url_fini(&url);
    memset(text + 6, 'a', 106);
    ck_assert_int_eq(redis_url_check(text, NULL), ERR_OK);
    strcat(text, "a");
    ck_assert_int_eq(redis_url_check(text, NULL), ERR_ARGUMENT);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis_url");
    TCase *tcase = tcase_create("redis_url");
    tcase_add_loop_test(tcase, good_addresses_are_taken_apart, 0, sizeof GOOD / sizeof GOOD[0]);
    tcase_add_loop_test(tcase, bad_addresses_are_refused_with_a_reason, 0,
                        sizeof BAD / sizeof BAD[0]);
    tcase_add_test(tcase, tls_is_refused_as_unsupported);
    tcase_add_test(tcase, a_unix_socket_has_a_path_of_limited_length);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
