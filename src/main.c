/* mqfleetd: reads its settings, starts everything in order, waits for a signal, stops in reverse
 * order. Every thread of the process is a row of `threads` below, except those of the log,
 * libmicrohttpd and Paho.
 *
 * Exit codes: 0 stopped cleanly; 1 could not start, or could not stop cleanly; 2 invalid settings
 * or usage; 3 another live node uses this node's name; 4 Redis belongs to another fleet.
 */
#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "wiring/app.h"
#include "wiring/command_line.h"
#include "wiring/crash.h"
#include "base/system/clock.h"
#include "base/config/system_limits.h"
#include "base/telemetry/log_writer.h"
#include "base/system/notify.h"
#include "base/system/thread_watchdog.h"
#include "base/secrets/secret_file.h"
#include "base/system/std_streams.h"
#include "base/secrets/client_file.h"
#include "http/server/certificate.h"
#include "http/server/listener.h"
#include "profile/heap.h"
#include "net/redis/redis.h"
#include "net/redis/redis_tls.h"
#include "net/redis/redis_url.h"

#define THREADS_MAX    2048
#define TURN_MS        200 /* of the main thread */
#define LOG_STOP_MS    5000
#define LOG_FLUSH_MS   100 /* when a second signal ends the process immediately */
#define FREE_BYTES_MIN 4194304

/* ---- threads --------------------------------------------------------------------------------- */

static size_t main_count_one(const struct app *app) {
    (void)app;
    return 1;
}

static size_t main_sink_count(const struct app *app) {
    size_t n = 0;
    while (app->sinks[n]) {
        n++;
    }
    return n;
}

static size_t main_worker_count(const struct app *app) {
    return workers_thread_count(app->workers);
}

static size_t main_resolver_count(const struct app *app) {
    return (size_t)app->conf->resolver_threads;
}

static size_t main_handler_count(const struct app *app) {
    return (size_t)app->conf->http_workers;
}

/* Threads that are started later. */
static size_t main_count_none(const struct app *app) {
    (void)app;
    return 0;
}

static void *main_sink_argument(struct app *app, size_t index) {
    return app->sinks[index];
}

static void *main_worker_argument(struct app *app, size_t index) {
    return workers_thread(app->workers, index);
}

static void *main_workers_argument(struct app *app, size_t index) {
    (void)index;
    return app->workers;
}

static void *main_node_argument(struct app *app, size_t index) {
    (void)index;
    return app->node;
}

static void *main_agent_argument(struct app *app, size_t index) {
    (void)index;
    return app->agent;
}

static void *main_leader_argument(struct app *app, size_t index) {
    (void)index;
    return app->leader;
}

static void *main_stop_progress_argument(struct app *app, size_t index) {
    (void)index;
    return app->stop_progress;
}

/* The longest time without progress of the watched threads. The limits of calls to Redis and to
 * other nodes are added, because a call reports progress only when it ends. */
static int64_t main_worker_stall_ms(const struct app *app) {
    return app->conf->stall_ms;
}

/* Enforces the deadlines of requests. When idle, it may sleep that long. */
static int64_t main_peer_calls_stall_ms(const struct app *app) {
    return app->conf->stall_ms + PEER_CALLS_TURN_MS_MAX;
}

static int64_t main_heartbeat_stall_ms(const struct app *app) {
    return app->conf->stall_ms + app->conf->heartbeat_ms + app->conf->redis_timeout_ms;
}

static int64_t main_agent_stall_ms(const struct app *app) {
    return app->conf->stall_ms + app->conf->redis_timeout_ms;
}

static void *main_handler_argument(struct app *app, size_t index) {
    (void)index;
    return http_server_handlers(app->http);
}

static void *main_peer_calls_argument(struct app *app, size_t index) {
    (void)index;
    return app->peer_calls;
}

static void *main_streams_argument(struct app *app, size_t index) {
    (void)index;
    return http_server_streams(app->http);
}

static void *main_event_bus_argument(struct app *app, size_t index) {
    (void)index;
    return app->event_bus;
}

