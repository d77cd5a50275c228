/* Reads the waiting clients from Redis for a selection. Handler threads; blocks on Redis. */
#ifndef MQFLEET_SELECTION_WAITING_SCAN_H
#define MQFLEET_SELECTION_WAITING_SCAN_H

#include "http/api/selection/selection.h"
#include "store/store.h"

/* Whether a client without a node can match. */
bool waiting_scan_is_needed(const struct selection_query *query);
/* Adds all waiting clients, in pages. An error of the store: a part was added. */
enum err waiting_scan_run(struct store *store, struct selection *selection) MUST_CHECK;

#endif
