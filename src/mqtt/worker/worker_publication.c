/* Owns publications on their way to the broker, from the inbox to their answer and to the end of
 * the engine's copy. Worker thread, except worker_publication_copy.
 *
 * A caller waits for publish_timeout_ms. In a session that lasts, a publication that is not
 * acknowledged by then is sent again for another publish_resend_ms, and then given up. A
 * publication that was not sent by then, because it is behind others that the broker does not
 * acknowledge, is given up at once: its outcome is known. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "mqtt/reason_codes.h"
#include "mqtt/worker/worker.h"

/* ---- copy ---- */

/* Appends a copy and returns its address. */
static char *worker_publication_append(char **at, const void *data, size_t len) {
    char *place = *at;
    if (len > 0) {
        memcpy(place, data, len);
    }
    place[len] = '\0';
    *at += len + 1;
    return place;
}

static size_t worker_publication_size(const struct engine_publication *from) {
    size_t size = strlen(from->topic) + 1 + from->payload_len + 1;
    for (size_t i = 0; i < from->property_count; i++) {
        const struct message_property *property = &from->properties[i];
        size += strlen(property->name) + 1 + property->value_len + 1;
        size += property->key ? strlen(property->key) + 1 : 0;
    }
    return size;
}

struct worker_publication *worker_publication_copy(const struct engine_publication *from) {
    struct worker_publication *copy = calloc(1, sizeof *copy);
    if (!copy) {
        return NULL;
    }
    size_t size = worker_publication_size(from);
    copy->bytes = sizeof *copy + size + from->property_count * sizeof *copy->properties;
    copy->data = malloc(size);
    copy->properties = calloc(from->property_count + 1, sizeof *copy->properties);
    if (!copy->data || !copy->properties) {
        worker_publication_free(copy);
        return NULL;
    }
    char *at = copy->data;
    copy->publication = *from;
    copy->publication.topic = worker_publication_append(&at, from->topic, strlen(from->topic));
    copy->publication.payload =
        (uint8_t *)worker_publication_append(&at, from->payload, from->payload_len);
    copy->publication.properties = copy->properties;
    for (size_t i = 0; i < from->property_count; i++) {
        const struct message_property *property = &from->properties[i];
        copy->properties[i] = (struct message_property){
            .name = worker_publication_append(&at, property->name, strlen(property->name)),
            .key = property->key
                       ? worker_publication_append(&at, property->key, strlen(property->key))
                       : NULL,
            .value = worker_publication_append(&at, property->value, property->value_len),
            .value_len = property->value_len,
        };
    }
    return copy;
}

void worker_publication_free(struct worker_publication *publication) {
    if (!publication) {
        return;
    }
    if (publication->share) {
        if (publication->published) {
            publish_share_answered(publication->share);
        }
        publish_share_release(publication->share, publication->bytes);
    }
    free(publication->properties);
    free(publication->data);
    free(publication);
}

/* ---- answers ---- */

static void worker_publication_answer(struct worker_publication *publication,
                                      const struct publish_result *result) {
    workers_published *published = publication->published;
    publication->published = NULL;
    publish_share_answered(publication->share);
    if (!publish_result_is_success(result)) {
        metric_add(METRIC_PUBLISH_FAILED, 1);
    }
    published(publication->context, result);
}

static void worker_publication_count_down(struct client *client) {
    pthread_mutex_lock(&client->worker->lock);
    client->publication_count--;
    pthread_mutex_unlock(&client->worker->lock);
}

static void worker_publication_count_sent(struct client *client,
                                          const struct worker_publication *publication) {
    int64_t bytes = (int64_t)publication->publication.payload_len;
    client->messages_out++;
    client->bytes_out += bytes;
    client->last_answer_at_ms = clock_ms();
    metric_add(METRIC_MESSAGES_SENT, 1);
    metric_add(METRIC_BYTES_SENT, bytes);
}

/* ---- publish ---- */

