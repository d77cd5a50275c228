/* mqfleetd: reads its settings, starts everything in order, waits for a signal, stops in reverse.
 * Every thread of the process is a row of `threads` below (the log, libmicrohttpd and Paho keep
 * their own).
 *
 * Exit codes: 0 stopped cleanly; 1 could not start, or could not stop cleanly; 2 bad settings or
 * usage; 3 another live node uses this node's name; 4 Redis belongs to another fleet. */
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

#include "app/app.h"
#include "app/command_line.h"
#include "app/crash.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log_writer.h"
#include "base/notify.h"
#include "base/pulse.h"
#include "base/secret_file.h"
#include "base/std_streams.h"
#include "base/client_file.h"
#include "http/certificate.h"
#include "http/listener.h"
#include "profile/heap.h"
#include "net/redis.h"
#include "net/redis_tls.h"
#include "net/redis_url.h"

#define THREADS_MAX    2048
#define TURN_MS        200 /* of the main thread */
#define LOG_STOP_MS    5000
#define LAST_LINES_MS  100 /* when a second signal ends the process at once */
#define FREE_BYTES_MIN 4194304

/* ---- threads --------------------------------------------------------------------------------- */

static size_t one(const struct app *app) {
    (void)app;
    return 1;
}

static size_t sink_count(const struct app *app) {
    size_t n = 0;
    while (app->sinks[n]) {
        n++;
    }
    return n;
}

static size_t host_count(const struct app *app) {
    return hosts_thread_count(app->hosts);
}

static size_t resolver_count(const struct app *app) {
    return (size_t)app->conf->resolver_threads;
}

static size_t worker_count(const struct app *app) {
    return (size_t)app->conf->http_workers;
}

/* Those that are started later. */
static size_t none(const struct app *app) {
    (void)app;
    return 0;
}

static void *the_sink(struct app *app, size_t index) {
    return app->sinks[index];
}

static void *the_host(struct app *app, size_t index) {
    return hosts_thread(app->hosts, index);
}

static void *the_hosts(struct app *app, size_t index) {
    (void)index;
    return app->hosts;
}

static void *the_node(struct app *app, size_t index) {
    (void)index;
    return app->node;
}

static void *the_agent(struct app *app, size_t index) {
    (void)index;
    return app->agent;
}

static void *the_leader(struct app *app, size_t index) {
    (void)index;
    return app->leader;
}

static void *the_progress(struct app *app, size_t index) {
    (void)index;
    return app->progress;
}

/* Longest time without progress of what the node cannot do without. What waits for Redis or for
 * other nodes is given their bounds as well: a call marks progress when it ends, however it ends.
 */
static int64_t host_still_ms(const struct app *app) {
    return app->conf->stall_ms;
}

/* Without it no deadline of a request is kept. It may sleep that long when it has nothing to do. */
static int64_t calls_still_ms(const struct app *app) {
    return app->conf->stall_ms + PEER_CALLS_TURN_MS_MAX;
}

static int64_t heartbeat_still_ms(const struct app *app) {
    return app->conf->stall_ms + app->conf->heartbeat_ms + app->conf->redis_timeout_ms;
}

static int64_t agent_still_ms(const struct app *app) {
    return app->conf->stall_ms + app->conf->redis_timeout_ms;
}

static void *the_worker(struct app *app, size_t index) {
    (void)index;
    return http_server_worker(app->http);
}

static void *the_calls(struct app *app, size_t index) {
    (void)index;
    return app->calls;
}

static void *the_streams(struct app *app, size_t index) {
    (void)index;
    return http_server_streams(app->http);
}

static void *the_news(struct app *app, size_t index) {
    (void)index;
    return app->news;
}

enum thread_kind {
    THREAD_SINK,
    THREAD_RESOLVER,
    THREAD_HOST,
    THREAD_HEARTBEAT,
    THREAD_AGENT,
    THREAD_LEADER,
    THREAD_HTTP,
    THREAD_CALLS,
    THREAD_STREAMS,
    THREAD_NEWS,
    THREAD_PROGRESS
};

