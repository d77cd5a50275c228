/* The subscriptions of a probe. They are asked for as a client does, which finds filters that make
 * a broker end connections. Only probe.c includes this; runs on its thread. */
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
    unsigned losses; /* connections that ended because of filters */
};

/* Moves filters that would take messages from other clients ("$share/...") to the end of the list,
 * beyond its count, and returns how many they are. The broker is asked for no retained messages. */
size_t probe_filters_exclude_shared(struct client_config *config);
/* Adds them to the count again. */
void probe_filters_include_shared(struct client_config *config, size_t excluded);

/* config: without the filters that are not to be tried; borrowed. */
enum err probe_filters_init(struct probe_filters *filters, const struct client_config *config,
                            const struct conf *conf) MUST_CHECK;
void probe_filters_fini(struct probe_filters *filters);
void probe_filters_connected(struct probe_filters *filters);
/* False: there is nothing left to ask for. */
bool probe_filters_ask(struct probe_filters *filters, struct engine_connection *connection);
void probe_filters_answered(struct probe_filters *filters, const uint8_t *codes, size_t n);
/* The connection has ended with that error. True: another connection will give more information. */
bool probe_filters_lost(struct probe_filters *filters, enum client_error error);
/* The result, for people; CLIENT_ERROR_NONE: everything was granted. */
enum client_error probe_filters_describe(const struct probe_filters *filters, char *out,
                                         size_t size);

#endif