enum thread_kind {
    THREAD_SINK,
    THREAD_RESOLVER,
    THREAD_WORKER,
    THREAD_HEARTBEAT,
    THREAD_AGENT,
    THREAD_LEADER,
    THREAD_HTTP_HANDLER,
    THREAD_PEER_CALLS,
    THREAD_STREAMS,
    THREAD_EVENT_BUS,
    THREAD_STOP_PROGRESS
};

/* In the order of their start. Names are shown by ps -T and gdb. */
static const struct {
    const char *name;
    enum thread_kind kind;
    size_t (*count)(const struct app *app);
    void *(*run)(void *argument);
    void *(*argument)(struct app *app, size_t index);
    int64_t (*stall_ms_max)(const struct app *app); /* NULL: not watched */
} threads[] = {
    {"sink", THREAD_SINK, main_sink_count, sink_run, main_sink_argument, NULL},
    {"resolver", THREAD_RESOLVER, main_resolver_count, workers_resolver_run, main_workers_argument,
     NULL},
    {"worker", THREAD_WORKER, main_worker_count, workers_run, main_worker_argument,
     main_worker_stall_ms},
    {"heartbeat", THREAD_HEARTBEAT, main_count_one, node_heartbeat_run, main_node_argument,
     main_heartbeat_stall_ms},
    {"agent", THREAD_AGENT, main_count_one, agent_run, main_agent_argument, main_agent_stall_ms},
    {"leader", THREAD_LEADER, main_count_one, leader_run, main_leader_argument,
     main_agent_stall_ms},
    {"http", THREAD_HTTP_HANDLER, main_handler_count, http_handlers_run, main_handler_argument,
     NULL},
    {"peer-calls", THREAD_PEER_CALLS, main_count_one, peer_calls_run, main_peer_calls_argument,
     main_peer_calls_stall_ms},
    {"http-streams", THREAD_STREAMS, main_count_one, http_streams_run, main_streams_argument, NULL},
    {"event-bus", THREAD_EVENT_BUS, main_count_one, event_bus_run, main_event_bus_argument, NULL},
    {"progress", THREAD_STOP_PROGRESS, main_count_none, stop_progress_run,
     main_stop_progress_argument, NULL},
};

static struct {
    pthread_t id;
    enum thread_kind kind;
    size_t row;
    void *argument;
    int64_t stall_ms_max; /* 0: not watched */
} running_threads[THREADS_MAX];
static size_t running_thread_count;

/* argument: its element of running, complete before the thread starts. */
static void *main_thread_run(void *argument) {
    size_t index = (size_t)(uintptr_t)argument;
    size_t row = running_threads[index].row;
    if (running_threads[index].stall_ms_max > 0) {
        thread_watchdog_register(threads[row].name, running_threads[index].stall_ms_max);
    }
    void *result = threads[row].run(running_threads[index].argument);
    thread_watchdog_unregister();
    return result;
}

static int main_start_thread(struct app *app, size_t row, size_t index) {
    pthread_t id;
    if (running_thread_count == THREADS_MAX) {
        return EAGAIN;
    }
    running_threads[running_thread_count].row = row;
    running_threads[running_thread_count].kind = threads[row].kind;
    running_threads[running_thread_count].argument = threads[row].argument(app, index);
    running_threads[running_thread_count].stall_ms_max =
        threads[row].stall_ms_max ? threads[row].stall_ms_max(app) : 0;
    int error = pthread_create(&id, NULL, main_thread_run, (void *)(uintptr_t)running_thread_count);
    if (error == 0) {
        pthread_setname_np(id, threads[row].name);
        running_threads[running_thread_count++].id = id;
    }
    return error;
}

static enum err main_start_threads(struct app *app, char *fault) {
    for (size_t row = 0; row < sizeof(threads) / sizeof(threads[0]); row++) {
        size_t count = threads[row].count(app);
        for (size_t i = 0; i < count; i++) {
            int error = main_start_thread(app, row, i);
            if (error != 0) {
                snprintf(fault, FAULT_LEN, "cannot start a %s thread: %s", threads[row].name,
                         strerror(error));
                return ERR_UNAVAILABLE;
            }
        }
    }
    return ERR_OK;
}

