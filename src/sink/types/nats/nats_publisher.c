/* Owns the connection. It is not repaired by the library: after a failure it is closed, and the
 * next write opens another one. Messages without an answer are then sent again; JetStream
 * recognizes them by their Nats-Msg-Id. */
#include "nats_publisher.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/condition.h"
#include "nats_url.h"
#include "sink/sink_lookup.h"

#define ANSWER_SLACK_MS 500 /* the library answers late messages itself, about then */
#define SERVERS_MAX     4   /* addresses of the host that one attempt tries */

struct nats_publisher {
    const struct sink_environment *environment;
    const json_t *settings;
    struct nats_url url;
    struct sink_lookup *lookup;         /* that has not ended yet; NULL: none */
    struct buffer servers[SERVERS_MAX]; /* urls with an allowed address of the host each */
    size_t server_count;
    int64_t timeout_ms;
    natsConnection *connection; /* NULL: not connected */
    jsCtx *stream;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t answered;
    struct sink_batch *batch; /* NULL: no write is in progress */
    natsMsg **sent;           /* by index in the batch; NULL: none is due. Not owned */
    size_t capacity;
    size_t due, next; /* the answer that probably comes next */
};

/* ---- answers --------------------------------------------------------------------------------- */

/* The data table: answers by which JetStream refuses a message because of its content. */
static bool nats_publisher_is_refusal(const jsPubAckErr *error) {
    static const int codes[] = {10054 /* message size exceeds the maximum of the stream */};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if ((int)error->ErrCode == codes[i]) {
            return true;
        }
    }
    return error->Err == NATS_MAX_PAYLOAD;
}

/* Locked. Answers come in the order of sending, usually. Returns batch->count if it is unknown. */
static size_t nats_publisher_find(struct nats_publisher *publisher, const natsMsg *msg) {
    size_t count = publisher->batch ? publisher->batch->count : 0;
    for (size_t i = 0; i < count; i++) {
        size_t index = (publisher->next + i) % count;
        if (publisher->sent[index] == msg) {
            publisher->next = index + 1;
            return index;
        }
    }
    return count;
}

/* Locked. */
static void nats_publisher_settle(struct sink_batch *batch, size_t index,
                                  const jsPubAckErr *error) {
    if (!error) {
        sink_batch_accept(batch, index);
        return;
    }
    const char *text =
        error->ErrText && *error->ErrText ? error->ErrText : natsStatus_GetText(error->Err);
    if (nats_publisher_is_refusal(error)) {
        sink_batch_reject(batch, index, "%s", text);
        return;
    }
    sink_batch_fail(batch, ERR_IO, "%s%s", text,
                    error->Err == NATS_NO_RESPONDERS ? ": no stream takes this subject" : "");
}

static void nats_publisher_on_answer(jsCtx *stream, natsMsg *msg, jsPubAck *ack, jsPubAckErr *error,
                                     void *context) {
    struct nats_publisher *publisher = context;
    (void)stream;
    pthread_mutex_lock(&publisher->lock);
    size_t index = nats_publisher_find(publisher, msg);
    if (publisher->batch && index < publisher->batch->count) {
        publisher->sent[index] = NULL;
        publisher->due--;
        nats_publisher_settle(publisher->batch, index, ack ? NULL : error);
        if (publisher->due == 0) {
            pthread_cond_signal(&publisher->answered);
        }
    }
    pthread_mutex_unlock(&publisher->lock);
    natsMsg_Destroy(msg);
}

/* ---- connection ------------------------------------------------------------------------------ */

enum err nats_publisher_create(struct nats_publisher **out,
                               const struct sink_environment *environment, const json_t *settings,
                               char *fault) {
    struct nats_url url;
    if (nats_url_parse(sink_settings_text(settings, "url"), &url) != ERR_OK) {
        snprintf(fault, SINK_FAULT_LEN, "url must be nats://HOST:PORT or tls://HOST:PORT");
        return ERR_ARGUMENT;
    }
    struct nats_publisher *publisher = calloc(1, sizeof *publisher);
    size_t capacity = (size_t)sink_settings_integer(settings, "batch_messages");
    natsMsg **sent = publisher ? calloc(capacity, sizeof *sent) : NULL;
    if (!sent) {
        free(publisher);
        return ERR_MEMORY;
    }
    publisher->environment = environment;
    publisher->settings = settings;
    publisher->url = url;
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        buffer_init(&publisher->servers[i]);
    }
    publisher->timeout_ms = sink_settings_integer(settings, "timeout_ms");
    publisher->sent = sent;
    publisher->capacity = capacity;
    pthread_mutex_init(&publisher->lock, NULL);
    condition_init(&publisher->answered);
    *out = publisher;
    return ERR_OK;
}

