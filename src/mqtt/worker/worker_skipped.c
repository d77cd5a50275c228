/* Owns the reports about received messages that reach no sink. The others do not pass the worker:
 * they go from the engine to the route of their client. Worker thread. */
#include <stdio.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "mqtt/worker/worker.h"

#define SKIP_LOG_MS 1000

/* A broker that is sending a large message is not silent. */
void worker_receiving(void *context) {
    struct client *client = context;
    client->route.last_received_at_ms = clock_ms();
}

static const struct {
    enum metric metric;
    enum client_error error;
    const char *why;
} worker_skipped_kinds[ENGINE_SKIP_COUNT] = {
    [ENGINE_SKIP_OVERSIZE] = {METRIC_SKIPPED_OVERSIZE, CLIENT_ERROR_MESSAGE_TOO_LARGE,
                              "it is larger than max_packet_bytes"},
    [ENGINE_SKIP_TOPIC] = {METRIC_SKIPPED_TOPIC, CLIENT_ERROR_MESSAGE_SKIPPED,
                           "its topic is malformed"},
    [ENGINE_SKIP_ALIAS] = {METRIC_SKIPPED_ALIAS, CLIENT_ERROR_MESSAGE_SKIPPED,
                           "the broker has not defined its topic alias"},
    [ENGINE_SKIP_CONTENT] = {METRIC_SKIPPED_CONTENT, CLIENT_ERROR_MESSAGE_SKIPPED,
                             "it is malformed"},
};

/* One log line per second: a broker may send many such messages. */
static void worker_skipped_log(struct client *client, const char *message) {
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
             worker_skipped_kinds[skipped->reason].why);
    client->route.last_received_at_ms = clock_ms();
    metric_add(worker_skipped_kinds[skipped->reason].metric, 1);
    worker_skipped_log(client, message);
    worker_notify_error(client, worker_skipped_kinds[skipped->reason].error, message);
}