/* In the order they start. Names show in ps -T and gdb. */
static const struct {
    const char *name;
    enum thread_kind kind;
    size_t (*count)(const struct app *app);
    void *(*run)(void *argument);
    void *(*argument)(struct app *app, size_t index);
    int64_t (*still_ms_max)(const struct app *app); /* NULL: not watched */
} threads[] = {
    {"sink", THREAD_SINK, sink_count, sink_run, the_sink, NULL},
    {"resolver", THREAD_RESOLVER, resolver_count, hosts_resolver_run, the_hosts, NULL},
    {"host", THREAD_HOST, host_count, hosts_run, the_host, host_still_ms},
    {"heartbeat", THREAD_HEARTBEAT, one, node_heartbeat_run, the_node, heartbeat_still_ms},
    {"agent", THREAD_AGENT, one, agent_run, the_agent, agent_still_ms},
    {"leader", THREAD_LEADER, one, leader_run, the_leader, agent_still_ms},
    {"http", THREAD_HTTP, worker_count, http_worker_run, the_worker, NULL},
    {"peer-calls", THREAD_CALLS, one, peer_calls_run, the_calls, calls_still_ms},
    {"http-streams", THREAD_STREAMS, one, http_streams_run, the_streams, NULL},
    {"news", THREAD_NEWS, one, news_run, the_news, NULL},
    {"progress", THREAD_PROGRESS, none, progress_run, the_progress, NULL},
};

static struct {
    pthread_t id;
    enum thread_kind kind;
    size_t row;
    void *argument;
    int64_t still_ms_max; /* 0: not watched */
} running[THREADS_MAX];
static size_t running_count;

/* argument: its element of running, complete before the thread starts. */
static void *thread_run(void *argument) {
    size_t index = (size_t)(uintptr_t)argument;
    size_t row = running[index].row;
    if (running[index].still_ms_max > 0) {
        pulse_begin(threads[row].name, running[index].still_ms_max);
    }
    void *result = threads[row].run(running[index].argument);
    pulse_end();
    return result;
}

static int thread_start(struct app *app, size_t row, size_t index) {
    pthread_t id;
    if (running_count == THREADS_MAX) {
        return EAGAIN;
    }
    running[running_count].row = row;
    running[running_count].kind = threads[row].kind;
    running[running_count].argument = threads[row].argument(app, index);
    running[running_count].still_ms_max =
        threads[row].still_ms_max != NULL ? threads[row].still_ms_max(app) : 0;
    int error = pthread_create(&id, NULL, thread_run, (void *)(uintptr_t)running_count);
    if (error == 0) {
        pthread_setname_np(id, threads[row].name);
        running[running_count++].id = id;
    }
    return error;
}

static enum err threads_start(struct app *app, char *fault) {
    for (size_t row = 0; row < sizeof(threads) / sizeof(threads[0]); row++) {
        size_t count = threads[row].count(app);
        for (size_t i = 0; i < count; i++) {
            int error = thread_start(app, row, i);
            if (error != 0) {
                snprintf(fault, FAULT_LEN, "cannot start a %s thread: %s", threads[row].name,
                         strerror(error));
                return ERR_UNAVAILABLE;
            }
        }
    }
    return ERR_OK;
}

/* Of those that are needed only now. Without it the stop goes on, untold. */
static void thread_start_late(struct app *app, enum thread_kind kind) {
    for (size_t row = 0; row < sizeof(threads) / sizeof(threads[0]); row++) {
        if (threads[row].kind == kind && thread_start(app, row, 0) != 0) {
            log_event(LOG_WARN, "thread_not_started", KS("name", threads[row].name));
        }
    }
}

static void threads_join(enum thread_kind kind) {
    for (size_t i = 0; i < running_count; i++) {
        if (running[i].kind == kind) {
            pthread_join(running[i].id, NULL);
        }
    }
}

static enum err app_start(struct app *app, char *fault) {
    enum err result = app_create(app, fault);
    return result == ERR_OK ? threads_start(app, fault) : result;
}

/* ---- wait and stop -----------------------------------------------------------------------------
 */

static void stop_at_once(int signal_number) {
    (void)log_writer_settle(LAST_LINES_MS);
    _exit(128 + signal_number);
}

/* From the first signal on, a second one ends the process at once. */
static void second_signal_exits(const sigset_t *signals) {
    struct sigaction action = {.sa_handler = stop_at_once};
    signal(SIGHUP, SIG_IGN); /* there is nothing left to be read again for */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
}

