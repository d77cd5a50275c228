/* Owns what a worker does about received messages. It reports those that reach no sink, and clients
 * that receive none. All other messages do not pass the worker: they go from the engine to the
 * route of their client. Worker thread only.
 *
 * A client that is online and has received no message for its expect_message_within_s is silent
 * until the next one. The timer of the client finds the beginning, its route the message that ends
 * it: messages themselves only record their time. The time runs from the connection, because
 * nothing is known about the time before: a client that comes from another node begins anew. A
 * client that reconnects because it is silent stays silent meanwhile. */
#include <stdio.h>
#include <stdlib.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "mqtt/client/silence.h"
#include "mqtt/worker/worker.h"

#define SKIP_LOG_MS         1000
#define SILENCE_MS_PER_S    1000
#define SILENCE_POSTPONE_MS 5000 /* while part of a message arrives, or messages are held back */

/* ---- messages that reach no sink ---- */

/* A broker that is sending a large message is not silent. */
void worker_receiving(void *context) {
    struct client *client = context;
    client->last_answer_at_ms = clock_ms();
    client->receiving = true;
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
    client->last_answer_at_ms = clock_ms();
    metric_add(worker_skipped_kinds[skipped->reason].metric, 1);
    worker_skipped_log(client, message);
    worker_notify_error(client, worker_skipped_kinds[skipped->reason].error, message);
}

/* ---- silence: its time ---- */

/* Messages that a sink or a limit holds back have arrived. */
static bool worker_silence_is_receiving(const struct client *client) {
    return client->receiving || !route_has_room(&client->route) ||
           route_is_held_back(&client->route);
}

static int64_t worker_silence_since_ms(const struct client *client) {
    int64_t message_at_ms = client->route.last_message_at_ms;
    return message_at_ms > client->connack_at_ms ? message_at_ms : client->connack_at_ms;
}

/* False: nothing is expected. */
static bool worker_silence_of(const struct client *client, struct silence *out) {
    const struct client_config *config = client->config->config;
    if (config->expect_message_within_s == 0) {
        return false;
    }
    *out = (struct silence){.expect_s = config->expect_message_within_s,
                            .since_ms = worker_silence_since_ms(client),
                            .silent = client->silent,
                            .acts = config->on_silence != ON_SILENCE_REPORT,
                            .actions = client->silence_actions,
                            .acted_at_s = client->silence_acted_at_s};
    return true;
}

int64_t worker_silence_due_ms(const struct client *client) {
    struct silence silence;
    return worker_silence_of(client, &silence) ? silence_due_ms(&silence) : 0;
}

/* ---- silence: begin and end ---- */

static void worker_silence_set(struct client *client, bool silent) {
    struct worker *worker = client->worker;
    pthread_mutex_lock(&worker->lock);
    worker->silent_count += silent - client->silent;
    client->silent = silent;
    pthread_mutex_unlock(&worker->lock);
}

/* The thread that submits the message may be another one than the worker's. False: the queue is
 * full, or there is no memory. */
static bool worker_silence_heard(void *context) {
    struct client *client = context;
    struct worker *worker = client->worker;
    struct worker_command *command = calloc(1, sizeof *command);
    if (command) {
        command->kind = WORKER_HEARD;
        command->record = client->record;
        command->id = text_dup(client->id);
    }
    if (!command || !command->id || queue_push(worker->inbox, command) != ERR_OK) {
        worker_command_free(command);
        return false;
    }
    worker_wake(worker);
    return true;
}

/* If out of memory, it begins a little later. A message that arrives meanwhile, on another thread,
 * ends it at once. */
static void worker_silence_begin(struct client *client, const struct silence *silence,
                                 int64_t now_ms) {
    char message[160];
    client->receiving = !route_await_message(&client->route, worker_silence_heard, client);
    if (client->receiving || worker_silence_since_ms(client) != silence->since_ms) {
        return;
    }
    snprintf(message, sizeof message, "no message for %lld s; expect_message_within_s is %u",
             (long long)(now_ms - silence->since_ms) / SILENCE_MS_PER_S, silence->expect_s);
    worker_silence_set(client, true);
    metric_add(METRIC_SILENCES, 1);
    log_event(LOG_INFO, "client_silent", KS("client", client->id), KS("detail", message),
              KS("broker", client->broker->key));
    worker_notify_error(client, CLIENT_ERROR_SILENT, message);
}

void worker_silence_end(struct client *client, const char *why) {
    const struct workers_owner *owner = client->worker->owner;
    if (!client->silent) {
        return;
    }
    (void)route_await_message(&client->route, NULL, NULL);
    worker_silence_set(client, false);
    log_event(LOG_INFO, "client_silence_ended", KS("client", client->id), KS("reason", why));
    if (owner->noticed) {
        struct workers_notice notice = {.id = client->id,
                                        .code = "silence_ended",
                                        .message = why,
                                        .origin = route_origin(&client->route)};
        owner->noticed(owner->context, &notice);
        message_origin_release(notice.origin);
    }
}

/* ---- silence: what the node does about it ---- */

static void worker_silence_count(struct client *client, unsigned actions) {
    pthread_mutex_lock(&client->worker->lock);
    client->silence_actions =
        (actions < SILENCE_ACTIONS_MAX ? actions : SILENCE_ACTIONS_MAX) & SILENCE_ACTIONS_MAX;
    pthread_mutex_unlock(&client->worker->lock);
}

/* False: a new connection has been requested. */
static bool worker_silence_act(struct client *client, int64_t now_ms) {
    bool reconnect = client->config->config->on_silence == ON_SILENCE_RECONNECT;
    client->silence_acted_at_s = (uint32_t)(now_ms / SILENCE_MS_PER_S);
    worker_silence_count(client, client->silence_actions + 1u);
    metric_add(reconnect ? METRIC_SILENCE_RECONNECTS : METRIC_SILENCE_RESUBSCRIBES, 1);
    if (reconnect) {
        worker_subscribe_all(client);
        worker_requeue(client, "silent");
    } else {
        worker_subscribe_again(client);
    }
    return !reconnect;
}

/* Whether the silence may begin now. False: check again later. */
static bool worker_silence_may_begin(struct client *client) {
    bool receiving = worker_silence_is_receiving(client);
    if (receiving) {
        client->receiving = false;
        worker_set_timer(client, SILENCE_POSTPONE_MS);
    }
    return !receiving;
}

bool worker_silence_check(struct client *client) {
    int64_t now_ms = clock_ms();
    struct silence silence;
    if (!worker_silence_of(client, &silence)) {
        return true;
    }
    if (silence_is_over(&silence, now_ms)) {
        worker_silence_reset(client);
    }
    if (!client->silent && silence_due_ms(&silence) <= now_ms) {
        if (!worker_silence_may_begin(client)) {
            return false;
        }
        worker_silence_begin(client, &silence, now_ms);
        silence.silent = client->silent;
    }
    return !silence_action_is_due(&silence, now_ms) || worker_silence_act(client, now_ms);
}

void worker_silence_reset(struct client *client) {
    worker_silence_count(client, 0);
}

void worker_silence_update(struct client *client) {
    struct silence silence;
    int64_t now_ms = clock_ms();
    bool expected = worker_silence_of(client, &silence);
    silence.silent = false;
    if (!expected || silence_due_ms(&silence) > now_ms) {
        worker_silence_end(client, "expect_message_within_s has changed");
    }
    worker_subscribe_watch(client);
}
