/* Owns publications from publish() to the published event, while their connection lasts: packet
 * identifiers, the server's limits, acknowledgements (MQTT 5.0 section 4.3). State that outlives
 * the connection is in outbound.c. Worker thread.
 *
 *   QoS 0      unwritten --written--> settled --> published
 *   QoS 1, 2   session->outbound: QUEUED --> SENT [--> RELEASED] --> published */
#include <stdlib.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "mqtt/reason_codes.h"
#include "mqtt/reactor/reactor.h"

static void publish_free(struct engine *engine, struct outbound *outbound) {
    engine->buffered -= outbound->bytes.capacity;
    buffer_fini(&outbound->bytes);
    free(outbound);
}

void publish_report_one(struct engine *engine, void *client, struct outbound *outbound,
                        const struct publish_result *result) {
    uint64_t token = outbound->token;
    publish_free(engine, outbound);
    engine->events->published(client, token, result);
}

/* ---- requests of the worker ---- */

/* Reported by poll(), like every event. */
static void publish_settle(struct engine_connection *connection, struct outbound *outbound,
                           enum err err, uint8_t reason_code) {
    outbound->state = OUTBOUND_SETTLED;
    outbound->result = err;
    outbound->reason_code = reason_code;
    DL_APPEND(connection->settled, outbound);
    reactor_task(connection, TASK_REPORT);
}

void publish_report(struct engine_connection *connection) {
    while (connection->settled) { /* as many as the worker allows per client */
        struct outbound *first = connection->settled;
        DL_DELETE(connection->settled, first);
        struct publish_result result = {.err = first->result, .reason_code = first->reason_code};
        publish_report_one(connection->engine, connection->session->client, first, &result);
    }
}

static uint64_t publish_out_position(const struct engine_connection *connection) {
    return connection->out_total + connection->out.len - connection->out_sent;
}

static void publish_release(struct engine_connection *connection, uint16_t packet_id,
                            uint8_t reason_code) {
    packet_write_ack(&connection->out, connection->version, PACKET_PUBREL, packet_id, reason_code);
    reactor_task(connection, TASK_FLUSH);
}

/* Sends PUBLISH or, in a kept session, perhaps PUBREL. */
static void publish_send_one(struct engine_connection *connection, struct outbound *outbound) {
    outbound->written_at = publish_out_position(connection);
    connection->session->in_flight++;
    connection->session->suspect_in_flight = outbound->losses > 0;
    if (connection->reading == READING_NOTHING) {
        reactor_task(connection, TASK_READ); /* an answer is expected */
    }
    if (outbound->state == OUTBOUND_RELEASED) {
        publish_release(connection, outbound->packet_id, 0);
        return;
    }
    if (outbound->was_written) {
        packet_mark_duplicate((uint8_t *)outbound->bytes.data);
    }
    buffer_append(&connection->out, outbound->bytes.data, outbound->bytes.len);
    outbound->state = OUTBOUND_SENT;
    if (outbound->tries < UINT16_MAX) {
        outbound->tries++;
    }
}

/* The reason code if the server has announced that it does not accept this; 0: it does. */
static uint8_t publish_refusal(const struct engine_connection *connection,
                               const struct outbound *outbound) {
    if (connection->server_packet_max > 0 && outbound->bytes.len > connection->server_packet_max) {
        return REASON_PACKET_TOO_LARGE;
    }
    if (!connection->server_has_retain &&
        packet_publish_retains((const uint8_t *)outbound->bytes.data)) {
        return REASON_RETAIN_NOT_SUPPORTED;
    }
    return outbound->qos > connection->server_maximum_qos ? REASON_QOS_NOT_SUPPORTED : 0;
}

/* The server of an earlier connection may have received it: then the outcome is unknown. */
static void publish_refuse(struct engine_connection *connection, struct outbound *outbound,
                           uint8_t reason_code) {
    bool tried = outbound->was_written;
    if (tried && outbound->qos == 2) {
        outbound_retire(connection->session, outbound->packet_id);
    }
    DL_DELETE(connection->session->outbound, outbound);
    publish_settle(connection, outbound, tried ? ERR_UNAVAILABLE : ERR_OK, tried ? 0 : reason_code);
}

