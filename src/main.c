/* mqfleetd: reads its settings, starts everything in order, waits for a signal, stops in reverse.
 * Every thread of the process is a row of `threads` below (libmicrohttpd and Paho keep their own).
 *
 * Exit codes: 0 stopped cleanly; 1 could not start, or could not stop cleanly; 2 bad settings or
 * usage; 3 another live node uses this node's name. */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/conf.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/pulse.h"
#include "base/secret_file.h"
#include "base/secret_box.h"
#include "cluster/agent.h"
#include "cluster/news.h"
#include "cluster/node.h"
#include "cluster/peers.h"
#include "http/access.h"
#include "http/certificate.h"
#include "http/listener.h"
#include "http/server.h"
#include "http/tokens.h"
#include "mqtt/hosts.h"
#include "net/http_client.h"
#include "net/redis.h"
#include "net/redis_server.h"
#include "net/redis_url.h"
#include "sink/sink.h"
#include "store/store.h"
#include "progress.h"

#define EXIT_BAD_CONF     2
#define EXIT_NAME_IN_USE  3
#define SINKS_MAX         3
#define THREADS_MAX       2048
#define FAULT_LEN         512
#define RESTART_NAMES_MAX 16
#define TURN_MS           200 /* of the main thread */
#define COMPLAINT_MS      10000
#define AWAY_MS           1000
#define FREE_BYTES_MIN    4194304
#define EMBEDDED_START_MS 60000
#define PEER_CLIENTS      16

/* What the settings come from, read again on SIGHUP. */
struct conf_origin {
    const char *config;
    const char **sets;
    size_t set_count;
};

struct app {
    struct conf_origin origin;
    struct conf *conf;
    struct access *access;
    struct redis_server *redis_server;
    const char *redis_url;
    struct secret_box *secrets;
    struct store *heartbeat_store, *agent_store, *api_store;
    struct sink *sinks[SINKS_MAX + 1]; /* NULL-terminated, the default first */
    struct node *node;
    struct hosts *hosts;
    struct peers *peers, *agent_peers;
    struct agent *agent;
    struct http_server *http;
    struct news *news;
    struct taps *taps;
    struct progress *progress;
};

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

