/* A request that waits for other nodes: sends all calls concurrently, and continues when all have
 * ended or the wait ends. A caller that hangs up does not end the wait. The limit of waiting
 * requests therefore also bounds the running calls and their bodies. */
#ifndef MQFLEET_API_PEER_WAIT_H
#define MQFLEET_API_PEER_WAIT_H

#include "cluster/peers/peer_calls.h"
#include "http/server/pending.h"

/* calls: with their results; ERR_CANCELED: no answer. An answer is freed afterwards unless the
 * function has taken it. context: as given. */
typedef void peer_wait_then(struct http_request *request, struct http_response *response,
                            struct peer_call *calls, size_t n, void *context);

struct peer_wait_plan {
    int64_t timeout_ms; /* per call; 0: conf.peer_timeout_ms */
    peer_wait_then *then;
    void *context; /* owned, even if no call is sent */
    void (*free_context)(void *context);
};

/* The timeout for answers that one hanging node must not delay: peer_timeout_ms, at most 2 s. */
int64_t peer_wait_short_ms(const struct conf *conf);

/* A call to the node on behalf of the request, without a body; borrows from both. */
struct peer_call peer_wait_call(const struct http_request *request, const struct store_node *node,
                                const char *method, const char *path);

/* On a handler thread. Copies the calls. */
void peer_wait_begin(struct http_request *request, struct http_response *response,
                     const struct peer_call *calls, size_t n, const struct peer_wait_plan *plan);

#endif
