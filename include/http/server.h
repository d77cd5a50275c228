/* The HTTP API: libmicrohttpd in front, a pool of workers behind.
 *
 *   MHD threads (epoll) --request complete--> [ queue ] --> workers: one handler, straight lines
 *        ^                                                      |
 *        +------------ resumed with the answer -----------------+
 *
 * MHD threads never wait for Redis or peers; while a request is queued or answered its connection
 * is suspended. Queue full: 503 with Retry-After. Requests that may wait (publish, wait_ms) go to a
 * larger pool of their own, so that they never hold up the others. /livez and /readyz are answered
 * on the MHD thread. */
#ifndef MQFLEET_HTTP_SERVER_H
#define MQFLEET_HTTP_SERVER_H

#include <stddef.h>
#include "base/conf.h"
#include "base/err.h"
#include "base/secret_box.h"
#include "cluster/agent.h"
#include "cluster/news.h"
#include "cluster/node.h"
#include "cluster/peers.h"
#include "http/access.h"
#include "http/taps.h"
#include "mqtt/hosts.h"
#include "sink/sink.h"
#include "store/store.h"

/* What handlers may use; all borrowed for the server's life, all safe from any thread. */
struct http_context {
    const struct conf *conf;
    struct access *access; /* NULL: everyone may do all */
    struct store *store;   /* the API's own pool */
    struct node *node;
    struct agent *agent;
    struct hosts *hosts;
    struct peers *peers;
    struct sink *const *sinks;  /* NULL-terminated; the first is the default */
    struct news *news;          /* what GET /api/v1/events tells */
    struct taps *taps;          /* where received messages can be watched */
    struct secret_box *secrets; /* encrypts those of clients; NULL: has no keys */
};

struct http_server;

/* Binds and listens: ERR_UNAVAILABLE with a fault line (256 bytes) naming address, port and why. */
enum err http_server_start(struct http_server **out, const struct http_context *context,
                           char *fault) MUST_CHECK;
/* Threads for main's table: http_worker_run with http_server_worker(server), conf.http_workers of
 * them; http_worker_run with http_server_waiter(server), conf.http_waiters. */
void *http_server_worker(struct http_server *server);
void *http_server_waiter(struct http_server *server);
void *http_worker_run(void *argument);
/* The thread that looks after answers which go on: http_streams_run with http_server_streams. */
void *http_server_streams(struct http_server *server);
void *http_streams_run(void *argument);

/* Ends all open streams: their readers are to show their tokens again. */
void http_server_cut_streams(struct http_server *server);
/* Accepts nothing new, ends streams, lets begun answers finish (bounded), ends the threads. */
void http_server_stop(struct http_server *server);
void http_server_destroy(struct http_server *server); /* after the workers returned */

#endif
