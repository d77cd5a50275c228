/* Owns a received message from PUBLISH until its route has taken it (answers.c: until it is
 * acknowledged), and PUBREL. A message of QoS 1 or 2 that the server sends again after a reconnect
 * is recognized by its packet identifier and not offered twice. Worker thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "mqtt/reactor/reactor.h"

#define PROPERTIES_MAX 64 /* more properties of a message are dropped */
#define RELEASE_WAITS_MAX                                                                          \
    400                 /* retries, 5 ms apart, for PUBREL once sinks have stored all messages */
#define INBOUND_FAIR 64 /* a session may have this many, however full the buffers are */

/* ---- the message ---- */

static const char *deliver_client_id(const struct engine_connection *connection) {
    return connection->assigned_client_id ? connection->assigned_client_id
                                          : connection->config->client_id;
}

/* Returns an offset, because the scratch buffer may move while it grows. */
static size_t deliver_put_text(struct buffer *scratch, struct packet_slice text) {
    size_t at = scratch->len;
    buffer_append(scratch, text.data, text.len);
    buffer_append(scratch, "", 1);
    return at;
}

struct deliver_property_texts {
    size_t key[PROPERTIES_MAX], number[PROPERTIES_MAX];
};

static bool deliver_is_numeric(uint8_t id) {
    return id == PROPERTY_PAYLOAD_FORMAT || id == PROPERTY_MESSAGE_EXPIRY ||
           id == PROPERTY_SUBSCRIPTION_IDENTIFIER;
}

static size_t deliver_collect_properties(struct buffer *scratch, struct packet_slice properties,
                                         struct message_property items[PROPERTIES_MAX],
                                         struct deliver_property_texts *texts) {
    struct packet_property property;
    size_t offset = 0;
    size_t n = 0;
    while (n < PROPERTIES_MAX && packet_property_next(properties, &offset, &property)) {
        const char *name = packet_property_name(property.id);
        if (!name) {
            continue; /* of the transport, like the topic alias */
        }
        items[n] = (struct message_property){.name = name,
                                             .value = (const char *)property.text.data,
                                             .value_len = property.text.len};
        texts->key[n] = texts->number[n] = SIZE_MAX;
        if (property.id == PROPERTY_USER_PROPERTY) {
            texts->key[n] = deliver_put_text(scratch, property.key);
        } else if (deliver_is_numeric(property.id)) {
            texts->number[n] = scratch->len;
            buffer_printf(scratch, "%u", property.number);
            items[n].value_len = scratch->len - texts->number[n];
        }
        n++;
    }
    return n;
}

static struct message *deliver_make_message(struct engine_connection *connection,
                                            const struct packet *packet,
                                            struct packet_slice topic) {
    struct buffer *scratch = &connection->engine->scratch;
    struct message_property items[PROPERTIES_MAX];
    struct deliver_property_texts texts;
    buffer_clear(scratch);
    deliver_put_text(scratch, topic);
    size_t n = packet->properties.len > 0
                   ? deliver_collect_properties(scratch, packet->properties, items, &texts)
                   : 0;
    if (scratch->failed) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        items[i].key = texts.key[i] != SIZE_MAX ? scratch->data + texts.key[i] : NULL;
        items[i].value =
            texts.number[i] != SIZE_MAX ? scratch->data + texts.number[i] : items[i].value;
    }
    return message_create(&(struct message){.id = connection->config->id,
                                            .client_id = deliver_client_id(connection),
                                            .topic = scratch->data,
                                            .payload = packet->payload.data,
                                            .payload_len = packet->payload.len,
                                            .properties = items,
                                            .property_count = n,
                                            .received_at_ms = clock_wall_ms(),
                                            .received_us = clock_us(),
                                            .qos = packet->qos,
                                            .retain = packet->retain,
                                            .dup = packet->dup});
}

/* ---- known messages ---- */

static const struct packet_fault deliver_identifier_in_use = {
    .reason_code = REASON_PROTOCOL_ERROR,
    .message = "the broker used a packet identifier that is still in use"};
static const struct packet_fault deliver_too_many = {
    .reason_code = REASON_RECEIVE_MAXIMUM_EXCEEDED,
    .message = "the broker sent more unacknowledged messages than the receive maximum"};

static bool deliver_count_against_maximum(struct engine_connection *connection) {
    uint16_t maximum = connection->config->receive_maximum;
    if (connection->version == 5 && maximum > 0 && connection->receiving >= maximum) {
        connection_refuse(connection, &deliver_too_many);
        return false;
    }
    connection->receiving++; /* at most one per packet identifier */
    return true;
}

