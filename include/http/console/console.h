/* GET /console: a page for people, which uses the public API. It is served without a token: it
 * contains nothing of the fleet. The MHD threads: must not block. */
#ifndef MQFLEET_CONSOLE_CONSOLE_H
#define MQFLEET_CONSOLE_CONSOLE_H

#include "http/server/request.h"
#include "http/server/response.h"

void console_page(struct http_request *request, struct http_response *response);
/* A file of the page; 404 for other names. */
void console_file(struct http_request *request, struct http_response *response);

#endif
