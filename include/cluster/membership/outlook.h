/* Why clients wait, as any node can tell: from what the nodes told with their beats, read at most
 * once a second. Any thread. */
#ifndef MQFLEET_MEMBERSHIP_OUTLOOK_H
#define MQFLEET_MEMBERSHIP_OUTLOOK_H

#include "cluster/placement/placement.h"
#include "mqtt/config/client_config.h"
#include "store/store.h"

struct outlook;

/* store: borrowed. NULL: out of memory. */
struct outlook *outlook_create(struct store *store, int64_t heartbeat_ttl_ms);
void outlook_destroy(struct outlook *outlook);

/* Of a waiting row; config NULL: it cannot be read. Blocks on Redis once a second; while it does
 * not answer PLACEMENT_SOON. */
enum placement_wait outlook_wait_reason(struct outlook *outlook, const struct store_client *row,
                                        struct client_config *config);

#endif
