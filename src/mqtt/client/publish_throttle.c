/* Owns the count of losses by shape of publication. Pure. */
#include "mqtt/client/publish_throttle.h"

#include <stdlib.h>
#include "base/text.h"

#define THROTTLE_TOPIC_LEN       127 /* the known part of a suspect's topic */
#define THROTTLE_TOPICS          16
#define THROTTLE_SIZE_MIN        4096 /* smaller sizes do not explain a loss */
#define THROTTLE_FORGET_MS       (3 * INT64_C(600000))
#define THROTTLE_FORGET_QOS_0_MS 60000 /* after the cool-down */
#define THROTTLE_SHIFT_MAX       8

struct throttle_row {
    uint64_t topic; /* hash of it, or of the topic of the last loss */
    unsigned losses;
    int64_t charged_at_ms;
};

/* The properties that publications to several topics may have in common. */
enum throttle_kind { THROTTLE_SIZE, THROTTLE_QOS_2, THROTTLE_RETAIN, THROTTLE_KINDS };

struct publish_throttle {
    struct throttle_row topics[THROTTLE_TOPICS];
    struct throttle_row kinds[THROTTLE_KINDS];
    size_t size_min; /* of THROTTLE_SIZE: the smallest that was charged */
    uint64_t last_topic;
};

static const char *const throttle_names[THROTTLE_KINDS] = {[THROTTLE_SIZE] = "of this size",
                                                           [THROTTLE_QOS_2] = "of QoS 2",
                                                           [THROTTLE_RETAIN] = "with retain"};

static bool throttle_matches(const struct publish_throttle *throttle, enum throttle_kind kind,
                             const struct publish_shape *shape) {
    switch (kind) {
    case THROTTLE_SIZE:
        return shape->payload_len >= throttle->size_min;
    case THROTTLE_QOS_2:
        return shape->qos == 2;
    default:
        return shape->retain;
    }
}

/* The cool-down after its last loss. */
static int64_t throttle_cooldown_ms(const struct throttle_row *row) {
    if (row->losses < PUBLISH_THROTTLE_AFTER) {
        return 0;
    }
    unsigned shift = row->losses - PUBLISH_THROTTLE_AFTER;
    int64_t cooldown_ms = (int64_t)PUBLISH_THROTTLE_MS_FIRST
                          << (shift < THROTTLE_SHIFT_MAX ? shift : THROTTLE_SHIFT_MAX);
    return cooldown_ms < PUBLISH_THROTTLE_MS_MAX ? cooldown_ms : PUBLISH_THROTTLE_MS_MAX;
}

/* No acknowledgement ever clears QoS 0: there, only losses in quick succession count as a series.
 */
static void throttle_count_loss(struct throttle_row *row, uint64_t topic, uint8_t qos,
                                int64_t now_ms) {
    int64_t forget_ms =
        qos > 0 ? THROTTLE_FORGET_MS : THROTTLE_FORGET_QOS_0_MS + throttle_cooldown_ms(row);
    if (now_ms - row->charged_at_ms > forget_ms) {
        row->losses = 0;
    }
    if (row->losses > 0 && row->charged_at_ms == now_ms) {
        return; /* several charges of one loss */
    }
    row->topic = topic;
    row->losses++;
    row->charged_at_ms = now_ms;
}

/* The topic's row, else a free one, else the one that was charged longest ago. */
static struct throttle_row *throttle_topic_row(struct publish_throttle *throttle, uint64_t topic) {
    struct throttle_row *best = &throttle->topics[0];
    for (size_t i = 0; i < THROTTLE_TOPICS; i++) {
        struct throttle_row *row = &throttle->topics[i];
        if (row->losses > 0 && row->topic == topic) {
            return row;
        }
        if (best->losses > 0 && (row->losses == 0 || row->charged_at_ms < best->charged_at_ms)) {
            best = row;
        }
    }
    best->losses = 0;
    return best;
}

