/* Private to src/net/redis: one connection, and the interfaces between its parts.
 *
 *   redis.c             the public calls: commands, scripts, WAIT
 *   redis_subscribe.c   the connection that only subscribes
 *   redis_router.c      a connection to each node of a cluster
 *        |
 *   redis_connect.c     a new connection: when, to which address, and its greeting
 *   redis_sentinel.c    finds the master with the sentinels
 *   redis_topology.c    the location of the data, shared by all connections of one url
 *        |
 *   redis_wire.c        sends and receives with a deadline; the meaning of errors
 *   redis_tls.c         the same over TLS
 *   redis_reply.c       access to replies
 */
#ifndef MQFLEET_REDIS_REDIS_INTERNAL_H
#define MQFLEET_REDIS_REDIS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <hiredis/hiredis.h>
#include "base/buffer.h"
#include "net/redis/redis.h"
#include "net/redis/redis_url.h"

#define REDIS_ERROR_LEN 160

struct redis {
    struct redis_url url;
    struct redis_topology *topology; /* NULL only for the connection that asks a sentinel */
    int64_t timeout_ms;
    struct redis_access access;
    redisContext *context;     /* NULL: not connected */
    void *tls;                 /* redis_tls.c; NULL: none */
    struct redis_address peer; /* address of the peer; no host: a Unix socket */
    uint64_t generation;       /* of the topology, when this connection was made */
    uint64_t connection_number;
    struct buffer send; /* formatted commands; data before `sent` is on the wire */
    size_t sent;
    size_t replies_pending;        /* replies still to be read */
    unsigned failures;             /* since the last valid answer */
    int64_t retry_at_ms;           /* earliest time of a new connection */
    bool moved;                    /* the last call was not run: its keys are on another node */
    bool routed;                   /* of a redis_router: does not follow MOVED by itself */
    unsigned moved_slot;           /* routed: of the last MOVED, whose address is: */
    struct redis_address moved_to; /* no host: it was processed, or there was none */
    bool subscribed;               /* this connection has sent SUBSCRIBE */
    int64_t received_ms;           /* subscribed: time of the last data */
    int64_t ping_sent_ms;          /* subscribed: time of the unanswered PING, 0: none */
    char error[REDIS_ERROR_LEN];
};

/* ---- redis.c --------------------------------------------------------------------------------- */

/* For a redis_router: a connection to one node of the cluster, with the credentials of the url.
 * NULL: out of memory or invalid url. */
struct redis *redis_create_at(const char *url, const struct redis_address *address,
                              int64_t timeout_ms) MUST_CHECK;

/* ---- redis_wire.c -------------------------------------------------------------------------- */

/* Stores the text for redis_error, without possible secrets. */
void redis_set_error(struct redis *redis, const char *text);
/* The meaning of an error reply after which the connection stays open: ERR_FULL, ERR_UNAVAILABLE;
 * ERR_OK: it concerns the data. Stores the text. */
enum err redis_classify_error(struct redis *redis, const char *text) MUST_CHECK;
/* Closes the connection, delays the next one, and returns `code`. */
enum err redis_fail(struct redis *redis, enum err code, const char *text) MUST_CHECK;
enum err redis_queue_command(struct redis *redis, int argc, const char *const *argv,
                             const size_t *lens) MUST_CHECK;
enum err redis_flush(struct redis *redis) MUST_CHECK;
/* Reads available data into the parser. */
enum err redis_receive(struct redis *redis) MUST_CHECK;
/* Sends as much as possible, waits for data until the deadline, and reads it. ERR_TIMEOUT does not
 * change the connection. */
enum err redis_wait_io(struct redis *redis, int64_t deadline_ms) MUST_CHECK;
/* *out: NULL when no whole reply has been read yet. */
enum err redis_parse_reply(struct redis *redis, redisReply **out) MUST_CHECK;
enum err redis_await_reply(struct redis *redis, int64_t deadline_ms, redisReply **out) MUST_CHECK;

