/* Tests of net/redis/redis_info: parsing and warnings. */
#include "net/redis/redis_info.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "redis_fixture.h"

static const char INFO[] = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\n"
                           "valkey_version:8.1.8\r\n\r\n# Memory\r\nused_memory:1048576\r\n"
                           "used_memory_human:1.00M\r\nmaxmemory:2097152\r\n"
                           "maxmemory_human:2.00M\r\nmaxmemory_policy:noeviction\r\n"
                           "# Persistence\r\nrdb_last_bgsave_status:ok\r\naof_enabled:1\r\n"
                           "aof_last_write_status:ok\r\n# Replication\r\nrole:master\r\n"
                           "connected_slaves:2\r\n";

START_TEST(what_a_server_says_is_read) {
    struct redis_info info;
    redis_info_parse(INFO, &info);
    ck_assert_str_eq(info.server, "valkey");
    ck_assert_str_eq(info.version, "8.1.8");
    ck_assert_str_eq(info.role, "master");
    ck_assert_str_eq(info.policy, "noeviction");
    ck_assert_int_eq(info.used_bytes, 1048576);
    ck_assert_int_eq(info.max_bytes, 2097152);
    ck_assert_int_eq(info.replicas, 2);
    ck_assert(info.append_only && !info.save_failed);
}
END_TEST

START_TEST(rubbish_is_no_fact) {
    static const char *const TEXTS[] = {
        "", ":", "\r\n\r\n", "used_memory", "maxmemory:\n", "role:\xff\n"};
    struct redis_info info;
    redis_info_parse(TEXTS[_i], &info);
    ck_assert_int_eq(info.used_bytes, 0);
    ck_assert_str_eq(info.version, "");
}
END_TEST

static const char *warned(struct redis_info info, enum redis_warning warning) {
    static char text[REDIS_WARNING_LEN];
    return redis_info_warn(&info, warning, text) ? text : "";
}

static struct redis_info with_policy(const char *policy) {
    struct redis_info info = {0};
    snprintf(info.policy, sizeof info.policy, "%s", policy);
    return info;
}

START_TEST(case_F9_what_deletes_keys_is_warned_of) {
    ck_assert(
        strstr(warned(with_policy("allkeys-lru"), REDIS_WARNING_EVICTION), "deletes clients"));
    ck_assert(
        strstr(warned(with_policy("volatile-ttl"), REDIS_WARNING_EVICTION), "deletes heartbeats"));
    ck_assert_str_eq(warned(with_policy("noeviction"), REDIS_WARNING_EVICTION), "");
    ck_assert_str_eq(warned(with_policy(""), REDIS_WARNING_EVICTION), "");
}
END_TEST

START_TEST(memory_that_runs_out_and_saves_that_fail_are_warned_of) {
    struct redis_info info = {.used_bytes = 89 * 1048576LL, .max_bytes = 100 * 1048576LL};
    ck_assert_str_eq(warned(info, REDIS_WARNING_NEARLY_FULL), "");
    info.used_bytes = 91 * 1048576LL;
    ck_assert_str_eq(warned(info, REDIS_WARNING_NEARLY_FULL), "nearly full: 91.0 of 100.0 MB used");
    info.used_bytes = info.max_bytes;
    ck_assert(strstr(warned(info, REDIS_WARNING_NEARLY_FULL), "out of memory"));
    info.max_bytes = 0;
    ck_assert_str_eq(warned(info, REDIS_WARNING_NEARLY_FULL), "");
    redis_info_parse("aof_last_write_status:err\r\n", &info);
    ck_assert_str_ne(warned(info, REDIS_WARNING_SAVE_FAILED), "");
}
END_TEST

START_TEST(a_real_server_is_asked_and_one_that_refuses_keeps_the_connection) {
    struct redis *redis = redis_create(redis_fixture_start(), 5000);
    struct redis_info info;
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_info_fetch(redis, NULL, &info), ERR_OK);
    ck_assert_str_ne(info.version, "");
    ck_assert_str_eq(info.role, "master");
    ck_assert(info.append_only);
    ck_assert_int_gt(info.used_bytes, 100000);
    const char *less[] = {"ACL", "SETUSER", "default", "-info"};
    ck_assert_int_eq(redis_command(redis, 4, less, NULL, &reply), ERR_OK);
    redis_reply_free(reply);
    int fd = redis_fd(redis);
    ck_assert_int_eq(redis_info_fetch(redis, NULL, &info), ERR_REFUSED);
    ck_assert(strstr(redis_error(redis), "not permitted"));
    ck_assert_int_eq(redis_fd(redis), fd);
    redis_destroy(redis);
    redis_fixture_stop();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis_info");
    TCase *tcase = tcase_create("redis_facts");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, what_a_server_says_is_read);
    tcase_add_loop_test(tcase, rubbish_is_no_fact, 0, 6);
    tcase_add_test(tcase, case_F9_what_deletes_keys_is_warned_of);
    tcase_add_test(tcase, memory_that_runs_out_and_saves_that_fail_are_warned_of);
    tcase_add_test(tcase, a_real_server_is_asked_and_one_that_refuses_keeps_the_connection);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
