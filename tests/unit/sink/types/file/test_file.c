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

/* Opens again, with a template. */
static void open_line(const char *line) {
    type_close(&sink_type_file);
    type_open(&sink_type_file,
              type_complete(&sink_type_file, "{s:s, s:s}", "path", path, "line", line));
}

static void check_text(const char *expected) {
    char text[512] = "";
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    ck_assert_uint_eq(len, strlen(expected));
    ck_assert_str_eq(text, expected);
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

START_TEST(a_dead_letter_has_the_sink_the_reason_and_the_time) {
    struct message *message = message_with("x", 1, 1);
    size_t written = 0;
    struct rejection *rejection = calloc(1, sizeof *rejection);
    ck_assert_ptr_nonnull(rejection);
    *rejection = (struct rejection){"kept", "too large", 1700000000456};
    message->rejection = rejection;
    ck_assert_int_eq(write_one(message, &written), ERR_OK);
    check_line("{\"id\":\"id 1\",\"client_id\":\"client 1\",\"topic\":\"a/b\","
               "\"payload\":\"x\",\"qos\":1,\"retain\":false,"
               "\"node\":\"node-1\",\"received_at_ms\":1700000000123,\"dead_letter\":{"
               "\"sink\":\"kept\",\"reason\":\"too large\",\"rejected_at_ms\":1700000000456}}");
}
END_TEST

static const struct {
    const char *line, *payload, *written; /* NULL: rejected */
} by_template[] = {
    {"{received_at} {topic.2} {payload}", "21.5", "2023-11-14T22:13:20.123Z b 21.5\n"},
    {"{id};{json./t|-}", "{}", "id 1;-\n"},
    {"{payload:json}", "a\r\nb", "\"a\\r\\nb\"\n"},
    {"{payload:base64}", "a\n", "YQo=\n"},
    {"{payload}", "", "\n"},
    {"{payload}", "a\n", NULL},
    {"{payload}", "a\rb", NULL},
    {"{json./t}", "{}", NULL},
    {"{json./t}", "{\"t\":\"a\\nb\"}", NULL},
};

START_TEST(a_line_by_template_is_one_line) {
    struct message *batch[] = {
        message_with("{\"t\":1}", 7, 1),
        message_with(by_template[_i].payload, strlen(by_template[_i].payload), 1)};
    size_t written = 0;
    open_line(by_template[_i].line);
    ck_assert_int_eq(type_write(&sink_type_file, batch + 1, 1, &written), ERR_OK);
    ck_assert_int_eq(type_outcomes[0], by_template[_i].written ? SINK_ACCEPTED : SINK_REJECTED);
    check_text(by_template[_i].written ? by_template[_i].written : "");
    ck_assert_int_eq(type_write(&sink_type_file, batch, 1, &written), ERR_OK);
    ck_assert_int_eq(type_outcomes[0], SINK_ACCEPTED);
    message_destroy(batch[0]);
    message_destroy(batch[1]);
}
END_TEST

START_TEST(messages_around_one_that_is_rejected_are_written) {
    static const enum sink_outcome expected[] = {SINK_REJECTED, SINK_ACCEPTED, SINK_REJECTED,
                                                 SINK_ACCEPTED, SINK_REJECTED};
    struct message *batch[5];
    size_t written = 0;
    open_line("<{payload}>");
    for (size_t i = 0; i < 5; i++) {
        batch[i] = message_with(i % 2 == 0 ? "\n" : "x", 1, 1);
    }
    ck_assert_int_eq(type_write(&sink_type_file, batch, 5, &written), ERR_OK);
    check_text("<x>\n<x>\n");
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(type_outcomes[i], expected[i]);
        message_destroy(batch[i]);
    }
    ck_assert_str_eq(type_reasons[4], "line: it would contain a line end; :json escapes it");
}
END_TEST

static const struct {
    const char *line, *fault;
} wrong_lines[] = {
    {"a\nb", "line must not contain a line end"},
    {"{x}", "line {x} is unknown"},
};

