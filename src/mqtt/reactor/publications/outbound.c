/* Owns the publications of a session across its connections (MQTT 5.0 section 4.4), and finds those
 * that a broker answers by ending the connection (suspects.c knows what was in doubt then). Worker
 * thread.
 *
 * Publications in flight when a connection ended are in doubt. If the loss is blamed on
 * publications, each of those gets a loss and becomes a suspect: from then on it is sent alone, one
 * after the other. A second loss is its own, and it is given up. So an innocent publication is
 * never given up, and n publications that a broker does not accept cost n + 1 connections.
 *
 * After PUBREC, the PUBREL of a QoS 2 publication is in doubt, by the same rule.
 *
 * MQTT-4.4.0-1 requires everything to be sent again. Publications that were given up are not. A
 * packet identifier of QoS 2 stays unused until the end of the session, because the server may
 * still know it. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "mqtt/reason_codes.h"
#include "mqtt/reactor/reactor.h"

#define OUTBOUND_LOSSES_MAX  2
#define OUTBOUND_RETIRED_MAX 32768
#define OUTBOUND_BITS        64

struct outbound_retired {
    size_t count;
    uint64_t bits[65536 / OUTBOUND_BITS];
};

/* ---- retired packet identifiers ---- */

bool outbound_id_is_retired(const struct engine_session *session, uint16_t packet_id) {
    const struct outbound_retired *retired = session->retired;
    return retired && (retired->bits[packet_id / OUTBOUND_BITS] >> packet_id % OUTBOUND_BITS & 1);
}

bool outbound_has_retired_too_many(const struct engine_session *session) {
    return session->retired && session->retired->count >= OUTBOUND_RETIRED_MAX;
}

/* Out of memory: the identifier may be used again after all others were. */
void outbound_retire(struct engine_session *session, uint16_t packet_id) {
    if (!session->retired) {
        session->retired = calloc(1, sizeof *session->retired);
    }
    if (session->retired && !outbound_id_is_retired(session, packet_id)) {
        session->retired->bits[packet_id / OUTBOUND_BITS] |= UINT64_C(1)
                                                             << packet_id % OUTBOUND_BITS;
        session->retired->count++;
    }
}

static void outbound_reinstate(struct engine_session *session, uint16_t packet_id) {
    if (outbound_id_is_retired(session, packet_id)) {
        session->retired->bits[packet_id / OUTBOUND_BITS] &=
            ~(UINT64_C(1) << packet_id % OUTBOUND_BITS);
        session->retired->count--;
    }
}

static void outbound_forget_retired(struct engine_session *session) {
    free(session->retired);
    session->retired = NULL;
}

/* ---- the server's receive maximum (section 4.9) ---- */

static bool outbound_quota_is_used_up(const struct engine_connection *connection) {
    const struct engine_session *session = connection->session;
    return session->in_flight + session->abandoned >= connection->send_maximum;
}

/* The session ends with the connection, so its waiting publications are never sent. */
static void outbound_give_up_waiting(struct engine *engine, struct engine_session *session) {
    struct outbound *one, *next;
    DL_FOREACH_SAFE(session->outbound, one, next) {
        if (one->tries == 0) {
            publish_unlink(session, one);
            publish_report_one(
                engine, session->client, one,
                &(struct publish_result){.err = ERR_REFUSED, .give_up = GIVE_UP_NOT_SENT});
        }
    }
}

void outbound_check_quota(struct engine_connection *connection) {
    static const struct packet_fault used_up = {.reason_code = REASON_IMPLEMENTATION_ERROR,
                                                .error = CLIENT_ERROR_NOTHING_ACKNOWLEDGED};
    struct engine_session *session = connection->session;
    if (connection->state != CONNECTION_UP || session->in_flight > 0 ||
        !outbound_quota_is_used_up(connection) || read_ahead_is_blocked(connection)) {
        return;
    }
    connection_refuse(connection, &used_up);
    if (!client_config_keeps_session(connection->config)) {
        outbound_give_up_waiting(connection->engine, session);
    }
}

/* ---- giving up ---- */

static bool outbound_is_in_flight(const struct engine_session *session,
                                  const struct outbound *outbound) {
    const struct outbound *one = session->outbound;
    while (one != outbound && one != session->waiting) {
        one = one->next;
    }
    return one != session->waiting;
}

void outbound_give_up(struct engine *engine, struct engine_session *session,
                      struct outbound *outbound, enum give_up reason) {
    struct engine_connection *connection = session->connection;
    bool in_flight = outbound_is_in_flight(session, outbound);
    bool server_may_know = in_flight || outbound->was_written;
    if (outbound->qos == 2 && (server_may_know || outbound->state == OUTBOUND_RELEASED)) {
        outbound_retire(session, outbound->packet_id);
    }
    publish_unlink(session, outbound);
    if (in_flight) {
        session->abandoned++;
        connection->proven = true; /* it was harmless for all that time */
        reactor_task(connection, TASK_QUOTA);
    }
    if (connection) {
        publish_next(connection);
    }
    publish_report_one(engine, session->client, outbound,
                       &(struct publish_result){.err = ERR_REFUSED, .give_up = reason});
}

static void outbound_charge(struct engine *engine, struct engine_session *session,
                            struct outbound *outbound, enum give_up reason) {
    outbound->in_doubt = false;
    if (++outbound->losses >= OUTBOUND_LOSSES_MAX) {
        bool received = outbound->state == OUTBOUND_RELEASED;
        outbound_give_up(engine, session, outbound, received ? GIVE_UP_NOT_COMPLETED : reason);
    }
}

