/* Owns the delivery of events to the worker: takes what Paho's threads have posted to a connection,
 * and calls the worker without a lock. Worker thread. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "mqtt/reason_codes.h"
#include "paho.h"

struct paho_delivery {
    unsigned marks;
    struct engine_connack connack;
    char assigned_client_id[128];
    uint8_t *codes;
    size_t code_count;
    struct engine_closed closed;
    char closed_message[PAHO_TEXT_LEN];
    struct paho_publication *published;
};

static void paho_delivery_take_published(struct engine_connection *connection,
                                         struct paho_publication **out) {
    struct paho_publication *entry, *next;
    DL_FOREACH_SAFE(connection->publications, entry, next) {
        if (entry->done) {
            DL_DELETE(connection->publications, entry);
            DL_APPEND(*out, entry);
        }
    }
}

/* Removes the next connection with marks from the ready list; NULL: none. */
static struct engine_connection *paho_delivery_take(struct engine *engine,
                                                    struct paho_delivery *out) {
    *out = (struct paho_delivery){0};
    pthread_mutex_lock(&engine->lock);
    struct engine_connection *connection = engine->ready;
    if (connection) {
        DL_DELETE2(engine->ready, connection, ready_prev, ready_next);
        connection->ready = false;
        out->marks = connection->marks;
        connection->marks &= PAHO_CLOSED; /* stays: the first cause counts */
        out->connack = connection->connack;
        memcpy(out->assigned_client_id, connection->assigned_client_id,
               sizeof(out->assigned_client_id));
        if (out->connack.assigned_client_id) {
            out->connack.assigned_client_id = out->assigned_client_id;
        }
        if (out->marks & PAHO_SUBACK) {
            out->codes = connection->codes;
            out->code_count = connection->code_count;
            connection->codes = NULL;
            connection->code_count = 0;
        }
        out->closed = connection->closed;
        memcpy(out->closed_message, connection->closed_message, sizeof(out->closed_message));
        out->closed.message = out->closed_message;
        paho_delivery_take_published(connection, &out->published);
    }
    pthread_mutex_unlock(&engine->lock);
    return connection;
}

static void paho_delivery_published(struct engine_connection *connection,
                                    struct paho_publication *published) {
    struct paho_publication *entry, *next;
    DL_FOREACH_SAFE(published, entry, next) {
        connection->engine->events->published(connection->client, entry->token, &entry->result);
        free(entry);
    }
}

/* Unacknowledged publications are treated as lost with the connection. */
static void paho_delivery_fail_publications(struct engine_connection *connection) {
    struct paho_publication *entry, *next;
    DL_FOREACH_SAFE(connection->publications, entry, next) {
        if (!entry->done) {
            entry->result = (struct publish_result){.err = ERR_UNAVAILABLE};
            paho_note_suspect(connection, entry);
        }
    }
    struct paho_publication *all = connection->publications;
    connection->publications = NULL;
    paho_delivery_published(connection, all);
}

/* Reason codes of DISCONNECT that can only refer to a publication while no SUBSCRIBE is in flight.
 */
static bool paho_delivery_blames_publications(int reason_code) {
    return reason_code == REASON_NOT_AUTHORIZED || reason_code == REASON_PACKET_TOO_LARGE ||
           reason_code == REASON_PAYLOAD_FORMAT_INVALID ||
           reason_code == REASON_RETAIN_NOT_SUPPORTED || reason_code == REASON_QOS_NOT_SUPPORTED;
}

static void paho_delivery_finish(struct engine_connection *connection,
                                 struct paho_delivery *delivery) {
    struct engine *engine = connection->engine;
    pthread_mutex_lock(&engine->lock);
    if (connection->ready) {
        DL_DELETE2(engine->ready, connection, ready_prev, ready_next);
    }
    pthread_mutex_unlock(&engine->lock);
    paho_delivery_fail_publications(connection);
    DL_DELETE(engine->connections, connection);
    if (connection->suspects && delivery->closed.error != CLIENT_ERROR_CLOSED_BY_US) {
        connection->suspects->suspicion =
            paho_delivery_blames_publications(delivery->closed.reason_code)
                ? SUSPICION_BY_REASON_CODE
                : SUSPICION_BY_TIME;
        delivery->closed.suspects = connection->suspects;
    }
    engine->events->closed(connection->client, &delivery->closed);
    paho_connection_free(connection);
}

static void paho_delivery_connack(struct engine_connection *connection,
                                  const struct engine_connack *connack) {
    if (connection->phase == PAHO_OPENING) {
        paho_connection_end_opening(connection);
        connection->phase = PAHO_UP;
        connection->engine->events->connected(connection->client, connack);
    }
}

/* The worker may close the connection in any of these events; after that, only the last two steps
 * apply. */
static void paho_delivery_deliver(struct engine_connection *connection,
                                  struct paho_delivery *delivery) {
    const struct engine_events *events = connection->engine->events;
    if (delivery->marks & PAHO_CONNACK) {
        paho_delivery_connack(connection, &delivery->connack);
    }
    if ((delivery->marks & PAHO_SUBACK) && connection->phase == PAHO_UP) {
        events->subscribed(connection->client, delivery->codes, delivery->code_count);
    }
    if ((delivery->marks & PAHO_UNSUBACK) && connection->phase == PAHO_UP) {
        events->unsubscribed(connection->client, NULL, 0);
    }
    free(delivery->codes);
    paho_delivery_published(connection, delivery->published);
    if ((delivery->marks & PAHO_CLOSED) && connection->phase == PAHO_RELEASED) {
        paho_delivery_finish(connection, delivery);
    } else if ((delivery->marks & PAHO_CLOSED) && connection->phase < PAHO_CLOSING) {
        paho_connection_end(connection);
    }
}

bool paho_delivery_next(struct engine *engine) {
    struct paho_delivery delivery;
    struct engine_connection *connection = paho_delivery_take(engine, &delivery);
    if (connection) {
        paho_delivery_deliver(connection, &delivery);
    }
    return connection != NULL;
}
