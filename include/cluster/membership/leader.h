/* What one node does for all while it leads: fences and reaps dead nodes, adopts what nobody owns,
 * and assigns what waits. Leading is only an optimisation: every step is refused by the scripts
 * when it is wrong. The leader and two standbys look at the others' beats; the rest of the fleet
 * does not.
 *
 * A thread of its own: it talks to Redis alone. */
#ifndef MQFLEET_MEMBERSHIP_LEADER_H
#define MQFLEET_MEMBERSHIP_LEADER_H

#include "base/config/conf.h"
#include "cluster/membership/node.h"
#include "store/store.h"

struct leader;

/* All borrowed for its life. redis_url: for the channel that tells of waiting clients. */
struct leader *leader_create(const struct conf *conf, struct node *node, struct store *store,
                             const char *redis_url);
void leader_destroy(struct leader *leader);

/* The thread; argument: the leader. Returns after leader_stop, having given its role up. */
void *leader_run(void *argument);
void leader_stop(struct leader *leader); /* any thread */

#endif
