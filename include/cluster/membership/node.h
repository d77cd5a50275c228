/* This node as a member of the fleet: its name, incarnation, heartbeat and lease. The heartbeat
 * thread only beats; joining and everything that follows from being fenced is the agent's. */
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
    NODE_FENCED, /* told so by Redis: must drop everything and join anew */
    NODE_LOST    /* Redis lost data: must register again and restore */
};
const char *node_membership_name(enum node_membership membership);

struct node;

/* store: the heartbeat's own, one connection; borrowed. */
struct node *node_create(const struct conf *conf, struct store *store);
/* What is told to the others when it joins and with each beat: make(context, lag_ms) answers JSON,
 * free(), NULL: nothing; on the agent's and the heartbeat's thread, must not block. lag_ms: for how
 * long a change of this node's set has not been applied. Before the thread runs. */
void node_set_facts_source(struct node *node, char *(*make)(void *context, int64_t lag_ms),
                           void *context);
void node_destroy(struct node *node);

/* The heartbeat thread; argument: the node. Returns after node_stop. */
void *node_heartbeat_run(void *argument);
void node_stop(struct node *node);
/* Sends the next heartbeat without waiting for its period. Any thread. */
void node_beat_now(struct node *node);

/* Registers through `store` (the caller's) with a new incarnation, or, after NODE_LOST, with the
 * same one. ERR_EXISTS: a live node beats under this name. Agent thread only. */
enum err node_join(struct node *node, struct store *store) MUST_CHECK;
/* What comes before it failed, as a call of `store`. */
void node_join_failed(struct node *node, enum err err, struct store *store);
/* No beats and no lease from now on. The agent only. */
void node_set_outside(struct node *node);
/* Everything that runs was held against what Redis says since this node joined again: only then it
 * has a lease again. The agent only. */
void node_judged(struct node *node);
/* How long nothing is assigned once Redis went back: three beats, in which every node is told, and
 * no less than a lease, which a node that cannot reach Redis still has. */
int64_t node_restoring_ms(const struct conf *conf);

/* Any thread, from here on. */
enum node_membership node_membership(struct node *node);
const char *node_name(const struct node *node);
/* Copies the present incarnation; "" while never joined. */
void node_incarnation(struct node *node, char out[TEXT_ID_LEN]);
/* May a connection be opened, by this node's own clock? Holds for heartbeat_ttl_ms and half of
 * reclaim_grace_ms from the moment the last answered beat was sent: less than anybody waits before
 * fencing. */
bool node_lease_valid(struct node *node);
/* Has Redis, as a heartbeat sent since then (clock_ms) saw it, all that this node runs? Also true
 * when there is nothing to wait for: outside, fenced. */
bool node_judged_since(struct node *node, int64_t since_ms);
/* Of the Redis that has all that this node runs; "": none has, it is still being put back. */
void node_generation(struct node *node, char out[TEXT_ID_LEN]);
/* Milliseconds since the last answered beat was sent; -1: never. */
int64_t node_heartbeat_age_ms(struct node *node);
/* When (clock_ms) Redis last answered a beat after one that failed; 0: never failed. */
int64_t node_redis_recovered_ms(struct node *node);
/* Why Redis does not answer: server and cause; "" while it does. */
void node_redis_trouble(struct node *node, char out[STORE_ERROR_LEN]);
int64_t node_rev(struct node *node);
bool node_is_draining(struct node *node);
/* No other node is there to try a client. */
bool node_is_alone(struct node *node);
/* Clients of the whole fleet, as the last beat told. False: it is too old. */
bool node_fleet_counts(struct node *node, struct store_counts *out);
/* Why clients wait, as the leader counted: JSON, "": not known. */
void node_unplaced_json(struct node *node, char out[STORE_UNPLACED_LEN]);
/* A leader or a standby is lacking. */
bool node_leader_wanted(struct node *node);

/* This node's set is applied up to that rev (-1: not known). Agent thread. A watched thread named
 * "agent" that stands still for stall_ms stops the beats: its clients are better off elsewhere. */
void node_set_applied_rev(struct node *node, int64_t rev);
/* The leader's thread. others: nodes that beat beside this one; -1: not known. */
void node_set_role(struct node *node, enum store_role role, int64_t others);
enum store_role node_role(struct node *node);
int64_t node_started_at_ms(const struct node *node); /* wall clock */
/* Readable whenever something above changed since the last node_clear_event. For one reader: the
 * agent. */
int node_event_fd(struct node *node);
void node_clear_event(struct node *node);

#endif
