/* What a client has done so far: its counters and last changes of state, which follow it from node
 * to node as one line of JSON:
 *
 *   {"counts":[times online, messages in, out, bytes in, out, messages dropped by reason...],
 *    "changes":[[time in ms, "from", "to", "reason", "node"],...]}
 *
 * Counts of a later version, behind the known ones, are ignored. A client that was created and has
 * done nothing yet has {"since":the version that it was created with}. */
#ifndef MQFLEET_CLIENT_CLIENT_HISTORY_H
#define MQFLEET_CLIENT_CLIENT_HISTORY_H

#include <stddef.h>
#include <stdint.h>
#include "message/router.h"
#include "mqtt/workers/workers.h"

enum client_history_count {
    HISTORY_TIMES_ONLINE,
    HISTORY_MESSAGES_IN,
    HISTORY_MESSAGES_OUT,
    HISTORY_BYTES_IN,
    HISTORY_BYTES_OUT,
    HISTORY_DROPPED, /* the first of MESSAGE_DROP_COUNT */
    HISTORY_COUNT = HISTORY_DROPPED + MESSAGE_DROP_COUNT
};

struct client_history {
    int64_t counts[HISTORY_COUNT];
    size_t n;
    struct client_change changes[CLIENT_CHANGES_MAX]; /* the oldest first */
};

/* NULL: it is no such text, or memory ran out. Entries that are not understood are left out. */
struct client_history *client_history_parse(const char *text);
/* A record with a smaller version is that of a deleted client with the same id. 0: not known. */
int64_t client_history_since(const char *text);
/* node: where the changes without a node happened. NULL: out of memory. */
char *client_history_format(const struct client_history *history, const char *node);

/* Names of nodes as small numbers, at most 254 of them; 0 is "", and all others are
 * "other". Any thread. */
uint8_t client_history_node_number(const char *name);
const char *client_history_node_name(uint8_t number); /* static */

#endif
