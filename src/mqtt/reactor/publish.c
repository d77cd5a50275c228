/* Owns our publications from publish() to the published event: packet identifiers, the server's
 * limits, acknowledgements, and sending again in a session that outlived its connection (MQTT 5.0
 * sections 4.3 and 4.4). Host thread. Knows no host but through its events.
 *
 *   QoS 0      unwritten --written--> settled --> published
 *   QoS 1, 2   session->outbound: QUEUED --> SENT [--> RELEASED] --> published */
#include <stdlib.h>
#include <utlist.h>
#include "reactor.h"

static void drop(struct engine *engine, struct outbound *outbound) {
    engine->buffered -= outbound->bytes.capacity;
    buffer_fini(&outbound->bytes);
    free(outbound);
}

static void tell(struct engine *engine, void *client, struct outbound *outbound, enum err result,
                 uint8_t reason_code) {
    uint64_t token = outbound->token;
    drop(engine, outbound);
    engine->events->published(client, token, result, reason_code);
}

/* ---- from the host ---- */

/* Told from poll(), as every event. */
static void settle(struct engine_connection *connection, struct outbound *outbound, enum err result,
                   uint8_t reason_code) {
    outbound->state = OUTBOUND_SETTLED;
    outbound->result = result;
    outbound->reason_code = reason_code;
    DL_APPEND(connection->settled, outbound);
    reactor_task(connection, TASK_TELL);
}

void publish_tell(struct engine_connection *connection) {
    while (connection->settled != NULL) { /* at most as many as the host allows a client */
        struct outbound *first = connection->settled;
        DL_DELETE(connection->settled, first);
        tell(connection->engine, connection->client, first, first->result, first->reason_code);
    }
}

static void send_first(struct engine_connection *connection, struct outbound *outbound) {
    buffer_append(&connection->out, outbound->bytes.data, outbound->bytes.len);
    outbound->state = OUTBOUND_SENT;
    connection->session->outbound_sent++;
}

/* What the server said it does not take; 0: it does. */
static uint8_t refusal(const struct engine_connection *connection,
                       const struct outbound *outbound) {
    if (connection->server_packet_max > 0 && outbound->bytes.len > connection->server_packet_max) {
        return 0x95; /* packet too large */
    }
    if (!connection->server_has_retain &&
        packet_publish_retains((const uint8_t *)outbound->bytes.data)) {
        return 0x9A; /* retain not supported */
    }
    return outbound->qos > connection->server_maximum_qos ? 0x9B : 0; /* QoS not supported */
}

/* The server of an earlier connection may have taken it: then nobody knows. */
static void refuse(struct engine_connection *connection, struct outbound *outbound,
                   uint8_t reason_code) {
    bool tried = packet_publish_is_duplicate((const uint8_t *)outbound->bytes.data);
    DL_DELETE(connection->session->outbound, outbound);
    settle(connection, outbound, tried ? ERR_UNAVAILABLE : ERR_OK, tried ? 0 : reason_code);
}

/* What was meant for an earlier connection may be nothing for the server of this one. */
static void send_next(struct engine_connection *connection) {
    struct engine_session *session = connection->session;
    struct outbound *one, *next;
    DL_FOREACH_SAFE(session->outbound, one, next) {
        if (session->outbound_sent >= connection->send_maximum) {
            return;
        }
        uint8_t reason_code = one->state == OUTBOUND_QUEUED ? refusal(connection, one) : 0;
        if (reason_code != 0) {
            refuse(connection, one, reason_code);
        } else if (one->state == OUTBOUND_QUEUED) {
            send_first(connection, one);
        }
    }
}

static void begin(struct engine_connection *connection, struct outbound *outbound) {
    if (outbound->qos == 0) {
        buffer_append(&connection->out, outbound->bytes.data, outbound->bytes.len);
        connection->engine->buffered -= outbound->bytes.capacity;
        buffer_fini(&outbound->bytes);
        outbound->written_at = connection->out_total + connection->out.len - connection->out_sent;
        DL_APPEND(connection->unwritten, outbound);
    } else {
        outbound->state = OUTBOUND_QUEUED;
        DL_APPEND(connection->session->outbound, outbound);
        send_next(connection);
    }
}

static enum err encode(struct engine_connection *connection,
                       const struct engine_publication *publication, struct outbound *outbound) {
    struct engine *engine = connection->engine;
    if (outbound->qos > 0) {
        outbound->packet_id = session_packet_id(connection->session, connection->request.packet_id);
    }
    enum err result = packet_write_publish(&outbound->bytes, connection->version, publication,
                                           outbound->packet_id);
    if (result == ERR_OK && outbound->bytes.failed) {
        result = ERR_MEMORY;
    }
    if (result == ERR_OK && engine->buffered + outbound->bytes.capacity > engine->buffered_max) {
        result = ERR_FULL;
    }
    return result;
}

