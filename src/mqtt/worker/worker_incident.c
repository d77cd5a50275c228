/* Owns how clients wait while no client of the node reaches their broker. They are parked: they
 * neither connect nor count as refused, except for one probe at a time. Worker thread only. */
#include <stddef.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "mqtt/worker/worker.h"

#define WORKER_INCIDENT_OTHERS_MS 1000

static struct client *worker_incident_client_of(struct connect_limiter_ticket *ticket) {
    return (struct client *)((char *)ticket - offsetof(struct client, ticket));
}

bool worker_broker_is_unreachable(const struct client *client) {
    return client->broker && incident_is_open(client->broker->incident);
}

/* ---- failures ---- */

/* Errors that count against the broker. A certificate, a subscription or a password concerns only
 * one client. */
static const struct {
    enum client_error error;
    bool refused; /* see struct incident_failure */
} worker_incident_rows[] = {
    {CLIENT_ERROR_DNS_FAILED, false},
    {CLIENT_ERROR_DNS_TIMEOUT, false},
    {CLIENT_ERROR_DNS_NAME_UNKNOWN, false},
    {CLIENT_ERROR_DNS_NO_ADDRESS, false},
    {CLIENT_ERROR_CONNECT_TIMEOUT, false},
    {CLIENT_ERROR_TCP_TIMEOUT, false},
    {CLIENT_ERROR_CONNECTION_REFUSED, true},
    {CLIENT_ERROR_NETWORK_UNREACHABLE, true},
    {CLIENT_ERROR_CONNECTION_LOST, false},
    {CLIENT_ERROR_TLS_TIMEOUT, false},
    {CLIENT_ERROR_TLS_CLOSED_AT_ONCE, false},
    {CLIENT_ERROR_TLS_CLOSED, false},
    {CLIENT_ERROR_WEBSOCKET_TIMEOUT, false},
    {CLIENT_ERROR_WEBSOCKET_CLOSED, false},
    {CLIENT_ERROR_WEBSOCKET_SERVER_TROUBLE, false},
    {CLIENT_ERROR_CONNACK_TIMEOUT, false},
    {CLIENT_ERROR_CONNACK_TIMEOUT_PATH, false},
    {CLIENT_ERROR_TLS_CLOSED_ALPN, false},
    {CLIENT_ERROR_CLOSED_BEFORE_CONNACK, false},
    {CLIENT_ERROR_CLOSED_BEFORE_CONNACK_V5, false},
    {CLIENT_ERROR_CLOSED_BEFORE_CONNACK_TLS, false},
    {CLIENT_ERROR_CLOSED_BEFORE_CONNACK_TLS_PORT, false},
    {CLIENT_ERROR_CLOSED_BEFORE_CONNACK_ALPN, false},
    {CLIENT_ERROR_CLOSED_BEFORE_CONNACK_PATH, false},
    {CLIENT_ERROR_CLOSED_IN_CONNACK, false},
    {CLIENT_ERROR_MQTT_SERVER_UNAVAILABLE, true},
    {CLIENT_ERROR_MQTT_SERVER_BUSY, false},
    {CLIENT_ERROR_MQTT_SHUTTING_DOWN, true},
};

bool worker_is_broker_failure(enum client_error error) {
    for (size_t i = 0; i < sizeof worker_incident_rows / sizeof *worker_incident_rows; i++) {
        if (worker_incident_rows[i].error == error) {
            return true;
        }
    }
    return false;
}

static bool worker_incident_is_refusal(enum client_error error) {
    for (size_t i = 0; i < sizeof worker_incident_rows / sizeof *worker_incident_rows; i++) {
        if (worker_incident_rows[i].error == error) {
            return worker_incident_rows[i].refused;
        }
    }
    return false;
}

bool worker_note_broker_failure(struct client *client, enum client_error error,
                                const char *message) {
    if (!client->broker || !worker_is_broker_failure(error)) {
        return false;
    }
    struct incident_failure failure = {.client = client_number(client),
                                       .error = error,
                                       .message = message,
                                       .refused = worker_incident_is_refusal(error)};
    incident_failed(client->broker->incident, &failure, clock_ms());
    return worker_broker_is_unreachable(client);
}

