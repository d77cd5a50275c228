/* Owns what a session owes over its connections (MQTT 5.0 section 4.4), and the search for what a
 * broker does not take and answers by ending the connection. Host thread.
 *
 * What was in flight when a connection ended is in doubt. Where the loss is laid to it, each of it
 * has a loss and is a suspect: it is sent alone from then on, one after the other. A second loss is
 * its own, and it is given up. So an innocent neighbour is never given up, and n that a broker does
 * not take cost n + 1 connections.
 *
 * A publication of QoS 2 that the broker has received (PUBREC) is in doubt by its PUBREL, under the
 * same rule.
 *
 * MQTT-4.4.0-1 asks for everything to be sent again. What is given up is not; the packet identifier
 * of QoS 2 stays unused for as long as the session lasts, because the server may still know it. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/text.h"
#include "mqtt/reason_codes.h"
#include "reactor.h"

#define OWED_LOSSES_MAX        2
#define OWED_RETIRED_MAX       32768
#define OWED_UNACKNOWLEDGED_MS 2000 /* so long after QoS 0 was sent a loss may be its fault */
#define OWED_SMALL_BYTES       4096 /* below, a payload ends no connection by its size */
#define OWED_BITS              64

struct owed_retired {
    size_t count;
    uint64_t bits[65536 / OWED_BITS];
};

/* ---- packet identifiers that are not used again ---- */

bool owed_id_is_retired(const struct engine_session *session, uint16_t packet_id) {
    const struct owed_retired *retired = session->retired;
    return retired != NULL && (retired->bits[packet_id / OWED_BITS] >> packet_id % OWED_BITS & 1);
}

bool owed_has_retired_too_many(const struct engine_session *session) {
    return session->retired != NULL && session->retired->count >= OWED_RETIRED_MAX;
}

/* Out of memory: it may be used again when all others were. */
void owed_retire(struct engine_session *session, uint16_t packet_id) {
    if (session->retired == NULL) {
        session->retired = calloc(1, sizeof(*session->retired));
    }
    if (session->retired != NULL && !owed_id_is_retired(session, packet_id)) {
        session->retired->bits[packet_id / OWED_BITS] |= UINT64_C(1) << packet_id % OWED_BITS;
        session->retired->count++;
    }
}

static void owed_reinstate(struct engine_session *session, uint16_t packet_id) {
    if (owed_id_is_retired(session, packet_id)) {
        session->retired->bits[packet_id / OWED_BITS] &= ~(UINT64_C(1) << packet_id % OWED_BITS);
        session->retired->count--;
    }
}

static void owed_forget_retired(struct engine_session *session) {
    free(session->retired);
    session->retired = NULL;
}

/* ---- the server's receive maximum (section 4.9) ---- */

static bool owed_quota_is_used_up(const struct engine_connection *connection) {
    const struct engine_session *session = connection->session;
    return session->in_flight + session->abandoned >= connection->send_maximum;
}

/* A session that ends with the connection: nobody will send what waits in it. */
static void owed_give_up_waiting(struct engine *engine, struct engine_session *session) {
    struct outbound *one, *next;
    DL_FOREACH_SAFE(session->outbound, one, next) {
        if (one->tries == 0) {
            publish_unlink(session, one);
            publish_tell_one(engine, session->client, one, ERR_REFUSED, GIVE_UP_NOT_SENT);
        }
    }
}

void owed_look_at_quota(struct engine_connection *connection) {
    static const struct packet_fault used_up = {.reason_code = REASON_IMPLEMENTATION_ERROR,
                                                .error = CLIENT_ERROR_NOTHING_ACKNOWLEDGED};
    struct engine_session *session = connection->session;
    if (connection->state != CONNECTION_UP || session->in_flight > 0 ||
        !owed_quota_is_used_up(connection) || ahead_is_deaf(connection)) {
        return;
    }
    connection_refuse(connection, &used_up);
    if (!client_config_keeps_session(connection->config)) {
        owed_give_up_waiting(connection->engine, session);
    }
}

/* ---- giving up ---- */

static bool owed_is_in_flight(const struct engine_session *session,
                              const struct outbound *outbound) {
    const struct outbound *one = session->outbound;
    while (one != outbound && one != session->waiting) {
        one = one->next;
    }
    return one != session->waiting;
}

