/* Gauges of the clients of this node by broker and by chosen labels: the settings metrics.by_broker
 * and metrics.by_label. At most metrics.groups_max values of each are shown, those with the most
 * clients that are not online first; all others are summed as "other". One thread at a time. */
#ifndef MQFLEET_OPS_CLIENT_GROUPS_H
#define MQFLEET_OPS_CLIENT_GROUPS_H

#include "base/buffer.h"
#include "base/config/conf.h"
#include "mqtt/workers/workers.h"

#define CLIENT_GROUPS_LABELS_MAX 8 /* of metrics.by_label */

struct client_groups;

/* NULL: out of memory. Nothing is chosen: no client is looked at. */
struct client_groups *client_groups_create(const struct conf *conf);
void client_groups_destroy(struct client_groups *groups); /* NULL is legal */
/* Whether clients must be added. */
bool client_groups_is_used(const struct client_groups *groups);
/* A workers_visitor; context: the groups. */
void client_groups_add(void *context, const struct workers_visited *client);
void client_groups_put(const struct client_groups *groups, struct buffer *out);

#endif
