/* Owns what passes through an open connection: received messages on their way to the owner, and
 * publications on their way to the broker. host_message and host_wait_room run on the engine's
 * threads, the acknowledgement on the sink's, all else on the host thread. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "mqtt/host.h"

#define SKIP_LOG_MS 1000

/* ---- received ---- */

/* Until a sink has the message. Needs neither client nor host, which may be gone by then. */
struct acceptance {
    const struct engine_ops *ops;
    struct engine *engine;
    void *receipt;
};

static void on_accepted(void *context, enum err result) {
    struct acceptance *acceptance = context;
    acceptance->ops->acknowledge(acceptance->engine, acceptance->receipt, result);
    free(acceptance);
}

static void count_received(struct client *client, uint8_t qos, size_t payload_len, int64_t at_ms) {
    client->messages_in++;
    client->bytes_in += (int64_t)payload_len;
    client->last_packet_at_ms = at_ms;
    metric_add(METRIC_RECEIVED_QOS0 + qos, 1);
    metric_add(METRIC_BYTES_RECEIVED, (int64_t)payload_len);
}

static enum err deliver(struct client *client, struct message *message,
                        struct acceptance *acceptance) {
    const struct hosts_owner *owner = client->host->owner;
    return owner->deliver(owner->context, client->sink, message, acceptance ? on_accepted : NULL,
                          acceptance);
}

enum err host_message(void *context, struct message *message, void *receipt) {
    struct client *client = context;
    struct acceptance *acceptance = NULL;
    size_t payload_len = message->payload_len;
    int64_t received_at_ms = message->received_at_ms;
    uint8_t qos = message->qos;
    if (receipt != NULL) {
        acceptance = malloc(sizeof(*acceptance));
        if (acceptance == NULL) {
            return ERR_FULL; /* offered again a little later */
        }
        *acceptance = (struct acceptance){client->host->ops, client->host->engine, receipt};
    }
    enum err result = deliver(client, message, acceptance);
    if (result == ERR_OK) {
        count_received(client, qos, payload_len, received_at_ms);
        return ERR_OK;
    }
    free(acceptance);
    if (result == ERR_REFUSED) { /* dropped, and counted by the sink */
        count_received(client, qos, payload_len, received_at_ms);
        client->messages_dropped++;
        return ERR_OK;
    }
    if (qos == 0 && result != ERR_FULL) {
        client->messages_dropped++;
        metric_add(METRIC_DROPPED_SINK_REFUSED, 1);
    }
    return result;
}

static const struct {
    enum metric metric;
    enum client_error error;
    const char *why;
} skips[ENGINE_SKIP_COUNT] = {
    [ENGINE_SKIP_OVERSIZE] = {METRIC_SKIPPED_OVERSIZE, CLIENT_ERROR_MESSAGE_TOO_LARGE,
                              "it is larger than max_packet_bytes"},
    [ENGINE_SKIP_TOPIC] = {METRIC_SKIPPED_TOPIC, CLIENT_ERROR_MESSAGE_SKIPPED,
                           "its topic is malformed"},
    [ENGINE_SKIP_ALIAS] = {METRIC_SKIPPED_ALIAS, CLIENT_ERROR_MESSAGE_SKIPPED,
                           "the broker never gave its topic alias a topic"},
    [ENGINE_SKIP_CONTENT] = {METRIC_SKIPPED_CONTENT, CLIENT_ERROR_MESSAGE_SKIPPED,
                             "it is malformed"},
};

/* One line a second: a broker may have many of them. */
static void log_skipped(struct client *client, const char *message) {
    struct host *host = client->host;
    int64_t now_ms = clock_ms();
    bool again = host->skip_logged_at_ms > 0 && now_ms - host->skip_logged_at_ms < SKIP_LOG_MS;
    log_event(again ? LOG_DEBUG : LOG_WARN, "message_skipped", KS("client", client->id),
              KS("detail", message));
    host->skip_logged_at_ms = again ? host->skip_logged_at_ms : now_ms;
}

void host_skipped(void *context, const struct engine_skipped *skipped) {
    struct client *client = context;
    char message[512];
    snprintf(message, sizeof(message), "skipped a message of %zu bytes, topic \"%s\", QoS %u: %s",
             skipped->bytes, skipped->topic, skipped->qos, skips[skipped->reason].why);
    client->last_packet_at_ms = clock_wall_ms();
    metric_add(skips[skipped->reason].metric, 1);
    log_skipped(client, message);
    host_notice(client, skips[skipped->reason].error, message);
}

void host_flush(void *context) {
    struct client *client = context;
    client->host->owner->flush(client->host->owner->context);
}

bool host_has_room(void *context) {
    struct client *client = context;
    const struct hosts_owner *owner = client->host->owner;
    return owner->has_room(owner->context, client->sink);
}

