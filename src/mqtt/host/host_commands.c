/* Owns what the facade asks of a host: start, update, stop, retry, restart. Host thread only.
 * Knows nothing of connections beyond what host.h offers. */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "mqtt/host.h"

#define DROPS_PER_TURN_MAX 1000

void host_begin(struct client *client) {
    client->offline_since_ms = clock_ms();
    client->failures = 0;
    client->fresh = true;
    host_urls_begin(client);
    host_clear_suspicion(client);
    client->release_asked = false;
    if (client->config->config->desired == DESIRED_PAUSED) {
        host_change(client, CLIENT_EV_PAUSE, "paused");
    } else if (host_change(client, CLIENT_EV_RESUME, "start")) {
        host_enqueue(client);
    }
}

/* ---- start and update ---- */

static bool is_newer(const struct client *client, const struct host_command *command) {
    int64_t epoch = client->next ? client->next->epoch : client->epoch;
    int64_t version = client->next ? client->next->version : client->version;
    return command->epoch > epoch || (command->epoch == epoch && command->version > version);
}

/* Starts again once what is closing is closed. */
static void start_later(struct client *client, const struct host_command *command) {
    struct client_start *next = malloc(sizeof *next);
    if (next == NULL) {
        return; /* the reconciler comes again */
    }
    *next = (struct client_start){.config = shared_config_hold(command->config),
                                  .epoch = command->epoch,
                                  .version = command->version,
                                  .generation = command->generation};
    client_start_destroy(client->next);
    client->next = next;
}

static enum err replace_config(struct client *client, const struct host_command *command) {
    struct host *host = client->host;
    pthread_mutex_lock(&host->lock);
    enum err result = client_replace_config(client, command->config);
    if (result == ERR_OK) {
        client->epoch = command->epoch;
        client->version = command->version;
        client->generation = command->generation;
    }
    pthread_mutex_unlock(&host->lock);
    return result;
}

static void pause(struct client *client) {
    if (host_change(client, CLIENT_EV_PAUSE, "paused")) {
        host_forget_loss(client);
        host_tear_down(client, false);
    }
}

/* Its brokers may be others than before the pause. */
static void resume(struct client *client) {
    client->offline_since_ms = clock_ms();
    client->failures = 0;
    client->fresh = true;
    client->server_keepalive_s = 0;
    host_urls_begin(client);
    if (host_change(client, CLIENT_EV_RESUME, "resumed")) {
        host_enqueue(client);
    }
}

/* Wherever it stands, it has reason to try at once. */
static void try_anew(struct client *client, const char *reason) {
    client->offline_since_ms = clock_ms();
    client->failures = 0;
    client->fresh = true;
    host_clear_suspicion(client);
    if (client->state == CLIENT_QUEUED) {
        host_tear_down(client, false); /* perhaps it is another broker's queue now */
        host_enqueue(client);
    } else {
        host_requeue(client, reason);
    }
}

static bool is_parked(const struct client *client) {
    return client->state == CLIENT_CONFLICT ||
           (client->state == CLIENT_BACKOFF && client->release_asked);
}

/* Whoever waits for this version is told, unless a change of state has told it. */
static void tell_version(const struct client *client, enum client_state before) {
    const struct hosts_owner *owner = client->host->owner;
    if (client->state == before && owner->changed != NULL) {
        owner->changed(owner->context, client->id, before, before, "configuration_changed",
                       client->version);
    }
}

static void update(struct client *client, const struct host_command *command) {
    enum client_state state = client->state;
    struct shared_config *before = shared_config_hold(client->config);
    bool claimed_anew = command->epoch > client->epoch;
    if (replace_config(client, command) != ERR_OK) {
        shared_config_release(before);
        return; /* the reconciler comes again */
    }
    if (claimed_anew) {
        host_subscribe_all(client); /* another node may have had it meanwhile */
    }
    const struct client_config *now = client->config->config;
    if (now->desired == DESIRED_PAUSED) {
        pause(client);
    } else if (client->state == CLIENT_PAUSED) {
        resume(client);
    } else if (!client_config_same_connection(before->config, now)) {
        client->server_keepalive_s = 0; /* perhaps another broker */
        host_subscribe_start_over(client);
        host_urls_begin(client);
        try_anew(client, "configuration_changed");
    } else if (claimed_anew && is_parked(client)) {
        try_anew(client, "claimed");
    } else if (client->state == CLIENT_ONLINE) {
        host_update_subscriptions(client);
    }
    tell_version(client, state);
    shared_config_release(before);
}

/* Room for one timer per record, so that setting one cannot fail. */
static enum err reserve_timers(struct host *host) {
    pthread_mutex_lock(&host->lock);
    size_t n = HASH_COUNT(host->clients);
    pthread_mutex_unlock(&host->lock);
    return timers_reserve(&host->timers, n);
}

