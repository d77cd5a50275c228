/* Private to the event bus: changes of the nodes and of the leader. The event bus thread. */
#ifndef MQFLEET_EVENTS_TOPOLOGY_WATCH_H
#define MQFLEET_EVENTS_TOPOLOGY_WATCH_H

#include "cluster/events/event_bus.h"

struct topology_watch;

typedef void topology_watch_on_event(void *context, const struct event_bus_event *event);

/* store: borrowed. NULL: out of memory. */
struct topology_watch *topology_watch_create(struct store *store, int64_t heartbeat_ttl_ms);
void topology_watch_destroy(struct topology_watch *watch);
/* Reports each difference from the previous check; the first check reports nothing. Blocks on
 * Redis for at most one call. */
void topology_watch_check(struct topology_watch *watch, topology_watch_on_event *on_event,
                          void *context);
/* The next check is a first one. */
void topology_watch_reset(struct topology_watch *watch);

#endif
