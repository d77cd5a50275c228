/* Routes a received message to the queue of its sink.
 *
 *   worker, once per change of a client:  route_set(&client->route, router, the client's sink)
 *   engine, once per message:             route_submit(route, message, receipt) --> queue --> sink
 *   worker, once per turn:                router_flush(router)
 *   worker, if router_generation changed: route_set again
 *
 * The router knows the queues of the node. A route is the handle of one client, part of the
 * client's record. The engine borrows it from open() until its closed event. One thread at a time
 * submits to a route: the worker thread or, with Paho, the library's receive thread. Meanwhile the
 * worker thread may set it, and any thread may read its counts.
 *
 * With routes (message/routes/), of the fleet or of the client, the message goes to all sinks that
 * they name, with one receipt. */
#ifndef MQFLEET_MESSAGE_ROUTER_H
#define MQFLEET_MESSAGE_ROUTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "message/drop.h"
#include "message/message.h"
#include "message/message_queue.h"
#include "message/rate_limit.h"
#include "message/rate_quota.h"
#include "message/receipt.h"
#include "message/routes/route_table.h"
#include "message/sink_name.h"

#define ROUTER_SINKS_MAX 80

struct router;

/* Shows passing messages to watchers. Must not block. */
struct router_observer {
    void *context;
    /* Called before the message is submitted: returns the text to show. NULL: nobody watches. */
    void *(*prepare)(void *context, const struct message *message);
    /* Called afterwards: shows the text, or discards it if the message was not accepted and will be
     * offered again. */
    void (*show)(void *context, void *prepared, bool taken);
};

struct router *router_create(void);         /* NULL: out of memory */
void router_destroy(struct router *router); /* after the last route_submit; NULL is legal */
/* Sinks may come and go at any time, by one thread at a time. A name that exists gets the other
 * queue. The first sink is the default. queue: borrowed for the router's life, also once it is
 * removed, because routes and threads that submit may still refer to it. False: there are
 * ROUTER_SINKS_MAX. */
bool router_add_sink(struct router *router, const char *name, struct message_queue *queue);
void router_remove_sink(struct router *router, const char *name);
/* The routes of the fleet; NULL: none, everything goes to the sinks of the clients. Takes over one
 * reference of the table. False: out of memory, they are as before. */
bool router_set_routes(struct router *router, struct route_table *table);
/* Whether messages must refer to their clients, although these have no labels. */
bool router_needs_origin(struct router *router);
/* From now on they must: a sink uses the broker of a client. */
void router_require_origin(struct router *router);
/* The routes; NULL: none. The caller releases them. */
struct route_table *router_routes(struct router *router);
/* The quotas of the clients; borrowed. */
struct rate_quotas *router_quotas(const struct router *router);
/* After rate_quotas_apply: clients take their quotas again. */
void router_quotas_changed(struct router *router);
/* Changes with the sinks, routes and quotas: then routes are outdated until they are set again. A
 * queue that is closed meanwhile holds its messages. */
uint16_t router_generation(const struct router *router);
/* The node stops: from now on a closed queue says so. */
void router_stop(struct router *router);
/* Before the first route_set. */
void router_observe(struct router *router, const struct router_observer *observer);
/* Wakes sinks that sleep and have messages. Any thread; does not block. */
void router_flush(const struct router *router);

/* A message of the client has arrived. Called by the thread that submits; must not block. False: to
 * be called again with the next message. */
typedef bool route_heard(void *context);

struct route_plan; /* the routes of a client, and what its messages refer to */

/* What few clients need. */
struct route_record {
    struct rate_limit limit;
    _Atomic(struct rate_quota *) quota; /* NULL: none */
    _Atomic int64_t limited_at_ms;      /* monotonic; the last message over the limits; 0: none */
    _Atomic int64_t over_quota_at_ms;   /* the same for the quota */
    _Atomic int64_t held_since_ms; /* monotonic; the first ERR_FULL since a message was taken; 0:
                                      none */
    _Atomic int64_t dropped[MESSAGE_DROP_COUNT];
    void *heard_context;
    _Atomic(route_heard *) heard;      /* called with the next message; NULL: nobody waits for it */
    _Atomic(struct route_plan *) plan; /* used with the lock; NULL: neither routes nor origin */
};

