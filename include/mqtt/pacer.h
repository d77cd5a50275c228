/* Lets clients connect a few at a time: at most so many in flight to one broker, at most so many
 * begun per second, first come first served within a broker and in turn between brokers, so that a
 * dead one never delays another. Host thread only.
 *
 *   broker a: [ waiting ] \
 *   broker b: [ waiting ]  > in turn --pacer_next--> in flight --pacer_leave--> out
 *   broker c: [ waiting ] / */
#ifndef MQFLEET_MQTT_PACER_H
#define MQFLEET_MQTT_PACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "mqtt/broker.h"

enum pacer_place { PACER_OUT, PACER_WAITING, PACER_IN_FLIGHT, PACER_PARKED };

struct pacer_ticket { /* embedded in what wants to connect */
    struct broker *broker;
    enum pacer_place place;
    bool probe; /* tries although the broker has an incident; until it leaves */
    struct pacer_ticket *prev, *next;
};

struct pacer {
    size_t in_flight_max;
    int64_t interval_us; /* between two to one broker; 0: no limit */
    struct broker *ring; /* with waiting tickets and room in flight */
    struct broker *away; /* with parked tickets */
};

/* rate_per_s: at most a million; 0: no limit. */
void pacer_init(struct pacer *pacer, size_t in_flight_max, int64_t rate_per_s);
/* Before its first use: leaves it its share of limits that `count` pacers have together, the
 * index-th of them. One in flight is left to each. */
void pacer_share(struct pacer *pacer, size_t index, size_t count);
void pacer_join(struct pacer *pacer, struct pacer_ticket *ticket, struct broker *broker);
/* Not to be admitted, until it leaves: broker->parked, at its end unless `first`. */
void pacer_park(struct pacer *pacer, struct pacer_ticket *ticket, struct broker *broker,
                bool first);
/* Gives a waiting, parked or used place back; legal when out. */
void pacer_leave(struct pacer *pacer, struct pacer_ticket *ticket);
/* One more socket of a client in flight. False: there is no room. */
bool pacer_take_more(struct pacer *pacer, struct broker *broker);
void pacer_give_more(struct pacer *pacer, struct broker *broker);
/* The next that may connect, in flight from now on; NULL: none now. */
struct pacer_ticket *pacer_next(struct pacer *pacer, int64_t now_us);
/* Until pacer_next is worth another call for the sake of the rate: most_ms at most. */
int64_t pacer_wait_ms(const struct pacer *pacer, int64_t now_us, int64_t most_ms);

#endif
