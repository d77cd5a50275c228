/* The HTTP API: libmicrohttpd in front, a few workers behind, and nobody who waits.
 *
 *   MHD threads (epoll) --request complete--> [ queue ] --> workers: one handler, straight lines
 *        ^    \                                                |            |
 *        |     \--handlers that never block--\                 |  answered  |  waits: pending.h
 *        |                                     \               v            v
 *        +----------- resumed with the answer <--+-- [ no thread: broker, client, other node ]
 *
 * MHD threads never wait for Redis or peers; while a request is queued, handled or waits its
 * connection is suspended. Workers wait for Redis alone. What ends a wait goes on with the request:
 * a host's thread, the thread of calls to other nodes (cluster/peer_calls.h), which keeps the
 * deadlines too. Queue full, or too many wait: 503 with Retry-After. */
#ifndef MQFLEET_SERVER_SERVER_H
#define MQFLEET_SERVER_SERVER_H

#include <stddef.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "base/secrets/secret_box.h"
#include "cluster/membership/agent.h"
#include "cluster/events/event_bus.h"
#include "cluster/membership/node.h"
#include "cluster/membership/outlook.h"
#include "cluster/peers/peer_calls.h"
#include "cluster/peers/peers.h"
#include "http/auth/access.h"
#include "http/streams/message_taps.h"
#include "mqtt/workers/workers.h"
#include "sink/sink.h"
#include "store/store.h"

/* What handlers may use; all borrowed for the server's life, all safe from any thread. */
struct http_context {
    const struct conf *conf;
    struct access *access; /* NULL: everyone may do all */
    struct store *store;   /* the API's own pool */
    struct node *node;
    struct agent *agent;
    struct outlook *outlook; /* why clients wait */
    struct workers *workers;
    struct peers *peers;               /* urls and headers of requests to other nodes */
    struct peer_calls *peer_calls;     /* its thread runs until the server has stopped */
    struct sink *const *sinks;         /* NULL-terminated; the first is the default */
    struct event_bus *event_bus;       /* what GET /api/v1/events tells */
    struct message_taps *message_taps; /* where received messages can be watched */
    struct secret_box *secrets;        /* encrypts those of clients; NULL: has no keys */
};

struct http_server;

/* Binds and listens: ERR_UNAVAILABLE with a fault line (256 bytes) naming address, port and why. */
enum err http_server_start(struct http_server **out, const struct http_context *context,
                           char *fault) MUST_CHECK;
/* Threads for main's table: http_handlers_run with http_server_handlers(server), conf.http_workers
 * of them. */
void *http_server_handlers(struct http_server *server);
void *http_handlers_run(void *argument);
/* The thread that looks after answers which go on: http_streams_run with http_server_streams. */
void *http_server_streams(struct http_server *server);
void *http_streams_run(void *argument);

/* A client of this node is in this state now, running this version of its configuration. Host
 * threads; does not block. */
void http_server_client_changed(struct http_server *server, const char *id, enum client_state state,
                                int64_t version);
/* Ends all open streams: their readers are to show their tokens again. */
void http_server_end_open_streams(struct http_server *server);
/* Accepts nothing new, ends streams, lets begun answers finish (bounded), ends the threads. */
void http_server_stop(struct http_server *server);
void http_server_destroy(struct http_server *server); /* after the workers returned */

#endif
