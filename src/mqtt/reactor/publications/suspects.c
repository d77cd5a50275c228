/* Owns the search for publications that may have ended a connection: those of the session that were
 * in doubt, the last one without a pending acknowledgement, and which of them match the reason code
 * of DISCONNECT. Worker thread. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "mqtt/reason_codes.h"
#include "mqtt/reactor/reactor.h"

#define SUSPECTS_AFTER_MS    2000 /* for this long after QoS 0 was sent, it may have caused a loss */
#define SUSPECTS_SMALL_BYTES 4096 /* smaller payloads end no connection by their size */

/* ---- candidates ---- */

struct suspects_candidate {
    struct outbound *outbound; /* NULL: of QoS 0 */
    struct engine_suspect about;
    bool is_text; /* according to its payload format indicator */
};

static void suspects_copy_topic(struct engine_suspect *about, const void *topic, size_t len) {
    size_t most = sizeof(about->topic) - 1;
    len = len < most ? len : most;
    memcpy(about->topic, topic, len);
    about->topic[len] = '\0';
}

static struct suspects_candidate suspects_describe(const struct engine_connection *connection,
                                                   struct outbound *outbound) {
    struct suspects_candidate out = {.outbound = outbound, .about.qos = outbound->qos};
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
    suspects_copy_topic(&out.about, packet.topic.data, packet.topic.len);
    out.is_text = packet_property_find(packet.properties, PROPERTY_PAYLOAD_FORMAT, &format) &&
                  format.number == 1;
    return out;
}

/* ---- the last publication without a pending acknowledgement ---- */

/* NULL: out of memory. */
static struct outbound_unacknowledged *suspects_last_of(struct engine_connection *connection) {
    if (!connection->last_unacknowledged) {
        connection->last_unacknowledged = calloc(1, sizeof *connection->last_unacknowledged);
    }
    return connection->last_unacknowledged;
}

static struct outbound_known *suspects_find_known(struct outbound_unacknowledged *last,
                                                  uint64_t topic, bool retain) {
    for (size_t i = 0; i < OUTBOUND_KNOWN_MAX; i++) {
        if (last->known[i].topic == topic && last->known[i].retain == retain) {
            return &last->known[i];
        }
    }
    struct outbound_known *known = &last->known[last->known_turn++ % OUTBOUND_KNOWN_MAX];
    *known = (struct outbound_known){.topic = topic, .retain = retain};
    return known;
}

/* Whether the connection has outlived a publication to this topic that was at least as large. */
static bool suspects_outlived(const struct outbound_known *known) {
    return known->written_at_ms > 0 && clock_ms() - known->written_at_ms > SUSPECTS_AFTER_MS;
}

static struct outbound_known *suspects_note_known(struct outbound_unacknowledged *last,
                                                  const struct engine_publication *publication,
                                                  uint64_t ends_at) {
    size_t len = publication->payload_len;
    size_t size = len > SUSPECTS_SMALL_BYTES ? len : SUSPECTS_SMALL_BYTES;
    struct outbound_known *known =
        suspects_find_known(last, text_hash(publication->topic, SIZE_MAX), publication->retain);
    if (size > known->size) {
        known->size = size;
        known->ends_at = ends_at;
        known->written_at_ms = 0;
    }
    return known;
}

void suspects_note_written(struct engine_connection *connection) {
    struct outbound_unacknowledged *last = connection->last_unacknowledged;
    for (size_t i = 0; last && i < OUTBOUND_KNOWN_MAX; i++) {
        struct outbound_known *known = &last->known[i];
        if (known->size > 0 && known->written_at_ms == 0 &&
            known->ends_at <= connection->out_total) {
            known->written_at_ms = clock_ms();
        }
    }
}

void suspects_note_unacknowledged(struct engine_connection *connection,
                                  const struct engine_publication *publication, uint64_t begins_at,
                                  uint64_t ends_at) {
    struct outbound_unacknowledged *last = suspects_last_of(connection);
    struct outbound_known *known = last ? suspects_note_known(last, publication, ends_at) : NULL;
    if (known && !suspects_outlived(known)) {
        last->kind = known;
        last->at_ms = clock_ms();
        last->begins_at = begins_at;
        last->is_refused = false;
        last->about.qos = 0;
        last->about.payload_len = publication->payload_len;
        last->about.retain = publication->retain;
        suspects_copy_topic(&last->about, publication->topic, strlen(publication->topic));
    }
}

