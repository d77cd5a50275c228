/* Owns one try of a configuration, from its broker's name to its subscriptions, and the words for
 * what to change where it fails. Runs on its caller's thread. Must not know who asks. */
#include "mqtt/probe.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "mqtt/reason_codes.h"
#include "mqtt/topic.h"
#include "reactor.h"

#define POLL_MS         20 /* so soon is seen that it is to stop */
#define FAREWELL_MS     4000
#define FILTERS_PER_ASK 100
#define FILTERS_SHOWN   3
#define RECEIPTS_MAX    256 /* messages that come before SUBACK */

/* ---- advice ---------------------------------------------------------------------------------- */

/* The first row that fits is given: part of the detail, and the code of the failure (NULL: any). */
static const struct {
    enum probe_step step;
    const char *code;
    const char *part;
    const char *advice;
} advices[] = {
    {PROBE_DNS, "broker_denied", NULL,
     "use a broker that the node's settings broker_allow and broker_deny permit, or change them"},
    {PROBE_DNS, "dns_failed", "not known",
     "check the spelling of the host in broker or url, and that this node's DNS knows it"},
    {PROBE_DNS, "dns_failed", "no address", "give the host an A or AAAA record, or use an address"},
    {PROBE_DNS, "dns_failed", NULL,
     "check that the node can reach its name servers (/etc/resolv.conf), or use an address"},

    {PROBE_TCP, "connection_refused", NULL,
     "nothing listens there: check host and port (1883 is usual for mqtt, 8883 for mqtts), and "
     "that the broker runs"},
    {PROBE_TCP, "connect_timeout", NULL,
     "no answer at all: check the address, and that no firewall between this node and the broker "
     "drops the packets"},
    {PROBE_TCP, "out_of_descriptors", NULL, "raise the limit of open files of the node"},
    {PROBE_TCP, "source_address_unusable", NULL, "correct the node's setting source_addresses"},
    {PROBE_TCP, "out_of_ports", NULL, "give the node more source_addresses"},
    {PROBE_TCP, NULL, NULL, "check host and port, and the network between node and broker"},

    {PROBE_TLS, "tls_file_unreadable", NULL,
     "make the file readable for the node, or put its PEM text into the configuration"},
    {PROBE_TLS, NULL, "in PEM that can be",
     "correct that field: PEM text, or the path of a file of the node that holds it"},
    {PROBE_TLS, NULL, "is not the key of",
     "give the tls.cert and the tls.key that belong together"},
    {PROBE_TLS, NULL, "passphrase", "give tls.key without a passphrase"},
    {PROBE_TLS, NULL, "has expired",
     "renew the certificate of the broker; its present one is out of date"},
    {PROBE_TLS, NULL, "not valid yet", "set the clocks of node and broker right"},
    {PROBE_TLS, NULL, "self-signed", "put the broker's own certificate into tls.ca"},
    {PROBE_TLS, NULL, "unknown authority",
     "put the certificate of the authority that signed the broker's into tls.ca"},
    {PROBE_TLS, NULL, "for another name",
     "connect by the name in the broker's certificate, or give that name as tls.server_name"},
    {PROBE_TLS, NULL, "does not speak TLS",
     "use mqtt:// (or ws://) for this port, or the broker's port for TLS, usually 8883"},
    {PROBE_TLS, NULL, "client certificate",
     "give tls.cert and tls.key, as the broker wants a certificate of the client"},
    {PROBE_TLS, NULL, "tls.cert",
     "give a tls.cert, with its tls.key, that the broker's authority has issued and is valid"},
    {PROBE_TLS, NULL, "tls.alpn", "give tls.alpn a name that the broker knows, such as mqtt"},
    {PROBE_TLS, NULL, "version of TLS", "let the broker offer TLS 1.2 or later"},
    {PROBE_TLS, "connection_refused", NULL,
     "this port does not seem to be one for TLS: use mqtt://, or the broker's port for TLS"},
    {PROBE_TLS, "connect_timeout", NULL,
     "this port does not answer TLS: use mqtt://, or the broker's port for TLS, usually 8883"},
    {PROBE_TLS, NULL, NULL, "check the fields of tls against what the broker expects"},

    {PROBE_WEBSOCKET, "connect_timeout", NULL,
     "this port does not answer HTTP: use mqtt://, or the broker's port for WebSocket"},
    {PROBE_WEBSOCKET, NULL, "404", "correct the path of the url; brokers often use /mqtt or /"},
    {PROBE_WEBSOCKET, NULL, NULL,
     "check port and path of the url; the broker must offer MQTT over WebSocket there"},

    {PROBE_CONNECT, "bad_credentials", NULL, "correct username and password"},
    {PROBE_CONNECT, "not_authorized", NULL,
     "correct username and password, or let the broker permit this client identifier and user"},
    {PROBE_CONNECT, "unsupported_protocol_version", NULL,
     "set protocol_version to the other of 4 (MQTT 3.1.1) and 5 (MQTT 5.0)"},
    {PROBE_CONNECT, "identifier_rejected", NULL,
     "give another client_id: shorter, of letters and digits, or as the broker demands"},
    {PROBE_CONNECT, "banned", NULL, "ask who runs the broker: it has banned this client"},
    {PROBE_CONNECT, "bad_authentication_method", NULL,
     "the broker wants another way of authentication than user name and password"},
    {PROBE_CONNECT, "server_unavailable", NULL, "try again later: the broker takes nobody now"},
    {PROBE_CONNECT, "server_busy", NULL, "try again later: the broker is busy"},
    {PROBE_CONNECT, "use_another_server", NULL, "use the broker that this one names"},
    {PROBE_CONNECT, "server_moved", NULL, "use the address to which the broker has moved"},
    {PROBE_CONNECT, "quota_exceeded", NULL, "the broker has too many clients: raise its limit"},
    {PROBE_CONNECT, "connection_rate_exceeded", NULL, "try again later, and connect more slowly"},
    {PROBE_CONNECT, "packet_too_large", NULL, "make username, password and properties shorter"},
    {PROBE_CONNECT, "connect_timeout", NULL,
     "the port is open and does not answer MQTT: check port and scheme (mqtt, mqtts, ws, wss)"},
    {PROBE_CONNECT, "connection_refused", NULL,
     "check that port and scheme belong together (mqtt, mqtts, ws, wss), and the broker's log: "
     "some just close on a client they do not want"},
    {PROBE_CONNECT, NULL, "client certificate",
     "give tls.cert and tls.key, as the broker wants a certificate of the client"},
    {PROBE_CONNECT, NULL, "tls.cert",
     "give a tls.cert, with its tls.key, that the broker's authority has issued and is valid"},
    {PROBE_CONNECT, "malformed_packet", NULL,
     "what answers here is no MQTT: is this the broker's port for WebSocket (ws://, wss://) or TLS?"},
    {PROBE_CONNECT, NULL, NULL,
     "check that this port speaks MQTT, and try the other protocol_version"},

    {PROBE_SUBSCRIBE, NULL, "not authorized",
     "let the broker permit these filters to this user, or subscribe to others"},
    {PROBE_SUBSCRIBE, NULL, "filter invalid", "correct the filter: the broker does not accept it"},
    {PROBE_SUBSCRIBE, NULL, "QoS", "ask for a QoS that the broker supports"},
    {PROBE_SUBSCRIBE, NULL, "wildcard", "subscribe without + and #: the broker has no wildcards"},
    {PROBE_SUBSCRIBE, NULL, "identifiers not supported",
     "leave identifier out of the subscriptions"},
    {PROBE_SUBSCRIBE, NULL, "quota", "subscribe to fewer filters, or raise the broker's limit"},
    {PROBE_SUBSCRIBE, "subscribe_timeout", NULL,
     "the broker does not acknowledge subscriptions: look at its log"},
    {PROBE_SUBSCRIBE, "subscription_refused", NULL,
     "let the broker permit these filters to this user: brokers of MQTT 3.1.1 give no reason"},
    {PROBE_SUBSCRIBE, NULL, NULL,
     "the broker closed on the subscription: check the filters against its access rules"},
};

