/* Private to the HTTP server: checks the origin, the token and the role of a request, and writes
 * the audit log. MHD threads, unless a comment says otherwise. */
#ifndef MQFLEET_AUTH_AUTH_FILTER_H
#define MQFLEET_AUTH_AUTH_FILTER_H

#include "http/server/server_internal.h"

/* After the route was searched. If the request is refused or answered here, the response has a
 * status afterwards. Sets request->caller and request->forwarded. */
void auth_filter_check(const struct http_server *server, struct MHD_Connection *connection,
                       struct http_request *request, struct http_response *response);
/* The headers for a page whose origin is listed. */
void auth_filter_add_cors_headers(const struct http_server *server,
                                  struct MHD_Connection *connection, struct MHD_Response *answer);
/* Logs a change, or an attempt, when its outcome is known. Any thread. */
void auth_filter_audit(const struct http_request *request, int status);

#endif
