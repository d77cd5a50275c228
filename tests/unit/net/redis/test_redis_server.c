/* Tests of the embedded redis-server: it starts, keeps its data, excludes a second node, and ends
 * with its node. */
#include "net/redis/redis_server.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "net/redis/redis.h"
#include "redis_program.h"

#define START_MS 20000
#define CALL_MS  2000

static char base[64];
static char folder[96];
static char fault[512];

static void setup(void) {
    signal(SIGPIPE, SIG_IGN);
    strcpy(base, "/tmp/mqfleet-server-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    snprintf(folder, sizeof folder, "%s/a/state", base);
    *fault = '\0';
}

static void teardown(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    ck_assert_int_eq(system(command), 0);
}

static struct redis_server *start(void) {
    struct redis_server *server = NULL;
    enum err err = redis_server_start(&server, folder, START_MS, fault);
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), fault);
    return server;
}

/* The reply as text, "" when there was none. Static. */
static const char *ask(const char *url, int argc, const char *const *argv) {
    static char text[8192];
    struct redis_reply *reply = NULL;
    struct redis *redis = redis_create(url, CALL_MS);
    *text = '\0';
    if (redis_command(redis, argc, argv, NULL, &reply) == ERR_OK) {
        const char *str = redis_reply_str(reply, NULL);
        snprintf(text, sizeof text, "%s", str ? str : "");
        redis_reply_free(reply);
    }
    redis_destroy(redis);
    return text;
}

static pid_t server_pid(const char *url) {
    const char *info = ask(url, 2, (const char *[]){"INFO", "server"});
    const char *at = strstr(info, "process_id:");
    return at ? atoi(at + strlen("process_id:")) : 0;
}

static void set(const char *url, const char *value) {
    ck_assert_str_eq(ask(url, 3, (const char *[]){"SET", "key", value}), "OK");
}

static void check_value(const char *url, const char *value) {
    ck_assert_str_eq(ask(url, 2, (const char *[]){"GET", "key"}), value);
}

START_TEST(keeps_its_data_from_one_start_to_the_next) {
    struct redis_server *server = start();
    struct stat status;
    set(redis_server_url(server), "kept");
    ck_assert_int_eq(stat(folder, &status), 0);
    ck_assert_int_eq(status.st_mode & 0777, 0700);
    redis_server_stop(server);
    server = start();
    check_value(redis_server_url(server), "kept");
    redis_server_stop(server);
    redis_server_stop(NULL);
}
END_TEST

START_TEST(a_second_node_in_the_same_folder_is_refused) {
    struct redis_server *first = start();
    struct redis_server *second = NULL;
    ck_assert_int_eq(redis_server_start(&second, folder, START_MS, fault), ERR_EXISTS);
    ck_assert_ptr_nonnull(strstr(fault, folder));
    set(redis_server_url(first), "unharmed");
    redis_server_stop(first);
}
END_TEST

START_TEST(a_folder_too_long_for_a_unix_socket_is_named_as_the_fault) {
    struct redis_server *server = NULL;
    char deep[256];
    snprintf(deep, sizeof deep, "%s/%0*d", base, 120, 0);
    ck_assert_int_eq(redis_server_start(&server, deep, START_MS, fault), ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(fault, "state_dir"));
}
END_TEST

START_TEST(valkey_serves_where_there_is_no_redis) {
    char command[256];
    snprintf(command, sizeof command, "ln -s \"$(command -v %s)\" %s/valkey-server",
             redis_program(), base);
    ck_assert_int_eq(system(command), 0);
    setenv("PATH", base, 1);
    struct redis_server *server = start();
    setenv("PATH", "/usr/bin:/bin", 1);
    ck_assert_str_eq(ask(redis_server_url(server), 1, (const char *[]){"PING"}), "PONG");
    redis_server_stop(server);
}
END_TEST

START_TEST(a_missing_program_is_named_as_the_fault) {
    struct redis_server *server = NULL;
    setenv("PATH", base, 1);
    enum err err = redis_server_start(&server, folder, START_MS, fault);
    setenv("PATH", "/usr/bin:/bin", 1);
    ck_assert_int_eq(err, ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(fault, "redis-server"));
}
END_TEST

