/* Internals of the facade. Only workers*.c include this. */
#ifndef MQFLEET_WORKERS_WORKERS_INTERNAL_H
#define MQFLEET_WORKERS_WORKERS_INTERNAL_H

#include "mqtt/worker/worker.h"
#include "mqtt/workers/workers.h"

struct workers {
    const struct conf *conf;
    struct workers_owner owner;
    struct resolver *resolver;
    struct address_policy *policy;
    struct good_addresses *good_addresses;
    struct incidents *incidents;
    struct publish_quota *quota;
    size_t count;
    struct worker **all;

    pthread_mutex_t lock; /* guards the rest */
    char *incarnation;    /* the accepted one; NULL: none */
    uint64_t generation;  /* of clients that are started now */
};

/* The worker that has, or would have, the client. */
struct worker *workers_find_worker(const struct workers *workers, const char *id);
/* NULL: unknown. worker->lock is held; the client is valid until it is released. */
struct client *workers_find_locked(struct worker *worker, const char *id);

/* NULL: out of memory. */
struct worker_command *workers_command_create(enum worker_command_kind kind, const char *id);
/* Frees the command if the worker does not accept it. */
enum err workers_push(struct worker *worker, struct worker_command *command) MUST_CHECK;

struct workers_query;
/* Passes the query to the client's worker. ERR_OK: the worker answers and releases it. */
enum err workers_push_query(struct workers *workers, const char *id,
                            struct workers_query *query) MUST_CHECK;

#endif
