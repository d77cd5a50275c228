/* Owns the plan of the next requests of one client to the broker, and the evaluation of SUBACK.
 * Pure; times are parameters. */
#include "subscribing_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "mqtt/client/backoff.h"
#include "mqtt/reason_codes.h"
#include "mqtt/config/subscriptions.h"

#define SUBSCRIBING_STREAK_PROBE 2    /* then one from elsewhere in the list is tried */
#define SUBSCRIBING_TRIAL_MS     5000 /* some brokers grant first and then close */

static struct subscribing_filter *subscribing_filters_create(size_t count) {
    struct subscribing_filter *filters = malloc((count + 1) * sizeof *filters);
    for (size_t i = 0; filters && i < count; i++) {
        filters[i] = (struct subscribing_filter){.granted = GRANTED_NONE};
    }
    return filters;
}

enum err subscribing_init(struct subscribing *subscribing, const struct client_config *config) {
    subscribing->learned = NULL;
    subscribing->filters = subscribing_filters_create(config->subscription_count);
    return subscribing->filters ? ERR_OK : ERR_MEMORY;
}

void subscribing_fini(struct subscribing *subscribing) {
    free(subscribing->filters);
    free(subscribing->learned);
    *subscribing = (struct subscribing){0};
}

static const struct subscribing_filter *
subscribing_find_before(const struct subscribing *subscribing, const struct client_config *from,
                        const struct client_subscription *wanted) {
    for (size_t i = 0; i < from->subscription_count; i++) {
        if (strcmp(from->subscriptions[i].filter, wanted->filter) == 0) {
            bool same = subscription_same_options(&from->subscriptions[i], wanted);
            return same ? &subscribing->filters[i] : NULL;
        }
    }
    return NULL;
}

enum err subscribing_change(struct subscribing *subscribing, const struct client_config *from,
                            const struct client_config *to) {
    struct subscribing_filter *filters = subscribing_filters_create(to->subscription_count);
    if (!filters) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < to->subscription_count; i++) {
        const struct subscribing_filter *before =
            subscribing_find_before(subscribing, from, &to->subscriptions[i]);
        filters[i] = before ? *before : filters[i];
    }
    free(subscribing->filters);
    subscribing->filters = filters;
    return ERR_OK;
}

/* ---- state of filters ---- */

size_t subscribing_count_of(const struct subscribing *subscribing, size_t count, unsigned flags) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += (subscribing->filters[i].flags & flags) != 0;
    }
    return n;
}

void subscribing_clear(struct subscribing *subscribing, size_t count, unsigned flags) {
    for (size_t i = 0; i < count; i++) {
        subscribing->filters[i].flags &= (uint8_t)~flags;
    }
}

static size_t subscribing_good_count(const struct subscribing *subscribing, size_t count) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += subscribing->filters[i].granted <= 2;
    }
    return n;
}

struct subscribing_learned *subscribing_learned_of(struct subscribing *subscribing, size_t count,
                                                   size_t packet_max) {
    if (!subscribing->learned) {
        subscribing->learned = calloc(1, sizeof *subscribing->learned);
        size_t good = subscribing_good_count(subscribing, count);
        if (subscribing->learned) {
            subscribing->learned->total_good = (uint16_t)good;
            subscribing->learned->packet_good = (uint16_t)(good < packet_max ? good : packet_max);
        }
    }
    return subscribing->learned;
}

/* A refusal that may be temporary: MQTT 5.0 section 3.9.3. MQTT 3.1.1 has only 0x80; if a broker
 * uses other codes there, they have their meaning of MQTT 5. */
static bool subscribing_is_transient(const struct subscribing_filter *filter, int version) {
    static const uint8_t codes[] = {REASON_UNSPECIFIED, REASON_IMPLEMENTATION_ERROR,
                                    REASON_PACKET_IDENTIFIER_IN_USE, REASON_QUOTA_EXCEEDED};
    return (version == 5 || filter->granted != REASON_UNSPECIFIED) &&
           memchr(codes, filter->granted, sizeof codes);
}

