/* The sink that appends to a Redis stream, one entry per message (XADD). Owns its connection; runs
 * on the sink's thread.
 *
 *   batch --> XADD XADD XADD ... --one pipeline--> Redis --replies in order--> written
 *
 * After an error in a batch, the following messages may be in the stream already, and are written
 * again later: at least once. redis_quota.c and stream_trim.c decide when to pause. */
#include "sink/sink_type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/system/json_memory.h"
#include "net/redis/redis.h"
#include "redis_quota.h"
#include "sink/properties.h"
#include "stream_trim.h"

#define NUMBER_LEN  24
#define PARTS_FIXED 40      /* XADD key MAXLEN ~ n *, fifteen fields with their values */
#define LARGE_BYTES 1048576 /* the smallest proto-max-bulk-len of a Redis; more may be refused */

static const struct sink_field stream_sink_fields[] = {
    {.name = "url",
     .kind = SINK_FIELD_URL,
     .description = "address of the Redis; empty: the Redis of the fleet"},
    {.name = "key",
     .kind = SINK_FIELD_TEXT,
     .required = true,
     .description = "key of the stream; key_prefix is put in front"},
    {.name = "maxlen",
     .kind = SINK_FIELD_INTEGER,
     .number = 1000000,
     .max = 1000000000,
     .unit = "messages",
     .description = "approximate length of the stream; with trim consumed: length at which the "
                    "sink pauses; 0: no limit"},
    {.name = "trim",
     .kind = SINK_FIELD_CHOICE,
     .text = "maxlen",
     .choices = "maxlen|bytes|consumed",
     .description = "what is trimmed: the oldest entries beyond maxlen or bytes_max, read or not; "
                    "or only entries that every consumer group has read and acknowledged"},
    {.name = "bytes_max",
     .kind = SINK_FIELD_INTEGER,
     .max = 1099511627776,
     .unit = "bytes",
     .description = "approximate size to which trim bytes trims the stream; with consumed: size "
                    "at which the sink pauses; 0: no limit"},
    {.name = "ignore_groups",
     .kind = SINK_FIELD_LIST,
     .description = "consumer groups that trim consumed does not wait for"},
    {.name = "redis_bytes_max",
     .kind = SINK_FIELD_INTEGER,
     .max = 1099511627776,
     .unit = "bytes",
     .description = "used memory of the fleet's Redis at which the sink pauses (not with a url); "
                    "0: three quarters of maxmemory"},
    {.name = "min_replicas",
     .kind = SINK_FIELD_INTEGER,
     .max = 16,
     .unit = "replicas",
     .description = "replicas that must have a message before it is accepted"},
    {.name = "measure_idle",
     .kind = SINK_FIELD_BOOLEAN,
     .number = 1,
     .description = "whether the stream is measured before the first message is written"},
    {0}};

/* Errors about the content of an entry; any other concerns the stream or the server. */
static const struct {
    const char *text; /* the reply begins with it */
    bool closes;      /* Redis then closes the connection */
} stream_data_errors[] = {
    {"ERR Protocol error: invalid bulk length", true}, /* larger than proto-max-bulk-len */
    {"ERR Elements are too large to be stored", false},
};

struct stream {
    struct redis *redis;
    struct redis_quota quota;
    struct stream_trim trim;
    char *key;
    const char *node;
    int64_t replicas_min, replicas_timeout_ms;
    /* The first messages of the next batch that are in the stream already, written by that
     * connection, but not yet confirmed by the replicas. */
    size_t unconfirmed;
    uint64_t connection_number;
    const char **parts; /* the command being built */
    size_t *lens;
    size_t count, capacity;
};

static void stream_sink_close(void *state) {
    struct stream *stream = state;
    stream_trim_fini(&stream->trim);
    redis_destroy(stream->redis);
    free(stream->key);
    free(stream->parts);
    free(stream->lens);
    free(stream);
}

