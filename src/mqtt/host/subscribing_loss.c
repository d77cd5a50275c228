/* Owns what the end of a connection says about the filters that were asked for on it. Pure. The
 * plan of the next connection (subscribing.c) goes by the flags and numbers that are set here. */
#include "subscribing_internal.h"

#include "mqtt/reason_codes.h"

#define SUBSCRIBING_LOSSES_MAX 40 /* then what is in doubt is put off */
#define SUBSCRIBING_LOSSES_END 60 /* then all is that was not granted on the last connection */
#define SUBSCRIBING_STREAK_MAX 3
#define SUBSCRIBING_REFUSED_MS 2000 /* after a SUBACK: RabbitMQ 4 refuses and closes at once */

/* ---- filters without SUBACK ---- */

struct subscribing_doubt {
    size_t n;     /* filters */
    size_t fresh; /* that the session did not hold */
    size_t held;  /* others that it did */
    size_t first;
    bool nested; /* all were in doubt before */
    bool safe;   /* the broker has answered to each before, and never ended a connection at one */
    bool late;
};

static struct subscribing_doubt subscribing_doubt_of(const struct subscribing *subscribing,
                                                     size_t count) {
    struct subscribing_doubt doubt = {.safe = true, .nested = true};
    doubt.held = subscribing_count_of(subscribing, count, FILTER_HELD);
    for (size_t i = count; i-- > 0;) {
        const struct subscribing_filter *filter = &subscribing->filters[i];
        if (filter->flags & FILTER_ASKED) {
            doubt.n++;
            doubt.fresh += !(filter->flags & FILTER_HELD);
            doubt.first = i;
            doubt.safe =
                doubt.safe && filter->granted != GRANTED_NONE && !(filter->flags & FILTER_SUSPECT);
            doubt.nested = doubt.nested && (filter->flags & FILTER_SUSPECT);
            doubt.late = doubt.late || (filter->flags & SUBSCRIBING_ANY_LATE);
        }
    }
    return doubt;
}

static void subscribing_put_off(struct subscribing *subscribing, size_t count, unsigned classes) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        if (classes & 1u << subscribing_class_of(filter)) {
            filter->flags &= (uint8_t)~FILTER_HELD; /* by an earlier grant, which means nothing */
            filter->flags |= FILTER_LATE;
        }
    }
}

/* They may well be good. */
static void subscribing_surplus_named(struct subscribing *subscribing, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        if (filter->flags & FILTER_NAMED) {
            filter->flags &= (uint8_t) ~(FILTER_NAMED | FILTER_CHARGED);
            filter->flags |= FILTER_SURPLUS;
        }
    }
}

/* The third in a row: it is not this one filter. Either the broker holds as many as it ever will,
 * or it takes none of those that are left. */
static void subscribing_end_streak(struct subscribing *subscribing, size_t count,
                                   const struct subscribing_doubt *doubt, bool over) {
    struct subscribing_trouble *trouble = subscribing->trouble;
    trouble->streak = 0;
    if (over) {
        trouble->total_good = (uint16_t)doubt->held;
        trouble->total_bad = (uint16_t)(doubt->held + 1);
        subscribing_surplus_named(subscribing, count);
    } else {
        subscribing_put_off(subscribing, count, 1u << SUBSCRIBING_SUSPECT | 1u << SUBSCRIBING_NEW);
    }
}

static void subscribing_name(struct subscribing_filter *filter) {
    filter->flags &= (uint8_t) ~(FILTER_SUSPECT | FILTER_LATE | FILTER_HELD);
    filter->flags |= FILTER_NAMED | FILTER_CHARGED;
    filter->packet_max = 1;
}

/* It was asked for alone. */
static void subscribing_charge(struct subscribing *subscribing, size_t count,
                               const struct subscribing_doubt *doubt, bool over) {
    struct subscribing_filter *filter = &subscribing->filters[doubt->first];
    filter->packet_max = 1;
    if (filter->flags & (FILTER_CHARGED | FILTER_NAMED)) {
        subscribing_name(filter);
        filter->granted = GRANTED_NONE;
        return;
    }
    filter->flags |= FILTER_SUSPECT | FILTER_CHARGED;
    subscribing->trouble->packet_max = subscribing->trouble->packet_before; /* it was no reason */
    subscribing->trouble->streak++;
    if (subscribing->trouble->streak >= SUBSCRIBING_STREAK_MAX) {
        subscribing_end_streak(subscribing, count, doubt, over);
    }
}

static void subscribing_halve(struct subscribing *subscribing, size_t count, size_t n) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        if (filter->flags & FILTER_ASKED) {
            filter->flags |= FILTER_SUSPECT;
            filter->packet_max = (uint16_t)(n / 2);
        }
    }
}

static void subscribing_judge(struct subscribing *subscribing, size_t count,
                              const struct subscribing_doubt *doubt) {
    struct subscribing_trouble *trouble = subscribing->trouble;
    size_t total = doubt->held + doubt->fresh;
    bool over = doubt->held > 0 && total > trouble->total_good; /* the broker never held so many */
    bool proven = doubt->n <= trouble->packet_good;             /* it took as many at once */
    if (over && (trouble->total_bad > 0 || (doubt->safe && proven))) {
        bool less = trouble->total_bad == 0 || total < trouble->total_bad;
        trouble->total_bad = less ? (uint16_t)total : trouble->total_bad;
        return;
    }
    if (!doubt->nested) {
        trouble->packet_before = trouble->packet_max;
    }
    if (!proven && doubt->n > 1) {
        trouble->packet_max = (uint16_t)(doubt->n / 2);
    }
    if (doubt->n > 1) {
        subscribing_halve(subscribing, count, doubt->n);
    } else {
        subscribing_charge(subscribing, count, doubt, over);
    }
}