static struct client *add_record(struct host *host, const struct host_command *command) {
    struct client *client = client_create(host, command->config);
    if (client == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&host->lock);
    host_insert(client, command->epoch, command->version, command->generation);
    pthread_mutex_unlock(&host->lock);
    return client;
}

static void start(struct host *host, const struct host_command *command) {
    if (command->generation < host->drop_before) {
        return; /* everything of its time was stopped */
    }
    struct client *client = host_find(host, command->id);
    if (client == NULL) {
        client = add_record(host, command);
    }
    if (client == NULL || reserve_timers(host) != ERR_OK) {
        log_event(LOG_ERROR, "client_not_started", KS("client", command->id),
                  KS("reason", "out_of_memory"));
        return;
    }
    if (client->state == CLIENT_CLOSED) {
        host_begin(client);
    } else if (!is_newer(client, command)) {
        return;
    } else if (client->state == CLIENT_CLOSING) {
        start_later(client, command);
    } else {
        update(client, command);
    }
}

/* ---- stop ---- */

void host_stop_client(struct client *client, const char *reason, bool with_will) {
    client_start_destroy(client->next);
    client->next = NULL;
    if (client->state != CLIENT_CLOSING && !host_change(client, CLIENT_EV_STOP, reason)) {
        return;
    }
    host_tear_down(client, with_will);
    if (client->connection == NULL) {
        host_closed(client);
    }
}

static void stop(struct host *host, struct host_command *command) {
    struct client *client = host_find(host, command->id);
    bool older = client != NULL && command->epoch != 0 && client->epoch > command->epoch;
    struct client_stop *entry = client && !older ? calloc(1, sizeof(*entry)) : NULL;
    if (entry == NULL) {
        if (command->done != NULL) {
            command->done(command->context);
        }
    } else {
        *entry = (struct client_stop){command->done, command->context, client->stops};
        client->stops = entry;
    }
    if (client != NULL && !older) {
        host_stop_client(client, command->reason ? command->reason : "stopped", false);
    }
}

static size_t collect_old(struct host *host, uint64_t before,
                          struct client *out[DROPS_PER_TURN_MAX]) {
    struct client *client, *next;
    size_t n = 0;
    pthread_mutex_lock(&host->lock);
    HASH_ITER(hh, host->clients, client, next) {
        if (client->generation < before && client->state != CLIENT_CLOSING) {
            out[n++] = client;
            if (n == DROPS_PER_TURN_MAX) {
                break;
            }
        }
    }
    pthread_mutex_unlock(&host->lock);
    return n;
}

void host_drop_old(struct host *host) {
    uint64_t before = host->drop_before;
    if (host->dropped_before == before) {
        return;
    }
    struct client *old[DROPS_PER_TURN_MAX];
    char reason[sizeof(host->drop_reason)];
    pthread_mutex_lock(&host->lock);
    memcpy(reason, host->drop_reason, sizeof(reason));
    pthread_mutex_unlock(&host->lock);
    size_t n = collect_old(host, before, old);
    for (size_t i = 0; i < n; i++) {
        host_stop_client(old[i], reason, !host->drop_politely);
    }
    if (n < DROPS_PER_TURN_MAX) {
        host->dropped_before = before;
    } else {
        host_wake(host);
    }
}

/* ---- retry and restart ---- */

static void retry(struct host *host, const struct host_command *command) {
    struct client *client = host_find(host, command->id);
    if (client == NULL || (command->epoch != 0 && client->epoch != command->epoch) ||
        !is_parked(client)) {
        return;
    }
    client->offline_since_ms = clock_ms();
    client->release_asked = false;
    host_forget_loss(client);
    if (client->state == CLIENT_CONFLICT) {
        host_change(client, CLIENT_EV_RESUME, "stays_here");
    }
    host_schedule(client, command->delay_ms);
}

static void restart(struct host *host, const struct host_command *command) {
    struct client *client = host_find(host, command->id);
    if (client != NULL && client->state != CLIENT_PAUSED) {
        host_subscribe_all(client);
        try_anew(client, command->reason ? command->reason : "restart");
    }
}

void host_obey(struct host *host, struct host_command *command) {
    switch (command->kind) {
    case HOST_START:
        start(host, command);
        break;
    case HOST_STOP:
        stop(host, command);
        break;
    case HOST_RETRY:
        retry(host, command);
        break;
    case HOST_RESTART:
        restart(host, command);
        break;
    case HOST_PUBLISH:
        host_publish(host, command);
        break;
    case HOST_QUERY:
        host_answer_query(host_find(host, command->id), command->context, ERR_NOT_FOUND);
        break;
    }
    host_command_free(command);
}
