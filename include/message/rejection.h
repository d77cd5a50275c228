/* Why a message is a dead letter: what a sink says of a message that it cannot store. Part of the
 * message; immutable. */
#ifndef MQFLEET_MESSAGE_REJECTION_H
#define MQFLEET_MESSAGE_REJECTION_H

#include <stdint.h>

#define REJECTION_SINK_LEN   65
#define REJECTION_REASON_LEN 160

struct rejection {
    char sink[REJECTION_SINK_LEN];     /* its name */
    char reason[REJECTION_REASON_LEN]; /* one line */
    int64_t rejected_at_ms;            /* wall clock */
};

#endif