void suspects_note_refused(struct engine_connection *connection, struct outbound *outbound) {
    struct outbound_unacknowledged *last = suspects_last_of(connection);
    if (last) {
        last->at_ms = clock_ms();
        last->is_refused = true;
        last->kind = NULL;
        last->begins_at = 0;
        last->about = suspects_describe(connection, outbound).about;
    }
}

/* ---- meaning of reason codes ---- */

/* The publications to which a reason code of DISCONNECT can refer. */
struct suspects_meaning {
    int reason_code;
    enum give_up reason;
    bool at_once;         /* even the first time, if it can only be one */
    bool only_disconnect; /* not allowed in an acknowledgement */
    bool (*fits)(const struct suspects_candidate *one, const struct suspects_candidate *most);
};

static bool suspects_is_largest(const struct suspects_candidate *one,
                                const struct suspects_candidate *most) {
    return one->about.payload_len == most->about.payload_len;
}

static bool suspects_is_text(const struct suspects_candidate *one,
                             const struct suspects_candidate *most) {
    (void)most;
    return one->is_text;
}

static bool suspects_retains(const struct suspects_candidate *one,
                             const struct suspects_candidate *most) {
    (void)most;
    return one->about.retain;
}

static bool suspects_has_highest_qos(const struct suspects_candidate *one,
                                     const struct suspects_candidate *most) {
    return one->about.qos == most->about.qos;
}

static const struct suspects_meaning suspects_meanings[] = {
    {REASON_NOT_AUTHORIZED, GIVE_UP_NOT_AUTHORIZED, true, false, NULL},
    {REASON_TOPIC_NAME_INVALID, GIVE_UP_TOPIC, true, false, NULL},
    {REASON_PACKET_TOO_LARGE, GIVE_UP_TOO_LARGE, true, true, suspects_is_largest},
    {REASON_PAYLOAD_FORMAT_INVALID, GIVE_UP_FORMAT, true, false, suspects_is_text},
    {REASON_RETAIN_NOT_SUPPORTED, GIVE_UP_RETAIN, true, true, suspects_retains},
    {REASON_QOS_NOT_SUPPORTED, GIVE_UP_QOS, true, true, suspects_has_highest_qos},
    {REASON_UNSPECIFIED, GIVE_UP_CONNECTION_LOST, false, false, NULL},
    {REASON_MALFORMED_PACKET, GIVE_UP_CONNECTION_LOST, false, false, NULL},
    {REASON_PROTOCOL_ERROR, GIVE_UP_CONNECTION_LOST, false, false, NULL},
    {REASON_IMPLEMENTATION_ERROR, GIVE_UP_CONNECTION_LOST, false, false, NULL},
    {REASON_QUOTA_EXCEEDED, GIVE_UP_CONNECTION_LOST, false, false, NULL},
};

static const struct suspects_meaning *suspects_find_meaning(int reason_code) {
    for (size_t i = 0; i < sizeof(suspects_meanings) / sizeof(suspects_meanings[0]); i++) {
        if (suspects_meanings[i].reason_code == reason_code) {
            return &suspects_meanings[i];
        }
    }
    return NULL;
}

bool suspects_ends_connections(uint8_t reason_code, enum give_up *reason) {
    const struct suspects_meaning *meaning = suspects_find_meaning(reason_code);
    if (!meaning || !meaning->only_disconnect) {
        return false;
    }
    *reason = meaning->reason;
    return true;
}

static bool suspects_last_in_doubt(const struct engine_connection *connection) {
    const struct outbound_unacknowledged *last = connection->last_unacknowledged;
    bool outlived = last && last->kind && suspects_outlived(last->kind);
    return last && !outlived && last->begins_at < connection->out_total &&
           clock_ms() - last->at_ms <= SUSPECTS_AFTER_MS;
}

/* It alone was refused in an acknowledgement shortly before. */
static bool suspects_is_refused(const struct engine_connection *connection) {
    const struct outbound_unacknowledged *last = connection->last_unacknowledged;
    return last && last->is_refused && connection->suspects->count == 1 &&
           suspects_last_in_doubt(connection);
}

