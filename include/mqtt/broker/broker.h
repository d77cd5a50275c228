/* A worker's record of each broker of its clients: which clients wait to connect, how many are
 * connecting, and which wait for the end of an incident. Worker thread only; the incident is shared
 * by all workers of the node. */
#ifndef MQFLEET_BROKER_BROKER_H
#define MQFLEET_BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>
#include "mqtt/broker/incident.h"

struct connect_limiter_ticket;

struct broker {
    char *key; /* "host:port" */
    unsigned references;
    struct incident *incident; /* of the node */
    /* Of the connect limiter. */
    struct connect_limiter_ticket *waiting;
    size_t in_flight;
    int64_t next_at_us; /* of the token bucket */
    bool in_ring;
    struct broker *prev, *next;
    struct connect_limiter_ticket *parked; /* until the incident ends */
    struct broker *parked_prev, *parked_next;
    UT_hash_handle hh;
};

struct brokers {
    struct incidents *incidents; /* borrowed */
    struct broker *table;
};

/* NULL: out of memory. */
struct broker *broker_acquire(struct brokers *brokers, const char *host, uint16_t port);
void broker_release(struct brokers *brokers, struct broker *broker); /* NULL is legal */

#endif
