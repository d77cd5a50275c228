/* Tests of base/telemetry/log: the form of a line, escaping, bounds, one write per line. */
#include "base/telemetry/log.h"

#include <check.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"

#define THREADS          4
#define LINES_PER_THREAD 500

static char captured[1048576];
static int saved_stderr;
static FILE *capture_file;

static void capture_start(void) {
    capture_file = tmpfile();
    ck_assert_ptr_nonnull(capture_file);
    /* Opened like a log file: each write appends. */
    fcntl(fileno(capture_file), F_SETFL, O_APPEND);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fileno(capture_file), STDERR_FILENO);
}

static const char *capture_stop(void) {
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    rewind(capture_file);
    size_t len = fread(captured, 1, sizeof(captured) - 1, capture_file);
    captured[len] = '\0';
    fclose(capture_file);
    return captured;
}

/* The line without its time, which comes first. */
static const char *without_time(const char *line) {
    ck_assert_int_eq(strncmp(line, "time=", 5), 0);
    ck_assert(line[5 + 24] == ' ');
    return line + 5 + 25;
}

static json_t *parse_line(const char *line) {
    json_error_t error;
    json_t *root = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(root != NULL, "%s: %s", error.text, line);
    return root;
}

START_TEST(logfmt_line_has_time_level_event_and_fields) {
    capture_start();
    log_event(LOG_WARN, "client_state", KS("client", "c-1"), KI("attempt", -3));
    ck_assert_str_eq(without_time(capture_stop()),
                     "level=warn event=client_state client=c-1 attempt=-3\n");
}
END_TEST

START_TEST(logfmt_quotes_only_what_needs_it) {
    capture_start();
    log_event(LOG_INFO, "e", KS("a", "two words"), KS("b", ""), KS("c", "x=y"), KS("d", "q\"\\"),
              KS("e", "plain/1:2"), KS("left_out", NULL), KS("f", "\xC3\xA4"));
    ck_assert_str_eq(without_time(capture_stop()),
                     "level=info event=e a=\"two words\" b=\"\" c=\"x=y\" d=\"q\\\"\\\\\" "
                     "e=plain/1:2 f=\"\xC3\xA4\"\n");
}
END_TEST

START_TEST(control_characters_and_invalid_utf8_are_escaped) {
    capture_start();
    log_event(LOG_INFO, "e", KS("a", "x\ny\r\x1b[31m\x7f"), KS("b", "\xC2\x9B"),
              KS("c", "\xFF\xC3"));
    ck_assert_str_eq(without_time(capture_stop()),
                     "level=info event=e a=\"x\\ny\\u000d\\u001b[31m\\u007f\" b=\"\\u009b\" "
                     "c=\"\\ufffd\\ufffd\"\n");
}
END_TEST

START_TEST(json_line_parses_and_gives_the_values_back) {
    log_setup(LOG_DEBUG, LOG_JSON);
    capture_start();
    log_event(LOG_DEBUG, "e", KS("a", "x\n\"\\\t\x01 \xC3\xA4"), KI("n", INT64_MIN),
              KS("left_out", NULL));
    const char *line = capture_stop();
    json_t *root = parse_line(line);
    ck_assert_str_eq(json_string_value(json_object_get(root, "level")), "debug");
    ck_assert_str_eq(json_string_value(json_object_get(root, "event")), "e");
    ck_assert_str_eq(json_string_value(json_object_get(root, "a")), "x\n\"\\\t\x01 \xC3\xA4");
    ck_assert_int_eq(json_integer_value(json_object_get(root, "n")), INT64_MIN);
    ck_assert_uint_eq(json_object_size(root), 5);
    json_decref(root);
}
END_TEST

START_TEST(a_long_line_is_cut_marked_and_still_well_formed) {
    char value[9000];
    for (size_t len = 3900; len < 4200; len++) { /* across the bound, also within escapes */
        for (int escaped = 0; escaped < 2; escaped++) {
            memset(value, escaped ? '\x01' : 'x', len);
            value[len] = '\0';
            log_setup(LOG_INFO, LOG_JSON);
            capture_start();
            log_event(LOG_INFO, "e", KS("long", value), KS("after", value), KI("number", 1));
            const char *line = capture_stop();
            ck_assert_uint_le(strlen(line), 4096);
            ck_assert(line[strlen(line) - 1] == '\n');
            json_t *root = parse_line(line);
            ck_assert(json_is_true(json_object_get(root, "cut")));
            json_decref(root);
        }
    }
}
END_TEST

