/* Owns the templates of a record, and the memory of the last one. */
#include "kafka_record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sink/properties.h"
#include "sink/sink_template.h"

#define KAFKA_HEADERS_MAX 64
#define KAFKA_TOPIC_MAX   249

struct kafka_part {
    struct template *template;
    const char *constant; /* its text, if it has no part of a message */
    bool payload;         /* exactly the payload, which is not copied */
    struct buffer text;
};

struct kafka_header {
    const char *name;
    struct template *template;
};

struct kafka_shape {
    const char *node;
    bool standard_headers;
    struct kafka_part topic, key, value;
    struct kafka_header headers[KAFKA_HEADERS_MAX];
    size_t header_count;
    struct buffer text; /* of one header */
};

/* ---- templates ------------------------------------------------------------------------------- */

static enum err kafka_shape_compile_part(struct kafka_part *part, const json_t *settings,
                                         const char *field, char *fault) {
    const char *text = sink_settings_text(settings, field);
    buffer_init(&part->text);
    part->payload = strcmp(text, "{payload}") == 0;
    enum err err = sink_template_compile(&part->template, field, text, fault);
    part->constant = err == ERR_OK ? template_constant(part->template) : NULL;
    return err;
}

static enum err kafka_shape_compile_headers(struct kafka_shape *shape, const json_t *settings,
                                            char *fault) {
    const json_t *headers = sink_settings_json(settings, "headers");
    const char *name;
    json_t *value;
    if (json_object_size(headers) > KAFKA_HEADERS_MAX) {
        snprintf(fault, SINK_FAULT_LEN, "headers must be at most %d", KAFKA_HEADERS_MAX);
        return ERR_ARGUMENT;
    }
    json_object_foreach((json_t *)headers, name, value) {
        struct kafka_header *header = &shape->headers[shape->header_count];
        enum err err =
            sink_template_compile(&header->template, "headers", json_string_value(value), fault);
        if (err != ERR_OK) {
            return err;
        }
        header->name = name;
        shape->header_count++;
    }
    return ERR_OK;
}

#define KAFKA_TOPIC_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

/* By Kafka's rules; "" if it is valid. */
static const char *kafka_topic_fault(const char *topic) {
    size_t len = strlen(topic);
    if (len == 0 || len > KAFKA_TOPIC_MAX || strcmp(topic, ".") == 0 || strcmp(topic, "..") == 0) {
        return "must have 1 to 249 characters, and not be \".\" or \"..\"";
    }
    size_t valid = strspn(topic, KAFKA_TOPIC_BYTES);
    return valid == len ? "" : "may have letters, digits, \".\", \"_\" and \"-\" only";
}

/* The same for a template that compiles: no message makes its own text valid. */
static const char *kafka_topic_template_fault(const char *text) {
    const char *at = text;
    while (at && *at && (*at == '{' || strchr(KAFKA_TOPIC_BYTES, *at))) {
        at = *at != '{' ? at + 1 : at[1] != '{' ? strchr(at, '}') + 1 : NULL;
    }
    return at && *at == '\0' ? "" : kafka_topic_fault(" ");
}

static enum err kafka_shape_fill(struct kafka_shape *shape, const json_t *settings, char *fault) {
    enum err err = kafka_shape_compile_part(&shape->topic, settings, "topic", fault);
    if (err == ERR_OK) {
        err = kafka_shape_compile_part(&shape->key, settings, "key", fault);
    }
    if (err == ERR_OK) {
        err = kafka_shape_compile_part(&shape->value, settings, "value", fault);
    }
    if (err == ERR_OK) {
        err = kafka_shape_compile_headers(shape, settings, fault);
    }
    if (err != ERR_OK) {
        return err;
    }
    const char *why = shape->topic.constant
                          ? kafka_topic_fault(shape->topic.constant)
                          : kafka_topic_template_fault(sink_settings_text(settings, "topic"));
    if (*why) {
        snprintf(fault, SINK_FAULT_LEN, "topic %s", why);
        return ERR_ARGUMENT;
    }
    return ERR_OK;
}

enum err kafka_shape_create(struct kafka_shape **out, const json_t *settings, const char *node,
                            char *fault) {
    struct kafka_shape *shape = calloc(1, sizeof *shape);
    if (!shape) {
        return ERR_MEMORY;
    }
    shape->node = node;
    shape->standard_headers = sink_settings_boolean(settings, "standard_headers");
    buffer_init(&shape->text);
    enum err err = kafka_shape_fill(shape, settings, fault);
    if (err != ERR_OK) {
        kafka_shape_destroy(shape);
        return err;
    }
    *out = shape;
    return ERR_OK;
}

static void kafka_part_fini(struct kafka_part *part) {
    template_destroy(part->template);
    buffer_fini(&part->text);
}

void kafka_shape_destroy(struct kafka_shape *shape) {
    if (!shape) {
        return;
    }
    kafka_part_fini(&shape->topic);
    kafka_part_fini(&shape->key);
    kafka_part_fini(&shape->value);
    for (size_t i = 0; i < shape->header_count; i++) {
        template_destroy(shape->headers[i].template);
    }
    buffer_fini(&shape->text);
    free(shape);
}

/* ---- headers --------------------------------------------------------------------------------- */

static int kafka_header_add(rd_kafka_headers_t *headers, const char *name, const void *value,
                            size_t len) {
    return rd_kafka_header_add(headers, name, -1, value, (ssize_t)len) !=
           RD_KAFKA_RESP_ERR_NO_ERROR;
}

static int kafka_header_add_text(rd_kafka_headers_t *headers, const char *name, const char *value) {
    return kafka_header_add(headers, name, value, strlen(value));
}

