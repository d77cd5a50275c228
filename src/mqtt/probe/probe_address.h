/* The report of a probe about each address of a name with several. Only probe.c includes this. */
#ifndef MQFLEET_PROBE_PROBE_ADDRESS_H
#define MQFLEET_PROBE_PROBE_ADDRESS_H

#include "mqtt/probe/probe.h"

/* step NULL: all steps passed with this address; otherwise the name of the failed step, with its
 * detail. */
void probe_address_note(struct probe_report *report, const union socket_address *address,
                        const char *step, const char *detail);
/* Checks, for a second and about time_ms_max at most, whether the addresses without a result accept
 * TCP connections. Adds failures to the detail of the step TCP. */
void probe_address_check(struct probe_report *report, const struct address_list *all,
                         int64_t time_ms_max);

#endif
