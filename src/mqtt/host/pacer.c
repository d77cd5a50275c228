/* Owns the order in which clients may connect. Host thread only. Knows no client: tickets are
 * embedded in whatever waits. */
#include "mqtt/pacer.h"

#include <assert.h>
#include <utlist.h>

#define BURST_US 50000 /* of the rate may come at once */

void pacer_init(struct pacer *pacer, size_t in_flight_max, int64_t rate_per_s) {
    *pacer = (struct pacer){.in_flight_max = in_flight_max,
                            .interval_us = rate_per_s > 0 ? 1000000 / rate_per_s : 0};
}

void pacer_share(struct pacer *pacer, size_t index, size_t count) {
    assert(index < count);
    size_t share = pacer->in_flight_max / count + (index < pacer->in_flight_max % count);
    pacer->in_flight_max = share > 0 ? share : 1;
    pacer->interval_us *= (int64_t)count;
}

/* The ring holds exactly the brokers from which pacer_next may take, the rate aside. */
static void put_in_ring(struct pacer *pacer, struct broker *broker) {
    bool wanted = broker->waiting != NULL && broker->in_flight < pacer->in_flight_max;
    if (wanted && !broker->in_ring) {
        CDL_APPEND(pacer->ring, broker);
    } else if (!wanted && broker->in_ring) {
        CDL_DELETE(pacer->ring, broker);
    }
    broker->in_ring = wanted;
}

void pacer_join(struct pacer *pacer, struct pacer_ticket *ticket, struct broker *broker) {
    assert(ticket->place == PACER_OUT);
    ticket->broker = broker;
    ticket->place = PACER_WAITING;
    DL_APPEND(broker->waiting, ticket);
    put_in_ring(pacer, broker);
}

void pacer_park(struct pacer *pacer, struct pacer_ticket *ticket, struct broker *broker,
                bool first) {
    assert(ticket->place == PACER_OUT);
    if (broker->parked == NULL) {
        DL_APPEND2(pacer->away, broker, away_prev, away_next);
    }
    ticket->broker = broker;
    ticket->place = PACER_PARKED;
    if (first) {
        DL_PREPEND(broker->parked, ticket);
    } else {
        DL_APPEND(broker->parked, ticket);
    }
    incident_wait(broker->incident, true);
}

static void unpark(struct pacer *pacer, struct pacer_ticket *ticket) {
    struct broker *broker = ticket->broker;
    DL_DELETE(broker->parked, ticket);
    if (broker->parked == NULL) {
        DL_DELETE2(pacer->away, broker, away_prev, away_next);
    }
    incident_wait(broker->incident, false);
}

void pacer_leave(struct pacer *pacer, struct pacer_ticket *ticket) {
    switch (ticket->place) {
    case PACER_OUT:
        return;
    case PACER_WAITING:
        DL_DELETE(ticket->broker->waiting, ticket);
        break;
    case PACER_IN_FLIGHT:
        ticket->broker->in_flight--;
        break;
    case PACER_PARKED:
        unpark(pacer, ticket);
        break;
    }
    ticket->place = PACER_OUT;
    ticket->probe = false;
    put_in_ring(pacer, ticket->broker);
}

bool pacer_take_more(struct pacer *pacer, struct broker *broker) {
    if (broker->in_flight >= pacer->in_flight_max) {
        return false;
    }
    broker->in_flight++;
    put_in_ring(pacer, broker);
    return true;
}

void pacer_give_more(struct pacer *pacer, struct broker *broker) {
    assert(broker->in_flight > 0);
    broker->in_flight--;
    put_in_ring(pacer, broker);
}

static bool take_token(const struct pacer *pacer, struct broker *broker, int64_t now_us) {
    if (pacer->interval_us == 0) {
        return true;
    }
    if (broker->next_at_us > now_us) {
        return false;
    }
    int64_t earliest_us = now_us - BURST_US;
    int64_t from_us = broker->next_at_us > earliest_us ? broker->next_at_us : earliest_us;
    broker->next_at_us = from_us + pacer->interval_us;
    return true;
}

static struct pacer_ticket *admit_first(struct pacer *pacer, struct broker *broker) {
    struct pacer_ticket *ticket = broker->waiting;
    DL_DELETE(broker->waiting, ticket);
    ticket->place = PACER_IN_FLIGHT;
    broker->in_flight++;
    pacer->ring = broker->next; /* the others first */
    put_in_ring(pacer, broker);
    return ticket;
}

struct pacer_ticket *pacer_next(struct pacer *pacer, int64_t now_us) {
    struct broker *first = pacer->ring;
    if (first == NULL) {
        return NULL;
    }
    struct broker *broker = first;
    do {
        if (take_token(pacer, broker, now_us)) {
            return admit_first(pacer, broker);
        }
        broker = broker->next;
    } while (broker != first);
    return NULL;
}

int64_t pacer_wait_ms(const struct pacer *pacer, int64_t now_us, int64_t most_ms) {
    int64_t wait_us = most_ms * 1000;
    const struct broker *broker;
    CDL_FOREACH(pacer->ring, broker) {
        int64_t left_us = broker->next_at_us - now_us;
        wait_us = left_us < wait_us ? left_us : wait_us;
    }
    return wait_us <= 0 ? 0 : (wait_us + 999) / 1000;
}
