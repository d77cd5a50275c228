/* Distributes changes in the fleet to listeners on any node: client states, notices about clients,
 * incidents of brokers, nodes that join and leave, and the leader. The last ones are kept in a
 * stream in Redis for listeners that come back.
 *
 *   workers --event_bus_post_...--> [ queue ] --> event bus thread --> listeners of this node
 *                                                  |          ^
 *               the script append_events, always   |          |   SUBSCRIBE, while this node
 *                                                  v          |   has a listener
 *               Redis: stream mqtt_fleet:event_log, channel mqtt_fleet:events <--> other nodes
 *
 * Kept are: incidents; of clients the changes that are not part of an incident, up to
 * events.client_rate; nodes and leaders, by the scripts that change them. The script that adds a
 * batch to the stream also publishes it, so listeners get events in the order of the stream.
 * Changes of nodes and of the leader are not published: a node that has listeners compares the
 * register of nodes with its previous snapshot. While the fleet has no listener, a change to a
 * client that is not kept costs two atomic loads. The key mqtt_fleet:listening, which expires, says
 * whether the fleet has a listener. Nodes with listeners renew the key, and all nodes read it once
 * a second. Unlike PUBSUB NUMSUB, a key works with Sentinel and in a cluster. The channel
 * mqtt_fleet:listen announces the first listener of a node at once. Events are lost when the queue
 * is full or Redis does not answer. Lost events are counted, and the listeners and the stream get
 * an event about them. */
#ifndef MQFLEET_EVENTS_EVENT_BUS_H
#define MQFLEET_EVENTS_EVENT_BUS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "mqtt/client/client_state.h"
#include "mqtt/workers/workers.h"
#include "store/store.h"

#define EVENT_BUS_LISTENERS_MAX 1024

struct event_bus;

enum event_bus_kind {
    EVENT_BUS_CLIENT,
    EVENT_BUS_NODE,
    EVENT_BUS_LEADER,
    EVENT_BUS_NOTICE,   /* about a client whose state does not change */
    EVENT_BUS_INCIDENT, /* of a broker: it began or ended */
    EVENT_BUS_DROPPED,  /* events were lost; count 0: the number is unknown */
    EVENT_BUS_GAP,      /* what followed the id of event_bus_listen is no longer kept */
    EVENT_BUS_STATUS    /* about the subscription itself, in `text` */
};
const char *event_bus_kind_name(enum event_bus_kind kind); /* "client" "node" "leader" ... */

/* All strings are borrowed. */
struct event_bus_event {
    enum event_bus_kind kind;
    const char *subject;  /* id of the client, name of the node or the leader, broker; "": none */
    const char *state;    /* "" for a notice */
    const json_t *labels; /* of the client; NULL: none, or the node is of an earlier version */
    const char *text;     /* the complete event as one JSON object, without line breaks */
    const char *id;       /* in the stream; "" or NULL: it is not kept, or its id is unknown */
    int64_t count;        /* EVENT_BUS_DROPPED */
    int64_t version;      /* EVENT_BUS_CLIENT: of the configuration that the client runs */
    bool same_state;      /* EVENT_BUS_CLIENT: only the version changed, not the state */
    bool covers_fleet;    /* EVENT_BUS_STATUS: events of all nodes arrive from now on */
};

/* All functions are called on the event bus thread and must not block. After is_closed has returned
 * true, only release is called. */
struct event_bus_listener {
    void *context;
    void (*on_event)(void *context, const struct event_bus_event *event);
    bool (*is_closed)(void *context);
    void (*release)(void *context);
    /* Whether it can take EVENT_BUS_PAGE_EVENTS now. NULL: it never asks for kept events. */
    bool (*has_room)(void *context);
};
#define EVENT_BUS_PAGE_EVENTS 100

/* Posts, with event_bus_post_change, the clients of this node that have changed since a wall time.
 */
typedef void event_bus_post_recent(void *context, int64_t since_ms);

/* All borrowed. router: to events.sink; NULL: events are not passed on. NULL: out of memory. */
struct event_bus *event_bus_create(const struct conf *conf, struct store *store,
                                   const char *redis_url, struct router *router);
/* After the thread has returned. Releases the remaining listeners. */
void event_bus_destroy(struct event_bus *bus);
/* post_recent is called on the event bus thread when another node gets its first listener, because
 * this node did not publish its latest changes. Before event_bus_run. */
void event_bus_on_announcement(struct event_bus *bus, event_bus_post_recent *post_recent,
                               void *context);
/* The event bus thread; argument: the bus. */
void *event_bus_run(void *argument);
void event_bus_stop(struct event_bus *bus); /* delivers the queued events and ends the thread */

/* A client of this node changed its state or, if `from` equals `to`, the version of its
 * configuration. Any thread; never blocks. */
void event_bus_post_change(struct event_bus *bus, const struct workers_change *change);
/* Any thread; never blocks. */
void event_bus_post_notice(struct event_bus *bus, const struct workers_notice *notice);
/* A broker's incident on this node has begun, lasts or has ended. The event is that of the fleet.
 * Any thread; never blocks. */
void event_bus_post_incident(struct event_bus *bus, const struct incident_report *report);
/* Copies the listener. after: it first gets the kept events after this id of the stream; NULL:
 * none. The listener gets an EVENT_BUS_STATUS as soon as events of the whole fleet arrive.
 * ERR_FULL: there are already EVENT_BUS_LISTENERS_MAX. Any thread. */
enum err event_bus_listen(struct event_bus *bus, const struct event_bus_listener *listener,
                          const char *after) MUST_CHECK;

#endif
