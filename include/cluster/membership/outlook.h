/* Why clients wait, derived from the facts that all nodes report. Any node can answer. The nodes
 * are read at most once a second. Any thread. */
#ifndef MQFLEET_MEMBERSHIP_OUTLOOK_H
#define MQFLEET_MEMBERSHIP_OUTLOOK_H

#include "cluster/placement/placement.h"
#include "mqtt/config/client_config.h"
#include "store/store.h"

struct outlook;

/* store: borrowed. NULL: out of memory. */
struct outlook *outlook_create(struct store *store, int64_t heartbeat_ttl_ms);
void outlook_destroy(struct outlook *outlook);

/* row: a waiting client; config NULL: its configuration is invalid. May block on Redis, once a
 * second. While Redis does not answer: PLACEMENT_SOON. */
enum placement_wait outlook_wait_reason(struct outlook *outlook, const struct store_client *row,
                                        struct client_config *config);

#endif
