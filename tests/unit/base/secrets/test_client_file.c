/* Tests of base/secrets/client_file: the files that clients may name; other files are not revealed
 * (case F11). */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/secrets/client_file.h"

#define PATH_LEN 200

static char folder[64], allowed[PATH_LEN];
static struct conf conf;

static const char *at(const char *name) {
    static char paths[8][PATH_LEN];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, PATH_LEN, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void setup(void) {
    snprintf(folder, sizeof folder, "/tmp/mqfleet-files-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(allowed, sizeof allowed, "/nowhere,%s/in/", folder);
    conf = (struct conf){.secrets_files_allow = allowed};
    ck_assert_int_eq(mkdir(at("in"), 0700), 0);
    ck_assert_int_eq(mkdir(at("out"), 0700), 0);
    write_file(at("in/ca"), "inside");
    write_file(at("out/ca"), "outside");
}

static void teardown(void) {
    char command[PATH_LEN];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

/* The reason for a rejection; NULL: it contains that text. */
static const char *why_not(enum client_file_kind kind, const char *path, const char *text) {
    struct stat status;
    const char *why = NULL;
    char got[32] = "";
    int fd = client_file_open(&conf, kind, path, &status, &why);
    if (fd < 0) {
        ck_assert_ptr_nonnull(why);
        return why;
    }
    ck_assert_int_eq(read(fd, got, sizeof got - 1), (ssize_t)strlen(text));
    ck_assert_str_eq(got, text);
    close(fd);
    return NULL;
}

START_TEST(a_file_below_a_folder_is_read_through_links_that_stay_there) {
    ck_assert_int_eq(symlink("ca", at("in/link")), 0);
    ck_assert_int_eq(symlink(at("in"), at("in/whole")), 0);
    ck_assert_ptr_null(why_not(CLIENT_FILE_PRIVATE, at("in/ca"), "inside"));
    ck_assert_ptr_null(why_not(CLIENT_FILE_PRIVATE, at("in/link"), "inside"));
    ck_assert_ptr_null(why_not(CLIENT_FILE_PRIVATE, at("in/whole/ca"), "inside"));
    ck_assert_int_eq(symlink("in", at("alias")), 0);
    conf.secrets_files_allow = (char *)at("alias");
    ck_assert_ptr_null(why_not(CLIENT_FILE_PRIVATE, at("alias/ca"), "inside"));
}
END_TEST

START_TEST(any_other_path_gets_one_answer_whatever_is_there_F11) {
    static const char *const paths[] = {
        "/etc/shadow",     "/etc/passwd",          "/etc",  "/nosuch",
        "/dev/zero",       "/dev/nosuch",          "in/ca", "/proc/self/environ",
        "/proc/self/fd/0", "/proc/self/cwd/in/ca", "",      "/",
        "/../etc/passwd",
    };
    const char *answer = client_file_refusal(&conf, CLIENT_FILE_PRIVATE, "/etc/shadow");
    ck_assert_ptr_nonnull(strstr(answer, "secrets.files_allow"));
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        ck_assert_str_eq(why_not(CLIENT_FILE_PRIVATE, paths[i], ""), answer);
        ck_assert_str_eq(why_not(CLIENT_FILE_AUTHORITY, paths[i], ""), answer);
    }
    static const char *const beside[] = {"in",           "inside", "out/ca",
                                         "in/../out/ca", "in/..",  "in/../out/nosuch"};
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        ck_assert_str_eq(why_not(CLIENT_FILE_PRIVATE, at(beside[i]), ""), answer);
    }
}
END_TEST

START_TEST(links_that_lead_out_tell_nothing_of_what_they_lead_to_F11) {
    const char *answer = why_not(CLIENT_FILE_PRIVATE, at("in/nosuch"), "");
    ck_assert_int_eq(symlink(at("out"), at("in/away")), 0);
    ck_assert_int_eq(symlink("../out/ca", at("in/one")), 0);
    ck_assert_int_eq(symlink("/dev/zero", at("in/zero")), 0);
    ck_assert_int_eq(symlink("/proc/self", at("in/proc")), 0);
    ck_assert_int_eq(symlink("loop", at("in/loop")), 0);
    static const char *const names[] = {"in/away/ca",     "in/away/nosuch", "in/away",
                                        "in/one",         "in/zero",        "in/proc/environ",
                                        "in/proc/nosuch", "in/loop",        "in/ca/below"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ck_assert_str_eq(why_not(CLIENT_FILE_PRIVATE, at(names[i]), ""), answer);
    }
    ck_assert_int_eq(link(at("out/ca"), at("in/own")), 0); /* under another name */
    ck_assert_ptr_null(why_not(CLIENT_FILE_PRIVATE, at("in/own"), "outside"));
    ck_assert(client_file_guard(at("out/ca")));
    ck_assert_str_eq(why_not(CLIENT_FILE_PRIVATE, at("in/own"), ""), answer);
}
END_TEST

START_TEST(what_is_no_regular_file_is_neither_waited_for_nor_touched_F11) {
    struct stat before, after;
    ck_assert_int_eq(mkfifo(at("in/pipe"), 0600), 0);
    ck_assert_int_eq(mkdir(at("in/below"), 0700), 0);
    int writer = open(at("in/pipe"), O_RDWR | O_NONBLOCK);
    ck_assert_int_eq(write(writer, "x", 1), 1);
    ck_assert_int_eq(stat(at("in/pipe"), &before), 0);
    ck_assert_ptr_nonnull(strstr(why_not(CLIENT_FILE_PRIVATE, at("in/pipe"), ""), "not a regular"));
    ck_assert_ptr_nonnull(
        strstr(why_not(CLIENT_FILE_PRIVATE, at("in/below"), ""), "not a regular"));
    ck_assert_int_eq(stat(at("in/pipe"), &after), 0);
    ck_assert_int_eq(before.st_atim.tv_nsec, after.st_atim.tv_nsec);
    close(writer);
}
END_TEST

START_TEST(a_file_that_is_swapped_after_it_was_found_is_still_the_one_that_was_judged_F11) {
    struct stat status;
    const char *why;
    char link[CLIENT_FILE_LINK_LEN], got[16] = "";
    int fd = client_file_find(&conf, CLIENT_FILE_PRIVATE, at("in/ca"), &status, &why);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(unlink(at("in/ca")), 0);
    ck_assert_int_eq(symlink(at("out/ca"), at("in/ca")), 0);
    client_file_link(fd, link);
    int opened = open(link, O_RDONLY);
    ck_assert_int_eq(read(opened, got, sizeof got - 1), 6);
    ck_assert_str_eq(got, "inside");
    close(opened);
    close(fd);
}
END_TEST

START_TEST(the_authorities_of_the_system_may_be_named_without_a_setting) {
    static const char bundle[] = "/etc/ssl/certs/ca-certificates.crt";
    conf = (struct conf){.secrets_files_allow = (char *)""};
    ck_assert_ptr_null(client_file_refusal(&conf, CLIENT_FILE_AUTHORITY, bundle));
    ck_assert_str_eq(client_file_refusal(&conf, CLIENT_FILE_PRIVATE, bundle),
                     "this node's secrets.files_allow is empty");
    ck_assert_ptr_nonnull(client_file_refusal(&conf, CLIENT_FILE_AUTHORITY, "/etc/ssl/private/k"));
}
END_TEST

int main(void) {
    const TTest *const tests[] = {
        a_file_below_a_folder_is_read_through_links_that_stay_there,
        any_other_path_gets_one_answer_whatever_is_there_F11,
        links_that_lead_out_tell_nothing_of_what_they_lead_to_F11,
        what_is_no_regular_file_is_neither_waited_for_nor_touched_F11,
        a_file_that_is_swapped_after_it_was_found_is_still_the_one_that_was_judged_F11,
        the_authorities_of_the_system_may_be_named_without_a_setting,
    };
    Suite *suite = suite_create("client_file");
    TCase *tcase = tcase_create("client_file");
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
