/* Threads that answer requests, and the queues before them.
 *
 *   callers  --> [ queue ] --> threads: may call other nodes and wait for their answer
 *   nodes    --> [ queue ] --> a quarter of the threads: never call other nodes
 *
 * The second queue keeps nodes from waiting for each other in a circle when all threads of both are
 * taken. With a single thread both are one. Full: http_pool_push answers ERR_FULL at once. */
#ifndef MQFLEET_HTTP_POOL_H
#define MQFLEET_HTTP_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

struct http_pool;

typedef void http_pool_work(void *item);

/* threads: how many will call http_pool_run. NULL: out of memory. */
struct http_pool *http_pool_create(size_t threads, size_t queue_len_max, http_pool_work *work);
void http_pool_destroy(struct http_pool *pool); /* after all runs returned */
/* ERR_FULL; ERR_WRONG_STATE: closed. Any thread. */
enum err http_pool_push(struct http_pool *pool, bool from_node, void *item) MUST_CHECK;
/* A thread of the pool; returns once closed and empty. argument: the pool. */
void *http_pool_run(void *argument);
void http_pool_close(struct http_pool *pool);
/* Works off what threads that never ran, or ended early, have left. After http_pool_close. */
void http_pool_drain(struct http_pool *pool);

#endif
