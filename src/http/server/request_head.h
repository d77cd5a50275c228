/* Private to the HTTP server: checks the head of a request as libmicrohttpd has parsed it. */
#ifndef MQFLEET_SERVER_REQUEST_HEAD_H
#define MQFLEET_SERVER_REQUEST_HEAD_H

#include <microhttpd.h>

/* Why the request must be refused with 400 and its connection closed, static text; NULL: it is
 * valid. target, version: as sent. Only during the first call of the access handler. */
const char *request_head_fault(struct MHD_Connection *connection, const char *target,
                               const char *version);

#endif
