/* Tests of the grammar of Redis addresses, from a table of valid and invalid ones. */
#include "net/redis/redis_url.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "net/redis/redis.h"

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
    "redis://h,",
    "redis://h,,g",
    "redis://1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
    "redis+sentinel://h",
    "redis+sentinel://h/",
    "redis+sentinel:///fleet",
    "redis+sentinel://h//1",
    "redis+sentinel://h/fleet/x",
    "redis+sentinel://h:0/fleet",
    "unix:",
};

static void check_text(const char *got, const char *want) {
    ck_assert_int_eq(!got, !want);
    if (want) {
        ck_assert_str_eq(got, want);
    }
}

START_TEST(good_addresses_are_taken_apart) {
    struct redis_url url;
    ck_assert_int_eq(redis_url_parse(GOOD[_i].text, &url, NULL), ERR_OK);
    check_text(url.addresses[0].host, GOOD[_i].host);
    ck_assert_int_eq(url.addresses[0].port, GOOD[_i].port);
    ck_assert_int_eq(url.db, GOOD[_i].db);
    check_text(url.user, GOOD[_i].user);
    check_text(url.password, GOOD[_i].password);
    redis_url_fini(&url);
}
END_TEST

START_TEST(several_nodes_of_a_cluster_may_be_named) {
    struct redis_url url;
    ck_assert_int_eq(redis_url_parse("redis://u:p@a:1,[::1]:2,c", &url, NULL), ERR_OK);
    ck_assert_uint_eq(url.address_count, 3);
    ck_assert_str_eq(url.addresses[1].host, "::1");
    ck_assert_int_eq(url.addresses[1].port, 2);
    ck_assert_str_eq(url.addresses[2].host, "c");
    ck_assert_int_eq(url.addresses[2].port, 6379);
    check_text(url.user, "u");
    check_text(url.master, NULL);
    redis_url_fini(&url);
}
END_TEST

START_TEST(sentinels_come_with_the_name_of_the_master) {
    struct redis_url url;
    ck_assert_int_eq(redis_url_parse("redis+sentinel://u:p%2F@a:1,b/my.fleet-1/7", &url, NULL),
                     ERR_OK);
    ck_assert_uint_eq(url.address_count, 2);
    ck_assert_str_eq(url.addresses[1].host, "b");
    ck_assert_int_eq(url.addresses[1].port, 26379);
    check_text(url.master, "my.fleet-1");
    check_text(url.password, "p/");
    ck_assert_int_eq(url.db, 7);
    redis_url_fini(&url);
    ck_assert_int_eq(redis_url_parse("redis+sentinel://a/fleet", &url, NULL), ERR_OK);
    ck_assert_int_eq(url.db, 0);
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
    tcase_add_test(tcase, several_nodes_of_a_cluster_may_be_named);
    tcase_add_test(tcase, sentinels_come_with_the_name_of_the_master);
    tcase_add_test(tcase, a_unix_socket_has_a_path_of_limited_length);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
