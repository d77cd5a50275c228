/* Internals of the plan of subscriptions. Only subscribing*.c include this. */
#ifndef MQFLEET_CLIENT_SUBSCRIBING_INTERNAL_H
#define MQFLEET_CLIENT_SUBSCRIBING_INTERNAL_H

#include "mqtt/client/subscribing.h"

#define SUBSCRIBING_ANY_DEFERRED (FILTER_ENDS_CONNECTION | FILTER_SURPLUS | FILTER_DEFERRED)

/* The order of asking: filters in doubt come first, so that a connection that will end ends soon.
 */
enum subscribing_class {
    SUBSCRIBING_SUSPECT,
    SUBSCRIBING_GOOD, /* the broker has answered it before */
    SUBSCRIBING_NEW,
    SUBSCRIBING_SURPLUS,
    SUBSCRIBING_NONE,
};

enum subscribing_class subscribing_class_of(const struct subscribing_filter *filter);
/* How many of the first `count` filters have one of these flags. */
size_t subscribing_count_of(const struct subscribing *subscribing, size_t count, unsigned flags);
void subscribing_clear(struct subscribing *subscribing, size_t count, unsigned flags);
/* Allocates it on first use: it is needed only once a packet was not acknowledged. NULL: out of
 * memory. */
struct subscribing_learned *subscribing_learned_of(struct subscribing *subscribing, size_t count,
                                                   size_t packet_max);
/* Plans the next try of filters that ended connections. */
void subscribing_plan_deferred(struct subscribing_learned *learned,
                               const struct subscribing_rules *rules, int64_t now_ms);

#endif
