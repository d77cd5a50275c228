/* Why clients wait, derived from the facts that all nodes report. Any node can answer. The nodes
 * are read at most once a second. Any thread. */
#ifndef MQFLEET_PLACEMENT_WAIT_REASONS_H
#define MQFLEET_PLACEMENT_WAIT_REASONS_H

#include "cluster/placement/placement.h"
#include "mqtt/config/client_config.h"
#include "sink/sinks.h"
#include "store/store.h"

struct wait_reasons;

/* store, sinks (NULL: none): borrowed. NULL: out of memory. */
struct wait_reasons *wait_reasons_create(struct store *store, struct sinks *sinks,
                                         int64_t heartbeat_ttl_ms);
void wait_reasons_destroy(struct wait_reasons *wait_reasons);

/* row: a waiting client; config NULL: its configuration is invalid. May block on Redis, once a
 * second. While Redis does not answer: PLACEMENT_SOON. */
enum placement_wait wait_reasons_of(struct wait_reasons *wait_reasons,
                                    const struct store_client *row, struct client_config *config);

#endif
