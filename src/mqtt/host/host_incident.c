/* Owns how clients wait while nobody on the node reaches their broker: parked, so that they neither
 * try nor count as refused, but for one probe after the other. Host thread only. */
#include <stddef.h>
#include <utlist.h>
#include "base/clock.h"
#include "mqtt/host.h"

#define INCIDENT_OTHERS_MS 1000

static struct client *incident_client_of(struct pacer_ticket *ticket) {
    return (struct client *)((char *)ticket - offsetof(struct client, ticket));
}

bool host_is_away(const struct client *client) {
    return client->broker != NULL && incident_is_open(client->broker->incident);
}

/* ---- failures ---- */

/* A certificate, a subscription or a password is a client's own. */
static const struct {
    enum client_error error;
    bool refused; /* see struct incident_failure */
} incident_rows[] = {
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

bool host_speaks_against_broker(enum client_error error) {
    for (size_t i = 0; i < sizeof incident_rows / sizeof *incident_rows; i++) {
        if (incident_rows[i].error == error) {
            return true;
        }
    }
    return false;
}

static bool incident_is_refusal(enum client_error error) {
    for (size_t i = 0; i < sizeof incident_rows / sizeof *incident_rows; i++) {
        if (incident_rows[i].error == error) {
            return incident_rows[i].refused;
        }
    }
    return false;
}

bool host_blame_broker(struct client *client, enum client_error error, const char *message) {
    if (client->broker == NULL || !host_speaks_against_broker(error)) {
        return false;
    }
    struct incident_failure failure = {.client = client_number(client),
                                       .error = error,
                                       .message = message,
                                       .refused = incident_is_refusal(error)};
    incident_failed(client->broker->incident, &failure, clock_ms());
    return host_is_away(client);
}

/* ---- waiting ---- */

static void incident_show(struct client *client) {
    char message[INCIDENT_CAUSE_MAX + 100];
    enum client_error error;
    if (incident_describe(client->broker->incident, &error, message, sizeof message)) {
        host_note_error(client, error, message);
    }
    pthread_mutex_lock(&client->host->lock);
    client->next_retry_at_ms = 0;
    pthread_mutex_unlock(&client->host->lock);
}

void host_await_broker(struct client *client) {
    struct host *host = client->host;
    host_clear_suspicion(client);
    timers_clear(&host->timers, &client->timer);
    pacer_leave(&host->pacer, &client->ticket);
    if (client->state == CLIENT_QUEUED && !host_change(client, CLIENT_EV_FAILED, "broker_away")) {
        return;
    }
    if (client->config->config->url_count > 1) {
        host_set_timer(client, INCIDENT_OTHERS_MS); /* perhaps another of its brokers is back */
        if (!host_take_broker(client)) {
            return; /* until then */
        }
    }
    incident_show(client);
    pacer_park(&host->pacer, &client->ticket, client->broker, client->fresh);
}

/* Those that queued up before it began, too. */
static void incident_hold_back(struct broker *broker) {
    struct pacer_ticket *ticket, *next;
    int left = HOST_PER_TURN_MAX;
    DL_FOREACH_SAFE(broker->waiting, ticket, next) {
        if (!ticket->probe) {
            host_await_broker(incident_client_of(ticket));
        }
        if (--left == 0) {
            return;
        }
    }
}

/* ---- coming back ---- */

static void incident_let_try(struct host *host, struct broker *broker, const char *reason) {
    struct client *client = incident_client_of(broker->parked);
    pacer_leave(&host->pacer, &client->ticket);
    client->ticket.probe = true;
    if (host_change(client, CLIENT_EV_TIMER, reason)) {
        host_enqueue(client);
    }
}

static void incident_bring_back(struct host *host, struct broker *broker) {
    bool more = broker->parked != NULL; /* each holds the broker */
    for (int i = 0; i < HOST_PER_TURN_MAX && more; i++) {
        more = broker->parked->next != NULL;
        struct client *client = incident_client_of(broker->parked);
        pacer_leave(&host->pacer, &client->ticket);
        client->failures = 0;
        if (host_change(client, CLIENT_EV_TIMER, "broker_back")) {
            host_enqueue(client);
        }
    }
}

/* The one that has waited for longest since its last try. */
static void incident_give_back(struct host *host, struct broker *broker) {
    struct client *client = incident_client_of(broker->parked);
    pacer_leave(&host->pacer, &client->ticket);
    host_ask_release(client, host_backoff_first_ms(client), 0);
}

void host_watch_brokers(struct host *host, int64_t now_ms) {
    struct broker *broker, *next;
    for (broker = host->pacer.away; broker != NULL; broker = next) {
        next = broker->away_next;
        incident_tick(broker->incident, now_ms);
        if (!incident_is_open(broker->incident)) {
            incident_bring_back(host, broker);
            continue;
        }
        incident_hold_back(broker);
        if (incident_may_release(broker->incident, host->conf->release_after_ms, now_ms)) {
            incident_give_back(host, broker);
        } else if (host->lease_was_valid && incident_may_probe(broker->incident, now_ms)) {
            incident_let_try(host, broker, "probe");
        }
    }
}
