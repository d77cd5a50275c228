/* Access control: callers by token and role, other nodes by the secret of the fleet, web pages by a
 * list of origins. Any thread; never blocks.
 *
 * Without tokens, every caller is "anonymous" and has full access. The settings then require that
 * the node listens on loopback only, or that http.insecure is set. */
#ifndef MQFLEET_AUTH_ACCESS_H
#define MQFLEET_AUTH_ACCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "cluster/membership/fleet_secret.h"
#include "http/auth/tokens.h"

#define ACCESS_AUTHORIZATION_LEN 1024 /* longer headers are ignored */

struct caller {
    char name[TOKEN_NAME_LEN];
    enum role role;
    struct scope scope; /* of the token, also of one for which another node acts */
    bool is_node;       /* another node; `name` is the caller for which it acts, or "node" */
};

struct access_attempt {
    enum role needed;
    bool node_only;
    const char *authorization; /* as sent; NULL: not sent */
    const char *forwarded_for; /* the caller for which the sender acts; NULL: not sent */
    const char *scope;         /* of that caller; NULL: not sent. Only a node is believed */
    const struct sockaddr *address;
};

enum access_result {
    ACCESS_GRANTED,
    ACCESS_NO_TOKEN,    /* no token, or another authentication scheme */
    ACCESS_WRONG_TOKEN, /* counted for the address */
    ACCESS_TOO_MANY,    /* wrong token, and the address must wait */
    ACCESS_ROLE,        /* the role of the caller is not sufficient */
    ACCESS_NODE_ONLY,   /* only for other nodes */
    ACCESS_SCOPE        /* another node sent a scope that this node does not understand */
};

struct access;

/* ERR_ARGUMENT: `fault` (256 bytes) is one line about a setting or a file. */
enum err access_create(struct access **out, const struct conf *conf, char *fault) MUST_CHECK;
void access_destroy(struct access *access);
/* Reads the tokens again. ERR_ARGUMENT: the previous tokens stay in use. */
enum err access_reload(struct access *access, char *fault) MUST_CHECK;

/* True: callers need a token. */
bool access_requires_token(const struct access *access);
struct fleet_secret *access_fleet_secret(struct access *access); /* borrowed; never NULL */

/* Always fills in *caller. *wait_ms is set with ACCESS_TOO_MANY. */
enum access_result access_check(struct access *access, const struct access_attempt *attempt,
                                struct caller *caller, int64_t *wait_ms);

/* Whether the origin of a page ("https://host") is in http.cors_origins. */
bool access_origin_is_allowed(const struct access *access, const char *origin);
/* Protects a node without tokens against DNS rebinding: a page can make its own name resolve to the
 * address of the node. The Host must therefore be an address or a name without a dot. */
bool access_host_is_allowed(const struct access *access, const char *host);

#endif
