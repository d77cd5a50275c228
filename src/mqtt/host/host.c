/* Owns one host thread: its loop, its queues, its table of clients. The loop does bounded work of
 * each kind per turn and waits in the engine. Knows no engine but through its table. */
#include "mqtt/host.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/condition.h"
#include "base/log.h"
#include "base/pulse.h"

#define WAIT_MS         1000 /* the longest sleep of the loop */
#define LEASE_LOOK_MS   100  /* between looks at the lease while somebody connects */
#define STOP_ROUNDS_MAX 500
#define STOP_ROUND_MS   10

static const struct engine_events events = {
    .connected = host_connected,
    .closed = host_connection_closed,
    .subscribed = host_subscribed,
    .unsubscribed = host_unsubscribed,
    .published = host_published,
    .message = host_message,
    .heard = host_heard,
    .skipped = host_skipped,
    .flush = host_flush,
    .has_room = host_has_room,
    .wait_room = host_wait_room,
    .may_connect = host_may_connect,
    .socket_over = host_socket_over,
};

static void init_locks(struct host *host) {
    condition_init(&host->forgotten);
    pthread_mutex_init(&host->lock, NULL);
    pthread_mutex_init(&host->resolved_lock, NULL);
}

struct host *host_create(const struct conf *conf, const struct hosts_owner *owner,
                         const struct engine_ops *ops, struct resolver *resolver,
                         const struct address_policy *policy) {
    struct host *host = calloc(1, sizeof(*host));
    if (host == NULL) {
        return NULL;
    }
    host->conf = conf;
    host->owner = owner;
    host->ops = ops;
    host->resolver = resolver;
    host->policy = policy;
    init_locks(host);
    timers_init(&host->timers);
    pacer_init(&host->pacer, (size_t)conf->connect_in_flight, conf->connect_rate);
    host->inbox = queue_create(HOST_INBOX_MAX);
    host->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (host->inbox != NULL && host->wake_fd >= 0) {
        host->engine = ops->create(conf, &events);
    }
    if (host->engine == NULL || !ops->watch(host->engine, host->wake_fd)) {
        host_destroy(host);
        return NULL;
    }
    return host;
}

void host_command_free(struct host_command *command) {
    if (command == NULL) {
        return;
    }
    shared_config_release(command->config);
    host_publication_free(command->publication);
    free(command->id);
    free(command->reason);
    free(command);
}

/* What nobody will obey any more is answered all the same. */
static void refuse(struct host_command *command) {
    if (command->kind == HOST_STOP && command->done != NULL) {
        command->done(command->context);
    }
    if (command->kind == HOST_QUERY) {
        host_answer_query(NULL, command->context, ERR_UNAVAILABLE);
    }
    if (command->kind == HOST_PUBLISH) {
        command->publication->published(command->publication->context, ERR_UNAVAILABLE, 0);
    }
    host_command_free(command);
}

static void empty_inbox(struct host *host) {
    void *command;
    while (queue_pop(host->inbox, &command, 0) == ERR_OK) {
        refuse(command);
    }
}

static void destroy_clients(struct host *host) {
    struct client *client, *next;
    HASH_ITER(hh, host->clients, client, next) {
        HASH_DEL(host->clients, client);
        host_end_session(client);
        client_destroy(client);
    }
}

void host_destroy(struct host *host) {
    if (host == NULL) {
        return;
    }
    if (host->inbox != NULL) {
        empty_inbox(host);
        queue_destroy(host->inbox);
    }
    destroy_clients(host);
    if (host->engine != NULL) {
        host->ops->destroy(host->engine);
    }
    if (host->wake_fd >= 0) {
        close(host->wake_fd);
    }
    timers_fini(&host->timers);
    pthread_cond_destroy(&host->forgotten);
    pthread_mutex_destroy(&host->lock);
    pthread_mutex_destroy(&host->resolved_lock);
    free(host);
}

void host_wake(struct host *host) {
    if (!atomic_exchange(&host->woken, true)) {
        eventfd_write(host->wake_fd, 1);
    }
}

void host_stop(struct host *host) {
    host->stopping = true;
    host_wake(host);
}