bool outbound_charge_all(struct engine *engine, struct engine_session *session,
                         enum give_up reason) {
    struct outbound *one, *next;
    bool any = false;
    DL_FOREACH_SAFE(session->outbound, one, next) {
        if (one->in_doubt) {
            any = true;
            outbound_charge(engine, session, one, reason);
        }
    }
    return any;
}

bool outbound_blame(struct engine *engine, struct engine_session *session) {
    return session && outbound_charge_all(engine, session, GIVE_UP_CONNECTION_LOST);
}

void outbound_blame_answer(struct engine *engine, struct engine_session *session) {
    outbound_charge_all(engine, session, GIVE_UP_PROTOCOL);
}

void outbound_blame_one(struct engine *engine, struct engine_session *session,
                        struct outbound *outbound, enum give_up reason) {
    struct outbound *one;
    DL_FOREACH(session->outbound, one) {
        one->in_doubt = false;
    }
    outbound_charge(engine, session, outbound, reason);
}

static struct outbound *outbound_find(const struct engine_session *session, uint64_t token) {
    struct outbound *one = NULL;
    if (session) {
        DL_SEARCH_SCALAR(session->outbound, one, token, token);
    }
    return one;
}

bool outbound_drop(struct engine *engine, struct engine_session *session, uint64_t token,
                   enum give_up reason) {
    struct outbound *one = outbound_find(session, token);
    if (one) {
        outbound_give_up(engine, session, one, reason);
    }
    return one != NULL;
}

bool outbound_status(const struct engine_session *session, uint64_t token,
                     struct engine_publication_status *out) {
    const struct outbound *one = outbound_find(session, token);
    if (!one) {
        return false;
    }
    const struct engine_connection *connection = session->connection;
    bool held_up = one->tries == 0 && connection && outbound_quota_is_used_up(connection);
    *out = (struct engine_publication_status){
        .state = one->state == OUTBOUND_RELEASED ? PUBLICATION_RELEASED
                 : one->state == OUTBOUND_SENT   ? PUBLICATION_SENT
                                                 : PUBLICATION_QUEUED,
        .held_up = held_up,
        .acknowledged_at_ms = held_up ? connection->acknowledged_at_ms : 0,
        .tries = one->tries,
        .losses = one->losses};
    return true;
}

/* ---- across connections ---- */

/* A refused connection, whatever its reason code, does not speak against any publication. */
void outbound_attach(struct engine_session *session) {
    struct outbound *one;
    DL_FOREACH(session->outbound, one) {
        one->in_doubt = false;
    }
}

void outbound_begin(struct engine_connection *connection, bool session_present) {
    struct engine_session *session = connection->session;
    if (!session_present) {
        outbound_fail(connection->engine, session, false);
        outbound_forget_retired(session);
    }
    connection->proven = !session->outbound;
}

void outbound_resume(struct engine_connection *connection) {
    if (connection->state == CONNECTION_UP) {
        connection->publications_resumed = true;
        publish_next(connection);
    }
}

bool outbound_may_send(const struct engine_connection *connection,
                       const struct outbound *outbound) {
    const struct engine_session *session = connection->session;
    if (!connection->publications_resumed || session->suspect_in_flight ||
        outbound_quota_is_used_up(connection)) {
        return false;
    }
    bool alone = outbound->losses > 0 || !connection->proven;
    return !alone || session->in_flight == 0;
}

void outbound_interrupt(struct engine_connection *connection, bool all) {
    struct engine_session *session = connection->session;
    struct outbound *one;
    DL_FOREACH(session->outbound, one) {
        if (one == session->waiting) {
            break;
        }
        one->in_doubt = all || one->written_at < connection->out_total;
        if (one->state == OUTBOUND_SENT) {
            one->was_written |= one->in_doubt;
            one->state = OUTBOUND_QUEUED;
        }
    }
    session->waiting = session->outbound;
    session->in_flight = session->abandoned = 0;
    session->suspect_in_flight = false;
}

void outbound_fail(struct engine *engine, struct engine_session *session, bool all) {
    struct outbound *one, *next;
    DL_FOREACH_SAFE(session->outbound, one, next) { /* as many as the worker allows per client */
        if (all || one->was_written || one->state == OUTBOUND_RELEASED) {
            publish_unlink(session, one);
            publish_report_one(engine, session->client, one,
                               &(struct publish_result){.err = ERR_UNAVAILABLE});
        }
    }
}

void outbound_fini(struct engine *engine, struct engine_session *session) {
    outbound_fail(engine, session, true);
    outbound_forget_retired(session);
}

/* ---- acknowledgements that are not expected ---- */

static void outbound_settled_late(struct engine_connection *connection, uint16_t packet_id) {
    struct engine_session *session = connection->session;
    outbound_reinstate(session, packet_id);
    if (session->abandoned > 0) {
        session->abandoned--;
        publish_next(connection);
    }
}

/* Already answered, given up meanwhile, or of an old session. */
void outbound_acknowledged_late(struct engine_connection *connection, const struct packet *packet) {
    bool known = outbound_id_is_retired(connection->session, packet->packet_id);
    if (packet->type == PACKET_PUBREC && !reason_is_error(packet->reason_code)) {
        uint8_t reason_code = known ? REASON_SUCCESS : REASON_PACKET_IDENTIFIER_NOT_FOUND;
        packet_write_ack(&connection->out, connection->version, PACKET_PUBREL, packet->packet_id,
                         reason_code);
        reactor_task(connection, TASK_FLUSH);
    } else {
        outbound_settled_late(connection, packet->packet_id);
    }
}
