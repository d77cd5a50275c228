/* Reads the waiting clients from Redis for a selection. Handler threads; blocks on Redis. */
#ifndef MQFLEET_SELECTION_WAITING_SCAN_H
#define MQFLEET_SELECTION_WAITING_SCAN_H

#include "http/api/selection/selection.h"
#include "http/server/request.h"

/* Whether a client without a node can match. */
bool waiting_scan_is_needed(const struct selection_query *query);
/* Adds all waiting clients, in pages. An error of the store, or ERR_CANCELED if nobody waits for
 * the answer any more: a part was added. */
enum err waiting_scan_run(const struct http_request *request,
                          struct selection *selection) MUST_CHECK;

#endif
