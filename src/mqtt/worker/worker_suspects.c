/* Owns the reports about publications that end connections: which, how often, and what happens to
 * them. Worker thread only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "mqtt/worker/worker.h"

#define SUSPECT_NAME_LEN 256
#define SUSPECT_WHY_LEN  128

void worker_note_suspects(struct client *client, const struct engine_suspects *suspects) {
    free(client->suspects);
    client->suspects = suspects ? malloc(sizeof *client->suspects) : NULL;
    if (client->suspects) {
        *client->suspects = *suspects;
    }
}

/* ---- texts ---- */

/* Copies complete characters and no control characters. */
static void worker_suspect_copy_topic(const char *topic, char out[ENGINE_SUSPECT_TOPIC_LEN]) {
    size_t left = strlen(topic), at = 0;
    while (left > 0) {
        size_t len = text_utf8_char_len(topic, left);
        bool shown = len > 0 && !text_has_control(topic, len);
        size_t step = len > 0 ? len : 1;
        if (at + (shown ? len : 1) >= ENGINE_SUSPECT_TOPIC_LEN) {
            break;
        }
        memcpy(out + at, shown ? topic : "?", shown ? len : 1);
        at += shown ? len : 1;
        topic += step;
        left -= step;
    }
    out[at] = '\0';
}

static void worker_suspect_name(const struct engine_suspect *suspect, char out[SUSPECT_NAME_LEN]) {
    char topic[ENGINE_SUSPECT_TOPIC_LEN];
    worker_suspect_copy_topic(suspect->topic, topic);
    if (topic[0] == '\0') {
        snprintf(out, SUSPECT_NAME_LEN, "a QoS 2 publication that the broker has received");
        return;
    }
    snprintf(out, SUSPECT_NAME_LEN, "the publication to \"%s\" (%zu bytes, QoS %u%s)", topic,
             suspect->payload_len, (unsigned)suspect->qos, suspect->retain ? ", retained" : "");
}

void worker_describe_given_up(const struct engine_publication *publication, enum give_up reason,
                              char out[WORKER_SUSPECT_TEXT_LEN]) {
    struct engine_suspect about = {.payload_len = publication->payload_len,
                                   .qos = publication->qos,
                                   .retain = publication->retain};
    char name[SUSPECT_NAME_LEN];
    snprintf(about.topic, sizeof about.topic, "%s", publication->topic);
    worker_suspect_name(&about, name);
    snprintf(out, WORKER_SUSPECT_TEXT_LEN, "%s is given up: %s", name, give_up_text(reason));
}

static void worker_suspect_describe(const struct client *client,
                                    char out[WORKER_SUSPECT_TEXT_LEN]) {
    const struct engine_suspects *suspects = client->suspects;
    const char *why = suspects->suspicion != SUSPICION_BY_TIME && client->error_message
                          ? client->error_message
                          : "";
    char name[SUSPECT_NAME_LEN], others[64] = "";
    worker_suspect_name(&suspects->suspects[0], name);
    if (suspects->count > 1) {
        snprintf(others, sizeof others, ", or one of %zu sent with it", suspects->count - 1);
    }
    snprintf(out, WORKER_SUSPECT_TEXT_LEN,
             "the broker ended the connection after %s%s was sent%s%.*s; %s", name, others,
             why[0] != '\0' ? ": " : "", text_truncated_len(why, strlen(why), SUSPECT_WHY_LEN), why,
             client->publications && suspects->suspicion != SUSPICION_GIVEN_UP
                 ? "unacknowledged publications are sent again, one by one"
                 : "it is not sent again");
}

/* Publications that were given up have been reported, and one that will be sent again is not
 * refused yet. */
static void worker_suspect_report(struct client *client) {
    char message[WORKER_SUSPECT_TEXT_LEN];
    worker_suspect_describe(client, message);
    if (client->suspects->suspicion == SUSPICION_GIVEN_UP) {
        worker_note_error(client, CLIENT_ERROR_PUBLICATION_REFUSED, message);
    } else if (client->publications) {
        worker_note_error(client, client->error, message);
    } else {
        worker_notify_error(client, CLIENT_ERROR_PUBLICATION_REFUSED, message);
    }
}

/* ---- verdict ---- */

/* QoS 0 counts only if nothing else is in doubt. */
static void worker_suspect_charge_throttle(struct client *client) {
    const struct engine_suspects *suspects = client->suspects;
    bool only_qos_0 = true;
    int64_t now_ms = clock_ms(); /* charges of one loss, which counts once per row */
    for (size_t i = 0; i < suspects->described; i++) {
        only_qos_0 &= suspects->suspects[i].qos == 0;
    }
    pthread_mutex_lock(&client->worker->lock);
    for (size_t i = 0; i < suspects->described; i++) {
        const struct engine_suspect *one = &suspects->suspects[i];
        if (one->topic[0] != '\0' && (one->qos > 0 || only_qos_0)) {
            const struct publish_shape shape = {one->topic, one->payload_len, one->qos,
                                                one->retain};
            publish_throttle_charge(&client->throttle, &shape, now_ms);
        }
    }
    pthread_mutex_unlock(&client->worker->lock);
}

void worker_clear_publication(struct client *client, const struct engine_publication *publication) {
    struct publish_shape shape = worker_shape_of(publication);
    pthread_mutex_lock(&client->worker->lock);
    publish_throttle_clear(client->throttle, &shape);
    pthread_mutex_unlock(&client->worker->lock);
}

/* Only as much of the topic as a suspect has. */
struct publish_shape worker_shape_of(const struct engine_publication *publication) {
    return (struct publish_shape){publication->topic, publication->payload_len, publication->qos,
                                  publication->retain};
}

bool worker_publications_blame(struct client *client) {
    struct worker *worker = client->worker;
    uint64_t refusals = worker->refusals;
    if (!client->suspects) {
        return false;
    }
    worker_suspect_charge_throttle(client);
    if (client->suspects->suspicion == SUSPICION_BY_TIME) {
        worker->ops->publications_blame(worker->engine, client->session);
    }
    if (worker->refusals == refusals) { /* otherwise they are already named */
        worker_suspect_report(client);
    }
    return true;
}