/* Sends in the order of the first time. A publication meant for an earlier connection may be
 * unacceptable for the present server. */
void publish_next(struct engine_connection *connection) {
    struct engine_session *session = connection->session;
    while (session->waiting && outbound_may_send(connection, session->waiting)) {
        struct outbound *one = session->waiting;
        session->waiting = one->next;
        uint8_t reason_code = one->state == OUTBOUND_QUEUED ? publish_refusal(connection, one) : 0;
        if (reason_code != 0) {
            publish_refuse(connection, one, reason_code);
        } else {
            publish_send_one(connection, one);
        }
        reactor_task(connection, TASK_FLUSH);
    }
}

static void publish_init_outbound(struct engine_connection *connection, struct outbound *outbound,
                                  const struct engine_publication *publication) {
    struct engine_session *session = connection->session;
    if (outbound->qos == 0) {
        uint64_t begins_at = publish_out_position(connection);
        buffer_append(&connection->out, outbound->bytes.data, outbound->bytes.len);
        connection->engine->buffered -= outbound->bytes.capacity;
        buffer_fini(&outbound->bytes);
        outbound->written_at = publish_out_position(connection);
        suspects_note_unacknowledged(connection, publication, begins_at, outbound->written_at);
        DL_APPEND(connection->unwritten, outbound);
    } else {
        outbound->state = OUTBOUND_QUEUED;
        DL_APPEND(session->outbound, outbound);
        session->waiting = session->waiting ? session->waiting : outbound;
        publish_next(connection);
    }
}

static enum err publish_encode(struct engine_connection *connection,
                               const struct engine_publication *publication,
                               struct outbound *outbound) {
    struct engine *engine = connection->engine;
    if (outbound->qos > 0) {
        outbound->packet_id = session_packet_id(connection->session, connection->request.packet_id);
    }
    enum err err = packet_write_publish(&outbound->bytes, connection->version, publication,
                                        outbound->packet_id);
    if (err == ERR_OK && outbound->bytes.failed) {
        err = ERR_MEMORY;
    }
    if (err == ERR_OK && engine->buffered + outbound->bytes.capacity > engine->buffered_max) {
        err = ERR_FULL;
    }
    return err;
}

enum err publish_submit(struct engine_connection *connection,
                        const struct engine_publication *publication, uint64_t token) {
    if (connection->state != CONNECTION_UP) {
        return ERR_WRONG_STATE;
    }
    if (publication->qos == 2 && outbound_has_retired_too_many(connection->session)) {
        return ERR_FULL;
    }
    struct outbound *outbound = calloc(1, sizeof *outbound);
    if (!outbound) {
        return ERR_MEMORY;
    }
    outbound->token = token;
    outbound->qos = publication->qos;
    enum err err = publish_encode(connection, publication, outbound);
    if (err != ERR_OK) {
        buffer_fini(&outbound->bytes);
        free(outbound);
        return err;
    }
    connection->engine->buffered += outbound->bytes.capacity;
    uint8_t reason_code = publish_refusal(connection, outbound);
    if (reason_code != 0) {
        publish_settle(connection, outbound, ERR_OK, reason_code);
        return ERR_OK;
    }
    publish_init_outbound(connection, outbound, publication);
    output_count(connection); /* the next publish() must see it */
    reactor_task(connection, TASK_FLUSH);
    return ERR_OK;
}

void publish_note_written(struct engine_connection *connection) {
    const struct outbound *before = connection->unwritten;
    while (connection->unwritten && connection->unwritten->written_at <= connection->out_total) {
        struct outbound *first = connection->unwritten;
        DL_DELETE(connection->unwritten, first);
        publish_settle(connection, first, ERR_OK, 0);
    }
    if (connection->unwritten != before) {
        suspects_note_written(connection);
    }
}

void publish_fail_unwritten(struct engine_connection *connection) {
    struct outbound *one, *next;
    DL_FOREACH_SAFE(connection->unwritten, one, next) {
        DL_DELETE(connection->unwritten, one);
        publish_report_one(connection->engine, connection->session->client, one,
                           &(struct publish_result){.err = ERR_UNAVAILABLE});
    }
}