/* Starts a thread that is needed only now. Without it the stop continues without reports. */
static void main_start_thread_late(struct app *app, enum thread_kind kind) {
    for (size_t row = 0; row < sizeof(threads) / sizeof(threads[0]); row++) {
        if (threads[row].kind == kind && main_start_thread(app, row, 0) != 0) {
            log_event(LOG_WARN, "thread_not_started", KS("name", threads[row].name));
        }
    }
}

static void main_join_threads(enum thread_kind kind) {
    for (size_t i = 0; i < running_thread_count; i++) {
        if (running_threads[i].kind == kind) {
            pthread_join(running_threads[i].id, NULL);
        }
    }
}

static enum err main_start(struct app *app, char *fault) {
    enum err err = app_create(app, fault);
    return err == ERR_OK ? main_start_threads(app, fault) : err;
}

/* ---- wait and stop
 * ---------------------------------------------------------------------------- */

static void main_exit_at_once(int signal_number) {
    (void)log_writer_flush(LOG_FLUSH_MS);
    _exit(128 + signal_number);
}

/* After the first signal, a second one ends the process immediately. */
static void main_exit_on_second_signal(const sigset_t *signals) {
    struct sigaction action = {.sa_handler = main_exit_at_once};
    signal(SIGHUP, SIG_IGN); /* a stopping node does not reload */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
}

/* Waits until SIGTERM or SIGINT, or until the agent gives up; returns its reason. */
static const char *main_wait(struct app *app, const sigset_t *signals) {
    for (;;) {
        int signal_number =
            sigtimedwait(signals, NULL, &(struct timespec){.tv_nsec = TURN_MS * 1000000});
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            log_event(LOG_INFO, "stopping",
                      KS("signal", signal_number == SIGTERM ? "SIGTERM" : "SIGINT"),
                      KI("clients", workers_count(app->workers)));
            return NULL;
        }
        if (signal_number == SIGHUP) {
            app_reload(app);
        }
        app_maintain(app, TURN_MS);
        const char *fault = agent_fault(app->agent);
        if (fault) {
            return fault;
        }
    }
}

/* Rule 9: no new work, DISCONNECT, flush the sinks, release, leave. ERR_OK: all steps succeeded. */
static enum err main_stop_in_order(struct app *app) {
    int64_t deadline_ms = clock_ms() + app->conf->stop_timeout_ms;
    agent_announce_leave(app->agent);
    leader_stop(app->leader);
    agent_stop(app->agent);
    main_join_threads(THREAD_AGENT);
    main_join_threads(THREAD_LEADER);
    enum err err =
        workers_stop_all(app->workers, "node_stopping", true, app->conf->stop_timeout_ms / 2);
    for (size_t i = 0; app->sinks[i]; i++) {
        int64_t left_ms = deadline_ms - clock_ms();
        sink_stop(app->sinks[i], left_ms > 1000 ? left_ms / 2 : 500);
    }
    main_join_threads(THREAD_SINK);
    int64_t left_ms = deadline_ms - clock_ms();
    enum err left = agent_leave(app->agent, left_ms > 1000 ? left_ms : 1000);
    node_stop(app->node);
    main_join_threads(THREAD_HEARTBEAT);
    event_bus_stop(app->event_bus);
    main_join_threads(THREAD_EVENT_BUS);
    http_server_stop(app->http);
    main_join_threads(THREAD_HTTP_HANDLER);
    peer_calls_stop(app->peer_calls);
    main_join_threads(THREAD_PEER_CALLS);
    main_join_threads(THREAD_STREAMS);
    if (err != ERR_OK || left != ERR_OK) {
        return ERR_TIMEOUT;
    }
    workers_stop_threads(app->workers);
    main_join_threads(THREAD_WORKER);
    main_join_threads(THREAD_RESOLVER);
    return ERR_OK;
}

