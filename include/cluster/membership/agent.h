/* Keeps this node in the fleet: joins, reconciles its clients with Redis, and releases clients. The
 * agent thread reads assignments, and starts and stops clients. Other threads reach it through a
 * bounded queue or the functions below. */
#ifndef MQFLEET_MEMBERSHIP_AGENT_H
#define MQFLEET_MEMBERSHIP_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "base/secrets/secret_box.h"
#include "cluster/membership/fleet_settings.h"
#include "cluster/membership/node.h"
#include "cluster/placement/placement.h"
#include "mqtt/workers/workers.h"
#include "store/store.h"

struct agent;

/* All borrowed for the lifetime of the agent. store: used by the agent only (two connections). */
struct agent_wiring {
    const struct conf *conf;
    struct node *node;
    struct store *store;
    const char *redis_url; /* for the wake-up channel */
    struct workers *workers;
    struct secret_box *secrets; /* decrypts the secrets of clients; NULL: this node has no keys */
    struct sinks *sinks;        /* that clients may name; NULL: none */
};

struct agent *agent_create(const struct agent_wiring *wiring);
void agent_destroy(struct agent *agent);

/* The agent thread; argument: the agent. Returns after agent_stop. Also returns, with agent_fault
 * set, if the node cannot continue: a live node uses its name, or Redis belongs to another fleet.
 */
void *agent_run(void *argument);
void agent_stop(struct agent *agent);
/* Why the agent gave up, static text; NULL: it did not. Any thread. */
const char *agent_fault(struct agent *agent);
/* The problem with the name of the fleet; "": none. Any thread. */
void agent_fleet_fault(struct agent *agent, char out[FLEET_FAULT_LEN]);
bool agent_in_other_fleet(struct agent *agent);

/* From now on, no client is assigned to this node. If Redis has lost clients that this node runs,
 * they are restored first. Before agent_stop. Blocks for at most two calls to Redis and a quarter
 * of stop_timeout_ms. Main thread. */
void agent_announce_leave(struct agent *agent);
/* Releases all clients and leaves the fleet, within timeout_ms. After the agent thread has ended
 * and the workers have closed all clients. ERR_OK: nothing of this node is left in Redis. Main
 * thread. */
enum err agent_leave(struct agent *agent, int64_t timeout_ms) MUST_CHECK;
/* The number of clients that agent_leave has not released yet; -1: not yet known. Any thread. */
int64_t agent_unreleased_count(struct agent *agent);

/* ---- any thread ------------------------------------------------------------------------------ */

/* Running clients that still have an older version of their profile. */
int64_t agent_profile_changes_pending(struct agent *agent);

/* Why clients stay although this node drains; PLACEMENT_SOON: they leave, or it does not drain. */
enum placement_wait agent_drain_wait(struct agent *agent);
/* The properties that the fleet's Redis reports; read every ten seconds. False: not known. Does not
 * block. */
bool agent_redis_facts(struct agent *agent, struct redis_info *out);

/* Callbacks of struct workers_owner; context: the agent. Never block. */
void agent_on_release_wanted(void *context, const struct workers_release *release);
void agent_on_client_stable(void *context, const char *id);

/* Why this node takes no more clients. */
enum agent_claim_refusal {
    AGENT_CLAIM_NONE,
    AGENT_CLAIM_FULL,
    AGENT_CLAIM_DRAINING,
    AGENT_CLAIM_FENCED
};

struct agent_claim_result {
    size_t claimed_count;
    enum agent_claim_refusal refusal;
};
/* Assigns waiting clients to this node at the request of a leader of an older version (POST
 * /fleet/claim). Blocks on Redis; not for worker threads. */
enum err agent_claim(struct agent *agent, const struct store_assign_item *items, size_t n,
                     struct agent_claim_result *answer) MUST_CHECK;

/* Hands a client of this node over to another node at the request of an operator: begins to stop
 * the client and returns. ERR_NOT_FOUND: it does not run here; ERR_FULL. */
enum err agent_hand_over(struct agent *agent, const char *id) MUST_CHECK;

#endif
