/* The sinks of a node from within.
 *
 * A slot is a name. It stays for the life of the process, with its queue, because routes of clients
 * and threads that submit refer to the queue. The sink of the slot comes and goes. */
#ifndef MQFLEET_SINK_SINKS_INTERNAL_H
#define MQFLEET_SINK_SINKS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include "sink/sinks.h"

/* What the fleet wants of a slot. */
struct sinks_wish {
    bool wanted;
    char type[SINK_NAME_LEN];
    int64_t version;
    json_t *settings; /* NULL: not usable here */
    char fault[SINK_FAULT_LEN];
};

struct sinks_slot {
    char name[SINK_NAME_LEN];
    bool of_fleet;
    char dead_letter[SINK_NAME_LEN]; /* the name of the sink that takes what it rejects; "": none */
    struct sink *sink;               /* NULL: none; guarded by sinks->lock */
    struct message_queue *queue;     /* of a sink of the fleet */
    struct sinks *sinks;
    bool on_demand; /* the thread starts with the first message */
    pthread_t thread;
    bool runs;         /* on demand: guarded by sinks->start_lock until `stopped` */
    atomic_bool ended; /* the thread */

    /* Guarded by sinks->lock, written with apply_lock. */
    struct sinks_wish wish;
    int64_t version; /* of the document that the sink was created from, or changed to */
    bool leaving;
    bool unread; /* the last change failed before the sink got it: a secret cannot be read */
    char fault[SINK_FAULT_LEN]; /* why the wish is not fulfilled; "": it is */
    int64_t fault_since_ms, retry_at_ms;
    int64_t read_at_ms; /* the secrets of the node, again */
};

struct sinks {
    struct sink_environment environment; /* of sinks of the fleet */
    struct sink_environment
        own_environment; /* of those of the settings, where all may be reached */
    struct router *router;
    pthread_mutex_t apply_lock; /* one change at a time; taken before `lock` */
    bool started, stopped;      /* the second also with start_lock */
    pthread_mutex_t start_lock; /* one thread starts that of a sink; taken last */
    pthread_mutex_t lock;       /* guards the slots */
    struct sinks_slot *slots[SINKS_NAMES_MAX];
    size_t count;
};

/* Its name, or the label of its sink. */
bool sinks_is_named(const struct sinks_slot *slot, const char *name);
/* Called with the lock, or by the one who changes slots. */
struct sinks_slot *sinks_find(struct sinks *sinks, const char *name);
/* NULL: out of memory, or there are too many names. */
struct sinks_slot *sinks_new_slot(struct sinks *sinks, const char *name);
size_t sinks_running_count(const struct sinks *sinks);
void sinks_set_sink(struct sinks *sinks, struct sinks_slot *slot, struct sink *sink);
/* Tells the router if a sink with these settings uses the broker of clients. */
void sinks_require_origin(struct sinks *sinks, const char *type, const json_t *settings);
/* From now on routes may lead to it. */
void sinks_route(struct sinks *sinks, struct sink *sink);

/* The thread of the slot's sink. ERR_UNAVAILABLE: fault (SINK_FAULT_LEN) says why. */
enum err sinks_start_slot(struct sinks_slot *slot, char *fault) MUST_CHECK;
/* Waits until it has ended; without one, returns at once. */
void sinks_join_slot(struct sinks_slot *slot);

/* Of the settings: which sink takes what it rejects. */
void sinks_name_dead_letter(struct sinks_slot *slot, const json_t *settings);
/* Connects it with that sink. False: the node has no such sink; fault says it, and nothing is
 * rejected. */
bool sinks_connect(struct sinks *sinks, struct sinks_slot *slot, char *fault);

#endif
