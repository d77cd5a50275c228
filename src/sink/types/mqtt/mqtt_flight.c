/* Owns the publications of a batch that are in flight. */
#include "mqtt_flight.h"

#include "base/system/clock.h"
#include "mqtt/reason_codes.h"

#define IN_FLIGHT_MAX 256  /* bounds what is sent again after a lost connection */
#define SEND_MS       1000 /* then the rest of the batch waits for the next write */

/* ---- answers --------------------------------------------------------------------------------- */

/* The data table: reason codes of PUBACK by which a broker refuses a message because of its
 * content. The engine itself gives that of a packet larger than the broker's maximum. NULL: another
 * code. */
static const char *mqtt_flight_refusal(uint8_t reason_code) {
    static const struct {
        uint8_t code;
        const char *text;
    } rows[] = {{REASON_TOPIC_NAME_INVALID, "topic name invalid"},
                {REASON_PACKET_TOO_LARGE, "packet too large"},
                {REASON_PAYLOAD_FORMAT_INVALID, "payload format invalid"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].code == reason_code) {
            return rows[i].text;
        }
    }
    return NULL;
}

static const char *mqtt_flight_advice(uint8_t reason_code) {
    return reason_code == REASON_RETAIN_NOT_SUPPORTED ? "; set retain: never"
           : reason_code == REASON_QOS_NOT_SUPPORTED  ? "; set qos: 0"
                                                      : "";
}

/* Other messages are sent first, and this one after them. */
static void mqtt_flight_refused(struct mqtt_flight *flight, size_t index, uint8_t reason_code) {
    const struct message *message = flight->batch->messages[index];
    (void)sink_batch_fail(flight->batch, ERR_REFUSED,
                          "the broker refuses topic %.50s: %.60s (0x%02x)%s", message->topic,
                          client_error_text(reason_error_publication(reason_code)), reason_code,
                          mqtt_flight_advice(reason_code));
    flight->refusals++;
    if (!mqtt_doubt_note_refused(&flight->doubt, message->number)) {
        flight->stopped = true;
    }
}

static void mqtt_flight_judge(struct mqtt_flight *flight, size_t index, uint8_t reason_code) {
    const char *refusal = mqtt_flight_refusal(reason_code);
    if (reason_is_error(reason_code) && !refusal) {
        mqtt_flight_refused(flight, index, reason_code);
        return;
    }
    mqtt_doubt_note_answer(&flight->doubt, flight->batch->messages[index]->number);
    if (refusal) {
        sink_batch_reject(flight->batch, index, "the broker refuses it: %s (0x%02x)", refusal,
                          reason_code);
        flight->refusals++;
        return;
    }
    sink_batch_accept(flight->batch, index);
    flight->others_pass = true;
}

static void mqtt_flight_on_answer(void *context, size_t index,
                                  const struct publish_result *result) {
    struct mqtt_flight *flight = context;
    flight->in_flight--;
    flight->full = false;
    flight->answered_at_ms = clock_ms();
    if (result->err == ERR_OK || reason_is_error(result->reason_code)) {
        mqtt_flight_judge(flight, index, result->reason_code);
        return;
    }
    flight->first_lost =
        flight->lost == 0 || index < flight->first_lost ? index : flight->first_lost;
    flight->lost++;
}

/* ---- sending --------------------------------------------------------------------------------- */

static bool mqtt_flight_is_in(const struct mqtt_flight *flight, const struct mqtt_doubt_list *list,
                              size_t index) {
    return list->count > 0 && mqtt_doubt_has(list, flight->batch->messages[index]->number);
}

static bool mqtt_flight_is_last(const struct mqtt_flight *flight, size_t index) {
    return mqtt_flight_is_in(flight, &flight->doubt.suspects, index) ||
           mqtt_flight_is_in(flight, &flight->refused_before, index);
}

