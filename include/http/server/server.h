/* The HTTP API: libmicrohttpd receives requests, a few threads run the handlers.
 *
 *   MHD threads (epoll) --request complete--> [ queue ] --> handler threads
 *        ^    \                                                |            |
 *        |     \--handlers that never block--\                 |  answered  |  waits: pending.h
 *        |                                     \               v            v
 *        +----------- resumed with the answer <--+-- [ no thread: broker, client, other node ]
 *
 * MHD threads never block on Redis or other nodes. While a request is queued, handled or waiting,
 * its connection is suspended. Handler threads block on Redis only. The thread that ends a wait
 * continues the request: a worker thread, or the peer calls thread (cluster/peers/peer_calls.h),
 * which also checks the deadlines. If the queue is full or too many requests wait: 503 with
 * Retry-After. */
#ifndef MQFLEET_SERVER_SERVER_H
#define MQFLEET_SERVER_SERVER_H

#include <stddef.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "base/secrets/secret_box.h"
#include "cluster/membership/agent.h"
#include "cluster/events/event_bus.h"
#include "cluster/membership/node.h"
#include "cluster/operations/operations.h"
#include "cluster/placement/wait_reasons.h"
#include "cluster/peers/peer_calls.h"
#include "cluster/peers/peers.h"
#include "http/auth/access.h"
#include "http/streams/message_taps.h"
#include "mqtt/workers/workers.h"
#include "sink/sinks.h"
#include "store/store.h"

/* What handlers use. All are borrowed for the lifetime of the server and safe on any thread. */
struct http_context {
    const struct conf *conf;
    struct access *access; /* NULL: every caller has full access */
    struct store *store;   /* connection pool of the API */
    struct node *node;
    struct agent *agent;
    struct wait_reasons *wait_reasons; /* why clients wait */
    struct workers *workers;
    struct peers *peers;               /* URLs and headers of requests to other nodes */
    struct peer_calls *peer_calls;     /* its thread runs until the server has stopped */
    struct sinks *sinks;               /* NULL: none */
    struct event_bus *event_bus;       /* for GET /api/v1/events */
    struct message_taps *message_taps; /* for GET /api/v1/clients/{id}/messages */
    struct time_series *time_series;   /* the last hour of this node */
    struct secret_box *secrets;        /* encrypts secrets of clients; NULL: no keys */
    struct operations *operations;     /* gets its operation_prepare; NULL: none */
};

struct http_server;

/* Binds and listens. ERR_UNAVAILABLE: `fault` (256 bytes) has the address, the port and the cause.
 */
enum err http_server_start(struct http_server **out, const struct http_context *context,
                           char *fault) MUST_CHECK;
/* The handler threads, conf.http_workers of them: http_handlers_run(http_server_handlers(server)).
 */
void *http_server_handlers(struct http_server *server);
void *http_handlers_run(void *argument);
/* The thread of the streams: http_streams_run(http_server_streams(server)). */
void *http_server_streams(struct http_server *server);
void *http_streams_run(void *argument);

/* A client of this node has this state now and runs this version of its configuration. Worker
 * threads; does not block. */
void http_server_client_changed(struct http_server *server, const char *id, enum client_state state,
                                int64_t version);
/* Ends all open streams, so that their readers must authenticate again. */
void http_server_end_open_streams(struct http_server *server);
/* Accepts no new requests, ends streams, gives begun requests a limited time to finish, and ends
 * the handler threads. */
void http_server_stop(struct http_server *server);
void http_server_destroy(struct http_server *server); /* after the handler threads have returned */

#endif
