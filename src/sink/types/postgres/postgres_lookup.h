/* Resolves the hosts of a sink. libpq would wait without a limit, and would not check whether an
 * address is allowed. */
#ifndef MQFLEET_SINK_POSTGRES_LOOKUP_H
#define MQFLEET_SINK_POSTGRES_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "sink/sink_type.h"

#define POSTGRES_ADDRESSES_MAX  32
#define POSTGRES_LOOKUP_ERR_LEN 160

struct postgres_address {
    size_t host; /* in the list */
    struct sockaddr_storage address;
};

struct postgres_lookup; /* with a thread of its own while it runs */

/* Resolves a list of hosts, "a,b"; NULL: out of memory, or no thread. */
struct postgres_lookup *postgres_lookup_start(const char *hosts);
/* Waits until the lookup ends. False: the deadline has passed, or the batch (NULL: none) is
 * over. */
bool postgres_lookup_await(struct postgres_lookup *lookup, int64_t deadline_ms,
                           const struct sink_batch *batch);
/* After its end: how many addresses, in the order of the hosts. 0: error says why. */
size_t postgres_lookup_addresses(const struct postgres_lookup *lookup,
                                 const struct postgres_address **out, const char **error);
/* Allowed while it runs: its thread then ends later. NULL is legal. */
void postgres_lookup_release(struct postgres_lookup *lookup);

#endif
