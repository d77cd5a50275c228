/* The sinks of the fleet as the API shows them. */
#ifndef MQFLEET_API_SINK_VIEW_H
#define MQFLEET_API_SINK_VIEW_H

#include "http/api/api.h"

/* What this node knows of its sinks: {"node": name, "sinks": [{"name", "state", ...}]}. New. */
json_t *sink_view_of_node(const struct http_api *api);
/* The document of a sink of the fleet: name, origin, version, and `config` without secrets. New. */
json_t *sink_view_document(const struct http_api *api, const struct store_resource *row);
/* A copy of the stored document with its secrets open. NULL: it is not one, or a secret cannot be
 * opened; fault (SINK_DOCUMENT_FAULT_LEN) says which. */
json_t *sink_view_open(const struct http_api *api, const struct store_resource *row, char *fault);

/* Whether there is a sink of that name for clients and routes: on this node, or of the fleet, which
 * this node may not have applied yet. */
bool sink_view_exists(const struct http_api *api, const char *name);

/* Answers with all sinks, or the one of that name (404 if no node has it), and with what each node
 * reports of it. Asks the other nodes. name: borrowed from the request, or NULL. */
void sink_view_answer(struct http_request *request, struct http_response *response,
                      const char *name);

#endif
