/* Owns the workers of a node: which worker has a client, and which incarnation is accepted. Any
 * thread; passes work to the workers and does not wait for them (except workers_stop_all).
 * workers_view.c shows their clients. Lock order: workers->lock, a worker's lock, its queue's lock.
 */
#include "mqtt/workers/workers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/system/condition.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "workers_internal.h"

/* ---- life ---- */

static size_t workers_thread_count_wanted(const struct conf *conf, const struct engine_ops *ops) {
    long wanted = conf->workers > 0 ? (long)conf->workers : sysconf(_SC_NPROCESSORS_ONLN);
    size_t n = wanted > 0 ? (size_t)wanted : 1;
    return ops->workers_max > 0 && n > ops->workers_max ? ops->workers_max : n;
}

static enum err workers_create_policy(struct workers *workers) {
    const struct conf *conf = workers->conf;
    return address_policy_create(&workers->policy, conf->broker_allow, conf->broker_deny,
                                 conf->http_listen);
}

static bool workers_create_all(struct workers *workers, const struct engine_ops *ops) {
    size_t wanted = workers_thread_count_wanted(workers->conf, ops);
    workers->all = calloc(wanted, sizeof *workers->all);
    if (!workers->all) {
        return false;
    }
    for (size_t i = 0; i < wanted; i++) {
        workers->all[i] =
            worker_create(workers->conf, &workers->owner, ops, workers->resolver, workers->policy);
        if (!workers->all[i]) {
            return false;
        }
        workers->all[i]->good_addresses = workers->good_addresses;
        workers->all[i]->brokers.incidents = workers->incidents;
        connect_limiter_share(&workers->all[i]->connect_limiter, i, wanted);
        workers->count++;
    }
    return true;
}

/* Requests that wait for something else keep a quarter of the waiting requests; a worker keeps half
 * of its buffers for connections. */
static struct publish_quota *workers_create_quota(const struct conf *conf) {
    int64_t requests = conf->http_waiters < conf->http_connections_max ? conf->http_waiters
                                                                       : conf->http_connections_max;
    const struct publish_use most = {.waiting = (size_t)requests * 3 / 4,
                                     .bytes = (size_t)conf->buffer_bytes / 2};
    return publish_quota_create(&most);
}

struct workers *workers_create(const struct conf *conf, const struct workers_owner *owner) {
    const struct engine_ops *ops = engine_find(conf->engine);
    struct workers *workers = calloc(1, sizeof *workers);
    if (!workers) {
        return NULL;
    }
    workers->conf = conf;
    workers->owner = *owner;
    workers->generation = 1;
    pthread_mutex_init(&workers->lock, NULL);
    workers->resolver = resolver_create(conf->dns_ttl_ms);
    workers->good_addresses = good_addresses_create();
    workers->incidents = incidents_create();
    if (workers->incidents) {
        incidents_observe(workers->incidents, owner->incident, owner->context);
    }
    workers->quota = workers_create_quota(conf);
    if (!ops || !workers->resolver || !workers->good_addresses || !workers->incidents ||
        !workers->quota || workers_create_policy(workers) != ERR_OK ||
        !workers_create_all(workers, ops)) {
        workers_destroy(workers);
        return NULL;
    }
    return workers;
}

void workers_destroy(struct workers *workers) {
    if (!workers) {
        return;
    }
    for (size_t i = 0; i < workers->count; i++) {
        worker_destroy(workers->all[i]);
    }
    free(workers->all);
    publish_quota_destroy(workers->quota);
    incidents_destroy(workers->incidents);
    resolver_destroy(workers->resolver);
    address_policy_destroy(workers->policy);
    good_addresses_destroy(workers->good_addresses);
    free(workers->incarnation);
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}

size_t workers_thread_count(const struct workers *workers) {
    return workers->count;
}

void *workers_thread(struct workers *workers, size_t index) {
    assert(index < workers->count);
    return workers->all[index];
}

void *workers_run(void *argument) {
    return worker_run(argument);
}

