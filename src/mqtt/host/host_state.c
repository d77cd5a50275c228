/* Owns the change of a client's state and what belongs to leaving one. Host thread only. Knows
 * nothing of why a state changes. */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "mqtt/host.h"

/* The steps of connecting are for those who look closely. */
static enum log_level level_of(const struct client *client, enum client_state to) {
    enum client_state from = client->state;
    if (host_is_away(client) && (from == CLIENT_BACKOFF || to == CLIENT_BACKOFF) &&
        from != CLIENT_ONLINE) {
        return LOG_DEBUG; /* the incident itself is logged */
    }
    bool inner = strcmp(client_state_shown(from), "connecting") == 0 ||
                 strcmp(client_state_shown(to), "connecting") == 0;
    return inner && to != CLIENT_ONLINE && to != CLIENT_BACKOFF ? LOG_DEBUG : LOG_INFO;
}

static void log_change(const struct client *client, enum client_state to, const char *reason) {
    log_event(level_of(client, to), "client_state", KS("client", client->id),
              KS("from", client_state_name(client->state)), KS("to", client_state_name(to)),
              KS("reason", reason), KS("broker", client->broker ? client->broker->key : NULL));
}

bool host_change(struct client *client, enum client_event event, const char *reason) {
    enum client_state from = client->state, to;
    if (!client_state_next(from, event, &to)) {
        return false;
    }
    struct host *host = client->host;
    enum client_state told = from == CLIENT_CLOSING ? client->state_before : from;
    log_change(client, to, reason);
    client->state_before = (uint8_t)from;
    pthread_mutex_lock(&host->lock);
    host->counts[from]--;
    host->counts[to]++;
    client_record_change(client, to, reason);
    client->next_retry_at_ms = 0;
    client->times_online += to == CLIENT_ONLINE;
    client->connected_at_ms = to == CLIENT_ONLINE ? clock_wall_ms() : 0;
    pthread_mutex_unlock(&host->lock);
    if (host->owner->changed != NULL) {
        host->owner->changed(host->owner->context, client->id, told, to, reason, client->version);
    }
    if (to == CLIENT_ONLINE) {
        metric_add(METRIC_CONNECT_ONLINE, 1);
        histogram_add(HISTOGRAM_CONNECT, (clock_ms() - client->opened_at_ms) * 1000, 1);
        incident_online(client->broker->incident, client_number(client), clock_ms());
    }
    if (from == CLIENT_ONLINE) {
        incident_offline(client->broker->incident, client_number(client), clock_ms());
        client->offline_since_ms = clock_ms();
    }
    return true;
}

void host_note_error(struct client *client, enum client_error error, const char *message) {
    pthread_mutex_lock(&client->host->lock);
    client_note_error(client, error, message);
    pthread_mutex_unlock(&client->host->lock);
}

void host_notice(struct client *client, enum client_error error, const char *message) {
    const struct hosts_owner *owner = client->host->owner;
    host_note_error(client, error, message);
    if (owner->noticed != NULL) {
        owner->noticed(owner->context, client->id, client_error_code(error),
                       message != NULL ? message : client_error_text(error));
    }
}

void host_set_timer(struct client *client, int64_t delay_ms) {
    timers_set(&client->host->timers, &client->timer, clock_ms() + delay_ms);
}

void host_tear_down(struct client *client, bool with_will) {
    struct host *host = client->host;
    timers_clear(&host->timers, &client->timer);
    pacer_leave(&host->pacer, &client->ticket);
    host_cancel_lookup(client);
    host_drop_work(client);
    shared_config_release(client->applied);
    client->applied = NULL;
    client->connack_at_ms = 0;
    if (client->connection != NULL && !client->closing) {
        client->closing = true;
        host->ops->close(client->connection, with_will);
    }
}

void host_end_session(struct client *client) {
    client->host->ops->session_end(client->host->engine, client->session);
    client->session = NULL;
    client->session_kept = false;
    shared_config_release(client->session_of);
    client->session_of = NULL;
}

struct client *host_find(struct host *host, const char *id) {
    struct client *client;
    pthread_mutex_lock(&host->lock);
    HASH_FIND_STR(host->clients, id, client);
    pthread_mutex_unlock(&host->lock);
    return client;
}

static void tell_stopped(struct client *client) {
    while (client->stops != NULL) {
        struct client_stop *stop = client->stops;
        client->stops = stop->next;
        if (stop->done != NULL) {
            stop->done(stop->context);
        }
        free(stop);
    }
}

static void forget(struct client *client) {
    struct host *host = client->host;
    pthread_mutex_lock(&host->lock);
    HASH_DEL(host->clients, client);
    host->counts[client->state]--;
    host->degraded_count -= client->degraded;
    pthread_cond_broadcast(&host->forgotten);
    pthread_mutex_unlock(&host->lock);
    host_forget_loss(client);
    broker_release(&host->brokers, client->broker);
    host_end_session(client);
    tell_stopped(client);
    client_destroy(client);
}

/* Started again while it was closing. */
static enum err take_next_config(struct client *client) {
    struct host *host = client->host;
    pthread_mutex_lock(&host->lock);
    enum err result = client_replace_config(client, client->next->config);
    if (result == ERR_OK) {
        client->epoch = client->next->epoch;
        client->version = client->next->version;
        client->generation = client->next->generation;
    }
    pthread_mutex_unlock(&host->lock);
    client_start_destroy(client->next);
    client->next = NULL;
    host_subscribe_start_over(client); /* it may have been elsewhere, and be another */
    return result;
}

void host_closed(struct client *client) {
    if (!host_change(client, CLIENT_EV_CLOSED, client_last_reason(client))) {
        return;
    }
    bool again = client->next != NULL && client->next->generation >= client->host->drop_before;
    if (!again || take_next_config(client) != ERR_OK) {
        forget(client);
        return;
    }
    tell_stopped(client);
    host_begin(client);
}
