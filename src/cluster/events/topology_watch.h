/* Private to the news: the nodes and the leader as they were when last looked at. One thread. */
#ifndef MQFLEET_EVENTS_TOPOLOGY_WATCH_H
#define MQFLEET_EVENTS_TOPOLOGY_WATCH_H

#include "cluster/events/event_bus.h"

struct topology_watch;

typedef void topology_watch_tell(void *context, const struct event_bus_event *item);

struct topology_watch *topology_watch_create(struct store *store, int64_t heartbeat_ttl_ms);
void topology_watch_destroy(struct topology_watch *nodes);
/* Tells each difference to the last look; the first look tells nothing. Blocks on Redis, bounded.
 */
void topology_watch_check(struct topology_watch *nodes, topology_watch_tell *tell, void *context);
/* The next look is a first one. */
void topology_watch_reset(struct topology_watch *nodes);

#endif
