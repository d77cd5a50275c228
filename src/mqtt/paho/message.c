/* Owns a received message until the worker has taken it and, for QoS 1 and 2, until it is accepted.
 * Runs on Paho's receive thread under Paho's mutex. Paho acknowledges when the callback returns,
 * whatever it returns. So the callback is held. If the message cannot be accepted, the socket is
 * cut first: the acknowledgement is never sent, and the broker sends the message again. While a
 * callback is held, all other Paho clients of the process stand still: a limit of this engine. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <MQTTAsync.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "paho.h"

#define PROPERTIES_MAX          64 /* more properties of a message are dropped */
#define NUMBER_LEN              16
#define ROOM_WAIT_MS            200
#define ROOM_CHECK_MS           5
#define LIMITS_WAIT_MS_MAX      500 /* all other Paho clients wait too */
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
static bool paho_hold_blocks_worker(const struct engine *engine, int64_t since_ms) {
    int64_t calling_since_ms = engine->calling_since_ms;
    int64_t both_since_ms = calling_since_ms > since_ms ? calling_since_ms : since_ms;
    return calling_since_ms != 0 && clock_ms() - both_since_ms > PAHO_WORKER_WAIT_MS_MAX;
}

/* ---- holding: the callback waits for the answer of the sink ---- */

void paho_hold_give_up(struct engine_connection *connection, int64_t give_up_at_ms) {
    pthread_mutex_lock(&connection->engine->lock);
    connection->give_up_at_ms = give_up_at_ms;
    pthread_mutex_unlock(&connection->engine->lock);
    eventfd_write(connection->engine->receipts.wake_fd, 1);
}

/* When it began. */
static int64_t paho_hold_begin(struct engine_connection *connection) {
    int64_t now_ms = clock_ms();
    pthread_mutex_lock(&connection->engine->lock);
    connection->engine->holding_since_ms = now_ms;
    pthread_mutex_unlock(&connection->engine->lock);
    return now_ms;
}

static void paho_hold_end(struct engine_connection *connection, enum err err) {
    struct engine *engine = connection->engine;
    pthread_mutex_lock(&engine->lock);
    bool was_long = clock_ms() - engine->holding_since_ms > LONG_HOLD_MS;
    engine->sink_stalled = err != ERR_OK && (was_long || engine->sink_stalled);
    if (was_long) {
        engine->held_at_ms = clock_ms();
    }
    engine->holding_since_ms = 0;
    if (was_long || engine->sink_stalled) {
        eventfd_write(engine->event_fd, 1); /* for what poll() has put off */
    }
    pthread_mutex_unlock(&engine->lock);
}

/* True: `hold` is answered. Other receipts belong to messages that were given up, and are freed. */
static bool paho_hold_take_answers(struct engine *engine, const struct receipt *hold) {
    bool answered = false;
    struct receipt *receipt = receipts_take(&engine->receipts);
    while (receipt) { /* bounded by the sinks' queues */
        struct receipt *next = receipt->next;
        if (receipt == hold) {
            answered = true;
        } else {
            free(receipt);
        }
        receipt = next;
    }
    return answered;
}

void paho_hold_free_answered(struct engine *engine) {
    paho_hold_take_answers(engine, NULL);
}

static void paho_hold_wait_step(struct engine *engine, int64_t timeout_ms) {
    struct pollfd wake = {.fd = engine->receipts.wake_fd, .events = POLLIN};
    eventfd_t count;
    if (!receipts_begin_wait(&engine->receipts)) {
        poll(&wake, 1, (int)timeout_ms);
    }
    receipts_end_wait(&engine->receipts);
    eventfd_read(engine->receipts.wake_fd, &count);
}

/* How long the callback may still wait: at most PAHO_HOLD_CHECK_MS at once. */
static int64_t paho_hold_left_ms(struct engine_connection *connection) {
    pthread_mutex_lock(&connection->engine->lock);
    int64_t give_up_at_ms = connection->give_up_at_ms;
    pthread_mutex_unlock(&connection->engine->lock);
    int64_t left_ms = give_up_at_ms != 0 ? give_up_at_ms - clock_ms() : PAHO_HOLD_CHECK_MS;
    return left_ms < PAHO_HOLD_CHECK_MS ? left_ms : PAHO_HOLD_CHECK_MS;
}

/* Waits until the message is accepted or refused, the connection is being closed, or the worker
 * needs Paho's mutex. Frees the receipt, unless the sink still has it. */
static enum err paho_hold_wait(struct engine_connection *connection, struct receipt *hold,
                               int64_t since_ms) {
    struct engine *engine = connection->engine;
    for (;;) {
        if (paho_hold_take_answers(engine, hold)) {
            enum err err = hold->result;
            free(hold);
            return err;
        }
        int64_t left_ms = paho_hold_left_ms(connection);
        if (left_ms <= 0 || paho_hold_blocks_worker(engine, since_ms)) {
            return ERR_CANCELED;
        }
        paho_hold_wait_step(engine, left_ms);
    }
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

/* Blocks Paho's receive thread, and polls: a queue that gets room wakes nobody. */
static void paho_message_wait_room(const struct route *route) {
    for (int i = 0; i < ROOM_WAIT_MS / ROOM_CHECK_MS && !route_has_room(route); i++) {
        clock_sleep_ms(ROOM_CHECK_MS);
    }
}

/* Slows a client beyond its limits, as far as the other clients can bear it. */
static void paho_message_wait_limits(struct engine_connection *connection,
                                     const struct message *message) {
    struct route *route = connection->open.route;
    if (route_admits(route, message->qos, message->payload_len)) {
        return;
    }
    int64_t until_ms = clock_ms() + LIMITS_WAIT_MS_MAX;
    while (route_limit_wait_ms(route) > 0 && clock_ms() < until_ms &&
           !paho_message_is_closing(connection)) {
        clock_sleep_ms(ROOM_CHECK_MS);
    }
}

/* ERR_OK: accepted; for QoS 1 and 2, `hold` will be answered. since_ms: when the hold began;
 * without a hold 0. */
static enum err paho_message_offer(struct engine_connection *connection, struct message *message,
                                   struct receipt *hold, int64_t since_ms) {
    struct route *route = connection->open.route;
    for (;;) {
        enum err err = route_submit(route, message, hold);
        if (err != ERR_FULL) {
            route_flush(route); /* no turn of the worker follows */
            return err;
        }
        if (paho_message_is_closing(connection) ||
            (hold && paho_hold_blocks_worker(connection->engine, since_ms))) {
            return ERR_CANCELED;
        }
        paho_message_wait_room(route);
    }
}

static enum err paho_message_deliver_held(struct engine_connection *connection,
                                          struct message *message) {
    struct receipt *hold = calloc(1, sizeof *hold);
    if (!hold) {
        message_destroy(message);
        return ERR_MEMORY;
    }
    hold->owner = &connection->engine->receipts;
    int64_t since_ms = paho_hold_begin(connection);
    paho_message_wait_limits(connection, message);
    enum err err = paho_message_offer(connection, message, hold, since_ms);
    if (err == ERR_OK) {
        err = paho_hold_wait(connection, hold, since_ms);
    } else {
        message_destroy(message);
        free(hold);
    }
    paho_hold_end(connection, err);
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
    if (received->qos == 0 &&
        !route_admits(connection->open.route, 0, (size_t)received->payloadlen)) {
        return;
    }
    struct message *message = topic ? paho_message_copy(connection, topic, received) : NULL;
    if (received->qos == 0) {
        if (message && paho_message_offer(connection, message, NULL, 0) != ERR_OK) {
            message_destroy(message); /* the route counts it */
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