/* The first message of the list, from *at on. Each cursor only moves forward. */
static bool mqtt_flight_find(const struct mqtt_flight *flight, const struct mqtt_doubt_list *list,
                             size_t *at) {
    while (*at < flight->batch->count && !mqtt_flight_is_in(flight, list, *at)) {
        ++*at;
    }
    return *at < flight->batch->count;
}

static bool mqtt_flight_take(size_t *cursor, size_t *index) {
    *index = (*cursor)++;
    return true;
}

/* Suspects are sent after another message was accepted, or if there is no other; those that were
 * refused in the last write after all others. */
static bool mqtt_flight_pick(struct mqtt_flight *flight, size_t *index) {
    size_t count = flight->batch->count;
    while (flight->next < count && mqtt_flight_is_last(flight, flight->next)) {
        flight->next++;
    }
    bool others_sent = flight->next == count;
    if ((flight->others_pass || others_sent) &&
        mqtt_flight_find(flight, &flight->doubt.suspects, &flight->next_suspect)) {
        return mqtt_flight_take(&flight->next_suspect, index);
    }
    if (!others_sent) {
        return mqtt_flight_take(&flight->next, index);
    }
    return mqtt_flight_find(flight, &flight->refused_before, &flight->next_refused) &&
           mqtt_flight_take(&flight->next_refused, index);
}

/* For the next turn. */
static void mqtt_flight_put_back(struct mqtt_flight *flight, size_t index) {
    size_t *cursors[] = {&flight->next, &flight->next_suspect, &flight->next_refused};
    for (size_t i = 0; i < sizeof cursors / sizeof cursors[0]; i++) {
        *cursors[i] -= *cursors[i] == index + 1 ? 1 : 0;
    }
}

static void mqtt_flight_stop(struct mqtt_flight *flight, enum err err, const char *error) {
    (void)sink_batch_fail(flight->batch, err, "%s", error);
    flight->stopped = true;
}

static void mqtt_flight_publish(struct mqtt_flight *flight, size_t index,
                                const struct engine_publication *publication) {
    enum err err = mqtt_link_publish(flight->link, publication, index);
    if (err == ERR_OK) {
        flight->in_flight++;
        flight->sent++;
    } else if (err == ERR_FULL && flight->in_flight > 0) {
        flight->full = true;
        mqtt_flight_put_back(flight, index);
    } else if (err == ERR_ARGUMENT) {
        sink_batch_reject(flight->batch, index, "its topic or a property cannot be published");
    } else {
        mqtt_flight_stop(flight, err,
                         err == ERR_FULL ? "buffer_bytes is too small" : err_name(err));
    }
}

static void mqtt_flight_send(struct mqtt_flight *flight, size_t index) {
    const struct message *message = flight->batch->messages[index];
    struct engine_publication publication;
    char reason[REJECTION_REASON_LEN];
    switch (mqtt_outgoing_make(flight->outgoing, message, &publication, reason)) {
    case MQTT_OUTGOING_MADE:
        mqtt_flight_publish(flight, index, &publication);
        break;
    case MQTT_OUTGOING_LOOP:
        sink_batch_accept(flight->batch, index);
        flight->loops++;
        flight->loop_topic = message->topic;
        break;
    case MQTT_OUTGOING_REJECTED:
        sink_batch_reject(flight->batch, index, "%s", reason);
        break;
    default:
        mqtt_flight_stop(flight, ERR_MEMORY, "out of memory");
    }
}

static size_t mqtt_flight_window(const struct mqtt_flight *flight) {
    if (mqtt_doubt_sends_alone(&flight->doubt)) {
        return 1;
    }
    size_t most = flight->link->receive_maximum;
    return most < IN_FLIGHT_MAX ? most : IN_FLIGHT_MAX;
}

static void mqtt_flight_send_more(struct mqtt_flight *flight) {
    size_t index;
    while (flight->link->state == MQTT_LINK_UP && !flight->stopped && !flight->full &&
           flight->in_flight < mqtt_flight_window(flight) && clock_ms() < flight->send_until_ms &&
           mqtt_flight_pick(flight, &index)) {
        mqtt_flight_send(flight, index);
    }
}