/* It arrived on an earlier connection, and now again. */
static void deliver_take_redelivered(struct engine_connection *connection, struct inbound *known) {
    struct engine_session *session = connection->session;
    if (!deliver_count_against_maximum(connection)) {
        return;
    }
    if (known->state == INBOUND_RECEIVED) {
        known->connection_number = session->connection_number;
        packet_write_ack(&connection->out, connection->version, PACKET_PUBREC, known->packet_id, 0);
        reactor_task(connection, TASK_FLUSH);
        return;
    }
    DL_DELETE(session->earlier, known);
    known->connection_number = session->connection_number;
    DL_APPEND(session->unacknowledged, known);
    if (known->state == INBOUND_OFFERED) {
        session->offered++;
    }
    if (answers_acknowledge(connection)) {
        reactor_task(connection, TASK_FLUSH);
    }
}

/* True: there is nothing to offer. A QoS 2 identifier means the same message until PUBREL, with or
 * without DUP (section 4.3.3). */
static bool deliver_is_duplicate(struct engine_connection *connection,
                                 const struct packet *packet) {
    struct engine *engine = connection->engine;
    struct engine_session *session = connection->session;
    struct inbound *known = inbound_table_find(&engine->inbound, session, packet->packet_id);
    if (!known) {
        return false;
    }
    bool again = packet->qos == known->qos && (packet->dup || packet->qos == 2);
    if (known->connection_number != session->connection_number) {
        if (again) {
            deliver_take_redelivered(connection, known);
        } else {
            session_forget(
                engine,
                known); /* the server has forgotten it and uses the identifier for a new message */
        }
        return again;
    }
    if (!again) {
        connection_refuse(connection, &deliver_identifier_in_use);
    } else if (known->state == INBOUND_RECEIVED) {
        packet_write_ack(&connection->out, connection->version, PACKET_PUBREC, known->packet_id, 0);
        reactor_task(connection, TASK_FLUSH);
    }
    return true;
}

/* ---- PUBLISH ---- */

/* Nothing else bounds messages that a server never releases: each client could have 65,535 of them.
 */
static bool deliver_has_inbound_room(const struct engine_connection *connection) {
    const struct engine *engine = connection->engine;
    return connection->session->inbound_count < INBOUND_FAIR ||
           engine->inbound.count < engine->buffered_max / 2 / sizeof(struct inbound);
}

/* If messages wait for the sink, the sink may be the reason that there are so many. Otherwise it is
 * the server, unless its PUBRELs are still in transit. */
bool deliver_may_accept(struct engine_connection *connection) {
    static const struct engine_closed unfinished = {
        .error = CLIENT_ERROR_BUFFERS_FULL,
        .message = "the node's buffers are full (setting buffer_bytes) of messages that the broker "
                   "has not completed (QoS 2 without PUBREL, QoS 1 of earlier connections)",
        .reason_code = -1};
    if (deliver_has_inbound_room(connection)) {
        return true;
    }
    if (connection->session->offered == 0 && connection->release_waits++ >= RELEASE_WAITS_MAX) {
        connection_end(connection, &unfinished);
    }
    return false;
}

bool deliver_has_room(const struct engine_connection *connection) {
    return !connection->route || route_has_room(connection->route);
}

int64_t deliver_limit_wait_ms(const struct engine_connection *connection) {
    return connection->route ? route_limit_wait_ms(connection->route) : 0;
}

bool deliver_has_packet_id(const struct engine_connection *connection, uint16_t packet_id) {
    return inbound_table_find(&connection->engine->inbound, connection->session, packet_id) != NULL;
}

bool deliver_may_release(const struct engine_connection *connection, uint16_t packet_id) {
    const struct inbound *inbound =
        inbound_table_find(&connection->engine->inbound, connection->session, packet_id);
    return inbound && inbound->state == INBOUND_RECEIVED;
}

/* The message was not accepted: as if it had not come. */
static void deliver_undo_receipt(struct engine_connection *connection, struct inbound *inbound) {
    session_forget(connection->engine, inbound);
    connection->receiving--;
    free(inbound);
}

static bool deliver_offer_acknowledged(struct engine_connection *connection,
                                       const struct packet *packet, struct message *message) {
    if (!deliver_count_against_maximum(connection)) {
        message_destroy(message);
        return true;
    }
    struct inbound *inbound = session_remember(connection->engine, connection->session, packet);
    if (!inbound) {
        connection->receiving--;
        message_destroy(message);
        return false;
    }
    enum err err = route_submit(connection->route, message, &inbound->receipt);
    if (err == ERR_OK) {
        return true;
    }
    message_destroy(message);
    deliver_undo_receipt(connection, inbound);
    if (err != ERR_FULL) {
        connection_end(connection, &(struct engine_closed){.error = CLIENT_ERROR_SINK_UNAVAILABLE,
                                                           .message = "no sink accepts messages",
                                                           .reason_code = -1});
    }
    return err != ERR_FULL;
}

