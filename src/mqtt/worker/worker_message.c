/* Owns received messages on their way to the owner. worker_message and worker_wait_room run on the
 * engine's threads, the acknowledgement on the sink's, everything else on the worker thread. */
#include <stdlib.h>
#include <stdio.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "mqtt/worker/worker.h"

#define SKIP_LOG_MS 1000

/* Exists until a sink has stored the message. Needs neither client nor worker, which may be gone by
 * then. */
struct worker_acceptance {
    const struct engine_ops *ops;
    struct engine *engine;
    void *receipt;
};

static void worker_message_on_accepted(void *context, enum err err) {
    struct worker_acceptance *acceptance = context;
    acceptance->ops->acknowledge(acceptance->engine, acceptance->receipt, err);
    free(acceptance);
}

static void worker_message_count_received(struct client *client, uint8_t qos, size_t payload_len,
                                          int64_t at_us) {
    client->messages_in++;
    client->bytes_in += (int64_t)payload_len;
    client->heard_at_ms = at_us / 1000;
    metric_add(METRIC_RECEIVED_QOS0 + qos, 1);
    metric_add(METRIC_BYTES_RECEIVED, (int64_t)payload_len);
}

static enum err worker_message_deliver(struct client *client, struct message *message,
                                       struct worker_acceptance *acceptance) {
    const struct workers_owner *owner = client->worker->owner;
    return owner->deliver(owner->context, client->sink, message,
                          acceptance ? worker_message_on_accepted : NULL, acceptance);
}

enum err worker_message(void *context, struct message *message, void *receipt) {
    struct client *client = context;
    struct worker_acceptance *acceptance = NULL;
    size_t payload_len = message->payload_len;
    int64_t received_us = message->received_us;
    uint8_t qos = message->qos;
    if (receipt) {
        acceptance = malloc(sizeof *acceptance);
        if (!acceptance) {
            return ERR_FULL; /* offered again a little later */
        }
        *acceptance =
            (struct worker_acceptance){client->worker->ops, client->worker->engine, receipt};
    }
    enum err err = worker_message_deliver(client, message, acceptance);
    if (err == ERR_OK) {
        worker_message_count_received(client, qos, payload_len, received_us);
        return ERR_OK;
    }
    free(acceptance);
    if (err == ERR_REFUSED) { /* dropped, and counted by the sink */
        worker_message_count_received(client, qos, payload_len, received_us);
        client->messages_dropped++;
        return ERR_OK;
    }
    if (qos == 0 && err != ERR_FULL) {
        client->messages_dropped++;
        metric_add(METRIC_DROPPED_SINK_REFUSED, 1);
    }
    return err;
}

/* A broker that is sending a large message is not silent. */
void worker_heard(void *context) {
    struct client *client = context;
    client->heard_at_ms = clock_ms();
}

static const struct {
    enum metric metric;
    enum client_error error;
    const char *why;
} worker_message_skips[ENGINE_SKIP_COUNT] = {
    [ENGINE_SKIP_OVERSIZE] = {METRIC_SKIPPED_OVERSIZE, CLIENT_ERROR_MESSAGE_TOO_LARGE,
                              "it is larger than max_packet_bytes"},
    [ENGINE_SKIP_TOPIC] = {METRIC_SKIPPED_TOPIC, CLIENT_ERROR_MESSAGE_SKIPPED,
                           "its topic is malformed"},
    [ENGINE_SKIP_ALIAS] = {METRIC_SKIPPED_ALIAS, CLIENT_ERROR_MESSAGE_SKIPPED,
                           "the broker never gave its topic alias a topic"},
    [ENGINE_SKIP_CONTENT] = {METRIC_SKIPPED_CONTENT, CLIENT_ERROR_MESSAGE_SKIPPED,
                             "it is malformed"},
};

/* One log line per second: a broker may send many such messages. */
static void worker_message_log_skipped(struct client *client, const char *message) {
    struct worker *worker = client->worker;
    int64_t now_ms = clock_ms();
    bool again = worker->skip_logged_at_ms > 0 && now_ms - worker->skip_logged_at_ms < SKIP_LOG_MS;
    log_event(again ? LOG_DEBUG : LOG_WARN, "message_skipped", KS("client", client->id),
              KS("detail", message));
    worker->skip_logged_at_ms = again ? worker->skip_logged_at_ms : now_ms;
}

void worker_skipped(void *context, const struct engine_skipped *skipped) {
    struct client *client = context;
    char message[512];
    snprintf(message, sizeof(message), "skipped a message of %zu bytes, topic \"%s\", QoS %u: %s",
             skipped->bytes, skipped->topic, skipped->qos,
             worker_message_skips[skipped->reason].why);
    client->heard_at_ms = clock_ms();
    metric_add(worker_message_skips[skipped->reason].metric, 1);
    worker_message_log_skipped(client, message);
    worker_notify_error(client, worker_message_skips[skipped->reason].error, message);
}

void worker_flush(void *context) {
    struct client *client = context;
    client->worker->owner->flush(client->worker->owner->context);
}

bool worker_has_room(void *context) {
    struct client *client = context;
    const struct workers_owner *owner = client->worker->owner;
    return owner->has_room(owner->context, client->sink);
}

void worker_wait_room(void *context, int64_t timeout_ms) {
    struct client *client = context;
    const struct workers_owner *owner = client->worker->owner;
    owner->wait_room(owner->context, client->sink, timeout_ms);
}
