/* Checks that the end and the target of a request are unambiguous (RFC 9112 sections 2.2, 3.2, 5
 * and 6). A proxy in front of this server could otherwise read the request differently (request
 * smuggling). Pure functions; any thread. */
#ifndef MQFLEET_SERVER_FRAMING_H
#define MQFLEET_SERVER_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

/* What is known about the fields of one request. Zero-initialised. */
struct http_framing {
    size_t hosts, lengths, codings;
    const char *fault; /* of the first invalid field; static; NULL: none */
};

void http_framing_field(struct http_framing *framing, const char *name, const char *value);
/* What is wrong with the request, static text; NULL: nothing. target, version: as sent. */
const char *http_framing_fault(const struct http_framing *framing, const char *target,
                               const char *version);

#endif
