/* The names of sinks. Pure; any thread. */
#ifndef MQFLEET_MESSAGE_SINK_NAME_H
#define MQFLEET_MESSAGE_SINK_NAME_H

#include <stdbool.h>

#define SINK_NAME_MAX    64
#define SINK_NAME_FORMAT "1 to 64 lowercase letters, digits, - and _, the first a letter or digit"

#define SINK_DEFAULT "default"
/* The sink that takes dead letters, unless settings name another. */
#define SINK_DEAD_LETTER "dead_letter"
/* Stands for a sink where routes rejected a message: a script failed. No sink has this name. */
#define SINK_ROUTES "(routes)"

bool sink_name_is_valid(const char *name);
/* Whether sink.* describes a sink of this name, on every node. */
bool sink_name_is_reserved(const char *name);

#endif