static size_t waiter_count(const struct app *app) {
    return (size_t)app->conf->http_waiters;
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

static int64_t heartbeat_still_ms(const struct app *app) {
    return app->conf->stall_ms + app->conf->heartbeat_ms + app->conf->redis_timeout_ms;
}

static int64_t agent_still_ms(const struct app *app) {
    return app->conf->stall_ms + app->conf->redis_timeout_ms + app->conf->peer_timeout_ms;
}

static void *the_worker(struct app *app, size_t index) {
    (void)index;
    return http_server_worker(app->http);
}

static void *the_waiter(struct app *app, size_t index) {
    (void)index;
    return http_server_waiter(app->http);
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
    THREAD_SCHEDULER,
    THREAD_HTTP,
    THREAD_WAITER,
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
    {"scheduler", THREAD_SCHEDULER, one, agent_schedule_run, the_agent, agent_still_ms},
    {"http", THREAD_HTTP, worker_count, http_worker_run, the_worker, NULL},
    {"http-wait", THREAD_WAITER, waiter_count, http_worker_run, the_waiter, NULL},
    {"http-streams", THREAD_STREAMS, one, http_streams_run, the_streams, NULL},
    {"news", THREAD_NEWS, one, news_run, the_news, NULL},
    {"progress", THREAD_PROGRESS, one, progress_run, the_progress, NULL},
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

static void threads_join(enum thread_kind kind) {
    for (size_t i = 0; i < running_count; i++) {
        if (running[i].kind == kind) {
            pthread_join(running[i].id, NULL);
        }
    }
}

/* ---- what joins the layers that are blind to each other ----------------------------------------
 */

static bool lease_valid(void *context) {
    struct app *app = context;
    return node_lease_valid(app->node);
}

static void wants_release(void *context, const struct hosts_release *release) {
    struct app *app = context;
    agent_wants_release(app->agent, release);
}

static void client_stable(void *context, const char *id) {
    struct app *app = context;
    agent_client_stable(app->agent, id);
}

static void client_changed(void *context, const char *id, enum client_state from,
                           enum client_state to, const char *reason) {
    struct app *app = context;
    news_client(app->news, id, from, to, reason);
}

static struct sink *sink_of(struct app *app, const char *name) {
    for (size_t i = 0; name && app->sinks[i]; i++) {
        struct sink_status status;
        sink_status(app->sinks[i], &status);
        if (strcmp(status.type, name) == 0) {
            return app->sinks[i];
        }
    }
    return app->sinks[0];
}

static enum err deliver(void *context, const char *sink, struct message *message,
                        void (*accepted)(void *accepted_context, enum err result),
                        void *accepted_context) {
    struct app *app = context;
    struct tap_note *note = taps_note(app->taps, message);
    enum err result = sink_submit(sink_of(app, sink), message, accepted, accepted_context);
    taps_tell(app->taps, note, result == ERR_OK || result == ERR_REFUSED);
    return result;
}

static bool has_room(void *context, const char *sink) {
    return sink_has_room(sink_of(context, sink));
}

static void wait_room(void *context, const char *sink, int64_t timeout_ms) {
    sink_wait_room(sink_of(context, sink), timeout_ms);
}

/* ---- start ----------------------------------------------------------------------------------- */

static enum err redis_start(struct app *app, char *fault) {
    if (strcmp(app->conf->redis_url, "embedded") != 0) {
        app->redis_url = app->conf->redis_url;
        return ERR_OK;
    }
    enum err result =
        redis_server_start(&app->redis_server, app->conf->state_dir, EMBEDDED_START_MS, fault);
    if (result == ERR_OK) {
        app->redis_url = redis_server_url(app->redis_server);
        log_event(LOG_INFO, "embedded_redis", KS("url", app->redis_url));
    }
    return result;
}

static enum err stores_open(struct app *app) {
    const struct conf *conf = app->conf;
    /* A beat that takes longer than its period is worth nothing. */
    int64_t beat_timeout_ms =
        conf->redis_timeout_ms < conf->heartbeat_ms ? conf->redis_timeout_ms : conf->heartbeat_ms;
    app->heartbeat_store = store_open(app->redis_url, conf->key_prefix, beat_timeout_ms, 1);
    app->agent_store = store_open(app->redis_url, conf->key_prefix, conf->redis_timeout_ms, 2);
    app->api_store = store_open(app->redis_url, conf->key_prefix, conf->redis_timeout_ms,
                                (size_t)conf->http_workers + 4);
    if (!app->heartbeat_store || !app->agent_store || !app->api_store) {
        return ERR_MEMORY;
    }
    store_require_replicas(app->agent_store, conf->min_replicas, conf->min_replicas_timeout_ms);
    store_require_replicas(app->api_store, conf->min_replicas, conf->min_replicas_timeout_ms);
    return ERR_OK;
}

/* The default sink first, then the others that a client may name and that can be had. */
static enum err sinks_create(struct app *app, char *fault) {
    static const char *const types[SINKS_MAX] = {"redis_stream", "file", "null"};
    const struct conf *conf = app->conf;
    static char stream_key[512];
    snprintf(stream_key, sizeof(stream_key), "%s%s", conf->key_prefix, conf->sink_key);
    struct sink_config config = {.node = conf->node_name,
                                 .redis_url = app->redis_url,
                                 .redis_timeout_ms = conf->redis_timeout_ms,
                                 .stream_key = stream_key,
                                 .stream_maxlen = conf->sink_maxlen,
                                 .file_path = conf->sink_path,
                                 .queue_messages = (size_t)conf->sink_queue_messages,
                                 .queue_bytes = (size_t)conf->sink_queue_bytes,
                                 .batch_messages = (size_t)conf->sink_batch,
                                 .interval_ms = conf->sink_interval_ms};
    config.type = conf->sink_type;
    enum err result = sink_create(&app->sinks[0], &config, fault);
    for (size_t i = 0, n = 1; result == ERR_OK && i < SINKS_MAX; i++) {
        bool usable = strcmp(types[i], "file") != 0 || conf->sink_path[0] != '\0';
        if (usable && strcmp(types[i], conf->sink_type) != 0) {
            config.type = types[i];
            result = sink_create(&app->sinks[n++], &config, fault);
        }
    }
    return result;
}

static enum err parts_create(struct app *app) {
    const struct conf *conf = app->conf;
    struct hosts_owner owner = {.context = app,
                                .lease_valid = lease_valid,
                                .wants_release = wants_release,
                                .stable = client_stable,
                                .changed = client_changed,
                                .deliver = deliver,
                                .has_room = has_room,
                                .wait_room = wait_room};
    app->news = news_create(conf, app->api_store, app->redis_url);
    app->taps = taps_create();
    app->node = node_create(conf, app->heartbeat_store);
    app->hosts = hosts_create(conf, &owner);
    struct fleet_secret *secret = access_fleet_secret(app->access);
    app->peers = peers_create(conf, secret, PEER_CLIENTS);
    app->agent_peers = peers_create(conf, secret, 1);
    if (!app->news || !app->taps || !app->node || !app->hosts || !app->peers || !app->agent_peers) {
        return ERR_MEMORY;
    }
    app->agent = agent_create(&(struct agent_wiring){.conf = conf,
                                                     .node = app->node,
                                                     .store = app->agent_store,
                                                     .redis_url = app->redis_url,
                                                     .hosts = app->hosts,
                                                     .peers = app->agent_peers,
                                                     .secrets = app->secrets,
                                                     .sink = app->sinks[0]});
    if (!app->agent) {
        return ERR_MEMORY;
    }
    app->progress = progress_create(app->hosts, app->sinks, app->agent);
    return app->progress ? ERR_OK : ERR_MEMORY;
}

static enum err app_start(struct app *app, char *fault) {
    snprintf(fault, FAULT_LEN, "out of memory");
    enum err result = http_client_global_init();
    if (result == ERR_OK) {
        result = redis_start(app, fault);
    }
    if (result == ERR_OK) {
        result = stores_open(app);
    }
    if (result == ERR_OK) {
        result = sinks_create(app, fault);
    }
    if (result == ERR_OK) {
        result = parts_create(app);
    }
    if (result == ERR_OK) {
        result = http_server_start(&app->http,
                                   &(struct http_context){.conf = app->conf,
                                                          .access = app->access,
                                                          .store = app->api_store,
                                                          .node = app->node,
                                                          .agent = app->agent,
                                                          .hosts = app->hosts,
                                                          .peers = app->peers,
                                                          .sinks = app->sinks,
                                                          .news = app->news,
                                                          .taps = app->taps,
                                                          .secrets = app->secrets},
                                   fault);
    }
    return result == ERR_OK ? threads_start(app, fault) : result;
}

/* ---- wait and stop -----------------------------------------------------------------------------
 */

static void stop_at_once(int signal_number) {
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

/* What a large request or claim left behind goes back to the system once it is a good part of all:
 * the heap of ten thousand clients would otherwise look like that of twenty thousand. */
static void return_memory(struct app *app) {
    (void)app;
    struct mallinfo2 info = mallinfo2();
    if (info.fordblks > FREE_BYTES_MIN && info.fordblks > (info.uordblks + info.fordblks) / 4) {
        malloc_trim(0);
    }
}

static void tend_redis(struct app *app) {
    if (app->redis_server) {
        redis_server_tend(app->redis_server);
    }
}

/* Only while all that matters makes progress, this thread included: else the service manager ends
 * the process and starts it anew. */
static void tend_watchdog(struct app *app) {
    static int64_t pinged_ms, complained_ms, looked_ms;
    int64_t still_ms, now_ms = clock_ms();
    const char *hanging = pulse_stalled(&still_ms);
    (void)app;
    /* The whole process, or the machine, stood still: the others are to have their turn first. */
    hanging = now_ms - looked_ms > AWAY_MS ? NULL : hanging;
    looked_ms = now_ms;
    if (hanging != NULL && now_ms - complained_ms >= COMPLAINT_MS) {
        complained_ms = now_ms;
        log_event(LOG_ERROR, "thread_hangs", KS("thread", hanging), KI("still_ms", still_ms));
    }
    int64_t period_ms = notify_watchdog_ms();
    if (hanging == NULL && period_ms > 0 && now_ms - pinged_ms >= period_ms - TURN_MS) {
        pinged_ms = now_ms;
        notify_hint("WATCHDOG=1");
    }
}

static void tend_status(struct app *app) {
    int64_t counts[CLIENT_STATE_COUNT];
    hosts_state_counts(app->hosts, counts);
    notify_hint("STATUS=%s: %lld clients, %lld online",
                node_membership_name(node_membership(app->node)),
                (long long)hosts_count(app->hosts), (long long)counts[CLIENT_ONLINE]);
}

static void tend(struct app *app) {
    static struct {
        int64_t period_ms, done_at_ms;
        void (*run)(struct app *app);
    } rows[] = {{0, 0, tend_watchdog},
                {1000, 0, tend_redis},
                {5000, 0, tend_status},
                {10000, 0, return_memory}};
    int64_t now_ms = clock_ms();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (now_ms - rows[i].done_at_ms >= rows[i].period_ms) {
            rows[i].done_at_ms = now_ms;
            rows[i].run(app);
        }
    }
}

/* ---- SIGHUP ------------------------------------------------------------------------------------
 */

static void log_by(const struct conf *level_of, const struct conf *format_of) {
    enum log_level level = LOG_INFO;
    enum log_format format = LOG_LOGFMT;
    log_level_parse(level_of->log_level, &level); /* both have been checked */
    log_format_parse(format_of->log_format, &format);
    log_setup(level, format);
}

static enum err reload_log_level(struct app *app, const struct conf *fresh, char *fault) {
    (void)fault;
    log_by(fresh, app->conf);
    return ERR_OK;
}

static enum err reload_secrets(struct app *app, const struct conf *fresh, char *fault) {
    char detail[SECRET_BOX_FAULT_LEN] = "";
    enum err result = secret_box_load(app->secrets, fresh->secrets_key_file, detail);
    snprintf(fault, FAULT_LEN, "%s", detail);
    return result;
}

static enum err reload_tokens(struct app *app, const struct conf *fresh, char *fault) {
    (void)fresh;
    return access_reload(app->access, fault);
}

static enum err reload_fleet_secret(struct app *app, const struct conf *fresh, char *fault) {
    (void)fresh;
    return fleet_secret_reload(access_fleet_secret(app->access), fault);
}

static enum err reload_certificate(struct app *app, const struct conf *fresh, char *fault) {
    const struct conf *conf = app->conf;
    (void)fresh;
    return conf->http_tls_cert_file[0] != '\0'
               ? http_certificate_load(conf->http_tls_cert_file, conf->http_tls_key_file, fault)
               : ERR_OK;
}

/* What SIGHUP takes over, a row each: settings that take effect at once ("" for none beside), and
 * the files they name, which are read again. One that cannot be read leaves things as they were.
 */
static const struct {
    const char *setting;
    bool moves; /* a new value of the setting itself is taken over as well */
    enum err (*reload)(struct app *app, const struct conf *fresh, char *fault);
} reloads[] = {
    {"log.level", true, reload_log_level},
    {"secrets.key_file", true, reload_secrets},
    {"http.tokens_file", false, reload_tokens},
    {"fleet.secret_file", false, reload_fleet_secret},
    {"http.tls_cert_file", false, reload_certificate},
};

#define RELOAD_COUNT (sizeof(reloads) / sizeof(reloads[0]))

static bool is_taken_over(const char *setting) {
    for (size_t i = 0; i < RELOAD_COUNT; i++) {
        if (reloads[i].moves && strcmp(reloads[i].setting, setting) == 0) {
            return true;
        }
    }
    return false;
}

/* Names every setting that was changed and has no effect yet. Compared with those of the start, so
 * that it is said again as long as it holds. */
static void tell_restart(const struct app *app, const struct conf *fresh) {
    const char *names[RESTART_NAMES_MAX];
    char list[FAULT_LEN] = "";
    size_t n = conf_differences(app->conf, fresh, names, RESTART_NAMES_MAX);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(list);
        if (!is_taken_over(names[i])) {
            snprintf(list + len, sizeof(list) - len, "%s%s", len > 0 ? " " : "", names[i]);
        }
    }
    if (list[0] != '\0') {
        log_event(LOG_WARN, "reload_needs_restart", KS("settings", list));
    }
}

static int64_t monotonic_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* the manager's own clock, whatever ours is */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Settings that cannot be read leave those of before in force; the files they name are read again
 * all the same, so that a token can be taken away. */
static void reload(struct app *app) {
    struct conf *fresh = NULL;
    notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)monotonic_us());
    char fault[FAULT_LEN > CONF_FAULT_LEN ? FAULT_LEN : CONF_FAULT_LEN];
    bool failed = conf_load(&fresh, app->origin.config, app->origin.sets, app->origin.set_count,
                            fault) != ERR_OK;
    if (failed) {
        log_event(LOG_ERROR, "reload_failed", KS("detail", fault));
    }
    if (fresh != NULL) {
        (void)limits_fit_files(fresh, limits_raise_files()); /* as those of the start */
    }
    for (size_t i = 0; i < RELOAD_COUNT; i++) {
        fault[0] = '\0';
        if (reloads[i].reload(app, fresh != NULL ? fresh : app->conf, fault) != ERR_OK) {
            log_event(LOG_ERROR, "reload_failed", KS("setting", reloads[i].setting),
                      KS("detail", fault));
            failed = true;
        }
    }
    if (fresh != NULL) {
        tell_restart(app, fresh);
    }
    conf_destroy(fresh);
    log_event(failed ? LOG_WARN : LOG_INFO, "reloaded", KS("node", app->conf->node_name),
              KS("in_part", failed ? "true" : NULL));
    notify_send("READY=1%s", failed ? "\nSTATUS=reloaded in part: see the log" : "");
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
            reload(app);
        }
        tend(app);
        const char *fault = agent_fault(app->agent);
        if (fault) {
            return fault;
        }
    }
}

