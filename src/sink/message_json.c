/* Owns the JSON of a message. Written directly and not as a jansson value, because it is made for
 * every message. Pure functions; any thread. */
#include "sink/message_json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json_text.h"
#include "base/system/json_memory.h"
#include "base/text.h"
#include "sink/properties.h"

static void message_json_append_named(struct buffer *out, const char *name, const char *text) {
    buffer_append_str(out, name);
    json_text_append(out, text, strlen(text));
}

static void message_json_append_payload(struct buffer *out, const struct message *message) {
    const char *payload = (const char *)message->payload;
    if (text_is_utf8(payload, message->payload_len)) {
        buffer_append_str(out, ",\"payload\":\"");
        json_text_append_contents(out, payload, message->payload_len);
    } else {
        char *encoded = text_base64_encode(payload, message->payload_len);
        buffer_append_str(out, ",\"payload_base64\":\"");
        buffer_append_str(out, encoded ? encoded : "");
        out->failed |= !encoded;
        free(encoded);
    }
    buffer_append(out, "\"", 1);
}

static void message_json_append_properties(struct buffer *out, const struct message *message) {
    if (message->property_count == 0) {
        return;
    }
    json_t *properties = properties_json(message);
    char *text = properties ? json_to_text(properties, JSON_COMPACT) : NULL;
    json_decref(properties);
    buffer_append_str(out, ",\"properties\":");
    buffer_append_str(out, text ? text : "");
    out->failed |= !text;
    free(text);
}

/* Of a dead letter. */
static void message_json_append_rejection(struct buffer *out, const struct message *message) {
    const struct rejection *rejection = message->rejection;
    char at[64];
    if (!rejection) {
        return;
    }
    message_json_append_named(out, ",\"dead_letter\":{\"sink\":", rejection->sink);
    message_json_append_named(out, ",\"reason\":", rejection->reason);
    snprintf(at, sizeof at, ",\"rejected_at_ms\":%lld}", (long long)rejection->rejected_at_ms);
    buffer_append_str(out, at);
}

void message_json_append_fields(struct buffer *out, const struct message *message,
                                const char *node) {
    char numbers[64];
    message_json_append_named(out, "\"id\":", message->id);
    message_json_append_named(out, ",\"client_id\":", message->client_id);
    message_json_append_named(out, ",\"topic\":", message->topic);
    message_json_append_payload(out, message);
    snprintf(numbers, sizeof numbers, ",\"qos\":%u,\"retain\":%s", message->qos,
             message->retain ? "true" : "false");
    buffer_append_str(out, numbers);
    message_json_append_named(out, ",\"node\":", node);
    snprintf(numbers, sizeof numbers, ",\"received_at_ms\":%lld",
             (long long)message->received_at_ms);
    buffer_append_str(out, numbers);
    message_json_append_properties(out, message);
    message_json_append_rejection(out, message);
}

void message_json_append(struct buffer *out, const struct message *message, const char *node) {
    buffer_append(out, "{", 1);
    message_json_append_fields(out, message, node);
    buffer_append(out, "}", 1);
}