/* Dropped if it is not accepted; the route counts the reason. */
static void deliver_offer_qos_0(struct engine_connection *connection, struct message *message) {
    if (route_submit(connection->route, message, NULL) != ERR_OK) {
        message_destroy(message);
    }
}

bool deliver_publish(struct engine_connection *connection, const struct packet *packet) {
    struct packet_slice topic;
    enum alias_result verdict = alias_topic(connection, packet, &topic);
    if (verdict == ALIAS_UNKNOWN) {
        return skip_unknown_alias(connection, packet);
    }
    if (!connection->route) {
        return true; /* the server keeps it, not acknowledged */
    }
    if (verdict == ALIAS_ENDED || (packet->qos > 0 && deliver_is_duplicate(connection, packet))) {
        return true;
    }
    if (packet->qos > 0 && !deliver_may_accept(connection)) {
        return false;
    }
    if (!route_admits(connection->route, packet->qos, packet->payload.len)) {
        return packet->qos == 0;
    }
    struct message *message = deliver_make_message(connection, packet, topic);
    connection->engine->coalesce.messages++;
    if (packet->qos > 0) {
        return message && deliver_offer_acknowledged(connection, packet, message);
    }
    if (!message) {
        route_count_dropped(connection->route, DROP_MEMORY);
    } else {
        deliver_offer_qos_0(connection, message);
    }
    return true;
}

void deliver_final(struct engine_connection *connection, const struct packet *packet) {
    struct packet_slice topic;
    if (!connection->route) {
        return;
    }
    if (packet->qos > 0 && deliver_has_packet_id(connection, packet->packet_id)) {
        return;
    }
    if (alias_topic(connection, packet, &topic) != ALIAS_FOUND) {
        route_count_dropped(connection->route, DROP_SESSION_ENDED);
        return;
    }
    struct message *message = deliver_make_message(connection, packet, topic);
    if (!message) {
        route_count_dropped(connection->route, DROP_MEMORY);
    } else if (packet->qos == 0) {
        deliver_offer_qos_0(connection, message);
    } else if (route_submit(connection->route, message, NULL) != ERR_OK) {
        message_destroy(message);
        route_count_dropped(connection->route, DROP_SESSION_ENDED);
    }
}

/* ---- discarded messages ---- */

bool deliver_discard(struct engine_connection *connection, const struct packet *packet,
                     uint8_t reason_code) {
    struct engine_session *session = connection->session;
    if (deliver_is_duplicate(connection, packet) || !deliver_count_against_maximum(connection)) {
        return false;
    }
    struct inbound *inbound = session_remember(connection->engine, session, packet);
    if (!inbound) { /* the server sends it again */
        connection->receiving--;
        connection_end(connection, &(struct engine_closed){.error = CLIENT_ERROR_OUT_OF_MEMORY,
                                                           .message = "out of memory",
                                                           .reason_code = -1});
        return false;
    }
    inbound->state = INBOUND_ACCEPTED;
    inbound->reason_code = reason_code;
    session->offered--;
    if (answers_acknowledge(connection)) {
        reactor_task(connection, TASK_FLUSH);
    }
    return true;
}

/* ---- PUBREL ---- */

void deliver_release(struct engine_connection *connection, const struct packet *pubrel) {
    static const struct packet_fault too_early = {
        .reason_code = REASON_PROTOCOL_ERROR, .message = "the broker sent PUBREL before PUBREC"};
    struct engine *engine = connection->engine;
    struct inbound *inbound =
        inbound_table_find(&engine->inbound, connection->session, pubrel->packet_id);
    if (inbound && inbound->state != INBOUND_RECEIVED) {
        connection_refuse(connection, &too_early);
        return;
    }
    uint8_t reason_code = inbound ? REASON_SUCCESS : REASON_PACKET_IDENTIFIER_NOT_FOUND;
    if (inbound) {
        if (inbound->connection_number == connection->session->connection_number) {
            connection->receiving--;
        }
        session_forget(engine, inbound);
        connection->release_waits = 0;
    }
    packet_write_ack(&connection->out, connection->version, PACKET_PUBCOMP, pubrel->packet_id,
                     reason_code);
    reactor_task(connection, TASK_FLUSH);
}
