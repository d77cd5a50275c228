/* What changes in the fleet, told to whoever listens on any node: states of clients, what happened
 * to them besides, nodes that come and go, the leader.
 *
 *   host threads --event_bus_post_change--> [ queue ] --> news thread --> listeners of this node
 *                                                 |    ^
 *                                          PUBLISH|    |SUBSCRIBE, while somebody listens here
 *                                                 v    |
 *                                     Redis channel mqtt_fleet:events <--> other nodes
 *
 * Nodes and leader are not published: a node with listeners compares the register with what it was.
 * While nobody listens anywhere a change of a client costs one load. Whether somebody does is a key
 * with a time to live (mqtt_fleet:listening), set by the nodes with listeners and looked for by all
 * once a second; it works through sentinels and in a cluster, where PUBSUB NUMSUB does not. The
 * first listener is told to all at once, by the channel mqtt_fleet:listen. Queue full, or Redis
 * away: news are lost, counted, and the listeners are told. */
#ifndef MQFLEET_EVENTS_EVENT_BUS_H
#define MQFLEET_EVENTS_EVENT_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "mqtt/client/client_state.h"
#include "store/store.h"

#define EVENT_BUS_LISTENERS_MAX 1024

struct event_bus;

enum event_bus_kind {
    EVENT_BUS_CLIENT,
    EVENT_BUS_NODE,
    EVENT_BUS_LEADER,
    EVENT_BUS_NOTICE,  /* of a client whose state stays as it is */
    EVENT_BUS_DROPPED, /* some were lost; count 0: nobody knows how many */
    EVENT_BUS_STATUS   /* about the listening itself, in `text` */
};
const char *
event_bus_kind_name(enum event_bus_kind kind); /* "client" "node" "leader" "notice" ... */

/* One piece of news; all borrowed. */
struct event_bus_event {
    enum event_bus_kind kind;
    const char *subject; /* id of the client, name of the node or the leader; "" none */
    const char *state;   /* "" of a notice */
    const char *text;    /* the whole as one JSON object, without line breaks */
    int64_t count;       /* EVENT_BUS_DROPPED */
    int64_t version;     /* EVENT_BUS_CLIENT: of the configuration in force */
    bool same_state;     /* EVENT_BUS_CLIENT: the state is the same, only the version is another */
    bool covers_fleet;   /* EVENT_BUS_STATUS: from now on the whole fleet is heard */
};

/* heard and over are called on the news thread, and must not block. Once over is true, forget is
 * called and nothing more. */
struct event_bus_listener {
    void *context;
    void (*on_event)(void *context, const struct event_bus_event *item);
    bool (*is_closed)(void *context);
    void (*release)(void *context);
};

/* Tells with event_bus_post_change, from as to, which clients of this node have changed since a
 * wall time. */
typedef void news_recent(void *context, int64_t since_ms);

/* store and url: borrowed. NULL: out of memory. */
struct event_bus *event_bus_create(const struct conf *conf, struct store *store,
                                   const char *redis_url);
void event_bus_destroy(
    struct event_bus *bus); /* after the thread returned; forgets who listens still */
/* Called on the thread when another node begins to listen: what has just changed here was published
 * to nobody. Before event_bus_run. */
void news_on_call(struct event_bus *bus, news_recent *recent, void *context);
void *event_bus_run(void *news);
void event_bus_stop(struct event_bus *bus); /* tells what is queued and ends the thread */

/* A client of this node changed its state, or has another version of its configuration (from is
 * to). Any thread; never blocks. */
void event_bus_post_change(struct event_bus *bus, const char *id, enum client_state from,
                           enum client_state to, const char *reason, int64_t version);
/* Something worth telling happened to a client of this node whose state stays as it is; `code` and
 * `message` as in its last_error. Any thread; never blocks. */
void event_bus_post_notice(struct event_bus *bus, const char *id, const char *code,
                           const char *message);
/* Copies the listener. A remark tells it when the whole fleet is heard. ERR_FULL. Any thread. */
enum err event_bus_listen(struct event_bus *bus,
                          const struct event_bus_listener *listener) MUST_CHECK;

#endif