static void nats_publisher_close(struct nats_publisher *publisher) {
    jsCtx_Destroy(publisher->stream);
    natsConnection_Destroy(publisher->connection);
    publisher->stream = NULL;
    publisher->connection = NULL;
}

void nats_publisher_destroy(struct nats_publisher *publisher) {
    if (!publisher) {
        return;
    }
    nats_publisher_close(publisher);
    sink_lookup_release(publisher->lookup);
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        buffer_fini(&publisher->servers[i]);
    }
    pthread_cond_destroy(&publisher->answered);
    pthread_mutex_destroy(&publisher->lock);
    free(publisher->sent);
    free(publisher);
}

/* ERR_REFUSED: why (a static text) no address is allowed. */
static enum err nats_publisher_take_addresses(struct nats_publisher *publisher, const char **why) {
    const struct sink_address *addresses;
    struct buffer numeric;
    size_t count = sink_lookup_addresses(publisher->lookup, &addresses);
    publisher->server_count = 0;
    for (size_t i = 0; i < count && publisher->server_count < SERVERS_MAX; i++) {
        if (sink_lookup_allows(publisher->environment, publisher->url.host, &addresses[i], why)) {
            struct buffer *server = &publisher->servers[publisher->server_count++];
            buffer_init(&numeric);
            sink_lookup_append_numeric(&addresses[i], &numeric);
            buffer_clear(server);
            nats_url_append_with(&publisher->url, numeric.data, server);
            buffer_fini(&numeric);
        }
    }
    return publisher->server_count > 0 ? ERR_OK : ERR_REFUSED;
}

static enum err nats_publisher_resolve(struct nats_publisher *publisher, struct sink_batch *batch) {
    char fault[SINK_FAULT_LEN];
    const char *why = "";
    enum err err = sink_lookup_resolve(&publisher->lookup, publisher->url.host,
                                       clock_ms() + publisher->timeout_ms, batch, fault);
    if (err != ERR_OK) {
        return sink_batch_fail(batch, err, "%s", fault);
    }
    err = nats_publisher_take_addresses(publisher, &why);
    sink_lookup_release(publisher->lookup);
    publisher->lookup = NULL;
    return err == ERR_OK ? ERR_OK
                         : sink_batch_fail(batch, err, "no address of %.60s is allowed: %.80s",
                                           publisher->url.host, why);
}

/* The host is verified by its name, though its addresses are connected to. */
static natsStatus nats_publisher_set_tls(const struct nats_publisher *publisher,
                                         natsOptions *options) {
    const char *ca = sink_settings_text(publisher->settings, "tls_ca");
    if (!*ca && !publisher->url.tls) {
        return NATS_OK;
    }
    natsStatus status = natsOptions_SetSecure(options, true);
    if (status == NATS_OK) {
        status = natsOptions_SetExpectedHostname(options, publisher->url.host);
    }
    return status == NATS_OK && *ca ? natsOptions_SetCATrustedCertificates(options, ca) : status;
}

static natsStatus nats_publisher_set_access(const json_t *settings, natsOptions *options) {
    const char *user = sink_settings_text(settings, "username");
    const char *password = sink_settings_text(settings, "password");
    const char *token = sink_settings_text(settings, "token");
    natsStatus status = *user ? natsOptions_SetUserInfo(options, user, password) : NATS_OK;
    return status == NATS_OK && *token ? natsOptions_SetToken(options, token) : status;
}

static natsStatus nats_publisher_set_servers(const struct nats_publisher *publisher,
                                             natsOptions *options) {
    const char *servers[SERVERS_MAX];
    for (size_t i = 0; i < publisher->server_count; i++) {
        servers[i] = publisher->servers[i].data;
        if (publisher->servers[i].failed) {
            return NATS_NO_MEMORY;
        }
    }
    natsStatus status = natsOptions_SetServers(options, servers, (int)publisher->server_count);
    return status == NATS_OK ? natsOptions_SetNoRandomize(options, true) : status;
}

/* Further servers that the server announces are not used: only the one in the settings is
 * allowed. */
static natsStatus nats_publisher_set_options(const struct nats_publisher *publisher,
                                             natsOptions *options) {
    natsStatus status = nats_publisher_set_servers(publisher, options);
    const struct {
        natsStatus (*set)(natsOptions *options, int64_t value);
        int64_t value;
    } durations[] = {
        {natsOptions_SetTimeout, publisher->timeout_ms / (int64_t)publisher->server_count},
        {natsOptions_SetWriteDeadline, publisher->timeout_ms},
        {natsOptions_SetPingInterval, 20000}};
    for (size_t i = 0; status == NATS_OK && i < sizeof durations / sizeof durations[0]; i++) {
        status = durations[i].set(options, durations[i].value);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetAllowReconnect(options, false);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetIgnoreDiscoveredServers(options, true);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetName(options, "mqfleet");
    }
    if (status == NATS_OK) {
        status = nats_publisher_set_tls(publisher, options);
    }
    return status == NATS_OK ? nats_publisher_set_access(publisher->settings, options) : status;
}

