/* Calls to other nodes that nobody waits for: one thread, any number of calls, a callback for each.
 *
 *   any thread --peer_calls_post--> [ queue ] --> the thread: all calls at once --> done
 *
 * At most PEER_CALLS_RUNNING_MAX are under way, PEER_CALLS_PER_NODE_MAX of them to one node; others
 * wait for their turn, within their own time. Those that are patient are not counted: whoever posts
 * them bounds them. Any thread, unless said otherwise. */
#ifndef MQFLEET_PEERS_PEER_CALLS_H
#define MQFLEET_PEERS_PEER_CALLS_H

#include <stdint.h>
#include "base/err.h"
#include "cluster/peers/peers.h"

#define PEER_CALLS_RUNNING_MAX  128
#define PEER_CALLS_PER_NODE_MAX 32
#define PEER_CALLS_MAX          8192 /* with those that wait for their turn */

#define PEER_CALLS_TURN_MS_MAX 1000 /* between two turns of the thread */

struct peer_calls;

/* What is asked, or done in the turn of the thread: when it is to come again, in ms at most. */
typedef int64_t peer_calls_turn(void *context, int64_t now_ms);

/* peers: borrowed; for headers and urls. NULL: out of memory. */
struct peer_calls *peer_calls_create(const struct conf *conf, const struct peers *peers);
void peer_calls_destroy(struct peer_calls *calls); /* after the thread returned */
/* The thread. argument: the calls. */
void *peer_calls_run(void *argument);
/* What is under way ends with ERR_CANCELED, and the thread. */
void peer_calls_stop(struct peer_calls *calls);

/* call: with its result, status and answer, of which what is not taken is freed afterwards. On the
 * thread; must not block. */
typedef void peer_call_done(struct peer_call *call, void *context);

/* Copies the call. timeout_ms 0: conf.peer_timeout_ms. ERR_FULL, ERR_MEMORY, ERR_WRONG_STATE (it
 * has stopped): done is not called; ERR_OK: it is, once. */
enum err peer_calls_post(struct peer_calls *calls, const struct peer_call *call, int64_t timeout_ms,
                         peer_call_done *done, void *context) MUST_CHECK;

/* One turn of somebody else's on this thread, which spares a thread for deadlines. NULL: none. Not
 * while the thread runs. */
void peer_calls_set_turn(struct peer_calls *calls, peer_calls_turn *turn, void *context);
/* The turn is to come now. */
void peer_calls_wake(struct peer_calls *calls);

#endif
