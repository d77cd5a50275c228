/* Tests of mqtt/config/address_policy: rows of lists, queries and results. */
#include "mqtt/config/address_policy.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct row {
    const char *allow, *deny;
    bool deny_local;
    const char *host;
    const char *address; /* from DNS; NULL: only the host is checked */
    bool allowed;
};

static const struct row ROWS[] = {
    /* nothing set */
    {"", "", false, "broker.example.org", NULL, true},
    {"", "", false, "127.0.0.1", NULL, true},
    {"", "", false, "broker.example.org", "127.0.0.1", true},
    /* deny: names */
    {"", "*.example.org", false, "a.example.org", NULL, false},
    {"", "*.example.org", false, "A.EXAMPLE.ORG", NULL, false},
    {"", "*.example.org", false, "a.example.org.", NULL, false},
    {"", "*.example.org.", false, "a.example.org", NULL, false},
    {"", "*.Example.Org", false, "a.example.org", "192.0.2.1", false},
    {"", "*.example.org", false, "example.org", NULL, true},
    {"", "localhost", false, "localhost.", NULL, false},
    /* deny: networks */
    {"", "10.0.0.0/8", false, "10.255.0.1", NULL, false},
    {"", "10.0.0.0/8", false, "11.0.0.1", NULL, true},
    {"", "10.1.2.3/8", false, "10.200.0.1", NULL, false},
    {"", "10.0.0.0/9", false, "10.128.0.1", NULL, true},
    {"", "10.0.0.0/9", false, "10.127.0.1", NULL, false},
    {"", "10.0.0.0/8", false, "::ffff:10.0.0.1", NULL, false},
    {"", "10.0.0.0/8", false, "::ffff:a00:1", NULL, false},
    {"", "10.0.0.0/8", false, "[::ffff:10.0.0.1]", NULL, false},
    {"", "10.0.0.0/8", false, "x.example.org", "10.9.9.9", false},
    {"", "10.0.0.0/8", false, "x.example.org", "::ffff:10.9.9.9", false},
    {"", "10.0.0.0/8", false, "x.example.org", NULL, true},
    {"", "::ffff:10.0.0.0/104", false, "10.0.0.1", NULL, false},
    {"", "fd00::/8", false, "fd12::1", NULL, false},
    {"", "fd00::/8", false, "fc12::1", NULL, true},
    {"", "[2001:db8::1]", false, "2001:db8::1", NULL, false},
    {"", "2001:db8::1", false, "2001:db8::2", NULL, true},
    {"", "0.0.0.0/0", false, "192.0.2.1", NULL, false},
    {"", "0.0.0.0/0", false, "2001:db8::1", NULL, true},
    {"", "::/0", false, "2001:db8::1", NULL, false},
    {"", "::/0", false, "192.0.2.1", NULL, true},
    {"", " a.org ,, b.org ", false, "b.org", NULL, false},
    /* other spellings are names; the address they resolve to is checked */
    {"", "127.0.0.0/8", false, "127.1", NULL, true},
    {"", "127.0.0.0/8", false, "127.1", "127.0.0.1", false},
    {"", "127.0.0.0/8", false, "0x7f000001", "127.0.0.1", false},
    {"", "127.0.0.0/8", false, "2130706433", "127.0.0.1", false},
    {"", "", true, "127.1", "127.0.0.1", false},
    {"", "", true, "0177.0.0.1", "127.0.0.1", false},
    /* IPv6 addresses that embed an IPv4 address */
    {"", "", true, "64:ff9b::a9fe:a9fe", NULL, false},
    {"", "", true, "a.example.org", "64:ff9b::a9fe:a9fe", false},
    {"", "", true, "64:ff9b:1::7f00:1", NULL, false},
    {"", "", true, "2002:7f00:1::", NULL, false},
    {"", "", true, "::127.0.0.1", NULL, false},
    {"", "", true, "64:ff9b::c000:201", NULL, true}, /* 192.0.2.1 */
    {"", "", false, "64:ff9b::7f00:1", NULL, true},
    {"", "192.0.2.0/24", false, "64:ff9b::c000:201", NULL, false},
    {"", "192.0.2.0/24", false, "2002:c000:201::1", NULL, false},
    {"", "0.0.0.0/0", false, "::1", NULL, true},
    {"64:ff9b::/96", "", true, "64:ff9b::7f00:1", NULL, true},
    /* configured lists do not permit local addresses */
    {"", "10.0.0.0/8", true, "127.0.0.1", NULL, false},
    {"", "10.0.0.0/8", true, "169.254.169.254", NULL, false},
    /* allow */
    {"*.example.org", "", false, "a.example.org", NULL, true},
    {"*.example.org", "", false, "a.example.org", "192.0.2.1", true},
    {"*.example.org", "", false, "a.example.com", NULL, false},
    {"*.example.org", "", false, "192.0.2.1", NULL, false},
    {"192.0.2.0/24", "", false, "a.example.org", NULL, true}, /* DNS decides */
    {"192.0.2.0/24", "", false, "a.example.org", "192.0.2.7", true},
    {"192.0.2.0/24", "", false, "a.example.org", "198.51.100.1", false},
    {"192.0.2.0/24", "", false, "198.51.100.1", NULL, false},
    {"*", "", false, "198.51.100.1", NULL, true},
    {"*", "", false, "a.example.org", "198.51.100.1", true},
    /* deny has precedence over allow */
    {"*.example.org", "b.example.org", false, "b.example.org", NULL, false},
    {"a.example.org", "10.0.0.0/8", false, "a.example.org", "10.0.0.1", false},
    /* local addresses */
    {"", "", true, "127.0.0.1", NULL, false},
    {"", "", true, "127.255.255.254", NULL, false},
    {"", "", true, "169.254.169.254", NULL, false},
    {"", "", true, "0.0.0.0", NULL, false},
    {"", "", true, "224.0.0.1", NULL, false},
    {"", "", true, "239.255.255.255", NULL, false},
    {"", "", true, "255.255.255.255", NULL, false},
    {"", "", true, "::1", NULL, false},
    {"", "", true, "0:0:0:0:0:0:0:1", NULL, false},
    {"", "", true, "::", NULL, false},
    {"", "", true, "fe80::1", NULL, false},
    {"", "", true, "febf::1", NULL, false},
    {"", "", true, "ff02::1", NULL, false},
    {"", "", true, "fd00:ec2::254", NULL, false},
    {"", "", true, "::ffff:127.0.0.1", NULL, false},
    {"", "", true, "::ffff:169.254.169.254", NULL, false},
    {"", "", true, "localhost", NULL, false},
    {"", "", true, "LocalHost.", NULL, false},
    {"", "", true, "a.localhost", NULL, false},
    {"", "", true, "10.0.0.1", NULL, true},
    {"", "", true, "fec0::1", NULL, true},
    {"", "", true, "128.0.0.1", NULL, true},
    {"", "", true, "a.example.org", NULL, true},
    {"", "", true, "a.example.org", "169.254.169.254", false},
    {"", "", true, "a.example.org", "::ffff:127.0.0.1", false},
    {"", "", true, "a.example.org", "192.0.2.1", true},
    /* unless allow names them; a pattern with a star names nothing */
    {"127.0.0.0/8", "", true, "127.0.0.1", NULL, true},
    {"127.0.0.0/8", "", true, "169.254.169.254", NULL, false},
    {"127.0.0.1, *", "", true, "a.example.org", "127.0.0.1", true},
    {"localhost", "", true, "localhost", NULL, true},
    {"localhost", "", true, "localhost", "127.0.0.1", true},
    {"127.0.0.0/8", "", true, "localhost", NULL, true}, /* DNS decides */
    {"127.0.0.0/8", "", true, "localhost", "::1", false},
    {"*", "", true, "127.0.0.1", NULL, false},
    {"*.example.org", "", true, "a.example.org", "127.0.0.1", false},
    {"a.example.org", "", true, "a.example.org", "127.0.0.1", true},
    /* no host at all */
    {"", "", false, "", NULL, false},
    {"", "", false, ".", NULL, false},
};

