/* One connection to Redis. Not for concurrent use. It connects at the first call and again after an
 * error. After an error the outcome of the call is unknown and the connection is closed. Every call
 * ends within the timeout, except for the system's name resolution.
 *
 * After a failed attempt to connect, the next attempt is due after a short, growing time with
 * jitter (at most 200 ms). Until then calls return ERR_UNAVAILABLE at once. Connections of one url
 * in one process share the topology: the current master (Sentinel) and the node that owns the keys
 * (MOVED in a cluster). A connection to an outdated address reconnects at its next call. */
#ifndef MQFLEET_REDIS_REDIS_H
#define MQFLEET_REDIS_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/err.h"

struct redis;

/* Which addresses may be connected to, after a name was resolved. With `allowed`, no Unix socket
 * may be: who gives the url has no business with the files of the machine. */
struct redis_access {
    /* False: *why is a static text. NULL: all are allowed. */
    bool (*allowed)(const void *context, const char *host, const struct sockaddr *address,
                    const char **why);
    const void *context; /* borrowed */
};
struct redis_reply; /* owned by the caller: redis_reply_free; its parts are borrowed */

/* url: as in net/redis/redis_url.h. ERR_ARGUMENT: `fault` (may be NULL, at least 256 bytes) is the
 * reason. */
enum err redis_url_check(const char *url, char *fault) MUST_CHECK;

/* Does not connect. timeout_ms is the limit of one connect and of one call. NULL: out of memory or
 * invalid url. */
struct redis *redis_create(const char *url, int64_t timeout_ms);
void redis_destroy(struct redis *redis);
/* Also for sentinels and the nodes that they name. Nothing is sent to another address. Before the
 * first call. */
void redis_restrict(struct redis *redis, const struct redis_access *access);
/* The last error as text, for logs; "" if none. Contains no secret. Borrowed until the next
 * call. */
const char *redis_error(const struct redis *redis);
/* The last error for an operator, with the address of the server: "127.0.0.1:6379: Connection
 * refused". */
void redis_describe_error(const struct redis *redis, char *out, size_t size);

/* Runs one command of argc parts (lens NULL: NUL-terminated strings). Error replies about the data
 * are ERR_OK. A broken connection and replies such as LOADING, READONLY and NOAUTH are
 * ERR_UNAVAILABLE; no answer in time is ERR_TIMEOUT. After OOM (ERR_FULL) and NOPERM
 * (ERR_UNAVAILABLE) the connection stays open. *out is set only on ERR_OK. */
enum err redis_command(struct redis *redis, int argc, const char *const *argv, const size_t *lens,
                       struct redis_reply **out) MUST_CHECK;

/* Calls a script by its SHA1 and loads it if the server does not know it (NOSCRIPT). sha: 40 digits
 * from redis_script_sha. Keys come first in argv. An error reply of the script is logged and
 * returned as ERR_PROTOCOL. */
enum err redis_script(struct redis *redis, const char *sha, const char *text, int key_count,
                      int argc, const char *const *argv, const size_t *lens,
                      struct redis_reply **out) MUST_CHECK;
void redis_script_sha(const char *text, char out[41]);

/* Pipelining: append any number of commands, then read as many replies in order. After an error,
 * continue reading until redis_fd is -1. */
enum err redis_append(struct redis *redis, int argc, const char *const *argv,
                      const size_t *lens) MUST_CHECK;
enum err redis_read(struct redis *redis, struct redis_reply **out) MUST_CHECK;

/* Waits until `replicas` replicas have all writes of this connection (WAIT). ERR_TIMEOUT: fewer
 * within timeout_ms; other errors: unknown. */
enum err redis_wait_replicas(struct redis *redis, int64_t replicas, int64_t timeout_ms) MUST_CHECK;

/* For a connection that only subscribes. Connects and subscribes when needed. ERR_OK: *out is the
 * payload of a message (the caller frees it); ERR_TIMEOUT: none within timeout_ms (0: does not
 * wait); ERR_UNAVAILABLE: not connected, call again later. */
enum err redis_next_message(struct redis *redis, const char *channel, int64_t timeout_ms,
                            char **out) MUST_CHECK;
/* The next command reconnects. */
void redis_disconnect(struct redis *redis);
/* Of a connection of a redis_router: the last answer was MOVED, and the connection is still open.
 */
bool redis_is_moved(const struct redis *redis);
/* A number that differs for each connection of this object. */
uint64_t redis_connection_number(const struct redis *redis);
/* Descriptor to poll for reading, -1 while not connected. */
int redis_fd(const struct redis *redis);

enum redis_type { REDIS_NIL, REDIS_STRING, REDIS_INTEGER, REDIS_ARRAY, REDIS_STATUS, REDIS_ERROR };
enum redis_type redis_reply_type(const struct redis_reply *reply);
/* NULL unless it is a string, status or error. NUL-terminated; len may be NULL. */
const char *redis_reply_str(const struct redis_reply *reply, size_t *len);
/* An integer, or a string that contains one; otherwise 0. */
int64_t redis_reply_int(const struct redis_reply *reply);
size_t redis_reply_count(const struct redis_reply *reply); /* elements of an array, otherwise 0 */
/* Never NULL: beyond the end it is a nil reply. Borrowed. */
const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t index);
void redis_reply_free(struct redis_reply *reply);

#endif
