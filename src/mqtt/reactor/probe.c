/* Owns one try of a configuration, from its broker's name to its subscriptions. Runs on its
 * caller's thread. Must not know who asks. */
#include "mqtt/probe.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/condition.h"
#include "mqtt/reason_codes.h"
#include "mqtt/topic.h"
#include "probe_address.h"
#include "probe_filters.h"
#include "reactor.h"

#define POLL_MS      20 /* so soon is seen that it is to stop */
#define FAREWELL_MS  4000
#define AGAIN_MS     200 /* from a connection that ended at filters to the next */
#define RECEIPTS_MAX 256 /* messages that come before SUBACK */

const char *probe_step_name(enum probe_step step) {
    static const char *const names[] = {"dns", "tcp", "tls", "websocket", "connect", "subscribe"};
    assert((size_t)step < PROBE_STEP_COUNT);
    return names[step];
}

/* ---- the report ------------------------------------------------------------------------------ */

struct probe {
    const struct probe_wiring *wiring;
    struct client_config *config;
    const struct probe_asker *asker;
    int64_t deadline_ms;
    struct probe_report *report;
    int64_t step_us; /* when the present step began */

    struct engine *engine;
    struct engine_session *session;
    struct engine_connection *connection; /* NULL: none, or closed */
    int reached;                          /* index of the address that TCP connected to; -1 */
    enum probe_step step;                 /* that is under way */
    bool over;                            /* a step has failed, or all are done */
    bool leaving;                         /* closed by us: its end is no failure */
    struct probe_filters filters;
    size_t left_out;
    int64_t suback_by_ms; /* limit of the SUBACK that is awaited; 0: none is */
    int64_t again_at_ms;  /* when another connection is to be made for the filters; 0: none */
    struct address_list addresses; /* of the broker, in the order in which they are raced */
    void *receipts[RECEIPTS_MAX];  /* of messages that are never acknowledged */
    size_t receipt_count;
};

static struct probe_result *add(struct probe *probe, enum probe_step step, bool ok) {
    struct probe_report *report = probe->report;
    assert(report->count < PROBE_STEP_COUNT);
    int64_t now_us = clock_us();
    struct probe_result *result = &report->results[report->count++];
    *result = (struct probe_result){.step = step, .ok = ok, .us = now_us - probe->step_us};
    probe->step_us = now_us;
    return result;
}

static void passed(struct probe *probe, enum probe_step step, const char *detail) {
    snprintf(add(probe, step, true)->detail, PROBE_DETAIL_LEN, "%s", detail);
}

/* detail NULL: the error's own text. */
static void failed(struct probe *probe, enum probe_step step, enum client_error error,
                   const char *detail) {
    struct probe_result *result = add(probe, step, false);
    snprintf(result->detail, sizeof(result->detail), "%s",
             detail != NULL ? detail : client_error_text(error));
    result->error = error;
    probe->over = true;
}

static int64_t left_ms(const struct probe *probe) {
    int64_t left = probe->deadline_ms - clock_ms();
    return left > 0 ? left : 0;
}

/* As for a client: from the start of a connection to CONNACK, and for each SUBACK. */
static int64_t connect_timeout_ms(const struct probe *probe) {
    int64_t own_ms = probe->config->connect_timeout_ms;
    return own_ms > 0 ? own_ms : probe->wiring->conf->connect_timeout_ms;
}

static bool suback_is_late(const struct probe *probe) {
    return probe->suback_by_ms != 0 && clock_ms() >= probe->suback_by_ms;
}

static bool is_to_stop(const struct probe *probe) {
    return left_ms(probe) == 0 || probe->asker->is_gone(probe->asker->context);
}

/* ---- DNS ------------------------------------------------------------------------------------- */

struct answer {
    pthread_mutex_t lock; /* guards came */
    pthread_cond_t changed;
    bool came;
};

static void on_resolved(struct resolver_request *request) {
    struct answer *answer = request->context;
    pthread_mutex_lock(&answer->lock);
    answer->came = true;
    pthread_cond_signal(&answer->changed);
    pthread_mutex_unlock(&answer->lock);
}

