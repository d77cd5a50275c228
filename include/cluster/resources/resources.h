/* Keeps this node's sinks, routes, profiles and quotas as Redis describes those of the fleet. The
 * agent thread. */
#ifndef MQFLEET_RESOURCES_RESOURCES_H
#define MQFLEET_RESOURCES_RESOURCES_H

#include <stdbool.h>
#include "base/config/conf.h"
#include "base/secrets/secret_box.h"
#include "cluster/membership/node.h"
#include "sink/sinks.h"
#include "store/store.h"

struct resources;

/* All are borrowed. sinks NULL: nothing is ever read. NULL: out of memory. */
struct resources *resources_create(const struct conf *conf, struct node *node, struct store *store,
                                   struct secret_box *secrets, struct sinks *sinks);
void resources_destroy(struct resources *resources); /* NULL is legal */

/* Reads and applies them if the heartbeat says that they have changed. False: they have never been
 * read, so no client may start. */
bool resources_step(struct resources *resources);

#endif
