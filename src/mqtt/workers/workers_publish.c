/* Owns the path of a publication to the client's worker, and decides which ones are refused at
 * once. Any thread. */
#include <stdio.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "workers_internal.h"

#define NS_PER_US 1000
#define NS_PER_MS 1000000

static bool workers_publish_is_throttled(const struct client *client,
                                         const struct engine_publication *publication) {
    struct publish_throttled ignored;
    if (!client->throttle) {
        return false;
    }
    struct publish_shape shape = worker_shape_of(publication);
    bool throttled = publish_throttle_refuses(client->throttle, &shape, clock_ms(), &ignored);
    metric_add(METRIC_PUBLISH_THROTTLED, throttled);
    return throttled;
}

bool workers_publish_throttled(struct workers *workers, const char *id,
                               const struct engine_publication *publication,
                               struct publish_throttled *out) {
    struct worker *worker = workers_find_worker(workers, id);
    struct publish_shape shape = worker_shape_of(publication);
    *out = (struct publish_throttled){0};
    pthread_mutex_lock(&worker->lock);
    const struct client *client = workers_find_locked(worker, id);
    bool throttled = client && publish_throttle_refuses(client->throttle, &shape, clock_ms(), out);
    pthread_mutex_unlock(&worker->lock);
    return throttled;
}

/* The quota of its scope, the last of all checks. worker->lock is held. */
static bool workers_publish_take_quota(const struct client *client) {
    struct rate_quota *quota = route_quota(&client->route);
    bool taken = !quota || rate_quota_take(quota, RATE_PUBLICATIONS, clock_us() * NS_PER_US);
    if (!taken) {
        rate_quota_note_refused(quota, RATE_PUBLICATIONS);
    }
    return taken;
}

void workers_publish_over_quota(struct workers *workers, const char *id,
                                struct workers_over_quota *out) {
    struct worker *worker = workers_find_worker(workers, id);
    *out = (struct workers_over_quota){.scope = NULL};
    pthread_mutex_lock(&worker->lock);
    const struct client *client = workers_find_locked(worker, id);
    const struct rate_quota *quota = client ? route_quota(&client->route) : NULL;
    if (quota) {
        int64_t wait_ns = rate_quota_wait_ns(quota, RATE_PUBLICATIONS, clock_us() * NS_PER_US);
        *out = (struct workers_over_quota){.scope = text_dup(rate_quota_scope(quota)),
                                           .per_s = rate_quota_per_s(quota, RATE_PUBLICATIONS),
                                           .wait_ms = wait_ns / NS_PER_MS};
    }
    pthread_mutex_unlock(&worker->lock);
}

/* Checks whether client may have one more. worker->lock is held. */
static enum err workers_publish_admit(struct workers *workers, const struct client *client,
                                      struct worker_publication *publication) {
    const struct engine_publication *about = &publication->publication;
    if (about->property_count > 0 && client->config->config->protocol_version < 5) {
        return ERR_ARGUMENT;
    }
    if (client->state != CLIENT_ONLINE || !client->broker) {
        return ERR_WRONG_STATE;
    }
    if (client->publication_count >= WORKER_PUBLICATIONS_MAX) {
        return ERR_FULL;
    }
    if (workers_publish_is_throttled(client, about)) {
        return ERR_REFUSED;
    }
    enum err err = publish_quota_take(workers->quota, client->broker->key, publication->bytes,
                                      &publication->share);
    metric_add(METRIC_PUBLISH_BUSY, err == ERR_BUSY);
    if (err == ERR_OK && !workers_publish_take_quota(client)) {
        err = ERR_OVER_QUOTA;
    }
    return err;
}

/* Counts it as outstanding. */
static enum err workers_publish_begin(struct workers *workers, struct worker *worker,
                                      struct worker_command *command) {
    pthread_mutex_lock(&worker->lock);
    struct client *client = workers_find_locked(worker, command->id);
    enum err err =
        client ? workers_publish_admit(workers, client, command->publication) : ERR_NOT_FOUND;
    if (err == ERR_OK) {
        client->publication_count++;
        command->record = client->record;
    }
    pthread_mutex_unlock(&worker->lock);
    return err;
}

static void workers_publish_undo(struct worker *worker, const char *id, uint64_t record) {
    pthread_mutex_lock(&worker->lock);
    struct client *client = workers_find_locked(worker, id);
    if (client && client->record == record) {
        client->publication_count--;
    }
    pthread_mutex_unlock(&worker->lock);
}

enum err workers_publish(struct workers *workers, const char *id,
                         const struct engine_publication *publication, workers_published *published,
                         void *context) {
    struct worker *worker = workers_find_worker(workers, id);
    struct worker_command *command = workers_command_create(WORKER_PUBLISH, id);
    if (!command || !(command->publication = worker_publication_copy(publication))) {
        worker_command_free(command);
        return ERR_MEMORY;
    }
    command->publication->published = published;
    command->publication->context = context;
    command->publication->begun_us = clock_us();
    command->publication->deadline_ms = clock_ms() + workers->conf->publish_timeout_ms;
    enum err err = workers_publish_begin(workers, worker, command);
    if (err != ERR_OK) {
        worker_command_free(command);
        return err;
    }
    uint64_t record = command->record;
    err = workers_push(worker, command);
    if (err != ERR_OK) {
        workers_publish_undo(worker, id, record);
    }
    return err;
}

bool workers_publish_busy(struct workers *workers, const char *id, struct workers_busy *out) {
    struct worker *worker = workers_find_worker(workers, id);
    pthread_mutex_lock(&worker->lock);
    const struct client *client = workers_find_locked(worker, id);
    const struct broker *broker = client ? client->broker : NULL;
    snprintf(out->broker, sizeof out->broker, "%s", broker ? broker->key : "");
    pthread_mutex_unlock(&worker->lock);
    out->use = publish_quota_use(workers->quota, out->broker);
    return broker != NULL;
}

enum err workers_publish_remote(struct workers *workers, const char *broker,
                                struct publish_share **out) {
    enum err err = publish_quota_take(workers->quota, broker, 0, out);
    metric_add(METRIC_PUBLISH_BUSY, err == ERR_BUSY);
    return err;
}

struct publish_use workers_publish_use_of(struct workers *workers, const char *broker) {
    return publish_quota_use(workers->quota, broker);
}

struct publish_use workers_publish_use(struct workers *workers) {
    return publish_quota_use(workers->quota, NULL);
}