static const char *advice_for(enum probe_step step, const char *code, const char *detail) {
    for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
        if (advices[i].step == step &&
            (advices[i].code == NULL || strcmp(advices[i].code, code) == 0) &&
            (advices[i].part == NULL || strstr(detail, advices[i].part) != NULL)) {
            return advices[i].advice;
        }
    }
    return NULL;
}

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
    enum probe_step step;                 /* that is under way */
    bool over;                            /* a step has failed, or all are done */
    bool leaving;                         /* closed by us: its end is no failure */
    size_t asked, in_flight;              /* of the filters */
    size_t refused, left_out;
    char refusals[PROBE_DETAIL_LEN / 2];
    char address[INET6_ADDRSTRLEN + 8];
    void *receipts[RECEIPTS_MAX]; /* of messages that are never acknowledged */
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

static void failed(struct probe *probe, enum probe_step step, const char *code,
                   const char *detail) {
    struct probe_result *result = add(probe, step, false);
    snprintf(result->detail, sizeof(result->detail), "%s", detail);
    result->advice = advice_for(step, code, result->detail);
    probe->over = true;
}

static int64_t left_ms(const struct probe *probe) {
    int64_t left = probe->deadline_ms - clock_ms();
    return left > 0 ? left : 0;
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
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (long)POLL_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&answer->changed, &answer->lock, &until);
    }
    bool came = answer->came;
    pthread_mutex_unlock(&answer->lock);
    return came;
}