bool subscribing_has_pending(const struct subscribing *subscribing, size_t count) {
    return subscribing_count_of(subscribing, count, FILTER_PENDING) > 0;
}

enum client_error subscribing_refusal(const struct subscribing_filter *filter) {
    if (filter->granted == GRANTED_TOO_LONG || filter->granted == REASON_PACKET_TOO_LARGE) {
        return CLIENT_ERROR_SUBSCRIPTION_TOO_LONG;
    }
    if ((filter->flags & FILTER_ENDS_CONNECTION) && !reason_is_error(filter->granted)) {
        return CLIENT_ERROR_SUBSCRIPTION_ENDS_CONNECTION;
    }
    if (filter->flags & FILTER_SURPLUS) {
        return CLIENT_ERROR_SUBSCRIPTION_SURPLUS;
    }
    if (filter->flags & FILTER_DEFERRED) {
        return CLIENT_ERROR_SUBSCRIPTION_PUT_OFF;
    }
    return reason_is_error(filter->granted) ? reason_error_suback(filter->granted)
                                            : CLIENT_ERROR_NONE;
}

int subscribing_shown_code(const struct subscribing_filter *filter) {
    switch (filter->granted) {
    case GRANTED_NONE:
        return -1;
    case GRANTED_TOO_LONG:
        return REASON_PACKET_TOO_LARGE;
    default:
        return filter->granted;
    }
}

size_t subscribing_refused_count(const struct subscribing *subscribing, size_t count) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += subscribing_refusal(&subscribing->filters[i]) != CLIENT_ERROR_NONE;
    }
    return n;
}

/* ---- connections ---- */

void subscribing_connected(struct subscribing *subscribing, size_t count, bool session_present,
                           bool skip) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        bool held = session_present &&
                    (filter->flags & (FILTER_HELD | FILTER_ENDS_CONNECTION)) == FILTER_HELD;
        filter->flags &= (uint8_t) ~(FILTER_DONE | FILTER_PENDING | FILTER_HELD);
        filter->flags |= (uint8_t)((held ? FILTER_HELD : 0) | (held && skip ? FILTER_DONE : 0));
    }
    if (subscribing->learned) {
        subscribing->learned->deferred_now = false;
        subscribing->learned->on_trial = false;
        subscribing->learned->retry_at_ms = 0; /* all filters are requested anyway */
        subscribing->learned->refused_at_ms = 0;
    }
}

void subscribing_forget_session(struct subscribing *subscribing, size_t count) {
    subscribing_clear(subscribing, count, FILTER_HELD);
}

void subscribing_reset(struct subscribing *subscribing, size_t count) {
    for (size_t i = 0; i < count; i++) {
        subscribing->filters[i] = (struct subscribing_filter){.granted = GRANTED_NONE};
    }
    free(subscribing->learned);
    subscribing->learned = NULL;
}

/* ---- the next packet ---- */

enum subscribing_class subscribing_class_of(const struct subscribing_filter *filter) {
    if (filter->flags & (FILTER_DONE | FILTER_ENDS_CONNECTION | FILTER_DEFERRED)) {
        return SUBSCRIBING_NONE;
    }
    if (filter->flags & FILTER_SURPLUS) {
        return SUBSCRIBING_SURPLUS;
    }
    if (filter->flags & FILTER_SUSPECT) {
        return SUBSCRIBING_SUSPECT;
    }
    return filter->granted == GRANTED_NONE ? SUBSCRIBING_NEW : SUBSCRIBING_GOOD;
}

/* How many more filters the broker can be expected to hold. Between a number that it accepted and
 * one that it did not, the middle is tried. */
static size_t subscribing_room_left(const struct subscribing *subscribing, size_t count) {
    const struct subscribing_learned *learned = subscribing->learned;
    if (!learned || learned->total_bad == 0) {
        return count;
    }
    size_t held = subscribing_count_of(subscribing, count, FILTER_HELD);
    if (held < learned->total_good) {
        return learned->total_good - held;
    }
    if (held + 1 >= learned->total_bad) {
        return 0;
    }
    size_t half = (learned->total_bad - held) / 2;
    return half > 0 ? half : 1;
}

