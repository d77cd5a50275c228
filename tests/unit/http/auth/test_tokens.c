/* The file of tokens, and the count of wrong ones. */
#include "http/auth/tokens.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "http/auth/auth_throttle.h"

static char path[] = "/tmp/mqfleet-tokens-XXXXXX";
static char fault[256];

static void setup(void) {
    strcpy(path, "/tmp/mqfleet-tokens-XXXXXX");
    close(mkstemp(path));
}

static void teardown(void) {
    unlink(path);
}

static void write_file(const char *text) {
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
}

START_TEST(finds_each_token_and_no_other) {
    char text[1024] = "# comment\n\n", hashed[TOKEN_HASHED_LEN];
    const char *const made[] = {"first-token-of-all", "second-token-of-all"};
    for (size_t i = 0; i < 2; i++) {
        token_hash_text(made[i], hashed);
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "  n%zu\t%s  %s \r\n", i,
                 i == 0 ? "viewer" : "admin", hashed);
    }
    write_file(text);
    struct tokens *tokens;
    ck_assert_msg(tokens_load(&tokens, path, fault) == ERR_OK, "%s", fault);
    ck_assert_uint_eq(tokens->count, 2);
    ck_assert_str_eq(tokens_find(tokens, made[0])->name, "n0");
    ck_assert_int_eq(tokens_find(tokens, made[0])->role, ROLE_VIEWER);
    ck_assert_int_eq(tokens_find(tokens, made[1])->role, ROLE_ADMIN);
    ck_assert_ptr_null(tokens_find(tokens, "first-token-of-al"));
    ck_assert_ptr_null(tokens_find(tokens, ""));
    ck_assert_ptr_null(tokens_find(tokens, hashed)); /* the hash is no token */
    free(tokens);
}
END_TEST

START_TEST(a_line_that_is_wrong_is_named_and_not_shown) {
    write_file("# fine\na viewer my-plain-token\n");
    struct tokens *tokens;
    ck_assert_int_eq(tokens_load(&tokens, path, fault), ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(fault, "line 2"));
    ck_assert_ptr_null(strstr(fault, "my-plain"));
    ck_assert_ptr_null(tokens);
}
END_TEST

START_TEST(a_fourth_word_is_a_scope_or_refused) {
    char text[512], hashed[TOKEN_HASHED_LEN];
    static const char *const wrong[] = {"scope=", "label.tenant=acme",
                                        "scope=label.tenant=acme more"};
    struct tokens *tokens;
    token_hash_text("first-token-of-all", hashed);
    snprintf(text, sizeof text, "a viewer %s scope=label.tenant=ac%%20me\n", hashed);
    write_file(text);
    ck_assert_msg(tokens_load(&tokens, path, fault) == ERR_OK, "%s", fault);
    ck_assert_str_eq(tokens_find(tokens, "first-token-of-all")->scope.value, "ac me");
    free(tokens);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(text, sizeof text, "a viewer %s %s\n", hashed, wrong[i]);
        write_file(text);
        ck_assert_int_eq(tokens_load(&tokens, path, fault), ERR_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(fault, "scope=label.NAME=VALUE"));
    }
}
END_TEST

START_TEST(a_file_that_others_write_or_that_is_none_is_refused) {
    struct tokens *tokens;
    write_file("x");
    chmod(path, 0660);
    ck_assert_int_eq(tokens_load(&tokens, path, fault), ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(fault, "writable"));
    ck_assert_int_eq(tokens_load(&tokens, "/dev/zero", fault), ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(fault, "regular file"));
    ck_assert_int_eq(tokens_load(&tokens, "/nowhere/at/all", fault), ERR_ARGUMENT);
}
END_TEST

START_TEST(a_new_token_is_long_and_never_the_same) {
    char one[TOKEN_CREATED_LEN], other[TOKEN_CREATED_LEN];
    ck_assert_int_eq(token_create(one), ERR_OK);
    ck_assert_int_eq(token_create(other), ERR_OK);
    ck_assert_uint_eq(strlen(one), TOKEN_CREATED_LEN - 1);
    ck_assert_str_ne(one, other);
    ck_assert_uint_eq(strspn(one, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-_"),
                      TOKEN_CREATED_LEN - 1);
}
END_TEST

static struct sockaddr_in6 v6(const char *text) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6};
    ck_assert_int_eq(inet_pton(AF_INET6, text, &address.sin6_addr), 1);
    return address;
}

static int64_t note(struct auth_throttle *throttle, const char *text) {
    struct sockaddr_in6 address = v6(text);
    return auth_throttle_record_failure(throttle, (const struct sockaddr *)&address);
}

START_TEST(an_address_has_so_many_attempts_in_a_window) {
    struct auth_throttle *throttle = auth_throttle_create();
    for (int i = 0; i < AUTH_THROTTLE_FAILURES_MAX; i++) {
        ck_assert_int_eq(note(throttle, i % 2 ? "2001:db8::1" : "2001:db8::ffff:1"), 0);
    }
    int64_t wait_ms = note(throttle, "2001:db8::2"); /* of the same network */
    ck_assert(wait_ms > 0 && wait_ms <= AUTH_THROTTLE_WINDOW_MS);
    ck_assert_int_eq(note(throttle, "2001:db8:0:1::1"), 0);
    clock_advance_ms(AUTH_THROTTLE_WINDOW_MS);
    ck_assert_int_eq(note(throttle, "2001:db8::1"), 0);
    auth_throttle_destroy(throttle);
}
END_TEST

START_TEST(many_addresses_do_not_grow_it) {
    struct auth_throttle *throttle = auth_throttle_create();
    for (uint32_t i = 1; i < 20 * AUTH_THROTTLE_ADDRESSES_MAX; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(i)};
        ck_assert_int_eq(auth_throttle_record_failure(throttle, (const struct sockaddr *)&address),
                         0);
    }
    auth_throttle_destroy(throttle);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tokens");
    TCase *tokens = tcase_create("all");
    tcase_add_checked_fixture(tokens, setup, teardown);
    tcase_add_test(tokens, finds_each_token_and_no_other);
    tcase_add_test(tokens, a_line_that_is_wrong_is_named_and_not_shown);
    tcase_add_test(tokens, a_fourth_word_is_a_scope_or_refused);
    tcase_add_test(tokens, a_file_that_others_write_or_that_is_none_is_refused);
    tcase_add_test(tokens, a_new_token_is_long_and_never_the_same);
    tcase_add_test(tokens, an_address_has_so_many_attempts_in_a_window);
    tcase_add_test(tokens, many_addresses_do_not_grow_it);
    suite_add_tcase(suite, tokens);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
