/* Owns the session state of a client and its broker between connections (MQTT 5.0 section 4.1).
 * Worker thread. */
#include <assert.h>
#include <stdlib.h>
#include <utlist.h>
#include "base/text.h"
#include "reactor.h"

struct engine_session *session_create(void *client) {
    struct engine_session *session = calloc(1, sizeof *session);
    if (session) {
        session->client = client;
        /* Some brokers confuse the identifiers of both directions, and theirs begin at 1. */
        session->last_packet_id = (uint16_t)text_random_between(0, UINT16_MAX);
    }
    return session;
}

void session_attach(struct engine_session *session, struct engine_connection *connection) {
    assert(!session->connection);
    session->connection = connection;
    session->connection_number++;
    DL_CONCAT(session->earlier, session->unacknowledged);
    session->unacknowledged = NULL;
    session->offered = 0;
    outbound_attach(session);
}

struct inbound *session_remember(struct engine *engine, struct engine_session *session,
                                 const struct packet *packet) {
    struct inbound *inbound = calloc(1, sizeof *inbound);
    if (!inbound) {
        return NULL;
    }
    inbound->receipt.owner = &engine->receipts;
    inbound->session = session;
    inbound->connection_number = session->connection_number;
    inbound->packet_id = packet->packet_id;
    inbound->qos = packet->qos;
    inbound->state = INBOUND_OFFERED;
    inbound_table_add(&engine->inbound, inbound);
    DL_APPEND(session->unacknowledged, inbound);
    session->offered++;
    session->inbound_count++;
    return inbound;
}

static void session_unlink_inbound(struct engine_session *session, struct inbound *inbound) {
    if (inbound->state == INBOUND_RECEIVED) {
        DL_DELETE(session->received, inbound);
    } else if (inbound->connection_number == session->connection_number) {
        DL_DELETE(session->unacknowledged, inbound);
        if (inbound->state == INBOUND_OFFERED) {
            session->offered--;
        }
    } else {
        DL_DELETE(session->earlier, inbound);
    }
}

/* A message that a sink still has lives until the sink answers. */
void session_forget(struct engine *engine, struct inbound *inbound) {
    inbound->session->inbound_count--;
    session_unlink_inbound(inbound->session, inbound);
    inbound_table_remove(&engine->inbound, inbound);
    inbound->session = NULL;
    if (inbound->state != INBOUND_OFFERED) {
        free(inbound);
    }
}

void session_forget_inbound(struct engine *engine, struct engine_session *session) {
    struct inbound **lists[] = {&session->unacknowledged, &session->earlier, &session->received};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        while (*lists[i]) {
            session_forget(engine, *lists[i]);
        }
    }
}

void session_end(struct engine *engine, struct engine_session *session) {
    if (!session) {
        return;
    }
    assert(!session->connection);
    outbound_fini(engine, session);
    session_forget_inbound(engine, session);
    free(session);
}

static bool session_packet_id_is_in_use(const struct engine_session *session, uint16_t packet_id) {
    const struct outbound *one;
    DL_FOREACH(session->outbound, one) {
        if (one->packet_id == packet_id) {
            return true;
        }
    }
    return outbound_id_is_retired(session, packet_id);
}

/* Terminates: a client has far fewer publications in progress than there are identifiers. */
uint16_t session_packet_id(struct engine_session *session, uint16_t taken) {
    do {
        session->last_packet_id++;
    } while (session->last_packet_id == 0 || session->last_packet_id == taken ||
             session_packet_id_is_in_use(session, session->last_packet_id));
    return session->last_packet_id;
}