START_TEST(a_folder_that_cannot_be_made_is_named_as_the_fault) {
    struct redis_server *server = NULL;
    ck_assert_int_eq(redis_server_start(&server, "/dev/null/state", START_MS, fault), ERR_IO);
    ck_assert_ptr_nonnull(strstr(fault, "/dev/null"));
}
END_TEST

START_TEST(is_not_in_the_process_group_that_a_terminal_interrupts) {
    struct redis_server *server = start();
    pid_t pid = server_pid(redis_server_url(server));
    ck_assert_int_gt(pid, 0);
    ck_assert_int_ne(getpgid(pid), getpgid(0));
    redis_server_stop(server);
}
END_TEST

START_TEST(ends_by_sigterm_although_the_node_blocks_signals) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    struct redis_server *server = start();
    int64_t begin_ms = clock_ms();
    redis_server_stop(server);
    ck_assert_int_lt(clock_ms() - begin_ms, 10000);
}
END_TEST

/* A node in a separate process. Writes one byte when its server runs, then waits to be killed. */
static void run_node(int ready_fd) {
    struct redis_server *server = start();
    set(redis_server_url(server), "of the killed");
    if (write(ready_fd, "r", 1) == 1) {
        pause();
    }
    _exit(1);
}

START_TEST(the_node_after_a_killed_one_takes_over_its_folder_and_data) {
    int ready[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t node = fork();
    if (node == 0) {
        run_node(ready[1]);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    kill(node, SIGKILL);
    waitpid(node, NULL, 0);
    struct redis_server *server = start();
    check_value(redis_server_url(server), "of the killed");
    redis_server_stop(server);
}
END_TEST

/* Holds the lock as the redis-server of a killed node would while it saves. */
START_TEST(an_earlier_server_that_does_not_end_is_named_as_the_fault) {
    char path[128];
    struct redis_server *server = start();
    redis_server_stop(server);
    snprintf(path, sizeof path, "%s/redis.lock", folder);
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
    ck_assert_int_eq(redis_server_start(&server, folder, 100, fault), ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(fault, "earlier process"));
    close(fd);
    server = start();
    fd = open(path, O_RDWR);
    ck_assert_int_lt(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
    redis_server_stop(server);
}
END_TEST

START_TEST(is_started_again_when_it_was_killed) {
    struct redis_server *server = start();
    set(redis_server_url(server), "survives");
    pid_t killed = server_pid(redis_server_url(server));
    kill(killed, SIGKILL);
    int64_t deadline_ms = clock_ms() + START_MS;
    pid_t pid = 0;
    while ((pid == 0 || pid == killed) && clock_ms() < deadline_ms) {
        redis_server_supervise(server);
        pid = server_pid(redis_server_url(server));
        clock_sleep_ms(10);
    }
    ck_assert_int_gt(pid, 0);
    ck_assert_int_ne(pid, killed);
    check_value(redis_server_url(server), "survives");
    redis_server_stop(server);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis_server");
    TCase *tcase = tcase_create("redis_server");
    tcase_set_timeout(tcase, 90);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, keeps_its_data_from_one_start_to_the_next);
    tcase_add_test(tcase, a_second_node_in_the_same_folder_is_refused);
    tcase_add_test(tcase, a_folder_too_long_for_a_unix_socket_is_named_as_the_fault);
    tcase_add_test(tcase, valkey_serves_where_there_is_no_redis);
    tcase_add_test(tcase, a_missing_program_is_named_as_the_fault);
    tcase_add_test(tcase, a_folder_that_cannot_be_made_is_named_as_the_fault);
    tcase_add_test(tcase, is_not_in_the_process_group_that_a_terminal_interrupts);
    tcase_add_test(tcase, ends_by_sigterm_although_the_node_blocks_signals);
    tcase_add_test(tcase, the_node_after_a_killed_one_takes_over_its_folder_and_data);
    tcase_add_test(tcase, an_earlier_server_that_does_not_end_is_named_as_the_fault);
    tcase_add_test(tcase, is_started_again_when_it_was_killed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