static int kafka_header_add_number(rd_kafka_headers_t *headers, const char *name, int64_t value) {
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)value);
    return kafka_header_add(headers, name, text, (size_t)len);
}

/* A user property has a prefix: it must not look like a header of the node. */
static int kafka_header_add_property(struct kafka_shape *shape, rd_kafka_headers_t *headers,
                                     const struct message_property *property) {
    if (!properties_is_user(property)) {
        return kafka_header_add(headers, property->name, property->value, property->value_len);
    }
    buffer_clear(&shape->text);
    buffer_append_str(&shape->text, "user.");
    buffer_append_str(&shape->text, property->key);
    return shape->text.failed ||
           kafka_header_add(headers, shape->text.data, property->value, property->value_len);
}

/* By it, a consumer recognizes a message that it has read before. */
static int kafka_header_add_message_id(struct kafka_shape *shape, rd_kafka_headers_t *headers,
                                       struct message_view *view) {
    static const struct message_name number = {.part = MESSAGE_NUMBER};
    buffer_clear(&shape->text);
    return message_view_append(view, &number, &shape->text) != ERR_OK ||
           kafka_header_add(headers, "message_id", shape->text.data, shape->text.len);
}

static int kafka_header_add_standard(struct kafka_shape *shape, rd_kafka_headers_t *headers,
                                     struct message_view *view) {
    const struct message *message = view->message;
    int failed = kafka_header_add_message_id(shape, headers, view);
    failed |= kafka_header_add_text(headers, "id", message->id);
    failed |= kafka_header_add_text(headers, "client_id", message->client_id);
    failed |= kafka_header_add_text(headers, "topic", message->topic);
    failed |= kafka_header_add_number(headers, "qos", message->qos);
    failed |= kafka_header_add_text(headers, "retain", message->retain ? "1" : "0");
    failed |= kafka_header_add_number(headers, "received_at_ms", message->received_at_ms);
    failed |= kafka_header_add_text(headers, "node", shape->node);
    for (size_t i = 0; i < message->property_count; i++) {
        failed |= kafka_header_add_property(shape, headers, &message->properties[i]);
    }
    return failed;
}

static enum err kafka_header_add_own(struct kafka_shape *shape, rd_kafka_headers_t *headers,
                                     struct message_view *view, char *missing) {
    for (size_t i = 0; i < shape->header_count; i++) {
        buffer_clear(&shape->text);
        enum err err = template_render(shape->headers[i].template, view, &shape->text, missing);
        if (err != ERR_OK) {
            return err;
        }
        const char *value = shape->text.data ? shape->text.data : "";
        if (kafka_header_add(headers, shape->headers[i].name, value, shape->text.len)) {
            return ERR_MEMORY;
        }
    }
    return ERR_OK;
}

static enum err kafka_record_add_headers(struct kafka_shape *shape, struct message_view *view,
                                         struct kafka_record *out, char *missing) {
    if (!shape->standard_headers && shape->header_count == 0) {
        return ERR_OK;
    }
    out->headers = rd_kafka_headers_new(8 + view->message->property_count + shape->header_count);
    if (!out->headers) {
        return ERR_MEMORY;
    }
    if (shape->standard_headers && kafka_header_add_standard(shape, out->headers, view)) {
        return ERR_MEMORY;
    }
    return kafka_header_add_own(shape, out->headers, view, missing);
}

/* ---- a record -------------------------------------------------------------------------------- */

static enum err kafka_part_render(struct kafka_part *part, struct message_view *view,
                                  const void **out, size_t *len, char *missing) {
    if (part->payload) {
        *out = view->message->payload ? (const void *)view->message->payload : "";
        *len = view->message->payload_len;
        return ERR_OK;
    }
    if (part->constant) {
        *out = part->constant;
        *len = strlen(part->constant);
        return ERR_OK;
    }
    buffer_clear(&part->text);
    enum err err = template_render(part->template, view, &part->text, missing);
    *out = part->text.data ? part->text.data : "";
    *len = part->text.len;
    return err;
}

static enum err kafka_record_render(struct kafka_shape *shape, struct message_view *view,
                                    struct kafka_record *out, char *missing) {
    const void *topic = "";
    size_t topic_len = 0;
    enum err err = kafka_part_render(&shape->topic, view, &topic, &topic_len, missing);
    out->topic = topic;
    if (err == ERR_OK) {
        err = kafka_part_render(&shape->key, view, &out->key, &out->key_len, missing);
    }
    if (err == ERR_OK) {
        err = kafka_part_render(&shape->value, view, &out->value, &out->value_len, missing);
    }
    if (err == ERR_OK && !shape->topic.constant &&
        (strlen(out->topic) != topic_len || *kafka_topic_fault(out->topic))) {
        snprintf(missing, MESSAGE_FAULT_LEN, "the topic %.60s is not valid: it %s", out->topic,
                 kafka_topic_fault(out->topic));
        err = ERR_NOT_FOUND;
    }
    return err == ERR_OK ? kafka_record_add_headers(shape, view, out, missing) : err;
}

enum err kafka_record_make(struct kafka_shape *shape, const struct message *message,
                           struct kafka_record *out, char *reason) {
    char missing[MESSAGE_FAULT_LEN] = "";
    struct message_view view;
    *out = (struct kafka_record){.timestamp_ms = message->received_at_ms};
    message_view_init(&view, message, shape->node);
    enum err err = kafka_record_render(shape, &view, out, missing);
    message_view_fini(&view);
    if (err != ERR_OK && out->headers) {
        rd_kafka_headers_destroy(out->headers);
        out->headers = NULL;
    }
    snprintf(reason, SINK_REASON_LEN, "%.150s", missing);
    return err;
}