static enum err main_stop(struct app *app) {
    struct stop_remaining left;
    notify_send("STOPPING=1");
    stop_progress_begin(app->stop_progress);
    main_start_thread_late(app, THREAD_STOP_PROGRESS);
    enum err err = main_stop_in_order(app);
    stop_progress_remaining(app->stop_progress, &left);
    stop_progress_end(app->stop_progress);
    main_join_threads(THREAD_STOP_PROGRESS);
    bool complete = err == ERR_OK && left.messages == 0;
    log_event(complete ? LOG_INFO : LOG_ERROR, complete ? "stop_complete" : "stop_incomplete",
              KI("clients", left.clients), KI("messages", left.messages),
              KI("releases", left.unreleased));
    return err;
}

/* New files are readable by this user only. Proxy variables do not apply to brokers (Paho would
 * silently obey them). A closed peer is an error code, not a signal. */
static void main_prepare_process(sigset_t *signals) {
    umask(077);
    static const char *const proxies[] = {"http_proxy",  "https_proxy", "HTTP_PROXY",
                                          "HTTPS_PROXY", "all_proxy",   "ALL_PROXY"};
    for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++) {
        unsetenv(proxies[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a write beyond the size limit is EFBIG, an error of the sink */
    signal(SIGHUP, SIG_DFL);  /* nohup ignores SIGHUP, and the signal would not be received */
    sigemptyset(signals);
    sigaddset(signals, SIGHUP);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
}

static enum err main_load_secrets(struct app *app, char fault[CONF_FAULT_LEN]) {
    char detail[SECRET_BOX_FAULT_LEN] = "out of memory";
    app->secrets = secret_box_create();
    enum err err = app->secrets ? secret_box_load(app->secrets, app->conf->secrets_key_file, detail)
                                : ERR_MEMORY;
    snprintf(fault, CONF_FAULT_LEN, "secrets.key_file: %s", detail);
    return err;
}

static void main_warn_insecure(const struct conf *conf) {
    bool guarded = conf->http_tokens_file[0] != '\0';
    bool loopback = http_address_is_loopback(conf->http_listen) &&
                    (conf->ops_port == 0 || http_address_is_loopback(conf->ops_listen));
    const char *const secrets[] = {conf->fleet_secret_file, conf->http_tls_key_file,
                                   conf->secrets_key_file, conf->redis_tls_key_file};
    for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        if (secrets[i][0] != '\0') {
            secret_file_warn(secrets[i]);
        }
    }
    if (!guarded && !loopback) {
        log_event(LOG_WARN, "insecure", KS("setting", "http.insecure"),
                  KS("detail", "callers of the HTTP API are not authenticated"));
    } else if (!loopback && conf->http_tls_cert_file[0] == '\0') {
        log_event(LOG_WARN, "insecure", KS("setting", "http.tls_cert_file"),
                  KS("detail", "tokens and the fleet's secret are sent unencrypted"));
    }
}

static int main_run(struct app *app) {
    char fault[FAULT_LEN];
    sigset_t signals;
    crash_prepare();
    if (log_start((size_t)app->conf->log_buffer_bytes) != ERR_OK) {
        fputs("mqfleetd: cannot start the log: no memory, or no thread\n", stderr);
        return EXIT_FAILURE;
    }
    if (system_limits_check(app->conf, fault) != ERR_OK) {
        log_stop(LOG_STOP_MS);
        fprintf(stderr, "mqfleetd: %s\n", fault);
        return EXIT_BAD_CONF;
    }
    main_prepare_process(&signals);
    notify_open();
    log_event(LOG_INFO, "starting", KS("version", MQFLEET_VERSION),
              KS("node", app->conf->node_name), KS("engine", app->conf->engine));
    main_warn_insecure(app->conf);
    if (main_start(app, fault) != ERR_OK) {
        log_event(LOG_ERROR, "start_failed", KS("detail", fault));
        notify_send("STATUS=start failed: %s", fault);
        redis_server_stop(app->redis_server);
        return EXIT_FAILURE;
    }
    log_event(LOG_INFO, "started", KS("listen", app->conf->http_listen),
              KI("port", app->conf->node_port));
    /* Reported before Redis answers: a node waits for Redis, and its service manager must not wait
     * too. */
    notify_send("READY=1\nSTATUS=started");
    const char *reason = main_wait(app, &signals);
    if (reason) {
        main_join_threads(THREAD_AGENT); /* the agent gave up, and its thread returns */
        notify_send("STATUS=giving up: %s", reason);
        log_event(LOG_ERROR, "giving_up", KS("node", app->conf->node_name), KS("detail", reason));
        redis_server_stop(app->redis_server);
        return agent_in_other_fleet(app->agent) ? EXIT_OTHER_FLEET : EXIT_NAME_IN_USE;
    }
    main_exit_on_second_signal(&signals);
    if (main_stop(app) != ERR_OK) {
        redis_server_stop(app->redis_server);
        return EXIT_FAILURE;
    }
    app_destroy(app);
    log_event(LOG_INFO, "stopped", KI("exit", 0));
    return EXIT_SUCCESS;
}

static enum err main_check_redis_urls(const struct conf *conf, char *fault) {
    const struct {
        const char *setting, *url;
    } urls[] = {{"redis_config.url", conf->redis_url}, {"sink.url", conf->sink_url}};
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        char detail[REDIS_URL_FAULT_LEN] = "";
        bool to_check = urls[i].url[0] != '\0' && strcmp(urls[i].url, "embedded") != 0;
        enum err err = to_check ? redis_url_check(urls[i].url, detail) : ERR_OK;
        if (err != ERR_OK) {
            snprintf(fault, CONF_FAULT_LEN, "%s: %s", urls[i].setting, detail);
            return err;
        }
    }
    return ERR_OK;
}

