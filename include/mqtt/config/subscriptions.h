/* Comparisons and sizes of subscriptions. Pure; any thread. */
#ifndef MQFLEET_CONFIG_SUBSCRIPTIONS_H
#define MQFLEET_CONFIG_SUBSCRIPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "mqtt/config/client_config.h"

/* Whether changing `a` to `b`, for the same filter, needs no new SUBSCRIBE. */
bool subscription_same_options(const struct client_subscription *a,
                               const struct client_subscription *b);

/* How many of the first n filters fit into one SUBSCRIBE or UNSUBSCRIBE of at most max_bytes (0: no
 * limit) in this protocol version. A SUBSCRIBE has the subscription identifier of its first filter.
 */
size_t subscriptions_fit(const struct client_subscription *subscriptions, size_t n, int version,
                         size_t max_bytes);
size_t filters_fit(char *const *filters, size_t n, int version, size_t max_bytes);

struct subscriptions_removed {
    char **filters; /* borrowed from `from` or `to` (retired) */
    size_t count;
};

/* Finds the filters that must be unsubscribed so that a session has only the subscriptions of `to`:
 * filters of `from` or, if `from` is NULL because the session is unknown, the retired filters of
 * `to`. */
enum err subscriptions_removed_init(struct subscriptions_removed *out,
                                    const struct client_config *from,
                                    const struct client_config *to) MUST_CHECK;
void subscriptions_removed_fini(struct subscriptions_removed *removed);

#endif
