/* The sink that publishes to an exchange of RabbitMQ, with publisher confirms. Messages are sent in
 * groups; a group is over when each of its messages is confirmed. The broker closes the channel for
 * a message that it refuses, without naming it: then the group is halved until it is alone. */
#include "sink/sink_type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "amqp_link.h"
#include "base/system/clock.h"
#include "sink/message_json.h"
#include "sink/sink_template.h"

#define RABBITMQ_HEADERS   7
#define RABBITMQ_GROUP_MAX 10000
#define RABBITMQ_ID_LEN    48

static const struct sink_field rabbitmq_sink_fields[] = {
    {.name = "url",
     .kind = SINK_FIELD_URL,
     .required = true,
     .description = "address of the broker, amqp://host:5672/vhost or amqps://host:5671/vhost"},
    {.name = "username",
     .kind = SINK_FIELD_TEXT,
     .description = "user name, replaces the one in the url"},
    {.name = "password",
     .kind = SINK_FIELD_SECRET,
     .description = "password, replaces the one in the url"},
    {.name = "exchange",
     .kind = SINK_FIELD_TEXT,
     .text = "amq.topic",
     .description =
         "existing exchange; empty: the default exchange, whose routing key is the name of a "
         "queue"},
    {.name = "routing_key",
     .kind = SINK_FIELD_TEXT,
     .text = "{topic}",
     .description = "template of the routing key; / becomes ."},
    {.name = "format",
     .kind = SINK_FIELD_CHOICE,
     .text = "payload",
     .choices = "payload|json",
     .description = "body: the unchanged payload, or the message as a JSON object"},
    {.name = "unroutable",
     .kind = SINK_FIELD_CHOICE,
     .text = "retry",
     .choices = "retry|drop",
     .description = "what happens to a message that no queue takes"},
    {.name = "tls_ca",
     .kind = SINK_FIELD_TEXT,
     .description = "CA certificates as PEM text; empty: those of the system"},
    {.name = "timeout_ms",
     .kind = SINK_FIELD_INTEGER,
     .number = 5000,
     .min = 100,
     .max = 60000,
     .unit = "ms",
     .description = "limit for connecting, and for the confirms of a group of messages"},
    {0}};

struct rabbitmq_sink {
    const char *node, *exchange;
    struct sink_template routing_key;
    bool json, drops_unroutable;
    struct amqp_link link;
    size_t group_max;
    struct buffer key, body;

    /* during a write */
    struct sink_batch *batch;
    uint64_t first_tag; /* of the first message of the group */
    size_t *sent;       /* index of each message of the group, in the order of their tags */
    size_t sent_count, due;
    size_t capacity;
};

static void rabbitmq_sink_close(void *state) {
    struct rabbitmq_sink *sink = state;
    amqp_link_close(&sink->link);
    sink_template_fini(&sink->routing_key);
    buffer_fini(&sink->key);
    buffer_fini(&sink->body);
    free(sink->sent);
    free(sink);
}

static enum err rabbitmq_sink_open(void **state, const struct sink_environment *environment,
                                   const json_t *settings, char *fault) {
    enum err err = amqp_link_check_url(sink_settings_text(settings, "url"), fault);
    struct rabbitmq_sink *sink = err == ERR_OK ? calloc(1, sizeof *sink) : NULL;
    if (!sink) {
        return err == ERR_OK ? ERR_MEMORY : err;
    }
    sink->node = environment->node;
    sink->exchange = sink_settings_text(settings, "exchange");
    sink->json = strcmp(sink_settings_text(settings, "format"), "json") == 0;
    sink->drops_unroutable = strcmp(sink_settings_text(settings, "unroutable"), "drop") == 0;
    sink->group_max = RABBITMQ_GROUP_MAX;
    sink->capacity = (size_t)sink_settings_integer(settings, "batch_messages");
    amqp_link_init(&sink->link, environment, settings);
    buffer_init(&sink->key);
    buffer_init(&sink->body);
    sink->sent = calloc(sink->capacity, sizeof *sink->sent);
    err = sink->sent
              ? sink_template_init(&sink->routing_key, environment, settings, "routing_key", fault)
              : ERR_MEMORY;
    if (err != ERR_OK) {
        rabbitmq_sink_close(sink);
        return err;
    }
    *state = sink;
    return ERR_OK;
}

/* ---- a message ------------------------------------------------------------------------------- */

static void rabbitmq_sink_format_id(const struct message *message, char out[RABBITMQ_ID_LEN]) {
    snprintf(out, RABBITMQ_ID_LEN, "%s-%llu", message_process_id(),
             (unsigned long long)message->number);
}

