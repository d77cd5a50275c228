/* Owns SUBSCRIBE, UNSUBSCRIBE and PUBLISH of the Paho engine: the translation of the worker's
 * requests into Paho's. Runs on the worker thread. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <MQTTAsync.h>
#include <utlist.h>
#include "mqtt/config/subscriptions.h"
#include "paho.h"

static enum err paho_request_result(int rc) {
    switch (rc) {
    case MQTTASYNC_SUCCESS:
    case PAHO_NOT_STORED:
        return ERR_OK;
    case MQTTASYNC_DISCONNECTED:
        return ERR_UNAVAILABLE;
    case MQTTASYNC_NO_MORE_MSGIDS:
    case MQTTASYNC_MAX_BUFFERED_MESSAGES:
    case MQTTASYNC_MAX_MESSAGES_INFLIGHT:
        return ERR_FULL;
    case MQTTASYNC_BAD_UTF8_STRING:
    case MQTTASYNC_BAD_QOS:
        return ERR_ARGUMENT;
    default:
        return ERR_IO;
    }
}

/* The expected codes, and a row per packet. */
static enum err paho_request_expect_codes(struct engine_connection *connection, size_t n,
                                          size_t per_packet) {
    uint8_t *codes = calloc(n, 1);
    struct paho_subscribe *subscribes = calloc(n, sizeof *subscribes);
    if (!codes || !subscribes) {
        free(codes);
        free(subscribes);
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        subscribes[i] = (struct paho_subscribe){connection, i, per_packet};
    }
    pthread_mutex_lock(&connection->engine->lock);
    free(connection->codes);
    free(connection->subscribes);
    connection->codes = codes;
    connection->code_count = connection->codes_missing = n;
    connection->subscribes = subscribes;
    pthread_mutex_unlock(&connection->engine->lock);
    return ERR_OK;
}

/* In MQTT 3.1.1, Paho returns the codes of a SUBACK without their number, and a broker may send
 * fewer than requested. So each filter gets its own packet, all at once. */
static enum err paho_request_subscribe_one_by_one(struct engine_connection *connection,
                                                  const struct client_subscription *subscriptions,
                                                  size_t n) {
    enum err err = paho_request_expect_codes(connection, n, 1);
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
        paho_fill_subscribe_options(&connection->subscribes[i], &response);
        err = paho_request_result(MQTTAsync_subscribe(connection->handle, subscriptions[i].filter,
                                                      subscriptions[i].qos, &response));
    }
    return err;
}

static enum err paho_request_subscribe_together(struct engine_connection *connection,
                                                const struct client_subscription *subscriptions,
                                                size_t n) {
    enum err err = paho_request_expect_codes(connection, n, n);
    if (err != ERR_OK) {
        return err;
    }
    char *filters[SUBSCRIBE_FILTERS_MAX];
    int qos[SUBSCRIBE_FILTERS_MAX];
    MQTTSubscribe_options options[SUBSCRIBE_FILTERS_MAX];
    for (size_t i = 0; i < n; i++) {
        filters[i] = subscriptions[i].filter;
        qos[i] = subscriptions[i].qos;
        options[i] = (MQTTSubscribe_options)MQTTSubscribe_options_initializer;
        options[i].noLocal = subscriptions[i].no_local;
        options[i].retainAsPublished = subscriptions[i].retain_as_published;
        options[i].retainHandling = subscriptions[i].retain_handling == RETAIN_HANDLING_STANDARD
                                        ? 0
                                        : subscriptions[i].retain_handling;
    }
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
    paho_fill_subscribe_options(&connection->subscribes[0], &response);
    response.subscribeOptions = options[0];
    response.subscribeOptionsCount = n > 1 ? (int)n : 0;
    response.subscribeOptionsList = n > 1 ? options : NULL;
    if (subscriptions[0].identifier > 0) {
        MQTTProperty identifier = {.identifier = MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIER,
                                   .value.integer4 = subscriptions[0].identifier};
        MQTTProperties_add(&response.properties, &identifier);
    }
    int rc = MQTTAsync_subscribeMany(connection->handle, (int)n, filters, qos, &response);
    MQTTProperties_free(&response.properties);
    return paho_request_result(rc);
}

enum err paho_subscribe(struct engine_connection *connection,
                        const struct client_subscription *subscriptions, size_t *n) {
    assert(*n > 0 && *n <= SUBSCRIBE_FILTERS_MAX);
    if (connection->phase != PAHO_UP) {
        return ERR_WRONG_STATE;
    }
    *n = subscriptions_fit(subscriptions, *n, connection->protocol_version,
                           connection->server_packet_max);
    if (*n == 0) {
        return ERR_ARGUMENT;
    }
    paho_call_begin(connection->engine);
    enum err err = connection->protocol_version == 5
                       ? paho_request_subscribe_together(connection, subscriptions, *n)
                       : paho_request_subscribe_one_by_one(connection, subscriptions, *n);
    paho_call_end(connection->engine);
    return err;
}

