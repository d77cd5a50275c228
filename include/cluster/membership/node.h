/* This node as a member of the fleet: its name, incarnation, heartbeat and lease. The heartbeat
 * thread sends heartbeats only. The agent joins, and handles a fence. */
#ifndef MQFLEET_MEMBERSHIP_NODE_H
#define MQFLEET_MEMBERSHIP_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "base/text.h"
#include "store/store.h"

enum node_membership {
    NODE_OUTSIDE, /* not joined yet, or left */
    NODE_MEMBER,
    NODE_FENCED, /* must close all clients and join with a new incarnation */
    NODE_LOST    /* Redis lost data: must register again and restore its clients */
};
const char *node_membership_name(enum node_membership membership);

struct node;

/* store: used by the heartbeat only, one connection; borrowed. */
struct node *node_create(const struct conf *conf, struct store *store);
/* make(context, lag_ms) returns the facts that the node reports when it joins and with each
 * heartbeat: JSON text, free(); NULL: none. lag_ms: age of the oldest change of its assignments
 * that is not applied. Called on the agent and heartbeat threads; must not block. Before the
 * heartbeat thread runs. */
void node_set_facts_source(struct node *node, char *(*make)(void *context, int64_t lag_ms),
                           void *context);
void node_destroy(struct node *node);

/* The heartbeat thread; argument: the node. Returns after node_stop. */
void *node_heartbeat_run(void *argument);
void node_stop(struct node *node);
/* Sends the next heartbeat without waiting for its period. Any thread. */
void node_heartbeat_now(struct node *node);

/* Registers, through the caller's `store`, with a new incarnation or, after NODE_LOST, with the
 * same one. ERR_EXISTS: a live node uses this name. Agent thread only. */
enum err node_join(struct node *node, struct store *store) MUST_CHECK;
/* Reports that a call of `store` before node_join failed. Agent thread only. */
void node_join_failed(struct node *node, enum err err, struct store *store);
/* From now on: no heartbeats and no lease. Agent thread only. */
void node_set_outside(struct node *node);
/* All running clients have been compared with Redis since this node registered again. Only then can
 * its lease be valid again. Agent thread only. */
void node_mark_reconciled(struct node *node);
/* How long nothing is assigned after Redis has lost data. At least three heartbeats, so that every
 * node learns of the loss, and at least one lease, because a node without a connection to Redis may
 * still have one. */
int64_t node_restoring_ms(const struct conf *conf);

/* Any thread, from here on. */
enum node_membership node_membership(struct node *node);
const char *node_name(const struct node *node);
/* Copies the present incarnation; "": the node has never joined. */
void node_incarnation(struct node *node, char out[TEXT_ID_LEN]);
/* Whether a connection may be opened, by the clock of this node. The lease lasts heartbeat_ttl_ms
 * plus half of reclaim_grace_ms from the time when the last answered heartbeat was sent. No node
 * fences another one earlier. */
bool node_lease_valid(struct node *node);
/* Whether Redis had all running clients of this node when it answered a heartbeat that was sent
 * after that time (clock_ms). Also true if the node is not a member or is fenced, because there is
 * nothing to wait for. */
bool node_reconciled_since(struct node *node, int64_t since_ms);
/* Copies the generation of the Redis that has all running clients of this node; "": none has, they
 * are still being restored. */
void node_generation(struct node *node, char out[TEXT_ID_LEN]);
/* Milliseconds since the last answered heartbeat was sent; -1: none was answered. */
int64_t node_heartbeat_age_ms(struct node *node);
/* When (clock_ms) Redis last answered a heartbeat after a failed one; 0: none has failed. */
int64_t node_redis_recovered_ms(struct node *node);
/* Why Redis does not answer: server and cause; "": it answers. */
void node_redis_error(struct node *node, char out[STORE_ERROR_LEN]);
bool node_is_draining(struct node *node);
/* The fleet has no other node. */
bool node_is_alone(struct node *node);
/* The number of registered nodes, including this one, from the last answered heartbeat; 0: no
 * heartbeat was answered. Does not lock. */
size_t node_fleet_size(const struct node *node);
/* Client counts of the whole fleet, from the last heartbeat. False: the counts are too old. */
bool node_fleet_counts(struct node *node, struct store_counts *out);
/* What the last heartbeat said of the fleet. */
struct node_fleet_view {
    int64_t nodes, owned;
    int64_t rev;                /* of this node's set */
    int64_t redis_us;           /* Redis' clock at that time */
    int64_t resources_revision; /* -1: no heartbeat was answered since the node joined */
    int64_t rebalance_rate;
    bool restoring;
};
void node_fleet_view(struct node *node, struct node_fleet_view *out);
/* How many clients wait although the leader has not said why: they are about to be assigned. */
int64_t node_unexplained_waiting(struct node *node);
/* Why clients wait, as counted by the leader: JSON; "": not known. */
void node_unplaced_json(struct node *node, char out[STORE_UNPLACED_LEN]);
/* The fleet lacks a leader or a standby. */
bool node_leader_wanted(struct node *node);

/* The assignments of this node are applied up to this rev (-1: not known). Agent thread. If the
 * watched thread "agent" stalls for stall_ms, the node sends no heartbeats, and its clients move to
 * other nodes. */
void node_set_applied_rev(struct node *node, int64_t rev);
/* The leader thread. others: other nodes with a heartbeat; -1: not known. */
void node_set_role(struct node *node, enum store_role role, int64_t others);
enum store_role node_role(struct node *node);
int64_t node_started_at_ms(const struct node *node); /* wall clock */
/* Readable after the membership, the rev or the drain state has changed, until node_clear_event. It
 * has one reader, the agent. */
int node_event_fd(struct node *node);
void node_clear_event(struct node *node);

#endif
