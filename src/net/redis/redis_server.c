/* Owns the private redis-server process of a node and the two locks of its folder. Main thread
 * only, because the child receives SIGTERM when the thread that forked it ends.
 *
 *   <folder>/lock        held by the node for its lifetime: one node per folder
 *   <folder>/redis.lock  held by redis-server itself through an inherited descriptor, so that the
 *                        next node can tell when the server of a killed node has exited
 */
#include "net/redis/redis_server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "net/redis/redis.h"

#define FAULT_LEN       512
#define POLL_MS         10
#define PING_TIMEOUT_MS 1000
#define STOP_MS         15000
#define EXIT_NO_PROGRAM 127
#define SOCKET_PATH_LEN sizeof(((struct sockaddr_un *)0)->sun_path)
#define INHERITED_FD    3 /* the descriptor by which redis-server holds redis.lock */

struct redis_server {
    pid_t pid; /* 0: not running */
    int lock_fd;
    char folder[PATH_MAX];
    char socket_path[SOCKET_PATH_LEN];
    char url[SOCKET_PATH_LEN + 8];
};

#define REFUSE(fault, code, ...) (snprintf((fault), FAULT_LEN, __VA_ARGS__), (code))

/* --- the folder --- */

/* Like mkdir -p, with mode 0700 for new folders. */
static enum err redis_server_make_folder(const char *folder, char *fault) {
    char path[PATH_MAX];
    if (!*folder || strlen(folder) >= sizeof path) {
        return REFUSE(fault, ERR_ARGUMENT, "the name of the state folder is empty or too long");
    }
    strcpy(path, folder);
    for (char *end = path + 1;; end++) { /* bounded by the path's length */
        char byte = *end;
        if (byte == '/' || byte == '\0') {
            *end = '\0';
            if (mkdir(path, 0700) < 0 && errno != EEXIST) {
                return REFUSE(fault, ERR_IO, "cannot create the folder %.300s: %s", path,
                              strerror(errno));
            }
            *end = byte;
        }
        if (byte == '\0') {
            return ERR_OK;
        }
    }
}

/* The folder contains the fleet's data, and anyone who can use the socket controls Redis. */
static enum err redis_server_check_folder(const char *folder, char *fault) {
    struct stat status;
    const char *why = NULL;
    if (stat(folder, &status) < 0) {
        return REFUSE(fault, ERR_IO, "cannot use the folder %.300s: %s", folder, strerror(errno));
    }
    if (!S_ISDIR(status.st_mode)) {
        why = "it is not a folder";
    } else if (status.st_uid != geteuid()) {
        why = "it belongs to another user: chown it to the node's";
    } else if (status.st_mode & (S_IWGRP | S_IWOTH)) {
        why = "it is writable by users other than its owner: chmod go-w";
    }
    return why ? REFUSE(fault, ERR_ARGUMENT, "cannot use state_dir %.300s: %s", folder, why)
               : ERR_OK;
}

/* An absolute path, because redis-server changes into its folder. */
static enum err redis_server_set_paths(struct redis_server *server, const char *folder,
                                       char *fault) {
    if (!realpath(folder, server->folder)) {
        return REFUSE(fault, ERR_IO, "cannot use the folder %.300s: %s", folder, strerror(errno));
    }
    int len =
        snprintf(server->socket_path, sizeof server->socket_path, "%s/redis.sock", server->folder);
    if (len < 0 || (size_t)len >= sizeof server->socket_path) {
        return REFUSE(fault, ERR_ARGUMENT,
                      "state_dir %.300s is too long: with /redis.sock it must fit the %zu bytes of "
                      "the path of a Unix socket",
                      server->folder, sizeof server->socket_path - 1);
    }
    snprintf(server->url, sizeof server->url, "unix:%s", server->socket_path);
    return ERR_OK;
}