/* Instead of running; the exit code. */
static int main_report_settings(struct app *app, bool print) {
    if (print) {
        conf_print(app->conf, stdout);
    } else {
        puts("mqfleetd: the settings are valid");
    }
    http_certificate_unload();
    access_destroy(app->access);
    secret_box_destroy(app->secrets);
    conf_destroy(app->conf);
    return command_line_flush_output();
}

int main(int argc, char **argv) {
    std_streams_open();
    struct command_line line = {.sets = calloc((size_t)argc + 1, sizeof(char *))};
    if (!line.sets) {
        return EXIT_FAILURE;
    }
    command_line_parse(&line, argc, argv);
    static struct app app;
    char fault[CONF_FAULT_LEN];
    mallopt(M_TRIM_THRESHOLD,
            FREE_BYTES_MIN); /* otherwise frequent allocations of messages cause page faults */
    enum err err = conf_load(&app.conf, line.config, line.sets, line.set_count, fault);
    if (err == ERR_OK && line.action == ACTION_RUN) {
        heap_profile_start(app.conf->profile_heap_sample_bytes);
    }
    app.origin = (struct conf_origin){line.config, line.sets, line.set_count};
    if (err == ERR_OK) {
        app_set_logging(app.conf, app.conf);
        bool guarded = client_file_guard_own(app.conf) && client_file_guard(line.config);
        assert(guarded); /* these have room */
        (void)guarded;
    }
    if (err == ERR_OK) {
        err = main_check_redis_urls(app.conf, fault);
    }
    if (err == ERR_OK) {
        err = main_load_secrets(&app, fault);
    }
    if (err == ERR_OK) {
        err = access_create(&app.access, app.conf, fault);
    }
    if (err == ERR_OK && app.conf->http_tls_cert_file[0] != '\0') {
        err =
            http_certificate_load(app.conf->http_tls_cert_file, app.conf->http_tls_key_file, fault);
    }
    if (err == ERR_OK) {
        err = redis_tls_load(app.conf->redis_tls_ca_file, app.conf->redis_tls_cert_file,
                             app.conf->redis_tls_key_file, fault);
    }
    if (err != ERR_OK) {
        fprintf(stderr, "mqfleetd: %s\n", fault);
        return err == ERR_MEMORY ? EXIT_FAILURE : EXIT_BAD_CONF; /* a later start may succeed */
    }
    if (line.action != ACTION_RUN) {
        return main_report_settings(&app, line.action == ACTION_PRINT);
    }
    int code = main_run(&app);
    log_stop(LOG_STOP_MS);
    /* After an unclean stop some threads still run, so their memory is not freed. */
    if (code != EXIT_SUCCESS) {
        _exit(code);
    }
    return code;
}
