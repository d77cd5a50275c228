/* Owns the table of the fields of a publication. Read-only; any thread. */
#include "http/api/clients/publication.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "http/server/json.h"
#include "message/topic.h"

#define EXPIRY_MAX 4294967295 /* four bytes: MQTT 5.0 section 3.3.2.3.3 */

typedef void publication_read(struct publication_input *parsed, const char *pointer, json_t *value);

static struct message_property *publication_add_property(struct publication_input *parsed,
                                                         const char *pointer, const char *name) {
    if (parsed->publication.property_count == PUBLICATION_PROPERTIES_MAX) {
        http_fault_add(&parsed->faults, pointer, "too many properties, at most %d",
                       PUBLICATION_PROPERTIES_MAX);
        return NULL;
    }
    if (parsed->publication.property_count == 0) {
        snprintf(parsed->property_pointer, sizeof(parsed->property_pointer), "%.63s", pointer);
    }
    struct message_property *property = &parsed->properties[parsed->publication.property_count++];
    *property = (struct message_property){.name = name};
    return property;
}

/* MQTT strings; NULL: a fault was noted. */
static const char *publication_read_string(struct publication_input *parsed, const char *pointer,
                                           const json_t *value) {
    if (!json_is_string(value)) {
        http_fault_add(&parsed->faults, pointer, "must be a string");
    } else if (!text_is_mqtt_string(json_string_value(value), json_string_length(value))) {
        http_fault_add(&parsed->faults, pointer,
                       "must be well-formed UTF-8 without U+0000, at most 65535 bytes");
    } else {
        return json_string_value(value);
    }
    return NULL;
}

static void publication_read_topic(struct publication_input *parsed, const char *pointer,
                                   json_t *value) {
    if (!json_is_string(value)) {
        http_fault_add(&parsed->faults, pointer, "must be a string");
        return;
    }
    const char *fault = topic_name_fault(json_string_value(value), json_string_length(value));
    if (fault) {
        http_fault_add(&parsed->faults, pointer, "%s", fault);
    }
    parsed->publication.topic = json_string_value(value);
}

static void publication_read_payload(struct publication_input *parsed, const char *pointer,
                                     json_t *value) {
    if (!json_is_string(value)) {
        http_fault_add(&parsed->faults, pointer, "must be a string; use payload_base64 for bytes");
        return;
    }
    parsed->publication.payload = (const uint8_t *)json_string_value(value);
    parsed->publication.payload_len = json_string_length(value);
}

static enum err publication_decode_base64(const json_t *value, uint8_t **out, size_t *out_len) {
    *out = NULL;
    return json_is_string(value) ? text_base64_decode(json_string_value(value),
                                                      json_string_length(value), out, out_len)
                                 : ERR_ARGUMENT;
}

static void publication_read_payload_base64(struct publication_input *parsed, const char *pointer,
                                            json_t *value) {
    if (publication_decode_base64(value, &parsed->payload, &parsed->publication.payload_len) !=
        ERR_OK) {
        http_fault_add(&parsed->faults, pointer, "must be base64 (RFC 4648 section 4)");
        return;
    }
    parsed->publication.payload = parsed->payload;
}

static void publication_read_qos(struct publication_input *parsed, const char *pointer,
                                 json_t *value) {
    json_int_t qos = json_is_integer(value) ? json_integer_value(value) : -1;
    if (qos < 0 || qos > 2) {
        http_fault_add(&parsed->faults, pointer, "must be 0, 1 or 2");
        return;
    }
    parsed->publication.qos = (uint8_t)qos;
}

static void publication_read_retain(struct publication_input *parsed, const char *pointer,
                                    json_t *value) {
    if (!json_is_boolean(value)) {
        http_fault_add(&parsed->faults, pointer, "must be true or false");
    }
    parsed->publication.retain = json_is_true(value);
}

static void publication_add_text_property(struct publication_input *parsed, const char *pointer,
                                          const char *name, const char *text) {
    struct message_property *property =
        text ? publication_add_property(parsed, pointer, name) : NULL;
    if (property) {
        property->value = text;
        property->value_len = strlen(text);
    }
}

static void publication_read_content_type(struct publication_input *parsed, const char *pointer,
                                          json_t *value) {
    publication_add_text_property(parsed, pointer, "content_type",
                                  publication_read_string(parsed, pointer, value));
}

static void publication_read_response_topic(struct publication_input *parsed, const char *pointer,
                                            json_t *value) {
    const char *topic = publication_read_string(parsed, pointer, value);
    const char *fault = topic ? topic_name_fault(topic, strlen(topic)) : NULL;
    if (fault) {
        http_fault_add(&parsed->faults, pointer, "%s", fault);
        return;
    }
    publication_add_text_property(parsed, pointer, "response_topic", topic);
}

static void publication_read_correlation_data(struct publication_input *parsed, const char *pointer,
                                              json_t *value) {
    size_t len = 0;
    if (parsed->correlation ||
        publication_decode_base64(value, &parsed->correlation, &len) != ERR_OK || len > 65535) {
        http_fault_add(&parsed->faults, pointer,
                       "must occur once and be base64 of at most 65535 bytes");
        return;
    }
    struct message_property *property =
        publication_add_property(parsed, pointer, "correlation_data");
    if (property) {
        property->value = (const char *)parsed->correlation;
        property->value_len = len;
    }
}

