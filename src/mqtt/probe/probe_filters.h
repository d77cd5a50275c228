/* The subscriptions of a probe: asked for as a client does, so that a broker which ends connections
 * at some of them is found out. Only probe.c includes this; runs on its thread. */
#ifndef MQFLEET_PROBE_PROBE_FILTERS_H
#define MQFLEET_PROBE_PROBE_FILTERS_H

#include "base/config/conf.h"
#include "mqtt/client_error.h"
#include "mqtt/client/subscribing.h"
#include "mqtt/reactor/reactor.h"

struct probe_filters {
    const struct client_config *config;
    struct subscribing plan;
    struct subscribing_rules rules;
    uint16_t asked[SUBSCRIBE_FILTERS_MAX];
    size_t in_flight;
    unsigned losses; /* connections that ended at filters */
};

/* config: without the filters that are not to be tried; borrowed. */
enum err probe_filters_init(struct probe_filters *filters, const struct client_config *config,
                            const struct conf *conf) MUST_CHECK;
void probe_filters_fini(struct probe_filters *filters);
void probe_filters_connected(struct probe_filters *filters);
/* False: nothing is left to be asked for. */
bool probe_filters_ask(struct probe_filters *filters, struct engine_connection *connection);
void probe_filters_answered(struct probe_filters *filters, const uint8_t *codes, size_t n);
/* The connection has ended, with that error. True: another one will tell more. */
bool probe_filters_lost(struct probe_filters *filters, enum client_error error);
/* What came of it, for people; CLIENT_ERROR_NONE: all is granted. */
enum client_error probe_filters_describe(const struct probe_filters *filters, char *out,
                                         size_t size);

#endif
