/* Asynchronous calls to other nodes. One thread runs all calls concurrently; each call has a
 * callback.
 *
 *   any thread --peer_calls_post--> [ queue ] --> peer calls thread --> done
 *
 * At most PEER_CALLS_RUNNING_MAX calls run at once, and PEER_CALLS_PER_NODE_MAX of them to one
 * node. Further calls wait in the queue until their timeout. Calls with limit_exempt are not
 * counted; their caller must bound their number. Any thread, unless a comment says otherwise. */
#ifndef MQFLEET_PEERS_PEER_CALLS_H
#define MQFLEET_PEERS_PEER_CALLS_H

#include <stdint.h>
#include "base/err.h"
#include "cluster/peers/peers.h"

#define PEER_CALLS_RUNNING_MAX  128
#define PEER_CALLS_PER_NODE_MAX 32
#define PEER_CALLS_MAX          8192 /* running and queued */

#define PEER_CALLS_TURN_MS_MAX 1000 /* between two turns of the thread */

struct peer_calls;

/* Called in each turn of the thread. Returns the maximum time in ms until the next turn.
 */
typedef int64_t peer_calls_turn(void *context, int64_t now_ms);

/* peers: borrowed; for headers and URLs. NULL: out of memory. */
struct peer_calls *peer_calls_create(const struct conf *conf, const struct peers *peers);
void peer_calls_destroy(struct peer_calls *calls); /* after the thread has returned */
/* The peer calls thread; argument: the calls. */
void *peer_calls_run(void *argument);
/* Ends the thread. Running and queued calls end with ERR_CANCELED. */
void peer_calls_stop(struct peer_calls *calls);

/* call: with result, status and answer. The answer is freed afterwards unless the callback takes
 * it. On the peer calls thread; must not block. */
typedef void peer_call_done(struct peer_call *call, void *context);

/* Copies the call. timeout_ms 0: conf.peer_timeout_ms. ERR_OK: done is called once. ERR_FULL,
 * ERR_MEMORY, ERR_WRONG_STATE (stopped): it is not called. */
enum err peer_calls_post(struct peer_calls *calls, const struct peer_call *call, int64_t timeout_ms,
                         peer_call_done *done, void *context) MUST_CHECK;

/* Lets another module do periodic work on this thread. NULL: none. Must not be called while the
 * thread runs. */
void peer_calls_set_turn(struct peer_calls *calls, peer_calls_turn *turn, void *context);
/* Starts the next turn immediately. */
void peer_calls_wake(struct peer_calls *calls);

#endif
