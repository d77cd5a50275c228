/* Tests of the file sink: lines, log rotation, a full disk. */
#include "sink/type_fixture.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <jansson.h>

static char folder[64];
static char path[96];

extern const struct sink_type sink_type_file;

static void setup(void) {
    strcpy(folder, "/tmp/mqfleet-file-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/messages.ndjson", folder);
    type_open(&sink_type_file, type_complete(&sink_type_file, "{s:s}", "path", path));
}

static void teardown(void) {
    char command[96];
    type_close(&sink_type_file);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static struct message *message_with(const void *payload, size_t len, uint8_t qos) {
    struct message from = {.id = "id 1",
                           .client_id = "client 1",
                           .topic = "a/b",
                           .payload = payload,
                           .payload_len = len,
                           .received_at_ms = 1700000000123,
                           .qos = qos};
    return message_create(&from);
}

static enum err write_one(struct message *message, size_t *written) {
    enum err err = type_write(&sink_type_file, &message, 1, written);
    message_destroy(message);
    return err;
}

/* All lines of a file as a JSON array. */
static json_t *read_lines(const char *name) {
    json_t *lines = json_array();
    char *line = NULL;
    size_t capacity = 0;
    FILE *file = fopen(name, "re");
    ck_assert_ptr_nonnull(file);
    while (getline(&line, &capacity, file) > 0) {
        json_t *object = json_loads(line, JSON_ALLOW_NUL, NULL);
        ck_assert_msg(object != NULL, "no JSON: %s", line);
        json_array_append_new(lines, object);
    }
    free(line);
    fclose(file);
    return lines;
}

static void check_line(const char *expected) {
    json_t *lines = read_lines(path);
    json_t *want = json_loads(expected, JSON_ALLOW_NUL, NULL);
    ck_assert_ptr_nonnull(want);
    ck_assert_uint_eq(json_array_size(lines), 1);
    char *got = json_dumps(json_array_get(lines, 0), JSON_SORT_KEYS);
    ck_assert_msg(json_equal(json_array_get(lines, 0), want), "got %s", got);
    free(got);
    json_decref(want);
    json_decref(lines);
}

START_TEST(a_text_payload_is_text) {
    struct stat status;
    size_t written = 0;
    ck_assert_int_eq(write_one(message_with("gr\xc3\xbc\xc3\x9f\0\n", 8, 1), &written), ERR_OK);
    ck_assert_uint_eq(written, 1);
    check_line("{\"id\":\"id 1\",\"client_id\":\"client 1\",\"topic\":\"a/b\","
               "\"payload\":\"gr\\u00fc\\u00df\\u0000\\n\",\"qos\":1,\"retain\":false,"
               "\"node\":\"node-1\",\"received_at_ms\":1700000000123}");
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_eq(status.st_mode & 0777, 0600);
}
END_TEST

START_TEST(known_failure_23_a_binary_payload_is_base64) {
    size_t written = 0;
    ck_assert_int_eq(write_one(message_with("\xff\0\1", 3, 0), &written), ERR_OK);
    check_line("{\"id\":\"id 1\",\"client_id\":\"client 1\",\"topic\":\"a/b\","
               "\"payload_base64\":\"/wAB\",\"qos\":0,\"retain\":false,"
               "\"node\":\"node-1\",\"received_at_ms\":1700000000123}");
}
END_TEST

START_TEST(properties_are_an_object) {
    const struct message_property properties[] = {
        {"response_topic", NULL, "r", 1},
        {"correlation_data", NULL, "\xff", 1},
        {"subscription_identifier", NULL, "1", 1},
        {"subscription_identifier", NULL, "2", 1},
        {"user_property", "k", "v", 1},
        {"user_property", "k", "w", 1},
    };
    struct message from = {.id = "i",
                           .client_id = "c",
                           .topic = "t",
                           .payload = (const uint8_t *)"",
                           .properties = properties,
                           .property_count = 6,
                           .qos = 2,
                           .retain = true};
    size_t written = 0;
    ck_assert_int_eq(write_one(message_create(&from), &written), ERR_OK);
    check_line("{\"id\":\"i\",\"client_id\":\"c\",\"topic\":\"t\",\"payload\":\"\",\"qos\":2,"
               "\"retain\":true,\"node\":\"node-1\",\"received_at_ms\":0,\"properties\":{"
               "\"response_topic\":\"r\",\"correlation_data_base64\":\"/w==\","
               "\"subscription_identifier\":\"1,2\","
               "\"user_properties\":[[\"k\",\"v\"],[\"k\",\"w\"]]}}");
}
END_TEST

static void check_count(const char *name, size_t count) {
    json_t *lines = read_lines(name);
    ck_assert_uint_eq(json_array_size(lines), count);
    json_decref(lines);
}

START_TEST(a_file_that_was_moved_away_or_removed_is_made_anew) {
    char moved[128];
    size_t written = 0;
    snprintf(moved, sizeof moved, "%s.1", path);
    ck_assert_int_eq(write_one(message_with("1", 1, 1), &written), ERR_OK);
    ck_assert_int_eq(write_one(message_with("2", 1, 1), &written), ERR_OK);
    ck_assert_int_eq(rename(path, moved), 0);
    ck_assert_int_eq(write_one(message_with("3", 1, 1), &written), ERR_OK);
    check_count(moved, 2);
    check_count(path, 1);
    ck_assert_int_eq(unlink(moved), 0);
    ck_assert_int_eq(rename(path, moved), 0);
    fclose(fopen(path, "wx")); /* as logrotate does with `create` */
    ck_assert_int_eq(write_one(message_with("3", 1, 1), &written), ERR_OK);
    check_count(moved, 1);
    check_count(path, 1);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(write_one(message_with("4", 1, 1), &written), ERR_OK);
    check_count(path, 1);
}
END_TEST

START_TEST(a_folder_that_is_missing_is_an_error_until_it_is_there) {
    size_t written = 7;
    ck_assert_int_eq(rmdir(folder), 0);
    ck_assert_int_eq(write_one(message_with("1", 1, 1), &written), ERR_IO);
    ck_assert_uint_eq(written, 0);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(write_one(message_with("1", 1, 1), &written), ERR_OK);
    check_count(path, 1);
}
END_TEST

START_TEST(a_fifo_is_refused_at_once) {
    size_t written = 0;
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(write_one(message_with("1", 1, 1), &written), ERR_IO);
}
END_TEST

/* RLIMIT_FSIZE makes the system accept part of a write, like a full disk. */
START_TEST(a_disk_that_fills_up_leaves_whole_lines_and_written_counts_them) {
    struct message *batch[10];
    struct rlimit limit = {.rlim_cur = 700, .rlim_max = RLIM_INFINITY};
    size_t written = 0;
    size_t rest = 0;
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 10; i++) {
        batch[i] = message_with("0123456789", 10, 1);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(type_write(&sink_type_file, batch, 10, &written), ERR_IO);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_uint_gt(written, 0);
    ck_assert_uint_lt(written, 10);
    check_count(path, written);
    ck_assert_int_eq(type_write(&sink_type_file, batch + written, 10 - written, &rest), ERR_OK);
    check_count(path, 10);
    for (int i = 0; i < 10; i++) {
        message_destroy(batch[i]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("file");
    TCase *tcase = tcase_create("file");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_text_payload_is_text);
    tcase_add_test(tcase, known_failure_23_a_binary_payload_is_base64);
    tcase_add_test(tcase, properties_are_an_object);
    tcase_add_test(tcase, a_file_that_was_moved_away_or_removed_is_made_anew);
    tcase_add_test(tcase, a_folder_that_is_missing_is_an_error_until_it_is_there);
    tcase_add_test(tcase, a_fifo_is_refused_at_once);
    tcase_add_test(tcase, a_disk_that_fills_up_leaves_whole_lines_and_written_counts_them);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