void host_drop_all(struct host *host, uint64_t before, bool politely, const char *reason) {
    pthread_mutex_lock(&host->lock);
    snprintf(host->drop_reason, sizeof(host->drop_reason), "%s", reason);
    pthread_mutex_unlock(&host->lock);
    host->drop_politely = politely;
    host->drop_before = before;
    host_wake(host);
}

void host_insert(struct client *client, int64_t epoch, int64_t version, uint64_t generation) {
    struct host *host = client->host;
    client->epoch = epoch;
    client->version = version;
    client->generation = generation;
    host->counts[client->state]++;
    HASH_ADD_KEYPTR(hh, host->clients, client->id, strlen(client->id), client);
}

/* ---- the loop ---- */

static void take_commands(struct host *host) {
    void *command;
    for (int i = 0; i < HOST_PER_TURN_MAX; i++) {
        if (queue_pop(host->inbox, &command, 0) != ERR_OK) {
            return;
        }
        host_obey(host, command);
    }
    host_wake(host); /* perhaps there is more */
}

static void run_timers(struct host *host, int64_t now_ms) {
    for (int i = 0; i < HOST_PER_TURN_MAX; i++) {
        struct timer *timer = timers_due(&host->timers, now_ms);
        if (timer == NULL) {
            return;
        }
        host_timer((struct client *)((char *)timer - offsetof(struct client, timer)));
    }
}

static bool is_connecting(const struct host *host) {
    return host->pacer.ring != NULL || host->pacer.away != NULL ||
           host->counts[CLIENT_RESOLVING] > 0 || host->counts[CLIENT_OPENING] > 0;
}

static int64_t wait_ms(struct host *host, int64_t now_us) {
    int64_t now_ms = now_us / 1000;
    int64_t most_ms = timers_wait_ms(&host->timers, now_ms, WAIT_MS);
    if (is_connecting(host) && most_ms > LEASE_LOOK_MS) {
        most_ms = LEASE_LOOK_MS;
    }
    if (host->lease_was_valid) {
        most_ms = pacer_wait_ms(&host->pacer, now_us, most_ms);
    }
    return host_publications_wait_ms(host, now_ms, most_ms);
}

/* The engine's wait is the host's: one epoll sees sockets and wake-ups. True: somebody woke it.
 * Whoever sets `woken` writes to wake_fd a moment later: it stays set until that is read. */
static bool wait_and_poll(struct host *host, int64_t timeout_ms) {
    host->ops->poll(host->engine, timeout_ms);
    host->owner->flush(host->owner->context);
    bool woken = atomic_load_explicit(&host->woken, memory_order_relaxed);
    eventfd_t count;
    if (woken && eventfd_read(host->wake_fd, &count) == 0) {
        host->woken = false; /* before looking: who comes now wakes again */
    }
    return woken;
}

/* The clock is read before the wait and after it: there are as many turns as messages. */
static void turn(struct host *host) {
    if (wait_and_poll(host, wait_ms(host, clock_us()))) {
        host_drop_old(host);
        take_commands(host);
        host_take_resolved(host);
    }
    int64_t now_us = clock_us();
    run_timers(host, now_us / 1000);
    host_expire_publications(host, now_us / 1000);
    host_check_lease(host);
    host_watch_brokers(host, now_us / 1000);
    host_admit(host, now_us);
}

/* As if the process had died: no DISCONNECT. */
static void drop_everything(struct host *host) {
    host_drop_all(host, UINT64_MAX, false, "node_stopping");
    empty_inbox(host);
    for (int i = 0; i < STOP_ROUNDS_MAX; i++) {
        host_drop_old(host);
        wait_and_poll(host, i == 0 ? 0 : STOP_ROUND_MS);
        if (host->connection_count == 0 && host->dropped_before == host->drop_before) {
            return;
        }
    }
    log_event(LOG_ERROR, "host_stop", KI("connections_left", host->connection_count));
}

void *host_run(void *argument) {
    struct host *host = argument;
    while (!host->stopping) {
        pulse();
        turn(host);
    }
    drop_everything(host);
    return NULL;
}
