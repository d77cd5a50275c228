/* Shared by leader.c and scheduler.c only. The leader thread. */
#ifndef MQFLEET_MEMBERSHIP_LEADER_INTERNAL_H
#define MQFLEET_MEMBERSHIP_LEADER_INTERNAL_H

#include <stdatomic.h>
#include "cluster/membership/leader.h"
#include "cluster/placement/placement.h"
#include "cluster/membership/failure_detector.h"
#include "net/redis/redis.h"
#include "store/quotas.h"

/* The number of waiting clients for each reason. */
struct wait_counts {
    int64_t by_reason[PLACEMENT_WAIT_COUNT];
};

struct leader {
    const struct conf *conf;
    struct node *node;
    struct store *store;
    const char *redis_url;
    struct sinks *sinks;  /* whose routes clients follow; NULL: none */
    atomic_bool stopping; /* any thread */
    int stop_fd;
    enum store_role role;

    struct store_quota_scan quota_scan;
    struct failure_detector *failure_detector;
    char incarnation[TEXT_ID_LEN]; /* at the last check of heartbeats */

    struct redis *wake_subscriber; /* NULL: neither leader nor standby */
    char *wake_channel;
    int64_t wake_retry_ms;

    struct operations *operations; /* borrowed; NULL: none are executed */
    int64_t operations_next_ms;

    int64_t schedule_next_ms;       /* no round before, unless woken */
    uint64_t waiting_cursor;        /* position in the set of waiting clients */
    int64_t last_sweep_ms;          /* when the last sweep over the set ended; 0: none has */
    int64_t waiting, cooling_down;  /* counts at the last round */
    struct wait_counts wait_counts; /* of the present sweep */
    char *unplaced_json;            /* counts of the last complete sweep; NULL: none yet */
};

struct store_member leader_member(struct leader *leader, char incarnation[TEXT_ID_LEN]);

/* leader.c: gets, renews or loses the role; checks heartbeats and, as the leader, fences and reaps
 * dead nodes; adopts orphans. */
void leader_election_step(struct leader *leader);
void leader_check_step(struct leader *leader);
void leader_orphans_step(struct leader *leader);

/* scheduler.c: one round. True: clients were assigned, and more may wait. */
bool scheduler_round(struct leader *leader);

#endif
