/* Owns what a client does once CONNACK came: bringing its subscriptions in order, also later when
 * they change. Host thread only. Knows nothing of how the connection was made or why it ends. */
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/metrics.h"
#include "mqtt/host.h"
#include "mqtt/reason_codes.h"

void host_drop_work(struct client *client) {
    if (client->work != NULL) {
        subscriptions_diff_fini(&client->work->diff);
        shared_config_release(client->work->from);
        shared_config_release(client->work->to);
        free(client->work);
        client->work = NULL;
    }
}

static void note_packet(struct client *client) {
    client->last_packet_at_ms = clock_wall_ms();
}

/* ---- the end of the work ---- */

static void note_refusals(struct client *client) {
    const struct client_config *config = client->config->config;
    size_t refused = 0;
    const char *filter = NULL;
    int code = 0;
    for (size_t i = 0; i < config->subscription_count; i++) {
        if (client->granted[i] >= 0x80) {
            refused++;
            filter = config->subscriptions[i].filter;
            code = client->granted[i];
        }
    }
    if (refused > 0) {
        enum client_error error = reason_error_suback(code);
        char message[400];
        snprintf(message, sizeof(message), "%zu of %zu subscriptions refused; %.200s: %s", refused,
                 config->subscription_count, filter, client_error_text(error));
        host_note_error(client, error, message);
    }
}

/* The timer watches the work while there is some, then the time until the connection is stable. */
void host_watch_stability(struct client *client) {
    int64_t age_ms = clock_ms() - client->connack_at_ms;
    int64_t left_ms = client->host->conf->stable_ms - age_ms;
    if (host_is_away(client) && left_ms > INCIDENT_LIFE_MS) {
        left_ms = INCIDENT_LIFE_MS;
    }
    host_set_timer(client, left_ms > 0 ? left_ms : 0);
}

static void work_done(struct client *client) {
    host_drop_work(client);
    note_refusals(client);
    pacer_leave(&client->host->pacer, &client->ticket);
    host_change(client, CLIENT_EV_SUBSCRIBED, "subscribed");
    host_watch_stability(client);
    if (client->state == CLIENT_ONLINE) {
        host_update_subscriptions(client); /* it may have changed meanwhile */
    }
}

/* ---- one packet after the other ---- */

static size_t at_most(size_t n) {
    return n < HOST_SUBSCRIBE_MAX ? n : HOST_SUBSCRIBE_MAX;
}

static enum err unsubscribe_some(struct client *client) {
    struct client_work *work = client->work;
    work->in_flight = at_most(work->diff.unsubscribe_count - work->unsubscribed);
    return client->host->ops->unsubscribe(
        client->connection, work->diff.unsubscribe + work->unsubscribed, work->in_flight);
}

static enum err subscribe_some(struct client *client) {
    struct client_work *work = client->work;
    struct client_subscription some[HOST_SUBSCRIBE_MAX];
    size_t most = at_most(work->diff.subscribe_count - work->subscribed);
    work->in_flight = 0;
    do { /* a packet has one subscription identifier */
        some[work->in_flight] = *work->diff.subscribe[work->subscribed + work->in_flight];
        work->in_flight++;
    } while (work->in_flight < most &&
             work->diff.subscribe[work->subscribed + work->in_flight]->identifier ==
                 some[0].identifier);
    return client->host->ops->subscribe(client->connection, some, work->in_flight);
}

static void next_step(struct client *client) {
    struct client_work *work = client->work;
    enum err result;
    if (work->unsubscribed < work->diff.unsubscribe_count) {
        result = unsubscribe_some(client);
    } else if (work->subscribed < work->diff.subscribe_count) {
        result = subscribe_some(client);
    } else {
        work_done(client);
        return;
    }
    host_set_timer(client, client->host->conf->connect_timeout_ms);
    if (result != ERR_OK && result != ERR_UNAVAILABLE) {
        /* Not sent, and nothing will answer: the timer ends it. */
        host_note_error(client, CLIENT_ERROR_SUBSCRIBE_FAILED, err_name(result));
    }
}

