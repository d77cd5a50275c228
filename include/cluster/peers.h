/* Calls to other nodes. Any thread; each call borrows one http_client of a bounded pool. */
#ifndef MQFLEET_CLUSTER_PEERS_H
#define MQFLEET_CLUSTER_PEERS_H

#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/conf.h"
#include "base/err.h"
#include "store/store.h"

/* Marks a request that one node sends on behalf of a caller; it is answered there and never sent
 * on, so that requests cannot circle. */
#define PEERS_FORWARDED_HEADER "X-Mqfleet-Forwarded"

struct peers;

struct peers *peers_create(const struct conf *conf, size_t clients);
void peers_destroy(struct peers *peers);

struct peer_call {
    const char *host; /* of the node's register entry; borrowed */
    int64_t port;
    const char *method;
    const char *path; /* with query, already escaped */
    const char *body; /* JSON, NULL: none */
    size_t body_len;
    /* filled in: */
    enum err result; /* ERR_OK: an answer came */
    long status;
    struct buffer answer; /* caller: buffer_fini */
};

/* All at once; returns when each has its result, within timeout_ms (0: conf.peer_timeout_ms). */
void peers_run(struct peers *peers, struct peer_call *calls, size_t n, int64_t timeout_ms);

/* For those who follow a long answer themselves: the url of a path of a node (free(); NULL: out of
 * memory), and the headers of a request from node to node. */
char *peers_url(const char *host, int64_t port, const char *path);
const char *const *peers_headers(const struct peers *peers);

#endif
