/* Inside of the HTTP server: what libmicrohttpd made of a request's head. */
#ifndef MQFLEET_SERVER_REQUEST_HEAD_H
#define MQFLEET_SERVER_REQUEST_HEAD_H

#include <microhttpd.h>

/* Why the request must be refused with 400 and its connection closed, static; NULL: it is well
 * framed. target, version: as sent. In the first call of the access handler only. */
const char *request_head_fault(struct MHD_Connection *connection, const char *target,
                               const char *version);

#endif
