/* What the routes of clients need of the router. */
#ifndef MQFLEET_MESSAGE_ROUTER_INTERNAL_H
#define MQFLEET_MESSAGE_ROUTER_INTERNAL_H

#include <pthread.h>
#include "message/router.h"
#include "message/routes/routing.h"
#include "message/sink_name.h"

struct router_sink {
    char name[SINK_NAME_MAX + 1];          /* "": free; guarded by lock */
    _Atomic(struct message_queue *) queue; /* written under the lock */
};

struct router {
    struct router_observer observer;
    struct rate_quotas *quotas;
    pthread_mutex_t lock;
    struct router_sink sinks[ROUTER_SINKS_MAX];
    _Atomic size_t sink_count;  /* places used so far; written under the lock */
    struct route_table *routes; /* guarded by lock; NULL: none */
    struct routing *routing;    /* guarded by lock; of the routes and sinks; NULL: no routes */
    _Atomic uint16_t generation;
    bool origin_required; /* guarded by lock */
    atomic_bool stopped;
};

/* NULL: there is no such sink. name NULL: of the default. Any thread. */
struct message_queue *router_find_queue(struct router *router, const char *name);
/* The name of the sink with that queue. False: there is none. Any thread. */
bool router_find_name(struct router *router, const struct message_queue *queue,
                      char out[SINK_NAME_MAX + 1]);
/* With the routes of a client before those of the fleet; own NULL: it has none. *out NULL: there
 * are no routes. The caller releases it. False: out of memory. Any thread. */
bool router_take_routing(struct router *router, struct route_table *own, struct routing **out);

/* NULL: the client has none. */
static inline struct route_record *route_find_record(const struct route *route) {
    return atomic_load_explicit(&route->record, memory_order_acquire);
}
/* route_record.c. NULL: out of memory. */
struct route_record *route_make_record(struct route *route);
void route_count_received(struct route *route, uint8_t qos, size_t payload_len,
                          int64_t received_us);
/* Whether the last message of QoS 1 or 2 found no place. */
void route_note_held(struct route *route, bool held);
/* A message that was submitted counts against the limits. */
void route_charge(struct route *route, size_t payload_len);

#endif