/* Until SIGTERM or SIGINT, or the agent gives up: then its reason. */
static const char *app_wait(struct app *app, const sigset_t *signals) {
    for (;;) {
        int signal_number =
            sigtimedwait(signals, NULL, &(struct timespec){.tv_nsec = TURN_MS * 1000000});
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            log_event(LOG_INFO, "stopping",
                      KS("signal", signal_number == SIGTERM ? "SIGTERM" : "SIGINT"),
                      KI("clients", hosts_count(app->hosts)));
            return NULL;
        }
        if (signal_number == SIGHUP) {
            app_reload(app);
        }
        app_tend(app, TURN_MS);
        const char *fault = agent_fault(app->agent);
        if (fault) {
            return fault;
        }
    }
}

/* Rule 9: nothing new, DISCONNECT, sinks flushed, release, leave. ERR_OK: all of it worked. */
static enum err stop_parts(struct app *app) {
    int64_t deadline_ms = clock_ms() + app->conf->stop_timeout_ms;
    agent_leaving(app->agent);
    leader_stop(app->leader);
    agent_stop(app->agent);
    threads_join(THREAD_AGENT);
    threads_join(THREAD_LEADER);
    enum err result =
        hosts_stop_all(app->hosts, "node_stopping", true, app->conf->stop_timeout_ms / 2);
    for (size_t i = 0; app->sinks[i]; i++) {
        int64_t left_ms = deadline_ms - clock_ms();
        sink_stop(app->sinks[i], left_ms > 1000 ? left_ms / 2 : 500);
    }
    threads_join(THREAD_SINK);
    int64_t left_ms = deadline_ms - clock_ms();
    enum err left = agent_leave(app->agent, left_ms > 1000 ? left_ms : 1000);
    node_stop(app->node);
    threads_join(THREAD_HEARTBEAT);
    news_stop(app->news);
    threads_join(THREAD_NEWS);
    http_server_stop(app->http);
    threads_join(THREAD_HTTP);
    peer_calls_stop(app->calls);
    threads_join(THREAD_CALLS);
    threads_join(THREAD_STREAMS);
    if (result != ERR_OK || left != ERR_OK) {
        return ERR_TIMEOUT;
    }
    hosts_stop_threads(app->hosts);
    threads_join(THREAD_HOST);
    threads_join(THREAD_RESOLVER);
    return ERR_OK;
}

static enum err app_stop(struct app *app) {
    struct progress_left left;
    notify_send("STOPPING=1");
    progress_begin(app->progress);
    thread_start_late(app, THREAD_PROGRESS);
    enum err result = stop_parts(app);
    progress_left(app->progress, &left);
    progress_end(app->progress);
    threads_join(THREAD_PROGRESS);
    bool complete = result == ERR_OK && left.messages == 0;
    log_event(complete ? LOG_INFO : LOG_ERROR, complete ? "stop_complete" : "stop_incomplete",
              KI("clients", left.clients), KI("messages", left.messages),
              KI("releases", left.releases));
    return result;
}

/* What is written is for this user alone; no proxy of the environment gets between clients and
 * brokers (Paho would obey it silently); a peer that goes away is an error code, not a signal. */
static void process_prepare(sigset_t *signals) {
    umask(077);
    static const char *const proxies[] = {"http_proxy",  "https_proxy", "HTTP_PROXY",
                                          "HTTPS_PROXY", "all_proxy",   "ALL_PROXY"};
    for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++) {
        unsetenv(proxies[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_DFL); /* nohup leaves it ignored, and then it would not be seen */
    sigemptyset(signals);
    sigaddset(signals, SIGHUP);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
}

static enum err secrets_open(struct app *app, char fault[CONF_FAULT_LEN]) {
    char detail[SECRET_BOX_FAULT_LEN] = "out of memory";
    app->secrets = secret_box_create();
    enum err result = app->secrets != NULL
                          ? secret_box_load(app->secrets, app->conf->secrets_key_file, detail)
                          : ERR_MEMORY;
    snprintf(fault, CONF_FAULT_LEN, "secrets.key_file: %s", detail);
    return result;
}

static void warn_insecure(const struct conf *conf) {
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
                  KS("detail", "tokens and the fleet's secret travel unencrypted"));
    }
}

