/* Owns one test of a configuration, from the name of its broker to its subscriptions. Runs on its
 * caller's thread. */
#include "mqtt/probe/probe.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/condition.h"
#include "mqtt/reason_codes.h"
#include "probe_address.h"
#include "probe_filters.h"
#include "mqtt/reactor/reactor.h"

#define POLL_MS         20 /* a stop is noticed within this time */
#define PROBE_CLOSE_MS  4000
#define PROBE_REOPEN_MS 200 /* from a connection that ended because of filters to the next */

const char *probe_step_name(enum probe_step step) {
    static const char *const names[] = {"dns", "tcp", "tls", "websocket", "connect", "subscribe"};
    assert((size_t)step < PROBE_STEP_COUNT);
    return names[step];
}

/* ---- the report ------------------------------------------------------------------------------ */

struct probe {
    const struct probe_wiring *wiring;
    struct client_config *config;
    const struct probe_caller *caller;
    int64_t deadline_ms;
    struct probe_report *report;
    int64_t step_us; /* start of the current step */

    struct engine *engine;
    struct engine_session *session;
    struct engine_connection *connection; /* NULL: none, or closed */
    int reached;                          /* index of the address that TCP connected to; -1: none */
    enum probe_step step;                 /* in progress */
    bool is_done;                         /* a step has failed, or all have passed */
    struct probe_filters filters;
    size_t excluded_count;
    int64_t suback_by_ms;          /* when the awaited SUBACK is due; 0: none is awaited */
    int64_t reopen_at_ms;          /* when the next connection is made for the filters; 0: none */
    struct address_list addresses; /* of the broker, in the order in which they are raced */
};

static struct probe_result *probe_add_result(struct probe *probe, enum probe_step step, bool ok) {
    struct probe_report *report = probe->report;
    assert(report->count < PROBE_STEP_COUNT);
    int64_t now_us = clock_us();
    struct probe_result *result = &report->results[report->count++];
    *result = (struct probe_result){.step = step, .ok = ok, .us = now_us - probe->step_us};
    probe->step_us = now_us;
    return result;
}

static void probe_step_passed(struct probe *probe, enum probe_step step, const char *detail) {
    snprintf(probe_add_result(probe, step, true)->detail, PROBE_DETAIL_LEN, "%s", detail);
}

/* detail NULL: the error's own text. */
static void probe_step_failed(struct probe *probe, enum probe_step step, enum client_error error,
                              const char *detail) {
    struct probe_result *result = probe_add_result(probe, step, false);
    snprintf(result->detail, sizeof(result->detail), "%s",
             detail ? detail : client_error_text(error));
    result->error = error;
    probe->is_done = true;
}

static int64_t probe_left_ms(const struct probe *probe) {
    int64_t left = probe->deadline_ms - clock_ms();
    return left > 0 ? left : 0;
}

/* As for a client: from the start of a connection to CONNACK, and for each SUBACK. */
static int64_t probe_connect_timeout_ms(const struct probe *probe) {
    int64_t own_ms = probe->config->connect_timeout_ms;
    return own_ms > 0 ? own_ms : probe->wiring->conf->connect_timeout_ms;
}

static bool probe_suback_is_overdue(const struct probe *probe) {
    return probe->suback_by_ms != 0 && clock_ms() >= probe->suback_by_ms;
}

static bool probe_must_stop(const struct probe *probe) {
    return probe_left_ms(probe) == 0 || probe->caller->is_gone(probe->caller->context);
}

/* ---- DNS ------------------------------------------------------------------------------------- */

struct probe_answer {
    pthread_mutex_t lock; /* guards arrived */
    pthread_cond_t changed;
    bool arrived;
};

static void probe_on_resolved(struct resolver_request *request) {
    struct probe_answer *answer = request->context;
    pthread_mutex_lock(&answer->lock);
    answer->arrived = true;
    pthread_cond_signal(&answer->changed);
    pthread_mutex_unlock(&answer->lock);
}

static bool probe_wait_answer(const struct probe *probe, struct probe_answer *answer) {
    pthread_mutex_lock(&answer->lock);
    while (!answer->arrived && !probe_must_stop(probe)) {
        struct timespec until = condition_deadline(POLL_MS);
        (void)pthread_cond_timedwait(&answer->changed, &answer->lock, &until);
    }
    bool arrived = answer->arrived;
    pthread_mutex_unlock(&answer->lock);
    return arrived;
}

/* Takes the addresses of the broker that the policy allows; if there is none, the step has failed.
 */