static enum err stream_sink_open(void **state, const struct sink_environment *environment,
                                 const json_t *settings, char *fault) {
    const char *url = sink_settings_text(settings, "url");
    bool shared = *url == '\0' || strcmp(url, environment->redis_url) == 0;
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        return ERR_MEMORY;
    }
    stream->node = environment->node;
    stream->replicas_min = sink_settings_integer(settings, "min_replicas");
    stream->replicas_timeout_ms = environment->redis_replicas_timeout_ms;
    if (asprintf(&stream->key, "%s%s", environment->key_prefix,
                 sink_settings_text(settings, "key")) < 0) {
        stream->key = NULL;
    }
    enum err err =
        stream->key ? stream_trim_init(&stream->trim, stream->key, settings, fault) : ERR_MEMORY;
    if (err != ERR_OK) {
        free(stream->key);
        free(stream);
        return err;
    }
    redis_quota_init(&stream->quota, stream->key, shared, settings);
    stream->redis =
        redis_create(shared ? environment->redis_url : url, environment->redis_timeout_ms);
    if (!stream->redis) {
        snprintf(fault, SINK_FAULT_LEN, "url is not a Redis address");
        stream_sink_close(stream);
        return ERR_ARGUMENT;
    }
    *state = stream;
    return ERR_OK;
}

/* --- one entry --- */

static enum err stream_sink_reserve(struct stream *stream, size_t count) {
    if (count <= stream->capacity) {
        return ERR_OK;
    }
    const char **parts = realloc(stream->parts, count * sizeof *parts);
    stream->parts = parts ? parts : stream->parts;
    size_t *lens = parts ? realloc(stream->lens, count * sizeof *lens) : NULL;
    stream->lens = lens ? lens : stream->lens;
    stream->capacity = lens ? count : stream->capacity;
    return lens ? ERR_OK : ERR_MEMORY;
}

static void stream_sink_put_bytes(struct stream *stream, const void *data, size_t len) {
    stream->parts[stream->count] = data;
    stream->lens[stream->count++] = len;
}

static void stream_sink_put_text(struct stream *stream, const char *text) {
    stream_sink_put_bytes(stream, text, strlen(text));
}

static void stream_sink_put_field(struct stream *stream, const char *name, const void *value,
                                  size_t len) {
    stream_sink_put_text(stream, name);
    stream_sink_put_bytes(stream, value, len);
}

static void stream_sink_put_text_field(struct stream *stream, const char *name, const char *value) {
    stream_sink_put_field(stream, name, value, strlen(value));
}

/* maxlen: room for the number, as long as the command. */
static void stream_sink_put_command(struct stream *stream, char maxlen[NUMBER_LEN]) {
    int64_t entries_max = stream_trim_xadd_maxlen(&stream->trim);
    stream->count = 0;
    stream_sink_put_text(stream, "XADD");
    stream_sink_put_text(stream, stream->key);
    if (entries_max > 0) {
        snprintf(maxlen, NUMBER_LEN, "%lld", (long long)entries_max);
        stream_sink_put_text(stream, "MAXLEN");
        stream_sink_put_text(stream, "~");
        stream_sink_put_text(stream, maxlen);
    }
    stream_sink_put_text(stream, "*");
}

static void stream_sink_put_properties(struct stream *stream, const struct message *message,
                                       const char *user_json, const struct buffer *subscriptions) {
    for (size_t i = 0; i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        if (!properties_is_user(property) && !properties_is_subscription(property)) {
            stream_sink_put_field(stream, property->name, property->value, property->value_len);
        }
    }
    if (subscriptions->len > 0) {
        stream_sink_put_field(stream, "subscription_identifier", subscriptions->data,
                              subscriptions->len);
    }
    if (user_json) {
        stream_sink_put_text_field(stream, "user_properties", user_json);
    }
}

/* *out: a new text; NULL if the message has no user properties. */
static enum err stream_sink_user_properties_json(const struct message *message, char **out) {
    json_t *user = properties_user(message);
    *out = NULL;
    if (user && json_array_size(user) == 0) {
        json_decref(user);
        return ERR_OK;
    }
    *out = user ? json_to_text(user, JSON_COMPACT) : NULL;
    json_decref(user);
    return *out ? ERR_OK : ERR_MEMORY;
}

/* Of a dead letter. at: room for the time, as long as the command. *labels: a new text; NULL: none.
 */
static enum err stream_sink_put_rejection(struct stream *stream, const struct message *message,
                                          char at[NUMBER_LEN], char **labels) {
    const struct rejection *rejection = message->rejection;
    if (!rejection) {
        return ERR_OK;
    }
    snprintf(at, NUMBER_LEN, "%lld", (long long)rejection->rejected_at_ms);
    stream_sink_put_text_field(stream, "dead_letter_sink", rejection->sink);
    stream_sink_put_text_field(stream, "dead_letter_reason", rejection->reason);
    stream_sink_put_text_field(stream, "dead_letter_at_ms", at);
    if (message->origin) {
        stream_sink_put_text_field(stream, "broker", message->origin->broker);
        json_t *object = properties_labels(message);
        *labels = object ? json_to_text(object, JSON_COMPACT) : NULL;
        json_decref(object);
        if (!*labels) {
            return ERR_MEMORY;
        }
        stream_sink_put_text_field(stream, "labels", *labels);
    }
    return ERR_OK;
}

