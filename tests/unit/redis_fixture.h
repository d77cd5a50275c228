/* A private redis-server for the unit tests of any layer: on a Unix socket in a temporary folder,
 * append-only file on, killed with the test. Header-only; one per test program. Knows nothing of
 * net/redis.c, so that it can be used to test it. */
#ifndef MQFLEET_TEST_REDIS_FIXTURE_H
#define MQFLEET_TEST_REDIS_FIXTURE_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "redis_program.h"

#define REDIS_FIXTURE_OPTIONS_MAX 16

static struct {
    pid_t pid;
    char folder[64];
    char url[96];                                   /* unix:<folder>/redis.sock */
    const char *options[REDIS_FIXTURE_OPTIONS_MAX]; /* more arguments, NULL-terminated */
} redis_fixture;

static inline pid_t redis_fixture_pid(void) {
    return redis_fixture.pid;
}

static inline void redis_fixture_die(const char *why) {
    fprintf(stderr, "redis_fixture: %s, see %s\n", why, redis_fixture.folder);
    abort();
}

/* Whether the server answers PONG now. */
static inline int redis_fixture_answers(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 1};
    char answer[8] = "";
    strcpy(address.sun_path, redis_fixture.url + strlen("unix:"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int ok = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
             send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6 && recv(fd, answer, 7, 0) > 0 &&
             (strncmp(answer, "+PONG", 5) == 0 || strncmp(answer, "-NOAUTH", 7) == 0);
    close(fd);
    return ok;
}

static inline void redis_fixture_exec(const char *socket_path) {
    const char *argv[40] = {redis_program(),
                            "--port",
                            "0",
                            "--unixsocket",
                            socket_path,
                            "--appendonly",
                            "yes",
                            "--save",
                            "",
                            "--dir",
                            redis_fixture.folder,
                            "--daemonize",
                            "no",
                            "--logfile",
                            "redis.log"};
    size_t count = 15;
    for (size_t i = 0; redis_fixture.options[i]; i++) {
        argv[count++] = redis_fixture.options[i];
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_DFL);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

static inline void redis_fixture_launch(void) {
    char log[96];
    const char *socket_path = redis_fixture.url + strlen("unix:");
    unlink(socket_path);
    snprintf(log, sizeof log, "%s/output", redis_fixture.folder);
    redis_fixture.pid = fork();
    if (redis_fixture.pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        redis_fixture_exec(socket_path);
    }
    for (int i = 0; !redis_fixture_answers(); i++) {
        struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
        if (i > 2000 || redis_fixture.pid < 0 || waitpid(redis_fixture.pid, NULL, WNOHANG) != 0) {
            redis_fixture_die("redis-server does not start");
        }
        nanosleep(&pause, NULL);
    }
}

/* Ends the server by SIGKILL; its data stays in the folder. */
static inline void redis_fixture_kill(void) {
    if (redis_fixture.pid > 0) {
        kill(redis_fixture.pid, SIGKILL);
        waitpid(redis_fixture.pid, NULL, 0);
    }
    redis_fixture.pid = 0;
}

/* Starts it again after redis_fixture_kill, with the data its append-only file holds. */
static inline void redis_fixture_continue(void) {
    redis_fixture_launch();
}

static inline void redis_fixture_restart(void) {
    redis_fixture_kill();
    redis_fixture_continue();
}

/* options: more arguments of redis-server, NULL-terminated, kept by reference; NULL: none. */
static inline const char *redis_fixture_start_with(const char *const *options) {
    signal(SIGPIPE, SIG_IGN);
    strcpy(redis_fixture.folder, "/tmp/mqfleet-redis-XXXXXX");
    if (!mkdtemp(redis_fixture.folder)) {
        redis_fixture_die("no temporary folder");
    }
    snprintf(redis_fixture.url, sizeof redis_fixture.url, "unix:%s/redis.sock",
             redis_fixture.folder);
    memset(redis_fixture.options, 0, sizeof redis_fixture.options);
    for (size_t i = 0; options && options[i] && i + 1 < REDIS_FIXTURE_OPTIONS_MAX; i++) {
        redis_fixture.options[i] = options[i];
    }
    redis_fixture_launch();
    return redis_fixture.url;
}

/* The url is for redis_create and lives until the next start. */
static inline const char *redis_fixture_start(void) {
    return redis_fixture_start_with(NULL);
}

static inline void redis_fixture_stop(void) {
    char command[96];
    redis_fixture_kill();
    if (redis_fixture.folder[0]) {
        snprintf(command, sizeof command, "rm -rf '%s'", redis_fixture.folder);
        if (system(command) != 0) {
            fprintf(stderr, "redis_fixture: cannot remove %s\n", redis_fixture.folder);
        }
    }
    redis_fixture.folder[0] = '\0';
}

#endif
