/* Owns the engine `paho` (Eclipse Paho MQTT C, MQTTAsync): its loop, and the opening of
 * connections. Runs on the worker thread, the only one that calls Paho. Limits of Paho: one worker;
 * calls wait for Paho's one mutex, which is held while a message waits to be accepted. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <MQTTAsync.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "paho.h"

#define EVENTS_PER_POLL_MAX    1000
#define TICK_MS                10   /* while a connection is being opened */
#define WATCH_MS               1000 /* between two checks for silent connections */
#define WAKE_AFTER_OPEN_MS     1000 /* Paho is woken for this long after open() */
#define PAHO_KEEPALIVE_CHECK_S 10   /* makes Paho check keepalives every second */

static void paho_engine_set_ticking(struct engine *engine, bool wanted) {
    int64_t period_ms = wanted ? TICK_MS : WATCH_MS;
    struct itimerspec spec = {.it_interval.tv_sec = period_ms / 1000,
                              .it_interval.tv_nsec = (period_ms % 1000) * 1000000};
    spec.it_value = spec.it_interval;
    timerfd_settime(engine->timer_fd, 0, &spec, NULL);
    engine->ticking = wanted;
}

static bool paho_engine_watch_fd(struct engine *engine, int fd) {
    struct epoll_event event = {.events = EPOLLIN};
    return fd >= 0 && epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void paho_engine_destroy(struct engine *engine) {
    if (!engine) {
        return;
    }
    assert(!engine->connections);
    paho_waker_destroy(engine->waker);
    paho_hold_free_answered(engine);
    receipts_fini(&engine->receipts);
    int fds[] = {engine->epoll_fd, engine->event_fd, engine->timer_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

static struct engine *paho_engine_create(const struct conf *conf,
                                         const struct engine_events *events) {
    struct engine *engine = paho_net_is_interposed() ? calloc(1, sizeof *engine) : NULL;
    if (!engine) {
        log_event(LOG_ERROR, "paho_unusable",
                  KS("reason", "out of memory, or connect and "
                               "getaddrinfo are not interposed"));
        return NULL;
    }
    unsetenv("http_proxy"); /* Paho would use them without being asked */
    unsetenv("https_proxy");
    engine->conf = conf;
    engine->events = events;
    pthread_mutex_init(&engine->lock, NULL);
    engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    engine->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bool answerable = receipts_init(&engine->receipts);
    engine->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    engine->keepalive_s_min = PAHO_KEEPALIVE_CHECK_S;
    if (!answerable || engine->epoll_fd < 0 || !paho_engine_watch_fd(engine, engine->event_fd) ||
        !paho_engine_watch_fd(engine, engine->timer_fd)) {
        goto failed;
    }
    MQTTAsync_init_options init = MQTTAsync_init_options_initializer;
    init.do_openssl_init = 0; /* OpenSSL 3 initializes itself */
    MQTTAsync_global_init(&init);
    engine->waker = paho_waker_create(engine->epoll_fd, engine->event_fd);
    if (!engine->waker) {
        goto failed;
    }
    paho_engine_set_ticking(engine, true);
    return engine;
failed:
    paho_engine_destroy(engine);
    return NULL;
}

/* ---- open: one connection at a time is passed to Paho, see net.c ---- */

static void paho_engine_check_keepalives(struct engine *engine, uint16_t keepalive_s) {
    if (keepalive_s > 0 && keepalive_s < engine->keepalive_s_min) {
        engine->keepalive_s_min = keepalive_s;
    }
    paho_waker_set_keepalive(engine->waker, engine->keepalive_s_min);
}

static void paho_engine_begin(struct engine_connection *connection) {
    connection->phase = PAHO_OPENING; /* no longer in engine->waiting, even after a failure */
    paho_call_begin(connection->engine);
    enum err err = paho_connect(connection);
    paho_call_end(connection->engine);
    if (err != ERR_OK) {
        bool file = err == ERR_IO;
        struct engine_closed closed = {.error = file ? CLIENT_ERROR_TLS_FILE_UNREADABLE
                                                     : CLIENT_ERROR_BAD_CONFIGURATION,
                                       .reason_code = -1,
                                       .address = -1};
        pthread_mutex_lock(&connection->engine->lock);
        paho_post_closed(connection, &closed);
        pthread_mutex_unlock(&connection->engine->lock);
        return;
    }
    connection->engine->opened_at_ms = clock_ms();
    paho_call_begin(connection->engine);
    paho_engine_check_keepalives(connection->engine, connection->open.keepalive_s);
    paho_call_end(connection->engine);
}

static void paho_engine_begin_waiting(struct engine *engine) {
    while (engine->waiting && !paho_net_busy() && !paho_is_stalled(engine)) {
        struct engine_connection *first = engine->waiting;
        DL_DELETE2(engine->waiting, first, step_prev, step_next);
        paho_engine_begin(first);
    }
}

/* Paho cannot express these, or gives them another meaning. */
static bool paho_engine_is_supported(const struct client_config *config) {
    const struct client_tls *tls = client_config_tls(config);
    return !config->websocket && tls->min_version == TLS_FROM_1_2 && tls->security_level == 0;
}

static enum err paho_engine_open(struct engine *engine, const struct engine_open *open,
                                 struct engine_connection **out) {
    if (!paho_engine_is_supported(open->config)) {
        return ERR_UNSUPPORTED;
    }
    struct engine_connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        return ERR_MEMORY;
    }
    connection->engine = engine;
    connection->client = open->client;
    connection->open = *open;
    connection->protocol_version = open->config->protocol_version;
    connection->id = strdup(open->config->id);
    connection->client_id = strdup(open->config->client_id);
    paho_socket_init(&connection->socket);
    for (int i = 0; i < 3; i++) {
        connection->material_fds[i] = -1;
    }
    if (!connection->id || !connection->client_id) {
        paho_connection_free(connection);
        return ERR_MEMORY;
    }
    DL_APPEND(engine->connections, connection);
    DL_APPEND2(engine->waiting, connection, step_prev, step_next);
    engine->opening_count++;
    if (!engine->ticking) {
        paho_engine_set_ticking(engine, true);
    }
    paho_engine_begin_waiting(engine);
    *out = connection;
    return ERR_OK;
}

/* ---- operations that mean nothing to Paho ---- */

/* Paho keeps no session beyond a connection. */
static void paho_engine_session_end(struct engine *engine, struct engine_session *session) {
    (void)engine;
    (void)session;
}

/* Publications do not outlive their connection. */
static bool paho_engine_publications_blame(struct engine *engine, struct engine_session *session) {
    (void)engine;
    (void)session;
    return false;
}

/* One held callback stops all connections. */
static bool paho_engine_is_read_blocked(struct engine_connection *connection) {
    return paho_is_stalled(connection->engine);
}

/* ---- poll ---- */

/* Each wake-up makes Paho check all its sockets, so wake-ups become less frequent while the same
 * connects are in progress. */
static void paho_engine_wake(struct engine *engine, int64_t now_ms) {
    int64_t age_ms = now_ms - engine->opened_at_ms;
    if (age_ms < WAKE_AFTER_OPEN_MS && now_ms - engine->woken_at_ms >= age_ms / 10) {
        engine->woken_at_ms = now_ms;
        paho_waker_wake(engine->waker);
    }
}

static void paho_engine_tick(struct engine *engine) {
    int64_t now_ms = clock_ms();
    if (engine->opening_count == 0) {
        paho_engine_set_ticking(engine, false);
    } else {
        paho_engine_wake(engine, now_ms);
    }
    if (now_ms - engine->watched_at_ms >= WATCH_MS) {
        engine->watched_at_ms = now_ms;
        paho_silence_check(engine, now_ms);
    }
}

static bool paho_engine_has_more(struct engine *engine) {
    pthread_mutex_lock(&engine->lock);
    bool ready = engine->ready != NULL;
    pthread_mutex_unlock(&engine->lock);
    return ready || (engine->closing && !paho_is_stalled(engine));
}

static void paho_engine_poll(struct engine *engine, int64_t timeout_ms) {
    struct epoll_event event; /* whatever it is: everything is checked */
    uint64_t count;
    epoll_wait(engine->epoll_fd, &event, 1, (int)timeout_ms);
    if (read(engine->timer_fd, &count, sizeof(count)) == (ssize_t)sizeof(count)) {
        paho_engine_tick(engine);
    }
    ssize_t drained = read(engine->event_fd, &count, sizeof(count));
    (void)drained;
    paho_waker_poll(engine->waker);
    paho_connection_release_closed(engine);
    paho_engine_begin_waiting(engine);
    for (int i = 0; i < EVENTS_PER_POLL_MAX && paho_delivery_next(engine); i++) {
    }
    if (paho_engine_has_more(engine)) {
        eventfd_write(engine->event_fd, 1);
    }
}

const struct engine_ops engine_paho = {
    .name = "paho",
    .workers_max = 1,
    .create = paho_engine_create,
    .destroy = paho_engine_destroy,
    .open = paho_engine_open,
    .close = paho_connection_close,
    .session_end = paho_engine_session_end,
    .publications_blame = paho_engine_publications_blame,
    .subscribe = paho_subscribe,
    .unsubscribe = paho_unsubscribe,
    .publish = paho_publish,
    .is_read_blocked = paho_engine_is_read_blocked,
    .watch = paho_engine_watch_fd,
    .poll = paho_engine_poll,
};