/* However many are bad, the client comes online with the others. */
static void subscribing_bound_losses(struct subscribing *subscribing, size_t count) {
    const unsigned doubtful =
        1u << SUBSCRIBING_SUSPECT | 1u << SUBSCRIBING_NEW | 1u << SUBSCRIBING_SURPLUS;
    if (subscribing->trouble->losses > SUBSCRIBING_LOSSES_END) {
        subscribing_put_off(subscribing, count, doubtful | 1u << SUBSCRIBING_GOOD);
    } else if (subscribing->trouble->losses > SUBSCRIBING_LOSSES_MAX) {
        subscribing_put_off(subscribing, count, doubtful);
    }
}

static void subscribing_note_loss(struct subscribing *subscribing, size_t count, bool late) {
    struct subscribing_trouble *trouble = subscribing->trouble;
    trouble->on_trial = false;
    trouble->losses += trouble->losses < UINT16_MAX;
    trouble->late_tries += late && trouble->late_tries < UINT8_MAX;
    subscribing_bound_losses(subscribing, count);
    subscribing_clear(subscribing, count, FILTER_ASKED);
}

bool subscribing_blame(struct subscribing *subscribing, size_t count,
                       const struct subscribing_rules *rules, int64_t now_ms) {
    struct subscribing_doubt doubt = subscribing_doubt_of(subscribing, count);
    struct subscribing_trouble *trouble =
        doubt.n > 0 ? subscribing_trouble_of(subscribing, count, rules->packet_max) : NULL;
    if (!trouble) {
        return false;
    }
    subscribing_judge(subscribing, count, &doubt);
    subscribing_note_loss(subscribing, count, doubt.late);
    if (doubt.late || trouble->late_at_ms == 0) {
        subscribing_plan_late(trouble, rules, now_ms);
    }
    return true;
}

/* ---- filters that a SUBACK refused ---- */

bool subscribing_refused_just_now(const struct subscribing *subscribing, int64_t now_ms) {
    const struct subscribing_trouble *trouble = subscribing->trouble;
    return trouble && trouble->refused_at_ms != 0 &&
           now_ms - trouble->refused_at_ms < SUBSCRIBING_REFUSED_MS;
}

/* What was only under way meanwhile is in doubt no longer; what was refused for the moment, and is
 * under way again, stays refused. */
static void subscribing_acquit_asked(struct subscribing *subscribing, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct subscribing_filter *filter = &subscribing->filters[i];
        bool again = (filter->flags & FILTER_ASKED) && filter->granted >= 0x80;
        filter->flags &= (uint8_t)~FILTER_ASKED;
        filter->flags |= again ? FILTER_DONE : 0;
    }
}

static bool subscribing_is_refused(const struct subscribing_filter *filter) {
    return (filter->flags & FILTER_DONE) && filter->granted >= 0x80;
}

struct subscribing_refused {
    size_t n, first;
    bool late;
};

static struct subscribing_refused subscribing_refused_of(const struct subscribing *subscribing,
                                                         size_t count) {
    struct subscribing_refused refused = {0};
    for (size_t i = count; i-- > 0;) {
        if (subscribing_is_refused(&subscribing->filters[i])) {
            refused.n++;
            refused.first = i;
            refused.late |= (subscribing->filters[i].flags & SUBSCRIBING_ANY_LATE) != 0;
        }
    }
    return refused;
}

/* RabbitMQ 4 refuses all that stand behind the first that it refuses, too: only of one that was
 * asked for alone it is known that the broker means it. */
static void subscribing_charge_refused(struct subscribing_filter *filter, size_t n, size_t most) {
    if (n == 1 || filter->packet_max == 1 || most == 1) {
        subscribing_name(filter);
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
    subscribing_acquit_asked(subscribing, count);
    struct subscribing_refused refused = subscribing_refused_of(subscribing, count);
    struct subscribing_trouble *trouble = subscribing->trouble;
    *n = trouble ? refused.n : 0;
    if (*n == 0) {
        return 0; /* it has left the list meanwhile */
    }
    for (size_t i = 0; i < count; i++) {
        if (subscribing_is_refused(&subscribing->filters[i])) {
            subscribing_charge_refused(&subscribing->filters[i], refused.n, rules->packet_max);
        }
    }
    subscribing_note_loss(subscribing, count, refused.late);
    subscribing_plan_late(trouble, rules, now_ms);
    return refused.first;
}

/* ---- filters that were unsubscribed ---- */

bool subscribing_blame_unsubscribe(struct subscribing *subscribing, size_t count,
                                   const struct subscribing_rules *rules) {
    struct subscribing_trouble *trouble =
        subscribing_trouble_of(subscribing, count, rules->packet_max);
    if (!trouble || subscribing_unsubscribe_max(subscribing, rules) == 0) {
        return false;
    }
    trouble->unsubscribes_lost++;
    return true;
}

size_t subscribing_unsubscribe_max(const struct subscribing *subscribing,
                                   const struct subscribing_rules *rules) {
    size_t lost = subscribing->trouble ? subscribing->trouble->unsubscribes_lost : 0;
    return lost < 16 ? rules->packet_max >> lost : 0;
}
