/* Topic names and filters (MQTT 5.0 sections 4.7 and 4.8.2). Pure; any thread. */
#ifndef MQFLEET_MESSAGE_TOPIC_H
#define MQFLEET_MESSAGE_TOPIC_H

#include <stdbool.h>
#include <stddef.h>

/* NULL: valid. Otherwise the fault (static text). */
const char *topic_name_fault(const char *topic, size_t len);
const char *topic_filter_fault(const char *filter, size_t len);
/* "$share/<group>/<filter>" */
bool topic_filter_is_shared(const char *filter);
/* Whether it is shared, also by the broker-specific prefixes $queue/, $exclusive/ or $oshare/. Its
 * subscriber takes messages, or the subscription, from others. */
bool topic_filter_takes_from_others(const char *filter);
/* Whether a topic may match both filters. Prefixes such as $share/<group>/ of either are ignored.
 * May be true without need: for topics that begin with $. */
bool topic_filters_overlap(const char *a, const char *b);

#endif
