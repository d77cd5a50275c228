/* Owns the way of an admitted client to CONNACK: DNS, the address policy, what CONNACK says about
 * the session; and waiting before, and after a failure. Worker thread only. */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "mqtt/client/backoff.h"
#include "mqtt/config/client_secrets.h"
#include "mqtt/worker/worker.h"

#define ENGINE_MARGIN_MS                                                                           \
    1000 /* gives the engine, which knows the cause, time to report a timeout first */

#define RELEASE_ASK_AGAIN_MS 10000 /* the owner may have missed it */

/* ---- queue ---- */

bool worker_take_broker(struct client *client) {
    struct worker *worker = client->worker;
    const struct client_endpoint endpoint = worker_endpoint(client);
    struct broker *broker = broker_acquire(&worker->brokers, endpoint.host, endpoint.port);
    struct broker *before = client->broker;
    if (!broker) {
        return false;
    }
    pthread_mutex_lock(&worker->lock);
    client->broker = broker;
    pthread_mutex_unlock(&worker->lock);
    broker_release(&worker->brokers, before);
    return true;
}

int64_t worker_release_left_ms(const struct client *client) {
    int64_t since_ms = client->offline_since_ms, now_ms = clock_ms();
    if (client->broker) {
        int64_t ended_at_ms = incident_ended_at_ms(client->broker->incident);
        since_ms = ended_at_ms > since_ms ? ended_at_ms : since_ms;
    }
    since_ms = worker_broker_is_unreachable(client) ? now_ms : since_ms;
    int64_t left_ms = since_ms + client->worker->conf->release_after_ms - now_ms;
    return left_ms > 0 ? left_ms : 0;
}

