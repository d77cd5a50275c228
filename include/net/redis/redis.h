/* One connection to Redis. Not for use by two threads at once. Connects when first needed and again
 * after any error: after an error the outcome of the call is unknown and the connection is gone.
 * Every call ends within the timeout (the system's name resolution excepted).
 *
 * When connecting has failed, the next attempt is due after a short, jittered, growing time (200 ms
 * at most); until then calls answer ERR_UNAVAILABLE at once. Connections of one url in one process
 * share what they learn: which server is the master (sentinels), which node owns the keys (MOVED of
 * a cluster). A connection to what has ceased to be that place is made anew at its next call. */
#ifndef MQFLEET_REDIS_REDIS_H
#define MQFLEET_REDIS_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct redis;
struct redis_reply; /* owned by the caller: redis_reply_free; parts of it are borrowed */

/* url: as in net/redis_url.h. ERR_ARGUMENT: `fault` (may be NULL, at least 256 bytes) says what is
 * wrong. */
enum err redis_url_check(const char *url, char *fault) MUST_CHECK;

/* Does not connect. timeout_ms bounds one connect and one call. NULL: out of memory or bad url. */
struct redis *redis_create(const char *url, int64_t timeout_ms);
void redis_destroy(struct redis *redis);
/* The last error as text, for logs; "" if none; no secret in it. Borrowed until the next call. */
const char *redis_error(const struct redis *redis);
/* The same for an operator, with the server it came from: "127.0.0.1:6379: Connection refused". */
void redis_describe_error(const struct redis *redis, char *out, size_t size);

/* One command of argc parts (lens NULL: NUL-terminated strings). ERR_OK also for an error reply of
 * the server that says something about the data; a broken connection, LOADING, READONLY, NOAUTH and
 * the like are ERR_UNAVAILABLE, no answer in time ERR_TIMEOUT. After OOM (ERR_FULL) and NOPERM
 * (ERR_UNAVAILABLE) the connection goes on. *out is set only on ERR_OK. */
enum err redis_command(struct redis *redis, int argc, const char *const *argv, const size_t *lens,
                       struct redis_reply **out) MUST_CHECK;

/* Calls a script by its SHA1, loading it when the server does not know it (NOSCRIPT). sha: 40
 * digits made with redis_script_sha. keys first in argv. An error reply of the script is
 * ERR_PROTOCOL and is logged. */
enum err redis_script(struct redis *redis, const char *sha, const char *text, int key_count,
                      int argc, const char *const *argv, const size_t *lens,
                      struct redis_reply **out) MUST_CHECK;
void redis_script_sha(const char *text, char out[41]);

/* Pipelining: append any number of commands, then read as many replies in order, also after an
 * error, until redis_fd is -1. */
enum err redis_append(struct redis *redis, int argc, const char *const *argv,
                      const size_t *lens) MUST_CHECK;
enum err redis_read(struct redis *redis, struct redis_reply **out) MUST_CHECK;

/* Waits until `replicas` replicas have what the last command on this connection has seen written
 * (WAIT). ERR_TIMEOUT: fewer within timeout_ms; other errors: not known. */
enum err redis_wait_replicas(struct redis *redis, int64_t replicas, int64_t timeout_ms) MUST_CHECK;

/* A connection that only subscribes. Connects and subscribes when needed. ERR_OK: *out is the
 * payload of a message (the caller frees it); ERR_TIMEOUT: none within timeout_ms (0: do not wait);
 * ERR_UNAVAILABLE: not connected, call again later. */
enum err redis_next_message(struct redis *redis, const char *channel, int64_t timeout_ms,
                            char **out) MUST_CHECK;
/* Descriptor to poll for reading, -1 while not connected. */
int redis_fd(const struct redis *redis);

enum redis_type { REDIS_NIL, REDIS_STRING, REDIS_INTEGER, REDIS_ARRAY, REDIS_STATUS, REDIS_ERROR };
enum redis_type redis_reply_type(const struct redis_reply *reply);
/* NULL when it is no string, status or error. NUL-terminated; len may be NULL. */
const char *redis_reply_str(const struct redis_reply *reply, size_t *len);
/* An integer, or a string that is one; 0 otherwise. */
int64_t redis_reply_int(const struct redis_reply *reply);
size_t redis_reply_count(const struct redis_reply *reply); /* elements of an array, else 0 */
/* Never NULL: beyond the end it is a nil reply. Borrowed. */
const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t index);
void redis_reply_free(struct redis_reply *reply);

#endif
