/* What is known of a client, in the form that clients are selected and counted by. Pure; any
 * thread.
 */
#ifndef MQFLEET_CLIENT_CLIENT_FACTS_H
#define MQFLEET_CLIENT_CLIENT_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include "mqtt/config/client_config.h"

/* X(symbol, name): the keys. "label." is followed by the name of a label. */
#define CLIENT_SELECTOR_TABLE(X)                                                                   \
    X(CLIENT_SELECTOR_STATE, "state")                                                              \
    X(CLIENT_SELECTOR_ERROR, "error")                                                              \
    X(CLIENT_SELECTOR_BROKER, "broker")                                                            \
    X(CLIENT_SELECTOR_NODE, "node")                                                                \
    X(CLIENT_SELECTOR_LABEL, "label.")                                                             \
    X(CLIENT_SELECTOR_ID_PREFIX, "id_prefix")                                                      \
    X(CLIENT_SELECTOR_PROFILE, "profile")                                                          \
    X(CLIENT_SELECTOR_SILENT, "silent")                                                            \
    X(CLIENT_SELECTOR_DEGRADED, "degraded")

enum client_selector_key {
#define CLIENT_SELECTOR_SYMBOL(symbol, name) symbol,
    CLIENT_SELECTOR_TABLE(CLIENT_SELECTOR_SYMBOL)
#undef CLIENT_SELECTOR_SYMBOL
        CLIENT_SELECTOR_KEY_COUNT
};

/* What a selector looks at. All strings are borrowed; NULL: the client has none. */
struct client_facts {
    const char *id;
    const char *state;  /* as shown: "online" ... */
    const char *error;  /* the code of what keeps it from working; NULL while it works */
    const char *broker; /* "host:port", the one that it uses now */
    const char *node;   /* its owner */
    const struct client_pair *labels;
    size_t label_count;
    const char *profile;
    bool silent, degraded;
};

#define CLIENT_BROKER_LEN (256 + 8) /* "host:port" */

/* Sets the facts that are in the configuration, borrowed from it and from `broker`; the broker, the
 * first one, only if it is not set. */
void client_facts_set_config(struct client_facts *facts, const struct client_config *config,
                             char broker[CLIENT_BROKER_LEN]);
/* The value of a key; label: the name, for CLIENT_SELECTOR_LABEL. NULL: the client has none. */
const char *client_facts_get(const struct client_facts *facts, enum client_selector_key key,
                             const char *label);

#endif
