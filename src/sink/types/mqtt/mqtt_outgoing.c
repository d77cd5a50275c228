/* Owns the translation of received messages into publications. */
#include "mqtt_outgoing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/config/conf.h"
#include "base/system/clock.h"

#define US_PER_S        1000000
#define EXPIRY_PROPERTY "message_expiry_interval"

/* Those of a received message that a client may send. A subscription identifier and an alias belong
 * to the connection on which the message came. */
static const char *const outgoing_properties[] = {
    "payload_format_indicator", EXPIRY_PROPERTY,    "content_type",
    "response_topic",           "correlation_data", "user_property"};

/* ---- life ------------------------------------------------------------------------------------ */

/* A fleet without a name is told from others by its prefix in Redis. */
static const char *mqtt_outgoing_fleet(const struct sink_environment *environment) {
    const char *name = environment->conf->fleet_name;
    return *name ? name : environment->key_prefix;
}

static enum err mqtt_outgoing_set_names(struct mqtt_outgoing *outgoing,
                                        const struct sink_environment *environment,
                                        const struct client_config *config) {
    struct buffer target, via;
    buffer_init(&target);
    buffer_init(&via);
    buffer_printf(&target, "%s:%u", config->host, (unsigned)config->port);
    buffer_printf(&via, "%s/%s@%s:%u", mqtt_outgoing_fleet(environment), environment->sink,
                  config->host, (unsigned)config->port);
    outgoing->target = buffer_take(&target);
    outgoing->via = buffer_take(&via);
    return outgoing->target && outgoing->via ? ERR_OK : ERR_MEMORY;
}

enum err mqtt_outgoing_init(struct mqtt_outgoing *outgoing,
                            const struct sink_environment *environment, const json_t *settings,
                            const struct client_config *config, char *fault) {
    *outgoing = (struct mqtt_outgoing){
        .version = config->protocol_version,
        .qos = (uint8_t)sink_settings_integer(settings, "qos"),
        .keeps_retain = strcmp(sink_settings_text(settings, "retain"), "keep") == 0};
    buffer_init(&outgoing->topic_text);
    enum err err = sink_template_init(&outgoing->topic, environment, settings, "topic", fault);
    return err == ERR_OK ? mqtt_outgoing_set_names(outgoing, environment, config) : err;
}

void mqtt_outgoing_fini(struct mqtt_outgoing *outgoing) {
    sink_template_fini(&outgoing->topic);
    buffer_fini(&outgoing->topic_text);
    free(outgoing->properties);
    free(outgoing->target);
    free(outgoing->via);
}

/* ---- topic ----------------------------------------------------------------------------------- */

static enum mqtt_outgoing_result mqtt_outgoing_set_topic(struct mqtt_outgoing *outgoing,
                                                         const struct message *message,
                                                         char *reason) {
    buffer_clear(&outgoing->topic_text);
    enum err err = sink_template_render(&outgoing->topic, message, &outgoing->topic_text, reason);
    const struct buffer *text = &outgoing->topic_text;
    if (err == ERR_NOT_FOUND) {
        return MQTT_OUTGOING_REJECTED;
    }
    if (err != ERR_OK || text->failed) {
        return MQTT_OUTGOING_NO_MEMORY;
    }
    if (text->len == 0 || memchr(text->data, '\0', text->len)) {
        snprintf(reason, REJECTION_REASON_LEN, "topic: empty, or with U+0000");
        return MQTT_OUTGOING_REJECTED;
    }
    return MQTT_OUTGOING_MADE;
}

/* ---- properties ------------------------------------------------------------------------------ */

static bool mqtt_outgoing_is_forwarded(const struct message_property *property) {
    for (size_t i = 0; i < sizeof outgoing_properties / sizeof outgoing_properties[0]; i++) {
        if (strcmp(outgoing_properties[i], property->name) == 0) {
            return true;
        }
    }
    return false;
}

/* MQTT 5.0 section 3.3.2.3.3: less the time that the message has waited here. A message that has
 * expired meanwhile is sent with one second: it is the target that lets it expire. */