/* The addresses of the broker that the policy allows; 0: the step has failed. */
static size_t resolve(struct probe *probe, struct resolver_request *request) {
    struct answer answer = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    const struct probe_wiring *wiring = probe->wiring;
    const char *host = probe->config->host, *why = "the address is denied";
    int at_once = 0;
    size_t n = 0;
    *request = (struct resolver_request){.done = on_resolved, .context = &answer};
    if (!address_policy_host(wiring->policy, host, &why)) {
        failed(probe, PROBE_DNS, "broker_denied", why);
        return 0;
    }
    enum err result = resolver_ask(wiring->resolver, host, request, &at_once);
    if (result != ERR_OK) {
        failed(probe, PROBE_DNS, "dns_failed", "too many names are waiting for DNS");
        return 0;
    }
    bool came = at_once || wait_answer(probe, &answer);
    resolver_cancel(wiring->resolver, request);
    struct resolver_answer *found = &request->answer;
    if (!came) {
        failed(probe, PROBE_DNS, "dns_failed", "no answer from DNS in time");
        return 0;
    }
    if (found->result != ERR_OK) {
        failed(probe, PROBE_DNS, "dns_failed", found->message);
        return 0;
    }
    for (size_t i = 0; i < found->count; i++) {
        if (address_policy_address(wiring->policy, host, (struct sockaddr *)&found->addresses[i],
                                   &why)) {
            found->addresses[n++] = found->addresses[i];
        }
    }
    if (n == 0) {
        failed(probe, PROBE_DNS, "broker_denied", why);
    }
    return n;
}

