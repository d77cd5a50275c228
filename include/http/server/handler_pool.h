/* The threads that run handlers, and their queue. A handler may block on Redis only. A request that
 * waits for a broker, a client or another node holds no thread (pending.h). */
#ifndef MQFLEET_SERVER_HANDLER_POOL_H
#define MQFLEET_SERVER_HANDLER_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

struct handler_pool;

/* Embedded in the request to handle. */
struct handler_task {
    void (*run)(struct handler_task *task);
    struct handler_task *next; /* used by the queue */
    bool is_new;               /* used by the queue */
};

/* new_max: how many tasks of handler_pool_push may be in the queue. NULL: out of memory. */
struct handler_pool *handler_pool_create(size_t new_max);
void handler_pool_destroy(struct handler_pool *pool); /* after all threads have returned */
/* ERR_FULL; ERR_WRONG_STATE: closed. Any thread. */
enum err handler_pool_push(struct handler_pool *pool, struct handler_task *task) MUST_CHECK;
/* For a task that has already begun. Never returns ERR_FULL, because the number of begun tasks is
 * bounded. */
enum err handler_pool_push_begun(struct handler_pool *pool, struct handler_task *task) MUST_CHECK;
/* A handler thread; argument: the pool. Returns when the pool is closed and empty. */
void *handler_pool_run(void *argument);
void handler_pool_close(struct handler_pool *pool);
/* Runs the remaining tasks if the threads never ran. After handler_pool_close. */
void handler_pool_drain(struct handler_pool *pool);

#endif
