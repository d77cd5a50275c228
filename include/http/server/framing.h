/* Checks that the end and the target of a request are unambiguous (RFC 9112 sections 2.2, 3.2, 5
 * and 6). A proxy in front of this server could otherwise read the request differently (request
 * smuggling). Pure functions; any thread. */
#ifndef MQFLEET_SERVER_FRAMING_H
#define MQFLEET_SERVER_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

/* The fields of one request that determine its framing. Zero-initialised. */
struct http_framing {
    size_t hosts, lengths, codings;
    const char *fault; /* of the first invalid field; static; NULL: none */
};

void http_framing_field(struct http_framing *framing, const char *name, const char *value);
/* The fault of the request as static text; NULL: none. target, version: as sent. */
const char *http_framing_fault(const struct http_framing *framing, const char *target,
                               const char *version);

#endif
