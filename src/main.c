/* mqfleetd: reads its settings, starts everything in order, waits for a signal, stops in reverse
 * order. The threads of the process are in wiring/threads.c.
 *
 * Exit codes: 0 stopped cleanly; 1 could not start, or could not stop cleanly; 2 invalid settings
 * or usage; 3 another live node uses this node's name; 4 Redis belongs to another fleet.
 */
#include <assert.h>
#include <malloc.h>
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
#include "wiring/live_check.h"
#include "wiring/node_sinks.h"
#include "wiring/threads.h"
#include "base/system/clock.h"
#include "base/config/system_limits.h"
#include "base/telemetry/log_writer.h"
#include "base/system/notify.h"
#include "base/secrets/secret_file.h"
#include "base/system/std_streams.h"
#include "base/secrets/client_file.h"
#include "http/server/certificate.h"
#include "http/server/listener.h"
#include "profile/heap.h"
#include "net/redis/redis.h"
#include "net/redis/redis_tls.h"
#include "net/redis/redis_url.h"

#define TURN_MS        200 /* of the main thread */
#define LOG_STOP_MS    5000
#define LOG_FLUSH_MS   100 /* when a second signal ends the process immediately */
#define FREE_BYTES_MIN 4194304

static enum err main_start(struct app *app, char *fault) {
    enum err err = app_create(app, fault);
    if (err == ERR_OK) {
        err = sinks_start(app->sinks, fault);
    }
    return err == ERR_OK ? threads_start(app, fault) : err;
}

/* ---- wait and stop --------------------------------------------------------------------------- */

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
    threads_join(THREAD_AGENT);
    threads_join(THREAD_LEADER);
    enum err err =
        workers_stop_all(app->workers, "node_stopping", true, app->conf->stop_timeout_ms / 2);
    int64_t left_ms = deadline_ms - clock_ms();
    sinks_stop(app->sinks, left_ms > 1000 ? left_ms / 2 : 500);
    left_ms = deadline_ms - clock_ms();
    enum err left = agent_leave(app->agent, left_ms > 1000 ? left_ms : 1000);
    node_stop(app->node);
    threads_join(THREAD_HEARTBEAT);
    event_bus_stop(app->event_bus);
    threads_join(THREAD_EVENT_BUS);
    http_server_stop(app->http);
    threads_join(THREAD_HTTP_HANDLER);
    peer_calls_stop(app->peer_calls);
    threads_join(THREAD_PEER_CALLS);
    threads_join(THREAD_STREAMS);
    if (err != ERR_OK || left != ERR_OK) {
        return ERR_TIMEOUT;
    }
    workers_stop_threads(app->workers);
    threads_join(THREAD_WORKER);
    threads_join(THREAD_RESOLVER);
    return ERR_OK;
}

static enum err main_stop(struct app *app) {
    struct stop_remaining left;
    notify_send("STOPPING=1");
    stop_progress_begin(app->stop_progress);
    threads_start_late(app, THREAD_STOP_PROGRESS);
    enum err err = main_stop_in_order(app);
    stop_progress_remaining(app->stop_progress, &left);
    stop_progress_end(app->stop_progress);
    threads_join(THREAD_STOP_PROGRESS);
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
    char fault[FAULT_LEN > CONF_FAULT_LEN ? FAULT_LEN : CONF_FAULT_LEN];
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
        threads_join(THREAD_AGENT); /* the agent gave up, and its thread returns */
        notify_send("STATUS=stopping: %s", reason);
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
        node_sinks_print(app->conf, stdout);
    } else {
        puts("mqfleetd: the settings are valid");
    }
    http_certificate_unload();
    access_destroy(app->access);
    secret_box_destroy(app->secrets);
    conf_destroy(app->conf);
    return command_line_flush_output();
}

/* A line for each fault. */
static void main_print_faults(const char *faults) {
    for (const char *at = faults; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        fprintf(stderr, "mqfleetd: %.*s\n", (int)strcspn(at, "\n"), at);
    }
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
    if (err == ERR_OK && line.action == ACTION_CHECK_LIVE) {
        return live_check_run(app.conf);
    }
    if (err == ERR_OK) {
        app_set_logging(app.conf, app.conf);
        bool guarded = client_file_guard_own(app.conf) && client_file_guard(line.config);
        assert(guarded); /* these have room */
        (void)guarded;
    }
    if (err == ERR_OK) {
        err = main_check_redis_urls(app.conf, fault);
    }
    if (err == ERR_OK && node_sinks_check(app.conf, stderr) > 0) {
        return EXIT_BAD_CONF;
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
        main_print_faults(fault);
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
