/* Lets clients connect a few at a time: at most so many in flight to one broker, at most so many
 * begun per second, first come first served within a broker and in turn between brokers, so that a
 * dead one never delays another. Host thread only.
 *
 *   broker a: [ waiting ] \
 *   broker b: [ waiting ]  > in turn --connect_limiter_next--> in flight --connect_limiter_leave-->
 * out broker c: [ waiting ] / */
#ifndef MQFLEET_BROKER_CONNECT_LIMITER_H
#define MQFLEET_BROKER_CONNECT_LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "mqtt/broker/broker.h"

enum connect_limiter_place {
    CONNECT_LIMITER_OUT,
    CONNECT_LIMITER_WAITING,
    CONNECT_LIMITER_IN_FLIGHT,
    CONNECT_LIMITER_PARKED
};

struct connect_limiter_ticket { /* embedded in what wants to connect */
    struct broker *broker;
    enum connect_limiter_place place;
    bool probe; /* tries although the broker has an incident; until it leaves */
    struct connect_limiter_ticket *prev, *next;
};

struct connect_limiter {
    size_t in_flight_max;
    int64_t interval_us;   /* between two to one broker; 0: no limit */
    struct broker *ring;   /* with waiting tickets and room in flight */
    struct broker *parked; /* with parked tickets */
};

/* rate_per_s: at most a million; 0: no limit. */
void connect_limiter_init(struct connect_limiter *limiter, size_t in_flight_max,
                          int64_t rate_per_s);
/* Before its first use: leaves it its share of limits that `count` pacers have together, the
 * index-th of them. One in flight is left to each. */
void connect_limiter_share(struct connect_limiter *limiter, size_t index, size_t count);
void connect_limiter_join(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket,
                          struct broker *broker);
/* Not to be admitted, until it leaves: broker->parked, at its end unless `first`. */
void connect_limiter_park(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket,
                          struct broker *broker, bool first);
/* Gives a waiting, parked or used place back; legal when out. */
void connect_limiter_leave(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket);
/* One more socket of a client in flight. False: there is no room. */
bool connect_limiter_acquire_socket(struct connect_limiter *limiter, struct broker *broker);
void connect_limiter_release_socket(struct connect_limiter *limiter, struct broker *broker);
/* The next that may connect, in flight from now on; NULL: none now. */
struct connect_limiter_ticket *connect_limiter_next(struct connect_limiter *limiter,
                                                    int64_t now_us);
/* Until connect_limiter_next is worth another call for the sake of the rate: most_ms at most. */
int64_t connect_limiter_wait_ms(const struct connect_limiter *limiter, int64_t now_us,
                                int64_t most_ms);

#endif
