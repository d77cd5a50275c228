/* The few threads that run handlers, and the queue before them. What waits for a broker, a client
 * or another node gives its thread back (pending.h); what is here waits for Redis at most. */
#ifndef MQFLEET_SERVER_HANDLER_POOL_H
#define MQFLEET_SERVER_HANDLER_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

struct handler_pool;

/* Embedded in what is to be done. */
struct handler_task {
    void (*run)(struct handler_task *task);
    struct handler_task *next; /* the queue's */
    bool is_new;               /* the queue's */
};

/* new_max: tasks of handler_pool_push in the queue. NULL: out of memory. */
struct handler_pool *handler_pool_create(size_t new_max);
void handler_pool_destroy(struct handler_pool *workers); /* after all runs returned */
/* ERR_FULL; ERR_WRONG_STATE: closed. Any thread. */
enum err handler_pool_push(struct handler_pool *workers, struct handler_task *task) MUST_CHECK;
/* What goes on with something begun: never ERR_FULL, since what can be begun is bounded. */
enum err handler_pool_push_begun(struct handler_pool *workers,
                                 struct handler_task *task) MUST_CHECK;
/* A thread; returns once closed and empty. argument: the workers. */
void *handler_pool_run(void *argument);
void handler_pool_close(struct handler_pool *workers);
/* Works off what threads that never ran, or ended early, have left. After handler_pool_close. */
void handler_pool_drain(struct handler_pool *workers);

#endif