enum err publish(struct engine_connection *connection, const struct engine_publication *publication,
                 uint64_t token) {
    if (connection->state != CONNECTION_UP) {
        return ERR_WRONG_STATE;
    }
    struct outbound *outbound = calloc(1, sizeof(*outbound));
    if (outbound == NULL) {
        return ERR_MEMORY;
    }
    outbound->token = token;
    outbound->qos = publication->qos;
    enum err result = encode(connection, publication, outbound);
    if (result != ERR_OK) {
        buffer_fini(&outbound->bytes);
        free(outbound);
        return result;
    }
    connection->engine->buffered += outbound->bytes.capacity;
    uint8_t reason_code = refusal(connection, outbound);
    if (reason_code != 0) {
        settle(connection, outbound, ERR_OK, reason_code);
        return ERR_OK;
    }
    begin(connection, outbound);
    output_count(connection); /* the next publish() is to see it */
    reactor_task(connection, TASK_FLUSH);
    return ERR_OK;
}

void publish_note_written(struct engine_connection *connection) {
    while (connection->unwritten != NULL &&
           connection->unwritten->written_at <= connection->out_total) {
        struct outbound *first = connection->unwritten;
        DL_DELETE(connection->unwritten, first);
        settle(connection, first, ERR_OK, 0);
    }
}

/* ---- from the server ---- */

static struct outbound *find(const struct engine_session *session, uint16_t packet_id) {
    struct outbound *one;
    DL_FOREACH(session->outbound, one) {
        if (one->packet_id == packet_id && one->state != OUTBOUND_QUEUED) {
            return one;
        }
    }
    return NULL;
}

static void done(struct engine_connection *connection, struct outbound *outbound,
                 uint8_t reason_code) {
    struct engine_session *session = connection->session;
    DL_DELETE(session->outbound, outbound);
    session->outbound_sent--;
    send_next(connection);
    reactor_task(connection, TASK_FLUSH);
    tell(connection->engine, connection->client, outbound, ERR_OK, reason_code);
}

static void release(struct engine_connection *connection, uint16_t packet_id, uint8_t reason_code) {
    packet_write_ack(&connection->out, connection->version, PACKET_PUBREL, packet_id, reason_code);
    reactor_task(connection, TASK_FLUSH);
}

static void received(struct engine_connection *connection, struct outbound *outbound,
                     const struct packet *pubrec) {
    if (pubrec->reason_code >= 0x80) {
        done(connection, outbound, pubrec->reason_code);
        return;
    }
    connection->engine->buffered -= outbound->bytes.capacity;
    buffer_fini(&outbound->bytes);
    outbound->state = OUTBOUND_RELEASED;
    release(connection, outbound->packet_id, 0);
}

void publish_acknowledged(struct engine_connection *connection, const struct packet *packet) {
    static const struct packet_fault unfitting = {
        .reason_code = REASON_PROTOCOL_ERROR,
        .message = "the broker acknowledged a publication in a way that does not fit its QoS"};
    struct outbound *outbound = find(connection->session, packet->packet_id);
    if (outbound == NULL) { /* answered already, or of a session long gone */
        if (packet->type == PACKET_PUBREC && packet->reason_code < 0x80) {
            release(connection, packet->packet_id, REASON_PACKET_IDENTIFIER_NOT_FOUND);
        }
    } else if ((packet->type == PACKET_PUBACK) != (outbound->qos == 1) ||
               (packet->type == PACKET_PUBCOMP && outbound->state != OUTBOUND_RELEASED)) {
        connection_refuse(connection, &unfitting);
    } else if (packet->type == PACKET_PUBREC) {
        received(connection, outbound, packet);
    } else if (packet->type == PACKET_PUBCOMP) {
        done(connection, outbound, 0); /* PUBREC took it; 0x92 only says that this is known */
    } else {
        done(connection, outbound, packet->reason_code);
    }
}

/* ---- when a connection ended, or the next one is there ---- */

void publish_resume(struct engine_connection *connection) {
    struct engine_session *session = connection->session;
    struct outbound *one;
    session->outbound_sent = 0;
    DL_FOREACH(session->outbound, one) {
        if (one->state == OUTBOUND_RELEASED) {
            session->outbound_sent++;
            release(connection, one->packet_id, 0);
        } else if (one->state == OUTBOUND_SENT) {
            packet_mark_duplicate((uint8_t *)one->bytes.data);
            one->state = OUTBOUND_QUEUED;
        }
    }
    send_next(connection);
    reactor_task(connection, TASK_FLUSH);
}

void publish_fail(struct engine *engine, struct engine_session *session, bool all) {
    struct outbound *one, *next;
    DL_FOREACH_SAFE(session->outbound, one, next) { /* as many as the host allows a client */
        if (all || one->state != OUTBOUND_QUEUED) {
            DL_DELETE(session->outbound, one);
            tell(engine, session->client, one, ERR_UNAVAILABLE, 0);
        }
    }
    session->outbound_sent = 0;
}

void publish_fail_unwritten(struct engine_connection *connection) {
    struct outbound *one, *next;
    DL_FOREACH_SAFE(connection->unwritten, one, next) {
        DL_DELETE(connection->unwritten, one);
        tell(connection->engine, connection->client, one, ERR_UNAVAILABLE, 0);
    }
}
