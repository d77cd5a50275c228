/* Shared by the files of the agent only. The agent thread, unless a comment says otherwise. */
#ifndef MQFLEET_MEMBERSHIP_AGENT_INTERNAL_H
#define MQFLEET_MEMBERSHIP_AGENT_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
#include "base/queue.h"
#include "cluster/membership/agent.h"
#include "cluster/placement/destinations.h"
#include "cluster/resources/quota_shares.h"
#include "cluster/resources/resources.h"
#include "net/redis/redis.h"

/* A task from another thread. */
enum agent_task_kind {
    AGENT_TASK_RELEASE,   /* a worker asks to release a client */
    AGENT_TASK_STABLE,    /* the connection of a client has become stable */
    AGENT_TASK_HAND_OVER, /* an operator asks to move a client */
    AGENT_TASK_STOPPED    /* a client that is handed over has closed */
};

struct agent_task {
    enum agent_task_kind kind;
    char *id;
    int64_t epoch;
    int64_t delay_ms, cooldown_ms_max;
    enum client_error error; /* CLIENT_ERROR_NONE: see reason */
    const char *reason;      /* static; NULL: "released" */
    char *message;
    UT_hash_handle hh; /* in agent->releases or agent->stable */
};

/* A client that is handed over: it is stopped first, and released after it has closed. */
struct handover {
    char *id;
    int64_t epoch;
    const char *reason; /* static */
    bool failed_here;   /* prefer another node */
    int64_t stop_asked_ms;
    char *target; /* the node that gets it; NULL: whichever the leader chooses */
    char target_incarnation[TEXT_ID_LEN];
    char *config, *identity; /* to restore it if Redis loses it meanwhile; NULL: not known */
    int64_t version;
    char *history; /* for the node that gets it; NULL: not known */
    UT_hash_handle hh;
};

/* A client that was stopped because it was deleted. Kept to warn if Redis loses the delete. */
#define DELETED_MAX 1024
struct deleted_client {
    uint64_t id_hash;
    int64_t version; /* 0: no entry */
};

/* The clients that levelling moved last. */
#define REBALANCED_MAX 1024
struct rebalanced_client {
    uint64_t id_hash;
    int64_t at_ms; /* 0: no entry */
};

struct rebalance {
    bool active;           /* this node has more than its share, and gives clients away */
    int64_t well_since_ms; /* since when nothing forbids moves; 0: not known */
    uint64_t nodes_hash;   /* the nodes at well_since_ms */
    int64_t refilled_ms;   /* last refill of `budget` */
    int64_t budget;        /* clients that may leave now, in thousandths */
    int64_t share;         /* part of the fleet's rate, in thousandths; 0: not known, all of it */
    int64_t rest_until_ms; /* pause after a step that moved no client */
    size_t from;           /* position of the next step in the list of clients */
    int64_t asked_ms;      /* first seen request of an operator; 0: none */
    int64_t renew_next_ms; /* next renewal of that request */
    int64_t moved_count;   /* clients moved since `active` was set */
    struct rebalanced_client moved[REBALANCED_MAX]; /* ring */
    size_t moved_next;
};

struct agent {
    struct agent_wiring wiring;
    struct queue *tasks;
    struct redis *wake_subscriber;
    struct redis_watch *redis_watch;
    struct resources *resources;
    struct quota_shares *quota_shares; /* NULL: there are no sinks */
    char *wake_channel;
    int64_t wake_retry_ms;
    atomic_bool stopping;             /* any thread */
    _Atomic int64_t unreleased_count; /* by agent_leave; -1: not known yet. Any thread */
    _Atomic(const char *) fault;
    struct fleet_settings *fleet_settings;
    int stop_fd;

    /* membership */
    int64_t join_next_ms;
    int64_t name_taken_since_ms;  /* another process uses the name; 0: none does */
    int64_t name_silent_since_ms; /* the previous process has no heartbeat; 0: it has one */

    /* reconcile */
    bool reconcile_now;
    int64_t applied_rev;                        /* -1: not known; a full pass is due */
    int64_t digest_checked_ms;                  /* when the digests were last compared */
    bool digest_differed;                       /* in the last comparison, not in the one before */
    int64_t full_pass_ms;                       /* when the last full pass ended */
    int64_t reconcile_next_ms;                  /* no pass before */
    struct deleted_client deleted[DELETED_MAX]; /* ring of the last ones */
    size_t deleted_next;