/* Zero at first. */
struct route {
    struct router *router;
    _Atomic(struct message_queue *) queue; /* NULL: the node does not have the sink */
    /* Written by the thread that submits. */
    struct message_queue_share share; /* its flag is the lock of the plan */
    _Atomic int64_t messages, bytes;
    _Atomic(struct route_record *) record; /* NULL: nothing of it so far */
    _Atomic int64_t last_message_at_ms;    /* monotonic; 0: none */
};

/* A sink that keeps a client from going on. */
#define ROUTE_HOLDS_MAX 8
enum route_hold_reason {
    ROUTE_HOLD_MISSING, /* the node does not have the sink */
    ROUTE_HOLD_FULL,    /* its queue, or the client's share of it */
    ROUTE_HOLD_QUEUED   /* messages of the client are in its queue, which is normal if it works */
};
struct route_hold {
    char sink[SINK_NAME_MAX + 1];
    enum route_hold_reason reason;
    int64_t since_ms; /* monotonic; 0: not known */
};

/* Sends further messages to that sink; NULL: to the default. While the node does not have a sink of
 * that name, messages are held: QoS 1 and 2 get ERR_FULL, QoS 0 is dropped and counted. Keeps the
 * counts. router: the same every time. NULL: there are no sinks, and nothing may be submitted.
 * routes: of the client, before those of the fleet; borrowed, NULL: none. origin: what messages
 * refer to; NULL: nothing. Takes over one reference. False: out of memory; the route is as before.
 */
bool route_set(struct route *route, struct router *router, const char *sink,
               struct route_table *routes, struct message_origin *origin);
/* NULL: no limits. False: out of memory. */
bool route_set_limits(struct route *route, const struct rate_limit_values *limits);
/* Takes over one reference; NULL: no quota. False: out of memory, there is none. */
bool route_set_quota(struct route *route, struct rate_quota *quota);
/* NULL: none. Borrowed until the next route_set_quota. */
struct rate_quota *route_quota(const struct route *route);
/* The origin of the route with one more reference; NULL: none. Any thread. */
struct message_origin *route_origin(const struct route *route);
/* Reports the next counted message, once. Replaces an earlier one; heard NULL: no longer. Worker
 * thread. False: out of memory. */
bool route_await_message(struct route *route, route_heard *heard, void *context);
void route_fini(struct route *route); /* after the last route_submit */

/* Before a message is submitted: whether the limits of the client and its quota let it pass. False:
 * a message of QoS 0 must be dropped, and was counted; one of QoS 1 or 2 must wait for
 * route_limit_wait_ms. */
bool route_admits(struct route *route, uint8_t qos, size_t payload_len);
/* While a message waits: until the limits of the client may let it pass; 0: now. Any thread. */
int64_t route_limit_wait_ms(struct route *route);
/* Whether the limits of the client or its quota may hold messages of this client, or have lately;
 * not, whether others have used up the quota. Any thread. */
bool route_is_held_back(const struct route *route);
/* Whether the quota of messages holds some or has dropped one in the last seconds. Any thread. */
bool route_is_over_quota(const struct route *route);
/* Whether the limits hold messages or have dropped one in the last seconds. Any thread. */
bool route_is_limited(const struct route *route);

/* own: the name of the client's sink; NULL: the default. Returns how many. Any thread. */
size_t route_get_holds(const struct route *route, const char *own,
                       struct route_hold out[ROUTE_HOLDS_MAX]);

/* Takes ownership of message on ERR_OK, even if it is dropped and counted (QoS 0, no room or
 * beyond the client's share of the queue). With QoS 1 and 2, `receipt` is then answered once; NULL:
 * nobody waits for the answer. ERR_FULL: not accepted; offer it again when there is room. Another
 * error: not accepted; the sink has stopped. */
enum err route_submit(struct route *route, struct message *message,
                      struct receipt *receipt) MUST_CHECK;
/* Whether a message of QoS 1 or 2 would be accepted: the one last rejected with ERR_FULL, else a
 * small one. Any thread. */
bool route_has_room(const struct route *route);
/* Continues with these counts. Before the first message, or the thread that submits. Out of memory:
 * without those of drops. */
void route_restore_counts(struct route *route, int64_t messages, int64_t bytes,
                          const int64_t dropped[MESSAGE_DROP_COUNT]);
/* Counts a message that the caller drops. The thread that submits. */
void route_count_dropped(struct route *route, enum message_drop reason);
/* Of each reason. Returns their sum. Any thread. */
int64_t route_get_dropped(const struct route *route, int64_t out[MESSAGE_DROP_COUNT]);
/* As router_flush, for this route alone. */
void route_flush(const struct route *route);

#endif
