/* Keeps this node in the fleet: joins, reconciles what runs with what Redis says, and gives clients
 * back. One thread reads what is assigned, starts and stops. What it is told from outside comes
 * through a bounded queue or the calls below. */
#ifndef MQFLEET_MEMBERSHIP_AGENT_H
#define MQFLEET_MEMBERSHIP_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "base/secrets/secret_box.h"
#include "cluster/membership/fleet_settings.h"
#include "cluster/membership/node.h"
#include "mqtt/workers/workers.h"
#include "store/store.h"

struct agent;

/* All borrowed for the agent's life. store: its own (two connections). */
struct agent_wiring {
    const struct conf *conf;
    struct node *node;
    struct store *store;
    const char *redis_url; /* for the wake-up channel */
    struct workers *workers;
    struct secret_box *secrets; /* decrypts those of clients; NULL: has no keys */
};

struct agent *agent_create(const struct agent_wiring *wiring);
void agent_destroy(struct agent *agent);

/* The agent thread; argument: the agent. Returns after agent_stop, or by itself with agent_fault
 * set when the node cannot go on (its name is in use by a live node, or the fleet is another). */
void *agent_run(void *argument);
void agent_stop(struct agent *agent);
/* NULL, or why the agent gave up; static text. Any thread. */
const char *agent_fault(struct agent *agent);
/* Why not everything is well with the fleet's name; "" otherwise. Any thread. */
void agent_fleet_trouble(struct agent *agent, char out[FLEET_TROUBLE_LEN]);
bool agent_in_other_fleet(struct agent *agent);

/* Nothing more is assigned to this node, and if Redis has lost what it runs, that is put back.
 * Before agent_stop; waits for Redis at most as long as two calls may take and a quarter of
 * stop_timeout_ms. Main thread. */
void agent_announce_leave(struct agent *agent);
/* After its thread ended and the hosts closed everything: gives all clients back and leaves,
 * within timeout_ms. ERR_OK: nothing of this node is left in Redis. Main thread. */
enum err agent_leave(struct agent *agent, int64_t timeout_ms) MUST_CHECK;
/* Clients that agent_leave still has to give back; -1: not known yet. Any thread. */
int64_t agent_unreleased_count(struct agent *agent);

/* ---- any thread ------------------------------------------------------------------------------ */

/* What the fleet's Redis says of itself, as asked every ten seconds. False: it does not tell, or
 * not yet. Does not block. */
bool agent_redis_facts(struct agent *agent, struct redis_info *out);

/* workers_owner's wants_release and stable; context: the agent. Never block. */
void agent_on_release_wanted(void *context, const struct workers_release *release);
void agent_on_client_stable(void *context, const char *id);

struct agent_claim_result {
    size_t claimed_count;
    bool full, draining, fenced;
};
/* What a leader of an older version asks with POST /fleet/claim: these waiting clients for this
 * node. Blocks on Redis; not for a host's thread. */
enum err agent_claim(struct agent *agent, const struct store_assign_item *items, size_t n,
                     struct agent_claim_result *answer) MUST_CHECK;

/* Stops a client of this node and gives it to another one (an operator's release): asynchronous.
 * ERR_NOT_FOUND: does not run here; ERR_FULL. */
enum err agent_hand_over(struct agent *agent, const char *id) MUST_CHECK;

#endif
