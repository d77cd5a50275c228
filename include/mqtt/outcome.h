/* Which counter an error code of a connection belongs to. Pure; any thread. */
#ifndef MQFLEET_MQTT_OUTCOME_H
#define MQFLEET_MQTT_OUTCOME_H

#include "base/metrics.h"

/* code: of engine_closed, or of the host's own. */
enum metric outcome_of_connect(const char *code);
enum metric outcome_of_loss(const char *code);

#endif
