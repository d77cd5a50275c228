/* Topic names and filters by MQTT 5.0 section 4.7 and 4.8.2. Pure; any thread. */
#ifndef MQFLEET_CONFIG_TOPIC_H
#define MQFLEET_CONFIG_TOPIC_H

#include <stdbool.h>
#include <stddef.h>

/* NULL when right, else what is wrong (static text). */
const char *topic_name_fault(const char *topic, size_t len);
const char *topic_filter_fault(const char *filter, size_t len);
/* "$share/<group>/<filter>" */
bool topic_filter_is_shared(const char *filter);
/* So, or by a broker's own $queue/, $exclusive/ or $oshare/: who subscribes takes messages, or the
 * subscription, from somebody else. */
bool topic_filter_takes_from_others(const char *filter);

#endif
