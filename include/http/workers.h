/* The few threads that run handlers, and the queue before them. What waits for a broker, a client
 * or another node gives its thread back (pending.h); what is here waits for Redis at most. */
#ifndef MQFLEET_HTTP_WORKERS_H
#define MQFLEET_HTTP_WORKERS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

struct http_workers;

/* Embedded in what is to be done. */
struct http_task {
    void (*run)(struct http_task *task);
    struct http_task *next; /* the queue's */
    bool is_new;            /* the queue's */
};

/* new_max: tasks of http_workers_push in the queue. NULL: out of memory. */
struct http_workers *http_workers_create(size_t new_max);
void http_workers_destroy(struct http_workers *workers); /* after all runs returned */
/* ERR_FULL; ERR_WRONG_STATE: closed. Any thread. */
enum err http_workers_push(struct http_workers *workers, struct http_task *task) MUST_CHECK;
/* What goes on with something begun: never ERR_FULL, since what can be begun is bounded. */
enum err http_workers_push_on(struct http_workers *workers, struct http_task *task) MUST_CHECK;
/* A thread; returns once closed and empty. argument: the workers. */
void *http_workers_run(void *argument);
void http_workers_close(struct http_workers *workers);
/* Works off what threads that never ran, or ended early, have left. After http_workers_close. */
void http_workers_drain(struct http_workers *workers);

#endif
