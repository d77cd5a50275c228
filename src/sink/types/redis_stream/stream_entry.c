/* Owns the form of an entry: which fields it has. Runs on the sink's thread. */
#include "stream_entry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/system/json_memory.h"
#include "sink/properties.h"

#define NUMBER_LEN  24
#define PARTS_FIXED 40 /* XADD key MAXLEN ~ n *, fifteen fields with their values */

struct entry_texts { /* of one message, as long as the command */
    char received_at[NUMBER_LEN], qos[2], rejected_at[NUMBER_LEN];
    char *user_json, *labels; /* NULL: none */
    struct buffer subscriptions;
};

static enum err stream_entry_reserve(struct stream_entry *entry, size_t count) {
    if (count <= entry->capacity) {
        return ERR_OK;
    }
    const char **parts = realloc(entry->parts, count * sizeof *parts);
    entry->parts = parts ? parts : entry->parts;
    size_t *lens = parts ? realloc(entry->lens, count * sizeof *lens) : NULL;
    entry->lens = lens ? lens : entry->lens;
    entry->capacity = lens ? count : entry->capacity;
    return lens ? ERR_OK : ERR_MEMORY;
}

static void stream_entry_put_bytes(struct stream_entry *entry, const void *data, size_t len) {
    entry->parts[entry->count] = data;
    entry->lens[entry->count++] = len;
}

static void stream_entry_put_text(struct stream_entry *entry, const char *text) {
    stream_entry_put_bytes(entry, text, strlen(text));
}

static void stream_entry_put_field(struct stream_entry *entry, const char *name, const void *value,
                                   size_t len) {
    stream_entry_put_text(entry, name);
    stream_entry_put_bytes(entry, value, len);
}

static void stream_entry_put_text_field(struct stream_entry *entry, const char *name,
                                        const char *value) {
    stream_entry_put_field(entry, name, value, strlen(value));
}

/* maxlen: room for the number, as long as the command. */
static void stream_entry_put_command(struct stream_entry *entry, const char *key,
                                     int64_t entries_max, char maxlen[NUMBER_LEN]) {
    entry->count = 0;
    stream_entry_put_text(entry, "XADD");
    stream_entry_put_text(entry, key);
    if (entries_max > 0) {
        snprintf(maxlen, NUMBER_LEN, "%lld", (long long)entries_max);
        stream_entry_put_text(entry, "MAXLEN");
        stream_entry_put_text(entry, "~");
        stream_entry_put_text(entry, maxlen);
    }
    stream_entry_put_text(entry, "*");
}

static void stream_entry_put_properties(struct stream_entry *entry, const struct message *message,
                                        const char *user_json, const struct buffer *subscriptions) {
    for (size_t i = 0; i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        if (!properties_is_user(property) && !properties_is_subscription(property)) {
            stream_entry_put_field(entry, property->name, property->value, property->value_len);
        }
    }
    if (subscriptions->len > 0) {
        stream_entry_put_field(entry, "subscription_identifier", subscriptions->data,
                               subscriptions->len);
    }
    if (user_json) {
        stream_entry_put_text_field(entry, "user_properties", user_json);
    }
}

/* *out: a new text; NULL if the message has no user properties. */
static enum err stream_entry_user_properties_json(const struct message *message, char **out) {
    json_t *user = message->property_count > 0 ? properties_user(message) : NULL;
    *out = NULL;
    if (message->property_count == 0 || (user && json_array_size(user) == 0)) {
        json_decref(user);
        return ERR_OK;
    }
    *out = user ? json_to_text(user, JSON_COMPACT) : NULL;
    json_decref(user);
    return *out ? ERR_OK : ERR_MEMORY;
}

/* Of a dead letter. */
static enum err stream_entry_put_rejection(struct stream_entry *entry,
                                           const struct message *message,
                                           struct entry_texts *texts) {
    const struct rejection *rejection = message->rejection;
    if (!rejection) {
        return ERR_OK;
    }
    snprintf(texts->rejected_at, NUMBER_LEN, "%lld", (long long)rejection->rejected_at_ms);
    stream_entry_put_text_field(entry, "dead_letter_sink", rejection->sink);
    stream_entry_put_text_field(entry, "dead_letter_reason", rejection->reason);
    stream_entry_put_text_field(entry, "dead_letter_at_ms", texts->rejected_at);
    if (message->origin) {
        stream_entry_put_text_field(entry, "broker", message->origin->broker);
        json_t *object = properties_labels(message);
        texts->labels = object ? json_to_text(object, JSON_COMPACT) : NULL;
        json_decref(object);
        if (!texts->labels) {
            return ERR_MEMORY;
        }
        stream_entry_put_text_field(entry, "labels", texts->labels);
    }
    return ERR_OK;
}

static enum err stream_entry_make_texts(const struct message *message, struct entry_texts *texts) {
    texts->qos[0] = (char)('0' + message->qos);
    snprintf(texts->received_at, NUMBER_LEN, "%lld", (long long)message->received_at_ms);
    properties_subscriptions(message, &texts->subscriptions);
    enum err err = stream_entry_user_properties_json(message, &texts->user_json);
    return texts->subscriptions.failed ? ERR_MEMORY : err;
}

static enum err stream_entry_put_fields(struct stream_entry *entry, const struct message *message,
                                        struct entry_texts *texts) {
    stream_entry_put_text_field(entry, "id", message->id);
    stream_entry_put_text_field(entry, "client_id", message->client_id);
    stream_entry_put_text_field(entry, "topic", message->topic);
    stream_entry_put_field(entry, "payload", message->payload, message->payload_len);
    stream_entry_put_text_field(entry, "qos", texts->qos);
    stream_entry_put_text_field(entry, "retain", message->retain ? "1" : "0");
    stream_entry_put_text_field(entry, "node", entry->node);
    stream_entry_put_text_field(entry, "received_at_ms", texts->received_at);
    stream_entry_put_properties(entry, message, texts->user_json, &texts->subscriptions);
    return stream_entry_put_rejection(entry, message, texts);
}

enum err stream_entry_send(struct stream_entry *entry, struct redis *redis, const char *key,
                           int64_t entries_max, const struct message *message) {
    char maxlen[NUMBER_LEN];
    struct entry_texts texts = {0};
    buffer_init(&texts.subscriptions);
    enum err err = stream_entry_reserve(entry, PARTS_FIXED + 2 * message->property_count);
    if (err == ERR_OK) {
        err = stream_entry_make_texts(message, &texts);
    }
    if (err == ERR_OK) {
        stream_entry_put_command(entry, key, entries_max, maxlen);
        err = stream_entry_put_fields(entry, message, &texts);
    }
    if (err == ERR_OK) {
        err = redis_append(redis, (int)entry->count, entry->parts, entry->lens);
    }
    free(texts.labels);
    free(texts.user_json);
    buffer_fini(&texts.subscriptions);
    return err;
}

void stream_entry_fini(struct stream_entry *entry) {
    free(entry->parts);
    free(entry->lens);
}