void workers_probe(struct workers *workers, struct client_config *config, int64_t timeout_ms,
                   const struct probe_caller *caller, struct probe_report *report) {
    const struct probe_wiring wiring = {workers->conf, workers->resolver, workers->policy};
    probe_run(&wiring, config, timeout_ms, caller, report);
}

void *workers_resolver_run(void *argument) {
    struct workers *workers = argument;
    return resolver_run(workers->resolver);
}

void workers_stop_threads(struct workers *workers) {
    resolver_stop(workers->resolver);
    for (size_t i = 0; i < workers->count; i++) {
        worker_stop(workers->all[i]);
    }
}

void workers_accept(struct workers *workers, const char *incarnation) {
    char *copy = text_dup(incarnation);
    pthread_mutex_lock(&workers->lock);
    free(workers->incarnation);
    workers->incarnation = copy;
    pthread_mutex_unlock(&workers->lock);
}

/* ---- commands ---- */

struct worker *workers_find_worker(const struct workers *workers, const char *id) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = id; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    }
    return workers->all[hash % workers->count];
}

struct client *workers_find_locked(struct worker *worker, const char *id) {
    struct client *client;
    HASH_FIND_STR(worker->clients, id, client);
    return client;
}

struct worker_command *workers_command_create(enum worker_command_kind kind, const char *id) {
    struct worker_command *command = calloc(1, sizeof *command);
    if (command) {
        command->kind = kind;
        command->id = text_dup(id);
    }
    if (!command || !command->id) {
        worker_command_free(command);
        return NULL;
    }
    return command;
}

static enum err workers_queue_command(struct worker *worker, struct worker_command *command) {
    enum err err = queue_push(worker->inbox, command);
    if (err == ERR_OK) {
        worker_wake(worker);
    }
    return err;
}

enum err workers_push(struct worker *worker, struct worker_command *command) {
    enum err err = workers_queue_command(worker, command);
    if (err != ERR_OK) {
        worker_command_free(command);
    }
    return err;
}

/* ---- start ---- */

/* The record exists, and is shown, before the worker thread runs. It is inserted together with the
 * command, so that both have the same order. */
static enum err workers_push_start(struct worker *worker, struct worker_command *command) {
    struct client *created = NULL;
    enum err err;
    pthread_mutex_lock(&worker->lock);
    if (!workers_find_locked(worker, command->id)) {
        created = client_create(worker, worker->owner->router, command->config);
        if (!created) {
            pthread_mutex_unlock(&worker->lock);
            worker_command_free(command);
            return ERR_MEMORY;
        }
        if (command->history) {
            client_restore_history(created, command->history);
        }
        worker_insert(created, command->epoch, command->version, command->generation);
    }
    free(command->history);
    command->history = NULL;
    err = workers_queue_command(worker, command);
    if (err != ERR_OK && created) {
        worker_remove(created);
    }
    pthread_mutex_unlock(&worker->lock);
    if (err != ERR_OK) {
        client_destroy(created);
        worker_command_free(command);
    }
    return err;
}

static enum err workers_start_client(struct workers *workers, struct worker_command *command,
                                     const char *incarnation) {
    if (!command) {
        return ERR_MEMORY;
    }
    pthread_mutex_lock(&workers->lock);
    command->generation = workers->generation;
    bool allowed = workers->incarnation && strcmp(workers->incarnation, incarnation) == 0;
    enum err err = allowed ? workers_push_start(workers_find_worker(workers, command->id), command)
                           : ERR_WRONG_STATE;
    pthread_mutex_unlock(&workers->lock);
    if (!allowed) {
        worker_command_free(command);
    }
    return err;
}

/* Takes ownership of config. NULL: out of memory. */
static struct worker_command *
workers_create_start_command(struct client_config *config,
                             const struct workers_assignment *assignment) {
    struct shared_config *shared = shared_config_create(config);
    if (!shared) {
        client_config_destroy(config);
        return NULL;
    }
    struct worker_command *command = workers_command_create(WORKER_START, config->id);
    if (!command) {
        shared_config_release(shared);
        return NULL;
    }
    command->config = shared;
    command->epoch = assignment->epoch;
    command->version = assignment->version;
    if (assignment->history) {
        command->history = client_history_parse(assignment->history);
        command->since = client_history_since(assignment->history);
    }
    return command;
}