START_TEST(a_cut_logfmt_line_has_whole_fields_and_the_mark) {
    char value[4201];
    for (size_t len = 3900; len < 4200; len++) {
        memset(value, 'x', len);
        value[len] = '\0';
        capture_start();
        log_event(LOG_INFO, "e", KS("long", value), KI("a_rather_long_key", 1), KI("n", 2));
        const char *line = capture_stop();
        size_t line_len = strlen(line);
        ck_assert_uint_le(line_len, 4096);
        bool whole = strstr(line, "x a_rather_long_key=1 n=2\n") != NULL;
        bool cut_in_value = strstr(line, "x cut=true\n") != NULL;
        bool cut_after_first = strstr(line, "x a_rather_long_key=1 cut=true\n") != NULL;
        ck_assert_msg(whole || cut_in_value || cut_after_first, "%s", line + line_len - 60);
        ck_assert(whole || line_len > 4000);
    }
}
END_TEST

START_TEST(a_cut_never_splits_a_character) {
    char value[8001];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(value, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof(value); i += 3) {
            memcpy(value + i, "\xE2\x82\xAC", 4);
        }
        capture_start();
        log_event(LOG_INFO, "e", KS("long", value));
        const char *line = capture_stop();
        ck_assert(text_is_utf8(line, strlen(line)));
    }
}
END_TEST

START_TEST(lines_below_the_level_are_not_written) {
    log_setup(LOG_WARN, LOG_LOGFMT);
    ck_assert(!log_enabled(LOG_INFO));
    ck_assert(log_enabled(LOG_ERROR));
    capture_start();
    log_event(LOG_INFO, "quiet", KI("n", 1));
    log_event(LOG_ERROR, "loud", KI("n", 1));
    ck_assert_str_eq(without_time(capture_stop()), "level=error event=loud n=1\n");
}
END_TEST

static void *log_many(void *argument) {
    for (int i = 0; i < LINES_PER_THREAD; i++) {
        log_event(LOG_INFO, "line", KS("thread", argument), KI("n", i));
    }
    return NULL;
}

START_TEST(lines_of_many_threads_never_mix) {
    static char names[THREADS][2] = {"a", "b", "c", "d"};
    pthread_t threads[THREADS];
    capture_start();
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, log_many, names[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    capture_stop();
    size_t lines = 0;
    char *rest = captured;
    for (char *line = strsep(&rest, "\n"); line && line[0] != '\0'; line = strsep(&rest, "\n")) {
        char thread = 0;
        int number = -1;
        int end = 0;
        int fields = sscanf(without_time(line), "level=info event=line thread=%c n=%d%n", &thread,
                            &number, &end);
        ck_assert_int_eq(fields, 2);
        ck_assert(without_time(line)[end] == '\0');
        lines++;
    }
    ck_assert_uint_eq(lines, THREADS * LINES_PER_THREAD);
}
END_TEST

START_TEST(names_of_levels_and_formats_are_parsed_exactly) {
    enum log_level level = LOG_DEBUG;
    enum log_format format = LOG_LOGFMT;
    ck_assert(log_level_parse("error", &level));
    ck_assert_int_eq(level, LOG_ERROR);
    ck_assert(!log_level_parse("Error", &level));
    ck_assert(!log_level_parse("", &level));
    ck_assert(log_format_parse("json", &format));
    ck_assert_int_eq(format, LOG_JSON);
    ck_assert(!log_format_parse("xml", &format));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("log");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, logfmt_line_has_time_level_event_and_fields);
    tcase_add_test(cases, logfmt_quotes_only_what_needs_it);
    tcase_add_test(cases, control_characters_and_invalid_utf8_are_escaped);
    tcase_add_test(cases, json_line_parses_and_gives_the_values_back);
    tcase_add_test(cases, a_long_line_is_cut_marked_and_still_well_formed);
    tcase_add_test(cases, a_cut_logfmt_line_has_whole_fields_and_the_mark);
    tcase_add_test(cases, a_cut_never_splits_a_character);
    tcase_add_test(cases, lines_below_the_level_are_not_written);
    tcase_add_test(cases, lines_of_many_threads_never_mix);
    tcase_add_test(cases, names_of_levels_and_formats_are_parsed_exactly);
    Suite *suite = suite_create("log");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