struct subscribing_pick { /* the packet that is being put together */
    const struct subscribing *subscribing;
    const struct client_config *config;
    size_t most, room;
    uint16_t *out;
    size_t n;
};

static void subscribing_pick_add(struct subscribing_pick *pick, size_t i) {
    const struct subscribing_filter *filter = &pick->subscribing->filters[i];
    const struct client_subscription *subscriptions = pick->config->subscriptions;
    size_t most =
        filter->packet_max > 0 && filter->packet_max < pick->most ? filter->packet_max : pick->most;
    bool fresh = !(filter->flags & FILTER_HELD);
    bool alike =
        pick->n == 0 || subscriptions[i].identifier == subscriptions[pick->out[0]].identifier;
    if (!alike || pick->n >= most || (fresh && pick->room == 0)) {
        return;
    }
    pick->out[pick->n++] = (uint16_t)i;
    pick->most = most;
    pick->room -= fresh;
}

static void subscribing_pick_class(struct subscribing_pick *pick, unsigned classes) {
    for (size_t i = 0; i < pick->config->subscription_count && pick->n < pick->most; i++) {
        if (classes & 1u << subscribing_class_of(&pick->subscribing->filters[i])) {
            subscribing_pick_add(pick, i);
        }
    }
}

/* After several filters that ended the connection alone: tests whether any other filter would do so
 * now. */
static void subscribing_pick_other(struct subscribing_pick *pick) {
    static const enum subscribing_class classes[] = {SUBSCRIBING_NEW, SUBSCRIBING_SUSPECT};
    pick->most = 1;
    for (size_t k = 0; k < sizeof classes / sizeof *classes; k++) {
        for (size_t i = pick->config->subscription_count; i-- > 0 && pick->n == 0;) {
            const struct subscribing_filter *filter = &pick->subscribing->filters[i];
            if (!(filter->flags & FILTER_CHARGED) && subscribing_class_of(filter) == classes[k]) {
                subscribing_pick_add(pick, i);
            }
        }
    }
}

/* One alone, in turn; those that are probably good come first. */
static void subscribing_pick_deferred(struct subscribing_pick *pick) {
    static const unsigned flags[] = {FILTER_SURPLUS | FILTER_DEFERRED, FILTER_ENDS_CONNECTION};
    struct subscribing_learned *learned = pick->subscribing->learned;
    size_t count = pick->config->subscription_count;
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 1; i <= count; i++) {
            size_t at = (learned->turn + i) % count;
            unsigned has = pick->subscribing->filters[at].flags;
            if (!(has & FILTER_DONE) && (has & flags[k])) {
                learned->turn = (uint16_t)at;
                learned->deferred_now = false;
                pick->out[pick->n++] = (uint16_t)at;
                return;
            }
        }
    }
    learned->deferred_now = false;
}

size_t subscribing_next(struct subscribing *subscribing, const struct client_config *config,
                        const struct subscribing_rules *rules, uint16_t *out) {
    const struct subscribing_learned *learned = subscribing->learned;
    size_t most = rules->packet_max;
    if (learned && learned->packet_max > 0 && learned->packet_max < most) {
        most = learned->packet_max;
    }
    size_t room = subscribing_room_left(subscribing, config->subscription_count);
    struct subscribing_pick pick = {subscribing, config, most, room, out, 0};
    if (learned && learned->streak >= SUBSCRIBING_STREAK_PROBE) {
        subscribing_pick_other(&pick);
        pick.most = most;
    }
    bool counted =
        learned && learned->total_bad > 0; /* then the first ones of the list have priority */
    const unsigned good = 1u << SUBSCRIBING_GOOD, fresh = 1u << SUBSCRIBING_NEW;
    const unsigned order[] = {1u << SUBSCRIBING_SUSPECT, counted ? good | fresh : good, fresh,
                              1u << SUBSCRIBING_SURPLUS};
    for (size_t i = 0; i < sizeof order / sizeof *order && pick.n == 0; i++) {
        subscribing_pick_class(&pick, order[i]);
    }
    if (pick.n == 0 && learned && learned->deferred_now) {
        subscribing_pick_deferred(&pick);
    }
    return pick.n;
}