/* A kind counts only if the topic changes: one topic alone is charged itself. */
static void throttle_charge_kinds(struct publish_throttle *throttle,
                                  const struct publish_shape *shape, uint64_t topic,
                                  int64_t now_ms) {
    if (shape->payload_len >= THROTTLE_SIZE_MIN && shape->payload_len < throttle->size_min) {
        throttle->size_min = shape->payload_len;
    }
    for (enum throttle_kind i = 0; i < THROTTLE_KINDS; i++) {
        struct throttle_row *row = &throttle->kinds[i];
        if (throttle_matches(throttle, i, shape) && (row->losses == 0 || row->topic != topic)) {
            throttle_count_loss(row, topic, shape->qos, now_ms);
        }
    }
}

void publish_throttle_charge(struct publish_throttle **throttle, const struct publish_shape *shape,
                             int64_t now_ms) {
    if (!*throttle) {
        *throttle = calloc(1, sizeof **throttle);
        if (!*throttle) {
            return;
        }
        (*throttle)->size_min = SIZE_MAX;
    }
    uint64_t topic = text_hash(shape->topic, THROTTLE_TOPIC_LEN);
    struct throttle_row *row = throttle_topic_row(*throttle, topic);
    if (shape->qos == 0 && (*throttle)->last_topic != topic) {
        row->losses = 0; /* only the shape that is charged each time counts */
    }
    throttle_count_loss(row, topic, shape->qos, now_ms);
    throttle_charge_kinds(*throttle, shape, topic, now_ms);
    (*throttle)->last_topic = topic;
}

void publish_throttle_clear(struct publish_throttle *throttle, const struct publish_shape *shape) {
    if (!throttle) {
        return;
    }
    uint64_t topic = text_hash(shape->topic, THROTTLE_TOPIC_LEN);
    for (size_t i = 0; i < THROTTLE_TOPICS; i++) {
        if (throttle->topics[i].topic == topic) {
            throttle->topics[i].losses = 0;
        }
    }
    for (enum throttle_kind i = 0; i < THROTTLE_KINDS; i++) {
        if (throttle_matches(throttle, i, shape)) {
            throttle->kinds[i].losses = 0;
            throttle->size_min = i == THROTTLE_SIZE ? SIZE_MAX : throttle->size_min;
        }
    }
}

static int64_t throttle_wait_ms(const struct throttle_row *row, int64_t now_ms) {
    int64_t left_ms = row->charged_at_ms + throttle_cooldown_ms(row) - now_ms;
    return left_ms > 0 ? left_ms : 0;
}

static void throttle_report(const struct throttle_row *row, const char *what, int64_t now_ms,
                            struct publish_throttled *out) {
    int64_t wait_ms = throttle_wait_ms(row, now_ms);
    if (wait_ms > out->wait_ms) {
        *out = (struct publish_throttled){.wait_ms = wait_ms, .losses = row->losses, .what = what};
    }
}

bool publish_throttle_refuses(const struct publish_throttle *throttle,
                              const struct publish_shape *shape, int64_t now_ms,
                              struct publish_throttled *out) {
    *out = (struct publish_throttled){0};
    if (!throttle) {
        return false;
    }
    uint64_t topic = text_hash(shape->topic, THROTTLE_TOPIC_LEN);
    for (size_t i = 0; i < THROTTLE_TOPICS; i++) {
        if (throttle->topics[i].topic == topic) {
            throttle_report(&throttle->topics[i], "to this topic", now_ms, out);
        }
    }
    for (enum throttle_kind i = 0; i < THROTTLE_KINDS; i++) {
        if (throttle_matches(throttle, i, shape)) {
            throttle_report(&throttle->kinds[i], throttle_names[i], now_ms, out);
        }
    }
    return out->wait_ms > 0;
}

void publish_throttle_destroy(struct publish_throttle *throttle) {
    free(throttle);
}
