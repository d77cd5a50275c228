/* Received messages of QoS 1 and 2 from arrival to the end of their exchange, found by session and
 * packet identifier. Each contains the receipt that is passed to the sink with its message. One
 * thread, except the receipt, which belongs to the sink until it comes back. */
#ifndef MQFLEET_REACTOR_INBOUND_H
#define MQFLEET_REACTOR_INBOUND_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "message/receipt.h"

struct engine_session;

enum inbound_state {
    INBOUND_OFFERED,  /* with a sink */
    INBOUND_ACCEPTED, /* stored by a sink; PUBACK or PUBREC waits for its turn */
    INBOUND_RECEIVED, /* QoS 2: PUBREC sent, waits for PUBREL */
};

struct inbound {
    struct receipt receipt;         /* first member: the sink returns this pointer */
    struct engine_session *session; /* NULL: discarded when the sink answers */
    struct inbound *prev, *next;    /* of a list of the session */
    struct inbound *bucket_next;
    uint32_t connection_number; /* the connection on which it last arrived */
    uint16_t packet_id;
    uint8_t qos;
    uint8_t state;
    uint8_t reason_code; /* of its acknowledgement in MQTT 5 */
};

struct inbound_table {
    struct inbound **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
};

enum err inbound_table_init(struct inbound_table *table) MUST_CHECK;
void inbound_table_fini(struct inbound_table *table); /* must be empty */
struct inbound *inbound_table_find(const struct inbound_table *table,
                                   const struct engine_session *session, uint16_t packet_id);
void inbound_table_add(struct inbound_table *table, struct inbound *inbound);
void inbound_table_remove(struct inbound_table *table, struct inbound *inbound);

#endif