/* from NULL: nothing is known of the session. */
static void begin_work(struct client *client, struct shared_config *from) {
    struct client_work *work = calloc(1, sizeof(*work));
    if (work == NULL ||
        subscriptions_diff(&work->diff, from ? from->config : NULL, client->config->config,
                           client->session_present) != ERR_OK) {
        free(work);
        host_note_error(client, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
        host_set_timer(client, 0); /* connects anew */
        return;
    }
    work->from = shared_config_hold(from);
    work->to = shared_config_hold(client->config);
    client->work = work;
    next_step(client);
}

void host_update_subscriptions(struct client *client) {
    assert(client->state == CLIENT_ONLINE);
    if (client->work != NULL || client->applied == client->config) {
        return; /* busy: looked at again when it is done */
    }
    struct shared_config *before = client->applied;
    client->applied = shared_config_hold(client->config);
    if (!client_config_same_subscriptions(before->config, client->config->config)) {
        begin_work(client, before);
    }
    shared_config_release(before);
}

/* ---- events ---- */

/* The broker restarted without its sessions, say. That it has none at the first connection on this
 * node means nothing: nobody knows whether there was one. */
static void look_at_session(struct client *client, const struct engine_connack *connack) {
    const struct client_config *config = client->config->config;
    if (client->session_kept && !connack->session_present) {
        metric_add(METRIC_SESSIONS_LOST, 1);
        host_notice(client, CLIENT_ERROR_SESSION_LOST, NULL);
    }
    client->session_kept = client_config_keeps_session(config) && config->client_id[0] != '\0';
}

void host_connected(void *context, const struct engine_connack *connack) {
    struct client *client = context;
    note_packet(client);
    if (!host_change(client, CLIENT_EV_CONNECTED, "connack")) {
        return;
    }
    client->connack_at_ms = clock_ms();
    host_note_address(client, connack->address, true);
    incident_answered(client->broker->incident, client_number(client), client->connack_at_ms);
    look_at_session(client, connack);
    pthread_mutex_lock(&client->host->lock);
    client->session_present = connack->session_present;
    client->certificate_expires_at_ms = connack->certificate_expires_at_s * 1000;
    pthread_mutex_unlock(&client->host->lock);
    if (connack->server_keepalive_s > 0) {
        client->server_keepalive_s = connack->server_keepalive_s;
    }
    client->applied = shared_config_hold(client->config);
    begin_work(client, NULL);
}

/* Where the configuration has the filter now; -1: nowhere any more. */
static ptrdiff_t place_of(const struct client_config *config, const char *filter) {
    for (size_t i = 0; i < config->subscription_count; i++) {
        if (strcmp(config->subscriptions[i].filter, filter) == 0) {
            return (ptrdiff_t)i;
        }
    }
    return -1;
}

static void note_granted(struct client *client, const struct client_work *work,
                         const uint8_t *codes, size_t n) {
    bool changed = client->config != work->to; /* while the packet was under way */
    pthread_mutex_lock(&client->host->lock);
    for (size_t i = 0; i < n && i < work->in_flight; i++) {
        const struct client_subscription *one = work->diff.subscribe[work->subscribed + i];
        ptrdiff_t at = changed ? place_of(client->config->config, one->filter)
                               : one - work->to->config->subscriptions;
        if (at >= 0) {
            client->granted[at] = codes[i];
        }
    }
    pthread_mutex_unlock(&client->host->lock);
}

void host_subscribed(void *context, const uint8_t *codes, size_t n) {
    struct client *client = context;
    struct client_work *work = client->work;
    note_packet(client);
    if (work == NULL || work->in_flight == 0) {
        return;
    }
    note_granted(client, work, codes, n);
    work->subscribed += work->in_flight;
    work->in_flight = 0;
    next_step(client);
}

void host_unsubscribed(void *context) {
    struct client *client = context;
    struct client_work *work = client->work;
    note_packet(client);
    if (work == NULL || work->in_flight == 0) {
        return;
    }
    work->unsubscribed += work->in_flight;
    work->in_flight = 0;
    next_step(client);
}

/* ---- losses ---- */

bool host_subscribe_blame(struct client *client) {
    (void)client;
    return false;
}