/* On a connection that goes on its acknowledgement may still come. */
static void owed_give_up(struct engine *engine, struct engine_session *session,
                         struct outbound *outbound, enum give_up reason) {
    struct engine_connection *connection = session->connection;
    bool in_flight = owed_is_in_flight(session, outbound);
    bool server_may_know = in_flight || outbound->was_written;
    if (outbound->qos == 2 && (server_may_know || outbound->state == OUTBOUND_RELEASED)) {
        owed_retire(session, outbound->packet_id);
    }
    publish_unlink(session, outbound);
    if (in_flight) {
        session->abandoned++;
        connection->proven = true; /* it did no harm for all that time */
        reactor_task(connection, TASK_QUOTA);
    }
    if (connection != NULL) {
        publish_next(connection);
    }
    publish_tell_one(engine, session->client, outbound, ERR_REFUSED, (int)reason);
}

static void owed_charge(struct engine *engine, struct engine_session *session,
                        struct outbound *outbound, enum give_up reason) {
    outbound->in_doubt = false;
    if (++outbound->losses >= OWED_LOSSES_MAX) {
        bool received = outbound->state == OUTBOUND_RELEASED;
        owed_give_up(engine, session, outbound, received ? GIVE_UP_NOT_COMPLETED : reason);
    }
}

static bool owed_charge_all(struct engine *engine, struct engine_session *session,
                            enum give_up reason) {
    struct outbound *one, *next;
    bool any = false;
    DL_FOREACH_SAFE(session->outbound, one, next) {
        if (one->in_doubt) {
            any = true;
            owed_charge(engine, session, one, reason);
        }
    }
    return any;
}

bool owed_blame(struct engine *engine, struct engine_session *session) {
    return session != NULL && owed_charge_all(engine, session, GIVE_UP_CONNECTION_LOST);
}

void owed_blame_answer(struct engine *engine, struct engine_session *session) {
    owed_charge_all(engine, session, GIVE_UP_PROTOCOL);
}

void owed_blame_one(struct engine *engine, struct engine_session *session,
                    struct outbound *outbound, enum give_up reason) {
    struct outbound *one;
    DL_FOREACH(session->outbound, one) {
        one->in_doubt = false;
    }
    owed_charge(engine, session, outbound, reason);
}

static struct outbound *owed_find(const struct engine_session *session, uint64_t token) {
    struct outbound *one = NULL;
    if (session != NULL) {
        DL_SEARCH_SCALAR(session->outbound, one, token, token);
    }
    return one;
}

bool owed_drop(struct engine *engine, struct engine_session *session, uint64_t token,
               enum give_up reason) {
    struct outbound *one = owed_find(session, token);
    if (one != NULL) {
        owed_give_up(engine, session, one, reason);
    }
    return one != NULL;
}

