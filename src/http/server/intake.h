/* What comes in of a request: its head, which decides whether it is handled, and its body, which is
 * kept or dropped, and counted among all that are held. MHD threads. Only exchange.c includes this.
 */
#ifndef MQFLEET_SERVER_INTAKE_H
#define MQFLEET_SERVER_INTAKE_H

#include <stdbool.h>
#include "transaction_internal.h"

enum intake {
    INTAKE_READ_ON, /* the body; once there is no more of it, what was refused has a status */
    INTAKE_REFUSED, /* to be answered without it */
    INTAKE_CLOSE    /* the connection is to end without an answer */
};

/* Everything but the body is here. A refusal is sent after the body was read and dropped, unless
 * the caller waits for leave to send it, or it is out of all measure. */
enum intake intake_head(struct transaction *transaction, const char *method, const char *version);
/* A part of it. False: the connection is to end. */
bool intake_body(struct transaction *transaction, const char *data, size_t len);

/* No part of it is looked at any more. Any thread. */
void intake_drop_body(struct transaction *transaction);
/* Until then others may bring so much less. Any thread. */
void intake_uncount_body(struct transaction *transaction);

#endif
