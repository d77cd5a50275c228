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
    const char *state;  /* as the API shows it, such as "online" */
    const char *error;  /* code of the current error; NULL: none */
    const char *broker; /* "host:port" of the current broker */
    const char *node;   /* the owner */
    const struct client_pair *labels;
    size_t label_count;
    const char *profile;
    bool silent, degraded;
};

#define CLIENT_BROKER_LEN (256 + 8) /* "host:port" */

/* Sets the facts that are in the configuration; they borrow from it and from `broker`. The broker
 * is the first one of the configuration, unless it is already set. */
void client_facts_set_config(struct client_facts *facts, const struct client_config *config,
                             char broker[CLIENT_BROKER_LEN]);
/* The value of a key; label: the name, for CLIENT_SELECTOR_LABEL. NULL: the client has none. */
const char *client_facts_get(const struct client_facts *facts, enum client_selector_key key,
                             const char *label);

#endif
