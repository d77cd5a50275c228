/* Owns the answers of sinks to received messages, and the acknowledgements that follow from them in
 * the order of arrival (MQTT 5.0 section 4.6). Answers come back on the engine's list of receipts;
 * the worker thread takes them. */
#include <stdlib.h>
#include <utlist.h>
#include "mqtt/reason_codes.h"
#include "mqtt/reactor/reactor.h"

/* ---- acknowledging ---- */

static void answers_acknowledge_one(struct engine_connection *connection, struct inbound *inbound) {
    struct engine_session *session = connection->session;
    enum packet_type type = inbound->qos == 1 ? PACKET_PUBACK : PACKET_PUBREC;
    bool refused = reason_is_error(inbound->reason_code) && connection->version == 5;
    packet_write_ack(&connection->out, connection->version, type, inbound->packet_id,
                     inbound->reason_code);
    if (inbound->qos == 1 || refused) { /* section 4.3.3: no PUBREL follows a refusal */
        connection->receiving--;
        session_forget(connection->engine, inbound);
    } else {
        DL_DELETE(session->unacknowledged, inbound);
        inbound->state = INBOUND_RECEIVED;
        DL_APPEND(session->received, inbound);
    }
}

bool answers_acknowledge(struct engine_connection *connection) {
    struct engine_session *session = connection->session;
    bool any = false;
    if (session->connection != connection) {
        return false; /* it has ended, or DISCONNECT was sent */
    }
    while (session->unacknowledged && session->unacknowledged->state == INBOUND_ACCEPTED) {
        answers_acknowledge_one(connection, session->unacknowledged);
        any = true;
    }
    return any;
}

/* ---- taking answers ---- */

static void answers_accept(struct inbound *inbound) {
    struct engine_session *session = inbound->session;
    bool current = inbound->connection_number == session->connection_number;
    inbound->state = INBOUND_ACCEPTED;
    session->offered -= current;
    if (current && session->connection) {
        reactor_task(session->connection, TASK_ACKNOWLEDGE);
    }
}

/* Neither it nor any later message must be acknowledged: the server sends them again. */
static void answers_reject(struct engine *engine, struct inbound *inbound) {
    struct engine_session *session = inbound->session;
    bool current = inbound->connection_number == session->connection_number;
    if (current && session->connection) {
        connection_end(session->connection,
                       &(struct engine_closed){.error = CLIENT_ERROR_SINK_UNAVAILABLE,
                                               .message = "no sink accepts messages any more",
                                               .reason_code = -1});
    }
    session_forget(engine, inbound);
}

void answers_collect(struct engine *engine) {
    struct receipt *receipt = receipts_take(&engine->receipts);
    while (receipt) { /* bounded by the sinks' queues */
        struct receipt *next = receipt->next;
        struct inbound *inbound = (struct inbound *)receipt;
        if (!inbound->session) {
            free(inbound);
        } else if (receipt->result == ERR_OK) {
            answers_accept(inbound);
        } else {
            receipt->next = engine->not_accepted;
            engine->not_accepted = receipt;
        }
        receipt = next;
    }
}

void answers_take(struct engine *engine) {
    answers_collect(engine);
    while (engine->not_accepted) { /* the end of a connection may add more */
        struct inbound *inbound = (struct inbound *)engine->not_accepted;
        engine->not_accepted = inbound->receipt.next;
        if (inbound->session) {
            answers_reject(engine, inbound);
        }
        free(inbound);
    }
}