/* *out: a descriptor that holds the lock. ERR_EXISTS: someone else holds it. */
static enum err redis_server_lock_file(const struct redis_server *server, const char *name,
                                       int *out) {
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s/%s", server->folder, name);
    int fd = len < (int)sizeof path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0) {
        return ERR_IO;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int reason = errno;
        close(fd);
        return reason == EWOULDBLOCK ? ERR_EXISTS : ERR_IO;
    }
    *out = fd;
    return ERR_OK;
}

static enum err redis_server_lock_folder(struct redis_server *server, char *fault) {
    enum err err = redis_server_lock_file(server, "lock", &server->lock_fd);
    if (err == ERR_EXISTS) {
        return REFUSE(fault, err, "another node uses the folder %.300s", server->folder);
    }
    return err == ERR_OK ? err
                         : REFUSE(fault, err, "cannot lock the folder %.300s: %s", server->folder,
                                  strerror(errno));
}

/* --- the process --- */

static void redis_server_child_output(const char *folder) {
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/redis.log", folder);
    int in = open("/dev/null", O_RDONLY);
    int out = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (in < 0 || out < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(out, STDERR_FILENO) < 0) {
        _exit(1);
    }
}

/* Default signal handling, whatever the node has blocked or ignored, and a separate process group,
 * so that Ctrl-C reaches only the node. */
static void redis_server_child_signals(pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) { /* the node died before prctl set PDEATHSIG */
        _exit(1);
    }
}

static const char *const programs[] = {"redis-server", "valkey-server"}; /* in this order */

static void redis_server_child_run(const struct redis_server *server, pid_t parent, int lock_fd) {
    const char *argv[] = {
        programs[0],
        "--port",
        "0",
        "--unixsocket",
        server->socket_path,
        "--unixsocketperm",
        "600",
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec",
        "--save",
        "",
        "--dir",
        server->folder,
        "--daemonize",
        "no",
        "--logfile",
        "redis.log",
        NULL,
    };
    redis_server_child_signals(parent);
    redis_server_child_output(server->folder);
    if (lock_fd == INHERITED_FD) {
        fcntl(lock_fd, F_SETFD, 0);
    } else {
        dup2(lock_fd, INHERITED_FD);
    }
    close_range(INHERITED_FD + 1, ~0U, 0);
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        argv[0] = programs[i];
        execvp(argv[0], (char *const *)argv);
    }
    _exit(errno == ENOENT ? EXIT_NO_PROGRAM : 1);
}

/* ERR_EXISTS: an earlier redis-server still runs in the folder. */
static enum err redis_server_launch(struct redis_server *server) {
    int lock_fd = -1;
    enum err err = redis_server_lock_file(server, "redis.lock", &lock_fd);
    if (err != ERR_OK) {
        return err;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        redis_server_child_run(server, parent, lock_fd);
    }
    close(lock_fd); /* the child keeps the lock */
    server->pid = pid > 0 ? pid : 0;
    return pid > 0 ? ERR_OK : ERR_IO;
}

/* The kernel terminates the server of a killed node, which takes a moment. */
static enum err redis_server_launch_when_free(struct redis_server *server, int64_t deadline_ms,
                                              char *fault) {
    enum err err = redis_server_launch(server);
    while (err == ERR_EXISTS && clock_ms() < deadline_ms) {
        clock_sleep_ms(POLL_MS);
        err = redis_server_launch(server);
    }
    if (err == ERR_EXISTS) {
        return REFUSE(fault, ERR_TIMEOUT,
                      "the redis-server of an earlier process still runs in %.300s",
                      server->folder);
    }
    return err == ERR_OK ? err
                         : REFUSE(fault, err, "cannot start redis-server: %s", strerror(errno));
}

static bool redis_server_has_exited(struct redis_server *server, int *status) {
    if (server->pid > 0 && waitpid(server->pid, status, WNOHANG) == server->pid) {
        server->pid = 0;
        return true;
    }
    return false;
}

static enum err redis_server_explain_exit(const struct redis_server *server, int status,
                                          char *fault) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_PROGRAM) {
        return REFUSE(
            fault, ERR_UNSUPPORTED,
            "redis_config.url is embedded, but neither redis-server nor valkey-server is in "
            "PATH");
    }
    return REFUSE(fault, ERR_UNAVAILABLE,
                  "redis-server exited at once, %s %d; see %.300s/redis.log",
                  WIFSIGNALED(status) ? "by signal" : "status",
                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), server->folder);
}

