/* The connections of one user of a Redis whose keys may be on several nodes (Redis Cluster): at
 * most one to each node. Without a cluster there is one. Not for concurrent use.
 *
 *   slot --redis_router_find--> index of a connection --redis_router_at--> commands
 *     ^                                                                       |
 *     '------------ redis_router_learn <-- ERR_UNAVAILABLE, redis_is_moved <--'
 */
#ifndef MQFLEET_REDIS_REDIS_ROUTER_H
#define MQFLEET_REDIS_REDIS_ROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "net/redis/redis.h"

#define REDIS_SLOTS            16384
#define REDIS_ROUTER_NODES_MAX 128

struct redis_router;

/* Does not connect. one_slot: all keys are in one slot; then the only connection follows it. NULL:
 * out of memory or invalid url. */
struct redis_router *redis_router_create(const char *url, int64_t timeout_ms, bool one_slot);
void redis_router_destroy(struct redis_router *router); /* NULL is legal */

/* As redis_restrict, for all connections. Before the first call. */
void redis_router_restrict(struct redis_router *router, const struct redis_access *access);

/* The slot of a key, with regard to its hash tag. Pure. */
unsigned redis_router_slot(const char *key);
/* The connection to the node that owns the slot, as far as it is known. */
size_t redis_router_find(struct redis_router *router, unsigned slot);
/* index: below redis_router_count, which only grows. Borrowed. */
struct redis *redis_router_at(struct redis_router *router, size_t index);
size_t redis_router_count(const struct redis_router *router);
/* After redis_is_moved: from now on the owner of that slot is found. False: the connection was not
 * redirected, or has no memory for another one. */
bool redis_router_learn(struct redis_router *router, size_t index);

#endif
