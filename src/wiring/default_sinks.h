/* The sinks that the settings of the node describe: sink.*. */
#ifndef MQFLEET_WIRING_DEFAULT_SINKS_H
#define MQFLEET_WIRING_DEFAULT_SINKS_H

#include <jansson.h>
#include "base/config/conf.h"

/* The settings of a sink of that type: new; NULL: out of memory. */
json_t *default_sink_settings(const struct conf *conf, const char *type);
/* The setting from which a field of such a sink comes, "sink.redis_trim" of trim. "": none. */
const char *default_sink_setting(const char *field);

#endif