/* NULL: publications in this phase are in no list. */
static struct worker_publication **worker_publication_list(struct worker *worker, unsigned phase) {
    switch (phase) {
    case WORKER_PUBLICATION_AWAITED:
        return &worker->publications;
    case WORKER_PUBLICATION_UNACKNOWLEDGED:
        return &worker->unacknowledged;
    default:
        return NULL;
    }
}

static void worker_publication_move(struct worker_publication *publication,
                                    enum worker_publication_phase phase) {
    struct worker *worker = publication->client->worker;
    struct worker_publication **from = worker_publication_list(worker, publication->phase);
    struct worker_publication **to = worker_publication_list(worker, phase);
    if (from) {
        DL_DELETE(*from, publication);
    }
    if (to) {
        DL_APPEND(*to, publication);
    }
    publication->phase = (uint8_t)phase;
}

static void worker_publication_link(struct client *client, struct worker_publication *publication) {
    publication->client = client;
    worker_publication_move(publication, WORKER_PUBLICATION_AWAITED);
    DL_APPEND2(client->publications, publication, client_prev, client_next);
}

static void worker_publication_unlink(struct worker_publication *publication) {
    struct client *client = publication->client;
    DL_DELETE2(client->publications, publication, client_prev, client_next);
    worker_publication_move(publication, WORKER_PUBLICATION_INBOX);
}

/* The cause is the client's sink, not its broker. */
static bool worker_publication_is_read_blocked(const struct worker_publication *publication) {
    const struct client *client = publication->client;
    return client->connection && client->worker->ops->is_read_blocked(client->connection);
}

void worker_publish(struct worker *worker, struct worker_command *command) {
    struct worker_publication *publication = command->publication;
    struct client *client = worker_find(worker, command->id);
    command->publication = NULL;
    bool late = publication->deadline_ms <= clock_ms();
    struct publish_result result = {.err = late ? ERR_TIMEOUT : ERR_WRONG_STATE};
    if (client && client->record == command->record) {
        if (client->state == CLIENT_ONLINE && !late) {
            worker_publication_link(client, publication);
            result.err = worker->ops->publish(client->connection, &publication->publication,
                                              (uint64_t)(uintptr_t)publication);
            if (result.err == ERR_OK) {
                return;
            }
            if (result.err == ERR_FULL && worker_publication_is_read_blocked(publication)) {
                result = (struct publish_result){.err = ERR_REFUSED, .give_up = GIVE_UP_SINK_FULL};
            }
            worker_publication_unlink(publication);
        }
        worker_publication_count_down(client);
    }
    worker_publication_answer(publication, &result);
    worker_publication_free(publication);
}

/* ---- published event ---- */

static void worker_publication_report_given_up(struct client *client,
                                               const struct worker_publication *publication,
                                               enum give_up reason) {
    const struct engine_publication *about = &publication->publication;
    char message[WORKER_SUSPECT_TEXT_LEN];
    metric_add(give_up_metric(reason), 1);
    worker_describe_given_up(about, reason, message);
    log_event(LOG_WARN, "publication_given_up", KS("client", client->id),
              KS("reason", give_up_label(reason)), KS("detail", message));
    if (reason == GIVE_UP_SINK_FULL) {
        worker_notify_error(client, CLIENT_ERROR_SINK_FULL, message);
    } else if (reason == GIVE_UP_EXPIRED || reason == GIVE_UP_NOT_SENT) {
        worker_notify_error(client, CLIENT_ERROR_PUBLICATION_EXPIRED, message);
    } else if (reason != GIVE_UP_DROPPED) {
        client->worker->refusals++;
        worker_notify_error(client, CLIENT_ERROR_PUBLICATION_REFUSED, message);
    }
}

void worker_published(void *context, uint64_t token, const struct publish_result *result) {
    struct client *client = context;
    struct worker_publication *publication = (struct worker_publication *)(uintptr_t)token;
    if (publish_result_is_success(result)) {
        worker_publication_count_sent(client, publication);
        if (client->throttle && publication->publication.qos > 0) {
            worker_clear_publication(client, &publication->publication);
        }
        histogram_add(HISTOGRAM_PUBLISH, clock_us() - publication->begun_us, 1);
    } else if (result->err == ERR_REFUSED) {
        worker_publication_report_given_up(client, publication, result->give_up);
    }
    bool is_awaited = publication->phase == WORKER_PUBLICATION_AWAITED;
    worker_publication_count_down(client);
    worker_publication_unlink(publication);
    if (is_awaited) {
        worker_publication_answer(publication, result);
    }
    worker_publication_free(publication);
}

