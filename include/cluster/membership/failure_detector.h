/* Decides which nodes are dead, from successive snapshots of the register (rules 1 and 5 of
 * docs/protocol.md). Does not call Redis. */
#ifndef MQFLEET_MEMBERSHIP_FAILURE_DETECTOR_H
#define MQFLEET_MEMBERSHIP_FAILURE_DETECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "store/store.h"

struct failure_detector;

struct failure_detector_rules {
    int64_t reclaim_grace_ms;
    int64_t mass_death_wait_ms;
    int64_t check_gap_ms_max; /* a longer gap between snapshots may hide a heartbeat */
};

struct failure_detector *failure_detector_create(const struct failure_detector_rules *rules);
void failure_detector_destroy(struct failure_detector *failure_detector);

struct failure_detector_snapshot {
    const struct store_missing *missing; /* registered nodes without a heartbeat */
    size_t missing_count, registered_count;
    int64_t now_ms;
    int64_t redis_recovered_ms; /* when Redis last answered again; 0: it never failed */
    bool own_is_fresh;          /* the heartbeat of this node is recent */
};
/* verdicts[missing_count]: true for each node to fence now. The heartbeat of such a node was
 * missing in a snapshot at least reclaim_grace_ms ago and in all later ones, without a gap longer
 * than check_gap_ms_max. Always false for dead nodes. on_hold (may be NULL): true if the longer
 * grace period applies, because too many nodes went missing at once or Redis has just recovered. */
void failure_detector_check(struct failure_detector *failure_detector,
                            const struct failure_detector_snapshot *snapshot, bool *verdicts,
                            bool *on_hold);
/* now_ms of the first snapshot without the heartbeat of the node; 0: it is not missing. */
int64_t failure_detector_missing_since_ms(const struct failure_detector *failure_detector,
                                          const char *node);
/* Forgets all snapshots, for example because one failed. */
void failure_detector_reset(struct failure_detector *failure_detector);

#endif
