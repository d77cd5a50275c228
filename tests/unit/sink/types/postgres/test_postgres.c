/* Tests of the type postgres without a server: addresses and the parameters of connections.
 * tests/e2e/sinks/test_postgres.py has the rest. */
#include "sink/type_fixture.h"

#include <netinet/in.h>
#include "base/system/clock.h"
#include "sink/types/postgres/postgres_target.h"

#define WAIT_MS 10000

extern const struct sink_type sink_type_postgres;

static struct postgres_target target;
static char fault[SINK_FAULT_LEN];

static bool deny_last_octet_1(const void *context, const char *host, const struct sockaddr *address,
                              const char **why) {
    const struct sockaddr_in *ip = (const struct sockaddr_in *)(const void *)address;
    (void)context;
    ck_assert_int_eq(strncmp(host, "127.0.0.", 8), 0);
    *why = "denied by a test";
    return (ntohl(ip->sin_addr.s_addr) & 255) != 1;
}

static void setup(void) {
    type_environment.address_allowed = NULL;
    *fault = '\0';
}

/* Takes a target with that url. */
static enum err target_of(const char *url) {
    type_settings = type_complete(&sink_type_postgres, "{s:s, s:s}", "url", url, "table", "t");
    ck_assert_msg(type_settings != NULL, "%s", type_fault);
    return postgres_target_init(&target, type_settings, &type_environment, fault);
}

static void end_target(void) {
    postgres_target_fini(&target);
    json_decref(type_settings);
}

static enum err resolve(void) {
    return postgres_target_resolve(&target, clock_ms() + WAIT_MS, NULL, fault);
}

static const char *value_of(const char *keyword) {
    for (size_t i = 0; i < target.count; i++) {
        if (strcmp(target.keywords[i], keyword) == 0) {
            return target.values[i];
        }
    }
    return "";
}

START_TEST(each_address_has_its_host_and_port) {
    ck_assert_int_eq(target_of("postgresql://u@127.0.0.1:1,127.0.0.2,[::1]:3/d"), ERR_OK);
    ck_assert_int_eq(resolve(), ERR_OK);
    ck_assert_str_eq(value_of("host"), "127.0.0.1,127.0.0.2,::1");
    ck_assert_str_eq(value_of("hostaddr"), "127.0.0.1,127.0.0.2,::1");
    ck_assert_str_eq(value_of("port"), "1,5432,3");
    target.turn++;
    ck_assert_int_eq(resolve(), ERR_OK);
    ck_assert_str_eq(value_of("hostaddr"), "127.0.0.2,::1,127.0.0.1");
    ck_assert_str_eq(value_of("port"), "5432,3,1");
    end_target();
}
END_TEST

START_TEST(an_address_that_is_denied_is_not_connected_to) {
    type_environment.address_allowed = deny_last_octet_1;
    ck_assert_int_eq(target_of("postgresql://u@127.0.0.1,127.0.0.2:7/d"), ERR_OK);
    ck_assert_int_eq(resolve(), ERR_OK);
    ck_assert_str_eq(value_of("hostaddr"), "127.0.0.2");
    ck_assert_str_eq(value_of("port"), "7");
    end_target();
    ck_assert_int_eq(target_of("postgresql://u@127.0.0.1/d"), ERR_OK);
    ck_assert_int_eq(resolve(), ERR_REFUSED);
    ck_assert_str_eq(fault, "no address of 127.0.0.1 is allowed: denied by a test");
    end_target();
}
END_TEST

START_TEST(a_host_without_an_address_is_named) {
    ck_assert_int_eq(target_of("postgresql://u@no.such.host.invalid/d"), ERR_OK);
    ck_assert_int_eq(resolve(), ERR_NOT_FOUND);
    ck_assert_msg(strstr(fault, "no.such.host.invalid"), "%s", fault);
    end_target();
}
END_TEST

START_TEST(a_lookup_that_does_not_end_in_time_is_awaited_by_the_next_call) {
    ck_assert_int_eq(target_of("postgresql://u@127.0.0.1/d"), ERR_OK);
    enum err err = postgres_target_resolve(&target, clock_ms() - 1, NULL, fault);
    ck_assert(err == ERR_TIMEOUT || err == ERR_OK); /* the thread may have been faster */
    ck_assert_int_eq(resolve(), ERR_OK);
    ck_assert_ptr_null(target.lookup);
    err = postgres_target_resolve(&target, clock_ms() - 1, NULL, fault);
    ck_assert(err == ERR_TIMEOUT || err == ERR_OK);
    end_target(); /* with a lookup or without one */
}
END_TEST

START_TEST(connections_read_no_files) {
    ck_assert_int_eq(target_of("postgresql://u@127.0.0.1/d?connect_timeout=2"), ERR_OK);
    static const char *const files[] = {"passfile", "sslcert", "sslkey", "sslcrl", "sslrootcert"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        ck_assert_str_eq(value_of(files[i]), "/nonexistent");
    }
    ck_assert_str_eq(value_of("application_name"), "mqfleet node-1");
    ck_assert_int_eq(target.connect_timeout_ms, 2000);
    end_target();
}
END_TEST

int main(void) {
    TCase *tcase = tcase_create("postgres");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, each_address_has_its_host_and_port);
    tcase_add_test(tcase, an_address_that_is_denied_is_not_connected_to);
    tcase_add_test(tcase, a_host_without_an_address_is_named);
    tcase_add_test(tcase, a_lookup_that_does_not_end_in_time_is_awaited_by_the_next_call);
    tcase_add_test(tcase, connections_read_no_files);
    Suite *suite = suite_create("postgres");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
