/* May this request be handled? Pages of other sites, tokens and roles, and the line in the log that
 * says who changed what. MHD threads. Only exchange.c and intake.c include this. */
#ifndef MQFLEET_AUTH_AUTH_FILTER_H
#define MQFLEET_AUTH_AUTH_FILTER_H

#include "http/server/server_internal.h"

/* With the route found, or the problem of finding none in the response. Refused, or answered here:
 * the response has a status. Sets the request's caller and whether it was forwarded. */
void auth_filter_check(const struct http_server *server, struct MHD_Connection *connection,
                       struct http_request *request, struct http_response *response);
/* The headers for a page whose origin is listed. */
void auth_filter_add_cors_headers(const struct http_server *server,
                                  struct MHD_Connection *connection, struct MHD_Response *answer);
/* Of a change, or an attempt at one, once its outcome is known; whether or not the caller still
 * hears of it. Any thread. */
void auth_filter_audit(const struct http_request *request, int status);

#endif
