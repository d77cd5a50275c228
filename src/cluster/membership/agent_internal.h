/* What the files of the agent share; nobody else includes it. Agent thread only unless said. */
#ifndef MQFLEET_MEMBERSHIP_AGENT_INTERNAL_H
#define MQFLEET_MEMBERSHIP_AGENT_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
#include "base/queue.h"
#include "cluster/membership/agent.h"
#include "net/redis/redis.h"

/* Something another thread told the agent. */
enum agent_task_kind {
    AGENT_TASK_RELEASE,   /* a host gives the client up */
    AGENT_TASK_STABLE,    /* a client's connection has proved stable */
    AGENT_TASK_HAND_OVER, /* an operator wants it elsewhere */
    AGENT_TASK_STOPPED    /* a client that is leaving has closed */
};

struct agent_task {
    enum agent_task_kind kind;
    char *id;
    int64_t epoch;
    int64_t delay_ms, cooldown_ms_max;
    enum client_error error; /* NONE: see reason */
    const char *reason;      /* static; NULL: "released" */
    char *message;
    UT_hash_handle hh; /* of agent->releases or agent->stable */
};

/* A client on its way out: stopped first, released once it has closed. */
struct handover {
    char *id;
    int64_t epoch;
    const char *reason; /* static */
    bool failed_here;   /* prefer another node */
    int64_t stop_asked_ms;
    char *config, *identity; /* to put it back if Redis loses it meanwhile; NULL: not known */
    int64_t version;
    UT_hash_handle hh;
};

/* A client that was stopped because it had been deleted, so that an undone delete is told. */
#define DELETED_MAX 1024
struct deleted_client {
    uint64_t id_hash;
    int64_t version; /* 0: no entry */
};

struct agent {
    struct agent_wiring wiring;
    struct queue *tasks;
    struct redis *wake_subscriber;
    struct redis_watch *redis_watch;
    char *wake_channel;
    int64_t wake_retry_ms;
    atomic_bool stopping;             /* any thread */
    _Atomic int64_t unreleased_count; /* by agent_leave; -1: not known yet. Any thread */
    _Atomic(const char *) fault;
    struct fleet_settings *fleet_settings;
    int stop_fd;

    /* membership */
    int64_t join_next_ms;
    int64_t name_taken_since_ms;  /* 0: it is not */
    int64_t name_silent_since_ms; /* its earlier holder's beat is missing; 0: it is not */

    /* reconcile */
    bool reconcile_now;
    int64_t applied_rev;                        /* -1: not known, all is compared */
    int64_t digest_checked_ms;                  /* the sums, last */
    bool digest_differed;                       /* then, for the first time */
    int64_t full_pass_ms;                       /* the whole list, last */
    int64_t reconcile_next_ms;                  /* not before */
    struct deleted_client deleted[DELETED_MAX]; /* stopped here because they were, the last ones */
    size_t deleted_next;

    /* releases */
    struct agent_task *releases; /* to be written, by id, the oldest first */
    struct agent_task *stable;   /* likewise */
    int64_t release_next_ms;
    struct handover *handovers;

    struct salvage *salvage; /* salvage.c; NULL: nothing */
};

/* agent.c */
struct store_member agent_member(struct agent *agent, char incarnation[TEXT_ID_LEN]);
void agent_task_free(struct agent_task *task);
/* For loops over many clients: still a member, and not told to stop. */
bool agent_may_continue(struct agent *agent);
/* Redis does not answer, or not to us: what comes after in a loop would only wait for the same. */
bool agent_redis_is_unusable(enum err err);

/* A client that this node owns, as it is to run. All borrowed. */
struct start_request {
    const char *id;
    int64_t epoch, version;
    const char *config; /* NULL: to be looked up */
    size_t config_len;
};
/* start.c: starts or updates it, or gives it back when it cannot run here. Not ERR_OK: to be tried
 * again. Agent thread: it stops clients too, so that what it has just read of one is not overtaken
 * by the end of the same epoch. */
enum err agent_start(struct agent *agent, const struct store_member *member,
                     const struct start_request *order);

/* membership.c: joins, drops everything when fenced, registers again after data loss. True: this
 * node is a member now. */
bool membership_step(struct agent *agent);
void membership_fleet_step(struct agent *agent);

/* reconcile.c: what runs against what Redis says. */
void reconcile_step(struct agent *agent);

/* releases.c */
void handover_take_task(struct agent *agent, struct agent_task *task); /* takes ownership */
void handover_step(struct agent *agent);
void handover_drain_step(struct agent *agent);
void handover_clear(struct agent *agent); /* after being fenced, and at the end */
/* Is it on its way out: stopped or to be released? Then it is neither started nor stopped. */
bool handover_is_pending(struct agent *agent, const char *id);

/* salvage.c: what a fenced node ran, for a Redis that has lost it. Taken before all is dropped;
 * the steps after the next join put it back, if Redis went back at all. */
void salvage_take(struct agent *agent);
void salvage_step(struct agent *agent);
void salvage_clear(struct agent *agent);

#endif
