/* Owns publications on their way to the broker, from the inbox to their answer and to the end of
 * what the engine keeps of them. Host thread, host_publication_copy excepted.
 *
 * A caller waits for publish_timeout_ms. What is not acknowledged by then is sent again, in a
 * session that lasts, for publish_resend_ms more; then it is given up. What was not sent by then,
 * behind others that the broker does not acknowledge, is given up at once: its outcome is known. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "mqtt/host.h"

/* ---- a copy of its own ---- */

/* Appends a copy and returns where it is. */
static char *publication_put(char **at, const void *data, size_t len) {
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
    struct host_publication *copy = calloc(1, sizeof *copy);
    if (copy == NULL) {
        return NULL;
    }
    size_t size = publication_size(from);
    copy->bytes = sizeof *copy + size + from->property_count * sizeof *copy->properties;
    copy->data = malloc(size);
    copy->properties = calloc(from->property_count + 1, sizeof *copy->properties);
    if (copy->data == NULL || copy->properties == NULL) {
        host_publication_free(copy);
        return NULL;
    }
    char *at = copy->data;
    copy->publication = *from;
    copy->publication.topic = publication_put(&at, from->topic, strlen(from->topic));
    copy->publication.payload = (uint8_t *)publication_put(&at, from->payload, from->payload_len);
    copy->publication.properties = copy->properties;
    for (size_t i = 0; i < from->property_count; i++) {
        const struct message_property *property = &from->properties[i];
        copy->properties[i] = (struct message_property){
            .name = publication_put(&at, property->name, strlen(property->name)),
            .key =
                property->key ? publication_put(&at, property->key, strlen(property->key)) : NULL,
            .value = publication_put(&at, property->value, property->value_len),
            .value_len = property->value_len,
        };
    }
    return copy;
}

void host_publication_free(struct host_publication *publication) {
    if (publication == NULL) {
        return;
    }
    if (publication->share != NULL) {
        if (publication->published != NULL) {
            publish_share_answered(publication->share);
        }
        publish_share_release(publication->share, publication->bytes);
    }
    free(publication->properties);
    free(publication->data);
    free(publication);
}

/* ---- answers ---- */

static void publication_answer(struct host_publication *publication, enum err result,
                               int reason_code) {
    hosts_published *published = publication->published;
    publication->published = NULL;
    publish_share_answered(publication->share);
    if (result != ERR_OK || reason_code >= 0x80) {
        metric_add(METRIC_PUBLISH_FAILED, 1);
    }
    published(publication->context, result, reason_code);
}

static void publication_count_down(struct client *client) {
    pthread_mutex_lock(&client->host->lock);
    client->publication_count--;
    pthread_mutex_unlock(&client->host->lock);
}

static void publication_count_sent(struct client *client,
                                   const struct host_publication *publication) {
    int64_t bytes = (int64_t)publication->publication.payload_len;
    client->messages_out++;
    client->bytes_out += bytes;
    client->heard_at_ms = clock_ms();
    metric_add(METRIC_MESSAGES_SENT, 1);
    metric_add(METRIC_BYTES_SENT, bytes);
}

/* ---- to the engine ---- */

static void publication_link(struct client *client, struct host_publication *publication) {
    publication->client = client;
    DL_APPEND(client->host->publications, publication);
    DL_APPEND2(client->publications, publication, client_prev, client_next);
}

/* Out of all lists it is in. */
static void publication_unlink(struct host_publication *publication) {
    struct client *client = publication->client;
    struct host *host = client->host;
    DL_DELETE2(client->publications, publication, client_prev, client_next);
    if (publication->published != NULL) {
        DL_DELETE(host->publications, publication);
    } else if (publication->is_unacknowledged) {
        DL_DELETE(host->unacknowledged, publication);
    }
}

/* Because of the client's sink, not of its broker. */
static bool publication_is_unheard(const struct host_publication *publication) {
    const struct client *client = publication->client;
    return client->connection != NULL && client->host->ops->is_deaf(client->connection);
}

void host_publish(struct host *host, struct host_command *command) {
    struct host_publication *publication = command->publication;
    struct client *client = host_find(host, command->id);
    command->publication = NULL;
    bool late = publication->deadline_ms <= clock_ms();
    enum err result = late ? ERR_TIMEOUT : ERR_WRONG_STATE;
    bool full_sink = false;
    if (client != NULL && client->record == command->record) {
        if (client->state == CLIENT_ONLINE && !late) {
            publication_link(client, publication);
            result = host->ops->publish(client->connection, &publication->publication,
                                        (uint64_t)(uintptr_t)publication);
            if (result == ERR_OK) {
                return;
            }
            full_sink = result == ERR_FULL && publication_is_unheard(publication);
            publication_unlink(publication);
        }
        publication_count_down(client);
    }
    publication_answer(publication, full_sink ? ERR_REFUSED : result,
                       full_sink ? GIVE_UP_SINK_FULL : 0);
    host_publication_free(publication);
}

/* ---- from the engine ---- */

