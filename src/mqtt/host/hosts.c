/* Owns the hosts of a node and the way to them: which host has a client, which incarnation is
 * served. Any thread; hands work over, waits for no host (hosts_stop_all excepted). What is shown
 * of them is in hosts_view.c. Locks: hosts->lock, then a host's lock, then its queue's. */
#include "mqtt/hosts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/condition.h"
#include "base/metrics.h"
#include "base/text.h"
#include "hosts_internal.h"

/* ---- life ---- */

static size_t host_count(const struct engine_ops *ops) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n = cores > 0 ? (size_t)cores : 1;
    return ops->hosts_max > 0 && n > ops->hosts_max ? ops->hosts_max : n;
}

static enum err create_policy(struct hosts *hosts) {
    const struct conf *conf = hosts->conf;
    return address_policy_create(&hosts->policy, conf->broker_allow, conf->broker_deny,
                                 conf->http_listen);
}

static bool create_all(struct hosts *hosts, const struct engine_ops *ops) {
    size_t wanted = host_count(ops);
    hosts->all = calloc(wanted, sizeof(*hosts->all));
    if (hosts->all == NULL) {
        return false;
    }
    for (size_t i = 0; i < wanted; i++) {
        hosts->all[i] =
            host_create(hosts->conf, &hosts->owner, ops, hosts->resolver, hosts->policy);
        if (hosts->all[i] == NULL) {
            return false;
        }
        hosts->all[i]->good = hosts->good;
        hosts->all[i]->brokers.incidents = hosts->incidents;
        pacer_share(&hosts->all[i]->pacer, i, wanted);
        hosts->count++;
    }
    return true;
}

/* Requests that wait for anything else keep a quarter of those that may; a host thread keeps half
 * of its buffers for what connections hold. */
static struct publish_quota *create_quota(const struct conf *conf) {
    int64_t requests = conf->http_waiters < conf->http_connections_max ? conf->http_waiters
                                                                       : conf->http_connections_max;
    const struct publish_use most = {.waiting = (size_t)requests * 3 / 4,
                                     .bytes = (size_t)conf->buffer_bytes / 2};
    return publish_quota_create(&most);
}

struct hosts *hosts_create(const struct conf *conf, const struct hosts_owner *owner) {
    const struct engine_ops *ops = engine_find(conf->engine);
    struct hosts *hosts = calloc(1, sizeof(*hosts));
    if (hosts == NULL) {
        return NULL;
    }
    hosts->conf = conf;
    hosts->owner = *owner;
    hosts->generation = 1;
    pthread_mutex_init(&hosts->lock, NULL);
    hosts->resolver = resolver_create(conf->dns_ttl_ms);
    hosts->good = good_addresses_create();
    hosts->incidents = incidents_create();
    hosts->quota = create_quota(conf);
    if (ops == NULL || hosts->resolver == NULL || hosts->good == NULL || hosts->incidents == NULL ||
        hosts->quota == NULL || create_policy(hosts) != ERR_OK || !create_all(hosts, ops)) {
        hosts_destroy(hosts);
        return NULL;
    }
    return hosts;
}

void hosts_destroy(struct hosts *hosts) {
    if (hosts == NULL) {
        return;
    }
    for (size_t i = 0; i < hosts->count; i++) {
        host_destroy(hosts->all[i]);
    }
    free(hosts->all);
    publish_quota_destroy(hosts->quota);
    incidents_destroy(hosts->incidents);
    resolver_destroy(hosts->resolver);
    address_policy_destroy(hosts->policy);
    good_addresses_destroy(hosts->good);
    free(hosts->incarnation);
    pthread_mutex_destroy(&hosts->lock);
    free(hosts);
}

size_t hosts_thread_count(const struct hosts *hosts) {
    return hosts->count;
}

void *hosts_thread(struct hosts *hosts, size_t index) {
    assert(index < hosts->count);
    return hosts->all[index];
}

void *hosts_run(void *argument) {
    return host_run(argument);
}