/* Rule 9: no new claims, DISCONNECT, sinks flushed, release, leave. ERR_OK: all of it worked. */
static enum err stop_parts(struct app *app) {
    int64_t deadline_ms = clock_ms() + app->conf->stop_timeout_ms;
    agent_stop(app->agent);
    threads_join(THREAD_AGENT);
    threads_join(THREAD_SCHEDULER);
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
    threads_join(THREAD_WAITER);
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

static void app_destroy(struct app *app) {
    progress_destroy(app->progress);
    http_server_destroy(app->http);
    news_destroy(app->news);
    taps_destroy(app->taps);
    http_certificate_unload();
    agent_destroy(app->agent);
    hosts_destroy(app->hosts);
    peers_destroy(app->peers);
    peers_destroy(app->agent_peers);
    node_destroy(app->node);
    for (size_t i = 0; app->sinks[i]; i++) {
        sink_destroy(app->sinks[i]);
    }
    store_close(app->api_store);
    store_close(app->agent_store);
    store_close(app->heartbeat_store);
    redis_server_stop(app->redis_server);
    secret_box_destroy(app->secrets);
    access_destroy(app->access);
    conf_destroy(app->conf);
}

/* ---- command line ------------------------------------------------------------------------------
 */

static const char usage[] =
    "usage: mqfleetd [--config FILE] [--set KEY=VALUE]... [ACTION]\n"
    "Keeps MQTT clients connected and forwards what they receive.\n"
    "\n"
    "  --config FILE       YAML settings\n"
    "  --set KEY=VALUE     one setting; over the environment (MQFLEET_*), over the file\n"
    "actions instead of running:\n"
    "  --check-config      check the settings and exit: 0 good, 2 bad\n"
    "  --print-config      print the settings in effect as YAML\n"
    "  --print-reference   print every setting as a Markdown table\n"
    "  --new-key           print a line for secrets.key_file\n"
    "  --new-token NAME ROLE\n"
    "                      make a token (viewer, operator or admin): prints the token, and the\n"
    "                      line for http.tokens_file\n"
    "  --hash-token        read a token from standard input, print its hash for http.tokens_file\n"
    "  --version, --help\n"
    "signals: SIGTERM, SIGINT stop gracefully, twice at once; SIGHUP reads the settings, and\n"
    "the files of tokens, secrets, keys and certificate again.\n";

enum action { ACTION_RUN, ACTION_CHECK, ACTION_PRINT };

struct command_line {
    const char *config;
    const char **sets;
    size_t set_count;
    enum action action;
};

static int print_new_key(void) {
    char *line = secret_new_key();
    int code = line != NULL && puts(line) >= 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    free(line);
    return code;
}

static int new_token(const char *name, const char *role) {
    char token[TOKEN_CREATED_LEN], hashed[TOKEN_HASHED_LEN];
    if (!token_name_good(name) || !role || role_parse(role) == ROLE_NONE) {
        fputs("mqfleetd: --new-token NAME ROLE: the name of 1 to 64 letters, digits and - _ . @, "
              "the role one of viewer, operator, admin\n",
              stderr);
        return EXIT_BAD_CONF;
    }
    if (token_create(token) != ERR_OK) {
        fputs("mqfleetd: no random bytes from the kernel\n", stderr);
        return EXIT_FAILURE;
    }
    token_hash_text(token, hashed);
    printf("token  %s\nline   %s %s %s\n", token, name, role, hashed);
    return EXIT_SUCCESS;
}

static int hash_token(void) {
    char token[TOKEN_LEN_MAX + 2], hashed[TOKEN_HASHED_LEN];
    size_t len = fread(token, 1, sizeof(token) - 1, stdin);
    len -= len > 0 && token[len - 1] == '\n';
    token[len] = '\0';
    bool good = len >= TOKEN_LEN_MIN && len <= TOKEN_LEN_MAX && strlen(token) == len;
    for (size_t i = 0; i < len; i++) {
        good = good && token[i] > ' ' && token[i] < 0x7F;
    }
    if (!good) {
        fprintf(stderr,
                "mqfleetd: --hash-token: standard input must be one token of %d to %d printable "
                "ASCII characters without blanks\n",
                TOKEN_LEN_MIN, TOKEN_LEN_MAX);
        return EXIT_BAD_CONF;
    }
    token_hash_text(token, hashed);
    puts(hashed);
    return EXIT_SUCCESS;
}

/* Exits for --help, --version, --print-reference and for bad usage. */
static void command_line_parse(struct command_line *line, int argc, char **argv) {
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"set", required_argument, NULL, 's'},
                                            {"check-config", no_argument, NULL, 'k'},
                                            {"print-config", no_argument, NULL, 'p'},
                                            {"print-reference", no_argument, NULL, 'r'},
                                            {"new-key", no_argument, NULL, 'w'},
                                            {"new-token", required_argument, NULL, 'n'},
                                            {"hash-token", no_argument, NULL, 't'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            line->config = optarg;
            break;
        case 's':
            line->sets[line->set_count++] = optarg;
            break;
        case 'k':
            line->action = ACTION_CHECK;
            break;
        case 'p':
            line->action = ACTION_PRINT;
            break;
        case 'r':
            conf_print_reference(stdout);
            exit(EXIT_SUCCESS);
        case 'w':
            exit(print_new_key());
        case 'n':
            exit(new_token(optarg, optind + 1 == argc ? argv[optind] : NULL));
        case 't':
            exit(hash_token());
        case 'v':
            puts("mqfleetd " MQFLEET_VERSION);
            exit(EXIT_SUCCESS);
        case 'h':
            fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        default:
            fputs("mqfleetd: see mqfleetd --help\n", stderr);
            exit(EXIT_BAD_CONF);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "mqfleetd: %s: not an option, see mqfleetd --help\n", argv[optind]);
        exit(EXIT_BAD_CONF);
    }
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
    sigaddset(signals, SIGHUP);
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
    if (conf->fleet_secret_file[0] != '\0') {
        secret_file_warn(conf->fleet_secret_file);
    }
    if (conf->http_tls_key_file[0] != '\0') {
        secret_file_warn(conf->http_tls_key_file);
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
    process_prepare(&signals);
    notify_open();
    if (limits_check(app->conf, fault) != ERR_OK) {
        fprintf(stderr, "mqfleetd: %s\n", fault);
        return EXIT_BAD_CONF;
    }
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
        notify_send("STATUS=giving up: %s", reason);
        log_event(LOG_ERROR, "giving_up", KS("node", app->conf->node_name), KS("detail", reason));
        redis_server_stop(app->redis_server);
        return EXIT_NAME_IN_USE;
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

int main(int argc, char **argv) {
    struct command_line line = {.sets = calloc((size_t)argc + 1, sizeof(char *))};
    if (!line.sets) {
        return EXIT_FAILURE;
    }
    command_line_parse(&line, argc, argv);
    static struct app app;
    char fault[CONF_FAULT_LEN];
    mallopt(M_TRIM_THRESHOLD, FREE_BYTES_MIN); /* else messages that come and go cost page faults */
    enum err result = conf_load(&app.conf, line.config, line.sets, line.set_count, fault);
    app.origin = (struct conf_origin){line.config, line.sets, line.set_count};
    if (result == ERR_OK) {
        log_by(app.conf, app.conf);
    }
    if (result == ERR_OK && strcmp(app.conf->redis_url, "embedded") != 0) {
        char detail[REDIS_URL_FAULT_LEN] = "";
        result = redis_url_check(app.conf->redis_url, detail);
        snprintf(fault, sizeof(fault), "redis_config.url: %s", detail);
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
    if (result != ERR_OK) {
        fprintf(stderr, "mqfleetd: %s\n", fault);
        return EXIT_BAD_CONF;
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
        return EXIT_SUCCESS;
    }
    int code = run(&app);
    /* After a stop that was not clean some threads still run: their memory is not touched again. */
    if (code != EXIT_SUCCESS) {
        _exit(code);
    }
    return code;
}
