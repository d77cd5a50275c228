/* Requests that wait until clients are online or have failed (?wait_ms=). They are notified and do
 * not poll:
 *
 *   worker of this node --client_waits_notify--\
 *   another node --event bus ------------------> by id --> the last client of a request ends its
 * wait one check of each client -----------------/
 *
 * The check finds changes from before the wait. It is repeated when events of the whole fleet begin
 * to arrive, and after events were lost. */
#ifndef MQFLEET_CLIENTS_CLIENT_WAITS_H
#define MQFLEET_CLIENTS_CLIENT_WAITS_H

#include <stddef.h>
#include <stdint.h>
#include "http/server/request.h"
#include "http/server/response.h"

struct client_waits;

/* NULL: out of memory. api: borrowed; must be complete before the first request. */
struct client_waits *client_waits_create(const struct http_api *api);
void client_waits_destroy(struct client_waits *waits); /* after all requests; NULL is legal */

/* Continues the request. context: as given. */
typedef void client_waits_then(struct http_request *request, struct http_response *response,
                               void *context);

struct client_wait_plan {
    const char *const *ids; /* copied */
    size_t n;
    int64_t version; /* of the configuration, or a later one; 0: any */
    client_waits_then *then;
    void *context; /* owned, whatever the result */
    void (*free_context)(void *context);
};

/* Continues with `then` once each of the clients is online, has failed, is paused or gone, or when
 * the request's wait_ms have passed; at once if there are no clients. */
void client_waits_begin(struct http_request *request, struct http_response *response,
                        const struct client_wait_plan *plan);

/* Reports that a client is in this state, in the terms of the API, or "deleted". Any thread; does
 * not block. */
void client_waits_notify(struct client_waits *waits, const char *id, const char *shown,
                         int64_t version);

#endif