static void probe_use_answer(struct probe *probe, struct probe_answer *answer) {
    const struct probe_wiring *wiring = probe->wiring;
    const struct client_config *config = probe->config;
    const char *why = "the address is denied";
    int at_once = 0;
    struct resolver_request request = {.done = probe_on_resolved, .context = answer};
    if (!address_policy_host(wiring->policy, config->host, &why)) {
        probe_step_failed(probe, PROBE_DNS, CLIENT_ERROR_BROKER_DENIED, why);
        return;
    }
    enum err err = resolver_ask(wiring->resolver, config->host, &request, &at_once);
    if (err != ERR_OK) {
        probe_step_failed(probe, PROBE_DNS, CLIENT_ERROR_DNS_BUSY, NULL);
        return;
    }
    bool arrived = at_once || probe_wait_answer(probe, answer);
    resolver_cancel(wiring->resolver, &request);
    if (!arrived) {
        probe_step_failed(probe, PROBE_DNS, CLIENT_ERROR_DNS_TIMEOUT, NULL);
        return;
    }
    if (request.answer.result != ERR_OK) {
        probe_step_failed(probe, PROBE_DNS, request.answer.error, request.answer.message);
        return;
    }
    address_list_allowed(&probe->addresses, &request.answer, config->port, wiring->policy,
                         config->host, &why);
    if (probe->addresses.count == 0) {
        probe_step_failed(probe, PROBE_DNS, CLIENT_ERROR_BROKER_DENIED, why);
    }
}

static void probe_resolve(struct probe *probe) {
    struct probe_answer answer = {.lock = PTHREAD_MUTEX_INITIALIZER};
    condition_init(&answer.changed);
    probe_use_answer(probe, &answer);
    pthread_cond_destroy(&answer.changed);
}

