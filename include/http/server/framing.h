/* Judges whether a request says in one way only where it ends and whom it is for (RFC 9112 sections
 * 2.2, 3.2, 5 and 6): what two servers could read differently is refused, since one of them may be
 * a proxy in front of this one. Pure; any thread. */
#ifndef MQFLEET_SERVER_FRAMING_H
#define MQFLEET_SERVER_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

/* The fields of one request, noted one by one. Begins as zeros. */
struct http_framing {
    size_t hosts, lengths, codings;
    const char *fault; /* of the first field that has one; static */
};

void http_framing_field(struct http_framing *framing, const char *name, const char *value);
/* What is wrong with the request, static; NULL: nothing. target, version: as sent. */
const char *http_framing_fault(const struct http_framing *framing, const char *target,
                               const char *version);

#endif
