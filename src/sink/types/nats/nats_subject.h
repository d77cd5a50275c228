/* Makes NATS subjects from arbitrary texts. Pure. */
#ifndef MQFLEET_NATS_NATS_SUBJECT_H
#define MQFLEET_NATS_NATS_SUBJECT_H

#include "base/buffer.h"

/* Makes the text a subject, in place: levels of a topic become tokens (a/b: a.b), and each
 * character that a token must not have (white space, control characters, "*", ">") becomes "_", as
 * does an empty token. May append. */
void nats_subject_clean(struct buffer *text);

#endif
