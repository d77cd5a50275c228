/* Decides which node gets which waiting client, and why a client waits. Pure functions; any thread.
 */
#ifndef MQFLEET_PLACEMENT_PLACEMENT_H
#define MQFLEET_PLACEMENT_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cluster/membership/facts.h"
#include "mqtt/config/client_secrets.h"
#include "store/store.h"

/* X(symbol, code, text): why a client waits. The codes are part of the API. */
#define PLACEMENT_WAITS(X)                                                                         \
    X(PLACEMENT_SOON, "unplaced", "it is about to be assigned")                                    \
    X(PLACEMENT_NO_NODES, "no_nodes", "no node is live")                                           \
    X(PLACEMENT_NO_ROOM, "no_room", "every node that can run it is full")                          \
    X(PLACEMENT_NO_SINK, "no_node_has_sink",                                                       \
      "no live node has its sink, or all sinks of its routes")                                     \
    X(PLACEMENT_NO_KEY, "key_missing", "no live node has the keys of its encrypted secrets")       \
    X(PLACEMENT_NO_PROFILES, "profiles_unsupported",                                               \
      "it has a profile, and no live node knows profiles: the nodes are of an older version")      \
    X(PLACEMENT_NOT_BEFORE, "not_before", "it is in its cool-down after a failure")                \
    X(PLACEMENT_BAD_CONFIG, "bad_config", "its configuration is invalid")                          \
    X(PLACEMENT_IDENTITY, "identity_taken", "another client uses its broker and client id")        \
    X(PLACEMENT_RESTORING, "restoring", "Redis lost data; nodes first restore their clients")

enum placement_wait {
#define PLACEMENT_SYMBOL(symbol, code, text) symbol,
    PLACEMENT_WAITS(PLACEMENT_SYMBOL)
#undef PLACEMENT_SYMBOL
        PLACEMENT_WAIT_COUNT
};
const char *placement_wait_code(enum placement_wait wait);
const char *placement_wait_text(enum placement_wait wait);

/* A node that may get clients: it is live, has a heartbeat, and does not lag far behind. */
struct placement_node {
    const char *name, *incarnation; /* borrowed */
    int64_t clients, size;
    struct facts facts;
};

/* Copies the nodes that may get clients from all[n] to out, which has room for n. Returns their
 * number. */
size_t placement_eligible_nodes(const struct store_node *all, size_t n, struct placement_node *out);

struct placement_routes;

/* The things that a node must have to run a client. Clients with equal needs share one. */
struct placement_need {
    char *sink;   /* owned; NULL: the default sink */
    bool profile; /* it has a profile, which older nodes do not know */
    struct client_secret_keys keys;
    uint64_t route_sinks; /* that routes may require, by their table; see placement_routes.h */
    const struct placement_routes *routes; /* borrowed; NULL: route_sinks is 0 */
    char *own_sinks; /* owned: those of the routes of the client, a line each; NULL: none */
};
/* routes: outlives the need. */
enum err placement_need_of(struct client_config *config, const struct placement_routes *routes,
                           struct placement_need *out) MUST_CHECK;
void placement_need_fini(struct placement_need *need);
bool placement_need_equal(const struct placement_need *a, const struct placement_need *b);

/* Why no node gets a client with that need; PLACEMENT_SOON: a node can get it. */
enum placement_wait placement_wait_reason(const struct placement_node *nodes, size_t n,
                                          const struct placement_need *need);

/* Whether the node's sink for that need has failed for 10 s. */
bool placement_sink_is_failing(const struct placement_node *node,
                               const struct placement_need *need);

#define PLACEMENT_NOWHERE ((size_t)-1)

/* The least-loaded node that can run a client with that need; one whose sink fails only if there is
 * no other. excluded: of each node; NULL: none. */
size_t placement_choose(const struct placement_node *nodes, size_t node_count,
                        const struct placement_need *need, const bool *excluded);

struct placement_client {
    size_t need;           /* index */
    const char *denied_by; /* incarnations that may not connect to its broker; NULL: none */
    size_t avoid; /* index of a node on which it has just failed, used as the last choice; or
                     NOWHERE */
    size_t node;  /* result: index, or NOWHERE */
};

/* Assigns each client to the least-loaded node that can run it; ties are broken by name. No node
 * exceeds its size. A node whose sink has failed for 10 s is used only if no other node has room.
 * Adds the assigned clients to nodes[].clients. O((n + nodes) * needs). ERR_MEMORY. */
enum err placement_level(struct placement_node *nodes, size_t node_count,
                         const struct placement_need *needs, size_t need_count,
                         struct placement_client *clients, size_t n) MUST_CHECK;

#endif
