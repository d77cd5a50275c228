/* Stores, for each broker whose name has several addresses, the address of the last successful
 * connect. Shared by all worker threads: the next client tries it first. Any thread; bounded, the
 * oldest entry is removed. */
#ifndef MQFLEET_BROKER_GOOD_ADDRESSES_H
#define MQFLEET_BROKER_GOOD_ADDRESSES_H

#include "mqtt/broker/address_list.h"

struct good_addresses;

struct good_addresses *good_addresses_create(void); /* NULL: out of memory */
void good_addresses_destroy(struct good_addresses *table);
/* broker: "host:port". If memory is short, nothing is stored. */
void good_addresses_note(struct good_addresses *table, const char *broker,
                         const union socket_address *address);
/* False: none is known. */
bool good_addresses_find(struct good_addresses *table, const char *broker,
                         union socket_address *out);

#endif