/* ---- a write --------------------------------------------------------------------------------- */

void mqtt_flight_init(struct mqtt_flight *flight, struct mqtt_link *link,
                      struct mqtt_outgoing *outgoing) {
    *flight = (struct mqtt_flight){.link = link, .outgoing = outgoing};
    link->answered = mqtt_flight_on_answer;
    link->context = flight;
}

static void mqtt_flight_begin(struct mqtt_flight *flight, struct sink_batch *batch) {
    flight->batch = batch;
    flight->refused_before = flight->doubt.refused;
    flight->next = flight->next_suspect = flight->next_refused = 0;
    flight->in_flight = flight->lost = flight->sent = flight->refusals = flight->loops = 0;
    flight->others_pass = flight->stopped = flight->full = false;
    flight->answered_at_ms = clock_ms();
    flight->send_until_ms = flight->answered_at_ms + SEND_MS;
}

/* Until each message that was sent has its answer, or the connection has ended. */
static void mqtt_flight_run(struct mqtt_flight *flight) {
    int64_t timeout_ms = flight->link->timeout_ms;
    mqtt_flight_send_more(flight);
    while (flight->in_flight > 0) {
        int64_t left_ms = flight->answered_at_ms + timeout_ms - clock_ms();
        if (left_ms <= 0 || sink_batch_is_over(flight->batch)) {
            mqtt_link_abort(flight->link);
            mqtt_flight_stop(flight, ERR_TIMEOUT, "the broker does not acknowledge messages");
            return;
        }
        mqtt_link_poll(flight->link, left_ms);
        mqtt_flight_send_more(flight);
    }
}

static void mqtt_flight_judge_loss(struct mqtt_flight *flight) {
    struct sink_batch *batch = flight->batch;
    const struct mqtt_link *link = flight->link;
    const struct message *first = batch->messages[flight->first_lost];
    bool alone = mqtt_doubt_sends_alone(&flight->doubt);
    const struct mqtt_doubt_loss loss = {.in_flight = flight->lost,
                                         .first = first->number,
                                         .sent = flight->sent,
                                         .others_pass = flight->others_pass};
    if (mqtt_doubt_note_loss(&flight->doubt, &loss) == MQTT_DOUBT_GUILTY) {
        sink_batch_reject(batch, flight->first_lost,
                          "the broker ends the connection whenever this is sent: %.80s",
                          link->error);
    } else if (alone) {
        (void)sink_batch_fail(batch, ERR_IO, "sent alone, topic %.60s: %.80s", first->topic,
                              link->error);
    }
}

static bool mqtt_flight_is_settled(const struct sink_batch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outcomes[i] == SINK_RETRY) {
            return false;
        }
    }
    return true;
}

enum err mqtt_flight_write(struct mqtt_flight *flight, struct sink_batch *batch) {
    struct mqtt_link *link = flight->link;
    enum err err = mqtt_link_ensure_open(link, batch);
    if (err != ERR_OK) {
        return sink_batch_fail(batch, err, "%s", link->error);
    }
    mqtt_flight_begin(flight, batch);
    mqtt_flight_run(flight);
    bool ended = link->state != MQTT_LINK_UP;
    /* Some brokers end the connection after they have refused a message by PUBACK. */
    if (ended && link->accuses && flight->lost > 0 && flight->refusals == 0) {
        mqtt_flight_judge_loss(flight);
    }
    if (mqtt_flight_is_settled(batch)) {
        if (!ended) {
            mqtt_doubt_note_success(&flight->doubt);
        }
        *batch->error = '\0';
        return ERR_OK;
    }
    if (ended) {
        return sink_batch_fail(batch, ERR_IO, "%s", link->error);
    }
    return *batch->error ? ERR_REFUSED : ERR_OK; /* the others were not sent yet */
}
