/* Owns what CONNACK says about a client's session. Worker thread only. */
#include <stddef.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "mqtt/worker/worker.h"

/* A broker may have restarted without its sessions. If it has none at the first connection on this
 * node, that means nothing: it is unknown whether there was one. */
static void worker_session_check(struct client *client, const struct engine_connack *connack) {
    const struct client_config *config = client->config->config;
    if (client->session_kept && !connack->session_present) {
        metric_add(METRIC_SESSIONS_LOST, 1);
        worker_blame_clear(client);
        worker_reduce_suspicion(client);
        worker_notify_error(client, CLIENT_ERROR_SESSION_LOST, NULL);
    }
    client->session_kept = client_config_keeps_session(config) && config->client_id[0] != '\0';
}

void worker_pinged(void *context, int64_t us) {
    struct client *client = context;
    incident_note_ping(client->broker->incident, us, clock_ms());
}

void worker_connected(void *context, const struct engine_connack *connack) {
    struct client *client = context;
    client->last_answer_at_ms = clock_ms();
    if (!worker_change_state(client, CLIENT_EV_CONNECTED, "connack")) {
        return;
    }
    client->connack_at_ms = clock_ms();
    worker_note_address(client, connack->address, true);
    incident_answered(client->broker->incident, client_number(client), client->connack_at_ms);
    incident_note_certificate(client->broker->incident, connack->certificate_expires_at_s * 1000);
    worker_session_check(client, connack);
    pthread_mutex_lock(&client->worker->lock);
    client->session_present = connack->session_present;
    client->certificate_expires_at_ms = connack->certificate_expires_at_s * 1000;
    pthread_mutex_unlock(&client->worker->lock);
    if (connack->server_keepalive_s > 0) {
        client->server_keepalive_s = connack->server_keepalive_s;
    }
    client->stable_reported = false;
    worker_begin_subscribing(client);
}
