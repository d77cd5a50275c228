/* URLs and headers of requests from node to node; peer_calls.h sends them. Any thread. */
#ifndef MQFLEET_PEERS_PEERS_H
#define MQFLEET_PEERS_PEERS_H

#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/config/conf.h"
#include "base/err.h"
#include "base/text.h"
#include "cluster/membership/fleet_secret.h"
#include "store/store.h"

/* Marks a request that a node sends on behalf of a caller. The receiver never forwards it, so
 * requests cannot loop. */
#define PEERS_FORWARDED_HEADER "X-Mqfleet-Forwarded"
/* The name of the caller, and the id of the caller's request. */
#define PEERS_CALLER_HEADER  "X-Mqfleet-Caller"
#define PEERS_REQUEST_HEADER "X-Request-Id"
/* The scope of the caller's token (http/auth/scope.h). */
#define PEERS_SCOPE_HEADER "X-Mqfleet-Scope"
/* The incarnation of the target node. Any other node at its address answers 421. */
#define PEERS_TARGET_HEADER "X-Mqfleet-Meant-For"
/* Scheme of the Authorization header; the secret of the fleet follows. */
#define PEERS_SECRET_SCHEME "Mqfleet"

struct peers;

/* secret: borrowed; NULL: none is sent. Calls use HTTPS if the API of this node does: either all
 * nodes of a fleet use HTTPS, or none. */
struct peers *peers_create(const struct conf *conf, struct fleet_secret *secret);
void peers_destroy(struct peers *peers);

struct peer_call {
    const char *host; /* from the register entry of the node; borrowed */
    int64_t port;
    const char *method;
    const char *path; /* with query, percent-encoded */
    const char *body; /* JSON; NULL: none */
    size_t body_len;
    const char *incarnation; /* from the register entry; NULL: any node at this address */
    const char *caller;      /* on whose behalf; NULL: this node itself */
    const char *request_id;  /* of the caller's request; NULL: none */
    const char *scope;       /* of the caller; NULL or "": the whole fleet */
    bool limit_exempt;       /* the answer may take long; the call is not counted in the limits */
    /* Results: */
    enum err result; /* ERR_OK: there is an answer */
    bool unsent;     /* no byte was sent, so the other node did nothing */
    long status;
    struct buffer answer; /* caller: buffer_fini */
};

/* The URL of a path on a node. free(). NULL: out of memory. */
char *peers_url(const struct peers *peers, const char *host, int64_t port, const char *path);
#define PEER_HEADERS_MAX 7
struct peer_headers {
    const char *lines[PEER_HEADERS_MAX + 1]; /* NULL-terminated; point into the buffers below */
    char authorization[FLEET_SECRET_LEN_MAX + 64];
    char caller[128];
    char request_id[128];
    char target[TEXT_ID_LEN + 32];
    char scope[1024];
};
/* The headers of a call; uses only its caller, request_id and incarnation. They contain the secret
 * of the fleet: secret_wipe when done. */
void peers_headers(const struct peers *peers, const struct peer_call *call,
                   struct peer_headers *out);

#endif