static void mqtt_outgoing_shorten_expiry(struct mqtt_outgoing *outgoing,
                                         const struct message *message,
                                         struct message_property *property) {
    long long waited_s = (clock_us() - message->received_us) / US_PER_S;
    snprintf(outgoing->expiry, sizeof outgoing->expiry, "%.*s",
             property->value_len < sizeof outgoing->expiry ? (int)property->value_len : 0,
             property->value);
    long long left_s = strtoll(outgoing->expiry, NULL, 10) - waited_s;
    snprintf(outgoing->expiry, sizeof outgoing->expiry, "%lld", left_s > 1 ? left_s : 1);
    property->value = outgoing->expiry;
    property->value_len = strlen(outgoing->expiry);
}

static bool mqtt_outgoing_reserve(struct mqtt_outgoing *outgoing, size_t count) {
    if (count <= outgoing->property_capacity) {
        return true;
    }
    struct message_property *grown =
        reallocarray(outgoing->properties, count, sizeof *outgoing->properties);
    if (grown) {
        outgoing->properties = grown;
        outgoing->property_capacity = count;
    }
    return grown != NULL;
}

/* Returns how many there are. */
static size_t mqtt_outgoing_set_properties(struct mqtt_outgoing *outgoing,
                                           const struct message *message) {
    size_t count = 0;
    for (size_t i = 0; i < message->property_count; i++) {
        if (!mqtt_outgoing_is_forwarded(&message->properties[i])) {
            continue;
        }
        struct message_property *property = &outgoing->properties[count++];
        *property = message->properties[i];
        if (strcmp(property->name, EXPIRY_PROPERTY) == 0) {
            mqtt_outgoing_shorten_expiry(outgoing, message, property);
        }
    }
    outgoing->properties[count++] = (struct message_property){.name = "user_property",
                                                              .key = MQTT_OUTGOING_VIA,
                                                              .value = outgoing->via,
                                                              .value_len = strlen(outgoing->via)};
    return count;
}

/* ---- loops ----------------------------------------------------------------------------------- */

static bool mqtt_outgoing_was_here(const struct mqtt_outgoing *outgoing,
                                   const struct message *message) {
    size_t len = strlen(outgoing->via);
    for (size_t i = 0; i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        if (property->key && strcmp(property->key, MQTT_OUTGOING_VIA) == 0 &&
            property->value_len == len && memcmp(property->value, outgoing->via, len) == 0) {
            return true;
        }
    }
    return false;
}

static bool mqtt_outgoing_returns(const struct mqtt_outgoing *outgoing,
                                  const struct message *message) {
    return outgoing->version == 4 && message->origin && message->origin->broker &&
           strcmp(message->origin->broker, outgoing->target) == 0 &&
           strcmp(message->topic, outgoing->topic_text.data) == 0;
}

enum mqtt_outgoing_result mqtt_outgoing_make(struct mqtt_outgoing *outgoing,
                                             const struct message *message,
                                             struct engine_publication *out, char *reason) {
    if (mqtt_outgoing_was_here(outgoing, message)) {
        return MQTT_OUTGOING_LOOP;
    }
    enum mqtt_outgoing_result result = mqtt_outgoing_set_topic(outgoing, message, reason);
    if (result != MQTT_OUTGOING_MADE) {
        return result;
    }
    if (mqtt_outgoing_returns(outgoing, message)) {
        snprintf(reason, REJECTION_REASON_LEN,
                 "loop: it would return to its own broker with its own topic");
        return MQTT_OUTGOING_REJECTED;
    }
    if (!mqtt_outgoing_reserve(outgoing, message->property_count + 1)) {
        return MQTT_OUTGOING_NO_MEMORY;
    }
    *out = (struct engine_publication){.topic = outgoing->topic_text.data,
                                       .payload = message->payload,
                                       .payload_len = message->payload_len,
                                       .qos = outgoing->qos,
                                       .retain = outgoing->keeps_retain && message->retain,
                                       .properties = outgoing->properties};
    out->property_count =
        outgoing->version == 5 ? mqtt_outgoing_set_properties(outgoing, message) : 0;
    return MQTT_OUTGOING_MADE;
}
