/* Replays of dead letters on this node: each message goes to the queue of the sink that rejected
 * it, and its entry is deleted once that sink, or again a dead letter sink, has stored it. One
 * replay at a time. Messages that a sink does not store in time stay with this, and the next replay
 * begins when they are answered. Any thread. */
#ifndef MQFLEET_API_REPLAY_H
#define MQFLEET_API_REPLAY_H

#include "sink/sinks.h"
#include "store/store.h"

struct replay;

/* Both are borrowed. NULL: out of memory, or no descriptors left. */
struct replay *replay_create(struct store *store, struct sinks *sinks);
/* After all requests, and after the sinks have ended, so that each message is answered. */
void replay_destroy(struct replay *replay); /* NULL is legal */

#endif
