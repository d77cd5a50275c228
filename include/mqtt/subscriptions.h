/* What has to be said to a broker so that a session holds exactly the wanted subscriptions. Pure.
 */
#ifndef MQFLEET_MQTT_SUBSCRIPTIONS_H
#define MQFLEET_MQTT_SUBSCRIPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "mqtt/client_config.h"

/* Whether a broker needs not be told of `b` when it has `a` for the same filter. */
bool subscription_same_options(const struct client_subscription *a,
                               const struct client_subscription *b);

struct subscriptions_diff {
    const struct client_subscription **subscribe; /* borrowed from `to` */
    size_t subscribe_count;
    char **unsubscribe; /* filters borrowed from `from` or `to` (retired) */
    size_t unsubscribe_count;
};

/* from NULL: a connection of which nothing is known: subscribe to all of `to`, unsubscribe its
 * retired filters when session_present. Else the difference (changed options subscribe again). */
enum err subscriptions_diff(struct subscriptions_diff *out, const struct client_config *from,
                            const struct client_config *to, int session_present) MUST_CHECK;
void subscriptions_diff_fini(struct subscriptions_diff *diff);

#endif