static void publication_read_number(struct publication_input *parsed, const char *pointer,
                                    const char *name, json_t *value, json_int_t most,
                                    char number[24]) {
    json_int_t given = json_is_integer(value) ? json_integer_value(value) : -1;
    if (given < 0 || given > most) {
        http_fault_add(&parsed->faults, pointer, "must be a number from 0 to %lld",
                       (long long)most);
        return;
    }
    snprintf(number, 24, "%lld", (long long)given);
    publication_add_text_property(parsed, pointer, name, number);
}

static void publication_read_payload_format(struct publication_input *parsed, const char *pointer,
                                            json_t *value) {
    publication_read_number(parsed, pointer, "payload_format_indicator", value, 1,
                            parsed->numbers[0]);
}

static void publication_read_expiry(struct publication_input *parsed, const char *pointer,
                                    json_t *value) {
    publication_read_number(parsed, pointer, "message_expiry_interval", value, EXPIRY_MAX,
                            parsed->numbers[1]);
}

/* at: of the value; pointer: of all of them. */
static void publication_add_user_property(struct publication_input *parsed, const char *pointer,
                                          const char *at, const char *name, const json_t *value) {
    const char *text = publication_read_string(parsed, at, value);
    if (!text_is_mqtt_string(name, strlen(name))) {
        http_fault_add(&parsed->faults, pointer, "a name must have at most 65535 bytes");
        return;
    }
    struct message_property *property =
        text ? publication_add_property(parsed, pointer, "user_property") : NULL;
    if (property) {
        property->key = name;
        property->value = text;
        property->value_len = strlen(text);
    }
}

/* {"name": "value"}, or [{"name","value"}] if a name occurs more than once. */
static void publication_read_user_properties(struct publication_input *parsed, const char *pointer,
                                             json_t *value) {
    const char *name;
    json_t *item;
    size_t index;
    char at[128];
    if (json_is_object(value)) {
        json_object_foreach(value, name, item) {
            snprintf(at, sizeof(at), "%.32s/%.80s", pointer, name);
            publication_add_user_property(parsed, pointer, at, name, item);
        }
        return;
    }
    if (!json_is_array(value)) {
        http_fault_add(&parsed->faults, pointer,
                       "must be an object, or an array of name and value");
        return;
    }
    json_array_foreach(value, index, item) {
        snprintf(at, sizeof(at), "%.32s/%zu", pointer, index);
        const char *given = json_string_value(json_object_get(item, "name"));
        if (!given || json_object_size(item) != 2) {
            http_fault_add(&parsed->faults, at, "must be an object of name and value");
        } else {
            publication_add_user_property(parsed, pointer, at, given,
                                          json_object_get(item, "value"));
        }
    }
}

static publication_read publication_read_properties;

struct field_row {
    const char *name;
    publication_read *read;
};

static const struct field_row publication_fields[] = {
    {"topic", publication_read_topic},
    {"payload", publication_read_payload},
    {"payload_base64", publication_read_payload_base64},
    {"qos", publication_read_qos},
    {"retain", publication_read_retain},
    {"properties", publication_read_properties},
    {NULL, NULL},
};

/* Allowed both at the top level and under "properties". */
static const struct field_row publication_property_fields[] = {
    {"content_type", publication_read_content_type},
    {"response_topic", publication_read_response_topic},
    {"correlation_data", publication_read_correlation_data},
    {"payload_format_indicator", publication_read_payload_format},
    {"message_expiry_interval", publication_read_expiry},
    {"user_properties", publication_read_user_properties},
    {NULL, NULL},
};

static const struct field_row *publication_find_field(const struct field_row *rows,
                                                      const char *name) {
    for (; rows->name; rows++) {
        if (strcmp(rows->name, name) == 0) {
            return rows;
        }
    }
    return NULL;
}

static void publication_read_object(struct publication_input *parsed, const char *prefix,
                                    json_t *object, const struct field_row *more) {
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        char pointer[128];
        snprintf(pointer, sizeof(pointer), "%s/%.64s", prefix, name);
        const struct field_row *row = publication_find_field(publication_property_fields, name);
        row = !row && more ? publication_find_field(more, name) : row;
        if (!row) {
            http_fault_add(&parsed->faults, pointer, "there is no such field");
        } else {
            row->read(parsed, pointer, value);
        }
    }
}

static void publication_read_properties(struct publication_input *parsed, const char *pointer,
                                        json_t *value) {
    if (!json_is_object(value)) {
        http_fault_add(&parsed->faults, pointer, "must be an object");
        return;
    }
    publication_read_object(parsed, pointer, value, NULL);
}

struct publication_input *publication_parse(json_t *document) {
    struct publication_input *parsed = calloc(1, sizeof *parsed);
    if (!parsed) {
        return NULL;
    }
    parsed->publication.properties = parsed->properties;
    publication_read_object(parsed, "", document, publication_fields);
    if (!json_object_get(document, "topic")) {
        http_fault_add(&parsed->faults, "/topic", "is required");
    }
    const json_t *text = json_object_get(document, "payload");
    const json_t *bytes = json_object_get(document, "payload_base64");
    if (text && bytes) {
        http_fault_add(&parsed->faults, "/payload_base64",
                       "must be omitted if the other payload is present");
    } else if (!text && !bytes) {
        http_fault_add(
            &parsed->faults, "/payload",
            "is required, unless payload_base64 is present; \"\" is an empty message, which "
            "with retain clears the retained message");
    }
    return parsed;
}

void publication_destroy(struct publication_input *input) {
    if (!input) {
        return;
    }
    free(input->payload);
    free(input->correlation);
    free(input);
}
