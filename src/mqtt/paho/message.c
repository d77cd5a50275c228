/* Owns a received message until the worker has taken it and, for QoS 1 and 2, until it is accepted.
 * Runs on Paho's receive thread under Paho's mutex. Paho acknowledges when the callback returns,
 * whatever it returns. So the callback is held. If the message cannot be accepted, the socket is
 * cut first: the acknowledgement is never sent, and the broker sends the message again. While a
 * callback is held, all other Paho clients of the process stand still: a limit of this engine. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <MQTTAsync.h>
#include "base/system/clock.h"
#include "base/system/condition.h"
#include "base/telemetry/log.h"
#include "paho.h"

#define PROPERTIES_MAX          64 /* more properties of a message are dropped */
#define NUMBER_LEN              16
#define ROOM_WAIT_MS            200
#define PAHO_HOLD_CHECK_MS      1000
#define LONG_HOLD_MS            500
#define PAHO_WORKER_WAIT_MS_MAX 3000

/* ---- the worker thread, which must not wait for a hold ---- */

void paho_call_begin(struct engine *engine) {
    engine->calling_since_ms = clock_ms();
}

void paho_call_end(struct engine *engine) {
    engine->calling_since_ms = 0;
}

bool paho_is_stalled(struct engine *engine) {
    pthread_mutex_lock(&engine->lock);
    int64_t since_ms = engine->holding_since_ms;
    int64_t least_ms = engine->sink_stalled ? -1 : LONG_HOLD_MS;
    pthread_mutex_unlock(&engine->lock);
    return since_ms != 0 && clock_ms() - since_ms > least_ms;
}

/* The worker called Paho before it could see the stall, and may be needed for something urgent. */
static bool paho_hold_blocks_worker(const struct engine *engine, const struct paho_hold *hold) {
    int64_t calling_since_ms = engine->calling_since_ms;
    int64_t both_since_ms = calling_since_ms > hold->since_ms ? calling_since_ms : hold->since_ms;
    return calling_since_ms != 0 && clock_ms() - both_since_ms > PAHO_WORKER_WAIT_MS_MAX;
}

/* ---- holding ---- */

static struct paho_hold *paho_hold_create(void) {
    struct paho_hold *hold = calloc(1, sizeof *hold);
    if (!hold) {
        return NULL;
    }
    pthread_mutex_init(&hold->lock, NULL);
    condition_init(&hold->changed);
    hold->references = 2;
    return hold;
}

static void paho_hold_release(struct paho_hold *hold, unsigned references) {
    pthread_mutex_lock(&hold->lock);
    hold->references -= references;
    bool last = hold->references == 0;
    pthread_mutex_unlock(&hold->lock);
    if (last) {
        pthread_cond_destroy(&hold->changed);
        pthread_mutex_destroy(&hold->lock);
        free(hold);
    }
}

void paho_hold_answer(struct paho_hold *hold, enum err err) {
    pthread_mutex_lock(&hold->lock);
    hold->answered = true;
    hold->result = err;
    pthread_cond_signal(&hold->changed);
    pthread_mutex_unlock(&hold->lock);
    paho_hold_release(hold, 1);
}

void paho_hold_give_up(struct engine_connection *connection, int64_t give_up_at_ms) {
    pthread_mutex_lock(&connection->engine->lock);
    connection->give_up_at_ms = give_up_at_ms;
    if (connection->hold) {
        pthread_mutex_lock(&connection->hold->lock);
        connection->hold->give_up_at_ms = give_up_at_ms;
        pthread_cond_signal(&connection->hold->changed);
        pthread_mutex_unlock(&connection->hold->lock);
    }
    pthread_mutex_unlock(&connection->engine->lock);
}

static void paho_hold_begin(struct engine_connection *connection, struct paho_hold *hold) {
    pthread_mutex_lock(&connection->engine->lock);
    connection->hold = hold;
    hold->give_up_at_ms = connection->give_up_at_ms;
    hold->since_ms = connection->engine->holding_since_ms = clock_ms();
    pthread_mutex_unlock(&connection->engine->lock);
}

