/* The embedded Redis: a private redis-server process on a Unix socket in the node's state folder.
 * Its append-only file is on, and it is killed when its parent dies. Main thread only. */
#ifndef MQFLEET_REDIS_REDIS_SERVER_H
#define MQFLEET_REDIS_REDIS_SERVER_H

#include <stdint.h>
#include "base/err.h"

struct redis_server;

/* Creates the folder (mode 0700), locks it, starts redis-server and waits until it has loaded its
 * data. ERR_UNSUPPORTED: no redis-server program; ERR_EXISTS: another node uses the folder; `fault`
 * (512 bytes) is one line. */
enum err redis_server_start(struct redis_server **out, const char *folder, int64_t timeout_ms,
                            char *fault) MUST_CHECK;
/* "unix:<folder>/redis.sock"; borrowed. */
const char *redis_server_url(const struct redis_server *server);
/* Starts redis-server again after it has exited, without waiting for it. It loads its append-only
 * file. The main thread calls this about once a second. */
void redis_server_supervise(struct redis_server *server);
/* Sends SIGTERM, waits until the data is saved and the process has exited (bounded), and frees.
 * NULL is legal. */
void redis_server_stop(struct redis_server *server);

#endif