/* ---- answers of the server ---- */

/* It is mostly the oldest. */
static struct outbound *publish_find_in_flight(const struct engine_session *session,
                                               uint16_t packet_id) {
    struct outbound *one;
    DL_FOREACH(session->outbound, one) {
        if (one == session->waiting) {
            return NULL;
        }
        if (one->packet_id == packet_id) {
            return one;
        }
    }
    return NULL;
}

void publish_unlink(struct engine_session *session, struct outbound *outbound) {
    bool waits = false;
    for (const struct outbound *one = session->waiting; one && !waits; one = one->next) {
        waits = one == outbound;
    }
    if (session->waiting == outbound) {
        session->waiting = outbound->next;
    }
    DL_DELETE(session->outbound, outbound);
    if (!waits) {
        session->in_flight--;
        session->suspect_in_flight = false;
    }
}

static void publish_finish(struct engine_connection *connection, struct outbound *outbound,
                           const struct publish_result *result) {
    struct engine_session *session = connection->session;
    DL_DELETE(session->outbound, outbound);
    session->in_flight--;
    session->suspect_in_flight = false;
    connection->proven = true;
    publish_next(connection);
    publish_report_one(connection->engine, connection->session->client, outbound, result);
}

static void publish_done(struct engine_connection *connection, struct outbound *outbound,
                         uint8_t reason_code) {
    struct publish_result result = {.err = ERR_OK, .reason_code = reason_code};
    if (reason_is_error(reason_code)) {
        suspects_note_refused(connection, outbound);
    }
    if (suspects_ends_connections(reason_code, &result.give_up)) {
        result.err = ERR_REFUSED;
    }
    publish_finish(connection, outbound, &result);
}

static void publish_received(struct engine_connection *connection, struct outbound *outbound,
                             const struct packet *pubrec) {
    if (reason_is_error(pubrec->reason_code)) {
        publish_done(connection, outbound, pubrec->reason_code);
        return;
    }
    connection->engine->buffered -= outbound->bytes.capacity;
    buffer_fini(&outbound->bytes);
    outbound->state = OUTBOUND_RELEASED;
    outbound->written_at = publish_out_position(connection);
    publish_release(connection, outbound->packet_id, 0);
}

/* RabbitMQ, which does not know QoS 2, answers with PUBACK: it has the message, and nothing more
 * will follow. */
static void publish_done_at_qos_1(struct engine_connection *connection, struct outbound *outbound,
                                  uint8_t reason_code) {
    metric_add(METRIC_ACKNOWLEDGED_AT_QOS1, 1);
    publish_done(connection, outbound, reason_code);
}

static void publish_refuse_acknowledgement(struct engine_connection *connection,
                                           struct outbound *outbound) {
    static const struct packet_fault unfitting = {
        .reason_code = REASON_PROTOCOL_ERROR,
        .message = "the broker's acknowledgement does not match the QoS of the publication"};
    struct engine *engine = connection->engine;
    struct engine_session *session = connection->session;
    connection_refuse(connection, &unfitting);
    outbound_blame_one(engine, session, outbound, GIVE_UP_PROTOCOL);
}

void publish_acknowledged(struct engine_connection *connection, const struct packet *packet) {
    struct outbound *outbound = publish_find_in_flight(connection->session, packet->packet_id);
    connection->acknowledged_at_ms = clock_ms();
    bool sent = outbound && outbound->state == OUTBOUND_SENT;
    if (!outbound) {
        outbound_acknowledged_late(connection, packet);
    } else if (packet->type == PACKET_PUBACK && sent) {
        (outbound->qos == 2 ? publish_done_at_qos_1 : publish_done)(connection, outbound,
                                                                    packet->reason_code);
    } else if (packet->type == PACKET_PUBREC && outbound->qos == 2) {
        publish_received(connection, outbound, packet);
    } else if (packet->type == PACKET_PUBCOMP && outbound->state == OUTBOUND_RELEASED) {
        publish_done(connection, outbound,
                     0); /* PUBREC accepted it; 0x92 only says that this is known */
    } else {
        publish_refuse_acknowledgement(connection, outbound);
    }
}
