/* Owns the loop of the engine `reactor`: one epoll per worker for all its connections, a timer, and
 * the tasks that connections leave for later in the turn. Worker thread. */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "mqtt/reactor/tls/tls.h"
#include "mqtt/config/subscriptions.h"
#include "reactor.h"

#define EVENTS_PER_TURN_MAX         256
#define TASKS_PER_TURN_MAX          10000
#define REACTOR_CHECKS_PER_TURN_MAX 1000
#define RETRY_TICK_MS               5 /* while sockets are paused, or checks are late */
#define RETRIES_PER_TICK_MAX        256
#define REFUSALS_PER_TICK           32
#define LIMITED_CHECK_MS            1000
#define US_PER_MS                   1000
#define NS_PER_US                   1000

/* ---- tasks ---- */

void reactor_task(struct engine_connection *connection, enum connection_task task) {
    struct engine *engine = connection->engine;
    if (connection->tasks == 0) {
        DL_APPEND2(engine->tasks, connection, task_prev, task_next);
    }
    connection->tasks |= (uint8_t)task;
}

static void reactor_run_task(struct engine_connection *connection, uint8_t tasks) {
    if (tasks & TASK_READ) {
        receive_available(connection);
    }
    if (tasks & TASK_ACKNOWLEDGE) {
        connection_acknowledge(connection);
    }
    if (tasks & TASK_FLUSH) {
        output_flush(connection);
    }
    if (tasks & TASK_QUOTA) {
        outbound_check_quota(connection);
    }
    if (tasks & TASK_REPORT) {
        publish_report(connection);
    }
    if (tasks & TASK_END) {
        if (connection->tasks != 0) { /* new tasks were added meanwhile */
            DL_DELETE2(connection->engine->tasks, connection, task_prev, task_next);
        }
        connection_finish(connection);
    }
}

/* Runs the present tasks. Tasks that they add wait for the next turn, except those that only send.
 */
static void reactor_run_tasks(struct engine *engine) {
    struct engine_connection *last = engine->tasks ? engine->tasks->task_prev : NULL;
    for (int i = 0; i < TASKS_PER_TURN_MAX && engine->tasks; i++) {
        struct engine_connection *first = engine->tasks;
        uint8_t tasks = first->tasks;
        DL_DELETE2(engine->tasks, first, task_prev, task_next);
        first->tasks = 0;
        reactor_run_task(first, tasks);
        if (first == last) {
            return;
        }
    }
}

/* ---- paused sockets ---- */

static void reactor_set_timer(struct engine *engine, bool fast) {
    int64_t period_ms = fast ? RETRY_TICK_MS : TIMER_WHEEL_TICK_MS;
    struct itimerspec spec = {.it_interval.tv_nsec = period_ms * 1000000};
    spec.it_value = spec.it_interval;
    timerfd_settime(engine->timer_fd, 0, &spec, NULL);
    engine->ticking_fast = fast;
}

static bool reactor_is_listed(const struct engine_connection *connection) {
    return connection->paused_prev != NULL;
}

static void reactor_list_paused(struct engine_connection *connection) {
    struct engine *engine = connection->engine;
    DL_APPEND2(engine->paused, connection, paused_prev, paused_next);
    if (!engine->ticking_fast) {
        reactor_set_timer(engine, true);
    }
}

static void reactor_unlist_paused(struct engine_connection *connection) {
    DL_DELETE2(connection->engine->paused, connection, paused_prev, paused_next);
    connection->paused_prev = connection->paused_next = NULL;
}

/* Its limits hold it: tried again when they let a message pass. Now and then before, because more
 * may be read meanwhile, or the limits may change. */
static void reactor_wait_for_limits(struct engine_connection *connection, int64_t wait_ms) {
    struct timer_wheel_entry *timer = &connection->check_timer;
    int64_t at_ms = clock_ms() + (wait_ms < LIMITED_CHECK_MS ? wait_ms : LIMITED_CHECK_MS);
    if (!timer->next || at_ms < timer->at_ms) {
        timer_wheel_set(&connection->engine->timer_wheel, timer, at_ms);
    }
}

