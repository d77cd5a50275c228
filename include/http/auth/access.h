/* Who may do what: callers by token and role, other nodes by the fleet's secret, pages of other
 * sites by a list. Any thread; nothing here blocks.
 *
 * Without tokens every caller is "anonymous" and may do all: the settings see to it that such a
 * node listens on loopback only, or was told that it is insecure. */
#ifndef MQFLEET_AUTH_ACCESS_H
#define MQFLEET_AUTH_ACCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "cluster/membership/fleet_secret.h"
#include "http/auth/tokens.h"

#define ACCESS_AUTHORIZATION_LEN 1024 /* longer headers are no credentials of ours */

struct caller {
    char name[TOKEN_NAME_LEN];
    enum role role;
    bool is_node; /* another node of the fleet; then name is whom it acts for, or "node" */
};

struct access_attempt {
    enum role needed;
    bool node_only;
    const char *authorization; /* as sent; NULL: not */
    const char *forwarded_for; /* whom the sender says it acts for; NULL: does not say */
    const struct sockaddr *address;
};

enum access_result {
    ACCESS_GRANTED,
    ACCESS_NO_TOKEN,    /* none, or in a form that is not ours */
    ACCESS_WRONG_TOKEN, /* this one was counted against the address */
    ACCESS_TOO_MANY,    /* the same, and the address is to wait */
    ACCESS_ROLE,        /* known, but may not do this */
    ACCESS_NODE_ONLY    /* only other nodes may */
};

struct access;

/* ERR_ARGUMENT: `fault` (256 bytes) is one line about a setting or a file. */
enum err access_create(struct access **out, const struct conf *conf, char *fault) MUST_CHECK;
void access_destroy(struct access *access);
/* Reads the tokens again; on ERR_ARGUMENT those that were known stay. */
enum err access_reload(struct access *access, char *fault) MUST_CHECK;

/* True: callers need a token. */
bool access_requires_token(const struct access *access);
struct fleet_secret *access_fleet_secret(struct access *access); /* borrowed; never NULL */

/* *caller is filled in whatever the result. *wait_ms: of ACCESS_TOO_MANY. */
enum access_result access_check(struct access *access, const struct access_attempt *attempt,
                                struct caller *caller, int64_t *wait_ms);

/* Is the page's origin ("https://host") listed in http.cors_origins? */
bool access_origin_is_allowed(const struct access *access, const char *origin);
/* Without tokens only the address protects a node, and a page may have a name of its own lead to
 * it: the Host must be an address then, or a name without a dot, which no stranger can own. */
bool access_host_is_allowed(const struct access *access, const char *host);

#endif