static enum err stream_sink_send_entry(struct stream *stream, const struct message *message) {
    char received_at[NUMBER_LEN];
    char qos[NUMBER_LEN];
    char maxlen[NUMBER_LEN];
    char rejected_at[NUMBER_LEN];
    char *user_json = NULL;
    char *labels = NULL;
    struct buffer subscriptions;
    buffer_init(&subscriptions);
    snprintf(qos, sizeof qos, "%d", message->qos);
    snprintf(received_at, sizeof received_at, "%lld", (long long)message->received_at_ms);
    enum err err = stream_sink_reserve(stream, PARTS_FIXED + 2 * message->property_count);
    if (err == ERR_OK) {
        err = stream_sink_user_properties_json(message, &user_json);
    }
    properties_subscriptions(message, &subscriptions);
    if (subscriptions.failed) {
        err = ERR_MEMORY;
    }
    if (err == ERR_OK) {
        stream_sink_put_command(stream, maxlen);
        stream_sink_put_text_field(stream, "id", message->id);
        stream_sink_put_text_field(stream, "client_id", message->client_id);
        stream_sink_put_text_field(stream, "topic", message->topic);
        stream_sink_put_field(stream, "payload", message->payload, message->payload_len);
        stream_sink_put_text_field(stream, "qos", qos);
        stream_sink_put_text_field(stream, "retain", message->retain ? "1" : "0");
        stream_sink_put_text_field(stream, "node", stream->node);
        stream_sink_put_text_field(stream, "received_at_ms", received_at);
        stream_sink_put_properties(stream, message, user_json, &subscriptions);
        err = stream_sink_put_rejection(stream, message, rejected_at, &labels);
    }
    if (err == ERR_OK) {
        err = redis_append(stream->redis, (int)stream->count, stream->parts, stream->lens);
    }
    free(labels);
    free(user_json);
    buffer_fini(&subscriptions);
    return err;
}

/* --- a batch --- */

/* True: the reply rejects that message. *closes: and the connection with it. */
static bool stream_sink_rejects(struct sink_batch *batch, size_t index, const char *reply,
                                bool *closes) {
    for (size_t i = 0; i < sizeof stream_data_errors / sizeof stream_data_errors[0]; i++) {
        const char *text = stream_data_errors[i].text;
        if (strncmp(reply, text, strlen(text)) == 0) {
            sink_batch_reject(batch, index, "%s (payload of %zu bytes)", reply,
                              batch->messages[index]->payload_len);
            *closes = stream_data_errors[i].closes;
            return true;
        }
    }
    return false;
}

/* Reads the replies of the entries from `begin` to `end`. An entry after an error reply is not
 * accepted, for the sake of the order, but its reply is read as well, so that the connection can be
 * reused. Returns the end of those that are in the stream or rejected. */
static size_t stream_sink_read_replies(struct stream *stream, struct sink_batch *batch,
                                       size_t begin, size_t end, enum err *result) {
    size_t settled = begin;
    for (size_t i = begin; i < end; i++) {
        struct redis_reply *reply = NULL;
        bool closes = false;
        enum err err = redis_read(stream->redis, &reply);
        if (err == ERR_OK && redis_reply_type(reply) == REDIS_ERROR &&
            !stream_sink_rejects(batch, i, redis_reply_str(reply, NULL), &closes)) {
            err = ERR_PROTOCOL;
        }
        if (err != ERR_OK && *result == ERR_OK) {
            *result = sink_batch_fail(batch, err, "%s", redis_error(stream->redis));
        }
        settled += *result == ERR_OK ? 1 : 0;
        redis_reply_free(reply);
        if (closes) {
            redis_disconnect(stream->redis);
        }
        if (redis_fd(stream->redis) < 0) {
            return settled;
        }
    }
    return settled;
}

static bool stream_sink_may_write(const struct stream *stream) {
    return redis_quota_may_write(&stream->quota) && stream_trim_may_write(&stream->trim);
}