void reactor_pause(struct engine_connection *connection, enum connection_reading reading) {
    if (connection->state == CONNECTION_ENDED) {
        return;
    }
    bool was_paused = connection->reading != READING_ALL;
    connection->reading = (uint8_t)reading;
    if (was_paused) {
        return;
    }
    int64_t wait_ms = reading == READING_AHEAD ? deliver_limit_wait_ms(connection) : 0;
    if (wait_ms > 0) {
        reactor_wait_for_limits(connection, wait_ms);
    } else {
        reactor_list_paused(connection);
    }
}

void reactor_resume(struct engine_connection *connection) {
    assert(connection->reading != READING_ALL);
    connection->reading = READING_ALL;
    if (reactor_is_listed(connection)) {
        reactor_unlist_paused(connection);
    }
}

/* Moves it to the end; before `served`, if there is one. */
static void reactor_requeue_paused(struct engine *engine, struct engine_connection *one,
                                   struct engine_connection *served) {
    if (!reactor_is_listed(one) || one == served) {
        return;
    }
    int64_t wait_ms = output_is_behind(one) ? 0 : deliver_limit_wait_ms(one);
    reactor_unlist_paused(one);
    if (wait_ms > 0) {
        reactor_wait_for_limits(one, wait_ms);
    } else if (served && reactor_is_listed(served)) { /* otherwise it has ended */
        DL_PREPEND_ELEM2(engine->paused, served, one, paused_prev, paused_next);
    } else {
        DL_APPEND2(engine->paused, one, paused_prev, paused_next);
    }
}

/* Serves them in turn, so that none starves. A connection that cannot continue moves to the end;
 * one that found some room, but not enough, moves behind all others. */
static void reactor_retry_paused(struct engine *engine) {
    struct engine_connection *last = engine->paused ? engine->paused->paused_prev : NULL;
    struct engine_connection *served = NULL; /* the first of the connections served */
    int refusals = 0;
    for (int i = 0; i < RETRIES_PER_TICK_MAX && engine->paused; i++) {
        struct engine_connection *first = engine->paused;
        uint32_t before = first->held_back;
        bool goes_on = receive_retry(first);
        reactor_requeue_paused(engine, first, goes_on ? NULL : served);
        if (!goes_on && !served && first->held_back != before) {
            served = first;
        }
        refusals += !goes_on;
        if (first == last || refusals == REFUSALS_PER_TICK) {
            return;
        }
    }
}

/* False: more connections are due. */
static bool reactor_check_due(struct engine *engine) {
    int64_t now_ms = clock_ms();
    for (int i = 0; i < REACTOR_CHECKS_PER_TURN_MAX; i++) {
        struct timer_wheel_entry *entry = timer_wheel_due(&engine->timer_wheel, now_ms);
        if (!entry) {
            return true;
        }
        struct engine_connection *connection =
            (struct engine_connection *)((char *)entry -
                                         offsetof(struct engine_connection, check_timer));
        if (connection->reading != READING_ALL && !reactor_is_listed(connection)) {
            reactor_list_paused(connection); /* it waited for its limits */
        }
        connection_check(connection, now_ms);
    }
    return false;
}

static void reactor_tick(struct engine *engine) {
    bool in_time = reactor_check_due(engine);
    reactor_retry_paused(engine);
    bool fast = !in_time || engine->paused;
    if (engine->ticking_fast != fast) {
        reactor_set_timer(engine, fast);
    }
}

/* ---- the turn ---- */

