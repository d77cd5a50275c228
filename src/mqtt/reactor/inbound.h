/* Received messages of QoS 1 and 2 from their arrival to the end of their exchange, found by
 * session and packet identifier. Each is the receipt that goes with its message to the sink. One
 * thread, but for `result` and `answered_next`, which belong to who acknowledges until it is taken
 * back. */
#ifndef MQFLEET_REACTOR_INBOUND_H
#define MQFLEET_REACTOR_INBOUND_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct engine_session;

enum inbound_state {
    INBOUND_OFFERED,  /* with a sink */
    INBOUND_ACCEPTED, /* a sink has it; PUBACK or PUBREC waits for its turn */
    INBOUND_RECEIVED, /* QoS 2: PUBREC sent, PUBREL to come */
};

struct inbound {
    struct engine_session *session; /* NULL: nobody waits for it any more */
    struct inbound *prev, *next;    /* of a list of the session */
    struct inbound *bucket_next;
    struct inbound *answered_next;
    uint32_t connection_number; /* the connection on which it arrived last */
    uint16_t packet_id;
    uint8_t qos;
    uint8_t state;
    uint8_t reason_code; /* of its acknowledgement under MQTT 5 */
    enum err result;     /* of the sink */
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
