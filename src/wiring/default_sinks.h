/* The sinks that every node has: their settings come from sink.* of the node. */
#ifndef MQFLEET_WIRING_DEFAULT_SINKS_H
#define MQFLEET_WIRING_DEFAULT_SINKS_H

#include <jansson.h>
#include "base/config/conf.h"

#define DEAD_LETTERS_MAX 100000 /* the oldest are trimmed */

/* The settings of a sink of that type: new; NULL: out of memory. */
json_t *default_sink_settings(const struct conf *conf, const char *type);
/* The settings of the sink SINK_DEAD_LETTER, of type redis_stream in the Redis of the fleet. */
json_t *dead_letter_sink_settings(const struct conf *conf);
/* The setting from which a field of such a sink comes, "sink.redis_trim" of trim. "": none. */
const char *default_sink_setting(const char *field);

#endif
