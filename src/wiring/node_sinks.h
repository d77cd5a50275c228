/* The sinks of a node that its settings describe: the default (sink.*), those of the types that
 * clients may always name, and sinks.NAME. */
#ifndef MQFLEET_WIRING_NODE_SINKS_H
#define MQFLEET_WIRING_NODE_SINKS_H

#include <stdio.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "sink/sinks.h"

/* Writes one line for each fault in sinks.NAME and sink.*, and returns how many there are. Loads
 * the modules, and opens each sink without connecting it. */
int node_sinks_check(const struct conf *conf, FILE *out);
/* Adds all of them. ERR_ARGUMENT: fault (FAULT_LEN) names the setting. */
enum err node_sinks_add(struct sinks *sinks, const struct conf *conf, char *fault) MUST_CHECK;
/* As YAML, without secrets. */
void node_sinks_print(const struct conf *conf, FILE *out);

#endif