static void address_text(const struct sockaddr_storage *address, char *out, size_t size) {
    const void *bytes = address->ss_family == AF_INET6
                            ? (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr
                            : (const void *)&((const struct sockaddr_in *)address)->sin_addr;
    if (inet_ntop(address->ss_family, bytes, out, (socklen_t)size) == NULL) {
        snprintf(out, size, "?");
    }
}

static void pass_dns(struct probe *probe, const struct resolver_answer *answer, size_t n) {
    char detail[PROBE_DETAIL_LEN] = "";
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(detail);
        char text[INET6_ADDRSTRLEN];
        address_text(&answer->addresses[i], text, sizeof(text));
        snprintf(detail + len, sizeof(detail) - len, "%s%s", i > 0 ? ", " : "", text);
    }
    passed(probe, PROBE_DNS, detail);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void pass_step(struct probe *probe, enum probe_step step) {
    enum client_scheme scheme = probe->config->scheme;
    if (step == PROBE_TCP) {
        char detail[PROBE_DETAIL_LEN];
        snprintf(detail, sizeof(detail), "connected to %s port %u", probe->address,
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
    if (probe->refused > 0) {
        snprintf(detail, sizeof(detail), "%zu of %zu filters refused: %s", probe->refused,
                 probe->asked, probe->refusals);
        failed(probe, PROBE_SUBSCRIBE, "subscription_refused", detail);
        return;
    }
    int len = snprintf(detail, sizeof(detail), "%zu filter%s granted", probe->asked,
                       probe->asked == 1 ? "" : "s");
    if (probe->left_out > 0) {
        snprintf(detail + len, sizeof(detail) - (size_t)len,
                 "; %zu shared not tried, so as not to take messages from their group",
                 probe->left_out);
    }
    passed(probe, PROBE_SUBSCRIBE, detail);
    probe->over = true;
}

static void subscribe_some(struct probe *probe) {
    const struct client_subscription *all = probe->config->subscriptions + probe->asked;
    size_t n = probe->config->subscription_count - probe->asked, some = 0;
    while (some < n && some < FILTERS_PER_ASK && all[some].identifier == all[0].identifier) {
        some++;
    }
    if (some == 0) {
        subscribed_all(probe);
        return;
    }
    probe->in_flight = some;
    if (engine_reactor.subscribe(probe->connection, all, some) != ERR_OK) {
        failed(probe, PROBE_SUBSCRIBE, "subscription_refused",
               "the filters do not fit into the largest packet that the broker takes");
    }
}

static void on_connected(void *client, const struct engine_connack *connack) {
    struct probe *probe = client;
    char detail[PROBE_DETAIL_LEN];
    note_steps(probe, STREAM_READY);
    snprintf(detail, sizeof(detail), "accepted as %.200s by MQTT %s",
             connack->assigned_client_id != NULL ? connack->assigned_client_id
                                                 : probe->config->client_id,
             probe->config->protocol_version == 5 ? "5.0" : "3.1.1");
    passed(probe, PROBE_CONNECT, detail);
    probe->step = PROBE_SUBSCRIBE;
    subscribe_some(probe);
}

/* TLS material and handshakes that fail at once name their step by their code. */
static enum probe_step step_of(const struct probe *probe, const char *code) {
    if (probe->step < PROBE_TLS && strncmp(code, "tls_", 4) == 0) {
        return PROBE_TLS;
    }
    return probe->step;
}

static void on_closed(void *client, const struct engine_closed *closed) {
    struct probe *probe = client;
    if (probe->connection != NULL && !probe->over) {
        note_steps(probe, probe->connection->end_step);
    }
    probe->connection = NULL;
    if (!probe->leaving && !probe->over) {
        failed(probe, step_of(probe, closed->code), closed->code, closed->message);
    }
}

static void on_subscribed(void *client, const uint8_t *codes, size_t n) {
    struct probe *probe = client;
    for (size_t i = 0; i < n && i < probe->in_flight; i++) {
        size_t len = strlen(probe->refusals);
        if (codes[i] >= 0x80 && probe->refused++ < FILTERS_SHOWN) {
            snprintf(probe->refusals + len, sizeof(probe->refusals) - len, "%s%.40s (%s)",
                     len > 0 ? ", " : "", probe->config->subscriptions[probe->asked + i].filter,
                     reason_code_suback(codes[i])->text);
        }
    }
    probe->asked += probe->in_flight;
    subscribe_some(probe);
}

static void on_unsubscribed(void *client) {
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

static const struct engine_events events = {
    .connected = on_connected,
    .closed = on_closed,
    .subscribed = on_subscribed,
    .unsubscribed = on_unsubscribed,
    .published = on_published,
    .message = on_message,
    .has_room = has_room,
    .wait_room = wait_room,
};

/* ---- the connection -------------------------------------------------------------------------- */

static void timed_out(struct probe *probe) {
    static const char *const details[] = {
        [PROBE_DNS] = "no answer from DNS in time",
        [PROBE_TCP] = "no TCP connection to the broker in time",
        [PROBE_TLS] = "no end of the TLS handshake in time",
        [PROBE_WEBSOCKET] = "no answer to the WebSocket handshake in time",
        [PROBE_CONNECT] = "no CONNACK from the broker in time",
        [PROBE_SUBSCRIBE] = "no SUBACK from the broker in time",
    };
    failed(probe, probe->step,
           probe->step == PROBE_SUBSCRIBE ? "subscribe_timeout" : "connect_timeout",
           details[probe->step]);
}

static void open_connection(struct probe *probe, const struct sockaddr_storage *address) {
    struct engine_open open = {.config = probe->config,
                               .address = *address,
                               .connect_timeout_ms = left_ms(probe) + 1000, /* ours comes first */
                               .keepalive_s = probe->config->keepalive_s,
                               .session = &probe->session,
                               .client = probe};
    bool v6 = address->ss_family == AF_INET6;
    in_port_t *port = v6 ? &((struct sockaddr_in6 *)&open.address)->sin6_port
                         : &((struct sockaddr_in *)&open.address)->sin_port;
    *port = htons(probe->config->port);
    open.address_len = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    address_text(address, probe->address, sizeof(probe->address));
    probe->step = PROBE_TCP;
    probe->over = false;
    if (engine_reactor.open(probe->engine, &open, &probe->connection) != ERR_OK) {
        probe->connection = NULL;
        failed(probe, PROBE_TCP, "out_of_memory", "out of memory for a connection");
    }
}

/* Until a step fails or all are done, then until the connection is closed. */
static void drive(struct probe *probe) {
    while (!probe->over && probe->connection != NULL && !is_to_stop(probe)) {
        engine_reactor.poll(probe->engine, POLL_MS);
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

/* Where several addresses are known, the first that takes the connection is used. */
static void try_addresses(struct probe *probe, const struct sockaddr_storage *addresses, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t count = probe->report->count;
        open_connection(probe, &addresses[i]);
        drive(probe);
        bool refused = probe->report->count > count &&
                       probe->report->results[count].step == PROBE_TCP &&
                       !probe->report->results[count].ok;
        if (!refused || i + 1 == n || is_to_stop(probe)) {
            return;
        }
        probe->report->count = count;
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void leave_out_shared(struct probe *probe) {
    struct client_config *config = probe->config;
    size_t kept = 0;
    for (size_t i = 0; i < config->subscription_count; i++) {
        if (topic_filter_is_shared(config->subscriptions[i].filter)) {
            free(config->subscriptions[i].filter);
            probe->left_out++;
        } else {
            config->subscriptions[kept] = config->subscriptions[i];
            config->subscriptions[kept++].retain_handling = 2; /* nothing retained is sent */
        }
    }
    config->subscription_count = kept;
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
    struct resolver_request request;
    *report = (struct probe_report){.ok = false};
    make_harmless(&probe);
    size_t n = resolve(&probe, &request);
    if (n > 0) {
        pass_dns(&probe, &request.answer, n);
        probe.engine = engine_reactor.create(wiring->conf, &events);
    }
    if (probe.engine != NULL) {
        try_addresses(&probe, request.answer.addresses, n);
        engine_reactor.session_end(probe.engine, probe.session);
        engine_reactor.destroy(probe.engine);
    } else if (n > 0) {
        failed(&probe, PROBE_TCP, "out_of_descriptors", "out of memory or descriptors");
    }
    report->ok = all_ok(report);
}