static void paho_hold_end(struct engine_connection *connection, enum err err) {
    struct engine *engine = connection->engine;
    pthread_mutex_lock(&engine->lock);
    bool was_long = clock_ms() - connection->hold->since_ms > LONG_HOLD_MS;
    engine->sink_stalled = err != ERR_OK && (was_long || engine->sink_stalled);
    if (was_long) {
        engine->held_at_ms = clock_ms();
    }
    connection->hold = NULL;
    engine->holding_since_ms = 0;
    if (was_long || engine->sink_stalled) {
        eventfd_write(engine->event_fd, 1); /* for what poll() has put off */
    }
    pthread_mutex_unlock(&engine->lock);
}

static void paho_hold_wait_step(struct paho_hold *hold, int64_t timeout_ms) {
    struct timespec until = condition_deadline(timeout_ms);
    pthread_cond_timedwait(&hold->changed, &hold->lock, &until);
}

/* Waits until the message is accepted or refused, the connection is being closed, or the worker
 * needs Paho's mutex. */
static enum err paho_hold_wait(const struct engine *engine, struct paho_hold *hold) {
    enum err err = ERR_CANCELED;
    pthread_mutex_lock(&hold->lock);
    for (;;) {
        if (hold->answered) {
            err = hold->result;
            break;
        }
        int64_t left_ms =
            hold->give_up_at_ms ? hold->give_up_at_ms - clock_ms() : (int64_t)PAHO_HOLD_CHECK_MS;
        if (left_ms <= 0 || paho_hold_blocks_worker(engine, hold)) {
            break;
        }
        paho_hold_wait_step(hold, left_ms < PAHO_HOLD_CHECK_MS ? left_ms : PAHO_HOLD_CHECK_MS);
    }
    pthread_mutex_unlock(&hold->lock);
    return err;
}

/* ---- copying ---- */

static const char *paho_message_property_name(enum MQTTPropertyCodes code) {
    switch (code) {
    case MQTTPROPERTY_CODE_PAYLOAD_FORMAT_INDICATOR:
        return "payload_format_indicator";
    case MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL:
        return "message_expiry_interval";
    case MQTTPROPERTY_CODE_CONTENT_TYPE:
        return "content_type";
    case MQTTPROPERTY_CODE_RESPONSE_TOPIC:
        return "response_topic";
    case MQTTPROPERTY_CODE_CORRELATION_DATA:
        return "correlation_data";
    case MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIER:
        return "subscription_identifier";
    case MQTTPROPERTY_CODE_USER_PROPERTY:
        return "user_property";
    default:
        return NULL; /* of the transport, like the topic alias */
    }
}

struct paho_property_copies {
    struct message_property items[PROPERTIES_MAX];
    char numbers[PROPERTIES_MAX][NUMBER_LEN];
    char *keys[PROPERTIES_MAX];
    size_t count;
};

static uint32_t paho_message_number_value(const MQTTProperty *property) {
    switch (MQTTProperty_getType(property->identifier)) {
    case MQTTPROPERTY_TYPE_BYTE:
        return property->value.byte;
    case MQTTPROPERTY_TYPE_TWO_BYTE_INTEGER:
        return property->value.integer2;
    default:
        return property->value.integer4;
    }
}

static void paho_message_copy_property(struct paho_property_copies *copies,
                                       const MQTTProperty *property, const char *name) {
    size_t at = copies->count;
    struct message_property *item = &copies->items[at];
    *item = (struct message_property){.name = name};
    switch (MQTTProperty_getType(property->identifier)) {
    case MQTTPROPERTY_TYPE_UTF_8_STRING_PAIR:
        copies->keys[at] = strndup(property->value.data.data, (size_t)property->value.data.len);
        if (!copies->keys[at]) {
            return;
        }
        item->key = copies->keys[at];
        item->value = property->value.value.data;
        item->value_len = (size_t)property->value.value.len;
        break;
    case MQTTPROPERTY_TYPE_UTF_8_ENCODED_STRING:
    case MQTTPROPERTY_TYPE_BINARY_DATA:
        item->value = property->value.data.data;
        item->value_len = (size_t)property->value.data.len;
        break;
    default:
        snprintf(copies->numbers[at], NUMBER_LEN, "%u", paho_message_number_value(property));
        item->value = copies->numbers[at];
        item->value_len = strlen(item->value);
        break;
    }
    copies->count++;
}

static void paho_message_copy_properties(struct paho_property_copies *copies,
                                         const MQTTProperties *properties) {
    for (int i = 0; i < properties->count && copies->count < PROPERTIES_MAX; i++) {
        const char *name = paho_message_property_name(properties->array[i].identifier);
        if (name) {
            paho_message_copy_property(copies, &properties->array[i], name);
        }
    }
}

