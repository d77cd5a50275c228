/* Private to src/net/redis*.c: one connection, and what its parts ask of each other.
 *
 *   redis.c             the public calls: commands, scripts, WAIT
 *   redis_subscribe.c   the connection that only subscribes
 *        |
 *   redis_connect.c     a new connection: when, to where, and how it is greeted
 *   redis_sentinel.c    which server is the master, by what the sentinels say
 *   redis_topology.c       what all connections of one url know of where the data is
 *        |
 *   redis_wire.c        bytes out and replies in, by a deadline; what an error means
 *   redis_tls.c         the same bytes over TLS
 *   redis_reply.c       what a reply holds */
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
    redisContext *context;     /* NULL: not connected */
    void *tls;                 /* redis_tls.c; NULL: none */
    struct redis_address peer; /* where the context leads; no host: a Unix socket */
    uint64_t generation;       /* of the place, when this connection was made */
    struct buffer send;        /* formatted commands; send.data + sent is not on the wire yet */
    size_t sent;
    size_t replies_pending; /* replies still to be read */
    unsigned failures;      /* since the last good answer */
    int64_t retry_at_ms;    /* no new connection before */
    bool moved;             /* the last call was not run, its keys live at another node by now */
    bool subscribed;        /* this connection has sent SUBSCRIBE */
    int64_t received_ms;    /* subscribed: when anything last came */
    int64_t ping_sent_ms;   /* subscribed: when the PING without an answer was sent, 0: none */
    char error[REDIS_ERROR_LEN];
};

/* ---- redis_wire.c -------------------------------------------------------------------------- */

/* Keeps the text for redis_error, without what may be secret. */
void redis_set_error(struct redis *redis, const char *text);
/* What an error reply says of a server whose connection goes on all the same: ERR_FULL,
 * ERR_UNAVAILABLE; ERR_OK: it is about the data. Keeps the text. */
enum err redis_classify_error(struct redis *redis, const char *text) MUST_CHECK;
void redis_disconnect(struct redis *redis);
/* Gives the connection up, delays the next one, and answers `code`. */
enum err redis_fail(struct redis *redis, enum err code, const char *text) MUST_CHECK;
enum err redis_queue_command(struct redis *redis, int argc, const char *const *argv,
                             const size_t *lens) MUST_CHECK;
enum err redis_flush(struct redis *redis) MUST_CHECK;
/* Reads what has come, for the parser. */
enum err redis_receive(struct redis *redis) MUST_CHECK;
/* Sends what it can and waits until the deadline for something to read, which it reads.
 * ERR_TIMEOUT leaves the connection as it is. */
enum err redis_wait_io(struct redis *redis, int64_t deadline_ms) MUST_CHECK;
/* *out: NULL when no whole reply has been read yet. */
enum err redis_parse_reply(struct redis *redis, redisReply **out) MUST_CHECK;
enum err redis_await_reply(struct redis *redis, int64_t deadline_ms, redisReply **out) MUST_CHECK;

/* ---- redis_tls.c --------------------------------------------------------------------------- */

/* The handshake, on a non-blocking socket. The server's certificate must be of an authority that is
 * trusted (net/redis_tls.h) and name `host`. NULL: `fault` says why. Caller: redis_tls_stop. */
void *redis_tls_start(int fd, const char *host, int64_t deadline_ms, char *fault,
                      size_t fault_size) MUST_CHECK;
void redis_tls_stop(void *tls); /* without a word to the server */
/* As send(2) and recv(2) on a non-blocking socket, but -1 at the end as well; *failure: why, NULL
 * with EAGAIN. A receive takes a whole record when it has room for 16384 bytes. */
ssize_t redis_tls_send(void *tls, const void *data, size_t len, const char **failure);
ssize_t redis_tls_receive(void *tls, void *data, size_t size, const char **failure);

/* ---- redis_connect.c ----------------------------------------------------------------------- */

/* A new connection, to where the data is. ERR_UNAVAILABLE also when the last attempt has just
 * failed and the next one is not due yet. */
enum err redis_connect(struct redis *redis) MUST_CHECK;
/* Only the connection, without a greeting. Bounded by the deadline, name resolution excepted. */
enum err redis_open(struct redis *redis, const struct redis_address *to,
                    int64_t deadline_ms) MUST_CHECK;
/* One command of a greeting; *out may be NULL. An error reply is ERR_UNAVAILABLE. */
enum err redis_handshake_command(struct redis *redis, int64_t deadline_ms, int argc,
                                 const char *const *argv, redisReply **out) MUST_CHECK;
enum err redis_authenticate(struct redis *redis, int64_t deadline_ms) MUST_CHECK;
/* Credentials and database. */
enum err redis_handshake(struct redis *redis, int64_t deadline_ms) MUST_CHECK;
/* How long to wait before a new connection after so many failures in a row. */
int64_t redis_retry_delay_ms(unsigned failures);

/* ---- redis_sentinel.c ---------------------------------------------------------------------- */

/* Connects to what a sentinel says is the master and what says so of itself. */
enum err redis_sentinel_connect(struct redis *redis, int64_t deadline_ms) MUST_CHECK;
/* Asks a sentinel now and then, once for all connections of the url, and closes this connection if
 * the master is another: a master that was replaced goes on taking writes until the sentinels tell
 * it, ten seconds later perhaps, and these writes are lost. */
void redis_sentinel_check(struct redis *redis);

/* ---- redis_topology.c -------------------------------------------------------------------------
 */

/* The one of this url, made when nobody has it. NULL: out of memory. */
struct redis_topology *redis_topology_acquire(const char *url);
void redis_topology_release(struct redis_topology *topology);
/* Where to connect now; answers the generation to remember with it. */
uint64_t redis_topology_locate(struct redis_topology *topology, const struct redis_url *url,
                               struct redis_address *out);
/* The data is at `address`; answers the generation, a new one if it was elsewhere. */
uint64_t redis_topology_update(struct redis_topology *topology,
                               const struct redis_address *address);
/* What was found at `address` failed: the next one tries another, where one is known. */
void redis_topology_report_failure(struct redis_topology *topology, const struct redis_url *url,
                                   const struct redis_address *address);
/* Moves when the data does: what was connected under another generation is to connect anew. */
uint64_t redis_topology_generation(struct redis_topology *topology);
/* The address of the url that is tried first. */
size_t redis_topology_first_address(struct redis_topology *topology);
void redis_topology_set_first_address(struct redis_topology *topology, size_t index);
/* Whether the place was not looked at for period_ms; if so, the caller is to. */
bool redis_topology_check_due(struct redis_topology *topology, int64_t period_ms);
bool redis_address_equal(const struct redis_address *a, const struct redis_address *b);
/* Reads "MOVED <slot> <host>:<port>"; no host means the one of `asked`. */
bool redis_topology_parse_moved(const char *text, const struct redis_address *asked,
                                struct redis_address *out);

#endif
