/* The step before the handler of a route about one client, for a caller with a scope: a client
 * outside the scope does not exist for the caller. Handler threads. */
#ifndef MQFLEET_API_SCOPE_GATE_H
#define MQFLEET_API_SCOPE_GATE_H

#include <stdbool.h>
#include "http/server/request.h"
#include "http/server/response.h"
#include "store/store.h"

bool scope_gate_is_needed(const struct http_request *request);
/* Reads the client, and runs the handler or answers 404. Blocks on Redis. Also sets
 * request->scope_version. */
void scope_gate_run(struct http_request *request, struct http_response *response);

/* For handlers that read the client again. */
bool scope_gate_includes(const struct http_request *request, const struct store_client *row);
/* Whether the caller may learn the id. False also if Redis does not answer. Blocks on Redis. */
bool scope_gate_includes_id(const struct http_request *request, const char *id);

#endif