/* The next candidate from *at on, and finally the last one without a pending acknowledgement.
 * False: no more. */
static bool suspects_next_candidate(const struct engine_connection *connection,
                                    struct outbound **at, bool *last,
                                    struct suspects_candidate *out) {
    while (*at) {
        struct outbound *one = *at;
        *at = one->next;
        if (one->in_doubt) {
            *out = suspects_describe(connection, one);
            return true;
        }
    }
    if (*last || !suspects_last_in_doubt(connection)) {
        return false;
    }
    *last = true;
    *out = (struct suspects_candidate){.about = connection->last_unacknowledged->about};
    return true;
}

static struct suspects_candidate suspects_maxima(const struct engine_connection *connection) {
    struct outbound *at = connection->session->outbound;
    bool last = false;
    struct suspects_candidate one, most = {0};
    while (suspects_next_candidate(connection, &at, &last, &one)) {
        most.about.payload_len = one.about.payload_len > most.about.payload_len
                                     ? one.about.payload_len
                                     : most.about.payload_len;
        most.about.qos = one.about.qos > most.about.qos ? one.about.qos : most.about.qos;
    }
    return most;
}

static bool suspects_add(struct engine_connection *connection, const struct engine_suspect *about) {
    struct engine_suspects *suspects = connection->suspects;
    if (!suspects) {
        suspects = connection->suspects = calloc(1, sizeof *suspects);
    }
    if (!suspects) {
        return false;
    }
    if (suspects->described < ENGINE_SUSPECTS_MAX) {
        suspects->suspects[suspects->described++] = *about;
    }
    suspects->count++;
    return true;
}

/* ---- end of a connection ---- */

/* Whether the code can refer to one of them at all: some brokers send any code. */
static const struct suspects_meaning *
suspects_fitting_meaning(const struct engine_connection *connection,
                         const struct suspects_meaning *meaning) {
    static const struct suspects_meaning any = {0};
    struct suspects_candidate most = suspects_maxima(connection), one;
    struct outbound *at = connection->session->outbound;
    bool last = false, suits = !meaning || !meaning->fits;
    while (!suits && suspects_next_candidate(connection, &at, &last, &one)) {
        suits = meaning->fits(&one, &most);
    }
    return suits ? meaning : &any;
}

/* Clears those that the reason code cannot refer to. Returns one of the others. */
static struct outbound *suspects_gather(struct engine_connection *connection,
                                        const struct suspects_meaning *meaning) {
    struct suspects_candidate most = suspects_maxima(connection), one;
    struct outbound *at = connection->session->outbound, *found = NULL;
    bool last = false;
    while (suspects_next_candidate(connection, &at, &last, &one)) {
        bool received = one.outbound && one.outbound->state == OUTBOUND_RELEASED;
        bool meant = !meaning || (!received && (!meaning->fits || meaning->fits(&one, &most)));
        if (one.outbound) {
            one.outbound->in_doubt = meant;
        }
        if (meant && suspects_add(connection, &one.about)) {
            found = one.outbound;
        }
    }
    return found;
}

void suspects_end(struct engine_connection *connection, int reason_code) {
    bool subscribing = connection->request.packet_id != 0; /* it may refer to the SUBSCRIBE */
    const struct suspects_meaning *meaning =
        subscribing ? NULL : suspects_find_meaning(reason_code);
    struct outbound *one =
        suspects_gather(connection, suspects_fitting_meaning(connection, meaning));
    if (connection->suspects && suspects_is_refused(connection)) {
        connection->suspects->suspicion = SUSPICION_GIVEN_UP;
        return;
    }
    if (!meaning || !connection->suspects) {
        return;
    }
    connection->suspects->suspicion = SUSPICION_BY_REASON_CODE;
    if (meaning->at_once && connection->suspects->count == 1 && one) {
        one->in_doubt = false;
        connection->suspects->suspicion = SUSPICION_GIVEN_UP;
        outbound_give_up(connection->engine, connection->session, one, meaning->reason);
    } else {
        outbound_charge_all(connection->engine, connection->session, meaning->reason);
    }
}