enum err paho_unsubscribe(struct engine_connection *connection, char *const *filters, size_t *n) {
    assert(*n > 0 && *n <= SUBSCRIBE_FILTERS_MAX);
    if (connection->phase != PAHO_UP) {
        return ERR_WRONG_STATE;
    }
    *n = filters_fit(filters, *n, connection->protocol_version, connection->server_packet_max);
    if (*n == 0) {
        return ERR_ARGUMENT;
    }
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
    paho_fill_unsubscribe_options(connection, &response);
    paho_call_begin(connection->engine);
    int rc = MQTTAsync_unsubscribeMany(connection->handle, (int)*n, filters, &response);
    paho_call_end(connection->engine);
    return paho_request_result(rc);
}

static const struct paho_property_kind {
    const char *name;
    enum MQTTPropertyCodes code;
} paho_property_kinds[] = {
    {"payload_format_indicator", MQTTPROPERTY_CODE_PAYLOAD_FORMAT_INDICATOR},
    {"message_expiry_interval", MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL},
    {"content_type", MQTTPROPERTY_CODE_CONTENT_TYPE},
    {"response_topic", MQTTPROPERTY_CODE_RESPONSE_TOPIC},
    {"correlation_data", MQTTPROPERTY_CODE_CORRELATION_DATA},
    {"user_property", MQTTPROPERTY_CODE_USER_PROPERTY},
};

static void paho_request_add_property(MQTTProperties *properties, enum MQTTPropertyCodes code,
                                      const struct message_property *from) {
    MQTTProperty property = {.identifier = code};
    MQTTLenString value = {(int)from->value_len, (char *)(uintptr_t)from->value};
    switch (MQTTProperty_getType(code)) {
    case MQTTPROPERTY_TYPE_BYTE:
        property.value.byte = (unsigned char)strtoul(from->value, NULL, 10);
        break;
    case MQTTPROPERTY_TYPE_FOUR_BYTE_INTEGER:
        property.value.integer4 = (unsigned)strtoul(from->value, NULL, 10);
        break;
    case MQTTPROPERTY_TYPE_UTF_8_STRING_PAIR:
        property.value.data = (MQTTLenString){(int)strlen(from->key), (char *)(uintptr_t)from->key};
        property.value.value = value;
        break;
    default:
        property.value.data = value;
        break;
    }
    MQTTProperties_add(properties, &property);
}

static void paho_request_add_properties(MQTTProperties *properties,
                                        const struct engine_publication *publication) {
    for (size_t i = 0; i < publication->property_count; i++) {
        const struct message_property *from = &publication->properties[i];
        for (size_t k = 0; k < sizeof(paho_property_kinds) / sizeof(paho_property_kinds[0]); k++) {
            if (strcmp(paho_property_kinds[k].name, from->name) == 0) {
                paho_request_add_property(properties, paho_property_kinds[k].code, from);
            }
        }
    }
}

static enum err paho_request_send_publication(struct engine_connection *connection,
                                              const struct engine_publication *publication,
                                              struct paho_publication *entry) {
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
    MQTTProperties properties = MQTTProperties_initializer;
    paho_fill_publish_options(entry, connection->protocol_version, &response);
    if (connection->protocol_version == 5) {
        paho_request_add_properties(&properties, publication);
        response.properties = properties;
    }
    static const uint8_t nothing[1];
    int rc = MQTTAsync_send(connection->handle, publication->topic, (int)publication->payload_len,
                            publication->payload_len ? publication->payload : nothing,
                            publication->qos, publication->retain, &response);
    MQTTProperties_free(&properties);
    return paho_request_result(rc);
}

enum err paho_publish(struct engine_connection *connection,
                      const struct engine_publication *publication, uint64_t token) {
    if (connection->phase != PAHO_UP) {
        return ERR_WRONG_STATE;
    }
    if (paho_is_stalled(connection->engine)) {
        return ERR_FULL;
    }
    struct paho_publication *entry = calloc(1, sizeof *entry);
    if (!entry) {
        return ERR_MEMORY;
    }
    entry->connection = connection;
    entry->token = token;
    entry->about = (struct engine_suspect){.payload_len = publication->payload_len,
                                           .qos = publication->qos,
                                           .retain = publication->retain};
    snprintf(entry->about.topic, sizeof(entry->about.topic), "%s", publication->topic);
    pthread_mutex_lock(&connection->engine->lock);
    DL_APPEND(connection->publications, entry);
    pthread_mutex_unlock(&connection->engine->lock);
    paho_call_begin(connection->engine);
    enum err err = paho_request_send_publication(connection, publication, entry);
    paho_call_end(connection->engine);
    if (err != ERR_OK) {
        pthread_mutex_lock(&connection->engine->lock);
        DL_DELETE(connection->publications, entry);
        pthread_mutex_unlock(&connection->engine->lock);
        free(entry);
    }
    return err;
}
