/* The facts that a node reports with each heartbeat. The leader uses it to assign only clients that
 * the node can run. It is a hint: the node decides when it starts a client. Any thread. */
#ifndef MQFLEET_MEMBERSHIP_FACTS_H
#define MQFLEET_MEMBERSHIP_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/secrets/secret_box.h"

#define FACTS_SINKS_MAX     80
#define FACTS_SINK_NAME_LEN 65

struct facts_sink {
    char name[FACTS_SINK_NAME_LEN];
    int64_t failing_ms; /* time since it last accepted a message; 0: it works */
};

struct facts {
    bool known;     /* false: an older version, which is assumed to be able to run every client */
    bool profiles;  /* it knows the profiles of clients */
    int64_t lag_ms; /* age of the oldest change of its assignments that is not applied */
    struct facts_sink sinks[FACTS_SINKS_MAX]; /* the default sink is the first */
    size_t sink_count;
    char keys[SECRET_KEYS_MAX][SECRET_KEY_ID_LEN];
    size_t key_count;
    int64_t incidents;        /* brokers that none of its clients reaches */
    int64_t incident_clients; /* of those that began within INCIDENT_FRESH_MS */
    char drain_wait[32]; /* why clients stay although it drains: a code of PLACEMENT_WAITS; "" */
};

/* JSON text; free(). NULL: out of memory. */
char *facts_text(const struct facts *facts);
/* text NULL or invalid: `known` is false. */
void facts_read(struct facts *facts, const char *text);

/* sink NULL: the default sink. Returns NULL if there is no sink of that name. */
const struct facts_sink *facts_sink(const struct facts *facts, const char *sink);
bool facts_has_key(const struct facts *facts, const char *key);

#endif
