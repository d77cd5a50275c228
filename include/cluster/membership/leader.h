/* The tasks of the leader of the fleet: it fences and reaps dead nodes, adopts orphans, and assigns
 * waiting clients. Correctness does not depend on a single leader: the Redis scripts reject every
 * wrong step. Only the leader and two standbys read the heartbeats of all nodes.
 *
 * Runs on the leader thread, which calls only Redis. */
#ifndef MQFLEET_MEMBERSHIP_LEADER_H
#define MQFLEET_MEMBERSHIP_LEADER_H

#include "base/config/conf.h"
#include "cluster/membership/node.h"
#include "store/store.h"

struct leader;
struct sinks;
struct operations; /* cluster/operations/operations.h */

/* All borrowed for the lifetime of the leader. redis_url: for the channel that announces waiting
 * clients. */
struct leader *leader_create(const struct conf *conf, struct node *node, struct store *store,
                             const char *redis_url);
void leader_destroy(struct leader *leader);
/* Whose routes say which sinks clients need. Borrowed. Before the leader thread runs. */
void leader_set_sinks(struct leader *leader, struct sinks *sinks);
/* What this node executes while it leads. Borrowed. Before the leader thread runs. */
void leader_set_operations(struct leader *leader, struct operations *operations);

/* The leader thread; argument: the leader. Returns after leader_stop; it resigns first. */
void *leader_run(void *argument);
void leader_stop(struct leader *leader); /* any thread */

#endif
