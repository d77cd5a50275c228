/* A request that waits for other nodes: sends them calls at once, and goes on when all have
 * answered or the wait ended otherwise. A caller that hangs up does not end it: no more calls, and
 * bytes of bodies, are under way than requests may be there. */
#ifndef MQFLEET_API_PEER_WAIT_H
#define MQFLEET_API_PEER_WAIT_H

#include "cluster/peers/peer_calls.h"
#include "http/server/pending.h"

/* calls: with their results; one without an answer has ERR_CANCELED, and what is not taken of an
 * answer is freed afterwards. context: as given. */
typedef void peer_wait_then(struct http_request *request, struct http_response *response,
                            struct peer_call *calls, size_t n, void *context);

struct peer_wait_plan {
    int64_t timeout_ms; /* of each call; 0: conf.peer_timeout_ms */
    peer_wait_then *then;
    void *context; /* owned, in any case */
    void (*free_context)(void *context);
};

/* From a handler on a worker, or from what goes on for one. Copies the calls. */
void peer_wait_begin(struct http_request *request, struct http_response *response,
                     const struct peer_call *calls, size_t n, const struct peer_wait_plan *plan);

#endif
