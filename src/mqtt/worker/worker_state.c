/* Owns the change of a client's state, and the work that belongs to leaving a state. Worker thread
 * only. */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "mqtt/worker/worker.h"

/* The steps of connecting are logged at a low level. */
static enum log_level worker_state_log_level(const struct client *client, enum client_state to) {
    enum client_state from = client->state;
    if (worker_broker_is_unreachable(client) && (from == CLIENT_BACKOFF || to == CLIENT_BACKOFF) &&
        from != CLIENT_ONLINE) {
        return LOG_DEBUG; /* the incident itself is logged */
    }
    bool inner = strcmp(client_state_shown(from), "connecting") == 0 ||
                 strcmp(client_state_shown(to), "connecting") == 0;
    return inner && to != CLIENT_ONLINE && to != CLIENT_BACKOFF ? LOG_DEBUG : LOG_INFO;
}

static void worker_state_log_change(const struct client *client, enum client_state to,
                                    const char *reason) {
    log_event(worker_state_log_level(client, to), "client_state", KS("client", client->id),
              KS("from", client_state_name(client->state)), KS("to", client_state_name(to)),
              KS("reason", reason), KS("broker", client->broker ? client->broker->key : NULL));
}

void worker_report_change(const struct client *client, enum client_state from, enum client_state to,
                          const char *reason) {
    const struct workers_owner *owner = client->worker->owner;
    if (!owner->changed) {
        return;
    }
    struct workers_change change = {.id = client->id,
                                    .from = from,
                                    .to = to,
                                    .reason = reason,
                                    .version = client->version,
                                    .origin = route_origin(&client->route),
                                    .in_incident = client->in_incident};
    owner->changed(owner->context, &change);
    message_origin_release(change.origin);
}

/* A client that is paused, stopped or in conflict is so for a reason of its own. */
static bool worker_state_is_of_incident(const struct client *client, enum client_state to) {
    bool connects = to <= CLIENT_ONLINE;
    bool fails = to == CLIENT_BACKOFF;
    bool away = (connects || fails) && worker_broker_is_unreachable(client);
    return away || (connects && client->in_incident);
}

bool worker_change_state(struct client *client, enum client_event event, const char *reason) {
    enum client_state from = client->state, to;
    if (!client_state_next(from, event, &to)) {
        return false;
    }
    struct worker *worker = client->worker;
    enum client_state shown_from = from == CLIENT_CLOSING ? client->state_before : from;
    worker_state_log_change(client, to, reason);
    client->state_before = from & 0x7F;
    pthread_mutex_lock(&worker->lock);
    worker->counts[from]--;
    worker->counts[to]++;
    client_record_change(client, to, reason);
    client->next_retry_at_ms = 0;
    client->times_online += to == CLIENT_ONLINE;
    pthread_mutex_unlock(&worker->lock);
    client->in_incident = worker_state_is_of_incident(client, to);
    worker_report_change(client, shown_from, to, reason);
    client->in_incident = client->in_incident && to != CLIENT_ONLINE;
    if (to == CLIENT_ONLINE) {
        metric_add(METRIC_CONNECT_ONLINE, 1);
        histogram_add(HISTOGRAM_CONNECT, (clock_ms() - client->opened_at_ms) * 1000, 1);
        incident_online(client->broker->incident, client_number(client), clock_ms());
    }
    if (to > CLIENT_ONLINE) { /* neither connecting nor online */
        worker_silence_end(client, "the client is no longer online");
    }
    if (from == CLIENT_ONLINE) {
        incident_offline(client->broker->incident, client_number(client), clock_ms());
        client->offline_since_ms = clock_ms();
    }
    return true;
}

void worker_note_error(struct client *client, enum client_error error, const char *message) {
    pthread_mutex_lock(&client->worker->lock);
    client_note_error(client, error, message);
    pthread_mutex_unlock(&client->worker->lock);
}

void worker_notify_error(struct client *client, enum client_error error, const char *message) {
    const struct workers_owner *owner = client->worker->owner;
    worker_note_error(client, error, message);
    if (owner->noticed) {
        struct workers_notice notice = {.id = client->id,
                                        .code = client_error_code(error),
                                        .message = message ? message : client_error_text(error),
                                        .origin = route_origin(&client->route)};
        owner->noticed(owner->context, &notice);
        message_origin_release(notice.origin);
    }
}

void worker_set_timer(struct client *client, int64_t delay_ms) {
    timers_set(&client->worker->timers, &client->timer, clock_ms() + delay_ms);
}

void worker_tear_down(struct client *client, bool with_will) {
    struct worker *worker = client->worker;
    timers_clear(&worker->timers, &client->timer);
    connect_limiter_leave(&worker->connect_limiter, &client->ticket);
    worker_cancel_lookup(client);
    worker_drop_work(client);
    shared_config_release(client->applied);
    client->applied = NULL;
    client->connack_at_ms = 0;
    if (client->connection && !client->closing) {
        client->closing = true;
        worker->ops->close(client->connection, with_will);
    }
}

void worker_end_session(struct client *client) {
    client->worker->ops->session_end(client->worker->engine, client->session);
    client->session = NULL;
    client->session_kept = false;
    shared_config_release(client->session_of);
    client->session_of = NULL;
}

struct client *worker_find(struct worker *worker, const char *id) {
    struct client *client;
    pthread_mutex_lock(&worker->lock);
    HASH_FIND_STR(worker->clients, id, client);
    pthread_mutex_unlock(&worker->lock);
    return client;
}

static void worker_state_answer_stops(struct client *client) {
    while (client->stops) {
        struct client_stop *stop = client->stops;
        client->stops = stop->next;
        if (stop->done) {
            stop->done(stop->context);
        }
        free(stop);
    }
}

static void worker_state_remove(struct client *client) {
    struct worker *worker = client->worker;
    pthread_mutex_lock(&worker->lock);
    worker_remove(client);
    worker->degraded_count -= client->degraded;
    pthread_cond_broadcast(&worker->forgotten);
    pthread_mutex_unlock(&worker->lock);
    worker_forget_loss(client);
    broker_release(&worker->brokers, client->broker);
    worker_end_session(client);
    worker_state_answer_stops(client);
    client_destroy(client);
}

/* The client was started again while it was closing. */
static enum err worker_state_take_next_config(struct client *client) {
    struct worker *worker = client->worker;
    pthread_mutex_lock(&worker->lock);
    enum err err = client_replace_config(client, client->next->config);
    if (err == ERR_OK && client->next->is_new) {
        client_forget_history(client);
    }
    if (err == ERR_OK) {
        client_take_epoch(client, client->next->epoch);
        client->version = client->next->version;
        client->generation = client->next->generation;
    }
    pthread_mutex_unlock(&worker->lock);
    client_start_destroy(client->next);
    client->next = NULL;
    worker_subscribe_reset(client); /* it may have been on another node, with another broker */
    return err;
}

void worker_client_closed(struct client *client) {
    if (!worker_change_state(client, CLIENT_EV_CLOSED, client_last_reason(client))) {
        return;
    }
    bool again = client->next && client->next->generation >= client->worker->drop_before;
    if (!again || worker_state_take_next_config(client) != ERR_OK) {
        worker_state_remove(client);
        return;
    }
    worker_state_answer_stops(client);
    worker_start_client(client);
}
