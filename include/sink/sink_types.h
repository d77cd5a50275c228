/* The types of sinks that a node knows: built in, or a module that is loaded when it is first asked
 * for. Modules lie in lib/mqfleet/sinks of the prefix of the program or, in a build tree, in sinks
 * beside it. */
#ifndef MQFLEET_SINK_SINK_TYPES_H
#define MQFLEET_SINK_SINK_TYPES_H

#include "sink/sink_type.h"

struct sink_module {
    const char *name;
    const char *packages;     /* of Debian, to build it with */
    const char *run_packages; /* of Debian, to run it with */
};

/* Both are made from the folders of src/sink/types, and end with NULL and with a row without a
 * name. A module that is not in the table is found too. */
extern const struct sink_type *const sink_types_built_in[];
extern const struct sink_module sink_types_modules[];

/* NULL: fault (SINK_FAULT_LEN) says why, and which package is missing. A loaded module stays. Any
 * thread. */
const struct sink_type *sink_types_find(const char *name, char *fault);

#endif
