/* A real mosquitto for tests, with its own port and folder, killed by its pid at the end. */
#ifndef MQFLEET_TEST_BROKER_FIXTURE_H
#define MQFLEET_TEST_BROKER_FIXTURE_H

#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/system/clock.h"

#define FIXTURE_WAIT_MS 30000

/* Polls until the condition holds or the time is up. */
#define EVENTUALLY(condition)                                                                      \
    do {                                                                                           \
        int64_t until_ms_ = fixture_now_ms() + FIXTURE_WAIT_MS;                                    \
        bool holds_ = (condition);                                                                 \
        while (!holds_ && fixture_now_ms() < until_ms_) {                                          \
            usleep(2000);                                                                          \
            holds_ = (condition);                                                                  \
        }                                                                                          \
        ck_assert_msg(holds_, "never: %s", #condition);                                            \
    } while (0)

struct fixture_broker {
    char folder[64];
    int port;
    pid_t pid;
};

static inline int64_t fixture_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline int fixture_free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int failed = bind(fd, (struct sockaddr *)&address, sizeof(address));
    assert(fd >= 0 && failed == 0);
    failed = getsockname(fd, (struct sockaddr *)&address, &len);
    assert(failed == 0);
    close(fd);
    return ntohs(address.sin_port);
}

static inline bool fixture_answers(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool answers = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return answers;
}

static inline pid_t fixture_spawn(const char *folder, char *const argv[]) {
    pid_t pid = fork();
    assert(pid >= 0);
    if (pid == 0) {
        char path[128];
        snprintf(path, sizeof(path), "%s/out", folder);
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        execvp(argv[0], argv);
        _exit(127);
    }
    return pid;
}

static inline void fixture_kill(pid_t *pid, int signal_number) {
    if (*pid > 0) {
        kill(*pid, signal_number);
        waitpid(*pid, NULL, 0);
    }
    *pid = 0;
}

static inline void fixture_run(const char *format, ...) {
    char command[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    int status = system(command);
    assert(status == 0);
    (void)status;
}

static inline void broker_run(struct fixture_broker *broker) {
    char conf[128];
    snprintf(conf, sizeof(conf), "%s/mosquitto.conf", broker->folder);
    char *const argv[] = {"mosquitto", "-c", conf, NULL};
    broker->pid = fixture_spawn(broker->folder, argv);
    int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
    while (!fixture_answers(broker->port)) {
        assert(fixture_now_ms() < until_ms);
        usleep(5000);
    }
}

static inline void broker_prepare(struct fixture_broker *broker) {
    *broker = (struct fixture_broker){.port = fixture_free_port()};
    strcpy(broker->folder, "/tmp/mqfleet-test-XXXXXX");
    char *made = mkdtemp(broker->folder);
    assert(made);
    (void)made;
}

/* extra: additional lines of mosquitto.conf; %s in it is the folder. */
static inline void broker_configure(const struct fixture_broker *broker, const char *extra) {
    char path[128];
    snprintf(path, sizeof(path), "%s/mosquitto.conf", broker->folder);
    FILE *file = fopen(path, "w");
    assert(file);
    fprintf(file,
            "listener %d 127.0.0.1\nmax_connections -1\nmax_queued_messages 100000\n"
            "max_inflight_messages 0\nlog_type all\nlog_dest file %s/log\nuser root\n"
            "persistence_location %s/\n%s",
            broker->port, broker->folder, broker->folder, extra);
    fclose(file);
}

static inline void broker_start(struct fixture_broker *broker) {
    broker_prepare(broker);
    broker_configure(broker, "allow_anonymous true\n");
    broker_run(broker);
}

static inline void broker_stop(struct fixture_broker *broker) {
    fixture_kill(&broker->pid, SIGKILL);
}

static inline void broker_end(struct fixture_broker *broker) {
    broker_stop(broker);
    fixture_run("rm -rf %s", broker->folder);
}

/* How many lines of the broker's log contain the text. */
static inline int broker_logged(const struct fixture_broker *broker, const char *text) {
    char path[128], line[2048];
    snprintf(path, sizeof(path), "%s/log", broker->folder);
    FILE *file = fopen(path, "r");
    int count = 0;
    while (file && fgets(line, sizeof(line), file)) {
        count += strstr(line, text) != NULL;
    }
    if (file) {
        fclose(file);
    }
    return count;
}

#endif