/* While Redis has no room, the stream is trimmed as usual: that may make room. */
static enum err stream_sink_check_room(struct stream *stream, struct sink_batch *batch) {
    enum err err = redis_quota_check(&stream->quota, stream->redis, batch->error);
    if (err == ERR_FULL) {
        stream_trim_refresh(&stream->trim, stream->redis);
    }
    return err == ERR_OK ? stream_trim_check(&stream->trim, stream->redis, batch->error) : err;
}

/* Whether the message begins a pipeline. If Redis refuses it, the connection is lost, and with it
 * the possibility to ask the replicas for those before it. */
static bool stream_sink_begins_pipeline(const struct stream *stream,
                                        const struct message *message) {
    return stream->replicas_min > 0 && message->size >= LARGE_BYTES;
}

/* Writes at least one message from `begin` on, and as many as there is room for, in one pipeline.
 * Returns the end of those that are in the stream or rejected. */
static size_t stream_sink_write_pipeline(struct stream *stream, struct sink_batch *batch,
                                         size_t begin, enum err *result) {
    size_t end = begin;
    enum err err = stream_sink_check_room(stream, batch);
    if (err != ERR_OK) {
        *result = err;
        return begin;
    }
    while (err == ERR_OK && end < batch->count &&
           (end == begin || (stream_sink_may_write(stream) &&
                             !stream_sink_begins_pipeline(stream, batch->messages[end])))) {
        err = stream_sink_send_entry(stream, batch->messages[end]);
        if (err == ERR_OK) {
            stream_trim_consume(&stream->trim, batch->messages[end]->size);
            redis_quota_consume(&stream->quota, batch->messages[end++]->size);
        }
    }
    if (err != ERR_OK && err != ERR_MEMORY) { /* not connected: nothing was sent */
        *result = sink_batch_fail(batch, err, "%s", redis_error(stream->redis));
        return begin;
    }
    size_t settled = stream_sink_read_replies(stream, batch, begin, end, result);
    if (*result == ERR_OK && err != ERR_OK) {
        *result = sink_batch_fail(batch, err, "%s", err_name(err));
    }
    return settled;
}

/* Accepts the messages from `begin` to `end` that were not rejected. */
static void stream_sink_accept(struct sink_batch *batch, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
        if (batch->outcomes[i] != SINK_REJECTED) {
            sink_batch_accept(batch, i);
        }
    }
}

static size_t stream_sink_count_rejected(const struct sink_batch *batch, size_t begin, size_t end) {
    size_t count = 0;
    for (size_t i = begin; i < end; i++) {
        count += batch->outcomes[i] == SINK_REJECTED;
    }
    return count;
}

/* Waits until the replicas have the messages from `begin` to `end`. If they do not in time, none is
 * accepted, but as long as the connection lasts they are not sent again: the next call only waits
 * for them. After another connection they are, because WAIT knows only its own, and after a
 * rejection, because then they may not be the first of the next batch. */
static enum err stream_sink_confirm(struct stream *stream, struct sink_batch *batch, size_t begin,
                                    size_t end) {
    if (redis_connection_number(stream->redis) != stream->connection_number) {
        *batch->error = '\0';
        return sink_batch_fail(batch, ERR_UNAVAILABLE,
                               "the connection was lost before the replicas confirmed");
    }
    enum err err =
        redis_wait_replicas(stream->redis, stream->replicas_min, stream->replicas_timeout_ms);
    if (err != ERR_OK) {
        *batch->error = '\0';
        sink_batch_fail(batch, err, "%s", redis_error(stream->redis));
        bool all = stream_sink_count_rejected(batch, 0, end) == 0;
        stream->unconfirmed = all ? end - begin : 0;
    }
    return err;
}

/* Returns how many of the batch the last call has left in the stream, not yet confirmed. */
static size_t stream_sink_take_unconfirmed(struct stream *stream, const struct sink_batch *batch) {
    size_t count = stream->unconfirmed < batch->count ? stream->unconfirmed : batch->count;
    stream->unconfirmed = 0;
    return redis_fd(stream->redis) < 0 ||
                   redis_connection_number(stream->redis) != stream->connection_number
               ? 0
               : count;
}