bool owed_status(const struct engine_session *session, uint64_t token,
                 struct engine_publication_status *out) {
    const struct outbound *one = owed_find(session, token);
    if (one == NULL) {
        return false;
    }
    const struct engine_connection *connection = session->connection;
    bool held_up = one->tries == 0 && connection != NULL && owed_quota_is_used_up(connection);
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

/* ---- from connection to connection ---- */

/* A connection that is refused, whatever its reason code, speaks against none of them. */
void owed_attach(struct engine_session *session) {
    struct outbound *one;
    DL_FOREACH(session->outbound, one) {
        one->in_doubt = false;
    }
}

void owed_begin(struct engine_connection *connection, bool session_present) {
    struct engine_session *session = connection->session;
    if (!session_present) {
        owed_fail(connection->engine, session, false);
        owed_forget_retired(session);
    }
    connection->proven = session->outbound == NULL;
}

void owed_send(struct engine_connection *connection) {
    if (connection->state == CONNECTION_UP) {
        connection->sends_owed = true;
        publish_next(connection);
    }
}

bool owed_may_send(const struct engine_connection *connection, const struct outbound *outbound) {
    const struct engine_session *session = connection->session;
    if (!connection->sends_owed || session->suspect_in_flight ||
        owed_quota_is_used_up(connection)) {
        return false;
    }
    bool alone = outbound->losses > 0 || !connection->proven;
    return !alone || session->in_flight == 0;
}

void owed_interrupt(struct engine_connection *connection, bool all) {
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

void owed_fail(struct engine *engine, struct engine_session *session, bool all) {
    struct outbound *one, *next;
    DL_FOREACH_SAFE(session->outbound, one, next) { /* as many as the host allows a client */
        if (all || one->was_written || one->state == OUTBOUND_RELEASED) {
            publish_unlink(session, one);
            publish_tell_one(engine, session->client, one, ERR_UNAVAILABLE, 0);
        }
    }
}

void owed_fini(struct engine *engine, struct engine_session *session) {
    owed_fail(engine, session, true);
    owed_forget_retired(session);
}

/* ---- what was in doubt when a connection ended ---- */

struct owed_candidate {
    struct outbound *outbound; /* NULL: of QoS 0 */
    struct engine_suspect about;
    bool is_text; /* by its payload format indicator */
};

static void owed_copy_topic(struct engine_suspect *about, const void *topic, size_t len) {
    size_t most = sizeof(about->topic) - 1;
    len = len < most ? len : most;
    memcpy(about->topic, topic, len);
    about->topic[len] = '\0';
}

static struct owed_candidate owed_describe(const struct engine_connection *connection,
                                           struct outbound *outbound) {
    struct owed_candidate out = {.outbound = outbound, .about.qos = outbound->qos};
    const uint8_t *bytes = (const uint8_t *)outbound->bytes.data;
    struct packet_frame frame;
    struct packet_fault fault;
    struct packet packet;
    struct packet_property format;
    if (outbound->bytes.len == 0 ||
        packet_frame(bytes, outbound->bytes.len, &frame, &fault) != PACKET_FRAMED ||
        !packet_decode(bytes, &frame, connection->version, &packet, &fault)) {
        return out; /* received: only its identifier is left */
    }
    out.about.payload_len = packet.payload.len;
    out.about.retain = packet.retain;
    owed_copy_topic(&out.about, packet.topic.data, packet.topic.len);
    out.is_text = packet_property_find(packet.properties, PROPERTY_PAYLOAD_FORMAT, &format) &&
                  format.number == 1;
    return out;
}

/* NULL: out of memory. */
static struct outbound_unacknowledged *
owed_last_unacknowledged(struct engine_connection *connection) {
    if (connection->last_unacknowledged == NULL) {
        connection->last_unacknowledged = calloc(1, sizeof(*connection->last_unacknowledged));
    }
    return connection->last_unacknowledged;
}

static struct outbound_known *owed_known(struct outbound_unacknowledged *last, uint64_t topic,
                                         bool retain) {
    for (size_t i = 0; i < OUTBOUND_KNOWN_MAX; i++) {
        if (last->known[i].topic == topic && last->known[i].retain == retain) {
            return &last->known[i];
        }
    }
    struct outbound_known *known = &last->known[last->known_turn++ % OUTBOUND_KNOWN_MAX];
    *known = (struct outbound_known){.topic = topic, .retain = retain};
    return known;
}

/* Whether the connection has outlived one to this topic that was no smaller. */
static bool owed_outlived(const struct outbound_known *known) {
    return known->written_at_ms > 0 && clock_ms() - known->written_at_ms > OWED_UNACKNOWLEDGED_MS;
}

static struct outbound_known *owed_know(struct outbound_unacknowledged *last,
                                        const struct engine_publication *publication,
                                        uint64_t ends_at) {
    size_t len = publication->payload_len;
    size_t size = len > OWED_SMALL_BYTES ? len : OWED_SMALL_BYTES;
    struct outbound_known *known =
        owed_known(last, text_hash(publication->topic, SIZE_MAX), publication->retain);
    if (size > known->size) {
        known->size = size;
        known->ends_at = ends_at;
        known->written_at_ms = 0;
    }
    return known;
}

void owed_note_written(struct engine_connection *connection) {
    struct outbound_unacknowledged *last = connection->last_unacknowledged;
    for (size_t i = 0; last != NULL && i < OUTBOUND_KNOWN_MAX; i++) {
        struct outbound_known *known = &last->known[i];
        if (known->size > 0 && known->written_at_ms == 0 &&
            known->ends_at <= connection->out_total) {
            known->written_at_ms = clock_ms();
        }
    }
}

void owed_note_unacknowledged(struct engine_connection *connection,
                              const struct engine_publication *publication, uint64_t begins_at,
                              uint64_t ends_at) {
    struct outbound_unacknowledged *last = owed_last_unacknowledged(connection);
    struct outbound_known *known = last != NULL ? owed_know(last, publication, ends_at) : NULL;
    if (known != NULL && !owed_outlived(known)) {
        last->kind = known;
        last->at_ms = clock_ms();
        last->begins_at = begins_at;
        last->is_refused = false;
        last->about.qos = 0;
        last->about.payload_len = publication->payload_len;
        last->about.retain = publication->retain;
        owed_copy_topic(&last->about, publication->topic, strlen(publication->topic));
    }
}

void owed_note_refused(struct engine_connection *connection, struct outbound *outbound) {
    struct outbound_unacknowledged *last = owed_last_unacknowledged(connection);
    if (last != NULL) {
        last->at_ms = clock_ms();
        last->is_refused = true;
        last->kind = NULL;
        last->begins_at = 0;
        last->about = owed_describe(connection, outbound).about;
    }
}

/* What a reason code of DISCONNECT says of the publication that it is about. */
struct owed_meaning {
    int reason_code;
    enum give_up reason;
    bool at_once;         /* where it can only be one */
    bool only_disconnect; /* no acknowledgement may have it */
    bool (*suits)(const struct owed_candidate *one, const struct owed_candidate *most);
};

static bool owed_is_largest(const struct owed_candidate *one, const struct owed_candidate *most) {
    return one->about.payload_len == most->about.payload_len;
}

static bool owed_is_text(const struct owed_candidate *one, const struct owed_candidate *most) {
    (void)most;
    return one->is_text;
}

static bool owed_retains(const struct owed_candidate *one, const struct owed_candidate *most) {
    (void)most;
    return one->about.retain;
}

static bool owed_has_highest_qos(const struct owed_candidate *one,
                                 const struct owed_candidate *most) {
    return one->about.qos == most->about.qos;
}

static const struct owed_meaning owed_meanings[] = {
    {REASON_NOT_AUTHORIZED, GIVE_UP_NOT_AUTHORIZED, true, false, NULL},
    {REASON_TOPIC_NAME_INVALID, GIVE_UP_TOPIC, true, false, NULL},
    {REASON_PACKET_TOO_LARGE, GIVE_UP_TOO_LARGE, true, true, owed_is_largest},
    {REASON_PAYLOAD_FORMAT_INVALID, GIVE_UP_FORMAT, true, false, owed_is_text},
    {REASON_RETAIN_NOT_SUPPORTED, GIVE_UP_RETAIN, true, true, owed_retains},
    {REASON_QOS_NOT_SUPPORTED, GIVE_UP_QOS, true, true, owed_has_highest_qos},
    {REASON_UNSPECIFIED, GIVE_UP_CONNECTION_LOST, false, false, NULL},
    {REASON_MALFORMED_PACKET, GIVE_UP_CONNECTION_LOST, false, false, NULL},
    {REASON_PROTOCOL_ERROR, GIVE_UP_CONNECTION_LOST, false, false, NULL},
    {REASON_IMPLEMENTATION_ERROR, GIVE_UP_CONNECTION_LOST, false, false, NULL},
    {REASON_QUOTA_EXCEEDED, GIVE_UP_CONNECTION_LOST, false, false, NULL},
};

static const struct owed_meaning *owed_find_meaning(int reason_code) {
    for (size_t i = 0; i < sizeof(owed_meanings) / sizeof(owed_meanings[0]); i++) {
        if (owed_meanings[i].reason_code == reason_code) {
            return &owed_meanings[i];
        }
    }
    return NULL;
}

bool owed_ends_connections(uint8_t reason_code, enum give_up *reason) {
    const struct owed_meaning *meaning = owed_find_meaning(reason_code);
    if (meaning == NULL || !meaning->only_disconnect) {
        return false;
    }
    *reason = meaning->reason;
    return true;
}

static bool owed_unacknowledged_in_doubt(const struct engine_connection *connection) {
    const struct outbound_unacknowledged *last = connection->last_unacknowledged;
    bool outlived = last != NULL && last->kind != NULL && owed_outlived(last->kind);
    return last != NULL && !outlived && last->begins_at < connection->out_total &&
           clock_ms() - last->at_ms <= OWED_UNACKNOWLEDGED_MS;
}

/* It alone was refused in an acknowledgement, shortly before. */
static bool owed_is_refused(const struct engine_connection *connection) {
    const struct outbound_unacknowledged *last = connection->last_unacknowledged;
    return last != NULL && last->is_refused && connection->suspects->count == 1 &&
           owed_unacknowledged_in_doubt(connection);
}

/* The next candidate after *at, or of the end that of QoS 0. False: no more. */
static bool owed_next_candidate(const struct engine_connection *connection, struct outbound **at,
                                bool *last, struct owed_candidate *out) {
    while (*at != NULL) {
        struct outbound *one = *at;
        *at = one->next;
        if (one->in_doubt) {
            *out = owed_describe(connection, one);
            return true;
        }
    }
    if (*last || !owed_unacknowledged_in_doubt(connection)) {
        return false;
    }
    *last = true;
    *out = (struct owed_candidate){.about = connection->last_unacknowledged->about};
    return true;
}

static struct owed_candidate owed_most(const struct engine_connection *connection) {
    struct outbound *at = connection->session->outbound;
    bool last = false;
    struct owed_candidate one, most = {0};
    while (owed_next_candidate(connection, &at, &last, &one)) {
        most.about.payload_len = one.about.payload_len > most.about.payload_len
                                     ? one.about.payload_len
                                     : most.about.payload_len;
        most.about.qos = one.about.qos > most.about.qos ? one.about.qos : most.about.qos;
    }
    return most;
}

static bool owed_add_suspect(struct engine_connection *connection,
                             const struct engine_suspect *about) {
    struct engine_suspects *suspects = connection->suspects;
    if (suspects == NULL) {
        suspects = connection->suspects = calloc(1, sizeof(*suspects));
    }
    if (suspects == NULL) {
        return false;
    }
    if (suspects->described < ENGINE_SUSPECTS_MAX) {
        suspects->suspects[suspects->described++] = *about;
    }
    suspects->count++;
    return true;
}

/* Whether the code can mean one of them at all: some brokers take any code. */
static const struct owed_meaning *owed_if_it_suits(const struct engine_connection *connection,
                                                   const struct owed_meaning *meaning) {
    static const struct owed_meaning any = {0};
    struct owed_candidate most = owed_most(connection), one;
    struct outbound *at = connection->session->outbound;
    bool last = false, suits = meaning == NULL || meaning->suits == NULL;
    while (!suits && owed_next_candidate(connection, &at, &last, &one)) {
        suits = meaning->suits(&one, &most);
    }
    return suits ? meaning : &any;
}

/* Takes out of doubt what the reason code cannot mean. Returns one of those left. */
static struct outbound *owed_gather(struct engine_connection *connection,
                                    const struct owed_meaning *meaning) {
    struct owed_candidate most = owed_most(connection), one;
    struct outbound *at = connection->session->outbound, *found = NULL;
    bool last = false;
    while (owed_next_candidate(connection, &at, &last, &one)) {
        bool received = one.outbound != NULL && one.outbound->state == OUTBOUND_RELEASED;
        bool meant = meaning == NULL ||
                     (!received && (meaning->suits == NULL || meaning->suits(&one, &most)));
        if (one.outbound != NULL) {
            one.outbound->in_doubt = meant;
        }
        if (meant && owed_add_suspect(connection, &one.about)) {
            found = one.outbound;
        }
    }
    return found;
}

void owed_end(struct engine_connection *connection, int reason_code) {
    bool subscribing = connection->request.packet_id != 0; /* perhaps it is about that */
    const struct owed_meaning *meaning = subscribing ? NULL : owed_find_meaning(reason_code);
    struct outbound *one = owed_gather(connection, owed_if_it_suits(connection, meaning));
    if (connection->suspects != NULL && owed_is_refused(connection)) {
        connection->suspects->told = connection->suspects->given_up = true;
        return;
    }
    if (meaning == NULL || connection->suspects == NULL) {
        return;
    }
    connection->suspects->told = true;
    if (meaning->at_once && connection->suspects->count == 1 && one != NULL) {
        one->in_doubt = false;
        connection->suspects->given_up = true;
        owed_give_up(connection->engine, connection->session, one, meaning->reason);
    } else {
        owed_charge_all(connection->engine, connection->session, meaning->reason);
    }
}

/* ---- acknowledgements of what is no longer waited for ---- */

static void owed_settled_late(struct engine_connection *connection, uint16_t packet_id) {
    struct engine_session *session = connection->session;
    owed_reinstate(session, packet_id);
    if (session->abandoned > 0) {
        session->abandoned--;
        publish_next(connection);
    }
}

/* Answered already, given up meanwhile, or of a session long gone. */
void owed_acknowledged_late(struct engine_connection *connection, const struct packet *packet) {
    bool known = owed_id_is_retired(connection->session, packet->packet_id);
    if (packet->type == PACKET_PUBREC && packet->reason_code < 0x80) {
        uint8_t reason_code = known ? REASON_SUCCESS : REASON_PACKET_IDENTIFIER_NOT_FOUND;
        packet_write_ack(&connection->out, connection->version, PACKET_PUBREL, packet->packet_id,
                         reason_code);
        reactor_task(connection, TASK_FLUSH);
    } else {
        owed_settled_late(connection, packet->packet_id);
    }
}