static void publication_given_up(struct client *client, const struct host_publication *publication,
                                 enum give_up reason) {
    const struct engine_publication *about = &publication->publication;
    char message[HOST_SUSPECT_TEXT_LEN];
    metric_add(give_up_metric(reason), 1);
    host_describe_given_up(about, reason, message);
    log_event(LOG_WARN, "publication_given_up", KS("client", client->id),
              KS("reason", give_up_label(reason)), KS("detail", message));
    if (reason == GIVE_UP_SINK_FULL) {
        host_notice(client, CLIENT_ERROR_SINK_FULL, message);
    } else if (reason == GIVE_UP_EXPIRED || reason == GIVE_UP_NOT_SENT) {
        host_notice(client, CLIENT_ERROR_PUBLICATION_EXPIRED, message);
    } else if (reason != GIVE_UP_DROPPED) {
        client->host->refusals++;
        host_notice(client, CLIENT_ERROR_PUBLICATION_REFUSED, message);
    }
}

void host_published(void *context, uint64_t token, enum err result, int reason_code) {
    struct client *client = context;
    struct host_publication *publication = (struct host_publication *)(uintptr_t)token;
    if (result == ERR_OK && reason_code < 0x80) {
        publication_count_sent(client, publication);
        if (client->throttle != NULL && publication->publication.qos > 0) {
            host_acquit_publication(client, &publication->publication);
        }
        histogram_add(HISTOGRAM_PUBLISH, clock_us() - publication->begun_us, 1);
    } else if (result == ERR_REFUSED) {
        publication_given_up(client, publication, (enum give_up)reason_code);
    }
    publication_count_down(client);
    publication_unlink(publication);
    if (publication->published != NULL) {
        publication_answer(publication, result, reason_code);
    }
    host_publication_free(publication);
}

/* ---- time is over ---- */

static struct engine_publication_status
publication_status(const struct host_publication *publication) {
    const struct client *client = publication->client;
    struct engine_publication_status status = {.state = PUBLICATION_SENT, .tries = 1};
    if (client->host->ops->publication_status != NULL) {
        client->host->ops->publication_status(client->session, (uint64_t)(uintptr_t)publication,
                                              &status);
    }
    return status;
}

/* An engine that cannot give up still owes its published event. */
static bool publication_give_up(struct host_publication *publication, enum give_up reason) {
    const struct host *host = publication->client->host;
    return host->ops->publication_drop != NULL &&
           host->ops->publication_drop(host->engine, publication->client->session,
                                       (uint64_t)(uintptr_t)publication, reason);
}

/* Nothing was acknowledged since it came. */
static bool publication_is_stuck(const struct host_publication *publication) {
    struct engine_publication_status status = publication_status(publication);
    return status.held_up && status.acknowledged_at_ms < publication->begun_us / 1000;
}

/* The engine still owes the published event of those, which then frees them. */
static void publication_stop_waiting(struct host *host, int64_t now_ms) {
    struct host_publication *publication = host->publications;
    bool unheard = publication_is_unheard(publication);
    if (publication_is_stuck(publication) &&
        publication_give_up(publication, unheard ? GIVE_UP_SINK_FULL : GIVE_UP_NOT_SENT)) {
        return; /* answered and freed */
    }
    DL_DELETE(host->publications, publication);
    publication_answer(publication, ERR_TIMEOUT, unheard ? HOSTS_UNHEARD : HOSTS_SILENT);
    publication->deadline_ms = now_ms + host->conf->publish_resend_ms;
    publication->is_unacknowledged = true;
    DL_APPEND(host->unacknowledged, publication);
}

static void publication_stop_sending(struct host *host) {
    struct host_publication *publication = host->unacknowledged;
    bool sent = publication_status(publication).tries > 0;
    enum give_up reason = publication_is_unheard(publication) ? GIVE_UP_SINK_FULL
                          : sent                              ? GIVE_UP_EXPIRED
                                                              : GIVE_UP_NOT_SENT;
    DL_DELETE(host->unacknowledged, publication);
    publication->is_unacknowledged = false;
    bool ignored = publication_give_up(publication, reason);
    (void)ignored; /* then it is freed with its published event */
}

static bool publication_is_due(const struct host_publication *first, int64_t now_ms) {
    return first != NULL && first->deadline_ms <= now_ms;
}

void host_expire_publications(struct host *host, int64_t now_ms) {
    while (publication_is_due(host->publications, now_ms)) {
        publication_stop_waiting(host, now_ms);
    }
    for (int i = 0; i < HOST_PER_TURN_MAX && publication_is_due(host->unacknowledged, now_ms);
         i++) {
        publication_stop_sending(host);
    }
}

int64_t host_publications_wait_ms(const struct host *host, int64_t now_ms, int64_t most_ms) {
    const struct host_publication *const firsts[] = {host->publications, host->unacknowledged};
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        int64_t left_ms = firsts[i] != NULL ? firsts[i]->deadline_ms - now_ms : most_ms;
        left_ms = left_ms > 0 ? left_ms : 0;
        most_ms = left_ms < most_ms ? left_ms : most_ms;
    }
    return most_ms;
}
