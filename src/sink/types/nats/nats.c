/* The sink that publishes to a stream of NATS JetStream, a message with headers each. A batch is
 * sent at once; JetStream acknowledges each message. Runs on the sink's thread. */
#include "sink/sink_type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nats_publisher.h"
#include "nats_subject.h"
#include "sink/message_json.h"
#include "sink/sink_template.h"

static const struct sink_field nats_sink_fields[] = {
    {.name = "url",
     .kind = SINK_FIELD_URL,
     .required = true,
     .description = "address of the server, nats://host:4222 or tls://host:4222"},
    {.name = "subject",
     .kind = SINK_FIELD_TEXT,
     .text = "mqtt.{topic}",
     .description =
         "template of the subject, which a stream must cover; / becomes ., and invalid characters "
         "become _"},
    {.name = "format",
     .kind = SINK_FIELD_CHOICE,
     .text = "payload",
     .choices = "payload|json",
     .description = "body: the unchanged payload, or the message as a JSON object"},
    {.name = "domain",
     .kind = SINK_FIELD_TEXT,
     .description = "JetStream domain; empty: that of the server"},
    {.name = "username", .kind = SINK_FIELD_TEXT, .description = "user name"},
    {.name = "password", .kind = SINK_FIELD_SECRET, .description = "password of the user"},
    {.name = "token", .kind = SINK_FIELD_SECRET, .description = "token, instead of a user"},
    {.name = "tls_ca",
     .kind = SINK_FIELD_TEXT,
     .description = "CA certificates as PEM text; empty: those of the system"},
    {.name = "timeout_ms",
     .kind = SINK_FIELD_INTEGER,
     .number = 5000,
     .min = 100,
     .max = 60000,
     .unit = "ms",
     .description = "limit for connecting, and for the acknowledgements of a batch"},
    {0}};

struct nats_sink {
    const char *node;
    struct sink_template subject;
    bool json;
    struct nats_publisher *publisher;
    struct buffer subject_text, body;
};

static void nats_sink_close(void *state) {
    struct nats_sink *sink = state;
    nats_publisher_destroy(sink->publisher);
    sink_template_fini(&sink->subject);
    buffer_fini(&sink->subject_text);
    buffer_fini(&sink->body);
    free(sink);
}

static enum err nats_sink_open(void **state, const struct sink_environment *environment,
                               const json_t *settings, char *fault) {
    struct nats_sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        return ERR_MEMORY;
    }
    buffer_init(&sink->subject_text);
    buffer_init(&sink->body);
    sink->node = environment->node;
    sink->json = strcmp(sink_settings_text(settings, "format"), "json") == 0;
    enum err err = nats_publisher_create(&sink->publisher, environment, settings, fault);
    if (err == ERR_OK) {
        err = sink_template_init(&sink->subject, environment, settings, "subject", fault);
    }
    if (err != ERR_OK) {
        nats_sink_close(sink);
        return err;
    }
    *state = sink;
    return ERR_OK;
}

/* ---- a message ------------------------------------------------------------------------------- */

/* A header is a line. */
static natsStatus nats_sink_set_header(natsMsg *msg, const char *name, const char *value) {
    char line[1024];
    snprintf(line, sizeof line, "%s", value);
    for (char *at = line; *at; at++) {
        *at = (unsigned char)*at < ' ' ? ' ' : *at;
    }
    return natsMsgHeader_Set(msg, name, line);
}

static natsStatus nats_sink_set_headers(natsMsg *msg, const struct message *message,
                                        const char *node) {
    char qos[4], received_at[24];
    snprintf(qos, sizeof qos, "%d", message->qos);
    snprintf(received_at, sizeof received_at, "%lld", (long long)message->received_at_ms);
    const struct {
        const char *name, *value;
    } headers[] = {{"Mqtt-Id", message->id},
                   {"Mqtt-Client-Id", message->client_id},
                   {"Mqtt-Topic", message->topic},
                   {"Mqtt-Qos", qos},
                   {"Mqtt-Retain", message->retain ? "1" : "0"},
                   {"Mqtt-Received-At-Ms", received_at},
                   {"Mqtt-Node", node}};
    natsStatus status = NATS_OK;
    for (size_t i = 0; status == NATS_OK && i < sizeof headers / sizeof headers[0]; i++) {
        status = nats_sink_set_header(msg, headers[i].name, headers[i].value);
    }
    return status;
}

/* ERR_NOT_FOUND: rejected, the reason is set. */
static enum err nats_sink_make_subject(struct nats_sink *sink, struct sink_batch *batch,
                                       size_t index) {
    char reason[SINK_REASON_LEN];
    buffer_clear(&sink->subject_text);
    enum err err =
        sink_template_render(&sink->subject, batch->messages[index], &sink->subject_text, reason);
    if (err == ERR_NOT_FOUND) {
        sink_batch_reject(batch, index, "%s", reason);
    } else if (err == ERR_OK) {
        nats_subject_clean(&sink->subject_text);
    }
    return err;
}

static natsStatus nats_sink_make_message(struct nats_sink *sink, const struct message *message,
                                         natsMsg **out) {
    const char *body = (const char *)message->payload;
    size_t len = message->payload_len;
    if (sink->json) {
        buffer_clear(&sink->body);
        message_json_append(&sink->body, message, sink->node);
        body = sink->body.data;
        len = sink->body.len;
    }
    if (sink->body.failed || sink->subject_text.failed) {
        return NATS_NO_MEMORY;
    }
    natsStatus status = natsMsg_Create(out, sink->subject_text.data, NULL, body, (int)len);
    if (status == NATS_OK) {
        status = nats_sink_set_headers(*out, message, sink->node);
    }
    return status;
}

static enum err nats_sink_send(struct nats_sink *sink, struct sink_batch *batch, size_t index) {
    const struct message *message = batch->messages[index];
    char message_id[48];
    natsMsg *msg = NULL;
    enum err err = nats_sink_make_subject(sink, batch, index);
    if (err != ERR_OK) {
        return err == ERR_NOT_FOUND ? ERR_OK : sink_batch_fail(batch, err, "%s", err_name(err));
    }
    natsStatus status = nats_sink_make_message(sink, message, &msg);
    if (status != NATS_OK) {
        natsMsg_Destroy(msg);
        return sink_batch_fail(batch, ERR_MEMORY, "%s", natsStatus_GetText(status));
    }
    snprintf(message_id, sizeof message_id, "%s-%llu", message_process_id(),
             (unsigned long long)message->number);
    return nats_publisher_send(sink->publisher, index, msg, message_id);
}

static enum err nats_sink_write(void *state, struct sink_batch *batch) {
    struct nats_sink *sink = state;
    enum err err = nats_publisher_ensure_open(sink->publisher, batch);
    if (err != ERR_OK) {
        return err;
    }
    nats_publisher_begin(sink->publisher, batch);
    for (size_t i = 0; err == ERR_OK && i < batch->count; i++) {
        err = nats_sink_send(sink, batch, i);
    }
    enum err ended = nats_publisher_end(sink->publisher);
    return err == ERR_OK ? ended : err;
}

const struct sink_type sink_type_nats = {.version = MQFLEET_VERSION,
                                         .name = "nats",
                                         .fields = nats_sink_fields,
                                         .open = nats_sink_open,
                                         .write = nats_sink_write,
                                         .close = nats_sink_close};
