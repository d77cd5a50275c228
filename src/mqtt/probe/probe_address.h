/* What a probe tells of each address of a name that has several. Only probe.c includes this. */
#ifndef MQFLEET_PROBE_PROBE_ADDRESS_H
#define MQFLEET_PROBE_PROBE_ADDRESS_H

#include "mqtt/probe/probe.h"

/* step NULL: all went well there; else the name of the one that failed, with its detail. */
void probe_address_note(struct probe_report *report, const union socket_address *address,
                        const char *step, const char *detail);
/* Looks, for a second and about most_ms at most, whether those of which nothing is noted take TCP
 * connections; adds what failed to the detail of the step TCP. */
void probe_address_check(struct probe_report *report, const struct address_list *all,
                         int64_t most_ms);

#endif