static natsStatus nats_publisher_open(struct nats_publisher *publisher) {
    natsOptions *options = NULL;
    jsOptions stream_options;
    natsStatus status = natsOptions_Create(&options);
    if (status == NATS_OK) {
        status = nats_publisher_set_options(publisher, options);
    }
    if (status == NATS_OK) {
        status = natsConnection_Connect(&publisher->connection, options);
    }
    natsOptions_Destroy(options);
    if (status == NATS_OK) {
        status = jsOptions_Init(&stream_options);
    }
    if (status == NATS_OK) {
        const char *domain = sink_settings_text(publisher->settings, "domain");
        stream_options.Domain = *domain ? domain : NULL;
        stream_options.PublishAsync.AckHandler = nats_publisher_on_answer;
        stream_options.PublishAsync.AckHandlerClosure = publisher;
        stream_options.PublishAsync.StallWait = publisher->timeout_ms;
        status =
            natsConnection_JetStream(&publisher->stream, publisher->connection, &stream_options);
    }
    return status;
}

static enum err nats_publisher_fail(struct nats_publisher *publisher, struct sink_batch *batch,
                                    natsStatus status) {
    const char *detail = nats_GetLastError(NULL);
    nats_publisher_close(publisher);
    return sink_batch_fail(batch, ERR_UNAVAILABLE, "%s",
                           detail && *detail ? detail : natsStatus_GetText(status));
}

enum err nats_publisher_ensure_open(struct nats_publisher *publisher, struct sink_batch *batch) {
    if (publisher->connection && !natsConnection_IsClosed(publisher->connection)) {
        return ERR_OK;
    }
    nats_publisher_close(publisher);
    enum err err = nats_publisher_resolve(publisher, batch);
    if (err != ERR_OK) {
        return err;
    }
    natsStatus status = nats_publisher_open(publisher);
    return status == NATS_OK ? ERR_OK : nats_publisher_fail(publisher, batch, status);
}

/* ---- a write --------------------------------------------------------------------------------- */

void nats_publisher_begin(struct nats_publisher *publisher, struct sink_batch *batch) {
    pthread_mutex_lock(&publisher->lock);
    memset(publisher->sent, 0, publisher->capacity * sizeof *publisher->sent);
    publisher->batch = batch;
    publisher->due = publisher->next = 0;
    pthread_mutex_unlock(&publisher->lock);
}

/* The answer may come before the call returns, so it is expected before. */
enum err nats_publisher_send(struct nats_publisher *publisher, size_t index, natsMsg *msg,
                             const char *message_id) {
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MsgId = message_id;
    options.MaxWait = publisher->timeout_ms;
    pthread_mutex_lock(&publisher->lock);
    publisher->sent[index] = msg;
    publisher->due++;
    pthread_mutex_unlock(&publisher->lock);
    natsStatus status = js_PublishMsgAsync(publisher->stream, &msg, &options);
    if (status == NATS_OK) {
        return ERR_OK;
    }
    pthread_mutex_lock(&publisher->lock);
    publisher->sent[index] = NULL;
    publisher->due--;
    enum err err = ERR_OK;
    if (status == NATS_MAX_PAYLOAD) {
        sink_batch_reject(publisher->batch, index, "larger than max_payload of the server");
    } else {
        err = sink_batch_fail(publisher->batch, ERR_IO, "%s", natsStatus_GetText(status));
    }
    pthread_mutex_unlock(&publisher->lock);
    natsMsg_Destroy(msg);
    return err;
}

static bool nats_publisher_is_settled(const struct sink_batch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outcomes[i] == SINK_RETRY) {
            return false;
        }
    }
    return true;
}

enum err nats_publisher_end(struct nats_publisher *publisher) {
    int64_t end_ms = clock_ms() + publisher->timeout_ms + ANSWER_SLACK_MS;
    pthread_mutex_lock(&publisher->lock);
    int64_t left_ms = end_ms - clock_ms();
    while (publisher->due > 0 && left_ms > 0) {
        struct timespec until = condition_deadline(left_ms);
        pthread_cond_timedwait(&publisher->answered, &publisher->lock, &until);
        left_ms = end_ms - clock_ms();
    }
    struct sink_batch *batch = publisher->batch;
    size_t due = publisher->due;
    publisher->batch = NULL; /* later answers are ignored */
    pthread_mutex_unlock(&publisher->lock);
    if (due > 0) {
        nats_publisher_close(publisher);
        return sink_batch_fail(batch, ERR_TIMEOUT, "no acknowledgement within %lld ms",
                               (long long)publisher->timeout_ms);
    }
    if (*batch->error) {
        nats_publisher_close(publisher);
    }
    return nats_publisher_is_settled(batch) ? ERR_OK : ERR_IO;
}
