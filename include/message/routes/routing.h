/* Routes together with the sinks of a node: brings a message to the queues of its sinks. A
 * snapshot: it is made when routes or sinks change. Immutable; reference counted; any thread. */
#ifndef MQFLEET_ROUTES_ROUTING_H
#define MQFLEET_ROUTES_ROUTING_H

#include <stddef.h>
#include "base/err.h"
#include "message/message_queue.h"
#include "message/routes/route_chain.h"

struct routing;

struct routing_sinks {
    void *context;
    /* The queue of a sink of the node. NULL: it has none of that name. The queue outlives the
     * snapshot. */
    struct message_queue *(*find)(void *context, const char *name);
    struct message_queue *dead_letters; /* for messages whose script fails; NULL: they wait */
};

/* Takes over one reference of the table, also without memory (NULL). The caller has one reference.
 */
struct routing *routing_create(struct route_table *table, const struct routing_sinks *sinks);
struct routing *routing_retain(struct routing *routing); /* NULL is legal in both */
void routing_release(struct routing *routing);
/* As routing_create, of a client with routes of its own: those of the fleet follow. fleet: NULL:
 * there are none; takes over one reference. */
struct routing *routing_create_own(struct route_table *table, struct routing *fleet,
                                   const struct routing_sinks *sinks);
/* The sinks that the routes name. */
size_t routing_sink_count(const struct routing *routing);
/* NULL: the node does not have that sink. */
struct message_queue *routing_queue(const struct routing *routing, size_t index);

/* What one client has in the queues. */
struct routing_client {
    struct message_queue
        *standard; /* of its sink, or the default; NULL: the node does not have it */
    struct message_queue_share *standard_share;
    struct message_queue_share *shares; /* routing_sink_count */
};

struct routing_result {
    /* After ERR_FULL: offer the message again when this queue has room, or (NULL) a little later.
     */
    struct message_queue *full;
    struct message_queue_share *full_share;
    bool sink_missing;   /* ... or when the sinks of the node have changed */
    const char *missing; /* its name, of the table or static; NULL: the sink of the client */
    size_t dropped, dropped_over_share; /* copies of QoS 0, for want of room */
    size_t dropped_also;                /* copies that were best effort */
    bool filtered;                      /* scripts made nothing of it */
};

/* As route_submit. QoS 1 and 2: all sinks in `to` get the message, or none (ERR_FULL). QoS 0: each
 * sink that has room gets it. */
enum err routing_submit(const struct routing *routing, const struct routing_client *client,
                        struct message *message, struct receipt *receipt,
                        struct routing_result *result) MUST_CHECK;

#endif