static bool reactor_read_signal(int fd) {
    uint64_t count;
    return read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static void reactor_dispatch(struct engine *engine, const struct epoll_event *event) {
    if (event->data.ptr == &engine->receipts.wake_fd) {
        reactor_read_signal(engine->receipts.wake_fd);
    } else if (!event->data.ptr) {
        return; /* the worker's own descriptor: the worker handles it */
    } else if (event->data.ptr == &engine->timer_fd) {
        if (reactor_read_signal(engine->timer_fd)) {
            reactor_tick(engine);
        }
    } else {
        connection_ready(event->data.ptr, event->events);
    }
}

/* Delays the next poll while messages arrive fast, unless there are tasks or the worker is woken.
 * Sinks that answer meanwhile do not wake it. Returns the rest of the timeout. */
static int64_t reactor_coalesce(struct engine *engine, int64_t timeout_ms) {
    if (engine->tasks || engine->more_events) {
        return timeout_ms;
    }
    int64_t wait_us = coalesce_wait_us(&engine->coalesce, clock_us());
    if (wait_us > timeout_ms * US_PER_MS) {
        wait_us = timeout_ms * US_PER_MS;
    }
    if (wait_us > 0) {
        struct pollfd wake = {.fd = engine->worker_fd, .events = POLLIN};
        ppoll(&wake, 1, &(struct timespec){.tv_nsec = wait_us * NS_PER_US}, NULL);
    }
    return timeout_ms - wait_us / US_PER_MS;
}

/* From here on, a sink that answers writes to wake_fd; earlier answers are seen. The engine's tick
 * ends a wait that is longer than the tick. A timeout for each wait would cost the kernel a timer
 * for each message. */
static int reactor_begin_wait(struct engine *engine, int64_t timeout_ms) {
    bool answered = receipts_begin_wait(&engine->receipts);
    if (answered || engine->tasks || engine->not_accepted) {
        return 0;
    }
    if (engine->races) {
        timeout_ms = race_wait_ms(engine, timeout_ms);
    }
    return timeout_ms < TIMER_WHEEL_TICK_MS ? (int)timeout_ms : -1;
}

/* No connection is freed before the tasks run, so the connections of all events still exist. */
static void reactor_poll(struct engine *engine, int64_t timeout_ms) {
    struct epoll_event events[EVENTS_PER_TURN_MAX];
    int64_t left_ms = reactor_coalesce(engine, timeout_ms);
    int n = epoll_wait(engine->epoll_fd, events, EVENTS_PER_TURN_MAX,
                       reactor_begin_wait(engine, left_ms));
    receipts_end_wait(&engine->receipts);
    engine->more_events = n == EVENTS_PER_TURN_MAX;
    coalesce_note_poll(&engine->coalesce, clock_us());
    for (int i = 0; i < n; i++) {
        reactor_dispatch(engine, &events[i]);
    }
    if (engine->races) {
        race_start_due(engine);
    }
    answers_take(engine);
    reactor_run_tasks(engine);
    atomic_store_explicit(&engine->shown.buffered, engine->buffered, memory_order_relaxed);
    atomic_store_explicit(&engine->shown.held_back, engine->held_back, memory_order_relaxed);
    atomic_store_explicit(&engine->shown.held_back_count, engine->held_back_count,
                          memory_order_relaxed);
}

/* ---- life ---- */

static bool reactor_parse_source(const char *text, struct sockaddr_storage *out) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    *out = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        return true;
    }
    return false;
}

/* The settings were checked when they were read. */
static bool reactor_read_sources(struct engine *engine, const char *list) {
    char *copy = strdup(list);
    char *rest = NULL;
    size_t most = 1;
    for (const char *at = list; *at != '\0'; at++) {
        most += *at == ',';
    }
    engine->sources = calloc(most, sizeof *engine->sources);
    if (!copy || !engine->sources) {
        free(copy);
        return false;
    }
    for (char *one = strtok_r(copy, ", ", &rest); one; one = strtok_r(NULL, ", ", &rest)) {
        if (reactor_parse_source(one, &engine->sources[engine->source_count])) {
            engine->source_count++;
        }
    }
    free(copy);
    return true;
}

static bool reactor_watch_fd(struct engine *engine, int *fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    return *fd >= 0 && epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, *fd, &event) == 0;
}

