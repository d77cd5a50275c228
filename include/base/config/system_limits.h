/* Compares the limits of the operating system with what the settings require. */
#ifndef MQFLEET_CONFIG_SYSTEM_LIMITS_H
#define MQFLEET_CONFIG_SYSTEM_LIMITS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/err.h"

/* Raises the limit of open files to the hard limit and returns it. */
int64_t system_limits_raise_files(void);

/* The number of files that a node needs in addition to its clients. */
int64_t system_limits_files_reserved(const struct conf *conf);
/* Lowers node_info.size so that all clients fit into files_max, and http.connections_max to a
 * quarter of files_max. Otherwise the fleet would assign clients to this node that it cannot open.
 * Returns true if a setting was lowered. */
bool system_limits_fit_files(struct conf *conf, int64_t files_max);

/* Local ports for connections to one address of a broker; 0: unknown. */
int64_t system_limits_port_count(void);

/* Applies all limits at the start and logs one line for each limit that is too low. ERR_FULL: there
 * is no room for even one client; fault is one line. Main thread. */
enum err system_limits_check(struct conf *conf, char fault[CONF_FAULT_LEN]) MUST_CHECK;

#endif
