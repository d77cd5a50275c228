/* Owns the way of a publication to the client's host: what is refused at once, and why. Any thread.
 */
#include <stdio.h>
#include "base/clock.h"
#include "base/metrics.h"
#include "hosts_internal.h"

static bool publish_is_throttled(const struct client *client,
                                 const struct engine_publication *publication) {
    struct publish_throttled ignored;
    if (client->throttle == NULL) {
        return false;
    }
    struct publish_shape shape = host_shape_of(publication);
    bool throttled = publish_throttle_holds(client->throttle, &shape, clock_ms(), &ignored);
    metric_add(METRIC_PUBLISH_THROTTLED, throttled);
    return throttled;
}

bool hosts_publish_throttled(struct hosts *hosts, const char *id,
                             const struct engine_publication *publication,
                             struct publish_throttled *out) {
    struct host *host = hosts_host_of(hosts, id);
    struct publish_shape shape = host_shape_of(publication);
    *out = (struct publish_throttled){0};
    pthread_mutex_lock(&host->lock);
    const struct client *client = hosts_find_locked(host, id);
    bool throttled =
        client != NULL && publish_throttle_holds(client->throttle, &shape, clock_ms(), out);
    pthread_mutex_unlock(&host->lock);
    return throttled;
}

/* Of client, for one more. host->lock is held. */
static enum err publish_admit(struct hosts *hosts, const struct client *client,
                              struct host_publication *publication) {
    const struct engine_publication *about = &publication->publication;
    if (about->property_count > 0 && client->config->config->protocol_version < 5) {
        return ERR_ARGUMENT;
    }
    if (client->state != CLIENT_ONLINE || client->broker == NULL) {
        return ERR_WRONG_STATE;
    }
    if (client->publication_count >= HOST_PUBLICATIONS_MAX) {
        return ERR_FULL;
    }
    if (publish_is_throttled(client, about)) {
        return ERR_REFUSED;
    }
    enum err result = publish_quota_take(hosts->quota, client->broker->key, publication->bytes,
                                         &publication->share);
    metric_add(METRIC_PUBLISH_BUSY, result == ERR_BUSY);
    return result;
}

/* Counts it as outstanding. */
static enum err publish_begin(struct hosts *hosts, struct host *host,
                              struct host_command *command) {
    pthread_mutex_lock(&host->lock);
    struct client *client = hosts_find_locked(host, command->id);
    enum err result =
        client != NULL ? publish_admit(hosts, client, command->publication) : ERR_NOT_FOUND;
    if (result == ERR_OK) {
        client->publication_count++;
        command->record = client->record;
    }
    pthread_mutex_unlock(&host->lock);
    return result;
}

static void publish_undo(struct host *host, const char *id, uint64_t record) {
    pthread_mutex_lock(&host->lock);
    struct client *client = hosts_find_locked(host, id);
    if (client != NULL && client->record == record) {
        client->publication_count--;
    }
    pthread_mutex_unlock(&host->lock);
}

enum err hosts_publish(struct hosts *hosts, const char *id,
                       const struct engine_publication *publication, hosts_published *published,
                       void *context) {
    struct host *host = hosts_host_of(hosts, id);
    struct host_command *command = hosts_command_create(HOST_PUBLISH, id);
    if (command == NULL || (command->publication = host_publication_copy(publication)) == NULL) {
        host_command_free(command);
        return ERR_MEMORY;
    }
    command->publication->published = published;
    command->publication->context = context;
    command->publication->begun_us = clock_us();
    command->publication->deadline_ms = clock_ms() + hosts->conf->publish_timeout_ms;
    enum err result = publish_begin(hosts, host, command);
    if (result != ERR_OK) {
        host_command_free(command);
        return result;
    }
    uint64_t record = command->record;
    result = hosts_push(host, command);
    if (result != ERR_OK) {
        publish_undo(host, id, record);
    }
    return result;
}

bool hosts_publish_busy(struct hosts *hosts, const char *id, struct hosts_busy *out) {
    struct host *host = hosts_host_of(hosts, id);
    pthread_mutex_lock(&host->lock);
    const struct client *client = hosts_find_locked(host, id);
    const struct broker *broker = client != NULL ? client->broker : NULL;
    snprintf(out->broker, sizeof out->broker, "%s", broker != NULL ? broker->key : "");
    pthread_mutex_unlock(&host->lock);
    out->use = publish_quota_use(hosts->quota, out->broker);
    return broker != NULL;
}

enum err hosts_publish_elsewhere(struct hosts *hosts, const char *broker,
                                 struct publish_share **out) {
    enum err result = publish_quota_take(hosts->quota, broker, 0, out);
    metric_add(METRIC_PUBLISH_BUSY, result == ERR_BUSY);
    return result;
}

struct publish_use hosts_publish_use_of(struct hosts *hosts, const char *broker) {
    return publish_quota_use(hosts->quota, broker);
}

struct publish_use hosts_publish_use(struct hosts *hosts) {
    return publish_quota_use(hosts->quota, NULL);
}