static enum err stream_sink_write(void *state, struct sink_batch *batch) {
    struct stream *stream = state;
    enum err err = ERR_OK, confirmed = ERR_OK;
    size_t accepted = 0;
    size_t settled = stream_sink_take_unconfirmed(stream, batch);
    do { /* each turn writes or rejects one message, or fails */
        bool first = settled == accepted;
        if (settled < batch->count) {
            settled = stream_sink_write_pipeline(stream, batch, settled, &err);
        }
        if (first) {
            stream->connection_number = redis_connection_number(stream->redis);
        }
        size_t rejected = stream_sink_count_rejected(batch, accepted, settled);
        if (stream->replicas_min > 0 && settled - accepted > rejected) {
            confirmed = stream_sink_confirm(stream, batch, accepted, settled);
        }
        if (confirmed != ERR_OK) {
            return confirmed;
        }
        stream_sink_accept(batch, accepted, settled);
        accepted = settled;
    } while (err == ERR_OK && settled < batch->count);
    return err;
}

static void stream_sink_maintain(void *state) {
    struct stream *stream = state;
    redis_quota_refresh(&stream->quota, stream->redis);
    stream_trim_refresh(&stream->trim, stream->redis);
}

static void stream_sink_status(void *state, struct sink_status *out) {
    struct stream *stream = state;
    redis_quota_status(&stream->quota, out);
    stream_trim_status(&stream->trim, out);
}

/* --- a test --- */

/* A command without effect. False: it failed, and the step was reported. */
static bool stream_sink_test_command(struct redis *redis, int argc, const char *const *argv,
                                     const struct sink_test_report *report, const char *step,
                                     const char *advice, char *answer, size_t size) {
    struct redis_reply *reply = NULL;
    char error[SINK_ERROR_LEN];
    enum err err = redis_command(redis, argc, argv, NULL, &reply);
    const char *text = err == ERR_OK ? redis_reply_str(reply, NULL) : NULL;
    snprintf(answer, size, "%s", text ? text : "");
    redis_describe_error(redis, error, sizeof error);
    bool failed = err != ERR_OK || redis_reply_type(reply) == REDIS_ERROR;
    if (failed) {
        report->step(report->context, step, false, err == ERR_OK ? answer : error, advice);
    }
    redis_reply_free(reply);
    return !failed;
}

static void stream_sink_test_key(struct redis *redis, const char *key,
                                 const struct sink_test_report *report) {
    char answer[SINK_ERROR_LEN];
    const char *const type[] = {"TYPE", key};
    if (!stream_sink_test_command(redis, 2, type, report, "permission",
                                  "allow the user this key (ACL SETUSER)", answer, sizeof answer)) {
        return;
    }
    bool fits = strcmp(answer, "stream") == 0 || strcmp(answer, "none") == 0;
    char detail[SINK_ERROR_LEN * 2];
    snprintf(detail, sizeof detail, "the key %.100s is %s%s", key,
             strcmp(answer, "none") == 0 ? "free" : "a ", fits && answer[0] == 'n' ? "" : answer);
    report->step(report->context, "permission", fits, detail, "use another key");
}

static void stream_sink_test(const struct sink_environment *environment, const json_t *settings,
                             const struct sink_test_report *report) {
    const char *url = sink_settings_text(settings, "url");
    char answer[SINK_ERROR_LEN], fault[SINK_FAULT_LEN] = "", key[512];
    const char *const ping[] = {"PING"};
    url = *url ? url : environment->redis_url;
    if (redis_url_check(url, fault) != ERR_OK) {
        report->step(report->context, "settings", false, fault, "correct the url");
        return;
    }
    struct redis *redis = redis_create(url, environment->redis_timeout_ms);
    if (redis && stream_sink_test_command(redis, 1, ping, report, "connect",
                                          "check host, port, TLS, user and password", answer,
                                          sizeof answer)) {
        report->step(report->context, "connect", true, "connected and authenticated", NULL);
        snprintf(key, sizeof key, "%s%s", environment->key_prefix,
                 sink_settings_text(settings, "key"));
        stream_sink_test_key(redis, key, report);
    }
    redis_destroy(redis);
}

const struct sink_type sink_type_redis_stream = {.version = MQFLEET_VERSION,
                                                 .name = "redis_stream",
                                                 .fields = stream_sink_fields,
                                                 .open = stream_sink_open,
                                                 .write = stream_sink_write,
                                                 .close = stream_sink_close,
                                                 .maintain = stream_sink_maintain,
                                                 .test = stream_sink_test,
                                                 .status = stream_sink_status};
