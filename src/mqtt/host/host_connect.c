/* Owns the way of a client from waiting for its turn to an open connection: pacing, the lease, DNS,
 * the address policy, and waiting after a failure. Host thread only. Knows nothing of what happens
 * once CONNACK came. */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "mqtt/backoff.h"
#include "mqtt/client_secrets.h"
#include "mqtt/host.h"

#define ENGINE_MARGIN_MS 1000 /* the engine can say better what took too long */

#define RELEASE_ASK_AGAIN_MS 10000 /* the owner may have missed it */

/* ---- waiting for a turn ---- */

bool host_take_broker(struct client *client) {
    struct host *host = client->host;
    const struct client_endpoint endpoint = host_endpoint(client);
    struct broker *broker = broker_acquire(&host->brokers, endpoint.host, endpoint.port);
    struct broker *before = client->broker;
    if (broker == NULL) {
        return false;
    }
    pthread_mutex_lock(&host->lock);
    client->broker = broker;
    pthread_mutex_unlock(&host->lock);
    broker_release(&host->brokers, before);
    return true;
}

/* While nobody reaches the broker the time stands still; it begins anew at the end. */
static int64_t release_left_ms(const struct client *client) {
    int64_t since_ms = client->offline_since_ms, now_ms = clock_ms();
    if (client->broker != NULL) {
        int64_t ended_at_ms = incident_ended_at_ms(client->broker->incident);
        since_ms = ended_at_ms > since_ms ? ended_at_ms : since_ms;
    }
    since_ms = host_is_away(client) ? now_ms : since_ms;
    int64_t left_ms = since_ms + client->host->conf->release_after_ms - now_ms;
    return left_ms > 0 ? left_ms : 0;
}

