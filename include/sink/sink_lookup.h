/* Resolves the hosts of a sink, for types whose library would wait for the resolver without a
 * limit, or would not check whether an address is allowed. Sink thread. */
#ifndef MQFLEET_SINK_SINK_LOOKUP_H
#define MQFLEET_SINK_SINK_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/buffer.h"
#include "sink/sink_type.h"

#define SINK_ADDRESSES_MAX 32

struct sink_address {
    size_t host; /* in the list */
    struct sockaddr_storage address;
};

struct sink_lookup; /* with a thread of its own while it runs */

/* Waits for the addresses of a list of hosts, "a,b", until the deadline (clock_ms), or until the
 * batch (NULL: none) is over. fault has SINK_FAULT_LEN.
 * ERR_OK: *lookup has addresses; the caller releases it.
 * ERR_TIMEOUT: *lookup goes on, and the next call waits for it, so there is never more than one.
 * ERR_NOT_FOUND: a host has no address. ERR_MEMORY. */
enum err sink_lookup_resolve(struct sink_lookup **lookup, const char *hosts, int64_t deadline_ms,
                             const struct sink_batch *batch, char *fault) MUST_CHECK;
/* How many, in the order of the hosts. Owned by the lookup. */
size_t sink_lookup_addresses(const struct sink_lookup *lookup, const struct sink_address **out);
/* Whether the sink may connect to it. False: *why is a static text. Pure. */
bool sink_lookup_allows(const struct sink_environment *environment, const char *host,
                        const struct sink_address *address, const char **why);
/* Appends it as text, an IPv6 address without brackets. Pure. */
void sink_lookup_append_numeric(const struct sink_address *address, struct buffer *out);
/* Allowed while it runs: its thread then ends later. NULL is legal. */
void sink_lookup_release(struct sink_lookup *lookup);

#endif