enum err workers_start(struct workers *workers, struct client_config *config,
                       const struct workers_assignment *assignment) {
    return workers_start_client(workers, workers_create_start_command(config, assignment),
                                assignment->incarnation);
}

/* ---- stop, retry, restart ---- */

enum err workers_stop(struct workers *workers, const char *id, int64_t epoch, const char *reason,
                      workers_done *done, void *context) {
    struct worker *worker = workers_find_worker(workers, id);
    struct worker_command *command = workers_command_create(WORKER_STOP, id);
    if (!command) {
        return ERR_MEMORY;
    }
    command->epoch = epoch;
    command->reason = text_dup(reason);
    command->done = done;
    command->context = context;
    pthread_mutex_lock(&workers->lock);
    enum err err =
        workers_push(worker, command); /* also for an unknown id: a start may be in the queue */
    pthread_mutex_unlock(&workers->lock);
    return err;
}

enum err workers_retry(struct workers *workers, const char *id, int64_t epoch, int64_t delay_ms) {
    struct worker_command *command = workers_command_create(WORKER_RETRY, id);
    if (!command) {
        return ERR_MEMORY;
    }
    command->epoch = epoch;
    command->delay_ms = delay_ms;
    return workers_push(workers_find_worker(workers, id), command);
}

enum err workers_push_query(struct workers *workers, const char *id, struct workers_query *query) {
    struct worker *worker = workers_find_worker(workers, id);
    pthread_mutex_lock(&worker->lock);
    bool found = workers_find_locked(worker, id) != NULL;
    pthread_mutex_unlock(&worker->lock);
    if (!found) {
        return ERR_NOT_FOUND;
    }
    struct worker_command *command = workers_command_create(WORKER_QUERY, id);
    if (!command) {
        return ERR_MEMORY;
    }
    command->context = query;
    return workers_push(worker, command);
}

enum err workers_restart(struct workers *workers, const char *id, const char *reason) {
    struct worker *worker = workers_find_worker(workers, id);
    pthread_mutex_lock(&worker->lock);
    const struct client *client = workers_find_locked(worker, id);
    enum err err = !client                           ? ERR_NOT_FOUND
                   : client->state == CLIENT_PAUSED  ? ERR_WRONG_STATE
                   : client->state == CLIENT_CLOSING ? ERR_NOT_FOUND
                                                     : ERR_OK;
    pthread_mutex_unlock(&worker->lock);
    if (err != ERR_OK) {
        return err;
    }
    struct worker_command *command = workers_command_create(WORKER_RESTART, id);
    if (!command) {
        return ERR_MEMORY;
    }
    command->reason = text_dup(reason);
    return workers_push(worker, command);
}

static enum err workers_wait_until_empty(struct worker *worker, const struct timespec *until) {
    int failed = 0;
    pthread_mutex_lock(&worker->lock);
    while (worker->clients && failed == 0) {
        failed = pthread_cond_timedwait(&worker->forgotten, &worker->lock, until);
    }
    bool empty = !worker->clients;
    pthread_mutex_unlock(&worker->lock);
    return empty ? ERR_OK : ERR_TIMEOUT;
}

enum err workers_stop_all(struct workers *workers, const char *reason, bool with_disconnect,
                          int64_t timeout_ms) {
    struct timespec until = condition_deadline(timeout_ms);
    enum err err = ERR_OK;
    pthread_mutex_lock(&workers->lock);
    free(workers->incarnation);
    workers->incarnation = NULL;
    uint64_t generation = ++workers->generation;
    pthread_mutex_unlock(&workers->lock);
    for (size_t i = 0; i < workers->count; i++) {
        worker_drop_all(workers->all[i], generation, with_disconnect, reason);
    }
    for (size_t i = 0; i < workers->count; i++) {
        enum err one = workers_wait_until_empty(workers->all[i], &until);
        err = one != ERR_OK ? one : err;
    }
    return err;
}
