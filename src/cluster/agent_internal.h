/* What the files of the agent share; nobody else includes it. Agent thread only unless said:
 * schedule.c runs on a thread of its own. */
#ifndef MQFLEET_CLUSTER_AGENT_INTERNAL_H
#define MQFLEET_CLUSTER_AGENT_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
#include "base/queue.h"
#include "cluster/agent.h"
#include "cluster/reaper.h"
#include "cluster/scheduler.h"
#include "net/redis.h"

/* Something another thread told the agent. */
enum agent_task_kind {
    TASK_RELEASE,   /* a host gives the client up */
    TASK_STABLE,    /* a client's connection has proved stable */
    TASK_GIVE_AWAY, /* an operator wants it elsewhere */
    TASK_STOPPED    /* a client that is leaving has closed */
};

struct agent_task {
    enum agent_task_kind kind;
    char *id;
    int64_t epoch;
    int64_t delay_ms, rest_ms_max;
    enum client_error error; /* NONE: see reason */
    const char *reason;      /* static; NULL: "released" */
    char *message;
    UT_hash_handle hh; /* of agent->releases or agent->stable */
};

/* A client on its way out: stopped first, released once it has closed. */
struct leaving {
    char *id;
    int64_t epoch;
    const char *reason; /* static */
    bool failed;        /* prefer another node */
    int64_t asked_ms;
    char *config, *identity; /* to put it back if Redis loses it meanwhile; NULL: not known */
    int64_t version;
    UT_hash_handle hh;
};

/* A node that just failed a claim and is not asked again before until_ms. */
struct shunned {
    char *name;
    int64_t until_ms;
    bool troubled; /* it said so itself, and takes clients when nobody else can */
    UT_hash_handle hh;
};

struct agent {
    struct agent_wiring wiring;
    struct queue *tasks;
    struct redis *wake;
    struct redis_watch *redis_watch;
    char *wake_channel;
    int64_t wake_retry_ms;
    atomic_bool stopping;       /* any thread */
    atomic_bool leading;        /* any thread */
    atomic_size_t claims;       /* under way, any thread */
    _Atomic int64_t unreleased; /* by agent_leave; -1: not known yet. Any thread */
    _Atomic(const char *) fault;
    struct fleet_settings *fleet;
    _Atomic int64_t waiting, resting, owned; /* of the fleet. Any thread */
    _Atomic int64_t counted_ms;              /* when; 0: never. Any thread */
    int stop_fd;

    /* membership */
    int64_t join_next_ms;
    int64_t name_taken_since_ms;  /* 0: it is not */
    int64_t name_silent_since_ms; /* its earlier holder's beat is missing; 0: it is not */
    _Atomic int64_t lost_ms;      /* when Redis lost its data, clock_ms; 0: never. Any thread */

    /* reconcile */
    bool reconcile_now;
    int64_t reconciled_rev;
    int64_t reconciled_ms;
    int64_t reconcile_next_ms; /* not before */

    /* releases */
    struct agent_task *releases; /* to be written, by id, the oldest first */
    struct agent_task *stable;   /* likewise */
    int64_t release_next_ms;
    struct leaving *leaving;

    /* leader */
    struct reaper *reaper;

    /* scheduler thread only, but for the fd */
    int schedule_fd; /* any thread wakes it */
    uint64_t schedule_cursor;
    struct shunned *shunned;
};

/* agent.c */
struct store_member agent_member(struct agent *agent, char incarnation[TEXT_ID_LEN]);
void agent_task_free(struct agent_task *task);
/* For loops over many clients: still a member, and not told to stop. */
bool agent_goes_on(struct agent *agent);
/* Redis does not answer, or not to us: what comes after in a loop would only wait for the same. */
bool agent_gives_in(enum err result);

/* claim.c: starts a client that this member owns, or gives it back when it cannot run here. Not
 * ERR_OK: to be tried again. Agent thread: it stops clients too, so that what it has just read of
 * one is not overtaken by the end of the same epoch. */
enum err agent_start(struct agent *agent, const struct store_member *member,
                     const struct store_client *client);

/* membership.c: joins, drops everything when fenced, registers again after data loss. True: this
 * node is a member now. */
bool membership_step(struct agent *agent);
void membership_fleet_step(struct agent *agent);

/* reconcile.c: what runs against what Redis says. */
void reconcile_step(struct agent *agent);

/* releases.c */
void releases_task(struct agent *agent, struct agent_task *task); /* takes ownership */
void releases_step(struct agent *agent);
void releases_drain_step(struct agent *agent);
void releases_forget(struct agent *agent); /* after being fenced, and at the end */
/* Is it on its way out: stopped or to be released? Then it is neither started nor stopped. */
bool releases_leaving(struct agent *agent, const char *id);

/* leader.c: fences, reaps, adopts. */
void leader_lead_step(struct agent *agent);
void leader_look_step(struct agent *agent);
void leader_orphans_step(struct agent *agent);
void leader_strays_step(struct agent *agent);

/* schedule.c */
void schedule_wake(struct agent *agent); /* any thread: something waits */
void schedule_fini(struct agent *agent);

#endif