static void reactor_destroy(struct engine *engine) {
    if (!engine) {
        return;
    }
    assert(engine->connection_count == 0);
    answers_take(engine);
    inbound_table_fini(&engine->inbound);
    tls_contexts_destroy(engine->tls);
    buffer_fini(&engine->scratch);
    free(engine->sources);
    free(engine->input);
    receipts_fini(&engine->receipts);
    int fds[] = {engine->epoll_fd, engine->timer_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(engine);
}

static struct engine *reactor_create(const struct conf *conf, const struct engine_events *events) {
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        return NULL;
    }
    engine->conf = conf;
    engine->events = events;
    engine->buffered_max = (size_t)conf->buffer_bytes;
    engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    receipts_init(&engine->receipts);
    engine->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    engine->input = malloc(REACTOR_INPUT_SIZE);
    engine->tls = tls_contexts_create(conf);
    engine->worker_fd = -1;
    timer_wheel_init(&engine->timer_wheel, clock_ms());
    coalesce_init(&engine->coalesce, conf->coalesce_ms * US_PER_MS);
    if (engine->epoll_fd < 0 || !reactor_watch_fd(engine, &engine->receipts.wake_fd) ||
        !reactor_watch_fd(engine, &engine->timer_fd) || !engine->input || !engine->tls ||
        inbound_table_init(&engine->inbound) != ERR_OK ||
        !reactor_read_sources(engine, conf->source_addresses)) {
        log_event(LOG_ERROR, "engine_not_created", KS("engine", "reactor"),
                  KS("reason", "out of memory or descriptors"));
        reactor_destroy(engine);
        return NULL;
    }
    reactor_set_timer(engine, false);
    return engine;
}

/* ---- operations ---- */

static enum err reactor_begin_request(struct engine_connection *connection, size_t n,
                                      uint8_t answer) {
    if (connection->state != CONNECTION_UP) {
        return ERR_UNAVAILABLE; /* its closed event is pending */
    }
    assert(connection->request.packet_id == 0);
    connection->request.packet_id = session_packet_id(connection->session, 0);
    connection->request.count = (uint16_t)n;
    connection->request.answer = answer;
    reactor_task(connection, TASK_FLUSH);
    return ERR_OK;
}

/* A server must not be sent a packet beyond its maximum (section 3.2.2.3.6). */
static enum err reactor_subscribe(struct engine_connection *connection,
                                  const struct client_subscription *subscriptions, size_t *n) {
    *n = subscriptions_fit(subscriptions, *n, connection->version, connection->server_packet_max);
    if (*n == 0) {
        return ERR_ARGUMENT;
    }
    enum err err = reactor_begin_request(connection, *n, PACKET_SUBACK);
    if (err == ERR_OK) {
        packet_write_subscribe(&connection->out, connection->version, connection->request.packet_id,
                               subscriptions, *n);
    }
    return err;
}

static enum err reactor_unsubscribe(struct engine_connection *connection, char *const *filters,
                                    size_t *n) {
    *n = filters_fit(filters, *n, connection->version, connection->server_packet_max);
    if (*n == 0) {
        return ERR_ARGUMENT;
    }
    enum err err = reactor_begin_request(connection, *n, PACKET_UNSUBACK);
    if (err == ERR_OK) {
        packet_write_unsubscribe(&connection->out, connection->version,
                                 connection->request.packet_id, filters, *n);
    }
    return err;
}

static bool reactor_watch(struct engine *engine, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    engine->worker_fd = fd;
    return epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void reactor_buffers(const struct engine *engine, struct engine_buffers *out) {
    *out = (struct engine_buffers){
        .bytes = atomic_load_explicit(&engine->shown.buffered, memory_order_relaxed),
        .bytes_max = engine->buffered_max,
        .held_back_bytes = atomic_load_explicit(&engine->shown.held_back, memory_order_relaxed),
        .held_back_clients =
            atomic_load_explicit(&engine->shown.held_back_count, memory_order_relaxed),
    };
}

const struct engine_ops engine_reactor = {
    .name = "reactor",
    .workers_max = 0,
    .create = reactor_create,
    .destroy = reactor_destroy,
    .open = connection_open,
    .close = connection_close,
    .session_end = session_end,
    .subscribe = reactor_subscribe,
    .unsubscribe = reactor_unsubscribe,
    .publish = publish_submit,
    .resume_publications = outbound_resume,
    .publications_blame = outbound_blame,
    .publication_drop = outbound_drop,
    .publication_status = outbound_status,
    .is_read_blocked = read_ahead_is_blocked,
    .buffers = reactor_buffers,
    .watch = reactor_watch,
    .poll = reactor_poll,
};