static amqp_table_entry_t rabbitmq_sink_header(const char *name, const char *value) {
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes(name),
                                .value = {.kind = AMQP_FIELD_KIND_UTF8}};
    entry.value.value.bytes = amqp_cstring_bytes(value);
    return entry;
}

/* ERR_NOT_FOUND: rejected, the reason is set. A routing key is a short string. */
static enum err rabbitmq_sink_make_key(struct rabbitmq_sink *sink, size_t index) {
    char reason[SINK_REASON_LEN];
    buffer_clear(&sink->key);
    enum err err =
        sink_template_render(&sink->routing_key, sink->batch->messages[index], &sink->key, reason);
    if (err == ERR_NOT_FOUND) {
        sink_batch_reject(sink->batch, index, "%s", reason);
        return err;
    }
    if (err == ERR_OK && sink->key.len > 255) {
        sink_batch_reject(sink->batch, index, "routing_key: longer than 255 bytes");
        return ERR_NOT_FOUND;
    }
    for (size_t i = 0; err == ERR_OK && i < sink->key.len; i++) {
        sink->key.data[i] = (char)(sink->key.data[i] == '/' ? '.' : sink->key.data[i]);
    }
    return err;
}

static enum err rabbitmq_sink_publish(struct rabbitmq_sink *sink, const struct message *message) {
    char id[RABBITMQ_ID_LEN], qos[4], received_at[24];
    snprintf(qos, sizeof qos, "%d", message->qos);
    snprintf(received_at, sizeof received_at, "%lld", (long long)message->received_at_ms);
    rabbitmq_sink_format_id(message, id);
    amqp_table_entry_t headers[RABBITMQ_HEADERS] = {
        rabbitmq_sink_header("mqtt_id", message->id),
        rabbitmq_sink_header("mqtt_client_id", message->client_id),
        rabbitmq_sink_header("mqtt_topic", message->topic),
        rabbitmq_sink_header("mqtt_qos", qos),
        rabbitmq_sink_header("mqtt_retain", message->retain ? "1" : "0"),
        rabbitmq_sink_header("mqtt_received_at_ms", received_at),
        rabbitmq_sink_header("mqtt_node", sink->node)};
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                  AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_TIMESTAMP_FLAG,
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
        .message_id = amqp_cstring_bytes(id),
        .timestamp = (uint64_t)(message->received_at_ms / 1000),
        .headers = {.num_entries = RABBITMQ_HEADERS, .entries = headers}};
    amqp_bytes_t body = {.len = message->payload_len, .bytes = (void *)(uintptr_t)message->payload};
    if (sink->json) {
        buffer_clear(&sink->body);
        message_json_append(&sink->body, message, sink->node);
        body = (amqp_bytes_t){.len = sink->body.len, .bytes = sink->body.data};
        properties._flags |= AMQP_BASIC_CONTENT_TYPE_FLAG;
        properties.content_type = amqp_cstring_bytes("application/json");
    }
    if (sink->body.failed || sink->key.failed) {
        return ERR_MEMORY;
    }
    amqp_bytes_t key = {.len = sink->key.len, .bytes = sink->key.data};
    return amqp_link_publish(&sink->link, sink->exchange, key, &properties, body);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Sent and not yet confirmed; a message that was returned is not accepted by its confirm. */
static void rabbitmq_sink_confirm_one(struct rabbitmq_sink *sink, size_t place, bool accepted) {
    size_t index = sink->sent[place];
    if (index == SIZE_MAX) {
        return;
    }
    sink->sent[place] = SIZE_MAX;
    sink->due--;
    if (accepted) {
        sink_batch_accept(sink->batch, index);
    } else {
        sink_batch_fail(sink->batch, ERR_IO, "the broker did not take a message (basic.nack)");
    }
}

static void rabbitmq_sink_on_confirm(void *context, uint64_t from, uint64_t to, bool accepted) {
    struct rabbitmq_sink *sink = context;
    uint64_t first = from > sink->first_tag ? from : sink->first_tag;
    for (uint64_t tag = first; tag <= to && tag < sink->first_tag + sink->sent_count; tag++) {
        rabbitmq_sink_confirm_one(sink, (size_t)(tag - sink->first_tag), accepted);
    }
}

