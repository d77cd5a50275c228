/* Who tails a client's messages, wherever in the fleet it runs: from the taps of this node, or
 * through the stream of the node that runs it, and over to the next when it moves. One thread moves
 * all tails on; the number of streams bounds them. */
#ifndef MQFLEET_HTTP_TAILS_H
#define MQFLEET_HTTP_TAILS_H

#include <stdbool.h>
#include "base/err.h"
#include "cluster/peers.h"
#include "http/event_stream.h"
#include "http/taps.h"
#include "mqtt/hosts.h"
#include "store/store.h"

struct tails;

struct tails_wiring { /* all borrowed */
    const struct conf *conf;
    struct event_streams *streams;
    struct taps *taps;
    struct hosts *hosts;
    struct store *store;
    struct peers *peers;
};

/* NULL: out of memory. */
struct tails *tails_create(const struct tails_wiring *wiring);
void tails_destroy(struct tails *tails); /* after the thread returned */
/* The thread; looks after all streams as well. argument: the tails. Returns after tails_stop. */
void *tails_run(void *tails);
void tails_stop(struct tails *tails);

/* Takes over the putting side of the stream. here_only: for another node, which looks itself for
 * where the client goes. ERR_MEMORY: the stream was released. Any thread. */
enum err tails_add(struct tails *tails, const char *id, struct event_stream *stream,
                   bool here_only) MUST_CHECK;

#endif
