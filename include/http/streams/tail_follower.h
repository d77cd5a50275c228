/* Streams the messages of a client, regardless of the node on which it runs: from the taps of this
 * node, or from the stream of the owner. The tail follows the client when it moves. One thread
 * serves all tails; the limit of streams bounds their number. */
#ifndef MQFLEET_STREAMS_TAIL_FOLLOWER_H
#define MQFLEET_STREAMS_TAIL_FOLLOWER_H

#include <stdbool.h>
#include "base/err.h"
#include "cluster/peers/peers.h"
#include "http/streams/event_stream.h"
#include "http/streams/message_taps.h"
#include "mqtt/workers/workers.h"
#include "store/store.h"

struct tail_follower;

struct tail_follower_wiring { /* all borrowed */
    const struct conf *conf;
    struct event_streams *streams;
    struct message_taps *message_taps;
    struct workers *workers;
    struct store *store;
    struct peers *peers;
};

/* NULL: out of memory. */
struct tail_follower *tail_follower_create(const struct tail_follower_wiring *wiring);
void tail_follower_destroy(struct tail_follower *follower); /* after the thread has returned */
/* The thread; it also calls event_streams_tick. argument: the follower. Returns after
 * tail_follower_stop. */
void *tail_follower_run(void *argument);
void tail_follower_stop(struct tail_follower *follower);

/* Takes ownership of the writing side of the stream. Shows messages only while the client is in the
 * scope. local_only: ends the stream when the client
 * leaves this node; for requests of other nodes, which follow the client themselves. ERR_MEMORY:
 * the stream is released. Any thread. */
enum err tail_follower_add(struct tail_follower *follower, const char *id,
                           const struct scope *scope, struct event_stream *stream,
                           bool local_only) MUST_CHECK;

#endif