/* The broker confirms what it returns as well. */
static void rabbitmq_sink_on_return(void *context, const char *message_id, const char *why) {
    struct rabbitmq_sink *sink = context;
    char id[RABBITMQ_ID_LEN];
    for (size_t place = 0; place < sink->sent_count; place++) {
        size_t index = sink->sent[place];
        if (index == SIZE_MAX) {
            continue;
        }
        rabbitmq_sink_format_id(sink->batch->messages[index], id);
        if (strcmp(id, message_id) == 0) {
            if (!sink->drops_unroutable) { /* or else its confirm accepts it */
                sink->sent[place] = SIZE_MAX;
                sink->due--;
                sink_batch_fail(sink->batch, ERR_IO, "no queue takes the routing key (%.60s)", why);
            }
            return;
        }
    }
}

/* ---- a batch --------------------------------------------------------------------------------- */

static enum err rabbitmq_sink_send_group(struct rabbitmq_sink *sink, size_t begin, size_t end) {
    enum err err = ERR_OK;
    sink->first_tag = sink->link.published + 1;
    sink->sent_count = sink->due = 0;
    for (size_t i = begin; err == ERR_OK && i < end; i++) {
        err = rabbitmq_sink_make_key(sink, i);
        if (err == ERR_NOT_FOUND) {
            err = ERR_OK;
            continue;
        }
        if (err == ERR_OK) {
            err = rabbitmq_sink_publish(sink, sink->batch->messages[i]);
        }
        if (err == ERR_OK) {
            sink->sent[sink->sent_count++] = i;
            sink->due++;
        }
    }
    return err;
}

static enum err rabbitmq_sink_await_confirms(struct rabbitmq_sink *sink) {
    const struct amqp_answers answers = {.context = sink,
                                         .confirmed = rabbitmq_sink_on_confirm,
                                         .returned = rabbitmq_sink_on_return};
    int64_t deadline_ms = clock_ms() + sink->link.timeout_ms;
    enum err err = ERR_OK;
    while (err == ERR_OK && sink->due > 0) { /* each turn reads an answer, or ends */
        err = amqp_link_read(&sink->link, deadline_ms, &answers);
    }
    return err;
}

/* ERR_FULL: the group must be smaller. */
static enum err rabbitmq_sink_write_group(struct rabbitmq_sink *sink, size_t begin, size_t end) {
    enum err err = amqp_link_ensure_open(&sink->link);
    if (err == ERR_OK) {
        err = rabbitmq_sink_send_group(sink, begin, end);
        /* Why a channel was closed is told by what can still be read. */
        enum err read = rabbitmq_sink_await_confirms(sink);
        err = read != ERR_OK ? read : err;
    }
    if (err == ERR_OK) {
        return ERR_OK;
    }
    bool refused = sink->link.refused;
    amqp_link_close(&sink->link);
    if (refused && end - begin == 1) {
        sink_batch_reject(sink->batch, begin, "%s", sink->link.error);
        return ERR_OK;
    }
    return refused ? ERR_FULL : sink_batch_fail(sink->batch, err, "%s", sink->link.error);
}

static size_t rabbitmq_sink_skip_settled(const struct sink_batch *batch, size_t at) {
    while (at < batch->count && batch->outcomes[at] != SINK_RETRY) {
        at++;
    }
    return at;
}

/* The end of a group of messages that are not settled. */
static size_t rabbitmq_sink_group_end(const struct rabbitmq_sink *sink, size_t begin) {
    size_t end = begin;
    while (end < sink->batch->count && end - begin < sink->group_max &&
           sink->batch->outcomes[end] == SINK_RETRY) {
        end++;
    }
    return end;
}

static enum err rabbitmq_sink_write(void *state, struct sink_batch *batch) {
    struct rabbitmq_sink *sink = state;
    enum err err = ERR_OK;
    sink->batch = batch;
    sink->group_max = RABBITMQ_GROUP_MAX;
    size_t at = 0;
    while (err == ERR_OK && at < batch->count) { /* each turn settles one, halves, or fails */
        size_t end = rabbitmq_sink_group_end(sink, at);
        err = rabbitmq_sink_write_group(sink, at, end);
        if (err == ERR_FULL) {
            sink->group_max = (end - at + 1) / 2;
            err = ERR_OK;
        } else if (err == ERR_OK) {
            at = *batch->error ? batch->count : end;
        }
        at = rabbitmq_sink_skip_settled(batch, at);
    }
    return err == ERR_OK && *batch->error ? ERR_IO : err;
}

const struct sink_type sink_type_rabbitmq = {.version = MQFLEET_VERSION,
                                             .name = "rabbitmq",
                                             .fields = rabbitmq_sink_fields,
                                             .open = rabbitmq_sink_open,
                                             .write = rabbitmq_sink_write,
                                             .close = rabbitmq_sink_close};
