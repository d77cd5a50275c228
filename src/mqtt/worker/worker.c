/* Owns one worker thread: its loop, its queues, its table of clients. The loop does bounded work of
 * each kind per turn and waits in the engine. */
#include "mqtt/worker/worker.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/system/condition.h"
#include "base/telemetry/log.h"
#include "base/system/thread_watchdog.h"

#define WAIT_MS         1000 /* the longest sleep of the loop */
#define LEASE_CHECK_MS  100  /* interval of lease checks while clients connect */
#define STOP_ROUNDS_MAX 500
#define STOP_ROUND_MS   10

static const struct engine_events worker_engine_events = {
    .connected = worker_connected,
    .closed = worker_connection_closed,
    .subscribed = worker_subscribed,
    .unsubscribed = worker_unsubscribed,
    .published = worker_published,
    .receiving = worker_receiving,
    .pinged = worker_pinged,
    .skipped = worker_skipped,
    .may_connect = worker_may_connect,
    .socket_done = worker_socket_done,
};

static void worker_init_locks(struct worker *worker) {
    condition_init(&worker->forgotten);
    pthread_mutex_init(&worker->lock, NULL);
    pthread_mutex_init(&worker->resolved_lock, NULL);
}

struct worker *worker_create(const struct conf *conf, const struct workers_owner *owner,
                             const struct engine_ops *ops, struct resolver *resolver,
                             const struct address_policy *policy) {
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker) {
        return NULL;
    }
    worker->conf = conf;
    worker->owner = owner;
    worker->ops = ops;
    worker->resolver = resolver;
    worker->policy = policy;
    worker_init_locks(worker);
    timers_init(&worker->timers);
    connect_limiter_init(&worker->connect_limiter, (size_t)conf->connect_in_flight,
                         conf->connect_rate);
    worker->inbox = queue_create(WORKER_INBOX_MAX);
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (worker->inbox && worker->wake_fd >= 0) {
        worker->engine = ops->create(conf, &worker_engine_events);
    }
    if (!worker->engine || !ops->watch(worker->engine, worker->wake_fd)) {
        worker_destroy(worker);
        return NULL;
    }
    return worker;
}

void worker_command_free(struct worker_command *command) {
    if (!command) {
        return;
    }
    shared_config_release(command->config);
    worker_publication_free(command->publication);
    free(command->id);
    free(command->reason);
    free(command->history);
    free(command);
}

/* Commands that will not be executed are answered too. */
static void worker_refuse_command(struct worker_command *command) {
    if (command->kind == WORKER_STOP && command->done) {
        command->done(command->context);
    }
    if (command->kind == WORKER_QUERY) {
        worker_answer_query(NULL, command->context, ERR_UNAVAILABLE);
    }
    if (command->kind == WORKER_PUBLISH) {
        command->publication->published(command->publication->context,
                                        &(struct publish_result){.err = ERR_UNAVAILABLE});
    }
    worker_command_free(command);
}

static void worker_drain_inbox(struct worker *worker) {
    void *command;
    while (queue_pop(worker->inbox, &command, 0) == ERR_OK) {
        worker_refuse_command(command);
    }
}

static void worker_destroy_clients(struct worker *worker) {
    struct client *client, *next;
    HASH_ITER(hh, worker->clients, client, next) {
        worker_remove(client);
        worker_end_session(client);
        client_destroy(client);
    }
}

void worker_destroy(struct worker *worker) {
    if (!worker) {
        return;
    }
    if (worker->inbox) {
        worker_drain_inbox(worker);
        queue_destroy(worker->inbox);
    }
    worker_destroy_clients(worker);
    if (worker->engine) {
        worker->ops->destroy(worker->engine);
    }
    if (worker->wake_fd >= 0) {
        close(worker->wake_fd);
    }
    timers_fini(&worker->timers);
    pthread_cond_destroy(&worker->forgotten);
    pthread_mutex_destroy(&worker->lock);
    pthread_mutex_destroy(&worker->resolved_lock);
    free(worker);
}

void worker_wake(struct worker *worker) {
    if (!atomic_exchange(&worker->woken, true)) {
        eventfd_write(worker->wake_fd, 1);
    }
}

void worker_stop(struct worker *worker) {
    worker->stopping = true;
    worker_wake(worker);
}

void worker_drop_all(struct worker *worker, uint64_t before, bool with_disconnect,
                     const char *reason) {
    pthread_mutex_lock(&worker->lock);
    snprintf(worker->drop_reason, sizeof(worker->drop_reason), "%s", reason);
    pthread_mutex_unlock(&worker->lock);
    worker->drop_with_disconnect = with_disconnect;
    worker->drop_before = before;
    worker_wake(worker);
}

void worker_insert(struct client *client, int64_t epoch, int64_t version, uint64_t generation) {
    struct worker *worker = client->worker;
    client->epoch = epoch;
    client->version = version;
    client->generation = generation;
    worker->counts[client->state]++;
    HASH_ADD_KEYPTR(hh, worker->clients, client->id, strlen(client->id), client);
}

