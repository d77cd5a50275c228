/* Owns the commands of the facade: start, update, stop, retry, restart. Worker thread only. */
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/text.h"
#include "mqtt/config/client_profile.h"
#include "mqtt/worker/worker.h"

#define DROPS_PER_TURN_MAX 1000

void worker_start_client(struct client *client) {
    client_update_route(client);
    client->offline_since_ms = clock_ms();
    client->failures = 0;
    client->untried = true;
    worker_urls_begin(client);
    worker_clear_suspicion(client);
    worker_silence_reset(client);
    client->release_requested = false;
    if (client->config->config->desired == DESIRED_PAUSED) {
        worker_change_state(client, CLIENT_EV_PAUSE, "paused");
    } else if (worker_change_state(client, CLIENT_EV_RESUME, "start")) {
        worker_enqueue(client);
    }
}

/* ---- start and update ---- */

static int64_t worker_command_profile_version(const struct shared_config *config) {
    return config->config->profile ? config->config->profile->version : 0;
}

static bool worker_command_is_newer(const struct client *client,
                                    const struct worker_command *command) {
    int64_t epoch = client->next ? client->next->epoch : client->epoch;
    int64_t version = client->next ? client->next->version : client->version;
    const struct shared_config *config = client->next ? client->next->config : client->config;
    bool profile =
        worker_command_profile_version(config) != worker_command_profile_version(command->config);
    return command->epoch > epoch ||
           (command->epoch == epoch &&
            (command->version > version || (command->version == version && profile)));
}

/* Starts the client again once it has closed. */
static void worker_command_start_later(struct client *client,
                                       const struct worker_command *command) {
    struct client_start *next = malloc(sizeof *next);
    if (!next) {
        return; /* the reconciler tries again */
    }
    *next = (struct client_start){.config = shared_config_hold(command->config),
                                  .epoch = command->epoch,
                                  .version = command->version,
                                  .generation = command->generation,
                                  .is_new = command->since > client->version ||
                                            (client->next && client->next->is_new)};
    client_start_destroy(client->next);
    client->next = next;
}

static enum err worker_command_replace_config(struct client *client,
                                              const struct worker_command *command) {
    struct worker *worker = client->worker;
    pthread_mutex_lock(&worker->lock);
    enum err err = client_replace_config(client, command->config);
    if (err == ERR_OK && command->since > client->version) {
        client_forget_history(client);
    }
    if (err == ERR_OK) {
        client_take_epoch(client, command->epoch);
        client->version = command->version;
        client->generation = command->generation;
    }
    pthread_mutex_unlock(&worker->lock);
    return err;
}

static void worker_command_pause(struct client *client) {
    if (worker_change_state(client, CLIENT_EV_PAUSE, "paused")) {
        worker_forget_loss(client);
        worker_tear_down(client, false);
    }
}

/* Its brokers may differ from those before the pause. */
static void worker_command_resume(struct client *client) {
    client->offline_since_ms = clock_ms();
    client->failures = 0;
    client->untried = true;
    client->server_keepalive_s = 0;
    worker_urls_begin(client);
    if (worker_change_state(client, CLIENT_EV_RESUME, "resumed")) {
        worker_enqueue(client);
    }
}

/* Tries at once, in whatever state the client is. */
static void worker_command_try_now(struct client *client, const char *reason) {
    client->offline_since_ms = clock_ms();
    client->failures = 0;
    client->untried = true;
    worker_clear_suspicion(client);
    worker_silence_end(client, reason);
    worker_silence_reset(client);
    if (client->state == CLIENT_QUEUED) {
        worker_tear_down(client, false); /* its new broker may have another queue */
        worker_enqueue(client);
    } else {
        worker_requeue(client, reason);
    }
}

static bool worker_command_is_parked(const struct client *client) {
    return client->state == CLIENT_CONFLICT ||
           (client->state == CLIENT_BACKOFF && client->release_requested);
}

/* Notifies those who wait for this version, unless a change of state has done so. */
static void worker_command_report_version(const struct client *client, enum client_state before) {
    if (client->state == before) {
        worker_report_change(client, before, before, "configuration_changed");
    }
}

static void worker_command_update(struct client *client, const struct worker_command *command) {
    enum client_state state = client->state;
    struct shared_config *before = shared_config_hold(client->config);
    bool claimed_anew = command->epoch > client->epoch;
    if (worker_command_replace_config(client, command) != ERR_OK) {
        shared_config_release(before);
        return; /* the reconciler tries again */
    }
    worker_check_hold(client);
    if (claimed_anew) {
        worker_subscribe_all(client); /* another node may have had it meanwhile */
    }
    const struct client_config *now = client->config->config;
    if (now->desired == DESIRED_PAUSED) {
        worker_command_pause(client);
    } else if (client->state == CLIENT_PAUSED) {
        worker_command_resume(client);
    } else if (!client_config_same_connection(before->config, now)) {
        client->server_keepalive_s = 0; /* may be another broker */
        worker_subscribe_reset(client);
        worker_urls_begin(client);
        worker_command_try_now(client, "configuration_changed");
    } else if (claimed_anew && worker_command_is_parked(client)) {
        worker_command_try_now(client, "claimed");
    } else if (client->state == CLIENT_ONLINE) {
        worker_update_subscriptions(client);
        worker_silence_update(client);
    }
    worker_command_report_version(client, state);
    shared_config_release(before);
}

/* Reserves one timer per record, so that setting one cannot fail. */
static enum err worker_command_reserve_timers(struct worker *worker) {
    pthread_mutex_lock(&worker->lock);
    size_t n = HASH_COUNT(worker->clients);
    pthread_mutex_unlock(&worker->lock);
    return timers_reserve(&worker->timers, n);
}