void hosts_probe(struct hosts *hosts, struct client_config *config, int64_t timeout_ms,
                 const struct probe_asker *asker, struct probe_report *report) {
    const struct probe_wiring wiring = {hosts->conf, hosts->resolver, hosts->policy};
    probe_run(&wiring, config, timeout_ms, asker, report);
}

void *hosts_resolver_run(void *argument) {
    struct hosts *hosts = argument;
    return resolver_run(hosts->resolver);
}

void hosts_stop_threads(struct hosts *hosts) {
    resolver_stop(hosts->resolver);
    for (size_t i = 0; i < hosts->count; i++) {
        host_stop(hosts->all[i]);
    }
}

void hosts_flush(struct hosts *hosts) {
    for (size_t i = 0; i < hosts->count; i++) {
        hosts->all[i]->ops->flush(hosts->all[i]->engine);
    }
}

void hosts_accept(struct hosts *hosts, const char *incarnation) {
    char *copy = text_dup(incarnation);
    pthread_mutex_lock(&hosts->lock);
    free(hosts->incarnation);
    hosts->incarnation = copy;
    pthread_mutex_unlock(&hosts->lock);
}

/* ---- handing over ---- */

struct host *hosts_host_of(const struct hosts *hosts, const char *id) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = id; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    }
    return hosts->all[hash % hosts->count];
}

struct client *hosts_find_locked(struct host *host, const char *id) {
    struct client *client;
    HASH_FIND_STR(host->clients, id, client);
    return client;
}

struct host_command *hosts_command_create(enum host_command_kind kind, const char *id) {
    struct host_command *command = calloc(1, sizeof(*command));
    if (command != NULL) {
        command->kind = kind;
        command->id = text_dup(id);
    }
    if (command == NULL || command->id == NULL) {
        host_command_free(command);
        return NULL;
    }
    return command;
}

static enum err queue(struct host *host, struct host_command *command) {
    enum err result = queue_push(host->inbox, command);
    if (result == ERR_OK) {
        host_wake(host);
    }
    return result;
}

enum err hosts_push(struct host *host, struct host_command *command) {
    enum err result = queue(host, command);
    if (result != ERR_OK) {
        host_command_free(command);
    }
    return result;
}

/* ---- start ---- */

/* The record is there, and shown, before the host thread has looked: put in together with the
 * command, so that the order of both is the same. */
static enum err push_start(struct host *host, struct host_command *command) {
    struct client *created = NULL;
    enum err result;
    pthread_mutex_lock(&host->lock);
    if (hosts_find_locked(host, command->id) == NULL) {
        created = client_create(host, command->config);
        if (created == NULL) {
            pthread_mutex_unlock(&host->lock);
            host_command_free(command);
            return ERR_MEMORY;
        }
        host_insert(created, command->epoch, command->version, command->generation);
    }
    result = queue(host, command);
    if (result != ERR_OK && created != NULL) {
        HASH_DEL(host->clients, created);
        host->counts[created->state]--;
    }
    pthread_mutex_unlock(&host->lock);
    if (result != ERR_OK) {
        client_destroy(created);
        host_command_free(command);
    }
    return result;
}

static enum err start(struct hosts *hosts, struct host_command *command, const char *incarnation) {
    if (command == NULL) {
        return ERR_MEMORY;
    }
    pthread_mutex_lock(&hosts->lock);
    command->generation = hosts->generation;
    bool allowed = hosts->incarnation != NULL && strcmp(hosts->incarnation, incarnation) == 0;
    enum err result =
        allowed ? push_start(hosts_host_of(hosts, command->id), command) : ERR_WRONG_STATE;
    pthread_mutex_unlock(&hosts->lock);
    if (!allowed) {
        host_command_free(command);
    }
    return result;
}

/* Takes ownership of config. NULL: out of memory. */
static struct host_command *start_command(struct client_config *config, int64_t epoch,
                                          int64_t version) {
    struct shared_config *shared = shared_config_create(config);
    if (shared == NULL) {
        client_config_destroy(config);
        return NULL;
    }
    struct host_command *command = hosts_command_create(HOST_START, config->id);
    if (command == NULL) {
        shared_config_release(shared);
        return NULL;
    }
    command->config = shared;
    command->epoch = epoch;
    command->version = version;
    return command;
}

