/* Owns the meaning of the fields of a dead letter, which sink/types/redis_stream writes. */
#include "dead_letter_entry.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "http/server/json.h"
#include "sink/properties.h"

#define PROPERTIES_MAX 1024
#define LABELS_MAX     256

/* Fields with a meaning of their own; every other one is a property of MQTT 5. */
static const char *const entry_fields[] = {"id",
                                           "client_id",
                                           "topic",
                                           "payload",
                                           "qos",
                                           "retain",
                                           "node",
                                           "received_at_ms",
                                           "broker",
                                           "labels",
                                           "dead_letter_sink",
                                           "dead_letter_reason",
                                           "dead_letter_at_ms",
                                           "user_properties",
                                           "subscription_identifier"};

static bool entry_is_property(const char *name) {
    for (size_t i = 0; i < sizeof entry_fields / sizeof entry_fields[0]; i++) {
        if (strcmp(entry_fields[i], name) == 0) {
            return false;
        }
    }
    return true;
}

static const char *entry_find(const struct dead_letters_page *page, size_t index, const char *name,
                              size_t *len) {
    size_t count = dead_letters_page_fields(page, index);
    for (size_t i = 0; i < count; i++) {
        const char *found, *value;
        dead_letters_page_field(page, index, i, &found, &value, len);
        if (strcmp(found, name) == 0) {
            return value;
        }
    }
    *len = 0;
    return NULL;
}

const char *dead_letter_entry_text(const struct dead_letters_page *page, size_t index,
                                   const char *name) {
    size_t len;
    const char *value = entry_find(page, index, name, &len);
    return value ? value : "";
}

static int64_t entry_number(const struct dead_letters_page *page, size_t index, const char *name) {
    return strtoll(dead_letter_entry_text(page, index, name), NULL, 10);
}

/* ---- the message ----------------------------------------------------------------------------- */

/* What a message is made of; the texts are borrowed from the page and from `user`. */
struct entry_parts {
    struct message message;
    struct message_property properties[PROPERTIES_MAX];
    char subscriptions[1024]; /* the list, cut into texts */
    json_t *user, *labels;
};

static void entry_add_property(struct entry_parts *parts, const struct message_property *property) {
    if (parts->message.property_count < PROPERTIES_MAX) {
        parts->properties[parts->message.property_count++] = *property;
    }
}

static void entry_add_other_properties(struct entry_parts *parts,
                                       const struct dead_letters_page *page, size_t index) {
    size_t count = dead_letters_page_fields(page, index);
    for (size_t i = 0; i < count; i++) {
        struct message_property property = {0};
        dead_letters_page_field(page, index, i, &property.name, &property.value,
                                &property.value_len);
        if (entry_is_property(property.name)) {
            entry_add_property(parts, &property);
        }
    }
}

/* "1,7" */
static void entry_add_subscriptions(struct entry_parts *parts, const char *list) {
    char *rest = parts->subscriptions;
    snprintf(rest, sizeof parts->subscriptions, "%s", list);
    for (char *at = strsep(&rest, ","); at; at = strsep(&rest, ",")) {
        if (*at != '\0') {
            entry_add_property(parts, &(struct message_property){.name = "subscription_identifier",
                                                                 .value = at,
                                                                 .value_len = strlen(at)});
        }
    }
}

/* [["name", "value"], ...] */
static void entry_add_user_properties(struct entry_parts *parts) {
    size_t i;
    json_t *pair;
    json_array_foreach(parts->user, i, pair) {
        const json_t *name = json_array_get(pair, 0), *value = json_array_get(pair, 1);
        if (json_is_string(name) && json_is_string(value)) {
            entry_add_property(parts,
                               &(struct message_property){.name = "user_property",
                                                          .key = json_string_value(name),
                                                          .value = json_string_value(value),
                                                          .value_len = json_string_length(value)});
        }
    }
}

/* Of the client; NULL also without memory: the templates then use their defaults. */
static struct message_origin *entry_make_origin(const json_t *labels, const char *broker) {
    struct message_label items[LABELS_MAX];
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)labels, name, value) {
        if (json_is_string(value) && count < LABELS_MAX) {
            items[count++] = (struct message_label){name, json_string_value(value)};
        }
    }
    return *broker ? message_origin_create(broker, items, count) : NULL;
}