/* ---- deadlines ---- */

static struct engine_publication_status
worker_publication_status(const struct worker_publication *publication) {
    const struct client *client = publication->client;
    struct engine_publication_status status = {.state = PUBLICATION_SENT, .tries = 1};
    if (client->worker->ops->publication_status) {
        client->worker->ops->publication_status(client->session, (uint64_t)(uintptr_t)publication,
                                                &status);
    }
    return status;
}

/* An engine that cannot give up still delivers the published event. */
static bool worker_publication_give_up(struct worker_publication *publication,
                                       enum give_up reason) {
    const struct worker *worker = publication->client->worker;
    return worker->ops->publication_drop &&
           worker->ops->publication_drop(worker->engine, publication->client->session,
                                         (uint64_t)(uintptr_t)publication, reason);
}

/* Nothing was acknowledged since it arrived. */
static bool worker_publication_is_stuck(const struct worker_publication *publication) {
    struct engine_publication_status status = worker_publication_status(publication);
    return status.held_up && status.acknowledged_at_ms < publication->begun_us / 1000;
}

/* The engine still delivers the published event of these, which then frees them. */
static void worker_publication_stop_waiting(struct worker *worker, int64_t now_ms) {
    struct worker_publication *publication = worker->publications;
    bool read_blocked = worker_publication_is_read_blocked(publication);
    if (worker_publication_is_stuck(publication) &&
        worker_publication_give_up(publication,
                                   read_blocked ? GIVE_UP_SINK_FULL : GIVE_UP_NOT_SENT)) {
        return; /* answered and freed */
    }
    worker_publication_answer(
        publication, &(struct publish_result){.err = ERR_TIMEOUT,
                                              .timeout = read_blocked ? PUBLISH_TIMEOUT_READ_BLOCKED
                                                                      : PUBLISH_TIMEOUT_SILENT});
    publication->deadline_ms = now_ms + worker->conf->publish_resend_ms;
    worker_publication_move(publication, WORKER_PUBLICATION_UNACKNOWLEDGED);
}

static void worker_publication_stop_sending(struct worker *worker) {
    struct worker_publication *publication = worker->unacknowledged;
    bool sent = worker_publication_status(publication).tries > 0;
    enum give_up reason = worker_publication_is_read_blocked(publication) ? GIVE_UP_SINK_FULL
                          : sent                                          ? GIVE_UP_EXPIRED
                                                                          : GIVE_UP_NOT_SENT;
    worker_publication_move(publication, WORKER_PUBLICATION_EXPIRED);
    bool ignored = worker_publication_give_up(publication, reason);
    (void)ignored; /* then its published event frees it */
}

static bool worker_publication_is_due(const struct worker_publication *first, int64_t now_ms) {
    return first && first->deadline_ms <= now_ms;
}

void worker_expire_publications(struct worker *worker, int64_t now_ms) {
    while (worker_publication_is_due(worker->publications, now_ms)) {
        worker_publication_stop_waiting(worker, now_ms);
    }
    for (int i = 0;
         i < WORKER_PER_TURN_MAX && worker_publication_is_due(worker->unacknowledged, now_ms);
         i++) {
        worker_publication_stop_sending(worker);
    }
}

int64_t worker_publications_wait_ms(const struct worker *worker, int64_t now_ms,
                                    int64_t wait_ms_max) {
    const struct worker_publication *const firsts[] = {worker->publications,
                                                       worker->unacknowledged};
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        int64_t left_ms = firsts[i] ? firsts[i]->deadline_ms - now_ms : wait_ms_max;
        left_ms = left_ms > 0 ? left_ms : 0;
        wait_ms_max = left_ms < wait_ms_max ? left_ms : wait_ms_max;
    }
    return wait_ms_max;
}
