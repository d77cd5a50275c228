/* Owns the suspicion against messages. */
#include "mqtt_doubt.h"

#define LOSSES_MAX 2 /* before messages are sent alone */

bool mqtt_doubt_has(const struct mqtt_doubt_list *list, uint64_t number) {
    for (size_t i = 0; i < list->count; i++) {
        if (list->numbers[i] == number) {
            return true;
        }
    }
    return false;
}

static bool mqtt_doubt_add(struct mqtt_doubt_list *list, uint64_t number) {
    if (mqtt_doubt_has(list, number)) {
        return true;
    }
    if (list->count == MQTT_DOUBT_LIST_MAX) {
        return false;
    }
    list->numbers[list->count++] = number;
    return true;
}

static void mqtt_doubt_remove(struct mqtt_doubt_list *list, uint64_t number) {
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (list->numbers[i] != number) {
            list->numbers[kept++] = list->numbers[i];
        }
    }
    list->count = kept;
}

bool mqtt_doubt_sends_alone(const struct mqtt_doubt *doubt) {
    return doubt->alone > 0 || doubt->suspects.count > 0;
}

void mqtt_doubt_note_answer(struct mqtt_doubt *doubt, uint64_t number) {
    mqtt_doubt_remove(&doubt->suspects, number);
    mqtt_doubt_remove(&doubt->refused, number);
    doubt->alone -= doubt->alone > 0 ? 1 : 0;
}

bool mqtt_doubt_note_refused(struct mqtt_doubt *doubt, uint64_t number) {
    mqtt_doubt_remove(&doubt->suspects, number);
    return mqtt_doubt_add(&doubt->refused, number);
}

/* Too many suspects are a broker that takes nothing: from the beginning. */
static void mqtt_doubt_suspect(struct mqtt_doubt *doubt, uint64_t number) {
    if (!mqtt_doubt_add(&doubt->suspects, number)) {
        doubt->suspects.count = 0;
    }
}

enum mqtt_doubt_verdict mqtt_doubt_note_loss(struct mqtt_doubt *doubt,
                                             const struct mqtt_doubt_loss *loss) {
    bool is_suspect = mqtt_doubt_has(&doubt->suspects, loss->first);
    bool was_alone = loss->in_flight == 1 && mqtt_doubt_sends_alone(doubt);
    if (was_alone && is_suspect && loss->others_pass) {
        mqtt_doubt_remove(&doubt->suspects, loss->first);
        doubt->losses = 0;
        return MQTT_DOUBT_GUILTY;
    }
    if (was_alone) { /* the answer before this one may have ended the connection */
        if (loss->sent == 1) {
            mqtt_doubt_suspect(doubt, loss->first);
        }
        return MQTT_DOUBT_OPEN;
    }
    if (++doubt->losses >= LOSSES_MAX && doubt->alone < loss->in_flight) {
        doubt->alone = loss->in_flight;
    }
    return MQTT_DOUBT_OPEN;
}

void mqtt_doubt_note_success(struct mqtt_doubt *doubt) {
    *doubt = (struct mqtt_doubt){0};
}