static bool ask(const struct address_policy *policy, const struct row *row, const char **why) {
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (!row->address) {
        return address_policy_host(policy, row->host, why);
    }
    if (inet_pton(AF_INET, row->address, &v4.sin_addr) == 1) {
        return address_policy_address(policy, row->host, (struct sockaddr *)&v4, why);
    }
    ck_assert_int_eq(inet_pton(AF_INET6, row->address, &v6.sin6_addr), 1);
    return address_policy_address(policy, row->host, (struct sockaddr *)&v6, why);
}

START_TEST(policy_answers_by_lists_and_kind_of_address) {
    for (size_t i = 0; i < COUNT(ROWS); i++) {
        const struct row *row = &ROWS[i];
        struct address_policy *policy;
        const char *why = NULL;
        ck_assert_int_eq(address_policy_create(&policy, row->allow, row->deny,
                                               row->deny_local ? "0.0.0.0" : "127.0.0.1"),
                         ERR_OK);
        bool allowed = ask(policy, row, &why);
        ck_assert_msg(allowed == row->allowed, "allow=%s deny=%s local=%d host=%s address=%s",
                      row->allow, row->deny, row->deny_local, row->host, row->address);
        ck_assert_msg((why != NULL) == !allowed, "host=%s: a refusal says why", row->host);
        ck_assert(ask(policy, row, NULL) == row->allowed);
        address_policy_destroy(policy);
    }
}
END_TEST