static bool wait_answer(const struct probe *probe, struct answer *answer) {
    pthread_mutex_lock(&answer->lock);
    while (!answer->came && !is_to_stop(probe)) {
        struct timespec until = condition_deadline(POLL_MS);
        (void)pthread_cond_timedwait(&answer->changed, &answer->lock, &until);
    }
    bool came = answer->came;
    pthread_mutex_unlock(&answer->lock);
    return came;
}

/* The addresses of the broker that the policy allows; none: the step has failed. */
static void resolve_with(struct probe *probe, struct answer *answer) {
    const struct probe_wiring *wiring = probe->wiring;
    const struct client_config *config = probe->config;
    const char *why = "the address is denied";
    int at_once = 0;
    struct resolver_request request = {.done = on_resolved, .context = answer};
    if (!address_policy_host(wiring->policy, config->host, &why)) {
        failed(probe, PROBE_DNS, CLIENT_ERROR_BROKER_DENIED, why);
        return;
    }
    enum err result = resolver_ask(wiring->resolver, config->host, &request, &at_once);
    if (result != ERR_OK) {
        failed(probe, PROBE_DNS, CLIENT_ERROR_DNS_BUSY, NULL);
        return;
    }
    bool came = at_once || wait_answer(probe, answer);
    resolver_cancel(wiring->resolver, &request);
    if (!came) {
        failed(probe, PROBE_DNS, CLIENT_ERROR_DNS_TIMEOUT, NULL);
        return;
    }
    if (request.answer.result != ERR_OK) {
        failed(probe, PROBE_DNS, request.answer.error, request.answer.message);
        return;
    }
    address_list_allowed(&probe->addresses, &request.answer, config->port, wiring->policy,
                         config->host, &why);
    if (probe->addresses.count == 0) {
        failed(probe, PROBE_DNS, CLIENT_ERROR_BROKER_DENIED, why);
    }
}

static void resolve(struct probe *probe) {
    struct answer answer = {.lock = PTHREAD_MUTEX_INITIALIZER};
    condition_init(&answer.changed);
    resolve_with(probe, &answer);
    pthread_cond_destroy(&answer.changed);
}

