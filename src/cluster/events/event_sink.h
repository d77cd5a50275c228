/* Private to the event bus: passes the kept events of the fleet on to a sink, while this node
 * leads. The event bus thread. */
#ifndef MQFLEET_EVENTS_EVENT_SINK_H
#define MQFLEET_EVENTS_EVENT_SINK_H

#include <stdbool.h>
#include "message/router.h"
#include "store/events.h"

#define EVENT_SINK_TOPIC "$mqfleet/events/" /* and the kind */

struct event_sink {
    const struct conf *conf;
    struct store *store;
    struct router *router;
    struct route route;
    bool has_route;
    uint16_t generation;           /* of the router, when the route was set */
    bool held;                     /* the sink did not take the last event */
    char done[STORE_EVENT_ID_LEN]; /* the last one taken that Redis does not know yet, or "" */
    int64_t next_ms;               /* not before */
};

/* All borrowed. router NULL: nothing is passed on. */
void event_sink_init(struct event_sink *sink, const struct conf *conf, struct store *store,
                     struct router *router);
void event_sink_fini(struct event_sink *sink);
/* True: to be called again at once. */
bool event_sink_step(struct event_sink *sink);

#endif