void subscribing_asked(struct subscribing *subscribing, const uint16_t *filters, size_t n) {
    for (size_t i = 0; i < n; i++) {
        subscribing->filters[filters[i]].flags |= FILTER_PENDING;
    }
}

/* ---- answers of the broker ---- */

/* The filter was granted, at least for now. */
static void subscribing_begin_trial(struct subscribing *subscribing,
                                    struct subscribing_filter *filter, int64_t now_ms) {
    filter->flags |= FILTER_PENDING;
    subscribing->learned->on_trial = true;
    subscribing->learned->trial_ends_at_ms = now_ms + SUBSCRIBING_TRIAL_MS;
}

static void subscribing_take_code(struct subscribing *subscribing,
                                  struct subscribing_filter *filter, uint8_t code, int64_t now_ms) {
    bool granted = !reason_is_error(code);
    filter->granted = code;
    filter->flags &= (uint8_t) ~(FILTER_PENDING | FILTER_SUSPECT | FILTER_SURPLUS |
                                 FILTER_DEFERRED | FILTER_HELD);
    filter->flags |= (uint8_t)(FILTER_DONE | (granted ? FILTER_HELD : 0));
    if (granted && (filter->flags & FILTER_ENDS_CONNECTION)) {
        subscribing_begin_trial(subscribing, filter, now_ms);
    } else if (granted) {
        filter->flags &= (uint8_t)~FILTER_CHARGED;
    } else if (!(filter->flags & FILTER_ENDS_CONNECTION)) {
        filter->flags &= (uint8_t)~FILTER_CHARGED; /* otherwise it is still requested last */
    }
}

static uint16_t subscribing_max_of(uint16_t a, size_t b) {
    return b > a ? (uint16_t)b : a;
}

/* Learns from an acknowledged packet. */
static void subscribing_learn(struct subscribing *subscribing, size_t count, size_t packet,
                              bool was_late) {
    struct subscribing_learned *learned = subscribing->learned;
    size_t held = subscribing_count_of(subscribing, count, FILTER_HELD);
    learned->streak = 0;
    learned->packet_good = subscribing_max_of(learned->packet_good, packet);
    learned->total_good = subscribing_max_of(learned->total_good, held);
    if (learned->total_bad > 0 && held >= learned->total_bad) {
        learned->total_bad = 0;
        subscribing_clear(subscribing, count, FILTER_SURPLUS);
    }
    if (was_late) {
        subscribing_clear(subscribing, count, FILTER_DEFERRED);
    }
}

void subscribing_acknowledged(struct subscribing *subscribing, size_t count, const int32_t *places,
                              const uint8_t *codes, size_t n, int64_t now_ms) {
    bool was_late = false, refused = false;
    for (size_t i = 0; i < n; i++) {
        if (places[i] >= 0) {
            refused |= reason_is_error(codes[i]);
            struct subscribing_filter *filter = &subscribing->filters[places[i]];
            was_late |=
                (filter->flags & (FILTER_DEFERRED | FILTER_ENDS_CONNECTION)) == FILTER_DEFERRED;
            subscribing_take_code(subscribing, filter, codes[i], now_ms);
        }
    }
    if (subscribing->learned) {
        subscribing_learn(subscribing, count, n, was_late);
    }
    if (refused && subscribing_learned_of(subscribing, count, n)) {
        subscribing->learned->refused_at_ms = now_ms;
    }
}

void subscribing_refuse_too_long(struct subscribing *subscribing, size_t filter) {
    subscribing->filters[filter].granted = GRANTED_TOO_LONG;
    subscribing->filters[filter].flags |= FILTER_DONE;
}

void subscribing_complete(struct subscribing *subscribing, size_t count) {
    struct subscribing_learned *learned = subscribing->learned;
    if (!learned) {
        return;
    }
    if (subscribing_count_of(subscribing, count, FILTER_DEFERRED) == 0) {
        learned->losses = 0;
    }
    for (size_t i = 0; i < count && learned->total_bad > 0; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        if (subscribing_class_of(filter) != SUBSCRIBING_NONE) {
            filter->flags &= (uint8_t) ~(FILTER_SUSPECT | FILTER_CHARGED);
            filter->flags |= FILTER_SURPLUS;
        }
    }
}

