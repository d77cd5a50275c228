/* What the system allows this process, against what its settings promise. */
#ifndef MQFLEET_CONFIG_SYSTEM_LIMITS_H
#define MQFLEET_CONFIG_SYSTEM_LIMITS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/err.h"

/* The hard limit of open files, taken as far as it goes. */
int64_t system_limits_raise_files(void);

/* What node_info.size needs of files beside its clients. */
int64_t system_limits_files_reserved(const struct conf *conf);
/* Lowers node_info.size, and http.connections_max to a quarter of all, to what fits into
 * files_max: the fleet must not send clients here that could not be opened. True: was too few. */
bool system_limits_fit_files(struct conf *conf, int64_t files_max);

/* Local ports for connections to one address of a broker; 0: not known. */
int64_t system_limits_port_count(void);

/* All of it at the start: fits, and says with one line each what is too small. ERR_FULL: not even
 * one client fits; fault is one line. Main thread. */
enum err system_limits_check(struct conf *conf, char fault[CONF_FAULT_LEN]) MUST_CHECK;

#endif