START_TEST(policy_names_the_setting_that_denies) {
    struct address_policy *policy;
    const char *why = NULL;
    ck_assert_int_eq(address_policy_create(&policy, "a.org", "b.org", "0.0.0.0"), ERR_OK);
    ck_assert(!address_policy_host(policy, "b.org", &why));
    ck_assert_ptr_nonnull(strstr(why, "broker_deny"));
    ck_assert(!address_policy_host(policy, "c.org", &why));
    ck_assert_ptr_nonnull(strstr(why, "broker_allow"));
    address_policy_destroy(policy);
}
END_TEST

START_TEST(policy_refuses_addresses_that_are_not_ip) {
    struct address_policy *policy;
    const struct sockaddr address = {.sa_family = AF_UNIX};
    ck_assert_int_eq(address_policy_create(&policy, "", "", "127.0.0.1"), ERR_OK);
    ck_assert(!address_policy_address(policy, "a.org", &address, NULL));
    address_policy_destroy(policy);
}
END_TEST

START_TEST(policy_refuses_entries_that_are_neither_pattern_nor_network) {
    static const char *const wrong[] = {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x",
                                        "::/129",      "10.0.0/8",  "10.*",        "127.1",
                                        "a.org/8",     "a b/c",     "tcp://a.org", "a:1883",
                                        "[::1",        "a.org;",    "300.0.0.1",   "a.org, 10.*"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct address_policy *policy;
        ck_assert_msg(address_policy_create(&policy, "", wrong[i], "127.0.0.1") == ERR_ARGUMENT,
                      "%s", wrong[i]);
        ck_assert_ptr_null(policy);
        ck_assert_int_eq(address_policy_create(&policy, wrong[i], "", "127.0.0.1"), ERR_ARGUMENT);
    }
    address_policy_destroy(NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("address_policy");
    TCase *tcase = tcase_create("address_policy");
    tcase_add_test(tcase, policy_answers_by_lists_and_kind_of_address);
    tcase_add_test(tcase, policy_names_the_setting_that_denies);
    tcase_add_test(tcase, policy_refuses_addresses_that_are_not_ip);
    tcase_add_test(tcase, policy_refuses_entries_that_are_neither_pattern_nor_network);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