static int run(struct app *app) {
    char fault[FAULT_LEN];
    sigset_t signals;
    crash_prepare();
    if (log_start((size_t)app->conf->log_buffer_bytes) != ERR_OK) {
        fputs("mqfleetd: cannot start the log: no memory, or no thread\n", stderr);
        return EXIT_FAILURE;
    }
    if (limits_check(app->conf, fault) != ERR_OK) {
        log_stop(LOG_STOP_MS);
        fprintf(stderr, "mqfleetd: %s\n", fault);
        return EXIT_BAD_CONF;
    }
    process_prepare(&signals);
    notify_open();
    log_event(LOG_INFO, "starting", KS("version", MQFLEET_VERSION),
              KS("node", app->conf->node_name), KS("engine", app->conf->engine));
    warn_insecure(app->conf);
    if (app_start(app, fault) != ERR_OK) {
        log_event(LOG_ERROR, "start_failed", KS("detail", fault));
        notify_send("STATUS=start failed: %s", fault);
        redis_server_stop(app->redis_server);
        return EXIT_FAILURE;
    }
    log_event(LOG_INFO, "started", KS("listen", app->conf->http_listen),
              KI("port", app->conf->node_port));
    /* Not only once Redis answers: a node waits for it, and is to be waited with. */
    notify_send("READY=1\nSTATUS=started");
    const char *reason = app_wait(app, &signals);
    if (reason) {
        threads_join(THREAD_AGENT); /* it gave up, and returns */
        notify_send("STATUS=giving up: %s", reason);
        log_event(LOG_ERROR, "giving_up", KS("node", app->conf->node_name), KS("detail", reason));
        redis_server_stop(app->redis_server);
        return agent_in_other_fleet(app->agent) ? EXIT_OTHER_FLEET : EXIT_NAME_IN_USE;
    }
    second_signal_exits(&signals);
    if (app_stop(app) != ERR_OK) {
        redis_server_stop(app->redis_server);
        return EXIT_FAILURE;
    }
    app_destroy(app);
    log_event(LOG_INFO, "stopped", KI("exit", 0));
    return EXIT_SUCCESS;
}

static enum err check_redis_urls(const struct conf *conf, char *fault) {
    const struct {
        const char *setting, *url;
    } urls[] = {{"redis_config.url", conf->redis_url}, {"sink.url", conf->sink_url}};
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        char detail[REDIS_URL_FAULT_LEN] = "";
        bool to_check = urls[i].url[0] != '\0' && strcmp(urls[i].url, "embedded") != 0;
        enum err result = to_check ? redis_url_check(urls[i].url, detail) : ERR_OK;
        if (result != ERR_OK) {
            snprintf(fault, CONF_FAULT_LEN, "%s: %s", urls[i].setting, detail);
            return result;
        }
    }
    return ERR_OK;
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
    mallopt(M_TRIM_THRESHOLD, FREE_BYTES_MIN); /* else messages that come and go cost page faults */
    enum err result = conf_load(&app.conf, line.config, line.sets, line.set_count, fault);
    if (result == ERR_OK && line.action == ACTION_RUN) {
        heap_profile_start(app.conf->profile_heap_sample_bytes);
    }
    app.origin = (struct conf_origin){line.config, line.sets, line.set_count};
    if (result == ERR_OK) {
        app_log_by(app.conf, app.conf);
        bool guarded = client_file_guard_own(app.conf) && client_file_guard(line.config);
        assert(guarded); /* there is room for these */
        (void)guarded;
    }
    if (result == ERR_OK) {
        result = check_redis_urls(app.conf, fault);
    }
    if (result == ERR_OK) {
        result = secrets_open(&app, fault);
    }
    if (result == ERR_OK) {
        result = access_create(&app.access, app.conf, fault);
    }
    if (result == ERR_OK && app.conf->http_tls_cert_file[0] != '\0') {
        result =
            http_certificate_load(app.conf->http_tls_cert_file, app.conf->http_tls_key_file, fault);
    }
    if (result == ERR_OK) {
        result = redis_tls_load(app.conf->redis_tls_ca_file, app.conf->redis_tls_cert_file,
                                app.conf->redis_tls_key_file, fault);
    }
    if (result != ERR_OK) {
        fprintf(stderr, "mqfleetd: %s\n", fault);
        return result == ERR_MEMORY ? EXIT_FAILURE : EXIT_BAD_CONF; /* a later start may do */
    }
    if (line.action != ACTION_RUN) {
        if (line.action == ACTION_PRINT) {
            conf_print(app.conf, stdout);
        } else {
            puts("mqfleetd: the settings are good");
        }
        http_certificate_unload();
        access_destroy(app.access);
        secret_box_destroy(app.secrets);
        conf_destroy(app.conf);
        return command_line_printed();
    }
    int code = run(&app);
    log_stop(LOG_STOP_MS);
    /* After a stop that was not clean some threads still run: their memory is not touched again. */
    if (code != EXIT_SUCCESS) {
        _exit(code);
    }
    return code;
}
