/* Owns the written form of the MQTT 5 properties of a message. Pure functions; any thread. */
#include "sink/properties.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"

json_t *properties_json_text(const char *text, size_t len) {
    if (text_is_utf8(text, len)) {
        return json_stringn(text, len);
    }
    char *ascii = text_copy(text, len);
    for (size_t i = 0; ascii && i < len; i++) {
        if ((unsigned char)ascii[i] >= 0x80) {
            ascii[i] = '?';
        }
    }
    json_t *value = ascii ? json_stringn(ascii, len) : NULL;
    free(ascii);
    return value;
}

bool properties_is_user(const struct message_property *property) {
    return property->key != NULL;
}

bool properties_is_subscription(const struct message_property *property) {
    return !property->key && strcmp(property->name, "subscription_identifier") == 0;
}

json_t *properties_user(const struct message *message) {
    json_t *array = json_array();
    for (size_t i = 0; array && i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        if (!properties_is_user(property)) {
            continue;
        }
        json_t *pair = json_array();
        json_t *name = properties_json_text(property->key, strlen(property->key));
        json_t *value = properties_json_text(property->value, property->value_len);
        bool ok = pair && json_array_append_new(pair, name) == 0 &&
                  json_array_append_new(pair, value) == 0 && json_array_append(array, pair) == 0;
        json_decref(pair);
        if (!ok) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

void properties_subscriptions(const struct message *message, struct buffer *out) {
    for (size_t i = 0; i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        if (properties_is_subscription(property)) {
            if (out->len > 0) {
                buffer_append_str(out, ",");
            }
            buffer_append(out, property->value, property->value_len);
        }
    }
}

int properties_set_bytes(json_t *object, const char *name, const void *value, size_t len) {
    char base64_name[64];
    if (text_is_utf8(value, len)) {
        return json_object_set_new(object, name, json_stringn(value, len));
    }
    snprintf(base64_name, sizeof base64_name, "%s_base64", name);
    char *encoded = text_base64_encode(value, len);
    int result = json_object_set_new(object, base64_name, encoded ? json_string(encoded) : NULL);
    free(encoded);
    return result;
}

static int properties_set_subscriptions(json_t *object, const struct message *message) {
    struct buffer list;
    buffer_init(&list);
    properties_subscriptions(message, &list);
    int result = list.failed ? -1 : 0;
    if (list.len > 0) {
        result |= properties_set_bytes(object, "subscription_identifier", list.data, list.len);
    }
    buffer_fini(&list);
    return result;
}

json_t *properties_json(const struct message *message) {
    json_t *properties = json_object();
    json_t *user = properties_user(message);
    int result = properties && user ? properties_set_subscriptions(properties, message) : -1;
    for (size_t i = 0; result == 0 && i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        if (!properties_is_user(property) && !properties_is_subscription(property)) {
            result = properties_set_bytes(properties, property->name, property->value,
                                          property->value_len);
        }
    }
    if (result == 0 && json_array_size(user) > 0) {
        result = json_object_set(properties, "user_properties", user);
    }
    json_decref(user);
    if (result != 0) {
        json_decref(properties);
        return NULL;
    }
    return properties;
}

json_t *properties_labels(const struct message *message) {
    json_t *object = json_object();
    const struct message_origin *origin = message->origin;
    int result = object ? 0 : -1;
    for (size_t i = 0; result == 0 && origin && i < origin->label_count; i++) {
        const char *value = origin->labels[i].value;
        result = json_object_set_new(object, origin->labels[i].name,
                                     properties_json_text(value, strlen(value)));
    }
    if (result != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}
