/* Several private Redis programs (servers, sentinels, nodes of a cluster) for one test: on ports of
 * 127.0.0.1, in one temporary folder, killed with the test. Header-only. */
#ifndef MQFLEET_TEST_REDIS_SERVERS_H
#define MQFLEET_TEST_REDIS_SERVERS_H

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "net/redis/redis.h"
#include "redis_program.h"

#define SERVERS_MAX      10
#define SERVER_ARGS_MAX  32
#define SERVERS_BOUND_MS 20000 /* for every wait of a test */

struct server {
    pid_t pid;
    int port;
    struct redis *admin; /* of the test itself; NULL until first used */
    char url[64];
    char arguments[SERVER_ARGS_MAX][128]; /* of the program, the last one empty */
};

static struct {
    char folder[64];
    struct server list[SERVERS_MAX];
    size_t count;
} servers;

/* Waits until the expression is true. */
#define EVENTUALLY(condition)                                                                      \
    do {                                                                                           \
        int64_t deadline_ms_ = clock_ms() + SERVERS_BOUND_MS;                                      \
        while (!(condition) && clock_ms() < deadline_ms_) {                                        \
            clock_sleep_ms(5);                                                                     \
        }                                                                                          \
        ck_assert_msg(clock_ms() < deadline_ms_, "not in time: " #condition);                      \
    } while (0)

/* ---- processes ----------------------------------------------------------------------------- */

/* Below the range of outgoing ports, so that a restarted server finds its port free. */
static inline int server_free_port(void) {
    for (int i = 0; i < 1000; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        int port = (int)text_random_between(10000, 32000);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons((uint16_t)port);
        int bound = bind(fd, (struct sockaddr *)&address, sizeof address);
        close(fd);
        if (bound == 0) {
            return port;
        }
    }
    ck_abort_msg("no free port");
}

/* One command on the server's admin connection; NULL: not now. Ends with NULL. */
static inline struct redis_reply *server_ask(struct server *server, ...) {
    const char *argv[SERVER_ARGS_MAX];
    struct redis_reply *reply = NULL;
    int argc = 0;
    va_list list;
    va_start(list, server);
    for (const char *arg; (arg = va_arg(list, const char *));) {
        argv[argc++] = arg;
    }
    va_end(list);
    if (!server->admin) {
        char
            url[72]; /* another text: what connections of server->url learn is not shared with it */
        snprintf(url, sizeof url, "%s/0", server->url);
        server->admin = redis_create(url, 2000);
    }
    return redis_command(server->admin, argc, argv, NULL, &reply) == ERR_OK ? reply : NULL;
}

#define SERVER_TELL(server, ...)                                                                   \
    do {                                                                                           \
        struct redis_reply *told_ = server_ask((server), __VA_ARGS__, NULL);                       \
        ck_assert_msg(told_ != NULL, "%s", redis_error((server)->admin));                          \
        ck_assert_msg(redis_reply_type(told_) != REDIS_ERROR, "%s", redis_reply_str(told_, NULL)); \
        redis_reply_free(told_);                                                                   \
    } while (0)

static inline bool reply_has(struct redis_reply *reply, const char *text) {
    const char *found = reply ? redis_reply_str(reply, NULL) : NULL;
    bool has = found && strstr(found, text);
    redis_reply_free(reply);
    return has;
}

/* Whether the current answer, a text, contains `text`. */
#define SERVER_SAYS(server, text, ...) reply_has(server_ask((server), __VA_ARGS__, NULL), (text))

static inline void server_launch(struct server *server) {
    char folder[96];
    snprintf(folder, sizeof folder, "%s/%d", servers.folder, server->port);
    mkdir(folder, 0700);
    server->pid = fork();
    if (server->pid == 0) {
        char *argv[SERVER_ARGS_MAX + 1] = {NULL};
        for (size_t i = 0; server->arguments[i][0]; i++) {
            argv[i] = server->arguments[i][0] == '\'' ? "" : server->arguments[i];
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int log = chdir(folder) == 0 ? open("log", O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
        if (log >= 0 && dup2(log, STDOUT_FILENO) >= 0 && dup2(log, STDERR_FILENO) >= 0) {
            execvp(argv[0], argv);
        }
        _exit(127);
    }
    EVENTUALLY(SERVER_SAYS(server, "PONG", "PING"));
}

/* Arguments end with NULL; '' stands for an empty one. The program runs in a folder of
 * its own. */
static inline struct server *server_start(const char *argument, ...) {
    ck_assert_uint_lt(servers.count, SERVERS_MAX);
    struct server *server = &servers.list[servers.count++];
    *server = (struct server){.port = server_free_port()};
    snprintf(server->url, sizeof server->url, "redis://127.0.0.1:%d", server->port);
    size_t count = 0;
    va_list list;
    va_start(list, argument);
    for (const char *arg = argument; arg; arg = va_arg(list, const char *)) {
        ck_assert_uint_lt(count, SERVER_ARGS_MAX - 6);
        snprintf(server->arguments[count++], sizeof server->arguments[0], "%s", arg);
    }
    va_end(list);
    snprintf(server->arguments[count++], sizeof server->arguments[0], "--port");
    snprintf(server->arguments[count++], sizeof server->arguments[0], "%d", server->port);
    server_launch(server);
    return server;
}

#define SERVER_START(...)                                                                          \
    server_start(redis_program(), "--bind", "127.0.0.1", "--save", "''", __VA_ARGS__, NULL)

static inline void server_kill(struct server *server) {
    if (server->pid > 0) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
    }
    server->pid = 0;
}

/* ---- a master, replicas, sentinels ----------------------------------------------------------- */

static inline struct server *server_start_replica(const struct server *master) {
    char port[8];
    snprintf(port, sizeof port, "%d", master->port);
    struct server *replica = server_start(redis_program(), "--bind", "127.0.0.1", "--save", "''",
                                          "--repl-diskless-sync-delay", "0", NULL);
    SERVER_TELL(replica, "REPLICAOF", "127.0.0.1", port);
    EVENTUALLY(SERVER_SAYS(replica, "master_link_status:up", "INFO", "replication"));
    return replica;
}

/* One that watches `master` under the name "fleet"; it alone is the quorum if that is 1. */
static inline struct server *server_start_sentinel(const struct server *master, int quorum) {
    char path[96];
    snprintf(path, sizeof path, "%s/sentinel-%zu.conf", servers.folder, servers.count);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file,
            "bind 127.0.0.1\n"
            "sentinel monitor fleet 127.0.0.1 %d %d\n"
            "sentinel down-after-milliseconds fleet 500\n"
            "sentinel failover-timeout fleet 3000\n",
            master->port, quorum);
    fclose(file);
    return server_start(redis_program(), path, "--sentinel", NULL);
}

/* ---- life ------------------------------------------------------------------------------------ */

static inline void servers_begin(void) {
    signal(SIGPIPE, SIG_IGN);
    memset(&servers, 0, sizeof servers);
    strcpy(servers.folder, "/tmp/mqfleet-redis-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(servers.folder));
}

static inline void servers_end(void) {
    char command[96];
    for (size_t i = 0; i < servers.count; i++) {
        server_kill(&servers.list[i]);
        redis_destroy(servers.list[i].admin);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", servers.folder);
    ck_assert_int_eq(system(command), 0);
}

#endif