/* PONG means that the data is loaded; until then the answer is LOADING. */
static bool redis_server_answers(const struct redis_server *server, struct redis *redis) {
    struct redis_reply *reply = NULL;
    if (access(server->socket_path, F_OK) < 0 ||
        redis_command(redis, 1, (const char *[]){"PING"}, NULL, &reply) != ERR_OK) {
        return false;
    }
    redis_reply_free(reply);
    return true;
}

static enum err redis_server_await_answer(struct redis_server *server, int64_t deadline_ms,
                                          char *fault) {
    struct redis *redis = redis_create(server->url, PING_TIMEOUT_MS);
    enum err err = redis ? ERR_OK : REFUSE(fault, ERR_MEMORY, "out of memory");
    while (err == ERR_OK && !redis_server_answers(server, redis)) { /* bounded by the deadline */
        int status = 0;
        if (redis_server_has_exited(server, &status)) {
            err = redis_server_explain_exit(server, status, fault);
        } else if (clock_ms() >= deadline_ms) {
            err = REFUSE(fault, ERR_TIMEOUT,
                         "redis-server does not answer in time (%.80s); see %.300s/redis.log",
                         redis_error(redis), server->folder);
        } else {
            clock_sleep_ms(POLL_MS);
        }
    }
    redis_destroy(redis);
    return err;
}

/* --- public --- */

enum err redis_server_start(struct redis_server **out, const char *folder, int64_t timeout_ms,
                            char *fault) {
    int64_t deadline_ms = clock_ms() + timeout_ms;
    struct redis_server *server = calloc(1, sizeof *server);
    if (!server) {
        return REFUSE(fault, ERR_MEMORY, "out of memory");
    }
    server->lock_fd = -1;
    enum err err = redis_server_make_folder(folder, fault);
    if (err == ERR_OK) {
        err = redis_server_check_folder(folder, fault);
    }
    if (err == ERR_OK) {
        err = redis_server_set_paths(server, folder, fault);
    }
    if (err == ERR_OK) {
        err = redis_server_lock_folder(server, fault);
    }
    if (err == ERR_OK) {
        err = redis_server_launch_when_free(server, deadline_ms, fault);
    }
    if (err == ERR_OK) {
        err = redis_server_await_answer(server, deadline_ms, fault);
    }
    if (err != ERR_OK) {
        redis_server_stop(server);
        return err;
    }
    *out = server;
    return ERR_OK;
}

const char *redis_server_url(const struct redis_server *server) {
    return server->url;
}

void redis_server_supervise(struct redis_server *server) {
    int status = 0;
    if (redis_server_has_exited(server, &status)) {
        log_event(LOG_ERROR, "redis_server_ended", KS("folder", server->folder),
                  KI("status", WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status)));
    }
    if (server->pid == 0) {
        enum err err = redis_server_launch(server);
        log_event(LOG_WARN, "redis_server_started_again", KS("folder", server->folder),
                  KS("result", err_name(err)));
    }
}

static void redis_server_terminate(struct redis_server *server) {
    int status = 0;
    int64_t deadline_ms = clock_ms() + STOP_MS;
    kill(server->pid, SIGTERM);
    while (!redis_server_has_exited(server, &status) && clock_ms() < deadline_ms) {
        clock_sleep_ms(POLL_MS);
    }
    if (server->pid > 0) {
        log_event(LOG_ERROR, "redis_server_killed", KS("folder", server->folder),
                  KS("reason", "it did not exit after SIGTERM"));
        kill(server->pid, SIGKILL);
        waitpid(server->pid, &status, 0);
    }
}

void redis_server_stop(struct redis_server *server) {
    if (!server) {
        return;
    }
    if (server->pid > 0) {
        redis_server_terminate(server);
    }
    if (server->lock_fd >= 0) {
        close(server->lock_fd);
    }
    free(server);
}