/* ---- retries on an open connection ---- */

void subscribing_plan_deferred(struct subscribing_learned *learned,
                               const struct subscribing_rules *rules, int64_t now_ms) {
    learned->deferred_at_ms =
        now_ms +
        backoff_ceiling_ms(learned->deferred_tries, rules->deferred_ms_min, rules->deferred_ms_max);
}

static bool subscribing_has_transient(const struct subscribing *subscribing, size_t count,
                                      int version) {
    for (size_t i = 0; i < count; i++) {
        if (subscribing_is_transient(&subscribing->filters[i], version)) {
            return true;
        }
    }
    return false;
}

static int64_t subscribing_earlier_ms(int64_t a_ms, int64_t b_ms) {
    return a_ms == 0 || (b_ms != 0 && b_ms < a_ms) ? b_ms : a_ms;
}

int64_t subscribing_due_ms(struct subscribing *subscribing, size_t count,
                           const struct subscribing_rules *rules, int64_t now_ms) {
    bool again = subscribing_has_transient(subscribing, count, rules->version);
    bool late = subscribing_count_of(subscribing, count, SUBSCRIBING_ANY_DEFERRED) > 0;
    struct subscribing_learned *learned =
        again || late ? subscribing_learned_of(subscribing, count, rules->packet_max)
                      : subscribing->learned;
    if (!learned) {
        return 0;
    }
    if (!again) {
        learned->retry_at_ms = 0;
        learned->retry_tries = 0;
    } else if (learned->retry_at_ms == 0) {
        learned->retry_at_ms =
            now_ms + backoff_ms(learned->retry_tries, rules->retry_ms_min, rules->retry_ms_max);
    }
    if (!late) {
        learned->deferred_at_ms = 0;
        learned->deferred_tries = 0;
    } else if (learned->deferred_at_ms == 0) {
        subscribing_plan_deferred(learned, rules, now_ms);
    }
    return subscribing_earlier_ms(learned->retry_at_ms, learned->on_trial
                                                            ? learned->trial_ends_at_ms
                                                            : learned->deferred_at_ms);
}

void subscribing_expedite(struct subscribing *subscribing) {
    if (subscribing->learned) {
        subscribing->learned->deferred_at_ms = 1; /* any time in the past */
    }
}

static void subscribing_end_trial(struct subscribing *subscribing, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        if ((filter->flags & FILTER_ENDS_CONNECTION) && (filter->flags & FILTER_PENDING)) {
            filter->flags &= (uint8_t) ~(FILTER_ENDS_CONNECTION | FILTER_PENDING | FILTER_CHARGED);
        }
    }
    subscribing->learned->on_trial = false;
    subscribing->learned->deferred_tries = 0;
    subscribing_expedite(subscribing); /* the other filters may be good now, too */
}

void subscribing_retry(struct subscribing *subscribing, size_t count,
                       const struct subscribing_rules *rules, int64_t now_ms) {
    struct subscribing_learned *learned = subscribing->learned;
    if (!learned) {
        return;
    }
    if (learned->on_trial && now_ms >= learned->trial_ends_at_ms) {
        subscribing_end_trial(subscribing, count);
    }
    if (learned->retry_at_ms != 0 && now_ms >= learned->retry_at_ms) {
        for (size_t i = 0; i < count; i++) {
            struct subscribing_filter *filter = &subscribing->filters[i];
            bool passing = subscribing_is_transient(filter, rules->version);
            if (passing) {
                filter->flags &= (uint8_t)~FILTER_DONE;
            }
        }
        learned->retry_at_ms = 0;
        if (learned->retry_tries < UINT8_MAX) {
            learned->retry_tries++;
        }
    }
    if (!learned->on_trial && learned->deferred_at_ms != 0 && now_ms >= learned->deferred_at_ms) {
        learned->deferred_at_ms = 0;
        learned->deferred_now = true;
    }
}
