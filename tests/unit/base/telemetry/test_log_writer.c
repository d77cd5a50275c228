/* Tests of base/telemetry/log_writer through log: callers do not wait for the reader of stderr,
 * losses are reported, and lines are complete whatever happens to the descriptor. */
#include "base/telemetry/log_writer.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"

#define RING_BYTES 65536
#define BOUND_MS   20000
#define THREADS    4
#define PER_THREAD 2000

static int reader = -1, before = -1;
static char text[16 * 1048576];
static size_t text_len;

static void stderr_to(int fd) {
    before = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

static void stderr_back(void) {
    dup2(before, STDERR_FILENO);
    close(before);
}

static void stderr_to_pipe(int flags) {
    int ends[2];
    ck_assert_int_eq(pipe2(ends, flags), 0);
    ck_assert_int_eq(fcntl(ends[0], F_SETPIPE_SZ, 4096), 4096); /* much less than the ring */
    reader = ends[0];
    stderr_to(ends[1]);
}

static void start(void) {
    ck_assert_int_eq(log_start(RING_BYTES), ERR_OK);
}

/* The sum of the lines in log_dropped at that level. */
static int64_t told(const char *level) {
    char head[64];
    int64_t sum = 0;
    snprintf(head, sizeof head, "level=%s event=log_dropped lines=", level);
    for (const char *at = text; (at = strstr(at, head)); at += strlen(head)) {
        sum += strtoll(at + strlen(head), NULL, 10);
    }
    return sum;
}

static void read_some(int64_t deadline_ms) {
    ck_assert_int_lt(clock_ms(), deadline_ms);
    if (poll(&(struct pollfd){.fd = reader, .events = POLLIN}, 1, 100) == 1) {
        ssize_t n = read(reader, text + text_len, 700);
        ck_assert_int_gt(n, 0);
        text_len += (size_t)n;
        text[text_len] = '\0';
    }
}

/* Reads in small pieces until the text contains `end`. */
static void read_until(const char *end) {
    int64_t deadline_ms = clock_ms() + BOUND_MS;
    while (!strstr(text, end)) {
        read_some(deadline_ms);
    }
}

static void read_until_told(const char *level, int64_t lines) {
    int64_t deadline_ms = clock_ms() + BOUND_MS;
    while (told(level) < lines || text[text_len - 1] != '\n') {
        read_some(deadline_ms);
    }
}

static const char *after_time(const char *line) {
    ck_assert_int_eq(strncmp(line, "time=", 5), 0);
    return line + 5 + 24 + 1;
}

struct wait_counts {
    int lines;
    int64_t told; /* lines that log_dropped names */
};

/* Every line is complete, and the numbers of a thread ascend. */
static struct wait_counts count(char *lines) {
    struct wait_counts wait_counts = {0};
    int last[THREADS];
    memset(last, -1, sizeof last);
    char *rest = lines;
    for (char *line = strsep(&rest, "\n"); rest; line = strsep(&rest, "\n")) {
        int thread = 0, n = 0, end = 0;
        long long dropped = 0;
        if (sscanf(after_time(line), "level=info event=line thread=%d n=%d%n", &thread, &n, &end) ==
                2 &&
            after_time(line)[end] == '\0') {
            ck_assert_int_gt(n, last[thread]);
            last[thread] = n;
            wait_counts.lines++;
        } else if (sscanf(after_time(line), "level=error event=log_dropped lines=%lld ",
                          &dropped) == 1) {
            wait_counts.told += dropped;
        } else {
            ck_assert_msg(strstr(line, "event=last") != NULL, "%s", line);
        }
    }
    ck_assert_int_eq(strlen(!rest ? "" : rest), 0);
    return wait_counts;
}

static void log_lines(int thread, int n) {
    for (int i = 0; i < n; i++) {
        log_event(LOG_INFO, "line", KI("thread", thread), KI("n", i));
    }
}

static void *log_many(void *argument) {
    log_lines((int)(intptr_t)argument, PER_THREAD);
    return NULL;
}

static void log_from_threads(void) {
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, log_many, (void *)i), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

START_TEST(case_F8_nobody_waits_for_a_reader_that_stands_still_and_losses_are_told) {
    stderr_to_pipe(O_CLOEXEC);
    start();
    log_from_threads(); /* would not end */
    int64_t dropped = metric_get(METRIC_LOG_DROPPED_INFO);
    ck_assert_int_gt(dropped, 0);
    read_until_told("error", dropped); /* the reader is back */
    log_event(LOG_INFO, "last", KI("n", 1));
    read_until("event=last n=1\n");
    log_stop(BOUND_MS);
    stderr_back();
    struct wait_counts wait_counts = count(text);
    ck_assert_int_eq(wait_counts.told, dropped);
    ck_assert_int_eq(wait_counts.lines + wait_counts.told, THREADS * PER_THREAD);
}
END_TEST

START_TEST(case_F8_lost_lines_of_the_audit_trail_are_told_in_it) {
    stderr_to_pipe(O_CLOEXEC);
    log_setup(LOG_ERROR, LOG_LOGFMT);
    start();
    for (int i = 0; i < 5000; i++) {
        log_event(LOG_AUDIT, "http_change", KI("n", i));
    }
    int64_t dropped = metric_get(METRIC_LOG_DROPPED_AUDIT);
    ck_assert_int_gt(dropped, 0);
    read_until_told("audit", dropped);
    ck_assert_int_eq(told("audit"), dropped);
    ck_assert_ptr_null(strstr(text, "level=error"));
    log_stop(BOUND_MS);
    stderr_back();
}
END_TEST

START_TEST(case_F8_a_stop_does_not_wait_for_a_reader_that_stands_still) {
    stderr_to_pipe(O_CLOEXEC);
    start();
    log_lines(0, 5000);
    int64_t begun_ms = clock_ms();
    ck_assert(!log_writer_flush(100));
    log_stop(60000); /* gives up earlier */
    ck_assert_int_lt(clock_ms() - begun_ms, BOUND_MS);
    log_lines(0, 10); /* callers still do not wait */
}
END_TEST

START_TEST(a_stop_writes_what_is_left_and_then_callers_write_by_themselves) {
    stderr_to_pipe(O_CLOEXEC);
    log_event(LOG_INFO, "line", KI("thread", 0), KI("n", 0));
    start();
    log_event(LOG_INFO, "line", KI("thread", 0), KI("n", 1));
    log_stop(BOUND_MS);
    log_event(LOG_INFO, "line", KI("thread", 0), KI("n", 2));
    start();
    log_event(LOG_INFO, "line", KI("thread", 0), KI("n", 3));
    ck_assert(log_writer_flush(BOUND_MS));
    ssize_t n = read(reader, text, sizeof text - 1);
    ck_assert_int_gt(n, 0);
    log_stop(BOUND_MS);
    stderr_back();
    ck_assert_int_eq(count(text).lines, 4);
}
END_TEST

START_TEST(a_descriptor_that_others_made_non_blocking_loses_nothing) {
    stderr_to_pipe(O_CLOEXEC | O_NONBLOCK);
    start();
    log_lines(0, 600);
    log_event(LOG_INFO, "last", KI("n", 1));
    read_until("event=last n=1\n");
    log_stop(BOUND_MS);
    stderr_back();
    struct wait_counts wait_counts = count(text);
    ck_assert_int_eq(wait_counts.lines, 600);
    ck_assert_int_eq(wait_counts.told, 0);
}
END_TEST

/* A limit on the file size ends writes in the middle of a line, as a full disk does. */
START_TEST(a_line_that_a_full_disk_cut_is_completed_when_there_is_room) {
    struct rlimit limit = {.rlim_cur = 1000, .rlim_max = RLIM_INFINITY};
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    stderr_to(dup(fileno(file)));
    start();
    log_lines(0, 100);
    ck_assert(!log_writer_flush(500));
    ck_assert_int_eq(lseek(fileno(file), 0, SEEK_END), 1000);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert(log_writer_flush(BOUND_MS));
    log_stop(BOUND_MS);
    stderr_back();
    ck_assert_int_gt(pread(fileno(file), text, sizeof text - 1, 0), 0);
    ck_assert_int_eq(count(text).lines, 100);
    fclose(file);
}
END_TEST

START_TEST(a_stop_does_not_wait_for_a_descriptor_that_takes_nothing) {
    stderr_to(open("/dev/full", O_WRONLY | O_CLOEXEC));
    start();
    log_lines(0, 10);
    int64_t begun_ms = clock_ms();
    log_stop(60000);
    ck_assert_int_lt(clock_ms() - begun_ms, BOUND_MS);
    stderr_back();
}
END_TEST

static atomic_bool hold;

static void *log_now_and_then(void *argument) {
    (void)argument;
    for (int i = 0; i < 300; i++) { /* the writer falls asleep in between, or is about to */
        log_event(LOG_INFO, "line", KI("thread", 1), KI("n", i));
        clock_sleep_ms(i % 5);
    }
    atomic_store(&hold, false);
    return NULL;
}

START_TEST(a_line_never_waits_in_the_ring_for_the_next_one) {
    pthread_t thread;
    stderr_to_pipe(O_CLOEXEC);
    start();
    atomic_store(&hold, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, log_now_and_then, NULL), 0);
    for (int i = 0; i < 300; i++) {
        log_event(LOG_INFO, "line", KI("thread", 0), KI("n", i));
        char end[64];
        snprintf(end, sizeof end, "thread=0 n=%d\n", i);
        read_until(end);
    }
    while (atomic_load(&hold)) {
        clock_sleep_ms(1);
    }
    pthread_join(thread, NULL);
    read_until("thread=1 n=299\n");
    log_stop(BOUND_MS);
    stderr_back();
    ck_assert_int_eq(count(text).lines, 600);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("log_writer");
    tcase_set_timeout(cases, 40);
    tcase_add_test(cases, case_F8_nobody_waits_for_a_reader_that_stands_still_and_losses_are_told);
    tcase_add_test(cases, case_F8_lost_lines_of_the_audit_trail_are_told_in_it);
    tcase_add_test(cases, case_F8_a_stop_does_not_wait_for_a_reader_that_stands_still);
    tcase_add_test(cases, a_stop_writes_what_is_left_and_then_callers_write_by_themselves);
    tcase_add_test(cases, a_descriptor_that_others_made_non_blocking_loses_nothing);
    tcase_add_test(cases, a_line_that_a_full_disk_cut_is_completed_when_there_is_room);
    tcase_add_test(cases, a_stop_does_not_wait_for_a_descriptor_that_takes_nothing);
    tcase_add_test(cases, a_line_never_waits_in_the_ring_for_the_next_one);
    Suite *suite = suite_create("log_writer");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