void worker_remove(struct client *client) {
    struct worker *worker = client->worker;
    for (struct worker_visit *visit = worker->visits; visit; visit = visit->other) {
        if (visit->next == client) {
            visit->next = client->hh.next;
        }
    }
    HASH_DEL(worker->clients, client);
    worker->counts[client->state]--;
}

/* ---- the loop ---- */

static void worker_take_commands(struct worker *worker) {
    void *command;
    for (int i = 0; i < WORKER_PER_TURN_MAX; i++) {
        if (queue_pop(worker->inbox, &command, 0) != ERR_OK) {
            return;
        }
        worker_execute(worker, command);
    }
    worker_wake(worker); /* there may be more */
}

static void worker_run_timers(struct worker *worker, int64_t now_ms) {
    for (int i = 0; i < WORKER_PER_TURN_MAX; i++) {
        struct timer *timer = timers_due(&worker->timers, now_ms);
        if (!timer) {
            return;
        }
        worker_handle_timer((struct client *)((char *)timer - offsetof(struct client, timer)));
    }
}

static bool worker_is_connecting(const struct worker *worker) {
    return worker->connect_limiter.ring || worker->connect_limiter.parked ||
           worker->connect_limiter.holds || worker->counts[CLIENT_RESOLVING] > 0 ||
           worker->counts[CLIENT_OPENING] > 0;
}

static int64_t worker_wait_ms(struct worker *worker, int64_t now_us) {
    int64_t now_ms = now_us / 1000;
    int64_t wait_ms_max = timers_wait_ms(&worker->timers, now_ms, WAIT_MS);
    if (worker_is_connecting(worker) && wait_ms_max > LEASE_CHECK_MS) {
        wait_ms_max = LEASE_CHECK_MS;
    }
    if (worker->lease_was_valid) {
        wait_ms_max = connect_limiter_wait_ms(&worker->connect_limiter, now_us, wait_ms_max);
        wait_ms_max = connect_limiter_held_wait_ms(&worker->connect_limiter, now_us, wait_ms_max);
    }
    return worker_publications_wait_ms(worker, now_ms, wait_ms_max);
}

/* The engine waits for the worker too: one epoll covers sockets and wake-ups. True: the worker was
 * woken. A thread that sets `woken` writes to wake_fd a moment later, so `woken` stays set until
 * that is read. */
static bool worker_wait_and_poll(struct worker *worker, int64_t timeout_ms) {
    worker->ops->poll(worker->engine, timeout_ms);
    router_flush(worker->owner->router);
    bool woken = atomic_load_explicit(&worker->woken, memory_order_relaxed);
    eventfd_t count;
    if (woken && eventfd_read(worker->wake_fd, &count) == 0) {
        worker->woken = false; /* before the queues are read: later pushes wake again */
    }
    return woken;
}

/* Sinks came or went: the routes of some clients in each turn, until all are set again. */
static void worker_update_routes(struct worker *worker) {
    const struct router *router = worker->owner->router;
    uint16_t generation = router ? router_generation(router) : 0;
    if (worker->routes_generation == generation) {
        return;
    }
    int left = WORKER_PER_TURN_MAX;
    bool in_memory = true;
    pthread_mutex_lock(&worker->lock);
    for (struct client *client = worker->clients; client && left > 0; client = client->hh.next) {
        left -= client_route_is_outdated(client);
        in_memory = client_update_route(client) && in_memory;
    }
    pthread_mutex_unlock(&worker->lock);
    if (left == 0) {
        worker_wake(worker);
    } else if (in_memory) { /* otherwise the next turn tries again */
        worker->routes_generation = generation;
    }
}

/* The clock is read before and after the wait: there are as many turns as messages. */
static void worker_turn(struct worker *worker) {
    if (worker_wait_and_poll(worker, worker_wait_ms(worker, clock_us()))) {
        worker_drop_old(worker);
        worker_take_commands(worker);
        worker_take_resolved(worker);
    }
    int64_t now_us = clock_us();
    worker_update_routes(worker);
    worker_run_timers(worker, now_us / 1000);
    worker_expire_publications(worker, now_us / 1000);
    worker_check_lease(worker);
    worker_watch_brokers(worker, now_us / 1000);
    worker_admit(worker, now_us);
}

/* Without DISCONNECT, as if the process had died. */
static void worker_drop_everything(struct worker *worker) {
    worker_drop_all(worker, UINT64_MAX, false, "node_stopping");
    worker_drain_inbox(worker);
    for (int i = 0; i < STOP_ROUNDS_MAX; i++) {
        worker_drop_old(worker);
        worker_wait_and_poll(worker, i == 0 ? 0 : STOP_ROUND_MS);
        if (worker->connection_count == 0 && worker->dropped_before == worker->drop_before) {
            return;
        }
    }
    log_event(LOG_ERROR, "host_stop", KI("connections_left", worker->connection_count));
}

void *worker_run(void *argument) {
    struct worker *worker = argument;
    while (!worker->stopping) {
        thread_watchdog_kick();
        worker_turn(worker);
    }
    worker_drop_everything(worker);
    return NULL;
}
