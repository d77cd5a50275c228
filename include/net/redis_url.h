/* The address of a Redis: redis://[user:pass@]host:port/db or unix:path. Pure; any thread. */
#ifndef MQFLEET_NET_REDIS_URL_H
#define MQFLEET_NET_REDIS_URL_H

#include "base/err.h"

#define REDIS_URL_FAULT_LEN 256

struct redis_url {
    char *path; /* of a Unix socket, else NULL */
    char *host; /* without the brackets of an IPv6 address; NULL with path */
    int port;
    int db;
    char *user;     /* NULL: none */
    char *password; /* NULL: none */
};

/* User and password are percent-decoded (RFC 3986 section 2.1). On an error `out` holds nothing and
 * fault[REDIS_URL_FAULT_LEN] (may be NULL) says what is wrong, without the secret.
 * ERR_UNSUPPORTED: rediss. Caller: redis_url_fini. */
enum err redis_url_parse(const char *text, struct redis_url *out, char *fault) MUST_CHECK;
void redis_url_fini(struct redis_url *url);

#endif
