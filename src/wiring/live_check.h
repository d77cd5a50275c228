/* Asks a running node whether it is alive. Main thread, in a process of its own. */
#ifndef MQFLEET_WIRING_LIVE_CHECK_H
#define MQFLEET_WIRING_LIVE_CHECK_H

#include <stddef.h>
#include "base/config/conf.h"

#define LIVE_CHECK_URL_LEN 128

/* Where a process on the same machine reaches /livez of a node with these settings. */
void live_check_url(const struct conf *conf, char out[LIVE_CHECK_URL_LEN]);
/* The exit code of --check-live: EXIT_SUCCESS if the node answers that it is alive. Otherwise
 * prints the reason. Returns within a few seconds. */
int live_check_run(const struct conf *conf);

#endif
