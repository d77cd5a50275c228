/* The sink that appends to a Redis stream, one entry per message (XADD). Owns its connection; runs
 * on the sink's thread.
 *
 *   batch --> XADD XADD XADD ... --one pipeline--> Redis --replies in order--> written
 *
 * After an error in a batch, the following messages may be in the stream already, and are written
 * again later: at least once. redis_quota.c and stream_trim.c decide when to pause. */
#include "sink/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/system/json_memory.h"
#include "net/redis/redis.h"
#include "redis_quota.h"
#include "sink/properties.h"
#include "stream_trim.h"

#define ERROR_LEN   160
#define FAULT_LEN   256
#define NUMBER_LEN  24
#define PARTS_FIXED 32 /* XADD key MAXLEN ~ n *, ten fields with their values */

struct stream {
    struct redis *redis;
    struct redis_quota quota;
    struct stream_trim trim;
    const char *key;
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

static enum err stream_sink_open(void **state, const struct sink_config *config, char *fault) {
    if (!config->stream_key || !*config->stream_key) {
        snprintf(fault, FAULT_LEN, "sink.key is missing");
        return ERR_ARGUMENT;
    }
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        return ERR_MEMORY;
    }
    stream->redis = redis_create(config->redis_url, config->redis_timeout_ms);
    if (!stream->redis) {
        snprintf(fault, FAULT_LEN, "sink.url or redis_config.url is not a Redis address");
        free(stream);
        return ERR_ARGUMENT;
    }
    enum err err = stream_trim_init(&stream->trim, config, fault);
    if (err != ERR_OK) {
        redis_destroy(stream->redis);
        free(stream);
        return err;
    }
    redis_quota_init(&stream->quota, config);
    stream->key = config->stream_key;
    stream->node = config->node;
    stream->replicas_min = config->redis_replicas_min;
    stream->replicas_timeout_ms = config->redis_replicas_timeout_ms;
    *state = stream;
    return ERR_OK;
}

static void stream_sink_close(void *state) {
    struct stream *stream = state;
    stream_trim_fini(&stream->trim);
    redis_destroy(stream->redis);
    free(stream->parts);
    free(stream->lens);
    free(stream);
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

static enum err stream_sink_send_entry(struct stream *stream, const struct message *message) {
    char received_at[NUMBER_LEN];
    char qos[NUMBER_LEN];
    char maxlen[NUMBER_LEN];
    char *user_json = NULL;
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
        err = redis_append(stream->redis, (int)stream->count, stream->parts, stream->lens);
    }
    free(user_json);
    buffer_fini(&subscriptions);
    return err;
}

/* --- a batch --- */

/* Reads the replies of `sent` entries. Entries after an error reply do not count as written, but
 * their replies are read as well, so that the connection can be reused. */
static enum err stream_sink_read_replies(struct stream *stream, size_t sent, size_t *written,
                                         char *error) {
    enum err result = ERR_OK;
    for (size_t i = 0; i < sent; i++) {
        struct redis_reply *reply = NULL;
        enum err err = redis_read(stream->redis, &reply);
        if (err == ERR_OK && redis_reply_type(reply) == REDIS_ERROR) {
            err = ERR_PROTOCOL;
        }
        if (err != ERR_OK && result == ERR_OK) {
            snprintf(error, ERROR_LEN, "%s", redis_error(stream->redis));
            result = err;
        }
        *written += result == ERR_OK ? 1 : 0;
        redis_reply_free(reply);
        if (redis_fd(stream->redis) < 0) {
            return result;
        }
    }
    return result;
}

static bool stream_sink_may_write(const struct stream *stream) {
    return redis_quota_may_write(&stream->quota) && stream_trim_may_write(&stream->trim);
}

/* While Redis has no room, the stream is trimmed as usual: that may make room. */
static enum err stream_sink_check_room(struct stream *stream, char *error) {
    enum err err = redis_quota_check(&stream->quota, stream->redis, error);
    if (err == ERR_FULL) {
        stream_trim_refresh(&stream->trim, stream->redis);
    }
    return err == ERR_OK ? stream_trim_check(&stream->trim, stream->redis, error) : err;
}

/* Writes at least one message, and as many as there is room for, in one pipeline; adds to
 * *written. */
static enum err stream_sink_write_pipeline(struct stream *stream, struct message *const *messages,
                                           size_t n, size_t *written, char *error) {
    size_t sent = 0;
    enum err err = stream_sink_check_room(stream, error);
    if (err != ERR_OK) {
        return err;
    }
    while (err == ERR_OK && sent < n && (sent == 0 || stream_sink_may_write(stream))) {
        err = stream_sink_send_entry(stream, messages[sent]);
        if (err == ERR_OK) {
            stream_trim_consume(&stream->trim, messages[sent]->size);
            redis_quota_consume(&stream->quota, messages[sent++]->size);
        }
    }
    if (err != ERR_OK && err != ERR_MEMORY) { /* not connected: nothing was sent */
        snprintf(error, ERROR_LEN, "%s", redis_error(stream->redis));
        return err;
    }
    enum err sent_err = err;
    err = stream_sink_read_replies(stream, sent, written, error);
    if (err == ERR_OK && sent_err != ERR_OK) {
        snprintf(error, ERROR_LEN, "%s", err_name(sent_err));
        err = sent_err;
    }
    return err;
}

/* Waits until the replicas have the first `in_stream` messages of the batch. If they do not in
 * time, none counts as written, but as long as the connection lasts they are not sent again: the
 * next call only waits for them. After another connection they are, because WAIT knows only its
 * own. */
static enum err stream_sink_confirm(struct stream *stream, size_t in_stream, size_t *written,
                                    char *error) {
    if (redis_connection_number(stream->redis) != stream->connection_number) {
        stream->unconfirmed = 0;
        snprintf(error, ERROR_LEN, "the connection was lost before the replicas confirmed");
        return ERR_UNAVAILABLE;
    }
    enum err err =
        redis_wait_replicas(stream->redis, stream->replicas_min, stream->replicas_timeout_ms);
    if (err != ERR_OK) {
        snprintf(error, ERROR_LEN, "%s", redis_error(stream->redis));
    }
    *written = err == ERR_OK ? in_stream : 0;
    stream->unconfirmed = err == ERR_OK ? 0 : in_stream;
    return err;
}

static enum err stream_sink_write(void *state, struct message *const *messages, size_t n,
                                  size_t *written, char *error) {
    struct stream *stream = state;
    enum err err = ERR_OK;
    if (redis_fd(stream->redis) < 0 ||
        redis_connection_number(stream->redis) != stream->connection_number) {
        stream->unconfirmed = 0;
    }
    *written = stream->unconfirmed < n ? stream->unconfirmed : n;
    size_t begun = *written;
    while (err == ERR_OK && *written < n) { /* each turn writes one, or fails */
        err = stream_sink_write_pipeline(stream, messages + *written, n - *written, written, error);
        if (begun == 0 && *written > 0) {
            stream->connection_number = redis_connection_number(stream->redis);
            begun = *written;
        }
    }
    if (stream->replicas_min > 0 && *written > 0) {
        char why[ERROR_LEN];
        enum err confirmed = stream_sink_confirm(stream, *written, written, why);
        if (confirmed != ERR_OK) {
            snprintf(error, ERROR_LEN, "%s", why);
            return confirmed;
        }
    }
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

const struct sink_backend sink_backend_redis_stream = {.name = "redis_stream",
                                                       .open = stream_sink_open,
                                                       .write = stream_sink_write,
                                                       .close = stream_sink_close,
                                                       .maintain = stream_sink_maintain,
                                                       .status = stream_sink_status};