static void entry_read_parts(struct entry_parts *parts, const struct dead_letters_page *page,
                             size_t index) {
    struct message *message = &parts->message;
    *message = (struct message){
        .id = dead_letter_entry_text(page, index, "id"),
        .client_id = dead_letter_entry_text(page, index, "client_id"),
        .topic = dead_letter_entry_text(page, index, "topic"),
        .properties = parts->properties,
        .received_at_ms = entry_number(page, index, "received_at_ms"),
        .received_us = clock_us(),
        .qos = (uint8_t)(entry_number(page, index, "qos") & 3),
        .retain = entry_number(page, index, "retain") != 0,
    };
    message->payload = (const uint8_t *)entry_find(page, index, "payload", &message->payload_len);
    parts->user =
        json_loads(dead_letter_entry_text(page, index, "user_properties"), JSON_ALLOW_NUL, NULL);
    parts->labels = json_loads(dead_letter_entry_text(page, index, "labels"), 0, NULL);
    entry_add_other_properties(parts, page, index);
    entry_add_subscriptions(parts, dead_letter_entry_text(page, index, "subscription_identifier"));
    entry_add_user_properties(parts);
}

enum err dead_letter_entry_message(const struct dead_letters_page *page, size_t index,
                                   struct message **out) {
    struct entry_parts *parts = calloc(1, sizeof *parts);
    enum err err = ERR_MEMORY;
    *out = NULL;
    if (!parts) {
        return err;
    }
    entry_read_parts(parts, page, index);
    err = parts->message.payload && *parts->message.id && *parts->message.topic ? ERR_OK
                                                                                : ERR_ARGUMENT;
    if (err == ERR_OK) {
        const char *broker = dead_letter_entry_text(page, index, "broker");
        parts->message.origin = entry_make_origin(parts->labels, broker);
        *out = message_create(&parts->message);
        message_origin_release(parts->message.origin);
        err = *out ? ERR_OK : ERR_MEMORY;
    }
    json_decref(parts->user);
    json_decref(parts->labels);
    free(parts);
    return err;
}

/* ---- the document ---------------------------------------------------------------------------- */

static int entry_set_text(json_t *document, const char *name, const struct dead_letters_page *page,
                          size_t index, const char *field) {
    return json_object_set_new(document, name,
                               http_json_string(dead_letter_entry_text(page, index, field)));
}

json_t *dead_letter_entry_json(const struct dead_letters_page *page, size_t index) {
    struct entry_parts *parts = calloc(1, sizeof *parts);
    json_t *document = json_object();
    if (!parts || !document) {
        free(parts);
        json_decref(document);
        return NULL;
    }
    entry_read_parts(parts, page, index);
    const struct message *message = &parts->message;
    int failed =
        json_object_set_new(document, "entry", http_json_string(dead_letters_page_id(page, index)));
    failed |= entry_set_text(document, "sink", page, index, "dead_letter_sink");
    failed |= entry_set_text(document, "reason", page, index, "dead_letter_reason");
    failed |= json_object_set_new(document, "rejected_at",
                                  http_json_time(entry_number(page, index, "dead_letter_at_ms")));
    failed |= entry_set_text(document, "client", page, index, "id");
    failed |= entry_set_text(document, "client_id", page, index, "client_id");
    failed |= entry_set_text(document, "topic", page, index, "topic");
    failed |= properties_set_bytes(document, "payload",
                                   message->payload ? (const char *)message->payload : "",
                                   message->payload_len);
    failed |= json_object_set_new(document, "size", json_integer((json_int_t)message->payload_len));
    failed |= json_object_set_new(document, "qos", json_integer(message->qos));
    failed |= json_object_set_new(document, "retain", json_boolean(message->retain));
    failed |= json_object_set_new(document, "received_at", http_json_time(message->received_at_ms));
    failed |= json_object_set_new(document, "properties", properties_json(message));
    json_decref(parts->user);
    json_decref(parts->labels);
    free(parts);
    if (failed != 0) {
        json_decref(document);
        return NULL;
    }
    return document;
}
