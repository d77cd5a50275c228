/* What leader.c and schedule.c share. Leader's thread only. */
#ifndef MQFLEET_CLUSTER_LEADER_INTERNAL_H
#define MQFLEET_CLUSTER_LEADER_INTERNAL_H

#include <stdatomic.h>
#include "cluster/leader.h"
#include "cluster/placement.h"
#include "cluster/reaper.h"
#include "net/redis.h"

/* Why clients wait, counted over all of them. */
struct tally {
    int64_t counts[PLACEMENT_WAIT_COUNT];
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
    int64_t looked_at_rejoin_ms;
    char incarnation[TEXT_ID_LEN]; /* under which it looked last */

    struct redis *wake; /* NULL while not a candidate */
    char *wake_channel;
    int64_t wake_retry_ms;

    int64_t schedule_next_ms; /* not before, unless woken */
    uint64_t cursor;          /* into the waiting ones */
    int64_t swept_ms;         /* when the last sweep over them ended; 0: none has */
    int64_t waiting, resting; /* as counted last */
    struct tally tally;       /* of the sweep under way */
    char *unplaced;           /* the last whole sweep as JSON; NULL: none yet */
};

struct store_member leader_member(struct leader *leader, char incarnation[TEXT_ID_LEN]);

/* leader.c: takes, keeps or loses its role; looks for missing beats and, if it leads, buries who
 * died; adopts what nobody owns. */
void leader_lead_step(struct leader *leader);
void leader_look_step(struct leader *leader);
void leader_orphans_step(struct leader *leader);

/* schedule.c: one round. True: clients were assigned, there may be more. */
bool schedule_round(struct leader *leader);

#endif
