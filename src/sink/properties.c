/* Owns how the MQTT 5 properties of a message are written. Pure functions, any thread. Knows no
 * particular sink. */
#include "sink/properties.h"

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
