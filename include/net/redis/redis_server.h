/* The embedded Redis: a private redis-server process on a Unix socket in the node's state folder,
 * append-only file on, killed with its parent. Main thread only. */
#ifndef MQFLEET_REDIS_REDIS_SERVER_H
#define MQFLEET_REDIS_REDIS_SERVER_H

#include <stdint.h>
#include "base/err.h"

struct redis_server;

/* Makes the folder (mode 0700), locks it against a second node, starts redis-server and waits until
 * it answers, data loaded. ERR_UNSUPPORTED: no redis-server program; ERR_EXISTS: another node uses
 * the folder; `fault` (512 bytes) says so in one line. */
enum err redis_server_start(struct redis_server **out, const char *folder, int64_t timeout_ms,
                            char *fault) MUST_CHECK;
/* "unix:<folder>/redis.sock"; borrowed. */
const char *redis_server_url(const struct redis_server *server);
/* Starts redis-server again when it has ended by itself, without waiting for it; it loads what its
 * append-only file holds. For the main thread to call about once a second. */
void redis_server_supervise(struct redis_server *server);
/* SIGTERM, waits until it has saved and ended (bounded), frees. NULL is legal. */
void redis_server_stop(struct redis_server *server);

#endif