static void pass_dns(struct probe *probe) {
    char detail[PROBE_DETAIL_LEN] = "";
    for (size_t i = 0; i < probe->addresses.count; i++) {
        size_t len = strlen(detail);
        char text[SOCKET_ADDRESS_TEXT_LEN];
        socket_address_text(&probe->addresses.items[i], text);
        snprintf(detail + len, sizeof(detail) - len, "%s%s", i > 0 ? ", " : "", text);
    }
    passed(probe, PROBE_DNS, detail);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void pass_step(struct probe *probe, enum probe_step step) {
    enum client_scheme scheme = probe->config->scheme;
    if (step == PROBE_TCP) {
        char detail[PROBE_DETAIL_LEN], address[SOCKET_ADDRESS_TEXT_LEN];
        int index = probe->connection->address;
        socket_address_text(&probe->addresses.items[index > 0 ? index : 0], address);
        snprintf(detail, sizeof(detail), "connected to %s port %u", address,
                 (unsigned)probe->config->port);
        passed(probe, step, detail);
    } else if (step == PROBE_TLS && (scheme == SCHEME_MQTTS || scheme == SCHEME_WSS)) {
        passed(probe, step,
               client_config_tls(probe->config)->insecure
                   ? "encrypted; the certificate was not looked at"
                   : "the broker's certificate is good");
    } else if (step == PROBE_WEBSOCKET && (scheme == SCHEME_WS || scheme == SCHEME_WSS)) {
        passed(probe, step, "upgraded");
    }
}

/* What the connection has left behind when its stream is at that step. */
static void note_steps(struct probe *probe, enum stream_step stream_step) {
    static const enum probe_step after[] = {[STREAM_CLOSED] = PROBE_TCP,
                                            [STREAM_CONNECTING] = PROBE_TCP,
                                            [STREAM_TLS] = PROBE_TLS,
                                            [STREAM_WEBSOCKET] = PROBE_WEBSOCKET,
                                            [STREAM_READY] = PROBE_CONNECT};
    for (; probe->step < after[stream_step]; probe->step++) {
        pass_step(probe, probe->step);
    }
}

/* ---- events of the engine -------------------------------------------------------------------- */

static void leave(struct probe *probe) {
    if (probe->connection != NULL && !probe->leaving) {
        probe->leaving = true;
        /* There is no will. Without it the engine would wait for what is never acknowledged. */
        engine_reactor.close(probe->connection, probe->receipt_count > 0);
    }
}

static void subscribed_all(struct probe *probe) {
    char detail[PROBE_DETAIL_LEN];
    enum client_error error = probe_filters_describe(&probe->filters, detail, sizeof(detail));
    size_t len = strlen(detail);
    if (error != CLIENT_ERROR_NONE) {
        failed(probe, PROBE_SUBSCRIBE, error, detail);
        return;
    }
    if (probe->left_out > 0) {
        snprintf(detail + len, sizeof(detail) - len,
                 "; %zu not tried, so as not to take messages or the subscription from others",
                 probe->left_out);
    }
    passed(probe, PROBE_SUBSCRIBE, detail);
    probe->over = true;
}

static void subscribe_some(struct probe *probe) {
    probe->suback_by_ms = clock_ms() + connect_timeout_ms(probe);
    if (!probe_filters_ask(&probe->filters, probe->connection)) {
        subscribed_all(probe);
    }
}

static void on_connected(void *client, const struct engine_connack *connack) {
    struct probe *probe = client;
    char detail[PROBE_DETAIL_LEN];
    probe_filters_connected(&probe->filters);
    if (probe->filters.losses > 0) { /* the steps until here were passed before */
        subscribe_some(probe);
        return;
    }
    note_steps(probe, STREAM_READY);
    snprintf(detail, sizeof(detail), "accepted as %.200s by MQTT %s",
             connack->assigned_client_id != NULL ? connack->assigned_client_id
                                                 : probe->config->client_id,
             probe->config->protocol_version == 5 ? "5.0" : "3.1.1");
    passed(probe, PROBE_CONNECT, detail);
    probe->step = PROBE_SUBSCRIBE;
    subscribe_some(probe);
}

/* TLS material and handshakes that fail at once name their step by their error. */
static enum probe_step step_of(const struct probe *probe, enum client_error error) {
    if (probe->step < PROBE_TLS && client_error_connect_metric(error) == METRIC_CONNECT_TLS) {
        return PROBE_TLS;
    }
    return probe->step;
}

static void on_closed(void *client, const struct engine_closed *closed) {
    struct probe *probe = client;
    if (probe->connection != NULL && !probe->over) {
        note_steps(probe, probe->connection->end_step);
    }
    probe->reached = closed->address;
    probe->connection = NULL;
    probe->suback_by_ms = 0;
    if (!probe->leaving && !probe->over && probe->step == PROBE_SUBSCRIBE &&
        closed->error != CLIENT_ERROR_SUBSCRIBE_TIMEOUT &&
        probe_filters_lost(&probe->filters, closed->error)) {
        probe->again_at_ms = clock_ms() + AGAIN_MS;
    } else if (!probe->leaving && !probe->over) {
        bool silent =
            probe->step == PROBE_SUBSCRIBE && closed->error == CLIENT_ERROR_CONNECTION_LOST;
        failed(probe, step_of(probe, closed->error),
               silent ? CLIENT_ERROR_CLOSED_BEFORE_SUBACK : closed->error, closed->message);
    }
}

static void on_subscribed(void *client, const uint8_t *codes, size_t n) {
    struct probe *probe = client;
    probe_filters_answered(&probe->filters, codes, n);
    subscribe_some(probe);
}

static void on_unsubscribed(void *client, const uint8_t *codes, size_t n) {
    (void)codes;
    (void)n;
    (void)client;
}

static void on_published(void *client, uint64_t token, enum err result, int reason_code) {
    (void)client;
    (void)token;
    (void)result;
    (void)reason_code;
}

/* Not acknowledged, so that the broker keeps what somebody else may still want. */
static enum err on_message(void *client, struct message *message, void *receipt) {
    struct probe *probe = client;
    message_destroy(message);
    if (receipt != NULL && probe->receipt_count < RECEIPTS_MAX) {
        probe->receipts[probe->receipt_count++] = receipt;
    } else if (receipt != NULL) { /* ends the connection */
        engine_reactor.acknowledge(probe->engine, receipt, ERR_CANCELED);
    }
    return ERR_OK;
}

static bool has_room(void *client) {
    (void)client;
    return true;
}

static void wait_room(void *client, int64_t timeout_ms) {
    (void)client;
    (void)timeout_ms;
}

static bool may_connect(void *client) {
    (void)client;
    return true;
}

static void socket_over(void *client) {
    (void)client;
}

static const struct engine_events events = {
    .connected = on_connected,
    .closed = on_closed,
    .subscribed = on_subscribed,
    .unsubscribed = on_unsubscribed,
    .published = on_published,
    .message = on_message,
    .has_room = has_room,
    .wait_room = wait_room,
    .may_connect = may_connect,
    .socket_over = socket_over,
};

/* ---- the connection -------------------------------------------------------------------------- */

static void timed_out(struct probe *probe) {
    const enum client_error errors[] = {
        [PROBE_DNS] = CLIENT_ERROR_DNS_TIMEOUT,
        [PROBE_TCP] = CLIENT_ERROR_TCP_TIMEOUT,
        [PROBE_TLS] = CLIENT_ERROR_TLS_TIMEOUT,
        [PROBE_WEBSOCKET] = CLIENT_ERROR_WEBSOCKET_TIMEOUT,
        [PROBE_CONNECT] = CLIENT_ERROR_CONNACK_TIMEOUT,
        [PROBE_SUBSCRIBE] = probe->filters.losses > 0 ? CLIENT_ERROR_FILTERS_HALVED
                                                      : CLIENT_ERROR_SUBSCRIBE_TIMEOUT,
    };
    const struct engine_connection *connection = probe->connection;
    enum client_error error = connection != NULL && probe->step == PROBE_CONNECT
                                  ? greeting_timeout(connection)
                                  : errors[probe->step];
    char text[RACE_TEXT_LEN];
    bool racing = connection != NULL && connection->race != NULL;
    if (racing) {
        race_text(connection->race, text);
    }
    failed(probe, probe->step, error, racing ? text : NULL);
}

static void open_connection(struct probe *probe) {
    int64_t own_ms = connect_timeout_ms(probe);
    int64_t test_ms = left_ms(probe) + 1000; /* its own end comes first */
    const union socket_address *first = &probe->addresses.items[0];
    struct engine_open open = {.config = probe->config,
                               .address_len = socket_address_len(first),
                               .addresses = &probe->addresses,
                               .connect_timeout_ms = own_ms < test_ms ? own_ms : test_ms,
                               .keepalive_s = probe->config->keepalive_s,
                               .session = &probe->session,
                               .client = probe};
    memcpy(&open.address, first, open.address_len);
    probe->reached = -1;
    probe->over = false;
    if (engine_reactor.open(probe->engine, &open, &probe->connection) != ERR_OK) {
        probe->connection = NULL;
        failed(probe, PROBE_TCP, CLIENT_ERROR_OUT_OF_MEMORY, "out of memory for a connection");
    }
}

/* Where the broker ended the last one at filters. */
static void open_again(struct probe *probe) {
    if (probe->again_at_ms != 0 && clock_ms() >= probe->again_at_ms) {
        probe->again_at_ms = 0;
        open_connection(probe);
    }
}

/* Until a step fails or all are done, then until the connection is closed. */
static void drive(struct probe *probe) {
    while (!probe->over && (probe->connection != NULL || probe->again_at_ms != 0) &&
           !is_to_stop(probe) && !suback_is_late(probe)) {
        engine_reactor.poll(probe->engine, POLL_MS);
        open_again(probe);
        if (probe->connection != NULL) {
            note_steps(probe, probe->connection->stream.step);
        }
    }
    if (!probe->over) {
        timed_out(probe);
    }
    leave(probe);
    int64_t end_ms = clock_ms() + FAREWELL_MS;
    while (probe->connection != NULL && clock_ms() < end_ms) {
        engine_reactor.poll(probe->engine, POLL_MS);
    }
    assert(probe->connection == NULL); /* the engine ends what leaves within three seconds */
    probe->leaving = false;
    while (probe->receipt_count > 0) { /* forgotten, now that nothing can be sent any more */
        void *receipt = probe->receipts[--probe->receipt_count];
        engine_reactor.acknowledge(probe->engine, receipt, ERR_CANCELED);
    }
}

static struct probe_result *last_result(struct probe_report *report) {
    return &report->results[report->count - 1];
}

/* The address that TCP had connected to, and what came of it. False: there is none. */
static bool note_address(struct probe *probe) {
    if (probe->reached < 0) {
        return false;
    }
    struct address_list *left = &probe->addresses;
    const struct probe_result *last = last_result(probe->report);
    probe_address_note(probe->report, &left->items[probe->reached],
                       last->ok ? NULL : probe_step_name(last->step), last->detail);
    address_list_move_last(left, &left->items[probe->reached]);
    left->count--;
    return true;
}

/* Those of the name are raced; where the one that was reached fails, the others are. What is shown
 * is the way that went farthest. */
static void try_addresses(struct probe *probe) {
    const struct address_list all = probe->addresses;
    struct probe_report best = *probe->report;
    size_t count = best.count;
    bool more = true;
    while (more) {
        probe->report->count = count;
        probe->step = PROBE_TCP;
        probe->filters.losses = 0;
        probe->again_at_ms = 0;
        open_connection(probe);
        drive(probe);
        if (probe->report->count > best.count || best.count == count) {
            memcpy(best.results, probe->report->results, sizeof(best.results));
            best.count = probe->report->count;
        }
        bool failed = !last_result(probe->report)->ok;
        more = note_address(probe) && failed && probe->addresses.count > 0 && !is_to_stop(probe);
    }
    memcpy(probe->report->results, best.results, sizeof(best.results));
    probe->report->count = best.count;
    if (all.count > 1) {
        probe_address_look(probe->report, &all, left_ms(probe));
    } else {
        probe->report->address_count = 0;
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* To the end of the list, and beyond its count until take_in_shared(). */
static void leave_out_shared(struct probe *probe) {
    struct client_config *config = probe->config;
    uint16_t kept = 0;
    for (size_t i = 0; i < config->subscription_count; i++) {
        struct client_subscription one = config->subscriptions[i];
        if (!topic_filter_takes_from_others(one.filter)) {
            config->subscriptions[i] = config->subscriptions[kept];
            config->subscriptions[kept] = one;
            config->subscriptions[kept++].retain_handling = 2; /* nothing retained is sent */
        }
    }
    probe->left_out = config->subscription_count - kept;
    config->subscription_count = kept;
}

static void take_in_shared(struct probe *probe) {
    probe->config->subscription_count += (uint16_t)probe->left_out;
}

static void make_harmless(struct probe *probe) {
    struct client_config *config = probe->config;
    config->clean_start = true;
    config->session_expiry_s = 0;
    client_config_drop_will(config);
    leave_out_shared(probe);
}

static bool all_ok(const struct probe_report *report) {
    bool ok = report->count > 0;
    for (size_t i = 0; i < report->count; i++) {
        ok = ok && report->results[i].ok;
    }
    return ok;
}

void probe_run(const struct probe_wiring *wiring, struct client_config *config, int64_t timeout_ms,
               const struct probe_asker *asker, struct probe_report *report) {
    struct probe probe = {.wiring = wiring,
                          .config = config,
                          .asker = asker,
                          .deadline_ms = clock_ms() + timeout_ms,
                          .report = report,
                          .step_us = clock_us()};
    *report = (struct probe_report){.ok = false};
    make_harmless(&probe);
    enum err result = probe_filters_init(&probe.filters, config, wiring->conf);
    if (result == ERR_OK) {
        resolve(&probe);
    } else {
        failed(&probe, PROBE_DNS, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
    }
    bool resolved = probe.addresses.count > 0;
    if (resolved) {
        pass_dns(&probe);
        probe.engine = engine_reactor.create(wiring->conf, &events);
    }
    if (probe.engine != NULL) {
        try_addresses(&probe);
        engine_reactor.session_end(probe.engine, probe.session);
        engine_reactor.destroy(probe.engine);
    } else if (resolved) {
        failed(&probe, PROBE_TCP, CLIENT_ERROR_OUT_OF_DESCRIPTORS, "out of memory or descriptors");
    }
    probe_filters_fini(&probe.filters);
    take_in_shared(&probe);
    report->ok = all_ok(report);
}
