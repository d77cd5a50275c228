/* Who is dead: judges looks at the register, by rules 1 and 5 of docs/protocol.md. No Redis here.
 */
#ifndef MQFLEET_MEMBERSHIP_REAPER_H
#define MQFLEET_MEMBERSHIP_REAPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "store/store.h"

struct reaper;

struct reaper_rules {
    int64_t reclaim_grace_ms;
    int64_t mass_death_wait_ms;
    int64_t
        check_gap_ms_max; /* a beat may come and go unseen between looks that are further apart */
};

struct reaper *reaper_create(const struct reaper_rules *rules);
void reaper_destroy(struct reaper *reaper);

/* One look. missing[n]: who is registered and does not beat; all: how many are registered.
 * redis_back_ms: when Redis last came back, 0 never; own_fresh: this node's own beat is.
 * verdicts[n]: set true for a node to be fenced now: its beat was missing at a look at least
 * reclaim_grace_ms ago and at every look since, none of them more than look_gap_ms_max after the
 * one before. Never for nodes already dead. braked (may be NULL): verdicts are held back because
 * too many went missing at once. */
struct reaper_snapshot {
    const struct store_missing *missing;
    size_t missing_count, registered_count;
    int64_t now_ms, redis_recovered_ms;
    bool own_is_fresh;
};
void reaper_check(struct reaper *reaper, const struct reaper_snapshot *look, bool *verdicts,
                  bool *braked);
/* When a beat of that node was first seen missing (now_ms of that look); 0: none is. */
int64_t reaper_missing_since_ms(const struct reaper *reaper, const char *node);
/* A look failed: what was seen before proves nothing any more. */
void reaper_reset(struct reaper *reaper);

#endif
