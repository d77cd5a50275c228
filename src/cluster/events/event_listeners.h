/* Private to the event bus: the listeners of this node. */
#ifndef MQFLEET_EVENTS_EVENT_LISTENERS_H
#define MQFLEET_EVENTS_EVENT_LISTENERS_H

#include <pthread.h>
#include <stdatomic.h>
#include "cluster/events/event_bus.h"
#include "store/events.h"

struct event_listener_entry {
    struct event_bus_listener listener;
    bool coverage_sent; /* it got the event that says that the whole fleet is covered */
    bool replays;       /* it gets kept events, and does not get new ones yet */
    /* After a replay, until the first new event: the place of the last one that it got. */
    bool has_place;
    struct store_event_place place;
};

struct event_listeners {
    pthread_mutex_t lock; /* guards entries and writes of count */
    struct event_listener_entry entries[EVENT_BUS_LISTENERS_MAX];
    atomic_size_t count;
    size_t replay_next; /* the event bus thread only: whose turn it is to get a page */
};

void event_listeners_init(struct event_listeners *listeners);
void event_listeners_fini(struct event_listeners *listeners); /* releases the listeners */

/* Sets *in_use to true as well, under the lock. after: NULL: it gets no kept events. ERR_FULL. Any
 * thread. */
enum err event_listeners_add(struct event_listeners *listeners,
                             const struct event_bus_listener *listener,
                             const struct store_event_place *after, atomic_bool *in_use) MUST_CHECK;
/* Sets *in_use to true if another node or this one has a listener. Atomic with event_listeners_add.
 */
void event_listeners_update_use(struct event_listeners *listeners, bool others,
                                atomic_bool *in_use);
size_t event_listeners_count(const struct event_listeners *listeners); /* any thread */

/* ---- the event bus thread -------------------------------------------------------------------- */

void event_listeners_deliver(struct event_listeners *listeners,
                             const struct event_bus_event *event);
/* Gives a page of kept events to listeners that wait for them, in turn. live: all that is kept from
 * now on is also delivered, so a listener that has all of it needs no more pages. True: another
 * page can be read at once. */
bool event_listeners_replay(struct event_listeners *listeners, struct store *store, bool live);
void event_listeners_deliver_lost(struct event_listeners *listeners, int64_t count);
void event_listeners_deliver_status(struct event_listeners *listeners, const char *text);
/* Once to each listener. */
void event_listeners_deliver_coverage(struct event_listeners *listeners);
void event_listeners_drop_closed(struct event_listeners *listeners);

#endif
