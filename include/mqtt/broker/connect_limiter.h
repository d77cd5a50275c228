/* Limits how many clients connect: in flight to one broker, and started per second. First come,
 * first served within a broker, and round-robin between brokers, so that an unreachable one does
 * not delay others. A ticket whose quota is used up is held apart, so that it delays nobody of
 * another scope. Worker thread only.
 *
 *   broker a: [ waiting ] \
 *   broker b: [ waiting ]  > in turn --connect_limiter_next--> in flight
 *   broker c: [ waiting ] /                                    --connect_limiter_leave--> out
 *   quota q:  [ held ] <--connect_limiter_hold-- in flight; connect_limiter_held_next takes out */
#ifndef MQFLEET_BROKER_CONNECT_LIMITER_H
#define MQFLEET_BROKER_CONNECT_LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "message/rate_quota.h"
#include "mqtt/broker/broker.h"

enum connect_limiter_place {
    CONNECT_LIMITER_OUT,
    CONNECT_LIMITER_WAITING,
    CONNECT_LIMITER_IN_FLIGHT,
    CONNECT_LIMITER_PARKED,
    CONNECT_LIMITER_HELD
};

/* The tickets that a quota holds; exists while there are any. */
struct connect_hold {
    struct rate_quota *quota; /* one reference */
    struct connect_limiter_ticket *tickets;
    struct connect_hold *prev, *next;
};

struct connect_limiter_ticket { /* embedded in the object that connects */
    union {
        struct broker *broker;
        struct connect_hold *hold; /* if held */
    };
    enum connect_limiter_place place;
    bool probe; /* connects despite an incident of the broker, until it leaves */
    struct connect_limiter_ticket *prev, *next;
};

#define CONNECT_LIMITER_NODE_MIN 8 /* per broker, in a fleet of any size */

struct connect_limiter {
    size_t in_flight_max;  /* of this limiter, per broker */
    size_t in_flight_all;  /* of the whole fleet, per broker */
    size_t index, count;   /* among the limiters of its node */
    int64_t interval_us;   /* between two connects to one broker; 0: no limit */
    struct broker *ring;   /* with waiting tickets and room in flight */
    struct broker *parked; /* with parked tickets */
    struct connect_hold *holds;
};

/* in_flight_max: of the whole fleet. rate_per_s: of this node, at most a million; 0: no limit. */
void connect_limiter_init(struct connect_limiter *limiter, size_t in_flight_max,
                          int64_t rate_per_s);
/* Call it before the first use: takes the index-th share of limits that the `count` limiters of
 * this node share. Each limiter may have at least one connect in flight. */
void connect_limiter_share(struct connect_limiter *limiter, size_t index, size_t count);
/* The fleet has that many nodes; 0 counts as 1. This node uses its equal part of in_flight_max, at
 * least CONNECT_LIMITER_NODE_MIN and at most all of it. Connects above a smaller part stay in
 * flight until they leave. brokers: all brokers that have a ticket of this limiter. */
void connect_limiter_set_nodes(struct connect_limiter *limiter, const struct brokers *brokers,
                               size_t nodes);
void connect_limiter_join(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket,
                          struct broker *broker);
/* Excludes the ticket from admission until it leaves. Appended to broker->parked, or prepended if
 * `first`. */
void connect_limiter_park(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket,
                          struct broker *broker, bool first);
/* Excludes a ticket that has just been admitted, as if it had not been, until its quota has room.
 * False: out of memory, the ticket stays in flight. */
bool connect_limiter_hold(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket,
                          struct rate_quota *quota);
/* Removes the first ticket of the hold; it must join again. The hold may be freed. */
struct connect_limiter_ticket *connect_limiter_held_next(struct connect_limiter *limiter,
                                                         struct connect_hold *hold);
/* How long until a quota may have room for a held ticket: wait_ms_max at most. */
int64_t connect_limiter_held_wait_ms(const struct connect_limiter *limiter, int64_t now_us,
                                     int64_t wait_ms_max);
/* Removes a waiting, parked, held or in-flight ticket; has no effect on a ticket that has left. */
void connect_limiter_leave(struct connect_limiter *limiter, struct connect_limiter_ticket *ticket);
/* Takes a place for one more socket of a client that is in flight. False: no room. */
bool connect_limiter_acquire_socket(struct connect_limiter *limiter, struct broker *broker);
void connect_limiter_release_socket(struct connect_limiter *limiter, struct broker *broker);
/* The next ticket that may connect; it is in flight from now on. NULL: none now. */
struct connect_limiter_ticket *connect_limiter_next(struct connect_limiter *limiter,
                                                    int64_t now_us);
/* How long until the rate permits another connect: wait_ms_max at most. */
int64_t connect_limiter_wait_ms(const struct connect_limiter *limiter, int64_t now_us,
                                int64_t wait_ms_max);

#endif