void host_wait_room(void *context, int64_t timeout_ms) {
    struct client *client = context;
    const struct hosts_owner *owner = client->host->owner;
    owner->wait_room(owner->context, client->sink, timeout_ms);
}

/* ---- published ---- */

/* Appends a copy and returns where it is. */
static char *put(char **at, const void *data, size_t len) {
    char *place = *at;
    if (len > 0) {
        memcpy(place, data, len);
    }
    place[len] = '\0';
    *at += len + 1;
    return place;
}

static size_t publication_size(const struct engine_publication *from) {
    size_t size = strlen(from->topic) + 1 + from->payload_len + 1;
    for (size_t i = 0; i < from->property_count; i++) {
        const struct message_property *property = &from->properties[i];
        size += strlen(property->name) + 1 + property->value_len + 1;
        size += property->key ? strlen(property->key) + 1 : 0;
    }
    return size;
}

struct host_publication *host_publication_copy(const struct engine_publication *from) {
    struct host_publication *copy = calloc(1, sizeof(*copy));
    if (copy == NULL) {
        return NULL;
    }
    copy->data = malloc(publication_size(from));
    copy->properties = calloc(from->property_count + 1, sizeof(*copy->properties));
    if (copy->data == NULL || copy->properties == NULL) {
        host_publication_free(copy);
        return NULL;
    }
    char *at = copy->data;
    copy->publication = *from;
    copy->publication.topic = put(&at, from->topic, strlen(from->topic));
    copy->publication.payload = (uint8_t *)put(&at, from->payload, from->payload_len);
    copy->publication.properties = copy->properties;
    for (size_t i = 0; i < from->property_count; i++) {
        const struct message_property *property = &from->properties[i];
        copy->properties[i] = (struct message_property){
            .name = put(&at, property->name, strlen(property->name)),
            .key = property->key ? put(&at, property->key, strlen(property->key)) : NULL,
            .value = put(&at, property->value, property->value_len),
            .value_len = property->value_len,
        };
    }
    return copy;
}

void host_publication_free(struct host_publication *publication) {
    if (publication != NULL) {
        free(publication->properties);
        free(publication->data);
        free(publication);
    }
}

static void answer(struct host_publication *publication, enum err result, int reason_code) {
    hosts_published *published = publication->published;
    publication->published = NULL;
    if (result != ERR_OK || reason_code >= 0x80) {
        metric_add(METRIC_PUBLISH_FAILED, 1);
    }
    published(publication->context, result, reason_code);
}

static void count_down(struct client *client) {
    pthread_mutex_lock(&client->host->lock);
    client->publication_count--;
    pthread_mutex_unlock(&client->host->lock);
}

static void count_sent(struct client *client, const struct host_publication *publication) {
    int64_t bytes = (int64_t)publication->publication.payload_len;
    client->messages_out++;
    client->bytes_out += bytes;
    client->last_packet_at_ms = clock_wall_ms();
    metric_add(METRIC_MESSAGES_SENT, 1);
    metric_add(METRIC_BYTES_SENT, bytes);
}

void host_publish(struct host *host, struct host_command *command) {
    struct host_publication *publication = command->publication;
    struct client *client = host_find(host, command->id);
    command->publication = NULL;
    bool late = publication->deadline_ms <= clock_ms();
    enum err result = late ? ERR_TIMEOUT : ERR_WRONG_STATE;
    if (client != NULL && client->record == command->record) {
        if (client->state == CLIENT_ONLINE && !late) {
            publication->client = client;
            DL_APPEND(host->publications, publication);
            result = host->ops->publish(client->connection, &publication->publication,
                                        (uint64_t)(uintptr_t)publication);
            if (result == ERR_OK) {
                return;
            }
            DL_DELETE(host->publications, publication);
        }
        count_down(client);
    }
    answer(publication, result == ERR_FULL ? ERR_UNAVAILABLE : result, 0);
    host_publication_free(publication);
}

void host_published(void *context, uint64_t token, enum err result, int reason_code) {
    struct client *client = context;
    struct host_publication *publication = (struct host_publication *)(uintptr_t)token;
    if (result == ERR_OK && reason_code < 0x80) {
        count_sent(client, publication);
        histogram_add(HISTOGRAM_PUBLISH, clock_us() - publication->begun_us, 1);
    }
    count_down(client);
    if (publication->published != NULL) {
        DL_DELETE(client->host->publications, publication);
        answer(publication, result, reason_code);
    }
    host_publication_free(publication);
}

/* The engine still owes the published event of those, which then frees them. */
void host_expire_publications(struct host *host, int64_t now_ms) {
    while (host->publications != NULL && host->publications->deadline_ms <= now_ms) {
        struct host_publication *publication = host->publications;
        DL_DELETE(host->publications, publication);
        answer(publication, ERR_TIMEOUT, 0);
    }
}
