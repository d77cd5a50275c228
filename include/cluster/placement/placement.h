/* Which node gets which waiting client, and why one waits: plain data in, plain data out, no Redis.
 */
#ifndef MQFLEET_PLACEMENT_PLACEMENT_H
#define MQFLEET_PLACEMENT_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cluster/membership/facts.h"
#include "mqtt/config/client_secrets.h"
#include "store/store.h"

/* X(symbol, code, text): why a client waits. The codes are the API's. */
#define PLACEMENT_WAITS(X)                                                                         \
    X(PLACEMENT_SOON, "unplaced", "it is about to be given to a node")                             \
    X(PLACEMENT_NO_NODES, "no_nodes", "no node takes clients: none is live")                       \
    X(PLACEMENT_NO_ROOM, "no_room", "every node that could run it is at its size")                 \
    X(PLACEMENT_NO_SINK, "no_node_has_sink", "no live node has the sink that it names")            \
    X(PLACEMENT_NO_KEY, "key_missing", "no live node has the keys of its encrypted secrets")       \
    X(PLACEMENT_NOT_BEFORE, "not_before", "it rests after a failed try")                           \
    X(PLACEMENT_BAD_CONFIG, "bad_config", "its configuration cannot be read")                      \
    X(PLACEMENT_IDENTITY, "identity_taken", "another client has its broker and client identifier") \
    X(PLACEMENT_RESTORING, "restoring", "Redis lost data; nodes put back what they run first")

enum placement_wait {
#define PLACEMENT_SYMBOL(symbol, code, text) symbol,
    PLACEMENT_WAITS(PLACEMENT_SYMBOL)
#undef PLACEMENT_SYMBOL
        PLACEMENT_WAIT_COUNT
};
const char *placement_wait_code(enum placement_wait wait);
const char *placement_wait_text(enum placement_wait wait);

/* A node that may get clients: it lives, beats and applies its changes in time. */
struct placement_node {
    const char *name, *incarnation; /* borrowed */
    int64_t clients, size;
    struct facts facts;
};

/* Those of all[n] that may get clients; out has room for n. How many. */
size_t placement_eligible_nodes(const struct store_node *all, size_t n, struct placement_node *out);

/* What a node must have. Clients with equal needs share one. */
struct placement_need {
    char *sink; /* owned; NULL: the default one */
    struct client_secret_keys keys;
};
enum err placement_need_of(struct client_config *config, struct placement_need *out) MUST_CHECK;
void placement_need_fini(struct placement_need *need);
bool placement_need_equal(const struct placement_need *a, const struct placement_need *b);

/* Why no node gets a client of that need; PLACEMENT_SOON: one does. */
enum placement_wait placement_wait_reason(const struct placement_node *nodes, size_t n,
                                          const struct placement_need *need);

#define PLACEMENT_NOWHERE ((size_t)-1)

struct placement_client {
    size_t need; /* index */
    const char
        *denied_by; /* incarnations that may not reach its broker, and do not get it; or NULL */
    size_t
        avoid;   /* index of a node that just failed it: taken when no other has room; or NOWHERE */
    size_t node; /* filled: index, or NOWHERE */
};

/* Pours clients like water onto the nodes that can run them, so that the counts end level; ties by
 * name; no node over its size. A node whose sink has been failing for 10 s gets one only when no
 * other has room. nodes[].clients is raised by what was placed. O((n + nodes) * needs). ERR_MEMORY.
 */
enum err placement_level(struct placement_node *nodes, size_t node_count,
                         const struct placement_need *needs, size_t need_count,
                         struct placement_client *clients, size_t n) MUST_CHECK;

#endif
