/* Owns the table of the threads of the process, and starts and joins them. Those of the sinks are
 * in sink/sinks.c. Those of the log, libmicrohttpd and Paho are started by their libraries. Main
 * thread. */
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/system/thread_watchdog.h"
#include "base/telemetry/log.h"

#define THREADS_MAX 2048

static size_t threads_count_one(const struct app *app) {
    (void)app;
    return 1;
}

static size_t threads_worker_count(const struct app *app) {
    return workers_thread_count(app->workers);
}

static size_t threads_resolver_count(const struct app *app) {
    return (size_t)app->conf->resolver_threads;
}

static size_t threads_handler_count(const struct app *app) {
    return (size_t)app->conf->http_workers;
}

/* Threads that are started later. */
static size_t threads_count_none(const struct app *app) {
    (void)app;
    return 0;
}

/* The argument of `run`. index: of the thread within its row. */
static void *threads_worker_argument(struct app *app, size_t index) {
    return workers_thread(app->workers, index);
}

static void *threads_workers_argument(struct app *app, size_t index) {
    (void)index;
    return app->workers;
}

static void *threads_node_argument(struct app *app, size_t index) {
    (void)index;
    return app->node;
}

static void *threads_agent_argument(struct app *app, size_t index) {
    (void)index;
    return app->agent;
}

static void *threads_leader_argument(struct app *app, size_t index) {
    (void)index;
    return app->leader;
}

static void *threads_stop_progress_argument(struct app *app, size_t index) {
    (void)index;
    return app->stop_progress;
}

static void *threads_handler_argument(struct app *app, size_t index) {
    (void)index;
    return http_server_handlers(app->http);
}

static void *threads_peer_calls_argument(struct app *app, size_t index) {
    (void)index;
    return app->peer_calls;
}

static void *threads_streams_argument(struct app *app, size_t index) {
    (void)index;
    return http_server_streams(app->http);
}

static void *threads_event_bus_argument(struct app *app, size_t index) {
    (void)index;
    return app->event_bus;
}

/* The longest time without progress of the watched threads. The limits of calls to Redis and to
 * other nodes are added, because a call reports progress only when it ends. */
static int64_t threads_worker_stall_ms(const struct app *app) {
    return app->conf->stall_ms;
}

/* Enforces the deadlines of requests. When idle, it may sleep that long. */
static int64_t threads_peer_calls_stall_ms(const struct app *app) {
    return app->conf->stall_ms + PEER_CALLS_TURN_MS_MAX;
}

static int64_t threads_heartbeat_stall_ms(const struct app *app) {
    return app->conf->stall_ms + app->conf->heartbeat_ms + app->conf->redis_timeout_ms;
}

static int64_t threads_agent_stall_ms(const struct app *app) {
    return app->conf->stall_ms + app->conf->redis_timeout_ms;
}

/* In the order of their start. Names are shown by ps -T and gdb. */
static const struct {
    const char *name;
    enum thread_kind kind;
    size_t (*count)(const struct app *app);
    void *(*run)(void *argument);
    void *(*argument)(struct app *app, size_t index);
    int64_t (*stall_ms_max)(const struct app *app); /* NULL: not watched */
} threads[] = {
    {"resolver", THREAD_RESOLVER, threads_resolver_count, workers_resolver_run,
     threads_workers_argument, NULL},
    {"worker", THREAD_WORKER, threads_worker_count, workers_run, threads_worker_argument,
     threads_worker_stall_ms},
    {"heartbeat", THREAD_HEARTBEAT, threads_count_one, node_heartbeat_run, threads_node_argument,
     threads_heartbeat_stall_ms},
    {"agent", THREAD_AGENT, threads_count_one, agent_run, threads_agent_argument,
     threads_agent_stall_ms},
    {"leader", THREAD_LEADER, threads_count_one, leader_run, threads_leader_argument,
     threads_agent_stall_ms},
    {"http", THREAD_HTTP_HANDLER, threads_handler_count, http_handlers_run,
     threads_handler_argument, NULL},
    {"peer-calls", THREAD_PEER_CALLS, threads_count_one, peer_calls_run,
     threads_peer_calls_argument, threads_peer_calls_stall_ms},
    {"http-streams", THREAD_STREAMS, threads_count_one, http_streams_run, threads_streams_argument,
     NULL},
    {"event-bus", THREAD_EVENT_BUS, threads_count_one, event_bus_run, threads_event_bus_argument,
     NULL},
    {"progress", THREAD_STOP_PROGRESS, threads_count_none, stop_progress_run,
     threads_stop_progress_argument, NULL},
};

static struct {
    pthread_t id;
    enum thread_kind kind;
    size_t row;
    void *argument;
    int64_t stall_ms_max; /* 0: not watched */
} running_threads[THREADS_MAX];
static size_t running_thread_count;

/* argument: its index in running_threads; the element is complete before the thread starts. */
static void *threads_run(void *argument) {
    size_t index = (size_t)(uintptr_t)argument;
    size_t row = running_threads[index].row;
    if (running_threads[index].stall_ms_max > 0) {
        thread_watchdog_register(threads[row].name, running_threads[index].stall_ms_max);
    }
    void *result = threads[row].run(running_threads[index].argument);
    thread_watchdog_unregister();
    return result;
}

static int threads_start_one(struct app *app, size_t row, size_t index) {
    pthread_t id;
    if (running_thread_count == THREADS_MAX) {
        return EAGAIN;
    }
    running_threads[running_thread_count].row = row;
    running_threads[running_thread_count].kind = threads[row].kind;
    running_threads[running_thread_count].argument = threads[row].argument(app, index);
    running_threads[running_thread_count].stall_ms_max =
        threads[row].stall_ms_max ? threads[row].stall_ms_max(app) : 0;
    int error = pthread_create(&id, NULL, threads_run, (void *)(uintptr_t)running_thread_count);
    if (error == 0) {
        pthread_setname_np(id, threads[row].name);
        running_threads[running_thread_count++].id = id;
    }
    return error;
}

enum err threads_start(struct app *app, char *fault) {
    for (size_t row = 0; row < sizeof(threads) / sizeof(threads[0]); row++) {
        size_t count = threads[row].count(app);
        for (size_t i = 0; i < count; i++) {
            int error = threads_start_one(app, row, i);
            if (error != 0) {
                snprintf(fault, FAULT_LEN, "cannot start a %s thread: %s", threads[row].name,
                         strerror(error));
                return ERR_UNAVAILABLE;
            }
        }
    }
    return ERR_OK;
}

void threads_start_late(struct app *app, enum thread_kind kind) {
    for (size_t row = 0; row < sizeof(threads) / sizeof(threads[0]); row++) {
        if (threads[row].kind == kind && threads_start_one(app, row, 0) != 0) {
            log_event(LOG_WARN, "thread_not_started", KS("name", threads[row].name));
        }
    }
}

void threads_join(enum thread_kind kind) {
    for (size_t i = 0; i < running_thread_count; i++) {
        if (running_threads[i].kind == kind) {
            pthread_join(running_threads[i].id, NULL);
        }
    }
}