static struct message *paho_message_copy(const struct engine_connection *connection,
                                         const char *topic, const MQTTAsync_message *received) {
    struct paho_property_copies copies = {.count = 0};
    if (connection->protocol_version == 5) {
        paho_message_copy_properties(&copies, &received->properties);
    }
    struct message from = {
        .id = connection->id,
        .client_id = connection->client_id,
        .topic = topic,
        .payload = received->payload,
        .payload_len = received->payloadlen > 0 ? (size_t)received->payloadlen : 0,
        .properties = copies.items,
        .property_count = copies.count,
        .received_at_ms = clock_wall_ms(),
        .received_us = clock_us(),
        .qos = (uint8_t)received->qos,
        .retain = received->retained != 0,
        .dup = received->dup != 0,
    };
    struct message *message = message_create(&from);
    for (size_t i = 0; i < copies.count; i++) {
        free(copies.keys[i]);
    }
    return message;
}

/* ---- delivery ---- */

static bool paho_message_is_closing(struct engine_connection *connection) {
    pthread_mutex_lock(&connection->engine->lock);
    bool closing = connection->give_up_at_ms != 0;
    pthread_mutex_unlock(&connection->engine->lock);
    return closing;
}

/* ERR_OK: accepted; for QoS 1 and 2, `hold` will be answered. */
static enum err paho_message_offer(struct engine_connection *connection, struct message *message,
                                   struct paho_hold *hold) {
    const struct engine_events *events = connection->engine->events;
    for (;;) {
        enum err err = events->message(connection->client, message, hold);
        if (err != ERR_FULL) {
            events->flush(connection->client);
            return err;
        }
        if (paho_message_is_closing(connection) ||
            (hold && paho_hold_blocks_worker(connection->engine, hold))) {
            return ERR_CANCELED;
        }
        events->wait_room(connection->client, ROOM_WAIT_MS);
    }
}

static enum err paho_message_deliver_held(struct engine_connection *connection,
                                          struct message *message) {
    struct paho_hold *hold = paho_hold_create();
    if (!hold) {
        message_destroy(message);
        return ERR_MEMORY;
    }
    paho_hold_begin(connection, hold);
    enum err err = paho_message_offer(connection, message, hold);
    if (err != ERR_OK) {
        message_destroy(message);
        paho_hold_end(connection, err);
        paho_hold_release(hold, 2);
        return err;
    }
    err = paho_hold_wait(connection->engine, hold);
    paho_hold_end(connection, err);
    paho_hold_release(hold, 1);
    return err;
}

/* Cuts the socket first, so that no acknowledgement is sent. The broker still has the message. */
static void paho_message_cut_connection(struct engine_connection *connection) {
    struct engine_closed closed = {.error = CLIENT_ERROR_MESSAGE_NOT_ACCEPTED, .reason_code = -1};
    paho_socket_drop(&connection->socket);
    pthread_mutex_lock(&connection->engine->lock);
    paho_post_closed(connection, &closed);
    pthread_mutex_unlock(&connection->engine->lock);
}

void paho_deliver(struct engine_connection *connection, const char *topic, const void *borrowed) {
    const MQTTAsync_message *received = borrowed;
    struct message *message = topic ? paho_message_copy(connection, topic, received) : NULL;
    if (received->qos == 0) {
        if (message && paho_message_offer(connection, message, NULL) != ERR_OK) {
            message_destroy(message); /* the worker counts it */
        }
        return;
    }
    enum err err = message ? paho_message_deliver_held(connection, message) : ERR_MEMORY;
    if (err != ERR_OK) {
        paho_message_cut_connection(connection);
        log_event(LOG_WARN, "message_not_accepted", KS("client", connection->id),
                  KI("qos", received->qos), KS("reason", err_name(err)));
    }
}

int paho_message_arrived(void *context, char *topic, int topic_len, void *message) {
    (void)topic_len; /* greater than strlen only with U+0000, which MQTT forbids */
    struct engine_connection *connection = context;
    MQTTAsync_message *received = message;
    if (received->qos < 2 || connection->protocol_version == 5) {
        paho_deliver(connection, topic, received);
    } /* otherwise it was delivered before PUBREC, see qos2.c */
    MQTTAsync_freeMessage(&received);
    MQTTAsync_free(topic);
    return 1;
}
