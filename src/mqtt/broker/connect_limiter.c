/* Owns the order in which clients may connect. Worker thread only. Tickets are embedded in whatever
 * waits. */
#include "mqtt/broker/connect_limiter.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#define CONNECT_LIMITER_BURST_US 50000 /* this part of the rate may start at once */

void connect_limiter_init(struct connect_limiter *limiter, size_t in_flight_max,
                          int64_t rate_per_s) {
    *limiter = (struct connect_limiter){.in_flight_max = in_flight_max,
                                        .in_flight_all = in_flight_max,
                                        .count = 1,
                                        .interval_us = rate_per_s > 0 ? 1000000 / rate_per_s : 0};
}

/* The part that this limiter has of what its node has in flight. */
static size_t connect_limiter_part(const struct connect_limiter *limiter, size_t of_node) {
    size_t part = of_node / limiter->count + (limiter->index < of_node % limiter->count);
    return part > 0 ? part : 1;
}

void connect_limiter_share(struct connect_limiter *limiter, size_t index, size_t count) {
    assert(index < count);
    limiter->index = index;
    limiter->count = count;
    limiter->in_flight_max = connect_limiter_part(limiter, limiter->in_flight_all);
    limiter->interval_us *= (int64_t)count;
}

/* The ring holds exactly the brokers that connect_limiter_next may choose from, ignoring the rate.
 */
static void connect_limiter_update_ring(struct connect_limiter *limiter, struct broker *broker) {
    bool wanted = broker->waiting && broker->in_flight < limiter->in_flight_max;
    if (wanted && !broker->in_ring) {
        CDL_APPEND(limiter->ring, broker);
    } else if (!wanted && broker->in_ring) {
        CDL_DELETE(limiter->ring, broker);
    }
    broker->in_ring = wanted;
}

void connect_limiter_set_nodes(struct connect_limiter *limiter, const struct brokers *brokers,
                               size_t nodes) {
    size_t of_node = limiter->in_flight_all / (nodes > 0 ? nodes : 1);
    of_node = of_node < CONNECT_LIMITER_NODE_MIN ? CONNECT_LIMITER_NODE_MIN : of_node;
    of_node = of_node > limiter->in_flight_all ? limiter->in_flight_all : of_node;
    limiter->in_flight_max = connect_limiter_part(limiter, of_node);
    for (struct broker *broker = brokers->table; broker; broker = broker->hh.next) {
        connect_limiter_update_ring(limiter, broker);
    }
}

void connect_limiter_join(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket,
                          struct broker *broker) {
    assert(ticket->place == CONNECT_LIMITER_OUT);
    ticket->broker = broker;
    ticket->place = CONNECT_LIMITER_WAITING;
    DL_APPEND(broker->waiting, ticket);
    connect_limiter_update_ring(limiter, broker);
}

void connect_limiter_park(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket,
                          struct broker *broker, bool first) {
    assert(ticket->place == CONNECT_LIMITER_OUT);
    if (!broker->parked) {
        DL_APPEND2(limiter->parked, broker, parked_prev, parked_next);
    }
    ticket->broker = broker;
    ticket->place = CONNECT_LIMITER_PARKED;
    if (first) {
        DL_PREPEND(broker->parked, ticket);
    } else {
        DL_APPEND(broker->parked, ticket);
    }
    incident_wait(broker->incident, true);
}

static void connect_limiter_unpark(struct connect_limiter *limiter,
                                   struct connect_limiter_ticket *ticket) {
    struct broker *broker = ticket->broker;
    DL_DELETE(broker->parked, ticket);
    if (!broker->parked) {
        DL_DELETE2(limiter->parked, broker, parked_prev, parked_next);
    }
    incident_wait(broker->incident, false);
}

/* ---- tickets that a quota holds ---- */

/* NULL: out of memory. */
static struct connect_hold *connect_limiter_hold_of(struct connect_limiter *limiter,
                                                    struct rate_quota *quota) {
    struct connect_hold *hold;
    DL_FOREACH(limiter->holds, hold) {
        if (hold->quota == quota) {
            return hold;
        }
    }
    hold = calloc(1, sizeof *hold);
    if (hold) {
        hold->quota = rate_quota_retain(quota);
        DL_APPEND(limiter->holds, hold);
    }
    return hold;
}

bool connect_limiter_hold(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket,
                          struct rate_quota *quota) {
    struct broker *broker = ticket->broker;
    assert(ticket->place == CONNECT_LIMITER_IN_FLIGHT);
    struct connect_hold *hold = connect_limiter_hold_of(limiter, quota);
    if (!hold) {
        return false;
    }
    broker->next_at_us -= limiter->interval_us; /* it did not connect */
    connect_limiter_leave(limiter, ticket);
    ticket->hold = hold;
    ticket->place = CONNECT_LIMITER_HELD;
    DL_APPEND(hold->tickets, ticket);
    return true;
}

