/* What requests from node to node look like; peer_calls.h sends them. Any thread. */
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

/* Marks a request that one node sends on behalf of a caller; it is answered there and never sent
 * on, so that requests cannot circle. */
#define PEERS_FORWARDED_HEADER "X-Mqfleet-Forwarded"
/* Whom it acts for, and the id of the caller's request. */
#define PEERS_CALLER_HEADER  "X-Mqfleet-Caller"
#define PEERS_REQUEST_HEADER "X-Request-Id"
/* The incarnation of the node that is meant: anyone else at its address answers 421. */
#define PEERS_TARGET_HEADER "X-Mqfleet-Meant-For"
/* "Authorization: " and this scheme, and the fleet's secret. */
#define PEERS_SECRET_SCHEME "Mqfleet"

struct peers;

/* secret: borrowed; NULL: none is shown. Calls use HTTPS when this node's API does: all nodes of a
 * fleet do, or none. */
struct peers *peers_create(const struct conf *conf, struct fleet_secret *secret);
void peers_destroy(struct peers *peers);

struct peer_call {
    const char *host; /* of the node's register entry; borrowed */
    int64_t port;
    const char *method;
    const char *path; /* with query, already escaped */
    const char *body; /* JSON, NULL: none */
    size_t body_len;
    const char *incarnation; /* of that entry; NULL: whoever is there */
    const char *caller;      /* whom the call is for; NULL: this node itself */
    const char *request_id;  /* of the caller's request; NULL: none */
    bool limit_exempt;       /* the node answers when a broker does: takes no other call's turn */
    /* filled in: */
    enum err result; /* ERR_OK: an answer came */
    bool unsent;     /* nothing of it went out, so that nothing was done there */
    long status;
    struct buffer answer; /* caller: buffer_fini */
};

/* The url of a path of a node (free(); NULL: out of
 * memory), and the headers of a request from node to node. */
char *peers_url(const struct peers *peers, const char *host, int64_t port, const char *path);
#define PEER_HEADERS_MAX 6
struct peer_headers {
    const char *lines[PEER_HEADERS_MAX + 1]; /* NULL-terminated; point into what follows */
    char authorization[FLEET_SECRET_LEN_MAX + 64];
    char caller[128];
    char request_id[128];
    char target[TEXT_ID_LEN + 32];
};
/* Of the call only caller, request_id and incarnation count. Holds the fleet's secret: secret_wipe
 * when done. */
void peers_headers(const struct peers *peers, const struct peer_call *call,
                   struct peer_headers *out);

#endif