void host_enqueue(struct client *client) {
    assert(client->state == CLIENT_QUEUED);
    if (client->connection != NULL) {
        return; /* the old one is closing; its closed event leads here again */
    }
    if (!host_take_broker(client)) {
        host_fail(client, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
        return;
    }
    client->release_asked = false;
    pacer_join(&client->host->pacer, &client->ticket, client->broker);
    host_set_timer(client, release_left_ms(client));
}

void host_requeue(struct client *client, const char *reason) {
    if (host_change(client, CLIENT_EV_REQUEUE, reason)) {
        host_tear_down(client, false);
        host_enqueue(client);
    }
}

/* ---- failing and waiting ---- */

static void show_next_try(struct client *client, int64_t delay_ms) {
    pthread_mutex_lock(&client->host->lock);
    client->next_retry_at_ms = clock_wall_ms() + delay_ms;
    pthread_mutex_unlock(&client->host->lock);
}

void host_ask_release(struct client *client, int64_t delay_ms, int64_t rest_ms_max) {
    struct host *host = client->host;
    enum client_error error =
        client->error != CLIENT_ERROR_NONE ? client->error : CLIENT_ERROR_CONNECT_TIMEOUT;
    const char *detail = client->error_message;
    struct hosts_release release = {.id = client->id,
                                    .epoch = client->epoch,
                                    .delay_ms = delay_ms,
                                    .rest_ms_max = rest_ms_max,
                                    .error = error,
                                    .message = detail ? detail : client_error_text(error)};
    client->release_asked = true;
    client->release_delay_ms = delay_ms;
    show_next_try(client, delay_ms);
    host_set_timer(client, RELEASE_ASK_AGAIN_MS);
    host->owner->wants_release(host->owner->context, &release);
}

void host_schedule(struct client *client, int64_t delay_ms) {
    if (release_left_ms(client) == 0) {
        host_ask_release(client, delay_ms, 0);
        return;
    }
    show_next_try(client, delay_ms);
    host_set_timer(client, delay_ms);
}

/* A broker that is not there now was perhaps not there at the losses. Another one of the client's
 * says nothing about that. */
static void fail_acquit(struct client *client) {
    if (client->url_index == client->url_lost) {
        host_clear_suspicion(client);
    }
}

static void fail_for(struct client *client, enum client_error error, const char *message,
                     int64_t delay_ms) {
    metric_add(client_error_connect_metric(error), 1);
    host_note_error(client, error, message);
    host_tear_down(client, false);
    host_forget_loss(client);
    host_subscribe_acquit(client);
    if (host_change(client, CLIENT_EV_FAILED, client_error_code(error))) {
        host_schedule(client, delay_ms);
    }
}

int64_t host_connect_timeout_ms(const struct client *client) {
    int64_t own_ms = client->config->config->connect_timeout_ms;
    return own_ms > 0 ? own_ms : client->host->conf->connect_timeout_ms;
}

static int64_t reconnect_max_ms(const struct client *client) {
    int64_t own_ms = client->config->config->reconnect_max_ms;
    return own_ms > 0 ? own_ms : client->host->conf->reconnect_max_ms;
}

static int64_t reconnect_min_ms(const struct client *client) {
    int64_t own_ms = client->config->config->reconnect_min_ms;
    return own_ms > 0 ? own_ms : client->host->conf->reconnect_min_ms;
}

int64_t host_backoff_ms(const struct client *client) {
    return backoff_ms(client->failures, reconnect_min_ms(client), reconnect_max_ms(client));
}

int64_t host_backoff_first_ms(const struct client *client) {
    return backoff_ms(1, reconnect_min_ms(client), reconnect_max_ms(client));
}

void host_fail(struct client *client, enum client_error error, const char *message) {
    bool away = host_blame_broker(client, error, message);
    fail_acquit(client);
    bool next = host_urls_next(client);
    client->failures += !away && !next;
    int64_t delay_ms = away ? host_backoff_first_ms(client) : host_backoff_ms(client);
    fail_for(client, error, message, next ? 0 : delay_ms);
}

/* Other nodes may reach it: the store knows which were asked. */
static void fail_denied(struct client *client, const char *why) {
    fail_acquit(client);
    bool next = host_urls_next(client);
    client->failures += !next;
    fail_for(client, CLIENT_ERROR_BROKER_DENIED, why, next ? 0 : reconnect_max_ms(client));
    if (!next && client->state == CLIENT_BACKOFF && !client->release_asked) {
        host_ask_release(client, reconnect_max_ms(client), 0);
    }
}

/* ---- resolving ---- */

void host_cancel_lookup(struct client *client) {
    struct host *host = client->host;
    struct client_lookup *lookup = client->lookup;
    if (lookup == NULL) {
        return;
    }
    resolver_cancel(host->resolver, &lookup->request);
    pthread_mutex_lock(&host->resolved_lock);
    if (lookup->answered) {
        DL_DELETE(host->resolved, lookup);
    }
    pthread_mutex_unlock(&host->resolved_lock);
    free(lookup);
    client->lookup = NULL;
}

/* On a resolver thread. */
static void on_resolved(struct resolver_request *request) {
    struct client_lookup *lookup = request->context;
    struct host *host = lookup->client->host;
    pthread_mutex_lock(&host->resolved_lock);
    lookup->answered = true;
    DL_APPEND(host->resolved, lookup);
    pthread_mutex_unlock(&host->resolved_lock);
    host_wake(host);
}

/* ---- several addresses ---- */

/* The last good one of the broker first, those that failed this client last. */
static void order_addresses(const struct client *client, struct address_list *list) {
    union socket_address good;
    if (list->count < 2) {
        return;
    }
    if (good_addresses_find(client->host->good, client->broker->key, &good)) {
        address_list_move_first(list, &good);
    }
    for (size_t i = 0; client->failed != NULL && i < client->failed->count; i++) {
        address_list_move_last(list, &client->failed->items[i]);
    }
}

static void note_failed(struct client *client, const union socket_address *address) {
    if (client->failed == NULL) {
        client->failed = calloc(1, sizeof(*client->failed));
    }
    if (client->failed != NULL) {
        address_list_put_last(client->failed, address);
    }
}

void host_note_address(struct client *client, int index, bool good) {
    if (good) {
        host_forget_addresses(client);
    }
    if (client->tried == NULL) {
        return;
    }
    assert(index < (int)client->tried->count);
    if (good) {
        good_addresses_note(client->host->good, client->broker->key, &client->tried->items[index]);
    } else if (index >= 0) {
        note_failed(client, &client->tried->items[index]);
    }
    free(client->tried);
    client->tried = NULL;
}

void host_forget_addresses(struct client *client) {
    free(client->failed);
    client->failed = NULL;
}

bool host_may_connect(void *context) {
    struct client *client = context;
    return pacer_take_more(&client->host->pacer, client->broker);
}

void host_socket_over(void *context) {
    struct client *client = context;
    pacer_give_more(&client->host->pacer, client->broker);
}

/* Kept while the connection is opened, to know what its addresses meant. False: out of memory. */
static bool keep_tried(struct client *client, const struct address_list *list) {
    assert(client->tried == NULL);
    if (list->count < 2) {
        return true;
    }
    client->tried = malloc(sizeof(*client->tried));
    if (client->tried != NULL) {
        *client->tried = *list;
    }
    return client->tried != NULL;
}

/* ---- opening ---- */

/* Only the broker is another one, of the same urls. */
static bool is_elsewhere(const struct client *client) {
    const struct shared_config *before = shared_config_base(client->session_of);
    return before != NULL && client_config_same_connection(before->config, client->config->config);
}

/* A session belongs to one identifier at one broker. What was learnt of one broker is kept for the
 * next of its urls: else one message or filter that all of them dislike would be met as if for the
 * first time, for ever. */
static bool keep_or_end_session(struct client *client) {
    struct shared_config *config = host_urls_config(client, client->config);
    if (config == NULL) {
        return false;
    }
    if (client->session_of != NULL &&
        !client_config_same_connection(client->session_of->config, config->config)) {
        bool elsewhere = is_elsewhere(client);
        host_end_session(client);
        if (elsewhere) {
            host_subscribe_elsewhere(client);
        } else {
            client->lessons = 0;
            host_subscribe_start_over(client);
        }
    }
    shared_config_release(client->session_of);
    client->session_of = config;
    return true;
}

/* What the connection is opened with: the client's configuration, or a copy with the secrets that
 * lie on this machine, as they are now. NULL: out of memory; or, *failed, they cannot be had and
 * the client has failed. */
static struct shared_config *complete_config(struct client *client, bool *failed) {
    const struct client_config *config = client->config->config;
    if (!client_secrets_elsewhere(config)) {
        return host_urls_config(client, client->config);
    }
    struct client_config *read;
    char fault[CLIENT_SECRETS_FAULT_LEN];
    *failed = client_secrets_read(config, client->host->conf, &read, fault) != ERR_OK;
    if (*failed) {
        host_fail(client, CLIENT_ERROR_SECRET_UNAVAILABLE, fault);
        return NULL;
    }
    struct shared_config *complete = shared_config_create(read);
    if (complete == NULL) {
        client_config_destroy(read);
        return NULL;
    }
    struct shared_config *there = host_urls_config(client, complete);
    shared_config_release(complete);
    return there;
}

static void open_connection(struct client *client, const struct address_list *addresses) {
    struct host *host = client->host;
    bool failed = false;
    struct shared_config *config = complete_config(client, &failed);
    if (failed) {
        return;
    }
    if (config == NULL || !keep_or_end_session(client) || !keep_tried(client, addresses)) {
        shared_config_release(config);
        host_fail(client, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
        return;
    }
    struct engine_open open = {.config = config->config,
                               .address_len = socket_address_len(&addresses->items[0]),
                               .addresses = addresses,
                               .connect_timeout_ms = host_connect_timeout_ms(client),
                               .keepalive_s = client->server_keepalive_s
                                                  ? client->server_keepalive_s
                                                  : client->config->config->keepalive_s,
                               .session = &client->session,
                               .lessons = client->lessons,
                               .client = client};
    memcpy(&open.address, &addresses->items[0], open.address_len);
    client->opened_at_ms = clock_ms();
    host_set_timer(client, open.connect_timeout_ms + ENGINE_MARGIN_MS);
    client->opened = config;
    enum err result = host->ops->open(host->engine, &open, &client->connection);
    if (result != ERR_OK) {
        client->connection = NULL;
        shared_config_release(client->opened);
        client->opened = NULL;
        host_note_address(client, -1, false);
        host_fail(client, CLIENT_ERROR_ENGINE_FAILED,
                  result == ERR_UNSUPPORTED
                      ? "the engine paho has no websocket.headers, websocket.subprotocol, "
                        "tls.min_version and tls.security_level: leave them out, or use reactor"
                      : err_name(result));
        return;
    }
    host->connection_count++;
}

static void go_on_with(struct client *client, const struct resolver_answer *answer) {
    struct host *host = client->host;
    const char *why = "the address is denied";
    if (answer->result != ERR_OK) {
        host_fail(client, answer->error, answer->message);
        return;
    }
    struct address_list addresses;
    const struct client_endpoint endpoint = host_endpoint(client);
    address_list_allowed(&addresses, answer, endpoint.port, host->policy, endpoint.host, &why);
    if (addresses.count == 0) {
        fail_denied(client, why);
        return;
    }
    order_addresses(client, &addresses);
    if (!host->owner->lease_valid(host->owner->context)) {
        host_requeue(client, "lease_lapsed");
        return;
    }
    if (host_change(client, CLIENT_EV_RESOLVED, "address_known")) {
        open_connection(client, &addresses);
    }
}

static void resolve(struct client *client) {
    struct host *host = client->host;
    const char *why = "the broker is denied";
    int at_once;
    const struct client_endpoint endpoint = host_endpoint(client);
    if (!address_policy_host(host->policy, endpoint.host, &why)) {
        fail_denied(client, why);
        return;
    }
    struct client_lookup *lookup = calloc(1, sizeof(*lookup));
    if (lookup == NULL) {
        host_fail(client, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
        return;
    }
    lookup->client = client;
    lookup->request.done = on_resolved;
    lookup->request.context = lookup;
    client->lookup = lookup;
    enum err result = resolver_ask(host->resolver, endpoint.host, &lookup->request, &at_once);
    if (result != ERR_OK) {
        host_cancel_lookup(client);
        host_fail(client, CLIENT_ERROR_DNS_BUSY, NULL);
    } else if (at_once) {
        struct resolver_answer answer = lookup->request.answer;
        host_cancel_lookup(client);
        go_on_with(client, &answer);
    }
}

void host_take_resolved(struct host *host) {
    for (int i = 0; i < HOST_PER_TURN_MAX; i++) {
        pthread_mutex_lock(&host->resolved_lock);
        struct client_lookup *lookup = host->resolved;
        if (lookup != NULL) {
            DL_DELETE(host->resolved, lookup);
            lookup->answered = false;
        }
        pthread_mutex_unlock(&host->resolved_lock);
        if (lookup == NULL) {
            return;
        }
        struct client *client = lookup->client;
        struct resolver_answer answer = lookup->request.answer;
        host_cancel_lookup(client);
        go_on_with(client, &answer);
    }
    host_wake(host); /* perhaps there is more */
}

/* ---- the lease, and letting in ---- */

static void close_connects_in_flight(struct host *host) {
    struct client *client, *next;
    size_t n = 0;
    pthread_mutex_lock(&host->lock);
    struct client **in_flight =
        malloc((size_t)(host->counts[CLIENT_RESOLVING] + host->counts[CLIENT_OPENING] + 1) *
               sizeof(*in_flight));
    HASH_ITER(hh, host->clients, client, next) {
        if (in_flight != NULL &&
            (client->state == CLIENT_RESOLVING || client->state == CLIENT_OPENING)) {
            in_flight[n++] = client;
        }
    }
    pthread_mutex_unlock(&host->lock);
    for (size_t i = 0; i < n; i++) {
        host_requeue(in_flight[i], "lease_lapsed");
    }
    free(in_flight);
}

void host_check_lease(struct host *host) {
    bool valid = host->owner->lease_valid(host->owner->context);
    if (host->lease_was_valid && !valid) {
        log_event(HASH_COUNT(host->clients) > 0 ? LOG_WARN : LOG_DEBUG, "lease_lapsed",
                  KI("connecting", host->counts[CLIENT_OPENING]));
        close_connects_in_flight(host);
    }
    host->lease_was_valid = valid;
}

void host_admit(struct host *host, int64_t now_us) {
    for (int i = 0; i < HOST_PER_TURN_MAX && host->lease_was_valid; i++) {
        struct pacer_ticket *ticket = pacer_next(&host->pacer, now_us);
        if (ticket == NULL) {
            return;
        }
        struct client *client = (struct client *)((char *)ticket - offsetof(struct client, ticket));
        if (host_is_away(client) && !ticket->probe) {
            host_await_broker(client);
        } else if (host_change(client, CLIENT_EV_ADMITTED, "admitted")) {
            client->fresh = false;
            host_set_timer(client, release_left_ms(client));
            resolve(client);
        }
    }
}
