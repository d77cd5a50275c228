/* Who tails a client's messages, wherever in the fleet it runs: from the taps of this node, or
 * through the stream of the node that runs it, and over to the next when it moves. One thread moves
 * all tails on; the number of streams bounds them. */
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
void tail_follower_destroy(struct tail_follower *follower); /* after the thread returned */
/* The thread; looks after all streams as well. argument: the tails. Returns after
 * tail_follower_stop. */
void *tail_follower_run(void *tails);
void tail_follower_stop(struct tail_follower *follower);

/* Takes over the putting side of the stream. here_only: for another node, which looks itself for
 * where the client goes. ERR_MEMORY: the stream was released. Any thread. */
enum err tail_follower_add(struct tail_follower *follower, const char *id,
                           struct event_stream *stream, bool here_only) MUST_CHECK;

#endif