static void probe_pass_dns(struct probe *probe) {
    char detail[PROBE_DETAIL_LEN] = "";
    for (size_t i = 0; i < probe->addresses.count; i++) {
        size_t len = strlen(detail);
        char text[SOCKET_ADDRESS_TEXT_LEN];
        socket_address_text(&probe->addresses.items[i], text);
        snprintf(detail + len, sizeof(detail) - len, "%s%s", i > 0 ? ", " : "", text);
    }
    probe_step_passed(probe, PROBE_DNS, detail);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void probe_pass_step(struct probe *probe, enum probe_step step) {
    enum client_scheme scheme = probe->config->scheme;
    if (step == PROBE_TCP) {
        char detail[PROBE_DETAIL_LEN], address[SOCKET_ADDRESS_TEXT_LEN];
        int index = probe->connection->address;
        socket_address_text(&probe->addresses.items[index > 0 ? index : 0], address);
        snprintf(detail, sizeof(detail), "connected to %s port %u", address,
                 (unsigned)probe->config->port);
        probe_step_passed(probe, step, detail);
    } else if (step == PROBE_TLS && (scheme == SCHEME_MQTTS || scheme == SCHEME_WSS)) {
        probe_step_passed(probe, step,
                          client_config_tls(probe->config)->insecure
                              ? "encrypted; certificate not verified"
                              : "the broker's certificate is valid");
    } else if (step == PROBE_WEBSOCKET && (scheme == SCHEME_WS || scheme == SCHEME_WSS)) {
        probe_step_passed(probe, step, "upgraded");
    }
}

/* The steps that the connection has passed when its stream is at that step. */
static void probe_note_steps(struct probe *probe, enum stream_step stream_step) {
    static const enum probe_step after[] = {[STREAM_CLOSED] = PROBE_TCP,
                                            [STREAM_CONNECTING] = PROBE_TCP,
                                            [STREAM_TLS] = PROBE_TLS,
                                            [STREAM_WEBSOCKET] = PROBE_WEBSOCKET,
                                            [STREAM_READY] = PROBE_CONNECT};
    for (; probe->step < after[stream_step]; probe->step++) {
        probe_pass_step(probe, probe->step);
    }
}

/* ---- events of the engine -------------------------------------------------------------------- */

static void probe_close_connection(struct probe *probe) {
    assert(probe->is_done);
    if (probe->connection) {
        engine_reactor.close(probe->connection, false);
    }
}

static void probe_subscribed_all(struct probe *probe) {
    char detail[PROBE_DETAIL_LEN];
    enum client_error error = probe_filters_describe(&probe->filters, detail, sizeof(detail));
    size_t len = strlen(detail);
    if (error != CLIENT_ERROR_NONE) {
        probe_step_failed(probe, PROBE_SUBSCRIBE, error, detail);
        return;
    }
    if (probe->excluded_count > 0) {
        snprintf(detail + len, sizeof(detail) - len,
                 "; %zu not tried, because they would take messages or the subscription from other "
                 "subscribers",
                 probe->excluded_count);
    }
    probe_step_passed(probe, PROBE_SUBSCRIBE, detail);
    probe->is_done = true;
}

static void probe_subscribe_next(struct probe *probe) {
    probe->suback_by_ms = clock_ms() + probe_connect_timeout_ms(probe);
    if (!probe_filters_ask(&probe->filters, probe->connection)) {
        probe_subscribed_all(probe);
    }
}

static void probe_on_connected(void *client, const struct engine_connack *connack) {
    struct probe *probe = client;
    char detail[PROBE_DETAIL_LEN];
    probe_filters_connected(&probe->filters);
    if (probe->filters.losses > 0) { /* the earlier steps were passed before */
        probe_subscribe_next(probe);
        return;
    }
    probe_note_steps(probe, STREAM_READY);
    snprintf(detail, sizeof(detail), "accepted as %.200s by MQTT %s",
             connack->assigned_client_id ? connack->assigned_client_id : probe->config->client_id,
             probe->config->protocol_version == 5 ? "5.0" : "3.1.1");
    probe_step_passed(probe, PROBE_CONNECT, detail);
    probe->step = PROBE_SUBSCRIBE;
    probe_subscribe_next(probe);
}

/* Unusable TLS material and handshakes that fail at once name their step by their error. */
static enum probe_step probe_step_of(const struct probe *probe, enum client_error error) {
    if (probe->step < PROBE_TLS && client_error_connect_metric(error) == METRIC_CONNECT_TLS) {
        return PROBE_TLS;
    }
    return probe->step;
}

static void probe_on_closed(void *client, const struct engine_closed *closed) {
    struct probe *probe = client;
    if (probe->connection && !probe->is_done) {
        probe_note_steps(probe, probe->connection->end_step);
    }
    probe->reached = closed->address;
    probe->connection = NULL;
    probe->suback_by_ms = 0;
    if (!probe->is_done && probe->step == PROBE_SUBSCRIBE &&
        closed->error != CLIENT_ERROR_SUBSCRIBE_TIMEOUT &&
        probe_filters_lost(&probe->filters, closed->error)) {
        probe->reopen_at_ms = clock_ms() + PROBE_REOPEN_MS;
    } else if (!probe->is_done) {
        bool silent =
            probe->step == PROBE_SUBSCRIBE && closed->error == CLIENT_ERROR_CONNECTION_LOST;
        probe_step_failed(probe, probe_step_of(probe, closed->error),
                          silent ? CLIENT_ERROR_CLOSED_BEFORE_SUBACK : closed->error,
                          closed->message);
    }
}

static void probe_on_subscribed(void *client, const uint8_t *codes, size_t n) {
    struct probe *probe = client;
    probe_filters_answered(&probe->filters, codes, n);
    probe_subscribe_next(probe);
}

static void probe_on_unsubscribed(void *client, const uint8_t *codes, size_t n) {
    (void)codes;
    (void)n;
    (void)client;
}

static void probe_on_published(void *client, uint64_t token, const struct publish_result *result) {
    (void)client;
    (void)token;
    (void)result;
}

static bool probe_may_connect(void *client) {
    (void)client;
    return true;
}

static void probe_socket_done(void *client) {
    (void)client;
}

static const struct engine_events probe_events = {
    .connected = probe_on_connected,
    .closed = probe_on_closed,
    .subscribed = probe_on_subscribed,
    .unsubscribed = probe_on_unsubscribed,
    .published = probe_on_published,
    .may_connect = probe_may_connect,
    .socket_done = probe_socket_done,
};

/* ---- the connection -------------------------------------------------------------------------- */

static void probe_timed_out(struct probe *probe) {
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
    enum client_error error = connection && probe->step == PROBE_CONNECT
                                  ? greeting_timeout(connection)
                                  : errors[probe->step];
    char text[RACE_TEXT_LEN];
    bool racing = connection && connection->race;
    if (racing) {
        race_describe(connection->race, text);
    }
    probe_step_failed(probe, probe->step, error, racing ? text : NULL);
}

/* Without a route: messages are not acknowledged, so that the broker keeps what somebody else may
 * still want. */
static void probe_open_connection(struct probe *probe) {
    int64_t own_ms = probe_connect_timeout_ms(probe);
    int64_t test_ms =
        probe_left_ms(probe) + 1000; /* the engine's limit; the probe's own comes first */
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
    probe->is_done = false;
    if (engine_reactor.open(probe->engine, &open, &probe->connection) != ERR_OK) {
        probe->connection = NULL;
        probe_step_failed(probe, PROBE_TCP, CLIENT_ERROR_OUT_OF_MEMORY,
                          "out of memory for a connection");
    }
}

/* After the broker ended the last connection because of filters. */
static void probe_reopen(struct probe *probe) {
    if (probe->reopen_at_ms != 0 && clock_ms() >= probe->reopen_at_ms) {
        probe->reopen_at_ms = 0;
        probe_open_connection(probe);
    }
}

/* Runs until a step fails or all are done, then until the connection is closed. */
static void probe_drive(struct probe *probe) {
    while (!probe->is_done && (probe->connection || probe->reopen_at_ms != 0) &&
           !probe_must_stop(probe) && !probe_suback_is_overdue(probe)) {
        engine_reactor.poll(probe->engine, POLL_MS);
        probe_reopen(probe);
        if (probe->connection) {
            probe_note_steps(probe, probe->connection->stream.step);
        }
    }
    if (!probe->is_done) {
        probe_timed_out(probe);
    }
    probe_close_connection(probe);
    int64_t end_ms = clock_ms() + PROBE_CLOSE_MS;
    while (probe->connection && clock_ms() < end_ms) {
        engine_reactor.poll(probe->engine, POLL_MS);
    }
    assert(!probe->connection); /* the engine ends a closed connection within three seconds */
}

static struct probe_result *probe_last_result(struct probe_report *report) {
    return &report->results[report->count - 1];
}

/* Records the result of the address that TCP had connected to. False: there is none. */
static bool probe_note_address(struct probe *probe) {
    if (probe->reached < 0) {
        return false;
    }
    struct address_list *left = &probe->addresses;
    const struct probe_result *last = probe_last_result(probe->report);
    probe_address_note(probe->report, &left->items[probe->reached],
                       last->ok ? NULL : probe_step_name(last->step), last->detail);
    address_list_move_last(left, &left->items[probe->reached]);
    left->count--;
    return true;
}

/* Races the addresses of the name. If the one that was reached fails, the others follow. The report
 * shows the attempt that got furthest. */
static void probe_try_addresses(struct probe *probe) {
    const struct address_list all = probe->addresses;
    struct probe_report best = *probe->report;
    size_t count = best.count;
    bool more = true;
    while (more) {
        probe->report->count = count;
        probe->step = PROBE_TCP;
        probe->filters.losses = 0;
        probe->reopen_at_ms = 0;
        probe_open_connection(probe);
        probe_drive(probe);
        if (probe->report->count > best.count || best.count == count) {
            memcpy(best.results, probe->report->results, sizeof(best.results));
            best.count = probe->report->count;
        }
        bool failed = !probe_last_result(probe->report)->ok;
        more = probe_note_address(probe) && failed && probe->addresses.count > 0 &&
               !probe_must_stop(probe);
    }
    memcpy(probe->report->results, best.results, sizeof(best.results));
    probe->report->count = best.count;
    if (all.count > 1) {
        probe_address_check(probe->report, &all, probe_left_ms(probe));
    } else {
        probe->report->address_count = 0;
    }
}

/* ---- the whole probe ------------------------------------------------------------------------- */

static void probe_make_harmless(struct probe *probe) {
    struct client_config *config = probe->config;
    config->clean_start = true;
    config->session_expiry_s = 0;
    client_config_drop_will(config);
    probe->excluded_count = probe_filters_exclude_shared(config);
}

static bool probe_all_ok(const struct probe_report *report) {
    bool ok = report->count > 0;
    for (size_t i = 0; i < report->count; i++) {
        ok = ok && report->results[i].ok;
    }
    return ok;
}

void probe_run(const struct probe_wiring *wiring, struct client_config *config, int64_t timeout_ms,
               const struct probe_caller *caller, struct probe_report *report) {
    struct probe probe = {.wiring = wiring,
                          .config = config,
                          .caller = caller,
                          .deadline_ms = clock_ms() + timeout_ms,
                          .report = report,
                          .step_us = clock_us()};
    *report = (struct probe_report){.ok = false};
    probe_make_harmless(&probe);
    enum err err = probe_filters_init(&probe.filters, config, wiring->conf);
    if (err == ERR_OK) {
        probe_resolve(&probe);
    } else {
        probe_step_failed(&probe, PROBE_DNS, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
    }
    bool resolved = probe.addresses.count > 0;
    if (resolved) {
        probe_pass_dns(&probe);
        probe.engine = engine_reactor.create(wiring->conf, &probe_events);
    }
    if (probe.engine) {
        probe_try_addresses(&probe);
        engine_reactor.session_end(probe.engine, probe.session);
        engine_reactor.destroy(probe.engine);
    } else if (resolved) {
        probe_step_failed(&probe, PROBE_TCP, CLIENT_ERROR_OUT_OF_DESCRIPTORS,
                          "out of memory or descriptors");
    }
    probe_filters_fini(&probe.filters);
    probe_filters_include_shared(config, probe.excluded_count);
    report->ok = probe_all_ok(report);
}