static void connect_limiter_unhold(struct connect_limiter *limiter,
                                   struct connect_limiter_ticket *ticket) {
    struct connect_hold *hold = ticket->hold;
    DL_DELETE(hold->tickets, ticket);
    ticket->broker = NULL;
    ticket->place = CONNECT_LIMITER_OUT;
    if (!hold->tickets) {
        DL_DELETE(limiter->holds, hold);
        rate_quota_release(hold->quota);
        free(hold);
    }
}

struct connect_limiter_ticket *connect_limiter_held_next(struct connect_limiter *limiter,
                                                         struct connect_hold *hold) {
    struct connect_limiter_ticket *ticket = hold->tickets;
    connect_limiter_unhold(limiter, ticket);
    return ticket;
}

int64_t connect_limiter_held_wait_ms(const struct connect_limiter *limiter, int64_t now_us,
                                     int64_t wait_ms_max) {
    int64_t wait_ns = wait_ms_max * 1000000;
    const struct connect_hold *hold;
    DL_FOREACH(limiter->holds, hold) {
        int64_t left_ns = rate_quota_wait_ns(hold->quota, RATE_CONNECTS, now_us * 1000);
        wait_ns = left_ns < wait_ns ? left_ns : wait_ns;
    }
    return (wait_ns + 999999) / 1000000;
}

/* ---- leaving ---- */

void connect_limiter_leave(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket) {
    switch (ticket->place) {
    case CONNECT_LIMITER_OUT:
        return;
    case CONNECT_LIMITER_HELD:
        ticket->probe = false;
        connect_limiter_unhold(limiter, ticket);
        return;
    case CONNECT_LIMITER_WAITING:
        DL_DELETE(ticket->broker->waiting, ticket);
        break;
    case CONNECT_LIMITER_IN_FLIGHT:
        ticket->broker->in_flight--;
        break;
    case CONNECT_LIMITER_PARKED:
        connect_limiter_unpark(limiter, ticket);
        break;
    }
    ticket->place = CONNECT_LIMITER_OUT;
    ticket->probe = false;
    connect_limiter_update_ring(limiter, ticket->broker);
}

bool connect_limiter_acquire_socket(struct connect_limiter *limiter, struct broker *broker) {
    if (broker->in_flight >= limiter->in_flight_max) {
        return false;
    }
    broker->in_flight++;
    connect_limiter_update_ring(limiter, broker);
    return true;
}

void connect_limiter_release_socket(struct connect_limiter *limiter, struct broker *broker) {
    assert(broker->in_flight > 0);
    broker->in_flight--;
    connect_limiter_update_ring(limiter, broker);
}

static bool connect_limiter_take_token(const struct connect_limiter *limiter, struct broker *broker,
                                       int64_t now_us) {
    if (limiter->interval_us == 0) {
        return true;
    }
    if (broker->next_at_us > now_us) {
        return false;
    }
    int64_t earliest_us = now_us - CONNECT_LIMITER_BURST_US;
    int64_t from_us = broker->next_at_us > earliest_us ? broker->next_at_us : earliest_us;
    broker->next_at_us = from_us + limiter->interval_us;
    return true;
}

static struct connect_limiter_ticket *connect_limiter_admit_first(struct connect_limiter *limiter,
                                                                  struct broker *broker) {
    struct connect_limiter_ticket *ticket = broker->waiting;
    DL_DELETE(broker->waiting, ticket);
    ticket->place = CONNECT_LIMITER_IN_FLIGHT;
    broker->in_flight++;
    limiter->ring = broker->next; /* the others first */
    connect_limiter_update_ring(limiter, broker);
    return ticket;
}

struct connect_limiter_ticket *connect_limiter_next(struct connect_limiter *limiter,
                                                    int64_t now_us) {
    struct broker *first = limiter->ring;
    if (!first) {
        return NULL;
    }
    struct broker *broker = first;
    do {
        if (connect_limiter_take_token(limiter, broker, now_us)) {
            return connect_limiter_admit_first(limiter, broker);
        }
        broker = broker->next;
    } while (broker != first);
    return NULL;
}

int64_t connect_limiter_wait_ms(const struct connect_limiter *limiter, int64_t now_us,
                                int64_t wait_ms_max) {
    int64_t wait_us = wait_ms_max * 1000;
    const struct broker *broker;
    CDL_FOREACH(limiter->ring, broker) {
        int64_t left_us = broker->next_at_us - now_us;
        wait_us = left_us < wait_us ? left_us : wait_us;
    }
    return wait_us <= 0 ? 0 : (wait_us + 999) / 1000;
}