/* ---- wait ---- */

static void worker_incident_show(struct client *client) {
    char message[INCIDENT_CAUSE_MAX + 100];
    enum client_error error;
    if (incident_describe(client->broker->incident, &error, message, sizeof message)) {
        worker_note_error(client, error, message);
    }
    pthread_mutex_lock(&client->worker->lock);
    client->next_retry_at_ms = 0;
    pthread_mutex_unlock(&client->worker->lock);
}

void worker_await_broker(struct client *client) {
    struct worker *worker = client->worker;
    worker_clear_suspicion(client);
    timers_clear(&worker->timers, &client->timer);
    connect_limiter_leave(&worker->connect_limiter, &client->ticket);
    if (client->state == CLIENT_QUEUED &&
        !worker_change_state(client, CLIENT_EV_FAILED, "broker_away")) {
        return;
    }
    if (client->config->config->url_count > 1) {
        worker_set_timer(client,
                         WORKER_INCIDENT_OTHERS_MS); /* another of its brokers may be back */
        if (!worker_take_broker(client)) {
            return; /* it waits until then */
        }
    }
    worker_incident_show(client);
    client->in_incident = true;
    connect_limiter_park(&worker->connect_limiter, &client->ticket, client->broker,
                         client->untried);
}

/* Includes clients that were queued before the incident began. */
static void worker_incident_park_waiting(struct broker *broker) {
    struct connect_limiter_ticket *ticket, *next;
    int left = WORKER_PER_TURN_MAX;
    DL_FOREACH_SAFE(broker->waiting, ticket, next) {
        if (!ticket->probe) {
            worker_await_broker(worker_incident_client_of(ticket));
        }
        if (--left == 0) {
            return;
        }
    }
}

/* ---- end of the incident ---- */

static void worker_incident_start_probe(struct worker *worker, struct broker *broker,
                                        const char *reason) {
    struct client *client = worker_incident_client_of(broker->parked);
    connect_limiter_leave(&worker->connect_limiter, &client->ticket);
    client->ticket.probe = true;
    if (worker_change_state(client, CLIENT_EV_TIMER, reason)) {
        worker_enqueue(client);
    }
}

static void worker_incident_resume_all(struct worker *worker, struct broker *broker) {
    bool more = broker->parked != NULL; /* each parked client holds the broker */
    for (int i = 0; i < WORKER_PER_TURN_MAX && more; i++) {
        more = broker->parked->next != NULL;
        struct client *client = worker_incident_client_of(broker->parked);
        connect_limiter_leave(&worker->connect_limiter, &client->ticket);
        client->failures = 0;
        if (worker_change_state(client, CLIENT_EV_TIMER, "broker_back")) {
            worker_enqueue(client);
        }
    }
}

/* The client that has waited longest since its last try. */
static void worker_incident_release_one(struct worker *worker, struct broker *broker) {
    struct client *client = worker_incident_client_of(broker->parked);
    connect_limiter_leave(&worker->connect_limiter, &client->ticket);
    worker_request_release(client, worker_backoff_first_ms(client), 0);
}

void worker_watch_brokers(struct worker *worker, int64_t now_ms) {
    struct broker *broker, *next;
    for (broker = worker->connect_limiter.parked; broker; broker = next) {
        next = broker->parked_next;
        incident_tick(broker->incident, now_ms);
        if (!incident_is_open(broker->incident)) {
            worker_incident_resume_all(worker, broker);
            continue;
        }
        worker_incident_park_waiting(broker);
        if (incident_may_release(broker->incident, worker->conf->release_after_ms, now_ms)) {
            worker_incident_release_one(worker, broker);
        } else if (worker->lease_was_valid && incident_may_probe(broker->incident, now_ms)) {
            worker_incident_start_probe(worker, broker, "probe");
        }
    }
}
