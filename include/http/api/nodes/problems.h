/* What is wrong with the fleet as a whole, each with its cause and advice: the one place that
 * computes it. What nodes say of themselves is in /api/v1/nodes:health. Pure; any thread. */
#ifndef MQFLEET_API_PROBLEMS_H
#define MQFLEET_API_PROBLEMS_H

#include <jansson.h>
#include "http/api/nodes/fleet_view.h"

/* A list of {"code","severity","node","cause","advice"}; severity: "problem" or "warning". */
json_t *problems_of(const struct fleet_view *view);

#endif