START_TEST(a_wrong_line_is_explained) {
    char fault[SINK_FAULT_LEN] = "";
    void *state = NULL;
    json_t *settings =
        type_complete(&sink_type_file, "{s:s, s:s}", "path", path, "line", wrong_lines[_i].line);
    ck_assert_int_eq(sink_type_file.open(&state, &type_environment, settings, fault), ERR_ARGUMENT);
    ck_assert_msg(strncmp(fault, wrong_lines[_i].fault, strlen(wrong_lines[_i].fault)) == 0, "%s",
                  fault);
    json_decref(settings);
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

/* RLIMIT_FSIZE makes the system accept part of a write, like a full disk. It is also a limit of the
 * file through which the test reports its results, so it is large. */
START_TEST(a_disk_that_fills_up_leaves_whole_lines_and_written_counts_them) {
    struct message *batch[10];
    struct rlimit limit = {.rlim_cur = 700000, .rlim_max = RLIM_INFINITY};
    static char payload[100000];
    size_t written = 0;
    size_t rest = 0;
    signal(SIGXFSZ, SIG_IGN);
    memset(payload, 'x', sizeof payload);
    for (int i = 0; i < 10; i++) {
        batch[i] = message_with(payload, sizeof payload, 1);
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

static void reopen(const char *format, ...) {
    const struct sink_field *const tables[] = {sink_common_fields, sink_type_file.fields, NULL};
    va_list arguments;
    type_close(&sink_type_file);
    va_start(arguments, format);
    json_t *given = json_vpack_ex(NULL, 0, format, arguments);
    va_end(arguments);
    ck_assert_ptr_nonnull(given);
    json_object_set_new(given, "path", json_string(path));
    type_open(&sink_type_file, sink_settings_complete(tables, given, type_note_fault, NULL));
    json_decref(given);
}

static void write_number(int number) {
    char text[16];
    size_t written = 0;
    snprintf(text, sizeof text, "%d", number);
    ck_assert_int_eq(write_one(message_with(text, strlen(text), 1), &written), ERR_OK);
}

static void put_file(const char *text) {
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

START_TEST(a_half_last_line_is_ended_on_opening) {
    put_file("{\"payload\":\"half li");
    write_number(1);
    FILE *file = fopen(path, "re");
    char line[256];
    ck_assert_ptr_nonnull(fgets(line, sizeof line, file));
    ck_assert_str_eq(line, "{\"payload\":\"half li\n");
    ck_assert_ptr_nonnull(fgets(line, sizeof line, file));
    ck_assert_ptr_nonnull(strstr(line, "\"payload\":\"1\""));
    ck_assert_ptr_null(fgets(line, sizeof line, file));
    fclose(file);
}
END_TEST

START_TEST(a_second_holder_is_refused_until_the_first_is_gone) {
    size_t written = 7;
    void *first = type_state;
    json_t *first_settings = type_settings;
    write_number(1);
    type_open(&sink_type_file, type_complete(&sink_type_file, "{s:s}", "path", path));
    ck_assert_int_eq(write_one(message_with("2", 1, 1), &written), ERR_IO);
    ck_assert_uint_eq(written, 0);
    ck_assert_ptr_nonnull(strstr(type_error, "is locked: another sink writes it"));
    sink_type_file.close(first);
    json_decref(first_settings);
    write_number(2);
    check_count(path, 2);
}
END_TEST

START_TEST(a_file_that_was_truncated_goes_on_at_its_end) {
    for (int i = 0; i < 5; i++) {
        write_number(i);
    }
    ck_assert_int_eq(truncate(path, 0), 0);
    write_number(5);
    check_count(path, 1);
}
END_TEST

/* Names in the order of the alphabet, which is that of time. */
static int compare_names(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

/* The numbers of all files, in order; returns how many files there are. */
static size_t read_all(int *numbers, size_t *count) {
    char command[256], line[512];
    char *names[256];
    size_t files = 0;
    snprintf(command, sizeof command, "ls '%s'", folder);
    FILE *list = popen(command, "re");
    while (fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = '\0';
        names[files++] = strdup(line);
    }
    pclose(list);
    qsort(names, files, sizeof *names, compare_names);
    *count = 0;
    for (size_t i = 0; i < files; i++) { /* the current one, without a stamp, is the last */
        const char *name = names[(i + 1) % files];
        snprintf(command, sizeof command, strstr(name, ".gz") ? "zcat '%s/%s'" : "cat '%s/%s'",
                 folder, name);
        FILE *file = popen(command, "re");
        while (fgets(line, sizeof line, file)) {
            json_t *object = json_loads(line, 0, NULL);
            ck_assert_msg(object != NULL, "%s: %s", name, line);
            numbers[(*count)++] = atoi(json_string_value(json_object_get(object, "payload")));
            json_decref(object);
        }
        ck_assert_int_eq(pclose(file), 0);
    }
    for (size_t i = 0; i < files; i++) {
        free(names[i]);
    }
    return files;
}

START_TEST(rotated_files_hold_every_line_once_and_in_order) {
    int numbers[1000];
    size_t count;
    reopen("{s:i, s:s}", "rotate_bytes", 2000, "compress", _i ? "gzip" : "none");
    for (int i = 0; i < 500; i++) {
        write_number(i);
        if (i == 250) { /* a restart in the middle */
            reopen("{s:i, s:s}", "rotate_bytes", 2000, "compress", _i ? "gzip" : "none");
        }
    }
    for (int i = 0; i < 500; i++) {
        sink_type_file.maintain(type_state);
    }
    size_t files = read_all(numbers, &count);
    ck_assert_uint_gt(files, 20);
    ck_assert_uint_eq(count, 500);
    for (int i = 0; i < 500; i++) {
        ck_assert_int_eq(numbers[i], i);
    }
    char command[256];
    snprintf(command, sizeof command, "ls '%s' | grep -vc gz", folder);
    FILE *pipe = popen(command, "re");
    int plain = 0;
    ck_assert_int_eq(fscanf(pipe, "%d", &plain), 1);
    pclose(pipe);
    ck_assert_int_eq(plain, _i ? 1 : (int)files);
}
END_TEST

START_TEST(only_so_many_rotated_files_are_kept) {
    int numbers[1000];
    size_t count;
    reopen("{s:i, s:i}", "rotate_bytes", 2000, "rotate_keep", 3);
    for (int i = 0; i < 500; i++) {
        write_number(i);
    }
    for (int i = 0; i < 100; i++) {
        sink_type_file.maintain(type_state);
    }
    ck_assert_uint_le(read_all(numbers, &count), 4);
    ck_assert_int_gt(numbers[0], 400);
    ck_assert_int_eq(numbers[count - 1], 499);
}
END_TEST

START_TEST(an_old_file_is_moved_away_and_an_empty_one_is_not) {
    int numbers[1000];
    size_t count;
    reopen("{s:i}", "rotate_ms", 1);
    put_file("");
    sink_type_file.maintain(type_state);
    write_number(0);
    usleep(5000);
    sink_type_file.maintain(type_state);
    write_number(1);
    ck_assert_uint_ge(read_all(numbers, &count), 2);
    ck_assert_uint_eq(count, 2);
}
END_TEST

/* A file that can only grow cannot be cut back to whole lines (needs root and such a file system).
 */
START_TEST(a_half_line_that_cannot_be_removed_is_ended_by_the_next_write) {
    struct message *batch[10];
    struct rlimit limit = {.rlim_cur = 60000 /* check writes, too */, .rlim_max = RLIM_INFINITY};
    size_t written = 0;
    char payload[10001];
    char command[160];
    memset(payload, 'x', sizeof payload);
    put_file("");
    snprintf(command, sizeof command, "chattr +a '%s' 2>/dev/null", path);
    if (system(command) != 0) {
        return;
    }
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 10; i++) {
        batch[i] = message_with(payload, sizeof payload - 1, 1);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(type_write(&sink_type_file, batch, 10, &written), ERR_IO);
    ck_assert_ptr_nonnull(strstr(type_error, "File too large"));
    ck_assert_uint_gt(written, 0);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    size_t before = written;
    ck_assert_int_eq(type_write(&sink_type_file, batch + written, 10 - written, &written), ERR_OK);
    ck_assert_uint_eq(before + written, 10);
    snprintf(command, sizeof command, "chattr -a '%s'; grep -c 'received_at_ms.*}$' '%s'", path,
             path);
    FILE *pipe = popen(command, "re");
    int whole = 0;
    ck_assert_int_eq(fscanf(pipe, "%d", &whole), 1);
    pclose(pipe);
    ck_assert_int_eq(whole, 10);
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
    tcase_add_test(tcase, a_dead_letter_has_the_sink_the_reason_and_the_time);
    tcase_add_loop_test(tcase, a_line_by_template_is_one_line, 0,
                        sizeof by_template / sizeof by_template[0]);
    tcase_add_test(tcase, messages_around_one_that_is_rejected_are_written);
    tcase_add_loop_test(tcase, a_wrong_line_is_explained, 0,
                        sizeof wrong_lines / sizeof wrong_lines[0]);
    tcase_add_test(tcase, properties_are_an_object);
    tcase_add_test(tcase, a_file_that_was_moved_away_or_removed_is_made_anew);
    tcase_add_test(tcase, a_folder_that_is_missing_is_an_error_until_it_is_there);
    tcase_add_test(tcase, a_fifo_is_refused_at_once);
    tcase_add_test(tcase, a_disk_that_fills_up_leaves_whole_lines_and_written_counts_them);
    tcase_add_test(tcase, a_half_last_line_is_ended_on_opening);
    tcase_add_test(tcase, a_second_holder_is_refused_until_the_first_is_gone);
    tcase_add_test(tcase, a_file_that_was_truncated_goes_on_at_its_end);
    tcase_add_loop_test(tcase, rotated_files_hold_every_line_once_and_in_order, 0, 2);
    tcase_add_test(tcase, only_so_many_rotated_files_are_kept);
    tcase_add_test(tcase, an_old_file_is_moved_away_and_an_empty_one_is_not);
    tcase_add_test(tcase, a_half_line_that_cannot_be_removed_is_ended_by_the_next_write);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
