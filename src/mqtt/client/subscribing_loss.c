/* Owns the conclusions from the end of a connection about the filters that were requested on it.
 * Pure. It sets the flags and numbers that the plan of the next connection (subscribing.c) uses. */
#include "subscribing_internal.h"

#include "mqtt/reason_codes.h"

#define SUBSCRIBING_LOSSES_MAX 40 /* then the filters in doubt are put off */
#define SUBSCRIBING_LOSSES_END                                                                     \
    60 /* then everything that was not granted on the last connection is put off */
#define SUBSCRIBING_STREAK_MAX 3
#define SUBSCRIBING_REFUSED_MS 2000 /* after a SUBACK: RabbitMQ 4 refuses and closes at once */

/* ---- filters without SUBACK ---- */

struct subscribing_pending {
    size_t n;     /* filters */
    size_t fresh; /* that the session did not hold */
    size_t held;  /* others, that it held */
    size_t first;
    bool nested; /* all were in doubt before */
    bool safe;   /* the broker has answered each before, and never ended a connection at one */
    bool deferred;
};

static struct subscribing_pending subscribing_find_pending(const struct subscribing *subscribing,
                                                           size_t count) {
    struct subscribing_pending doubt = {.safe = true, .nested = true};
    doubt.held = subscribing_count_of(subscribing, count, FILTER_HELD);
    for (size_t i = count; i-- > 0;) {
        const struct subscribing_filter *filter = &subscribing->filters[i];
        if (filter->flags & FILTER_PENDING) {
            doubt.n++;
            doubt.fresh += !(filter->flags & FILTER_HELD);
            doubt.first = i;
            doubt.safe =
                doubt.safe && filter->granted != GRANTED_NONE && !(filter->flags & FILTER_SUSPECT);
            doubt.nested = doubt.nested && (filter->flags & FILTER_SUSPECT);
            doubt.deferred = doubt.deferred || (filter->flags & SUBSCRIBING_ANY_DEFERRED);
        }
    }
    return doubt;
}

static void subscribing_defer(struct subscribing *subscribing, size_t count, unsigned classes) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        if (classes & 1u << subscribing_class_of(filter)) {
            filter->flags &=
                (uint8_t)~FILTER_HELD; /* set by an earlier grant, which no longer counts */
            filter->flags |= FILTER_DEFERRED;
        }
    }
}

/* These filters may be good. */
static void subscribing_move_to_surplus(struct subscribing *subscribing, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        if (filter->flags & FILTER_ENDS_CONNECTION) {
            filter->flags &= (uint8_t) ~(FILTER_ENDS_CONNECTION | FILTER_CHARGED);
            filter->flags |= FILTER_SURPLUS;
        }
    }
}

/* The third filter in a row: the filter itself is not the cause. The broker either holds no more
 * filters, or accepts none of the remaining ones. */
static void subscribing_end_streak(struct subscribing *subscribing, size_t count,
                                   const struct subscribing_pending *doubt, bool over) {
    struct subscribing_learned *learned = subscribing->learned;
    learned->streak = 0;
    if (over) {
        learned->total_good = (uint16_t)doubt->held;
        learned->total_bad = (uint16_t)(doubt->held + 1);
        subscribing_move_to_surplus(subscribing, count);
    } else {
        subscribing_defer(subscribing, count, 1u << SUBSCRIBING_SUSPECT | 1u << SUBSCRIBING_NEW);
    }
}

static void subscribing_mark_ends_connection(struct subscribing_filter *filter) {
    filter->flags &= (uint8_t) ~(FILTER_SUSPECT | FILTER_DEFERRED | FILTER_HELD);
    filter->flags |= FILTER_ENDS_CONNECTION | FILTER_CHARGED;
    filter->packet_max = 1;
}

/* It was requested alone. */
static void subscribing_charge(struct subscribing *subscribing, size_t count,
                               const struct subscribing_pending *doubt, bool over) {
    struct subscribing_filter *filter = &subscribing->filters[doubt->first];
    filter->packet_max = 1;
    if (filter->flags & (FILTER_CHARGED | FILTER_ENDS_CONNECTION)) {
        subscribing_mark_ends_connection(filter);
        filter->granted = GRANTED_NONE;
        return;
    }
    filter->flags |= FILTER_SUSPECT | FILTER_CHARGED;
    subscribing->learned->packet_max =
        subscribing->learned->packet_before; /* the size was not the cause */
    subscribing->learned->streak++;
    if (subscribing->learned->streak >= SUBSCRIBING_STREAK_MAX) {
        subscribing_end_streak(subscribing, count, doubt, over);
    }
}

static void subscribing_halve(struct subscribing *subscribing, size_t count, size_t n) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        if (filter->flags & FILTER_PENDING) {
            filter->flags |= FILTER_SUSPECT;
            filter->packet_max = (uint16_t)(n / 2);
        }
    }
}

static void subscribing_judge(struct subscribing *subscribing, size_t count,
                              const struct subscribing_pending *doubt) {
    struct subscribing_learned *learned = subscribing->learned;
    size_t total = doubt->held + doubt->fresh;
    bool over = doubt->held > 0 && total > learned->total_good; /* more than the broker ever held */
    bool proven = doubt->n <= learned->packet_good; /* it has accepted as many at once */
    if (over && (learned->total_bad > 0 || (doubt->safe && proven))) {
        bool less = learned->total_bad == 0 || total < learned->total_bad;
        learned->total_bad = less ? (uint16_t)total : learned->total_bad;
        return;
    }
    if (!doubt->nested) {
        learned->packet_before = learned->packet_max;
    }
    if (!proven && doubt->n > 1) {
        learned->packet_max = (uint16_t)(doubt->n / 2);
    }
    if (doubt->n > 1) {
        subscribing_halve(subscribing, count, doubt->n);
    } else {
        subscribing_charge(subscribing, count, doubt, over);
    }
}

