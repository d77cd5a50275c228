/* Inside of the facade of all hosts. Only hosts*.c include this. */
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
    char *incarnation;    /* accepted; NULL: none */
    uint64_t generation;  /* of what is started now */
};

/* The one that has, or would have, the client. */
struct worker *workers_find_worker(const struct workers *workers, const char *id);
/* NULL: unknown. host->lock is held, and the client good for as long. */
struct client *workers_find_locked(struct worker *worker, const char *id);

/* NULL: out of memory. */
struct worker_command *workers_command_create(enum worker_command_kind kind, const char *id);
/* Frees the command when the host does not take it. */
enum err workers_push(struct worker *worker, struct worker_command *command) MUST_CHECK;

struct workers_query;
/* Hands it to the client's host. ERR_OK: the host answers it, and lets go of it. */
enum err workers_push_query(struct workers *workers, const char *id,
                            struct workers_query *query) MUST_CHECK;

#endif
