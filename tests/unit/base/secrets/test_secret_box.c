/* Tests of base/secrets/secret_box and secret_source: keys, places, damage, permitted sources. */
#include "base/secrets/client_file.h"
#include "base/secrets/secret_box.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/secrets/secret_source.h"

#define K1 "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define K2 "k2:8PHy8/T19vf4+fr7/P3+//Dx8vP09fb3+Pn6+/z9/v8="

static struct secret_box *box;
static char folder[] = "/tmp/mqfleet-secret-XXXXXX";
static char path[128], fault[SECRET_BOX_FAULT_LEN];

static void write_file(const char *at, const char *text, size_t len) {
    FILE *file = fopen(at, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, len, file), len);
    fclose(file);
}

static enum err load(const char *text) {
    write_file(path, text, strlen(text));
    fault[0] = '\0';
    return secret_box_load(box, path, fault);
}

static void setup(void) {
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/keys", folder);
    box = secret_box_create();
    ck_assert_ptr_nonnull(box);
}

static void teardown(void) {
    secret_box_destroy(box);
    unlink(path);
    char command[160];
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static char *seal(const char *id, const char *place, const char *secret) {
    char *sealed;
    ck_assert_int_eq(secret_seal(box, id, place, secret, &sealed), ERR_OK);
    return sealed;
}

static enum err open_at(const char *id, const char *place, const char *sealed, const char *secret) {
    char *plain;
    bool newest;
    enum err err = secret_open(box, id, place, sealed, &plain, &newest, fault);
    ck_assert(err != ERR_OK || strcmp(plain, secret) == 0);
    free(plain);
    return err;
}

START_TEST(what_is_sealed_opens_in_its_place_only) {
    ck_assert_int_eq(load(K1 "\n"), ERR_OK);
    char *sealed = seal("c", "/password", "hunter2");
    ck_assert_ptr_nonnull(strstr(sealed, "enc:v1:k1:"));
    ck_assert_ptr_null(strstr(sealed, "hunter2"));
    ck_assert_int_eq(open_at("c", "/password", sealed, "hunter2"), ERR_OK);
    ck_assert_int_eq(open_at("d", "/password", sealed, "hunter2"), ERR_ARGUMENT);
    ck_assert_int_eq(open_at("c", "/tls/key", sealed, "hunter2"), ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(fault, "another client or field"));
    free(sealed);
}
END_TEST

START_TEST(equal_secrets_are_equal_text_only_in_the_same_place) {
    ck_assert_int_eq(load(K1 "\n"), ERR_OK);
    char *one = seal("c", "/password", "hunter2");
    char *again = seal("c", "/password", "hunter2");
    char *other = seal("d", "/password", "hunter2");
    char *longer = seal("c", "/password", "hunter22");
    ck_assert_str_eq(one, again);
    ck_assert_str_ne(one, other);
    ck_assert_int_ne(strncmp(one, longer, strlen("enc:v1:k1:") + 16), 0); /* another nonce */
    free(one);
    free(again);
    free(other);
    free(longer);
}
END_TEST

START_TEST(every_damaged_byte_is_noticed) {
    ck_assert_int_eq(load(K1 "\n"), ERR_OK);
    char *sealed = seal("c", "/password", "hunter2");
    for (size_t i = 0; i < strlen(sealed); i++) {
        char was = sealed[i];
        sealed[i] = was == 'A' ? 'B' : 'A';
        ck_assert_int_ne(open_at("c", "/password", sealed, "hunter2"), ERR_OK);
        sealed[i] = was;
    }
    for (size_t len = strlen(sealed); len-- > 0;) {
        sealed[len] = '\0';
        ck_assert_int_ne(open_at("c", "/password", sealed, "hunter2"), ERR_OK);
    }
    free(sealed);
}
END_TEST

START_TEST(the_first_key_encrypts_and_all_decrypt) {
    char *plain;
    bool newest;
    ck_assert_int_eq(load(K1), ERR_OK);
    char *old = seal("c", "/password", "x");
    ck_assert_int_eq(load("# rotation\n\n" K2 "\n " K1 " \n"), ERR_OK);
    ck_assert_uint_eq(secret_box_key_count(box), 2);
    ck_assert_int_eq(secret_open(box, "c", "/password", old, &plain, &newest, fault), ERR_OK);
    ck_assert(!newest);
    free(plain);
    char *fresh = seal("c", "/password", "x");
    ck_assert_ptr_nonnull(strstr(fresh, ":k2:"));
    ck_assert_int_eq(load(K2), ERR_OK);
    ck_assert_int_eq(open_at("c", "/password", old, "x"), ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(fault, "k1"));
    free(old);
    free(fresh);
}
END_TEST

START_TEST(without_a_key_nothing_is_sealed_or_opened) {
    char *sealed;
    ck_assert_int_eq(secret_seal(box, "c", "/p", "x", &sealed), ERR_UNSUPPORTED);
    ck_assert_int_eq(secret_seal(NULL, "c", "/p", "x", &sealed), ERR_UNSUPPORTED);
    ck_assert_int_eq(open_at("c", "/p", "enc:v1:k1:AAAA", "x"), ERR_ARGUMENT);
    ck_assert_int_eq(secret_box_load(box, "", fault), ERR_OK);
}
END_TEST

START_TEST(a_bad_key_file_is_named_without_its_keys_and_changes_nothing) {
    static const char *const bad[] = {"",         "# only this\n",
                                      "nonsense", ":AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                                      "k1:AAEC",  "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
                                      K1 "\n" K1, K1 "\nk/2:x"};
    ck_assert_int_eq(load(K1), ERR_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_int_eq(load(bad[i]), ERR_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(fault, path));
        ck_assert_ptr_null(strstr(fault, "AAEC"));
        ck_assert_uint_eq(secret_box_key_count(box), 1);
    }
    unlink(path);
    ck_assert_int_eq(secret_box_load(box, path, fault), ERR_ARGUMENT);
    ck_assert_int_eq(secret_box_load(box, "/dev/zero", fault), ERR_ARGUMENT);
}
END_TEST

START_TEST(a_new_key_can_be_loaded) {
    char *line = secret_new_key();
    ck_assert_int_eq(load(line), ERR_OK);
    free(line);
}
END_TEST

/* ---- sources --------------------------------------------------------------------------------- */

static struct conf conf;

static enum err read_source(const char *source, const char *wanted) {
    char *secret;
    enum err err = secret_source_read(&conf, source, &secret, fault);
    ck_assert(err != ERR_OK || strcmp(secret, wanted) == 0);
    free(secret);
    return err;
}

static void allow(const char *folders, const char *prefix, const char *key_file) {
    conf = (struct conf){.secrets_files_allow = (char *)folders,
                         .secrets_env_prefix = (char *)prefix,
                         .secrets_key_file = (char *)key_file};
    ck_assert(client_file_guard_own(&conf));
}

START_TEST(only_files_that_are_really_below_an_allowed_folder_are_read) {
    char inside[128], list[160], source[200], link_path[160];
    snprintf(inside, sizeof(inside), "%s/in", folder);
    snprintf(list, sizeof(list), "/nowhere,%s/", inside);
    ck_assert_int_eq(mkdir(inside, 0700), 0);
    allow(list, "", path);
    write_file(path, K1, strlen(K1));
    snprintf(source, sizeof(source), "file:%s/word", inside);
    ck_assert_int_eq(read_source(source, ""), ERR_NOT_FOUND);
    write_file(source + 5, "pass word\r\n", 11);
    ck_assert_int_eq(read_source(source, "pass word"), ERR_OK);
    write_file(source + 5, "a\n\n", 3);
    ck_assert_int_eq(read_source(source, "a\n"), ERR_OK);
    ck_assert_int_eq(chmod(source + 5, 0620),
                     0); /* others could change what is sent to the broker */
    ck_assert_int_eq(read_source(source, ""), ERR_NOT_FOUND);
    ck_assert_int_eq(chmod(source + 5, 0600), 0);
    write_file(source + 5, "a\0b", 3);
    ck_assert_int_eq(read_source(source, ""), ERR_NOT_FOUND);
    write_file(source + 5, "\n", 1);
    ck_assert_int_eq(read_source(source, ""), ERR_NOT_FOUND);
    write_file(source + 5, "ok", 2);
    snprintf(link_path, sizeof(link_path), "%s/link", inside);
    snprintf(source, sizeof(source), "file:%s", link_path);
    ck_assert_int_eq(symlink("word", link_path), 0);
    ck_assert_int_eq(read_source(source, "ok"), ERR_OK);
    unlink(link_path);
    ck_assert_int_eq(symlink("/etc/passwd", link_path), 0);
    ck_assert_int_eq(read_source(source, ""), ERR_NOT_FOUND);
    unlink(link_path);
    ck_assert_int_eq(link(path, link_path), 0); /* the node's keys under another name */
    ck_assert_int_eq(read_source(source, ""), ERR_NOT_FOUND);
    unlink(link_path);
    ck_assert_int_eq(mkfifo(link_path, 0600), 0);
    ck_assert_int_eq(read_source(source, ""), ERR_NOT_FOUND);
    ck_assert_int_eq(read_source("file:/etc/passwd", ""), ERR_REFUSED);
    snprintf(source, sizeof(source), "file:%s/../keys", inside);
    ck_assert_int_eq(read_source(source, ""), ERR_REFUSED);
    snprintf(source, sizeof(source), "file:%sside", inside);
    ck_assert_int_eq(read_source(source, ""), ERR_REFUSED);
}
END_TEST

START_TEST(only_variables_with_the_prefix_are_read) {
    setenv("BROKER_ONE", "x", 1);
    setenv("MQFLEET_REDIS_CONFIG_PASSWORD", "x", 1);
    allow("", "", "");
    ck_assert_int_eq(read_source("env:BROKER_ONE", ""), ERR_REFUSED);
    ck_assert_int_eq(read_source("file:/etc/passwd", ""), ERR_REFUSED);
    allow("", "BROKER_", "");
    ck_assert_int_eq(read_source("env:BROKER_ONE", "x"), ERR_OK);
    ck_assert_int_eq(read_source("env:BROKER_TWO", ""), ERR_NOT_FOUND);
    ck_assert_int_eq(read_source("env:HOME", ""), ERR_REFUSED);
    allow("", "M", "");
    ck_assert_int_eq(read_source("env:MQFLEET_REDIS_CONFIG_PASSWORD", ""), ERR_REFUSED);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {what_is_sealed_opens_in_its_place_only,
                                  equal_secrets_are_equal_text_only_in_the_same_place,
                                  every_damaged_byte_is_noticed,
                                  the_first_key_encrypts_and_all_decrypt,
                                  without_a_key_nothing_is_sealed_or_opened,
                                  a_bad_key_file_is_named_without_its_keys_and_changes_nothing,
                                  a_new_key_can_be_loaded,
                                  only_files_that_are_really_below_an_allowed_folder_are_read,
                                  only_variables_with_the_prefix_are_read};
    Suite *suite = suite_create("secret_box");
    TCase *tcase = tcase_create("secrets");
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