/* However many filters are bad, the client comes online with the others. */
static void subscribing_bound_losses(struct subscribing *subscribing, size_t count) {
    const unsigned doubtful =
        1u << SUBSCRIBING_SUSPECT | 1u << SUBSCRIBING_NEW | 1u << SUBSCRIBING_SURPLUS;
    if (subscribing->learned->losses > SUBSCRIBING_LOSSES_END) {
        subscribing_defer(subscribing, count, doubtful | 1u << SUBSCRIBING_GOOD);
    } else if (subscribing->learned->losses > SUBSCRIBING_LOSSES_MAX) {
        subscribing_defer(subscribing, count, doubtful);
    }
}

static void subscribing_note_loss(struct subscribing *subscribing, size_t count, bool late) {
    struct subscribing_learned *learned = subscribing->learned;
    learned->on_trial = false;
    if (learned->losses < UINT16_MAX) {
        learned->losses++;
    }
    if (late && learned->deferred_tries < UINT8_MAX) {
        learned->deferred_tries++;
    }
    subscribing_bound_losses(subscribing, count);
    subscribing_clear(subscribing, count, FILTER_PENDING);
}

bool subscribing_blame(struct subscribing *subscribing, size_t count,
                       const struct subscribing_rules *rules, int64_t now_ms) {
    struct subscribing_pending doubt = subscribing_find_pending(subscribing, count);
    struct subscribing_learned *learned =
        doubt.n > 0 ? subscribing_learned_of(subscribing, count, rules->packet_max) : NULL;
    if (!learned) {
        return false;
    }
    subscribing_judge(subscribing, count, &doubt);
    subscribing_note_loss(subscribing, count, doubt.deferred);
    if (doubt.deferred || learned->deferred_at_ms == 0) {
        subscribing_plan_deferred(learned, rules, now_ms);
    }
    return true;
}

/* ---- filters that a SUBACK refused ---- */

bool subscribing_was_just_refused(const struct subscribing *subscribing, int64_t now_ms) {
    const struct subscribing_learned *learned = subscribing->learned;
    return learned && learned->refused_at_ms != 0 &&
           now_ms - learned->refused_at_ms < SUBSCRIBING_REFUSED_MS;
}

/* Filters that were only in flight are no longer in doubt. Those that were temporarily refused and
 * are in flight again stay refused. */
static void subscribing_clear_pending(struct subscribing *subscribing, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        bool again = (filter->flags & FILTER_PENDING) && reason_is_error(filter->granted);
        filter->flags &= (uint8_t)~FILTER_PENDING;
        filter->flags |= again ? FILTER_DONE : 0;
    }
}

static bool subscribing_is_refused(const struct subscribing_filter *filter) {
    return (filter->flags & FILTER_DONE) && reason_is_error(filter->granted);
}

struct subscribing_refused {
    size_t n, first;
    bool deferred;
};

static struct subscribing_refused subscribing_find_refused(const struct subscribing *subscribing,
                                                           size_t count) {
    struct subscribing_refused refused = {0};
    for (size_t i = count; i-- > 0;) {
        if (subscribing_is_refused(&subscribing->filters[i])) {
            refused.n++;
            refused.first = i;
            refused.deferred |= (subscribing->filters[i].flags & SUBSCRIBING_ANY_DEFERRED) != 0;
        }
    }
    return refused;
}

/* RabbitMQ 4 also refuses everything behind the first filter that it refuses. Only a filter that
 * was requested alone is certainly refused itself. */
static void subscribing_charge_refused(struct subscribing_filter *filter, size_t n, size_t most) {
    if (n == 1 || filter->packet_max == 1 || most == 1) {
        subscribing_mark_ends_connection(filter);
        return;
    }
    most = n < most ? n : most;
    most = filter->packet_max > 0 && filter->packet_max < most ? filter->packet_max : most;
    filter->packet_max = (uint16_t)(most / 2);
    filter->flags &= (uint8_t)~FILTER_DONE;
    filter->flags |= FILTER_SUSPECT;
    filter->granted = GRANTED_NONE;
}

size_t subscribing_blame_refused(struct subscribing *subscribing, size_t count,
                                 const struct subscribing_rules *rules, int64_t now_ms, size_t *n) {
    subscribing_clear_pending(subscribing, count);
    struct subscribing_refused refused = subscribing_find_refused(subscribing, count);
    struct subscribing_learned *learned = subscribing->learned;
    *n = learned ? refused.n : 0;
    if (*n == 0) {
        return 0; /* it has left the list meanwhile */
    }
    for (size_t i = 0; i < count; i++) {
        if (subscribing_is_refused(&subscribing->filters[i])) {
            subscribing_charge_refused(&subscribing->filters[i], refused.n, rules->packet_max);
        }
    }
    subscribing_note_loss(subscribing, count, refused.deferred);
    subscribing_plan_deferred(learned, rules, now_ms);
    return refused.first;
}

/* ---- filters that were unsubscribed ---- */

bool subscribing_blame_unsubscribe(struct subscribing *subscribing, size_t count,
                                   const struct subscribing_rules *rules) {
    struct subscribing_learned *learned =
        subscribing_learned_of(subscribing, count, rules->packet_max);
    if (!learned || subscribing_unsubscribe_max(subscribing, rules) == 0) {
        return false;
    }
    learned->unsubscribes_lost++;
    return true;
}

size_t subscribing_unsubscribe_max(const struct subscribing *subscribing,
                                   const struct subscribing_rules *rules) {
    size_t lost = subscribing->learned ? subscribing->learned->unsubscribes_lost : 0;
    return lost < 16 ? rules->packet_max >> lost : 0;
}
