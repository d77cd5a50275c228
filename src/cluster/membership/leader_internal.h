/* What leader.c and schedule.c share. Leader's thread only. */
#ifndef MQFLEET_MEMBERSHIP_LEADER_INTERNAL_H
#define MQFLEET_MEMBERSHIP_LEADER_INTERNAL_H

#include <stdatomic.h>
#include "cluster/membership/leader.h"
#include "cluster/placement/placement.h"
#include "cluster/membership/reaper.h"
#include "net/redis/redis.h"

/* Why clients wait, counted over all of them. */
struct wait_counts {
    int64_t by_reason[PLACEMENT_WAIT_COUNT];
};

struct leader {
    const struct conf *conf;
    struct node *node;
    struct store *store;
    const char *redis_url;
    atomic_bool stopping; /* any thread */
    int stop_fd;
    enum store_role role;

    struct reaper *reaper;
    int64_t checked_at_rejoin_ms;
    char incarnation[TEXT_ID_LEN]; /* under which it looked last */

    struct redis *wake_subscriber; /* NULL while not a candidate */
    char *wake_channel;
    int64_t wake_retry_ms;

    int64_t schedule_next_ms;       /* not before, unless woken */
    uint64_t waiting_cursor;        /* into the waiting ones */
    int64_t last_sweep_ms;          /* when the last sweep over them ended; 0: none has */
    int64_t waiting, resting;       /* as counted last */
    struct wait_counts wait_counts; /* of the sweep under way */
    char *unplaced_json;            /* the last whole sweep as JSON; NULL: none yet */
};

struct store_member leader_member(struct leader *leader, char incarnation[TEXT_ID_LEN]);

/* leader.c: takes, keeps or loses its role; looks for missing beats and, if it leads, buries who
 * died; adopts what nobody owns. */
void leader_election_step(struct leader *leader);
void leader_check_step(struct leader *leader);
void leader_orphans_step(struct leader *leader);

/* schedule.c: one round. True: clients were assigned, there may be more. */
bool scheduler_round(struct leader *leader);

#endif