static struct client *worker_command_add_record(struct worker *worker,
                                                const struct worker_command *command) {
    struct client *client = client_create(worker, worker->owner->router, command->config);
    if (!client) {
        return NULL;
    }
    pthread_mutex_lock(&worker->lock);
    worker_insert(client, command->epoch, command->version, command->generation);
    pthread_mutex_unlock(&worker->lock);
    return client;
}

static void worker_command_start(struct worker *worker, const struct worker_command *command) {
    if (command->generation < worker->drop_before) {
        return; /* all clients of its generation were stopped */
    }
    struct client *client = worker_find(worker, command->id);
    if (!client) {
        client = worker_command_add_record(worker, command);
    }
    if (!client || worker_command_reserve_timers(worker) != ERR_OK) {
        log_event(LOG_ERROR, "client_not_started", KS("client", command->id),
                  KS("reason", "out_of_memory"));
        return;
    }
    if (client->state == CLIENT_CLOSED) {
        worker_start_client(client);
    } else if (!worker_command_is_newer(client, command)) {
        return;
    } else if (client->state == CLIENT_CLOSING) {
        worker_command_start_later(client, command);
    } else {
        worker_command_update(client, command);
    }
}

/* ---- stop ---- */

void worker_stop_client(struct client *client, const char *reason, bool with_will) {
    client_start_destroy(client->next);
    client->next = NULL;
    if (client->state != CLIENT_CLOSING && !worker_change_state(client, CLIENT_EV_STOP, reason)) {
        return;
    }
    worker_tear_down(client, with_will);
    if (!client->connection) {
        worker_client_closed(client);
    }
}

static void worker_command_stop(struct worker *worker, struct worker_command *command) {
    struct client *client = worker_find(worker, command->id);
    bool older = client && command->epoch != 0 && client->epoch > command->epoch;
    struct client_stop *entry = client && !older ? calloc(1, sizeof *entry) : NULL;
    if (!entry) {
        if (command->done) {
            command->done(command->context);
        }
    } else {
        *entry = (struct client_stop){command->done, command->context, client->stops};
        client->stops = entry;
    }
    if (client && !older) {
        worker_stop_client(client, command->reason ? command->reason : "stopped", false);
    }
}

static size_t worker_command_collect_old(struct worker *worker, uint64_t before,
                                         struct client *out[DROPS_PER_TURN_MAX]) {
    struct client *client, *next;
    size_t n = 0;
    pthread_mutex_lock(&worker->lock);
    HASH_ITER(hh, worker->clients, client, next) {
        if (client->generation < before && client->state != CLIENT_CLOSING) {
            out[n++] = client;
            if (n == DROPS_PER_TURN_MAX) {
                break;
            }
        }
    }
    pthread_mutex_unlock(&worker->lock);
    return n;
}

void worker_drop_old(struct worker *worker) {
    uint64_t before = worker->drop_before;
    if (worker->dropped_before == before) {
        return;
    }
    struct client *old[DROPS_PER_TURN_MAX];
    char reason[sizeof(worker->drop_reason)];
    pthread_mutex_lock(&worker->lock);
    memcpy(reason, worker->drop_reason, sizeof(reason));
    pthread_mutex_unlock(&worker->lock);
    size_t n = worker_command_collect_old(worker, before, old);
    for (size_t i = 0; i < n; i++) {
        worker_stop_client(old[i], reason, !worker->drop_with_disconnect);
    }
    if (n < DROPS_PER_TURN_MAX) {
        worker->dropped_before = before;
    } else {
        worker_wake(worker);
    }
}

/* ---- retry and restart ---- */

static void worker_command_retry(struct worker *worker, const struct worker_command *command) {
    struct client *client = worker_find(worker, command->id);
    if (!client || (command->epoch != 0 && client->epoch != command->epoch) ||
        !worker_command_is_parked(client)) {
        return;
    }
    client->offline_since_ms = clock_ms();
    client->release_requested = false;
    worker_forget_loss(client);
    if (client->state == CLIENT_CONFLICT) {
        worker_change_state(client, CLIENT_EV_RESUME, "stays_here");
    }
    worker_schedule_retry(client, command->delay_ms);
}

static void worker_command_restart(struct worker *worker, const struct worker_command *command) {
    struct client *client = worker_find(worker, command->id);
    if (client && client->state != CLIENT_PAUSED) {
        worker_subscribe_all(client);
        worker_command_try_now(client, command->reason ? command->reason : "restart");
    }
}

static void worker_command_hear(struct worker *worker, const struct worker_command *command) {
    struct client *client = worker_find(worker, command->id);
    if (client && client->record == command->record) {
        worker_silence_end(client, "a message has arrived");
        if (client->state == CLIENT_ONLINE) {
            worker_subscribe_watch(client);
        }
    }
}

void worker_execute(struct worker *worker, struct worker_command *command) {
    switch (command->kind) {
    case WORKER_START:
        worker_command_start(worker, command);
        break;
    case WORKER_STOP:
        worker_command_stop(worker, command);
        break;
    case WORKER_RETRY:
        worker_command_retry(worker, command);
        break;
    case WORKER_RESTART:
        worker_command_restart(worker, command);
        break;
    case WORKER_PUBLISH:
        worker_publish(worker, command);
        break;
    case WORKER_QUERY:
        worker_answer_query(worker_find(worker, command->id), command->context, ERR_NOT_FOUND);
        break;
    case WORKER_HEARD:
        worker_command_hear(worker, command);
        break;
    }
    worker_command_free(command);
}