enum err hosts_start(struct hosts *hosts, struct client_config *config, const char *incarnation,
                     int64_t epoch, int64_t version) {
    return start(hosts, start_command(config, epoch, version), incarnation);
}

/* ---- stop, retry, restart ---- */

enum err hosts_stop(struct hosts *hosts, const char *id, int64_t epoch, const char *reason,
                    hosts_done *done, void *context) {
    struct host *host = hosts_host_of(hosts, id);
    struct host_command *command = hosts_command_create(HOST_STOP, id);
    if (command == NULL) {
        return ERR_MEMORY;
    }
    command->epoch = epoch;
    command->reason = text_dup(reason);
    command->done = done;
    command->context = context;
    pthread_mutex_lock(&hosts->lock);
    enum err result =
        hosts_push(host, command); /* also for an unknown id: a start may be in the queue */
    pthread_mutex_unlock(&hosts->lock);
    return result;
}

enum err hosts_retry(struct hosts *hosts, const char *id, int64_t epoch, int64_t delay_ms) {
    struct host_command *command = hosts_command_create(HOST_RETRY, id);
    if (command == NULL) {
        return ERR_MEMORY;
    }
    command->epoch = epoch;
    command->delay_ms = delay_ms;
    return hosts_push(hosts_host_of(hosts, id), command);
}

enum err hosts_push_query(struct hosts *hosts, const char *id, struct publications_query *query) {
    struct host *host = hosts_host_of(hosts, id);
    pthread_mutex_lock(&host->lock);
    bool found = hosts_find_locked(host, id) != NULL;
    pthread_mutex_unlock(&host->lock);
    if (!found) {
        return ERR_NOT_FOUND;
    }
    struct host_command *command = hosts_command_create(HOST_QUERY, id);
    if (command == NULL) {
        return ERR_MEMORY;
    }
    command->context = query;
    return hosts_push(host, command);
}

enum err hosts_restart(struct hosts *hosts, const char *id, const char *reason) {
    struct host *host = hosts_host_of(hosts, id);
    pthread_mutex_lock(&host->lock);
    const struct client *client = hosts_find_locked(host, id);
    enum err result = client == NULL                    ? ERR_NOT_FOUND
                      : client->state == CLIENT_PAUSED  ? ERR_WRONG_STATE
                      : client->state == CLIENT_CLOSING ? ERR_NOT_FOUND
                                                        : ERR_OK;
    pthread_mutex_unlock(&host->lock);
    if (result != ERR_OK) {
        return result;
    }
    struct host_command *command = hosts_command_create(HOST_RESTART, id);
    if (command == NULL) {
        return ERR_MEMORY;
    }
    command->reason = text_dup(reason);
    return hosts_push(host, command);
}

static enum err wait_until_empty(struct host *host, const struct timespec *until) {
    int failed = 0;
    pthread_mutex_lock(&host->lock);
    while (host->clients != NULL && failed == 0) {
        failed = pthread_cond_timedwait(&host->forgotten, &host->lock, until);
    }
    bool empty = host->clients == NULL;
    pthread_mutex_unlock(&host->lock);
    return empty ? ERR_OK : ERR_TIMEOUT;
}

enum err hosts_stop_all(struct hosts *hosts, const char *reason, bool polite, int64_t timeout_ms) {
    struct timespec until = condition_deadline(timeout_ms);
    enum err result = ERR_OK;
    pthread_mutex_lock(&hosts->lock);
    free(hosts->incarnation);
    hosts->incarnation = NULL;
    uint64_t generation = ++hosts->generation;
    pthread_mutex_unlock(&hosts->lock);
    for (size_t i = 0; i < hosts->count; i++) {
        host_drop_all(hosts->all[i], generation, polite, reason);
    }
    for (size_t i = 0; i < hosts->count; i++) {
        enum err one = wait_until_empty(hosts->all[i], &until);
        result = one != ERR_OK ? one : result;
    }
    return result;
}