void worker_enqueue(struct client *client) {
    assert(client->state == CLIENT_QUEUED);
    if (client->connection) {
        return; /* the old connection is closing; its closed event leads here again */
    }
    if (!worker_take_broker(client)) {
        worker_fail_connect(client, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
        return;
    }
    client->release_requested = false;
    connect_limiter_join(&client->worker->connect_limiter, &client->ticket, client->broker);
    worker_set_timer(client, worker_release_left_ms(client));
}

void worker_requeue(struct client *client, const char *reason) {
    if (worker_change_state(client, CLIENT_EV_REQUEUE, reason)) {
        worker_tear_down(client, false);
        worker_enqueue(client);
    }
}

/* ---- failures and backoff ---- */

static void worker_connect_show_next_retry(struct client *client, int64_t delay_ms) {
    pthread_mutex_lock(&client->worker->lock);
    client->next_retry_at_ms = clock_wall_ms() + delay_ms;
    pthread_mutex_unlock(&client->worker->lock);
}

void worker_request_release(struct client *client, int64_t delay_ms, int64_t cooldown_ms_max) {
    struct worker *worker = client->worker;
    enum client_error error =
        client->error != CLIENT_ERROR_NONE ? client->error : CLIENT_ERROR_CONNECT_TIMEOUT;
    const char *detail = client->error_message;
    struct workers_release release = {.id = client->id,
                                      .epoch = client->epoch,
                                      .delay_ms = delay_ms,
                                      .cooldown_ms_max = cooldown_ms_max,
                                      .error = error,
                                      .message = detail ? detail : client_error_text(error)};
    client->release_requested = true;
    client->release_delay_ms = (uint32_t)delay_ms; /* at most a few days */
    worker_connect_show_next_retry(client, delay_ms);
    worker_set_timer(client, RELEASE_ASK_AGAIN_MS);
    worker->owner->wants_release(worker->owner->context, &release);
}

void worker_schedule_retry(struct client *client, int64_t delay_ms) {
    if (worker_release_left_ms(client) == 0) {
        worker_request_release(client, delay_ms, 0);
        return;
    }
    worker_connect_show_next_retry(client, delay_ms);
    worker_set_timer(client, delay_ms);
}

/* A broker that is unavailable now may have been unavailable at the losses. Another broker of the
 * client says nothing about that. */
static void worker_connect_clear_losses(struct client *client) {
    if (client->url_index == client->url_lost) {
        worker_clear_suspicion(client);
    }
}

static void worker_connect_fail_for(struct client *client, enum client_error error,
                                    const char *message, int64_t delay_ms) {
    metric_add(client_error_connect_metric(error), 1);
    worker_note_error(client, error, message);
    worker_tear_down(client, false);
    worker_forget_loss(client);
    worker_blame_clear(client);
    if (worker_change_state(client, CLIENT_EV_FAILED, client_error_code(error))) {
        worker_schedule_retry(client, delay_ms);
    }
}

int64_t worker_connect_timeout_ms(const struct client *client) {
    int64_t own_ms = client->config->config->connect_timeout_ms;
    return own_ms > 0 ? own_ms : client->worker->conf->connect_timeout_ms;
}

static int64_t worker_connect_backoff_ms_max(const struct client *client) {
    int64_t own_ms = client->config->config->reconnect_max_ms;
    return own_ms > 0 ? own_ms : client->worker->conf->reconnect_max_ms;
}

static int64_t worker_connect_backoff_ms_min(const struct client *client) {
    int64_t own_ms = client->config->config->reconnect_min_ms;
    return own_ms > 0 ? own_ms : client->worker->conf->reconnect_min_ms;
}

int64_t worker_backoff_ms(const struct client *client) {
    return backoff_ms(client->failures, worker_connect_backoff_ms_min(client),
                      worker_connect_backoff_ms_max(client));
}

int64_t worker_backoff_first_ms(const struct client *client) {
    return backoff_ms(1, worker_connect_backoff_ms_min(client),
                      worker_connect_backoff_ms_max(client));
}

void worker_fail_connect(struct client *client, enum client_error error, const char *message) {
    bool away = worker_note_broker_failure(client, error, message);
    worker_connect_clear_losses(client);
    bool next = worker_urls_next(client);
    client->failures += !away && !next;
    int64_t delay_ms = away ? worker_backoff_first_ms(client) : worker_backoff_ms(client);
    worker_connect_fail_for(client, error, message, next ? 0 : delay_ms);
}

/* Other nodes may reach the broker: the store knows which ones were tried. */
static void worker_connect_fail_denied(struct client *client, const char *why) {
    worker_connect_clear_losses(client);
    bool next = worker_urls_next(client);
    client->failures += !next;
    worker_connect_fail_for(client, CLIENT_ERROR_BROKER_DENIED, why,
                            next ? 0 : worker_connect_backoff_ms_max(client));
    if (!next && client->state == CLIENT_BACKOFF && !client->release_requested) {
        worker_request_release(client, worker_connect_backoff_ms_max(client), 0);
    }
}

/* ---- DNS ---- */

void worker_cancel_lookup(struct client *client) {
    struct worker *worker = client->worker;
    struct client_lookup *lookup = client->lookup;
    if (!lookup) {
        return;
    }
    resolver_cancel(worker->resolver, &lookup->request);
    pthread_mutex_lock(&worker->resolved_lock);
    if (lookup->answered) {
        DL_DELETE(worker->resolved, lookup);
    }
    pthread_mutex_unlock(&worker->resolved_lock);
    free(lookup);
    client->lookup = NULL;
}

/* On a resolver thread. */
static void worker_connect_on_resolved(struct resolver_request *request) {
    struct client_lookup *lookup = request->context;
    struct worker *worker = lookup->client->worker;
    pthread_mutex_lock(&worker->resolved_lock);
    lookup->answered = true;
    DL_APPEND(worker->resolved, lookup);
    pthread_mutex_unlock(&worker->resolved_lock);
    worker_wake(worker);
}

/* ---- several addresses ---- */

/* The broker's last good address first, those that failed for this client last. */
static void worker_connect_order_addresses(const struct client *client, struct address_list *list) {
    union socket_address good;
    if (list->count < 2) {
        return;
    }
    if (good_addresses_find(client->worker->good_addresses, client->broker->key, &good)) {
        address_list_move_first(list, &good);
    }
    for (size_t i = 0; client->failed && i < client->failed->count; i++) {
        address_list_move_last(list, &client->failed->items[i]);
    }
}

static void worker_connect_note_failed_address(struct client *client,
                                               const union socket_address *address) {
    if (!client->failed) {
        client->failed = calloc(1, sizeof *client->failed);
    }
    if (client->failed) {
        address_list_put_last(client->failed, address);
    }
}

void worker_note_address(struct client *client, int index, bool good) {
    if (good) {
        worker_forget_addresses(client);
    }
    if (!client->tried) {
        return;
    }
    assert(index < (int)client->tried->count);
    if (good) {
        good_addresses_note(client->worker->good_addresses, client->broker->key,
                            &client->tried->items[index]);
    } else if (index >= 0) {
        worker_connect_note_failed_address(client, &client->tried->items[index]);
    }
    free(client->tried);
    client->tried = NULL;
}

void worker_forget_addresses(struct client *client) {
    free(client->failed);
    client->failed = NULL;
}

bool worker_may_connect(void *context) {
    struct client *client = context;
    return connect_limiter_acquire_socket(&client->worker->connect_limiter, client->broker);
}

void worker_socket_done(void *context) {
    struct client *client = context;
    connect_limiter_release_socket(&client->worker->connect_limiter, client->broker);
}

/* Kept while the connection is opened, to find out which address worked. False: out of memory. */
static bool worker_connect_keep_tried(struct client *client, const struct address_list *list) {
    assert(!client->tried);
    if (list->count < 2) {
        return true;
    }
    client->tried = malloc(sizeof *client->tried);
    if (client->tried) {
        *client->tried = *list;
    }
    return client->tried != NULL;
}

/* ---- open ---- */

/* Whether only the broker has changed, to another one of the same urls. */
static bool worker_connect_is_other_url(const struct client *client) {
    const struct shared_config *before = shared_config_base(client->session_of);
    return before && client_config_same_connection(before->config, client->config->config);
}

/* A session belongs to one identifier at one broker. Findings about one broker are kept for the
 * next of its urls. Otherwise a message or filter that all of them reject would be treated as new
 * each time. */
static bool worker_connect_keep_or_end_session(struct client *client) {
    struct shared_config *config = worker_urls_config(client, client->config);
    if (!config) {
        return false;
    }
    if (client->session_of &&
        !client_config_same_connection(client->session_of->config, config->config)) {
        bool elsewhere = worker_connect_is_other_url(client);
        worker_end_session(client);
        if (elsewhere) {
            worker_subscribe_other_url(client);
        } else {
            client->workarounds = 0;
            worker_subscribe_reset(client);
        }
    }
    shared_config_release(client->session_of);
    client->session_of = config;
    return true;
}

/* The configuration to connect with: the client's, or a copy with the present secrets of this
 * machine. NULL: out of memory, or *failed: they are not available and the client has failed. */
static struct shared_config *worker_connect_complete_config(struct client *client, bool *failed) {
    const struct client_config *config = client->config->config;
    if (!client_secrets_on_other_node(config)) {
        return worker_urls_config(client, client->config);
    }
    struct client_config *read;
    char fault[CLIENT_SECRETS_FAULT_LEN];
    *failed = client_secrets_read(config, client->worker->conf, &read, fault) != ERR_OK;
    if (*failed) {
        worker_fail_connect(client, CLIENT_ERROR_SECRET_UNAVAILABLE, fault);
        return NULL;
    }
    struct shared_config *complete = shared_config_create(read);
    if (!complete) {
        client_config_destroy(read);
        return NULL;
    }
    struct shared_config *there = worker_urls_config(client, complete);
    shared_config_release(complete);
    return there;
}

static void worker_connect_open(struct client *client, const struct address_list *addresses) {
    struct worker *worker = client->worker;
    bool failed = false;
    struct shared_config *config = worker_connect_complete_config(client, &failed);
    if (failed) {
        return;
    }
    if (!config || !worker_connect_keep_or_end_session(client) ||
        !worker_connect_keep_tried(client, addresses)) {
        shared_config_release(config);
        worker_fail_connect(client, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
        return;
    }
    struct engine_open open = {.config = config->config,
                               .address_len = socket_address_len(&addresses->items[0]),
                               .addresses = addresses,
                               .connect_timeout_ms = worker_connect_timeout_ms(client),
                               .keepalive_s = client->server_keepalive_s
                                                  ? client->server_keepalive_s
                                                  : client->config->config->keepalive_s,
                               .session = &client->session,
                               .workarounds = client->workarounds,
                               .route = &client->route,
                               .client = client};
    memcpy(&open.address, &addresses->items[0], open.address_len);
    client->opened_at_ms = clock_ms();
    incident_note_connect(client->broker->incident, client->opened_at_ms);
    worker_set_timer(client, open.connect_timeout_ms + ENGINE_MARGIN_MS);
    client->opened = config;
    enum err err = worker->ops->open(worker->engine, &open, &client->connection);
    if (err != ERR_OK) {
        client->connection = NULL;
        shared_config_release(client->opened);
        client->opened = NULL;
        worker_note_address(client, -1, false);
        worker_fail_connect(
            client, CLIENT_ERROR_ENGINE_FAILED,
            err == ERR_UNSUPPORTED
                ? "the engine paho does not support websocket.headers, websocket.subprotocol, "
                  "tls.min_version and tls.security_level: omit them, or use the engine reactor"
                : err_name(err));
        return;
    }
    worker->connection_count++;
}

static void worker_connect_use_answer(struct client *client, const struct resolver_answer *answer) {
    struct worker *worker = client->worker;
    const char *why = "the address is denied";
    if (answer->result != ERR_OK) {
        worker_fail_connect(client, answer->error, answer->message);
        return;
    }
    struct address_list addresses;
    const struct client_endpoint endpoint = worker_endpoint(client);
    address_list_allowed(&addresses, answer, endpoint.port, worker->policy, endpoint.host, &why);
    if (addresses.count == 0) {
        worker_connect_fail_denied(client, why);
        return;
    }
    worker_connect_order_addresses(client, &addresses);
    if (!worker->owner->lease_valid(worker->owner->context)) {
        worker_requeue(client, "lease_lapsed");
        return;
    }
    if (worker_change_state(client, CLIENT_EV_RESOLVED, "address_known")) {
        worker_connect_open(client, &addresses);
    }
}

void worker_resolve(struct client *client) {
    struct worker *worker = client->worker;
    const char *why = "the broker is denied";
    int at_once;
    const struct client_endpoint endpoint = worker_endpoint(client);
    if (!address_policy_host(worker->policy, endpoint.host, &why)) {
        worker_connect_fail_denied(client, why);
        return;
    }
    struct client_lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup) {
        worker_fail_connect(client, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
        return;
    }
    lookup->client = client;
    lookup->request.done = worker_connect_on_resolved;
    lookup->request.context = lookup;
    client->lookup = lookup;
    enum err err = resolver_ask(worker->resolver, endpoint.host, &lookup->request, &at_once);
    if (err != ERR_OK) {
        worker_cancel_lookup(client);
        worker_fail_connect(client, CLIENT_ERROR_DNS_BUSY, NULL);
    } else if (at_once) {
        struct resolver_answer answer = lookup->request.answer;
        worker_cancel_lookup(client);
        worker_connect_use_answer(client, &answer);
    }
}

void worker_take_resolved(struct worker *worker) {
    for (int i = 0; i < WORKER_PER_TURN_MAX; i++) {
        pthread_mutex_lock(&worker->resolved_lock);
        struct client_lookup *lookup = worker->resolved;
        if (lookup) {
            DL_DELETE(worker->resolved, lookup);
            lookup->answered = false;
        }
        pthread_mutex_unlock(&worker->resolved_lock);
        if (!lookup) {
            return;
        }
        struct client *client = lookup->client;
        struct resolver_answer answer = lookup->request.answer;
        worker_cancel_lookup(client);
        worker_connect_use_answer(client, &answer);
    }
    worker_wake(worker); /* there may be more */
}

/* ---- CONNACK ---- */

/* A broker may have restarted without its sessions. If it has none at the first connection on this
 * node, that means nothing: it is unknown whether there was one. */
static void worker_connect_check_session(struct client *client,
                                         const struct engine_connack *connack) {
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
    worker_connect_check_session(client, connack);
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