    /* handover */
    struct agent_task *releases; /* to be written to Redis; by id, the oldest first */
    struct agent_task *stable;   /* likewise */
    int64_t release_next_ms;
    bool release_now; /* a client that is handed over has closed */
    struct handover *handovers;
    struct destinations destinations;

    /* drain.c */
    size_t drain_from;     /* place in the list of clients */
    int64_t drain_next_ms; /* no step before */
    struct rebalance rebalance;
    _Atomic(enum placement_wait) drain_wait; /* why clients stay; PLACEMENT_SOON: they leave */

    struct profile_changes *profile_changes;

    size_t histories_from; /* histories.c: where the next step begins */

    struct salvage *salvage; /* salvage.c; NULL: nothing */
};

/* agent.c */
struct store_member agent_member(struct agent *agent, char incarnation[TEXT_ID_LEN]);
void agent_task_free(struct agent_task *task);
/* For loops over many clients. False: this node is no longer a member, or the agent stops. */
bool agent_may_continue(struct agent *agent);
/* Further calls in a loop would fail as well: Redis does not answer, or has fenced this node. */
bool agent_redis_is_unusable(enum err err);

/* A client that this node owns and should run. All borrowed. */
struct start_request {
    const char *id;
    int64_t epoch, version;
    const char *config; /* NULL: must be read from Redis */
    size_t config_len;
    const char *identity; /* as stored, of a client with a profile; otherwise NULL or "" */
    const char *history;  /* what it did on other nodes; NULL: nothing, or it runs here */
};
/* start.c: starts or updates the client, or releases it if it cannot run here. If the result is not
 * ERR_OK, the caller tries again. Only the agent thread starts and stops clients; otherwise, a
 * client could be started with an epoch that has just ended. */
enum err agent_start(struct agent *agent, const struct store_member *member,
                     const struct start_request *request);

/* membership.c: joins, closes all clients after a fence, registers again after a data loss. True:
 * this node is a member now. */
bool membership_step(struct agent *agent);
void membership_fleet_step(struct agent *agent);

/* reconcile.c: compares the running clients with Redis. */
void reconcile_step(struct agent *agent);

/* handover.c */
void handover_take_task(struct agent *agent, struct agent_task *task); /* takes ownership */
void handover_step(struct agent *agent);
struct handover_request {
    const char *id;
    int64_t epoch;
    const char *reason;                  /* static */
    bool failed;                         /* this node could not run it: another one is preferred */
    const struct placement_node *target; /* NULL: whichever the leader chooses */
};
/* Begins to stop the client; once it has closed, it is assigned to the target. False: it leaves
 * already, or memory is short. */
bool handover_begin(struct agent *agent, const struct handover_request *request);
void handover_clear(struct agent *agent); /* after a fence, and at the end */
/* The client is being handed over or released; it must be neither started nor stopped. */
bool handover_is_pending(struct agent *agent, const char *id);

/* drain.c: a draining node hands over the clients that other nodes can run; the others stay. */
void drain_step(struct agent *agent);
/* profile_changes.c: gives running clients the newest version of their profiles, at most
 * profile_change_rate of the fleet per second. */
struct profile_changes *profile_changes_create(void);
void profile_changes_destroy(struct profile_changes *changes); /* NULL is legal */
void profile_changes_step(struct agent *agent);
/* Running clients that still have an older version. Any thread. */
int64_t profile_changes_pending(const struct profile_changes *changes);

/* histories.c: stores what running clients have done, in case this node dies. */
#define HISTORIES_MS 5000
void histories_step(struct agent *agent);
/* Before all clients are closed. Any thread. */
void histories_save_all(struct agent *agent, int64_t deadline_ms);

/* rebalance.c: moves clients to emptier nodes. */
void rebalance_step(struct agent *agent);

/* salvage.c: the clients of a fenced node, for a Redis that has lost them. Taken before all is
 * dropped; the steps after the next join put it back, if Redis went back at all. */
void salvage_take(struct agent *agent);
void salvage_step(struct agent *agent);
void salvage_clear(struct agent *agent);

#endif