/* ---- redis_tls.c --------------------------------------------------------------------------- */

/* The handshake, on a non-blocking socket. The server's certificate must be signed by a trusted
 * authority (net/redis/redis_tls.h) and name `host`. NULL: `fault` is the reason. The caller calls
 * redis_tls_stop. */
void *redis_tls_start(int fd, const char *host, int64_t deadline_ms, char *fault,
                      size_t fault_size) MUST_CHECK;
void redis_tls_stop(void *tls); /* sends nothing to the server */
/* As send(2) and recv(2) on a non-blocking socket, but also -1 at the end of the stream; *failure:
 * the reason, NULL with EAGAIN. A receive takes a whole record if it has room for 16384 bytes. */
ssize_t redis_tls_send(void *tls, const void *data, size_t len, const char **failure);
ssize_t redis_tls_receive(void *tls, void *data, size_t size, const char **failure);

/* ---- redis_connect.c ----------------------------------------------------------------------- */

/* Creates a connection to the current location of the data. Also ERR_UNAVAILABLE when the last
 * attempt has failed and the next is not due yet. */
enum err redis_connect(struct redis *redis) MUST_CHECK;
/* Connects without a greeting. Bounded by the deadline, except name resolution. */
enum err redis_open(struct redis *redis, const struct redis_address *to,
                    int64_t deadline_ms) MUST_CHECK;
/* One command of a greeting; *out may be NULL. An error reply is ERR_UNAVAILABLE. */
enum err redis_handshake_command(struct redis *redis, int64_t deadline_ms, int argc,
                                 const char *const *argv, redisReply **out) MUST_CHECK;
enum err redis_authenticate(struct redis *redis, int64_t deadline_ms) MUST_CHECK;
/* Credentials and database. */
enum err redis_handshake(struct redis *redis, int64_t deadline_ms) MUST_CHECK;
/* The delay before a new connection after that many consecutive failures. */
int64_t redis_retry_delay_ms(unsigned failures);

/* ---- redis_sentinel.c ---------------------------------------------------------------------- */

/* Connects to the server that a sentinel names, if the server confirms that it is the master. */
enum err redis_sentinel_connect(struct redis *redis, int64_t deadline_ms) MUST_CHECK;
/* Asks a sentinel periodically, once for all connections of the url. Closes this connection if the
 * master has changed. A replaced master accepts writes until the sentinels demote it, perhaps ten
 * seconds later, and these writes are lost. */
void redis_sentinel_check(struct redis *redis);

/* ---- redis_topology.c -------------------------------------------------------------------------
 */

/* Returns the topology of this url and creates it if needed. NULL: out of memory. */
struct redis_topology *redis_topology_acquire(const char *url);
void redis_topology_release(struct redis_topology *topology);
/* The address to connect to now; returns its generation. */
uint64_t redis_topology_locate(struct redis_topology *topology, const struct redis_url *url,
                               struct redis_address *out);
/* Records that the data is at `address`; returns the generation, a new one if the address
 * changed. */
uint64_t redis_topology_update(struct redis_topology *topology,
                               const struct redis_address *address);
/* Records that `address` failed: the next attempt uses another known address. */
void redis_topology_report_failure(struct redis_topology *topology, const struct redis_url *url,
                                   const struct redis_address *address);
/* Changes with the location of the data. Connections of an older generation must reconnect. */
uint64_t redis_topology_generation(struct redis_topology *topology);
/* The address of the url that is tried first. */
size_t redis_topology_first_address(struct redis_topology *topology);
void redis_topology_set_first_address(struct redis_topology *topology, size_t index);
/* True if the location was not checked for period_ms; then the caller must check it. */
bool redis_topology_check_due(struct redis_topology *topology, int64_t period_ms);
bool redis_address_equal(const struct redis_address *a, const struct redis_address *b);
/* Parses "MOVED <slot> <host>:<port>"; no host means the host of `asked`. */
bool redis_topology_parse_moved(const char *text, const struct redis_address *asked,
                                struct redis_address *out);

#endif
